"""Looking for answers on a socket: how often, and when not."""

from __future__ import annotations

import socket
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.lookahead import READS_PER_TURN, Lookahead


class SocketTransport:
    """As much of a transport as is looked at: it reads a byte at a time from a socket."""

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


class LookaheadTests(SynchronousTestCase):
    """On a real pair of sockets, whose bytes are all there."""

    def setUp(self) -> None:
        self.there, here = socket.socketpair()
        self.addCleanup(self.there.close)
        self.addCleanup(here.close)
        self.transport = SocketTransport(here)
        self.transport.ahead = self.ahead = Lookahead(self.transport)

    def test_reads_on(self) -> None:
        """While what is read is answered, what comes is read at once; but not without end."""
        self.there.sendall(b"x" * (READS_PER_TURN + 3))
        self.assertIs(self.transport.doRead(), None)
        self.assertEqual(len(self.transport.reads), READS_PER_TURN)
        self.transport.doRead()
        self.assertEqual(len(self.transport.reads), READS_PER_TURN + 3)

    def test_stops(self) -> None:
        """It does not when nothing was written, what is written waits, or the end has come."""
        self.there.sendall(b"x" * 50)
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

    def test_stop(self) -> None:
        """Afterwards the transport reads as it did."""
        self.ahead.stop()
        self.assertNotIn("doRead", self.transport.__dict__)
        self.ahead.stop()
