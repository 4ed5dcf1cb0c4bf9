"""The far side's connection: what a near side that breaks the protocol does to it."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.far.channel import FarChannel
from pycomnet.far.connection import FarConnection
from pycomnet.test.wire.fuzzsides import FarIO
from pycomnet.test.wire.muxkit import (
    DATA,
    ERROR,
    GOAWAY,
    MORE,
    close,
    credit,
    frame,
    frames,
    hello,
    open_frame,
)
from pycomnet.wire import codec
from pycomnet.wire.frames import MAX_CREDIT
from pycomnet.wire.mux import Limits
from pycomnet.wire.values import PureCodec

#: A tuple that is no array.
INVALID = b"\xc7\x01\x01\xc0"


class Said(FarIO):
    """Keeps what the far side says."""

    def __init__(self, *pieces: bytes) -> None:
        super().__init__(iter(pieces))
        self.data = b""

    def write(self, parts: list[bytes | memoryview]) -> None:
        self.data += b"".join(parts)

    def write_one(self, data: bytes | memoryview) -> None:
        self.data += data


class FastCodec(SynchronousTestCase):
    """The codec that takes long to import comes when it has use."""

    def setUp(self) -> None:
        self.made = 0
        self.patch(codec, "make_codec", self._make)
        self.link: Any = FarConnection(Said(), FarChannel, lambda _: None, lambda: None, {})

    def _make(self, *arguments: Any) -> PureCodec:
        self.made += 1
        return PureCodec(*arguments)

    def _takes(self, value: object) -> int:
        """How many round trips of a value it takes."""
        for number in range(10000):
            if self.made:
                return number
            self.assertEqual(self.link.decode(self.link.encode(value)), value)
        raise AssertionError("never")

    def test_fast_codec_comes_after_hundreds_of_dicts(self) -> None:
        """After some hundreds of round trips of a dict."""
        taken = self._takes({"id": 1, "name": "a name", "score": 0.5, "ok": True})
        self.assertTrue(500 < taken < 1000, taken)

    def test_fast_codec_comes_after_thousands_of_numbers(self) -> None:
        """The first thousands of small numbers don't pay for it."""
        taken = self._takes(12345)
        self.assertTrue(3000 < taken < 4000, taken)

    def test_fast_codec_has_no_use_for_long_bytes(self) -> None:
        """Both codecs copy them: alone, and in an array with little else. Short ones are work."""
        for value in (bytes(100000), ["columns", 5, bytes(100000), b"", bytes(3000)]):
            for _ in range(500):
                self.assertEqual(self.link.decode(self.link.encode(value)), value)
        self.assertEqual(self.made, 0)
        self.assertLess(self._takes([b"short"] * 1000), 10)

    def test_fast_codec_comes_after_one_long_list(self) -> None:
        """One long list is enough."""
        self.assertEqual(self._takes([1.5] * 10000), 1)


class InvalidValues(SynchronousTestCase):
    """Bytes that are no value end the connection, with an error that says so."""

    def link(self, *pieces: bytes) -> Any:
        """A link that has read a hello, an OPEN and these."""
        self.ended = 0
        self.channels: list[FarChannel] = []
        self.io = Said(hello(), open_frame(1), *pieces)
        link = FarConnection(self.io, FarChannel, self.channels.append, self.lost, {})
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

    def test_invalid_value_ends_the_channel_for_its_receiver(self) -> None:
        """The user's code that receives it gets the end of the channel."""
        link = self.link(frame(DATA, 1, INVALID))
        self.assertFalse(link.closed)
        with self.assertRaisesRegex(EOFError, "broke the protocol"):
            self.channels[0].receive()
        self.assert_refused(link)

    def test_values_before_an_invalid_one_are_received(self) -> None:
        """The values before it are there."""
        link = self.link(
            frame(DATA, 1, b"\x05") + frame(DATA, 1, INVALID) + frame(DATA, 1, b"\x06")
        )
        self.assertEqual(self.channels[0].receive(), 5)
        with self.assertRaisesRegex(EOFError, "broke the protocol"):
            self.channels[0].receive()
        self.assert_refused(link)

    def test_invalid_error_ends_the_connection(self) -> None:
        """As the error that a channel is closed with."""
        link = self.link(close(1, ERROR, INVALID))
        self.assert_refused(link)
        with self.assertRaises(EOFError):
            self.channels[0].receive()

    def test_traceback_of_an_error_raised_again_does_not_grow(self) -> None:
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


