"""Looking for answers on a socket: how often, and when not."""

from __future__ import annotations

import itertools
import select
import socket
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from pycomnet.far import busypoll as rule
from pycomnet.far.busypoll import MOST_QUICK, QUICK
from pycomnet.net.reactorpoll import BLIND_READS, BLIND_WINDOW, READS_PER_TURN, BusyPoll


class EpollReactor:
    """As much of Twisted's epoll reactor as is looked at."""

    def __init__(self) -> None:
        if not hasattr(select, "epoll"):
            raise SkipTest("there is no epoll here")
        self._poller = select.epoll()
        self.due: float | None = None

    def register(self, fd: int) -> None:
        """Wait for a descriptor, as its reader is added."""
        self._poller.register(fd, select.EPOLLIN)

    def close(self) -> None:
        """Let go of the descriptor."""
        self._poller.close()

    def timeout(self) -> float | None:
        """Seconds until the next delayed call."""
        return self.due


class SocketTransport:
    """As much of a transport as is looked at: it reads a byte at a time from a socket."""

    reactor: Any = None

    def __init__(self, reading: socket.socket) -> None:
        self.socket = reading
        self.connected = True
        self.disconnecting = False
        self.dataBuffer = b""
        self.reads: list[bytes] = []
        self.ahead: Any = None
        self.result: Any = None

    def fileno(self) -> int:
        return self.socket.fileno()

    def doRead(self) -> Any:
        self.reads.append(self.socket.recv(1))
        self.react()
        return self.result

    def react(self) -> None:
        """What the protocol does."""
        self.ahead.wrote = True


