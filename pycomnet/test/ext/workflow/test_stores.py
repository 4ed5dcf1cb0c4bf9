"""The SQLite store of runs."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from typing import Any

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from pycomnet.deferred import deferred
from pycomnet.ext.workflow.errors import RunStoreBusy, RunStoreFailed
from pycomnet.ext.workflow.records import RunChange
from pycomnet.ext.workflow.stores import make_run_store, sqlite, tables
from pycomnet.test.ext.workflow.conformance import (
    Follower,
    KeptRunStoreConformance,
    RunStoreConformance,
    row,
)
from pycomnet.test.processes import posix_locks


def the_reactor() -> Any:
    """The reactor that trial runs."""
    from twisted.internet import reactor

    return reactor


class SQLiteRunStoreTests(KeptRunStoreConformance, TestCase):
    """Runs in a file."""

    pruning = tables

    def setUp(self) -> None:
        directory = self.mktemp()
        os.mkdir(directory, 0o700)
        self.path = os.path.join(directory, "runs.sqlite")

    def make_store(self) -> Any:
        return make_run_store(f"sqlite:{self.path}", the_reactor())

    @deferred
    async def test_file_is_one_services_alone(self) -> None:
        """A second service is refused, and says why; the first goes on."""
        store, _ = await self.opened()
        with self.assertRaisesRegex(RunStoreFailed, "another workflow service has it open"):
            await self.make_store().open(Follower())
        self.assertIsNotNone((await store.create(row()))[1])

    @deferred
    async def test_who_is_refused_takes_no_lock_from_who_has_it(self) -> None:
        """Closing any descriptor of a file would release the locks that SQLite has on it."""
        await self.opened()
        before = posix_locks(self.path)
        self.assertTrue(before)
        with self.assertRaises(RunStoreFailed):
            await self.make_store().open(Follower())
        self.assertEqual(posix_locks(self.path), before)

    @deferred
    async def test_other_files_are_not_touched(self) -> None:
        """A file of another program is refused, as it is."""
        with sqlite3.connect(self.path) as other:
            other.execute("CREATE TABLE mine (x)")
        other.close()
        os.chmod(self.path, 0o600)
        with self.assertRaisesRegex(RunStoreFailed, "no workflow service's"):
            await self.make_store().open(Follower())
        with sqlite3.connect(self.path) as other:
            self.assertEqual(
                other.execute("SELECT name FROM sqlite_master").fetchall(), [("mine",)]
            )
        other.close()

    @deferred
    async def test_file_of_another_version(self) -> None:
        """A file with the tables of an earlier or a later version is refused, as it is, and the
        error says what to do. With the version that it is of, its runs are there."""
        store, _ = await self.opened()
        await store.create(row())
        await store.close()
        for version, advice in (
            (tables.VERSION - 1, "begin with a new store"),
            (99, "use the newer"),
        ):
            self.set_version(version)
            before = self.content()
            said = f"has version {version} of the tables; this is for {tables.VERSION}.*{advice}"
            with self.assertRaisesRegex(RunStoreFailed, said):
                await self.make_store().open(Follower())
            self.assertEqual(self.content(), before)
        self.set_version(tables.VERSION)
        store, _ = await self.opened()
        self.assertIsNotNone(await store.row("a"))

    def set_version(self, version: int) -> None:
        """Have the file be of another version."""
        with contextlib.closing(sqlite3.connect(self.path)) as other:
            other.execute(f"PRAGMA user_version = {version}")

    def content(self) -> list[str]:
        """All that is in the file, as SQL."""
        with contextlib.closing(sqlite3.connect(self.path)) as other:
            return list(other.iterdump())

    @deferred
    async def test_file_that_is_locked_is_an_error_that_says_so(self) -> None:
        """A file that another program has locked is an error with words, not SQLite's."""
        self.patch(sqlite, "BUSY", 0.1)
        store = self.make_store()
        await store.open(Follower())
        await store.close()
        other = sqlite3.connect(self.path)
        self.addCleanup(other.close)
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with self.assertRaisesRegex(RunStoreFailed, "another process has it open"):
            await self.make_store().open(Follower())

    @deferred
    async def test_what_waits_for_a_disk_that_hangs_is_bounded(self) -> None:
        """While a transaction hangs, no more is kept in memory than the bound; what is refused
        says for how long it has taken. When it goes on, all that waited is done."""
        store, _ = await self.opened()
        _, claim = await store.create(row())
        hangs, goes_on = threading.Event(), threading.Event()
        self.addCleanup(goes_on.set)

        def hang(connection: Any) -> None:
            hangs.set()
            goes_on.wait(120)

        hanging = store._do(hang)
        await deferToThread(hangs.wait, 120)
        waiting = await self.check_refusals(store, claim, 1)
        with self.assertRaisesRegex(RunStoreBusy, r"the present transaction has taken \d+ s"):
            await store.counts()
        goes_on.set()
        await self.check_kept(store, [hanging, *waiting])

    @deferred
    async def test_full_file_fails_what_was_asked_for_and_later_works(self) -> None:
        """When the file can't grow, what is written fails and changes nothing; reads go on, and
        so does all when there is room again."""
        store, _ = await self.opened()
        _, claim = await store.create(row())
        await store._do(_set_most_pages, 1)
        long = RunChange(row(data=b"x" * 1_000_000), claim.fence)
        with self.assertRaisesRegex(RunStoreFailed, "full") as caught:
            await store.commit(long)
        self.assertIs(type(caught.exception), RunStoreFailed)
        self.assertEqual((await store.get("a"))[0], claim.row)
        await store._do(_set_most_pages, 1 << 30)
        await store.commit(long)
        self.assertEqual((await store.get("a"))[0], long.row)


def _set_most_pages(connection: Any, most: int) -> None:
    connection.execute(f"PRAGMA max_page_count = {most}")


class MemoryRunStoreTests(RunStoreConformance, TestCase):
    """Runs in memory."""

    def make_store(self) -> Any:
        return make_run_store("memory:", the_reactor())


class DescriptionTests(TestCase):
    """What ``store`` may say."""

    def test_unknown_store(self) -> None:
        """What is no store is an error that lists those that there are."""
        for wrong in ("", "mysql:x", "sqlite", "sqlite:", "memory:x"):
            with self.assertRaisesRegex(RunStoreFailed, "expected"):
                make_run_store(wrong, the_reactor())
