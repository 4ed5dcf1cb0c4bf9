"""The transport over pipes."""

from __future__ import annotations

import fcntl
import os
from typing import Any

from twisted.internet import task
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.testing import MemoryReactor
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from pycomnet.gateways.transports.pipes import PIPE_LARGE, ProcessTransport


class Writing(SynchronousTestCase):
    """What is written is told, neither more nor less."""

    def setUp(self) -> None:
        self.far_in, near_out = os.pipe()
        near_in, self.far_out = os.pipe()
        for fd in (self.far_in, self.far_out, near_in, near_out):
            self.addCleanup(os.close, fd)
        os.set_blocking(self.far_in, False)
        reactor: Any = MemoryReactor()
        self.transport = ProcessTransport(near_out, near_in, Protocol(), reactor)

    def written(self) -> bytes:
        data = b""
        while True:
            try:
                data += os.read(self.far_in, 1 << 20)
            except BlockingIOError:
                return data

    def test_full_pipe_is_made_larger(self) -> None:
        """A pipe that is full is made larger, and takes more at once."""
        data = os.urandom(2 * PIPE_LARGE)
        written = self.transport.writeSomeData(data)
        assert isinstance(written, int)
        self.assertGreater(written, 65536)
        self.assertEqual(self.written(), data[:written])

    def test_large_full_pipe_reports_what_it_took(self) -> None:
        """One that the other end has made as large is full: what it took goes once."""
        fcntl.fcntl(self.far_in, fcntl.F_SETPIPE_SZ, PIPE_LARGE)
        data = os.urandom(2 * PIPE_LARGE)
        written = self.transport.writeSomeData(data)
        assert isinstance(written, int)
        self.assertEqual(self.written(), data[:written])
        self.assertGreater(written, 0)
        self.transport.writeSomeData(data)
        self.assertEqual(self.transport.writeSomeData(b"more"), 0)


class Numbers(TestCase):
    """A reactor knows descriptors by their numbers, and sees to several in one turn."""

    async def test_closed_pipes_events_are_not_the_new_ones(self) -> None:
        """What was found on a pipe that is closed by then is not taken for that of a new one."""
        from twisted.internet import reactor

        lost: list[Any] = []

        class Losing(Protocol):
            def connectionLost(self, reason: Failure = connectionDone) -> None:
                lost.append(self)

        def piped(protocol: Any) -> tuple[ProcessTransport, int, int]:
            near_in, far_out = os.pipe()  # the lowest number is the one that is read from
            far_in, near_out = os.pipe()
            return ProcessTransport(near_out, near_in, protocol, reactor), far_in, far_out

        class First(Protocol):
            """Ends what has ended, as one of two things that tell that; starts another."""

            def dataReceived(self, data: bytes) -> None:
                second.abortConnection()
                self.third = piped(Losing())

        for _ in range(20):  # the numbers below those that follow are all taken
            self.addCleanup(os.close, os.open(os.devnull, os.O_RDONLY))
        first = First()
        one, *rest = piped(first)
        ended = Losing()
        second, far_in, far_out = piped(ended)
        await task.deferLater(reactor, 0)
        os.write(rest[1], b"x")  # what is ready first is seen to first
        os.close(far_out)
        for _ in range(3):
            await task.deferLater(reactor, 0)
        self.assertEqual(lost, [ended])
        for transport in (one, first.third[0]):
            transport.abortConnection()
        for fd in (far_in, *rest, *first.third[1:]):
            os.close(fd)
        await task.deferLater(reactor, 0)