#: What breaks a limit once a hello and an OPEN of channel 1 have come: the code, and what is said.
BREAKS: tuple[tuple[str, str, bytes], ...] = (
    ("frame", "DATA of 65537 bytes, the limit is 65536", frame(DATA, 1, bytes(65537))),
    ("frame", "type 77", frame(77)),
    ("channel", "channel 9", frame(DATA, 9, b"\x05")),
    ("channel", "channel 2", open_frame(2)),
    ("window", "channel 1", b"".join(frame(MORE, 1, bytes(60_000)) for _ in range(20))),
    ("window", str(MAX_CREDIT), credit(1, MAX_CREDIT)),
    ("hello", "second", hello()),
)


class Limited(SynchronousTestCase):
    """Each limit of the wire, and a near side that breaks it: both ends are told which one."""

    def broken(self, *pieces: bytes) -> tuple[Any, dict[str, Any]]:
        """A link that has read these, and why it has said that it is over."""
        self.ended = 0
        self.channels: list[FarChannel] = []
        io = Said(*pieces)
        link = FarConnection(io, FarChannel, self.channels.append, self.lost, {})
        for _ in pieces:
            if link.closed:
                break
            link._read()
        self.assertTrue(link.closed)
        self.assertEqual(self.ended, 1)
        kind, _, payload = frames(io.data)[-1]
        self.assertEqual(kind, GOAWAY)
        return link, PureCodec().decode(payload)

    def lost(self) -> None:
        self.ended += 1

    def check(self, code: str, words: str, *pieces: bytes) -> None:
        link, told = self.broken(*pieces)
        self.assertEqual(told["code"], code)
        self.assertIn(words, told["message"])
        self.assertIn(words, link.reason)
        for channel in self.channels:
            with self.assertRaisesRegex(EOFError, code):
                channel.receive()

    def test_each_broken_limit_is_told_to_both_ends(self) -> None:
        """In one lump, and byte by byte (the long ones in a few pieces)."""
        for code, words, data in BREAKS:
            start = hello() + open_frame(1)
            self.check(code, words, start + data)
            size = max(len(data) // 50, 1)
            cut = [data[i : i + size] for i in range(0, len(data), size)]
            self.check(code, words, *(bytes([byte]) for byte in start), *cut)

    def test_too_many_channels_are_refused(self) -> None:
        """More channels than there may be."""
        most = Limits().channels
        opens = b"".join(open_frame(id) for id in range(1, 2 * most + 2, 2))
        self.check("channels", str(most), hello(), opens)

    def test_no_hello_or_another_version_is_refused(self) -> None:
        """Something else than a hello, and one of another version."""
        self.check("hello", "hello", b"GET / HTTP/1.1\r\n\r\n")
        self.check("version", "version", hello(version=9))

    def test_half_a_frame_waits_until_the_connection_ends(self) -> None:
        """A near side that stops within a frame: this one goes on, until the connection ends."""
        whole = frame(DATA, 1, b"\x05" * 100)
        for size in (1, 5, 9, 10, 108):
            self.ended = 0
            self.channels = []
            io = Said(hello(), open_frame(1), whole[:size])
            link = FarConnection(io, FarChannel, self.channels.append, self.lost, {})
            for _ in range(3):
                link._read()
            self.channels[0].send("here")
            self.assertEqual(frames(io.data)[-1], (DATA, 1, b"\xa4here"))
            self.assertEqual((link.closed, self.ended), (False, 0))
            link._read()  # the end
            self.assertEqual((link.closed, self.ended), (True, 1))
            with self.assertRaisesRegex(EOFError, "connection|near side|gone"):
                self.channels[0].receive()
