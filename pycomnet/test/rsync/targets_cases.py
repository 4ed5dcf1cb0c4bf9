"""Runs with real gateways: several targets, and what happens to them meanwhile."""

from __future__ import annotations

import errno
import os
import random
import signal
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from unittest import mock

from twisted.internet import defer
from twisted.trial.unittest import SkipTest

import pycomnet
from pycomnet.far.rsync import scan
from pycomnet.far.rsync.tree import LATEST
from pycomnet.rsync import longfile, modules, session, source, wanted
from pycomnet.rsync.longfile import LongFile
from pycomnet.rsync.options import make_options
from pycomnet.test.processes import stop
from pycomnet.test.rsync.case import NOON, RSyncCase
from pycomnet.test.rsync.kit import write
from pycomnet.test.waiting import until

T = TypeVar("T")


async def must(found: defer.Deferred[T | None]) -> T:
    """What fires with something, not None."""
    result = await found
    assert result is not None
    return result


class RunTests(RSyncCase):
    async def test_everything(self) -> None:
        """A tree arrives; then there is nothing to do; then only what has changed is sent."""
        self.fill()
        gateway = await self.gateway()
        first = await self.send(gateway)
        self.assert_arrived()
        self.assertEqual(len(first.sent), 303)
        self.assertEqual(len(first.made), 12)
        self.assertEqual(first.entries, 315)
        self.assertGreater(first.bytes_sent, first.literal)
        second = await self.send(gateway)
        self.assertEqual((second.sent, second.made, second.changed), ([], [], []))
        self.assertLess(second.bytes_sent, 20000)
        with open(f"{self.source}/long", "r+b") as file:
            file.seek(1500000)
            file.write(b"changed")
        self.in_source("short/1/new", b"new")
        os.remove(f"{self.source}/short/2/2")
        third = await self.send(gateway, delete=True)
        self.assert_arrived()
        self.assertEqual(sorted(third.sent), ["long", "short/1/new"])
        self.assertEqual(third.deleted, ["short/2/2"])
        self.assertLess(third.literal, 20000)
        self.assertGreater(third.matched, 2900000)

    async def test_targets(self) -> None:
        """Many targets get the same from one reading of the source."""
        self.fill()
        gateways = [await self.gateway() for _ in range(4)]
        sync = pycomnet.RSync(self.source)
        for number, gateway in enumerate(gateways):
            sync.add_target(gateway, self.target(number))
        reads = []
        read = LongFile._read_unit

        def counted(file: LongFile, offset: int, size: int) -> bytes:
            reads.append(offset)
            return read(file, offset, size)

        with mock.patch.object(LongFile, "_read_unit", counted):
            result = await sync.send()
        result.raise_for_failures()
        for number in range(4):
            self.assert_arrived(number)
        self.assertEqual(
            sorted(reads), [0, 0, longfile.UNIT, 2 * longfile.UNIT]
        )  # of two long files

    async def test_sparse_file(self) -> None:
        """A file with holes keeps them, when it is new and when it has changed."""
        path = self.in_source("sparse")
        with open(path, "r+b") as file:
            file.truncate(50000000)
            file.seek(20000000)
            file.write(b"data" * 50000)
        gateway = await self.gateway()
        first = await self.send(gateway)
        self.assertLess(first.bytes_sent, 500000)
        self.assert_arrived()
        blocks = os.stat(path).st_blocks
        self.assertLess(blocks * 512, 1000000)
        self.assertLess(os.stat(f"{self.target()}/sparse").st_blocks, blocks + 64)
        with open(path, "r+b") as file:
            file.seek(40000000)
            file.write(b"more")
        await self.send(gateway)
        self.assert_arrived()
        self.assertLess(os.stat(f"{self.target()}/sparse").st_blocks, blocks + 512)

    async def test_compressed(self) -> None:
        """What is compressed arrives as it was; what can't be made smaller is not."""
        self.in_source("text", b"the same line again\n" * 100000)
        self.in_source("short", b"the same line again\n" * 1000)
        self.in_source("random", os.urandom(500000))
        result = await self.send(await self.gateway(), compress=True)
        self.assert_arrived()
        self.assertLess(result.bytes_sent, 600000)
        self.assertGreater(result.literal, 2500000)

    async def test_events(self) -> None:
        """Each thing that happens is an event, and the last says that the target is finished."""
        self.in_source("a", b"content")
        os.mkfifo(f"{self.source}/fifo")
        gateway = await self.gateway()
        sync = pycomnet.RSync(self.source)
        sync.add_target(gateway, self.target())
        found = [(event.kind, event.path, event.reason) async for event in sync.events()]
        self.assertEqual(
            found,
            [("skipped", "fifo", "it is a FIFO"), ("sent", "a", ""), ("finished", "", "")],
        )

    async def test_takes(self) -> None:
        """A function may decide what takes part."""
        self.in_source("a/b")
        self.in_source("c")
        write(f"{self.target()}/c", b"mine")
        result = await self.send(await self.gateway(), takes=lambda path: path != "c", delete=True)
        self.assertEqual(result.sent, ["a/b"])
        self.assertEqual(result.deleted, [])

    async def test_relative_path_and_home(self) -> None:
        """A target's path is relative to the gateway's directory; ``~`` is its user's home."""
        self.in_source("a", b"content")
        gateway = await self.group.makegateway(f"popen//chdir={self.base}//env:HOME={self.base}")
        for path, there in (("one/two", "one/two"), ("~/three", "three")):
            sync = pycomnet.RSync(self.source)
            sync.add_target(gateway, path)
            (await sync.send()).raise_for_failures()
            self.assertEqual(os.listdir(os.path.join(self.base, there)), ["a"])


