"""The SQLite store: what every store does, its file, and what may be wrong with it."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from twisted.internet import defer
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import TestCase

from pycomnet.deferred import deferred
from pycomnet.errors import StoreFailed
from pycomnet.nameserver.records import Put
from pycomnet.nameserver.standing import Standing
from pycomnet.nameserver.stores import sqlite
from pycomnet.test.nameserver.conformance import StoreConformance
from pycomnet.test.nameserver.kit import Follower, record
from pycomnet.test.processes import posix_locks


class SQLiteCase(TestCase):
    """A test with a file."""

    timeout = 120

    def setUp(self) -> None:
        self.path = self.mktemp()

    def make_store(self, path: str | None = None) -> sqlite.SQLiteStore:
        from twisted.internet import reactor

        return sqlite.SQLiteStore(path or self.path, reactor)

    async def refused(self, store: sqlite.SQLiteStore) -> str:
        """Open it, which fails; what the error says."""
        problem = await self.assertFailure(store.open(Follower()), StoreFailed)
        self.assertIn(self.path, str(problem))
        return str(problem)


class SQLiteStoreTests(StoreConformance, SQLiteCase):
    """It passes."""


class FileTests(SQLiteCase):
    """The file, and what is not one."""

    @deferred
    async def test_other_files_are_left_alone(self) -> None:
        """An SQLite file of something else, or no SQLite file, is left as it is."""
        with closing(sqlite3.connect(self.path)) as other:
            other.execute("CREATE TABLE t (x)")
        os.chmod(self.path, 0o600)
        before = Path(self.path).read_bytes()
        self.assertIn("no nameserver's", await self.refused(self.make_store()))
        self.assertEqual(Path(self.path).read_bytes(), before)
        with open(self.path, "wb") as file:
            file.write(b"this is a text file\n" * 100)
        self.assertIn("no nameserver's", await self.refused(self.make_store()))

    @deferred
    async def test_file_of_before_there_was_a_standing(self) -> None:
        """A file without the column of standings is used, and has it from then on."""
        with closing(sqlite3.connect(self.path)) as file:
            for statement in sqlite.SCHEMA.split(";\n"):
                file.execute(
                    "\n".join(
                        line.replace("NULL,   --", "NULL --") if "time_left" in line else line
                        for line in statement.split("\n")
                        if "standing" not in line
                    )
                )
            file.execute(f"PRAGMA application_id = {sqlite.APPLICATION}")
            file.execute(f"PRAGMA user_version = {sqlite.VERSION}")
            file.execute("INSERT INTO state VALUES ('revision', 5)")
            row = ("a", "x", "tcp:h:1", b"", "", 9.0, 1, b"d", 4, 9.0)
            file.execute(f"INSERT INTO registrations VALUES ({', '.join('?' * 10)})", row)
            file.commit()
        os.chmod(self.path, 0o600)
        store, follower = self.make_store(), Follower()
        await store.open(follower)
        held = follower.records["a"][0]
        self.assertIsNone(held.standing)
        await store.commit(Put(held.with_standing(Standing(failing=True)), 4))
        await store.close()
        store, follower = self.make_store(), Follower()
        await store.open(follower)
        await store.close()
        self.assertEqual(follower.records["a"][0].standing, Standing(failing=True))

    @deferred
    async def test_other_version_is_refused(self) -> None:
        """Tables of another version are refused, with both versions."""
        store = self.make_store()
        await store.open(Follower())
        await store.close()
        with closing(sqlite3.connect(self.path)) as file:
            file.execute("PRAGMA user_version = 9")
        self.assertIn("version 9", await self.refused(self.make_store()))

    @deferred
    async def test_file_in_use_is_refused(self) -> None:
        """Two nameservers can't have one file."""
        self.patch(sqlite, "BUSY", 0.05)
        store = self.make_store()
        self.addCleanup(store.close)
        await store.open(Follower())
        self.assertIn("another nameserver has it open", await self.refused(self.make_store()))

    @deferred
    async def test_who_is_refused_takes_no_lock_from_who_has_it(self) -> None:
        """Closing any descriptor of a file would release the locks that SQLite has on it."""
        store = self.make_store()
        self.addCleanup(store.close)
        await store.open(Follower())

        before = posix_locks(self.path)
        self.assertTrue(before)
        await self.refused(self.make_store())
        self.assertEqual(posix_locks(self.path), before)

    @deferred
    async def test_missing_directory_is_refused(self) -> None:
        """A path in a directory that isn't there is refused."""
        self.path = os.path.join(self.path, "none", "names.sqlite")
        self.assertIn("No such file", await self.refused(self.make_store()))

    @deferred
    async def test_file_has_no_usable_secret(self) -> None:
        """The file has no secret in it that somebody could use."""
        store = self.make_store()
        await store.open(Follower())
        await store.commit(Put(record("a", secret="quite-a-long-secret")))
        await store.close()
        self.assertNotIn(b"quite-a-long-secret", Path(self.path).read_bytes())

    @deferred
    async def test_closed_while_opening(self) -> None:
        """Closing it while it is being opened ends both."""
        store = self.make_store()
        opening = store.open(Follower())
        opening.addErrback(lambda _: None)
        await store.close()
        await opening
        await store.close()
        again = self.make_store()
        await again.open(Follower())
        await again.close()