class SteppingClock:
    """A clock that goes on with every look at it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.step = 1e-7

    def __call__(self) -> float:
        self.now += self.step
        return self.now


class LookaheadTests(SynchronousTestCase):
    """On a real pair of sockets, with a clock that the test turns."""

    def setUp(self) -> None:
        self.there, here = socket.socketpair()
        self.addCleanup(self.there.close)
        self.addCleanup(here.close)
        self.clock = SteppingClock()
        self.patch(rule, "_now", self.clock)
        self.transport = SocketTransport(here)
        self.transport.ahead = self.ahead = BusyPoll(self.transport)

    def _reads(self) -> int:
        """How many bytes are read by one turn of the reactor."""
        before = len(self.transport.reads)
        self.assertIs(self.transport.doRead(), self.transport.result)
        return len(self.transport.reads) - before

    def _on_epoll(self) -> EpollReactor:
        """The same on a reactor where the looks see everything."""
        reactor = self.transport.reactor = EpollReactor()
        self.addCleanup(reactor.close)
        reactor.register(self.transport.fileno())
        return reactor

    def test_answered_reads_go_on_at_once_up_to_a_bound(self, most: int = BLIND_READS) -> None:
        """While what is read is answered, what comes is read at once; but not without end: less
        where the looks don't see who else has something."""
        self.there.sendall(b"x" * (most + 4))
        self.assertEqual(self._reads(), 1)  # nothing is known yet
        self.assertEqual(self._reads(), most)
        self.there.sendall(b"x" * 2)
        self.assertEqual(self._reads(), 5)

    def test_answered_reads_go_on_with_epoll(self) -> None:
        """So it does where the looks are the reactor's own."""
        self._on_epoll()
        self.test_answered_reads_go_on_at_once_up_to_a_bound(READS_PER_TURN)

    def test_slow_answers_are_not_looked_for(self) -> None:
        """What was not answered quickly is not looked for, until it is again."""
        self.there.sendall(b"x" * 50)
        self.assertEqual(self._reads(), 1)
        for _ in range(3):
            self.clock.now += 2 * QUICK
            self.assertEqual(self._reads(), 1)
        self.clock.now += QUICK / 2
        self.assertEqual(self._reads(), BLIND_READS)

    def test_looks_in_vain_become_rare(self) -> None:
        """Looks that are in vain become rare, and one that is not makes them frequent again."""
        self.clock.step = BLIND_WINDOW / 3
        self.there.sendall(b"x")
        self.assertEqual(self._reads(), 1)
        looked = []
        for number in range(4 * MOST_QUICK):
            self.there.sendall(b"x")
            before = self.clock.now
            self.assertEqual(self._reads(), 1)
            if self.clock.now - before > BLIND_WINDOW:
                looked.append(number)
        gaps = [later - sooner for sooner, later in itertools.pairwise(looked)]
        self.assertEqual(gaps[:6], [3, 5, 9, 17, 33, 65])
        self.assertEqual(set(gaps[6:]), {MOST_QUICK + 1})
        self.clock.step = 1e-7
        self.there.sendall(b"x" * 1000)
        while self._reads() == 1:
            pass
        self.assertEqual(self._reads(), BLIND_READS)

    def test_late_look_reads_but_counts_as_in_vain(self) -> None:
        """What came while the processor was away for long is read; but it counts as in vain."""
        self.there.sendall(b"x" * 10)
        self.assertEqual(self._reads(), 1)
        self.clock.step = 2 * BLIND_WINDOW
        self.assertEqual(self._reads(), 2)
        self.assertEqual(self._reads(), 1)

    def test_other_ready_descriptors_end_the_looks(self) -> None:
        """Where something else is ready too, or is due, the reactor has its turn, at once."""
        reactor = self._on_epoll()
        self.there.sendall(b"x" * 50)
        self.assertEqual(self._reads(), 1)
        other, here = socket.socketpair()
        self.addCleanup(other.close)
        self.addCleanup(here.close)
        reactor.register(here.fileno())
        other.sendall(b"x")
        self.assertEqual(self._reads(), 1)
        here.recv(1)
        reactor.due = 0.0
        self.assertEqual(self._reads(), 1)
        reactor.due = 1.0
        self.assertEqual(self._reads(), READS_PER_TURN)

    def test_looks_end_without_writes_or_at_the_end(self) -> None:
        """It does not when nothing was written, what is written waits, or the end has come."""
        self.there.sendall(b"x" * 50)
        self.assertEqual(self._reads(), 1)
        for change in (
            {"react": lambda: None},
            {"dataBuffer": b"waits"},
            {"disconnecting": True},
            {"connected": False},
            {"result": OSError("the end")},
        ):
            before = len(self.transport.reads)
            for name, value in change.items():
                old = getattr(self.transport, name)
                setattr(self.transport, name, value)
                self.assertIs(self.transport.doRead(), self.transport.result)
                setattr(self.transport, name, old)
            self.assertEqual(len(self.transport.reads), before + 1, change)

    def test_poll_outside_of_a_read_leaves_reading_to_the_reactor(self) -> None:
        """What was written in a turn without a read is polled for as well; nothing is read then."""
        reactor = self._on_epoll()
        self.assertFalse(self.ahead.poll())  # nothing is known yet: this wait sleeps
        self.there.sendall(b"x")
        self.transport.react = lambda: None  # type: ignore[method-assign]
        self.assertEqual(self._reads(), 1)
        self.there.sendall(b"x")
        self.assertTrue(self.ahead.poll())
        self.assertEqual(len(self.transport.reads), 1)
        for name, value in (
            ("dataBuffer", b"waits"),
            ("disconnecting", True),
            ("connected", False),
        ):
            old = getattr(self.transport, name)
            setattr(self.transport, name, value)
            self.assertFalse(self.ahead.poll(), name)
            setattr(self.transport, name, old)
        reactor.due = 0.0
        self.assertFalse(self.ahead.poll())
        reactor.due = None
        self.assertTrue(self.ahead.poll())
        self.assertEqual(self._reads(), 1)

    def test_stop_restores_the_transports_own_read(self) -> None:
        """Afterwards the transport reads as it did."""
        self.ahead.stop()
        self.assertNotIn("doRead", self.transport.__dict__)
        self.ahead.stop()