class TroubleTests(RSyncCase):
    async def test_no_target(self) -> None:
        """A run without a target fails at once, and so does one without a source."""
        sync = pycomnet.RSync(self.source)
        await self.failure(sync.send(), pycomnet.SyncError)
        sync = pycomnet.RSync(os.path.join(self.base, "nowhere"))
        sync.add_target(await self.gateway(), self.target())
        problem = await self.failure(sync.send(), pycomnet.SyncError)
        self.assertIn("nowhere", str(problem))

    async def test_source_that_breaks_off(self) -> None:
        """A function that decides and fails, fails the run for each target, also a later one."""
        for name in "abcd":
            self.in_source(name)

        def takes(path: str) -> bool:
            return path != "b" or bool(1 // 0)

        options = make_options(takes_path=takes)
        with mock.patch.multiple(scan, FIRST_BATCH=1, BATCH=1):
            tree = source.Source(self.source, options, self.reactor)
            batch, _ = await must(tree.batch(0))
            self.assertEqual(batch.names, [b"a"])
            for _ in range(2):
                await self.failure(tree.batch(1), ZeroDivisionError)
            self.assertIs((await must(tree.batch(0)))[0], batch)

    async def test_odd_times(self) -> None:
        """Times that no list can have: all arrives at each target."""
        for name, size in (("short", 1), ("long", 100000)):
            os.utime(self.in_source(name, b"x" * size), ns=(10**19, 10**19))
        os.utime(self.source, ns=(10**19, 10**19))
        if os.stat(self.source).st_mtime_ns != 10**19:
            raise SkipTest("this file system has no such times")
        gateway = await self.gateway()
        for run in (self.send(gateway), pycomnet.fetch(gateway, self.source, self.target(1))):
            result = await run
            self.assertEqual(sorted(result.sent), ["long", "short"])
            self.assertEqual([path for path, _ in result.noted], ["long", "short"])
        self.assertEqual(os.stat(f"{self.target()}/long").st_mtime_ns, LATEST)
        self.assertEqual((await self.send(gateway)).sent, [])

    async def test_target_that_is_a_file(self) -> None:
        """A target that can't be made is an error of that target."""
        self.in_source("a")
        write(self.target(), b"")
        sync = pycomnet.RSync(self.source)
        sync.add_target(await self.gateway(), self.target())
        result = await sync.send()
        self.assertFalse(result.ok)
        problem = self.assertRaises(pycomnet.SyncFailures, result.raise_for_failures)
        self.assertIn("Not a directory", str(problem))
        self.assertIs(problem.result, result)

    async def test_slow_and_dying_targets(self) -> None:
        """A target that stands still and one that dies keep nobody else (case 23)."""
        self.fill()
        gateways = [await self.gateway() for _ in range(4)]
        slow, dying = gateways[1], gateways[2]
        slow_pid = slow.info["pid"]
        finished: dict[int, pycomnet.TargetResult] = {}
        others: defer.Deferred[None] = defer.Deferred()

        def is_finished(number: int) -> Any:
            def note(result: pycomnet.TargetResult) -> None:
                finished[number] = result
                if {0, 2, 3} <= set(finished) and not others.called:
                    others.callback(None)

            return note

        sync = pycomnet.RSync(self.source)
        for number, gateway in enumerate(gateways):
            sync.add_target(gateway, self.target(number), finished=is_finished(number))

        pids = [dying.info["pid"]]

        def at_first(event: pycomnet.SyncEvent) -> None:
            if pids and event.kind == "sent" and event.target.startswith(dying.id):
                os.kill(pids.pop(), signal.SIGKILL)

        stop(slow_pid)
        try:
            running = sync.send(at_first)
            await others
            self.assertNotIn(1, finished)
        finally:
            os.kill(slow_pid, signal.SIGCONT)
        result = await running
        for number in (0, 1, 3):
            self.assertTrue(result.targets[number].ok)
            self.assert_arrived(number)
        dead = result.targets[2]
        self.assertIsInstance(dead.error, pycomnet.ConnectionLost)
        self.assertLess(0, len(dead.sent))
        self.assertIn("entries were done before", next(dead.problems()))

    async def test_far_side_that_does_not_end(self) -> None:
        """One that ends sending, and nothing else, is given up, before and after its work."""
        self.in_source("a")
        stuck = "for each in data: pass"
        early = f"if options['root'].endswith(b'0'):\n    channel.close()\n    {stuck}\nelse:\n    "
        sync = pycomnet.RSync(self.source)
        for number in range(2):
            sync.add_target(await self.gateway(), self.target(number))
        for code, is_done in (
            (early + modules.RECEIVE.replace("\n", "\n    "), [False, True]),
            (f"{modules.RECEIVE}channel.close()\n{stuck}", [True, True]),
        ):
            with (
                mock.patch.object(session, "RECEIVE", code),
                mock.patch.object(modules, "REASON", 0.01),
            ):
                result = await sync.send()
            self.assertEqual([target.error is None for target in result.targets], is_done)
        self.assert_arrived(0)
        self.assert_arrived(1)

    async def test_cancelled(self) -> None:
        """Cancelling ends the run; another then goes on, and leaves nothing behind."""
        self.fill()
        gateway = await self.gateway()
        sync = pycomnet.RSync(self.source)
        sync.add_target(gateway, self.target())
        first: defer.Deferred[None] = defer.Deferred()

        def note(event: pycomnet.SyncEvent) -> None:
            if not first.called:
                first.callback(None)

        running = sync.send(note)
        await first
        running.cancel()
        await self.failure(running, defer.CancelledError)
        await self.send(gateway)
        self.assert_arrived()

    async def test_file_that_grows(self) -> None:
        """Of a file that grows while it is sent one state arrives, and the next run sees that."""
        path = self.in_source("log", b"line\n" * 1000000)
        gateway = await self.gateway()
        unit = LongFile.unit

        def grow(file: LongFile, offset: int, size: int) -> defer.Deferred[bytes]:
            if not offset:
                with open(path, "ab") as log:
                    log.write(b"another line\n")
            return unit(file, offset, size)

        with mock.patch.object(LongFile, "unit", grow):
            result = await self.send(gateway)
        self.assertEqual(result.sent, ["log"])
        with open(f"{self.target()}/log", "rb") as file:
            self.assertEqual(file.read(), b"line\n" * 1000000)
        self.assertEqual((await self.send(gateway)).sent, ["log"])
        self.assert_arrived()

    async def test_file_that_grows_while_it_is_compared(self) -> None:
        """The same for one of which the target has parts, in place and moved."""
        numbers = random.Random(3)
        old = numbers.randbytes(3000000)
        path = self.in_source("log", old)
        gateway = await self.gateway()
        await self.send(gateway)
        new = b"x" + old[:1000000] + numbers.randbytes(70000) + old[1000000:] + b"end"
        write(path, new, NOON + 1)
        pread = LongFile.pread
        grown: list[int] = []

        def grow(file: LongFile, offset: int, size: int) -> bytes:
            if not grown:
                grown.append(offset)
                with open(path, "ab") as log:
                    log.write(b"another line\n")
            return pread(file, offset, size)

        with mock.patch.object(LongFile, "pread", grow):
            result = await self.send(gateway)
        self.assertEqual((grown, result.sent), ([0], ["log"]))
        self.assertLess(result.literal, 200000)
        with open(f"{self.target()}/log", "rb") as file:
            self.assertEqual(file.read(), new)
        self.assertEqual((await self.send(gateway)).sent, ["log"])
        self.assert_arrived()

    async def test_file_that_changes(self) -> None:
        """A file that changes in place while it is read is read again; if always, it has failed."""
        path = self.in_source("file", b"a" * 3000000)
        write(f"{self.target()}/file", b"old", NOON - 1)
        gateway = await self.gateway()
        unit = LongFile.unit
        left = [1]

        def change(file: LongFile, offset: int, size: int) -> defer.Deferred[bytes]:
            def read(data: bytes) -> bytes:
                if not offset and left[0]:
                    left[0] -= 1
                    with open(path, "r+b") as changed:
                        changed.write(b"%d" % left[0])
                return data

            return unit(file, offset, size).addCallback(read)

        with mock.patch.object(LongFile, "unit", change):
            self.assertEqual((await self.send(gateway)).sent, ["file"])
            self.assert_arrived()
            left[0] = 1000
            write(path, b"b" * 3000000)
            sync = pycomnet.RSync(self.source)
            sync.add_target(gateway, self.target())
            with mock.patch.object(wanted, "DELTA", -1):  # whole, so that units are read
                result = (await sync.send()).targets[0]
        self.assertEqual(len(result.failed), 1)
        self.assertIn("changed each time", result.failed[0][1])
        with open(f"{self.target()}/file", "rb") as file:
            self.assertEqual(file.read(1), b"0")  # what the first run has sent

    async def test_file_that_can_not_be_read_to_its_end(self) -> None:
        """The disk's error is the reason, and not that the file has changed; the rest goes on."""
        self.in_source("bad", b"b" * 3000000)
        self.in_source("good", b"g" * 3000000)
        gateway = await self.gateway()
        pread = os.pread

        def broken(descriptor: int, size: int, offset: int) -> bytes:
            data = pread(descriptor, size, offset)
            if offset + len(data) > 2000000 and data[:1] == b"b":
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return data

        for before in (None, b"b" * 1000000):  # whole, and compared with what is there
            if before is not None:
                write(f"{self.target()}/bad", before)
            sync = pycomnet.RSync(self.source)
            sync.add_target(gateway, self.target())
            with mock.patch.object(os, "pread", broken):
                result = (await sync.send()).targets[0]
            self.assertEqual(result.failed, [("bad", os.strerror(errno.EIO))])
        with open(f"{self.target()}/bad", "rb") as file:
            self.assertEqual(file.read(), b"b" * 1000000)  # the old one
        with open(f"{self.target()}/good", "rb") as file:
            self.assertEqual(file.read(), b"g" * 3000000)

    async def test_file_that_vanishes(self) -> None:
        """A file that is gone when it would be read has failed; the rest goes on."""
        long, short = self.in_source("long", b"x" * 100000), self.in_source("short", b"x")
        self.in_source("other", b"x")
        gateway = await self.gateway()
        batch = source.Source.batch

        def remove(tree: source.Source, place: int) -> Any:
            def gone(found: Any) -> Any:
                for path in (long, short):
                    if os.path.exists(path):
                        os.remove(path)
                return found

            return batch(tree, place).addCallback(gone)

        sync = pycomnet.RSync(self.source)
        sync.add_target(gateway, self.target())
        with mock.patch.object(source.Source, "batch", remove):
            result = (await sync.send()).targets[0]
        self.assertEqual(sorted(path for path, _ in result.failed), ["long", "short"])
        self.assertEqual(result.sent, ["other"])
        self.assertEqual(os.listdir(self.target()), ["other"])

    async def assert_nothing_left_open(
        self, gateway: pycomnet.Gateway, run: Callable[[], Awaitable[object]]
    ) -> None:
        """Fail if a run leaves descriptors open, here or at the other end."""
        code = (
            "import os\nfor _ in channel:\n    channel.send(sorted(os.listdir('/proc/self/fd')))\n"
        )
        far = gateway.remote_exec(code)

        async def open_there() -> set[str]:
            await far.send(None)
            return set(await far.receive())

        here, there = set(os.listdir("/proc/self/fd")), await open_there()
        await run()
        await until(lambda: set(os.listdir("/proc/self/fd")) <= here, "all else is closed")
        for _ in range(1000):
            if await open_there() <= there:
                break
        else:
            self.fail("more is open at the other end than before")
        far.close()

    async def test_nothing_is_left_open(self) -> None:
        """After a run no descriptor is open that was not before."""
        self.fill()
        gateway = await self.gateway()
        await self.send(gateway)
        with open(f"{self.target()}/long", "r+b") as file:
            file.write(b"changed")
        os.remove(f"{self.target()}/middle")
        await self.assert_nothing_left_open(gateway, lambda: self.send(gateway))
        self.assert_arrived()

    async def test_nothing_is_left_open_after_fetch(self) -> None:
        """Nor after a run the other way, with files that are new and that have changed."""
        self.fill()
        gateway = await self.gateway()
        await pycomnet.fetch(gateway, self.source, self.target())
        with open(f"{self.target()}/long", "r+b") as file:
            file.write(b"changed")
        os.remove(f"{self.target()}/middle")
        await self.assert_nothing_left_open(
            gateway, lambda: pycomnet.fetch(gateway, self.source, self.target())
        )
        self.assert_arrived()

    async def refused(self, messages: str, **options: Any) -> str:
        """What a target's run ends with that gets a list and says these messages.

        :param messages: an expression; ``pack`` makes numbers, ``count`` is that of the entries.
        """
        code = (
            "import struct\n"
            "pack = lambda *numbers: struct.pack('>%dQ' % len(numbers), *numbers)\n"
            "count = len(channel.receive()[4])\n"
            f"for message in {messages}:\n"
            "    if message is None:\n"
            "        while channel.receive()[0] != 'sums':\n"
            "            pass\n"
            "    else:\n"
            "        channel.send(message)\n"
            "for message in channel:\n"
            "    pass\n"
        )
        sync = pycomnet.RSync(self.source, **options)
        sync.add_target(await self.gateway(), self.target())
        with mock.patch.object(session, "RECEIVE", code):
            result = (await sync.send()).targets[0]
        self.assertIsInstance(result.error, pycomnet.SyncError)
        self.assertEqual(result.literal, 0)
        return str(result.error)

    async def test_what_is_not_for_the_other_end(self) -> None:
        """A target gets no content of what has a name in the list only, nor of anything twice."""
        self.in_source("a", b"secret")
        os.symlink("/etc/hostname", f"{self.source}/b")
        for number, options in (
            (0, {"takes": lambda path: path != "a"}),
            (1, {"links": "copy", "outside": "skip"}),
            (1, {"links": "keep"}),
        ):
            need = f"[['need', 0, count, pack({number}), b'\\0', b'', b'', b'']]"
            self.assertIn("not a file that is sent", await self.refused(need, **options))
        for numbers, count in (("2", 1), ("0, 0", 2)):
            need = f"[['need', 0, count, pack({numbers}), b'\\0' * {count}, b'', b'', b'']]"
            self.assertIn("not of this list", await self.refused(need))
            done = f"[['need', 0, count, b'', b'', b'', pack({numbers}), b'\\1' * {count}]]"
            self.assertIn("not of this list", await self.refused(done))
        self.assertIn("not expected now", await self.refused("[['done']]"))
        self.assertIn("not sent", await self.refused("[['again', 0, '']]"))

    async def test_sums_of_the_other_end(self) -> None:
        """Sums are taken for the file that they were asked for, as many as it has blocks."""
        self.in_source("a", b"x" * 100000)
        self.in_source("b", b"x" * 100000)
        need = "['need', 0, count, pack(0), b'\\2', b'', b'', b''], None"
        for sums, reason in (
            ("['sums', 0, 100000, 3, b'a', b'', False]", "blocks of 3 bytes"),
            ("['sums', 0, 100000, 1 << 40, b'a', b'', False]", "blocks of"),
            ("['sums', 0, 8192, 4096, b'a', b'0' * 72, False]", "more blocks"),
            ("['sums', 0, 0, 0, b'', b'0' * 24, False]", "more blocks"),
            ("['sums', 1, 8192, 4096, b'a', b'', False]", "not asked for"),
            ("['sums', 0, 8192, 4096, 5, b'', False]", "not a valid message"),
        ):
            self.assertIn(reason, await self.refused(f"[{need}, {sums}]"))

    async def test_done_before_it_was_sent(self) -> None:
        """A target that says of a file that it is written, before it can be, is an error of it."""
        for name, size in (("a", 1000000), ("b", 100000), ("c", 5)):
            self.in_source(name, b"x" * size)
        need = "['need', 0, count, pack(0, 1, 2), b'\\2\\0\\0', b'', b'', b'']"
        sync = pycomnet.RSync(self.source)
        sync.add_target(await self.gateway(), self.target())
        code = (
            f"import struct\npack = lambda *each: struct.pack('>%dQ' % len(each), *each)\n"
            f"count = len(channel.receive()[4])\nchannel.send({need})\n"
            "while channel.receive()[0] != 'sums':\n    pass\n"
            "channel.send(['written', pack(1)])\n"
            "channel.send(['sums', 0, 0, 0, b'', b'', True])\n"
            "for message in channel:\n    pass\n"
        )
        with mock.patch.object(session, "RECEIVE", code):
            result = (await sync.send()).targets[0]
        self.assertIsInstance(result.error, pycomnet.SyncError)
        self.assertIn("did not need", str(result.error))

    async def test_other_end_that_says_nonsense(self) -> None:
        """A target whose messages are none is an error of that target, in words."""
        self.in_source("a")
        gateway = await self.gateway()
        for code in (
            "channel.send(['need', 0, 5])",
            "channel.send(['written', b'12345678'])",
            "channel.send(17)",
            "channel.send(['need', 0, 1, b'x' * 80, b'', b'', b'', b''])",
            "channel.send(['failed', [[999, 'x']]])",
            "channel.close()",
        ):
            sync = pycomnet.RSync(self.source)
            sync.add_target(gateway, self.target())
            with mock.patch.object(session, "RECEIVE", f"{code}\nchannel.receive()"):
                result = (await sync.send()).targets[0]
            self.assertIsInstance(result.error, pycomnet.PycomnetError, code)