class CrashTests(SQLiteCase):
    """What is there after an end that was not clean."""

    @deferred
    async def test_copied_files_have_all_that_was_acknowledged(self) -> None:
        """A copy of the files, made while it is open, has all that was acknowledged; leases have
        their whole length, as nobody knows better."""
        store = self.make_store()
        self.addCleanup(store.close)
        follower = Follower()
        await store.open(follower)
        for number in range(5):
            await store.commit(Put(record(f"a{number}", ttl=30.0)))
        follower.left["a1"] = 2.0
        copy = self.mktemp()
        for suffix in ("", "-wal"):
            shutil.copyfile(self.path + suffix, copy + suffix)
        os.chmod(copy, 0o600)
        again, loaded = self.make_store(copy), Follower()
        self.addCleanup(again.close)
        await again.open(loaded)
        self.assertEqual(set(loaded.records), {f"a{number}" for number in range(5)})
        self.assertEqual({left for _, left in loaded.records.values()}, {30.0})
        self.assertEqual(loaded.revision, follower.revision)

    @deferred
    async def test_not_clean_again(self) -> None:
        """After a clean stop and a start, a crash is a crash: the times of before are void."""
        store, follower = self.make_store(), Follower()
        await store.open(follower)
        await store.commit(Put(record("a", ttl=30.0)))
        follower.left["a"] = 2.0
        await store.close()
        store = self.make_store()
        self.addCleanup(store.close)
        await store.open(Follower())
        copy = self.mktemp()
        for suffix in ("", "-wal"):
            shutil.copyfile(self.path + suffix, copy + suffix)
        os.chmod(copy, 0o600)
        again, loaded = self.make_store(copy), Follower()
        self.addCleanup(again.close)
        await again.open(loaded)
        self.assertEqual(loaded.records["a"][1], 30.0)


class DiskTests(SQLiteCase):
    """A disk that is full."""

    def limit(self, store: Any, pages: int) -> defer.Deferred[Any]:
        """Have the file be allowed no more pages than it has, and some."""

        def set_limit(transaction: Any) -> int:
            count = transaction.execute("PRAGMA page_count").fetchone()[0]
            row = transaction.execute(f"PRAGMA max_page_count = {count + pages}").fetchone()
            return int(row[0])

        limiting: defer.Deferred[Any] = store._pool.runInteraction(set_limit)
        return limiting

    @deferred
    async def test_full_disk_acknowledges_nothing_and_recovers(self) -> None:
        """Nothing that could not be written is acknowledged or told; what was there stays, and
        when there is room again it goes on."""
        store, follower = self.make_store(), Follower()
        await store.open(follower)
        await store.commit(Put(record("kept")))
        await self.limit(store, 0)
        big = {"filler": "x" * 3000}
        with capturedLogs() as logged:
            waiting = [store.commit(Put(record(f"b{n}", metadata=big))) for n in range(20)]
            late = store.commit(Put(record("b0")))  # on top of one that won't be there
            for one in [*waiting, late]:
                problem = await self.assertFailure(one, StoreFailed)
                self.assertIn("full", str(problem))
        self.assertEqual(set(follower.records), {"kept"})
        said = [event for event in logged if event["log_level"] is LogLevel.error]
        self.assertTrue(said)
        for event in said:  # a line, as often as there is no room, and no traceback
            self.assertIn("database or disk is full", formatEvent(event))
            self.assertEqual(formatEvent(event).count("names"), 1)  # the file, once
            self.assertNotIn("log_failure", event)
        await self.limit(store, 1000)
        fences = [await store.commit(Put(record(f"b{n}", metadata=big))) for n in range(20)]
        self.assertEqual(fences, sorted(fences))
        await store.close()
        again, loaded = self.make_store(), Follower()
        await again.open(loaded)
        await again.close()
        self.assertEqual(set(loaded.records), {"kept", *(f"b{n}" for n in range(20))})
