"""The far side's connection: what a near side that breaks the protocol does to it."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.test.wire.fuzzsides import FarIO
from pycomnet.test.wire.muxkit import DATA, ERROR, close, frame, frames, hello, open_frame
from pycomnet.wire.values import PureCodec
from pycomnet.worker.channel import Channel
from pycomnet.worker.link import Link

#: A tuple that is no array.
INVALID = b"\xc7\x01\x01\xc0"


class Said(FarIO):
    """Keeps what the far side says."""

    def __init__(self, *pieces: bytes) -> None:
        super().__init__(iter(pieces))
        self.data = b""

    def write(self, parts: list[bytes]) -> None:
        self.data += b"".join(parts)


class InvalidValues(SynchronousTestCase):
    """Bytes that are no value end the connection, with an error that says so."""

    def link(self, *pieces: bytes) -> Any:
        """A link that has read a hello, an OPEN and these."""
        self.ended = 0
        self.channels: list[Channel] = []
        self.io = Said(hello(), open_frame(1), *pieces)
        link = Link(self.io, Channel, self.channels.append, self.lost, {})
        link.flush()
        for _ in range(2 + len(pieces)):
            link._read()
        return link

    def lost(self) -> None:
        self.ended += 1

    def assert_refused(self, link: Any) -> None:
        """It is over, and has said why."""
        self.assertTrue(link.closed)
        self.assertEqual(self.ended, 1)
        _, _, payload = frames(self.io.data)[-1]
        reason = PureCodec().decode(payload)
        self.assertEqual(reason["code"], "value")
        self.assertIn("value", link.reason)

    def test_received(self) -> None:
        """The user's code that receives it gets the end of the channel."""
        link = self.link(frame(DATA, 1, INVALID))
        self.assertFalse(link.closed)
        with self.assertRaisesRegex(EOFError, "broke the protocol"):
            self.channels[0].receive()
        self.assert_refused(link)

    def test_in_a_run(self) -> None:
        """The values before it are there."""
        link = self.link(
            frame(DATA, 1, b"\x05") + frame(DATA, 1, INVALID) + frame(DATA, 1, b"\x06")
        )
        self.assertEqual(self.channels[0].receive(), 5)
        with self.assertRaisesRegex(EOFError, "broke the protocol"):
            self.channels[0].receive()
        self.assert_refused(link)

    def test_error(self) -> None:
        """As the error that a channel is closed with."""
        link = self.link(close(1, ERROR, INVALID))
        self.assert_refused(link)
        with self.assertRaises(EOFError):
            self.channels[0].receive()

    def test_tracebacks(self) -> None:
        """What is raised again and again does not grow."""
        self.link(close(1))
        for _ in range(3):
            with self.assertRaises(EOFError) as raised:
                self.channels[0].receive()
            depth = 0
            trace = raised.exception.__traceback__
            while trace is not None:
                depth += 1
                trace = trace.tb_next
            self.assertLess(depth, 6)
