"""What is not a hello: the error's code, and what its message names."""

from __future__ import annotations

import random
from typing import Any

import ormsgpack

from pycomnet.test.wire.muxkit import (
    DATA,
    END,
    GOAWAY,
    HELLO,
    MORE,
    PIECE,
    PING,
    PONG,
    HostileCase,
    close,
    credit,
    failure,
    frame,
    greeted,
    hello,
    open_frame,
)
from pycomnet.wire import mux as wire
from pycomnet.wire.mux import Mux


class HelloTests(HostileCase):
    """What is not a hello, or not one that can be."""

    def test_other_protocols_first_bytes_are_shown(self) -> None:
        """What else is often found behind a port, or in front of a shell, is shown."""
        for data in (
            b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n",
            b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n",
            b"bash: python3: command not found\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"Traceback (most recent call last):\n",
        ):
            self.breaks("hello", repr(data[:64]), data, Mux(True))

    def test_five_bytes_show_that_it_is_no_hello(self) -> None:
        """Five bytes are enough to see that it is none: it may be all that ever comes."""
        mux = Mux(True)
        self.assertEqual(mux.receive_data(b"SSH-"), [])
        self.breaks("hello", "b'SSH-2'", b"2", mux)
        self.breaks("hello", "expected a hello", b"\x00\x00\x00\x05\x01", Mux(True))
        self.breaks("hello", "expected a hello", b"\x00\x01\x00\x01\x00", Mux(True))

    def test_any_other_frame_first_is_refused(self) -> None:
        """Any other frame, however well formed, and a GOAWAY too."""
        goaway = ormsgpack.packb({"code": "exit", "message": ""})
        for data in (
            frame(DATA, 1, b"x"),
            frame(DATA, 1),
            frame(MORE, 1, PIECE),
            open_frame(1),
            credit(1, 1),
            frame(END, 1),
            close(1),
            frame(PING, 0, b"12345678"),
            frame(PONG, 0, b"12345678"),
            frame(GOAWAY, 0, goaway),
            frame(99),
        ):
            self.breaks("hello", "expected a hello", data, Mux(False))

    def test_random_bytes_fail_or_wait_for_more(self) -> None:
        """Garbage of any length fails or waits for more, and nothing else."""
        source = random.Random(7)
        for _ in range(500):
            data = source.randbytes(source.choice((5, 9, 20, 300)))
            mux = Mux(False)
            events = mux.receive_data(data)
            if data[:5] > b"\x00\x01\x00\x00\x00" or data[4]:
                assert events[0][0] == wire.EV_FAILED
                self.assertEqual(events[0][1].code, "hello")
            else:
                self.assertEqual(events, [])

    def test_hello_cut_short_is_refused(self) -> None:
        """A hello without its magic, version or map."""
        self.breaks("hello", "got b''", frame(HELLO), Mux(True))
        self.breaks("hello", "8 bytes, at least 10", frame(HELLO, 0, b"PYCOMNET"), Mux(True))
        self.breaks("hello", "9 bytes", frame(HELLO, 0, b"PYCOMNET\x00"), Mux(True))
        self.breaks("hello", "the hello: ", frame(HELLO, 0, b"PYCOMNET\x00\x01"), Mux(True))

    def test_other_magic_is_refused(self) -> None:
        """Another magic."""
        self.breaks("hello", "b'pycomnet", hello(b"pycomnet"), Mux(True))

    def test_other_version_is_refused_whatever_follows(self) -> None:
        """Another version, whatever follows it: a later one may have another map."""
        self.breaks("version", "version 2, this is version 1", hello(version=2), Mux(True))
        self.breaks("version", "version 65535", hello(version=0xFFFF)[:-1] + b"\xc1", Mux(True))

    def test_hello_on_another_channel_is_refused(self) -> None:
        """It is on channel 0."""
        self.breaks("hello", "channel 5", frame(HELLO, 5, hello()[9:]), Mux(True))

    def test_hello_without_a_map_is_refused(self) -> None:
        """What follows the version is a map."""
        start = b"PYCOMNET\x00\x01"
        for payload, shown in (
            (b"\xc1", "the hello: "),
            (b"\x93\x01\x02\x03", "a map, not list"),
            (b"\x84\xa6window", "the hello: "),
            (b"\xdf\xff\xff\xff\xff", "the hello: "),
            (b"\x81" * 3000, "the hello: "),
            (b"\xd6\x06\x00\x00\x00\x01", "the hello: "),
        ):
            self.breaks("hello", shown, frame(HELLO, 0, start + payload), Mux(True))

    def test_hello_values_of_wrong_type_or_range_are_refused(self) -> None:
        """Each number's type and range, the types of the rest."""
        numbers: dict[str, tuple[Any, ...]] = {
            "window": (1023, 1 << 31, -1, 0, 1 << 40, True, None, "1048576", 65536.0, [65536]),
            "frame": (1023, 1 << 31, -1, 0, True, None, b"65536", {}),
            "channels": (-1, 1 << 31, True, False, None, "1"),
        }
        for key, values in numbers.items():
            for value in values:
                self.breaks("hello", f"{key}: ", hello(**{key: value}), Mux(True))
        for value in ([], None, "x", 5):
            self.breaks("hello", "info: a map", hello(info=value), Mux(True))
        for value in ("key", 5, [b"key"], {}):
            self.breaks("hello", "credential: bytes", hello(credential=value), Mux(True))

    def test_refusal_never_shows_the_credential(self) -> None:
        """A message that goes back to the peer, and to logs, never has a credential in it."""
        error = failure(Mux(True), hello(credential="hunter2"))
        self.assertNotIn("hunter2", str(error))

    def test_refusals_message_is_short(self) -> None:
        """A message is short whatever came."""
        self.assertLess(len(failure(Mux(True), hello(window="w" * 60000)).message), 200)

    def test_hello_bounds_themselves_are_allowed(self) -> None:
        most = 0x7FFFFFFF
        self.assertIsNone(greeted(window=1024, frame=1024, channels=0).failed)
        self.assertIsNone(greeted(window=most, frame=most, channels=most).failed)

    def test_second_hello_is_refused(self) -> None:
        """A hello comes once."""
        self.breaks("hello", "second hello", hello())

    def test_hello_over_65536_bytes_is_refused_by_its_header(self) -> None:
        """A hello is at most 65 536 bytes, which shows in its header."""
        fits = hello(x="y" * 65000)
        fits += b"\x00" * (65536 + 9 - len(fits))
        mux = Mux(True)
        mux.receive_data((65536).to_bytes(4, "big") + fits[4:])
        self.assertIsNone(mux.failed)
        self.breaks("hello", "expected a hello", (65537).to_bytes(4, "big") + fits[4:9], Mux(True))
