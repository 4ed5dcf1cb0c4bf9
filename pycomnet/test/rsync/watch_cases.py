"""Targets that are kept equal to a source: which runs follow which changes, and what ends them."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import threading
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock, skipUnless

from twisted.internet import defer
from twisted.internet.threads import deferToThread

import pycomnet
from pycomnet.errors import ConnectionLost
from pycomnet.rsync import filewatcher as watchers
from pycomnet.rsync import rsync
from pycomnet.rsync.changes import EVERYTHING, Changes
from pycomnet.rsync.watch import SourceWatch
from pycomnet.test.needs import REQUIRE_ALL
from pycomnet.test.rsync.case import MovedWatcher, RSyncCase
from pycomnet.test.rsync.kit import tree_of, write
from pycomnet.test.waiting import until


class WatchCase(RSyncCase):
    """A watch whose events the test waits for."""

    def setUp(self) -> None:
        super().setUp()
        self.events: list[pycomnet.SyncEvent] = []
        self.finished: list[pycomnet.TargetResult] = []

    def add(self, sync: pycomnet.RSync, gateway: pycomnet.Gateway, number: int = 0) -> None:
        sync.add_target(gateway, self.target(number), finished=self.finished.append)

    async def runs(self, number: int) -> None:
        """Wait until so many runs to targets have been finished in all."""
        await until(lambda: len(self.finished) >= number, f"{number} runs are finished")

    def told(self) -> list[tuple[str, str]]:
        """What was told since this was called last: kinds and paths."""
        told: list[tuple[str, str]] = [(event.kind, event.path) for event in self.events]
        self.events.clear()
        return told


class WatchTests(WatchCase):
    """The changes are told by the test."""

    def watch(self, sync: pycomnet.RSync) -> defer.Deferred[None]:
        made: list[MovedWatcher] = []

        def start(*args: Any) -> MovedWatcher:
            made.append(MovedWatcher(*args))
            return made[0]

        with mock.patch.object(rsync, "SourceWatch", partial(SourceWatch, start_watcher=start)):
            watching = sync.watch(self.events.append)
        (self.watcher,) = made
        self.watcher.changed(EVERYTHING)
        return watching

    async def end(self, watching: defer.Deferred[None]) -> None:
        watching.cancel()
        await self.failure(watching, defer.CancelledError)
        self.assertTrue(self.watcher.is_stopped)

    async def test_a_change_is_sent(self) -> None:
        """First all is sent; then what has changed, and only that part is compared."""
        self.fill()
        sync = pycomnet.RSync(self.source, delete=True)
        self.add(sync, await self.gateway())
        watching = self.watch(sync)
        await self.runs(1)
        self.assert_arrived()
        self.assertEqual(sync.results, self.finished)
        self.told()
        self.in_source("short/1/new", b"new")
        os.remove(f"{self.source}/short/1/1")
        self.watcher.changed(Changes(listed=frozenset([b"short/1"])))
        await self.runs(2)
        self.assert_arrived()
        self.assertEqual(
            self.told(),
            [
                ("changed", "short/1"),
                ("sent", "short/1/new"),
                ("deleted", "short/1/1"),
                ("finished", ""),
            ],
        )
        self.assertEqual(self.finished[1].entries, 1 + 1 + 30)
        await self.end(watching)

    async def test_target_in_the_source(self) -> None:
        """It would be sent into itself with each change; so it is refused, and nothing is made."""
        self.in_source("a")
        inner = f"{self.source}/inner"
        os.mkdir(inner)
        sync = pycomnet.RSync(self.source)
        sync.add_target(await self.gateway(), inner)
        watching = self.watch(sync)
        await self.failure(watching, pycomnet.SyncFailures)
        self.assertIsInstance(sync.results[0].error, pycomnet.SyncError)
        self.assertEqual(os.listdir(inner), [])

    async def test_excluded_target_in_the_source(self) -> None:
        """It is kept equal; and it has nothing of itself."""
        self.in_source("a")
        inner = f"{self.source}/inner"
        os.mkdir(inner)
        sync = pycomnet.RSync(self.source, exclude=["/inner/"], delete=True)
        sync.add_target(await self.gateway(), inner, finished=self.finished.append)
        watching = self.watch(sync)
        await self.runs(1)
        self.in_source("b")
        os.remove(f"{self.source}/a")
        self.watcher.changed(Changes(listed=frozenset([b""])))
        await self.runs(2)
        self.assertEqual([result.error for result in self.finished], [None, None])
        self.assertEqual(os.listdir(inner), ["b"])
        await self.end(watching)

    async def test_changes_of_a_run_are_sent_in_the_next(self) -> None:
        """A target that is slow gets them all at once then; the others do not wait for it."""
        self.in_source("a")
        held: defer.Deferred[None] = defer.Deferred()
        slow: list[pycomnet.TargetResult] = []

        def finished(result: pycomnet.TargetResult) -> defer.Deferred[None] | None:
            slow.append(result)
            return held if len(slow) == 1 else None

        sync = pycomnet.RSync(self.source)
        sync.add_target(await self.gateway(), self.target(0), finished=finished)
        self.add(sync, await self.gateway(), 1)
        watching = self.watch(sync)
        await self.runs(1)
        await until(lambda: len(slow) == 1, "the slow one has had its first run")
        for number in range(3):
            self.in_source(f"b{number}")
            self.watcher.changed(Changes(listed=frozenset([b""])))
            await self.runs(2 + number)
        self.assert_arrived(1)
        self.assertEqual(len(slow), 1)
        held.callback(None)
        await until(lambda: len(slow) == 2, "the slow one has had its second run")
        self.assert_arrived(0)
        self.assertEqual(slow[1].sent, ["b0", "b1", "b2"])
        await self.end(watching)

    async def test_what_failed_is_tried_again_with_the_next_change(self) -> None:
        """After a failure the next run compares everything."""
        self.in_source("a/x")
        self.in_source("b/y")
        write(f"{self.target()}/a/x/full")  # a directory in the file's place
        sync = pycomnet.RSync(self.source)
        self.add(sync, await self.gateway())
        watching = self.watch(sync)
        await self.runs(1)
        self.assertEqual([path for path, _ in self.finished[0].failed], ["a/x"])
        shutil.rmtree(f"{self.target()}/a/x")
        self.watcher.changed(Changes(listed=frozenset([b"b"])))
        await self.runs(2)
        self.assert_arrived()
        await self.end(watching)

    async def test_target_that_dies_fails_alone(self) -> None:
        """It is told at once, the others go on; when none is left, the watch fails."""
        self.in_source("a")
        sync = pycomnet.RSync(self.source)
        gateways = [await self.gateway() for _ in range(2)]
        for number, gateway in enumerate(gateways):
            self.add(sync, gateway, number)
        watching = self.watch(sync)
        await self.runs(2)
        self.told()
        os.kill(gateways[0].info["pid"], signal.SIGKILL)
        await self.runs(3)
        self.assertIsInstance(sync.results[0].error, pycomnet.PycomnetError)
        (event,) = self.events
        self.assertEqual((event.kind, event.target), ("finished", sync.results[0].target))
        self.assertIn("gone", event.reason)
        self.in_source("b")
        self.watcher.changed(Changes(listed=frozenset([b""])))
        await self.runs(4)
        self.assert_arrived(1)
        self.assertEqual(os.listdir(self.target(0)), ["a"])
        os.kill(gateways[1].info["pid"], signal.SIGKILL)
        problem = await self.failure(watching, pycomnet.SyncFailures)
        self.assertEqual([result.error is None for result in problem.result.targets], [False] * 2)
        self.assertEqual(len(self.finished), 5)
        self.assertTrue(self.watcher.is_stopped)

    async def test_gateway_that_is_ended(self) -> None:
        """So is one that was ended in the ordinary way."""
        sync = pycomnet.RSync(self.source)
        gateway = await self.gateway()
        self.add(sync, gateway)
        watching = self.watch(sync)
        await self.runs(1)
        await gateway.exit()
        await self.failure(watching, pycomnet.SyncFailures)
        self.assertIsInstance(sync.results[0].error, ConnectionLost)

    async def test_gateway_that_was_lost_before(self) -> None:
        """A target whose gateway is gone at the beginning fails alone; the other is served."""
        self.in_source("a")
        sync = pycomnet.RSync(self.source)
        gone, gateway = await self.gateway(), await self.gateway()
        self.add(sync, gone, 0)
        self.add(sync, gateway, 1)
        await gone.exit()
        watching = self.watch(sync)
        await self.runs(2)
        self.assertEqual([result.error is None for result in sync.results], [False, True])
        self.assert_arrived(1)
        await self.end(watching)
        sync = pycomnet.RSync(self.source)
        self.add(sync, gone)
        await self.failure(self.watch(sync), pycomnet.SyncFailures)

    async def test_source_that_vanishes(self) -> None:
        """A source that can't be read any more ends it, and deletes nothing."""
        self.in_source("a")
        sync = pycomnet.RSync(self.source, delete=True)
        self.add(sync, await self.gateway())
        watching = self.watch(sync)
        await self.runs(1)
        shutil.rmtree(self.source)
        self.watcher.changed(Changes(listed=frozenset([b""])))
        problem = await self.failure(watching, pycomnet.SyncError)
        self.assertIn("can't be read", str(problem))
        self.assertEqual(os.listdir(self.target()), ["a"])

    async def test_watcher_that_fails(self) -> None:
        """What the watcher can't do ends it."""
        sync = pycomnet.RSync(self.source)
        self.add(sync, await self.gateway())
        watching = self.watch(sync)
        await self.runs(1)
        self.watcher.failed(pycomnet.SyncError("no more watches"))
        await self.failure(watching, pycomnet.SyncError)

    async def test_function_that_raises_or_cancels(self) -> None:
        """A user's function that raises ends it, and so does one that cancels."""
        gateway = await self.gateway()

        def fail(_: object) -> None:
            raise ZeroDivisionError

        def cancel(_: object) -> None:
            watching.cancel()

        for function, error in ((fail, ZeroDivisionError), (cancel, defer.CancelledError)):
            sync = pycomnet.RSync(self.source)
            sync.add_target(gateway, self.target())
            self.events = mock.Mock(append=function)
            watching = self.watch(sync)
            await self.failure(watching, error)
            sync = pycomnet.RSync(self.source)
            sync.add_target(gateway, self.target(), finished=function)
            self.events = []
            watching = self.watch(sync)
            await self.failure(watching, error)

    async def test_mistakes(self) -> None:
        """There has to be a target, and something to do."""
        sync = pycomnet.RSync(self.source)
        await self.failure(sync.watch(), pycomnet.SyncError)
        sync = pycomnet.RSync(self.source, dry_run=True)
        sync.add_target(await self.gateway(), self.target())
        self.assertIn("dry run", str(await self.failure(sync.watch(), pycomnet.SyncError)))

    async def test_without_watchfiles(self) -> None:
        """Without the package, the error says what to install."""
        sync = pycomnet.RSync(self.source)
        sync.add_target(await self.gateway(), self.target())
        with mock.patch.dict(sys.modules, {"watchfiles": None}):
            problem = await self.failure(sync.watch(), pycomnet.SyncError)
        self.assertIn("pip install 'pycomnet[watch]'", str(problem))


