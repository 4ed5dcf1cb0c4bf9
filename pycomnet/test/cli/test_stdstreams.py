"""Standard streams in the reactor: pipes that fill up, break and end, and files."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Any

from twisted.internet import defer
from twisted.trial.unittest import TestCase

from pycomnet.cli.stdstreams import InputLines, OutputStream, never_blocks


class StreamCase(TestCase):
    """A test with a pipe."""

    timeout = 120

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.read, self.write = os.pipe()
        self._open = {self.read, self.write}
        self.addCleanup(self.shut_all)

    def shut_all(self) -> None:
        """Close what is still open."""
        for fd in list(self._open):
            self.shut(fd)

    def shut(self, fd: int) -> None:
        """Close an end of the pipe, once: its number may be somebody else's after that."""
        self._open.remove(fd)
        os.close(fd)


class Output(StreamCase):
    """What is written."""

    def setUp(self) -> None:
        super().setUp()
        self.problems: list[OSError] = []
        self.stream = OutputStream(self.write, self.problems.append, self.reactor)
        self.addCleanup(self.stream.stopWriting)

    def test_written_at_once(self) -> None:
        """What the pipe takes needs no turn of the reactor."""
        self.assertIsNone(self.stream.put(b"hello"))
        self.assertEqual(os.read(self.read, 100), b"hello")

    def test_pipe_is_left_as_it_is(self) -> None:
        """The descriptor, which others share, still blocks."""
        self.stream.put(b"hello")
        self.assertTrue(os.get_blocking(self.write))

    async def test_waits_for_a_slow_reader(self) -> None:
        """A full pipe does not block the reactor: the Deferred fires when all is written."""
        data = bytes(range(256)) * 4096
        waited = self.stream.put(data)
        assert waited is not None
        self.assertFalse(waited.called)
        came = bytearray()
        os.set_blocking(self.read, False)
        while len(came) < len(data):
            turn: defer.Deferred[None] = defer.Deferred()
            self.reactor.callLater(0, turn.callback, None)
            await turn
            with contextlib.suppress(BlockingIOError):
                came += os.read(self.read, 10_000)
        await waited
        self.assertEqual(bytes(came), data)
        self.assertEqual(self.problems, [])

    async def test_first_cancels_rest(self) -> None:
        """Many wait until all is written: the first that is told cancels the others."""
        self.stream.put(bytes(1 << 20))
        waiting = [self.stream.when_empty() for _ in range(2)]
        waiting[0].addCallback(lambda _: waiting[1].cancel())
        self._open.discard(self.read)
        os.close(self.read)
        await waiting[0]
        await self.assertFailure(waiting[1], defer.CancelledError)

    async def test_lost_reader_is_told_once(self) -> None:
        """What waits gets free, the owner is told once, and later writes go nowhere."""
        waited = self.stream.put(bytes(1 << 20))
        assert waited is not None
        self.shut(self.read)
        await waited
        self.assertEqual([type(problem) for problem in self.problems], [BrokenPipeError])
        self.assertIsNone(self.stream.put(b"more"))
        await self.stream.when_empty()
        self.assertEqual(len(self.problems), 1)

    def test_reader_is_gone_before(self) -> None:
        """A write to a pipe that nobody reads tells the owner at once."""
        self.shut(self.read)
        self.assertIsNone(self.stream.put(b"x"))
        self.assertEqual([problem.errno for problem in self.problems], [errno.EPIPE])

    def test_output_file_takes_all_at_once(self) -> None:
        """A file takes all at once."""
        with open(self.mktemp(), "w+b") as file:
            self.assertTrue(never_blocks(file.fileno()))
            stream = OutputStream(file.fileno(), self.problems.append, self.reactor)
            self.assertIsNone(stream.put(bytes(1 << 20)))
            self.assertEqual(os.fstat(file.fileno()).st_size, 1 << 20)

    def test_full_disk_is_told_as_what_it_is(self) -> None:
        """Another error than a broken pipe is told as what it is."""
        fd = os.open("/dev/full", os.O_WRONLY)
        self.addCleanup(os.close, fd)
        OutputStream(fd, self.problems.append, self.reactor).put(b"x")
        self.assertEqual([problem.errno for problem in self.problems], [errno.ENOSPC])


class Input(StreamCase):
    """What is read."""

    def setUp(self) -> None:
        super().setUp()
        self.lines = InputLines(self.read, self.reactor)
        self.addCleanup(self.lines.stopReading)

    async def test_lines_in_pieces(self) -> None:
        """A line is given when its end has come, however it is cut."""
        waiting = self.lines.next_lines()
        os.write(self.write, b"one\ntw")
        self.assertEqual(await waiting, [b"one"])
        waiting = self.lines.next_lines()
        os.write(self.write, b"o")
        self.assertFalse(waiting.called)
        os.write(self.write, b"\n\nthree")
        self.shut(self.write)
        self.assertEqual(await waiting, [b"two", b""])
        self.assertEqual(await self.lines.next_lines(), [b"three"])
        self.assertEqual(await self.lines.next_lines(), [])
        self.assertEqual(await self.lines.next_lines(), [])

    async def test_end_without_anything(self) -> None:
        """An empty input is just the end."""
        waiting = self.lines.next_lines()
        self.shut(self.write)
        self.assertEqual(await waiting, [])

    async def test_not_read_unasked(self) -> None:
        """Nothing is taken from the pipe while nobody asks for it."""
        waiting = self.lines.next_lines()
        os.write(self.write, b"one\n")
        await waiting
        os.write(self.write, b"two\n")
        turn: defer.Deferred[None] = defer.Deferred()
        self.reactor.callLater(0, self.reactor.callLater, 0, turn.callback, None)
        await turn
        self.assertEqual(os.read(self.read, 100), b"two\n")

    async def test_stopped_input_ends_who_waits(self) -> None:
        """Whoever waits gets the end."""
        waiting = self.lines.next_lines()
        self.lines.stop()
        self.assertEqual(await waiting, [])

    async def test_cancelled_wait_takes_nothing_away(self) -> None:
        """A cancelled wait takes nothing away."""
        waiting = self.lines.next_lines()
        waiting.addErrback(lambda failure: failure.trap(defer.CancelledError))
        waiting.cancel()
        os.write(self.write, b"one\n")
        self.assertEqual(await self.lines.next_lines(), [b"one"])

    async def test_input_file_is_read_to_its_end(self) -> None:
        """A file's size is known, and it is read to its end."""
        with open(self.mktemp(), "w+b") as file:
            file.write(b"skipped" + b"a line\n" * 20_000)
            file.flush()
            file.seek(7)
            lines = InputLines(file.fileno(), self.reactor)
            self.assertEqual(lines.size, 140_000)
            count = 0
            while got := await lines.next_lines():
                count += len(got)
            self.assertEqual((count, lines.taken), (20_000, 140_000))

    async def test_unreadable_input_is_an_error_then_the_end(self) -> None:
        """A descriptor that can't be read is an error, and then the end."""
        lines = InputLines(os.open(".", os.O_RDONLY), self.reactor)
        self.addCleanup(os.close, lines.fileno())
        lines._direct = True
        await self.assertFailure(lines.next_lines(), IsADirectoryError)
        self.assertEqual(await lines.next_lines(), [])