@skipUnless(
    find_spec("watchfiles") is not None or REQUIRE_ALL in os.environ, "watchfiles is not installed"
)
class FileWatcherTests(WatchCase):
    """The changes are the file system's."""

    async def equal(self) -> None:
        """Wait until the target is as the source."""

        def is_equal() -> bool:
            try:
                return tree_of(self.target()) == tree_of(self.source)
            except FileNotFoundError:
                return False  # it is being changed

        await until(is_equal, "the target is equal")

    async def test_edits_arrive(self) -> None:
        """Whatever is done in the source is done at the target."""
        self.fill()
        sync = pycomnet.RSync(self.source, delete=True)
        self.add(sync, await self.gateway())
        watching = sync.watch(self.events.append)
        await self.runs(1)
        self.assert_arrived()
        self.in_source("new/deep/er/file", b"1")
        await self.equal()
        self.in_source("new/deep/er/file", b"2", None)
        await self.equal()
        os.rename(f"{self.source}/new/deep", f"{self.source}/moved")
        await self.equal()
        self.in_source("moved/er/file", b"3", None)
        os.chmod(f"{self.source}/moved/er", 0o700)
        os.symlink("file", f"{self.source}/moved/er/link")
        await self.equal()
        shutil.rmtree(f"{self.source}/short")
        await self.equal()
        self.assertTrue(all(result.ok for result in self.finished))
        # What is compared is a part.
        self.assertLess(self.finished[-1].entries, 20)
        watching.cancel()
        await self.failure(watching, defer.CancelledError)

    async def test_storm(self) -> None:
        """However many changes come while runs go on, at the end both are equal."""
        self.fill()
        sync = pycomnet.RSync(self.source, delete=True)
        self.add(sync, await self.gateway())
        watching = sync.watch()
        await self.runs(1)
        chance = random.Random(11)
        for _ in range(4):
            await deferToThread(self.storm, chance)
        await self.equal()
        watching.cancel()
        await self.failure(watching, defer.CancelledError)

    def storm(self, chance: random.Random) -> None:
        """Some thousand changes: more than the watcher tells of one by one."""
        for _ in range(1500):
            directory = Path(self.source, f"d{chance.randrange(8)}", f"e{chance.randrange(4)}")
            path = directory / f"f{chance.randrange(20)}"
            match chance.randrange(10):
                case 0:
                    shutil.rmtree(directory.parent, ignore_errors=True)
                case 1:
                    shutil.rmtree(directory, ignore_errors=True)
                case 2 if directory.exists():
                    other = directory.with_name(f"e{chance.randrange(4)}")
                    if not other.exists():
                        directory.rename(other)
                case 3:
                    path.unlink(missing_ok=True)
                case 4 if path.exists():
                    path.replace(path.with_name("moved"))
                case 5 if not path.exists() and directory.exists():
                    path.symlink_to("moved")
                case _:
                    directory.mkdir(parents=True, exist_ok=True)
                    if not path.is_symlink():
                        path.write_bytes(chance.randbytes(chance.choice([0, 10, 3000])))

    async def test_name_that_is_not_utf_8(self) -> None:
        """What the watcher has no name for is sent all the same, and so is what comes later."""
        sync = pycomnet.RSync(self.source)
        self.add(sync, await self.gateway())
        watching = sync.watch()
        await self.runs(1)
        write(os.fsencode(self.source) + b"/\xff\xfe", b"1")
        await self.equal()
        self.in_source("later", b"2")
        await self.equal()
        watching.cancel()
        await self.failure(watching, defer.CancelledError)

    async def test_source_that_is_replaced(self) -> None:
        """Where a link leads elsewhere, that is watched then; if nothing is there, it ends."""
        self.in_source("a")
        current, other = f"{self.base}/current", f"{self.base}/other"
        os.symlink(self.source, current)
        sync = pycomnet.RSync(current, delete=True)
        self.add(sync, await self.gateway())
        watching = sync.watch()
        await self.runs(1)
        write(f"{other}/b", b"")
        os.symlink(other, f"{current}.new")
        os.rename(f"{current}.new", current)
        self.source = other
        await self.equal()
        self.in_source("c")
        await self.equal()
        os.remove(current)
        problem = await self.failure(watching, pycomnet.SyncError)
        self.assertIn("No such file", str(problem))
        self.assertEqual(sorted(os.listdir(self.target())), ["b", "c"])

    async def test_thread_ends(self) -> None:
        """The thread that watches ends with the watch."""
        sync = pycomnet.RSync(self.source)
        self.add(sync, await self.gateway())
        watching = sync.watch()
        await self.runs(1)
        watching.cancel()
        await self.failure(watching, defer.CancelledError)
        await until(
            lambda: all(each.name != "pycomnet watch" for each in threading.enumerate()),
            "the thread has ended",
        )

    def test_path_that_is_not_utf_8(self) -> None:
        """A source that the watcher has no name for is refused, in words."""
        problem = self.assertRaises(
            pycomnet.SyncError, watchers.FileWatcher, b"/\xff", None, None, None, self.reactor
        )
        self.assertIn("not UTF-8", str(problem))
