"""Every limit and a peer that breaks it: the error's code, and what its message names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ormsgpack

from pycomnet.test.wire.muxkit import (
    CLOSE,
    COST,
    CREDIT,
    DATA,
    END,
    ERROR,
    FIRST,
    FIRST_MORE,
    GOAWAY,
    MORE,
    OPEN,
    OPEN_END,
    PIECE,
    PING,
    PONG,
    RAW,
    RESULT,
    HostileCase,
    close,
    credit,
    failure,
    flat,
    frame,
    greeted,
    left_over,
    open_frame,
    opened,
    plain,
)
from pycomnet.wire import mux as wire
from pycomnet.wire.mux import Limits


class FrameTests(HostileCase):
    """Frames that are not well formed."""

    def test_frame_over_the_limit_is_refused_by_its_header(self) -> None:
        """A frame over the limit is refused by its header; at the limit it is not."""
        limits = Limits(frame=2000)
        for ftype in (DATA, MORE, OPEN, GOAWAY):
            mux = greeted(limits=limits)
            header = frame(ftype, 1, b"x" * 2001)[:9]
            message = "of 2001 bytes, the limit is 2000"
            self.breaks("frame", message, header, mux)
            mux = greeted(limits=limits)
            self.assertEqual(mux.receive_data(header[:5]), [])
            self.breaks("frame", message, header[5:], mux)
        mux = greeted(limits=limits)
        data = open_frame(1) + frame(DATA, 1, b"x" * 2000)
        self.assertEqual(plain(mux.receive_data(data))[1:], [(0, 1, b"x" * 2000, 2064)])

    def test_unknown_frame_types_are_refused(self) -> None:
        """Every type above the last."""
        for ftype in range(10, 256):
            self.breaks("frame", f"unknown frame type {ftype}", frame(ftype))

    def test_wrong_length_is_found_at_a_later_header(self) -> None:
        """A length that is not the payload's makes a later header one that can't be."""
        payload = ormsgpack.packb("some value")
        good = frame(DATA, 1, payload)
        for length in [*range(3 * len(good)), 65536]:
            if (length - len(payload)) % len(good) == 0:
                continue  # it swallows whole frames
            mux = greeted()
            opened(mux, open_frame(1))
            error = failure(mux, length.to_bytes(4, "big") + good[4:] + good * 4000)
            self.assertIn(error.code, ("frame", "channel", "hello", "window"))

    def test_malformed_open_is_refused(self) -> None:
        """OPEN's flags, its purpose, and what fits together."""
        more = b"m" * 256
        for flags, first in (
            (0x10, b""),
            (0x80 | FIRST, b"x"),
            (0xFF, more),
            (0, b"x"),
            (RAW, b"x"),
            (OPEN_END, b"x"),
            (FIRST_MORE, b""),
            (FIRST_MORE, more),
            (FIRST_MORE | FIRST | RAW, more),
            (FIRST_MORE | FIRST | OPEN_END, more),
            (FIRST_MORE | FIRST, more[1:]),
            (FIRST_MORE | FIRST, b""),
        ):
            self.breaks(
                "frame", f"flags {flags} and {len(first)} bytes", open_frame(1, flags, first)
            )
        for payload in (b"", b"\x00", b"\x00\x01", b"\x02\x09exec"):
            self.breaks("frame", "too short", frame(OPEN, 1, payload))
        self.breaks("frame", r"'caf\xc3\xa9' is not ASCII", open_frame(1, purpose=b"caf\xc3\xa9"))
        for flags in range(16):
            if not flags & FIRST_MORE:
                first = b"x" if flags & FIRST else b""
                self.assertIsNone(opened(greeted(), open_frame(1, flags, first)).app)

    def test_more_under_256_bytes_or_raw_is_refused(self) -> None:
        """A fragment that more follow has at least 256 bytes, and none are on a raw channel."""
        for size in (0, 1, 255):
            self.breaks(
                "frame",
                f"MORE of {size} bytes, at least 256",
                open_frame(1) + frame(MORE, 1, bytes(size)),
            )
        self.breaks("frame", "raw channel 1", open_frame(1, RAW) + frame(MORE, 1, PIECE))

    def test_frames_of_fixed_size_refuse_others(self) -> None:
        """CREDIT, END, PING and PONG have just one size."""
        for data, message in (
            (frame(CREDIT, 1), "CREDIT of 0 bytes"),
            (frame(CREDIT, 1, b"123"), "CREDIT of 3 bytes"),
            (frame(CREDIT, 1, b"12345"), "CREDIT of 5 bytes"),
            (frame(END, 1, b"x"), "END with 1 bytes"),
            (frame(PING, 0), "PING is 8 bytes"),
            (frame(PING, 0, b"1234567"), "PING is 8 bytes"),
            (frame(PING, 0, b"123456789"), "PING is 8 bytes"),
            (frame(PING, 1, b"12345678"), "on channel 0"),
            (frame(PONG, 0, b"1234567"), "PONG is 8 bytes"),
            (frame(PONG, 3, b"12345678"), "on channel 0"),
        ):
            self.breaks("frame", message, open_frame(1) + data)

    def test_malformed_close_is_refused(self) -> None:
        """CLOSE's kind, and that NORMAL has nothing behind it."""
        for payload in (b"", b"\x03", b"\xff", b"\x00x"):
            self.breaks("frame", "CLOSE with ", open_frame(1) + frame(CLOSE, 1, payload))

    def test_malformed_goaway_is_refused(self) -> None:
        """GOAWAY is a map of two strings on channel 0."""
        for channel, payload in (
            (0, b""),
            (0, b"\xc1"),
            (0, b"\x80"),
            (0, ormsgpack.packb({"code": "exit"})),
            (0, ormsgpack.packb({"code": "exit", "message": 5})),
            (0, ormsgpack.packb({"code": [], "message": ""})),
            (0, b"\x93"),
            (0, ormsgpack.packb([1])),
            (1, ormsgpack.packb({"code": "exit", "message": ""})),
        ):
            self.breaks("frame", "GOAWAY", frame(GOAWAY, channel, payload))


class ChannelTests(HostileCase):
    """Channel ids, and frames that a channel can't have any more."""

    def test_open_with_wrong_parity_or_order_is_refused(self) -> None:
        """Parity, order, reuse, and 0; for both ends."""
        for initiator, first, bad in (
            (False, 5, (0, 2, 6, 5, 3, 1, 0xFFFFFFFE)),
            (True, 6, (0, 1, 7, 6, 4, 2, 0xFFFFFFFF)),
        ):
            for id in bad:
                mux = greeted(initiator)
                opened(mux, open_frame(first))
                self.breaks("channel", f"OPEN of channel {id} after {first}", open_frame(id), mux)
        self.breaks("channel", "ids are odd", open_frame(2))
        self.breaks("channel", "ids are even", open_frame(1), greeted(True))
        opened(greeted(), open_frame(0xFFFFFFFF))

    def test_frame_for_a_channel_never_opened_is_refused(self) -> None:
        """No frame for an id that nobody opened."""
        for name, make in self.frames_for():
            for id in (0, 1, 2, 0xFFFFFFFF):
                self.breaks("channel", f"{name} for channel {id}, which was never", make(id))

    def test_data_for_a_channel_that_is_over_is_refused(self) -> None:
        """No DATA and MORE for a channel that is over; the rest may have been under way."""
        for name, make in self.frames_for():
            mux = greeted()
            mux.receive_data(open_frame(1) + close(1))
            mux.data_to_send()
            if name in ("DATA", "MORE"):
                self.breaks("channel", f"{name} for channel 1, which is over", make(1), mux)
            else:
                self.assertEqual((mux.receive_data(make(1)), left_over(mux)), ([], []))

    @staticmethod
    def frames_for() -> Iterator[tuple[str, Any]]:
        yield "DATA", lambda id: frame(DATA, id, b"x")
        yield "MORE", lambda id: frame(MORE, id, PIECE)
        yield "CREDIT", lambda id: credit(id, 1)
        yield "END", lambda id: frame(END, id)
        yield "CLOSE", close

    def test_data_after_end_is_refused(self) -> None:
        """Nothing of a value comes after END."""
        for data, message in (
            (frame(DATA, 1, b"x"), "data on channel 1 after its end"),
            (frame(MORE, 1, PIECE), "data on channel 1 after its end"),
            (frame(END, 1), "second END on channel 1"),
            (close(1, RESULT, b"\xc0"), "result on channel 1 after its end"),
        ):
            self.breaks("channel", message, open_frame(1) + frame(END, 1) + data)
            self.breaks("channel", message, open_frame(1, OPEN_END) + data)

    def test_end_or_result_within_a_value_is_refused(self) -> None:
        """Neither END nor a result comes before a value is complete; an error may."""
        start = open_frame(1) + frame(MORE, 1, PIECE)
        self.breaks("frame", "END on channel 1 within a value", start + frame(END, 1))
        result = close(1, RESULT, b"\xc0")
        self.breaks("frame", "a result on channel 1 within a value", start + result)
        events = plain(greeted().receive_data(start + close(1, ERROR, b"\x80")))
        self.assertEqual(events[1:], [(wire.EV_CLOSED, 1, ERROR, b"\x80")])

    def test_peers_channels_over_the_limit_are_refused(self) -> None:
        """Channels that the peer has open at a time; its own closed ones make room."""
        mux = greeted(limits=Limits(channels=3))
        mux.receive_data(b"".join(open_frame(id) for id in (1, 3, 5)))
        mux.receive_data(close(3) + open_frame(7))
        self.assertEqual(sorted(mux.streams), [1, 5, 7])
        self.breaks("channels", "over 3 open channels", open_frame(9), mux)

    def test_our_channels_do_not_count_for_the_peer(self) -> None:
        """What this end opened takes no room of the peer's."""
        mux = greeted(limits=Limits(channels=1))
        for _ in range(5):
            mux.open("")
        opened(mux, open_frame(1))
        self.assertIsNone(mux.failed)


class WindowTests(HostileCase):
    """Credit that the peer does not have, or gives too much of."""

    def test_one_byte_over_the_credit_is_refused(self) -> None:
        """One byte too many in DATA, MORE or OPEN; the message has the window and the excess."""
        limits = Limits(window=1024)
        message = "channel 1: 1 bytes over its credit (the window is 1024)"
        most = 1024 - COST
        start = open_frame(1)
        for make in (
            lambda size: start + frame(DATA, 1, bytes(size)),
            lambda size: start + frame(MORE, 1, bytes(size)),
            lambda size: open_frame(1, FIRST, bytes(size)),
            lambda size: open_frame(1, FIRST | FIRST_MORE, bytes(size)),
            lambda size: start + frame(DATA, 1, bytes(300)) + frame(DATA, 1, bytes(size - 364)),
            lambda size: start + frame(MORE, 1, bytes(300)) + frame(DATA, 1, bytes(size - 364)),
            lambda size: start + frame(MORE, 1, bytes(300)) + frame(MORE, 1, bytes(size - 364)),
        ):
            mux = greeted(limits=limits)
            mux.receive_data(make(most))
            self.assertIsNone(mux.failed)
            self.breaks("window", message, make(most + 1), greeted(limits=limits))

    def test_empty_frames_use_the_window_up(self) -> None:
        """Frames without a byte use the window up as well."""
        mux = greeted(limits=Limits(window=1024))
        data = open_frame(1) + frame(DATA, 1) * (1024 // COST)
        self.assertEqual(len([*flat(mux.receive_data(data))]), 1 + 1024 // COST)
        self.breaks("window", "64 bytes over", frame(DATA, 1), mux)

    def test_run_beyond_the_window_gives_what_credit_covers(self) -> None:
        """Of values that come together, those that credit covers are given, as many as they are."""
        for fit in (1, 2, 5):
            mux = greeted(limits=Limits(window=1024))
            sizes = [(1024 - fit * COST) // fit] * fit + [300]
            stream = opened(mux, open_frame(1))
            data = b"".join(frame(DATA, 1, bytes(size)) for size in sizes)
            events = mux.receive_data(data)
            self.assertEqual(events[-1][0], wire.EV_FAILED)
            given = [event for event in flat(events) if event[0] == wire.EV_DATA]
            self.assertEqual([len(event[2]) for event in given], sizes[:fit])
            self.assertEqual([event[1] for event in given], [stream] * fit)

    def test_dropped_data_counts_against_the_window(self) -> None:
        """What is dropped counts too, or the peer could send for ever."""
        mux = greeted(limits=Limits(window=1024))
        mux.close(opened(mux, open_frame(1)))
        mux.data_to_send()
        data = frame(DATA, 1, bytes(300))
        self.assertEqual(mux.receive_data(data + data), [])
        self.breaks("window", "channel 1", data, mux)
        for data in (frame(DATA, 1, bytes(2000)), frame(MORE, 1, bytes(2000))):
            mux = greeted(limits=Limits(window=1024))
            mux.close(opened(mux, open_frame(1)))
            self.breaks("window", "channel 1", data, mux)

    def test_credit_over_2_31_is_refused(self) -> None:
        """Credit never rises above 2**31 - 1, not by adding it up either."""
        most = 0x7FFFFFFF - 1024
        mux = greeted(window=1024)
        opened(mux, open_frame(1) + credit(1, most))
        self.assertIsNone(mux.failed)
        self.breaks("window", "channel 1: credit over 2147483647", credit(1, 1), mux)
        self.breaks("window", "credit over", open_frame(1) + credit(1, 0xFFFFFFFF))


class ValueTests(HostileCase):
    """A value that is put together from fragments."""

    def test_fragmented_value_over_the_limit_is_refused(self) -> None:
        """Over the limit in the last fragment or before it, in OPEN's as well."""
        limits = Limits(value=1000)
        message = "channel 1: a value over 1000 bytes"
        half = frame(MORE, 1, bytes(500))
        first = open_frame(1, FIRST | FIRST_MORE, bytes(500))
        for data in (
            open_frame(1) + half + frame(DATA, 1, bytes(501)),
            open_frame(1) + half + half + frame(MORE, 1, PIECE),
            first + frame(DATA, 1, bytes(501)),
            open_frame(1) + frame(MORE, 1, bytes(1001)),
        ):
            self.breaks("value", message, data, greeted(limits=limits))
        data = first + frame(DATA, 1, bytes(500)) + half + frame(DATA, 1, bytes(500))
        mux = greeted(limits=limits)
        self.assertEqual(len(mux.receive_data(data)), 3)
        self.assertIsNone(mux.failed)


class ControlTests(HostileCase):
    """Answers that the peer makes this end queue and does not read."""

    def test_unread_pongs_are_bounded(self) -> None:
        """PONGs up to the limit, then no more; reading them makes room."""
        ping = frame(PING, 0, b"12345678")
        mux = greeted(limits=Limits(control=17 * 100))
        for _ in range(3):
            mux.receive_data(ping * 100)
            self.assertIsNone(mux.failed)
            mux.data_to_send()
        mux.receive_data(ping * 100)
        self.breaks("control", "over 1700 bytes of responses", ping, mux)

    def test_unread_close_answers_are_bounded(self) -> None:
        """So do the answers to CLOSE."""
        data = b"".join(open_frame(id) + close(id) for id in range(1, 2001, 2))
        self.breaks("control", "responses", data, greeted(limits=Limits(control=5000)))

    def test_unread_credit_is_bounded(self) -> None:
        """And CREDIT: this end's user, who gives it, sees nothing; the next bytes fail."""
        mux = greeted(limits=Limits(window=1024, control=1300))
        stream = opened(mux, open_frame(1))
        for _ in range(100):
            [event] = mux.receive_data(frame(DATA, 1, bytes(500)))
            assert event[0] == wire.EV_DATA
            mux.consumed(stream, event[3])
        self.assertIsNone(mux.failed)
        mux.receive_data(frame(DATA, 1, bytes(500)))
        mux.consumed(stream, 564)
        self.assertIsNotNone(mux.failed)
        self.breaks("control", "over 1300 bytes", b"", mux)

    def test_unread_credit_for_dropped_values_is_bounded(self) -> None:
        """The same while a CLOSE waits behind what the peer gives no credit for."""
        mux = greeted(limits=Limits(window=1024, control=1300), window=1024)
        stream = opened(mux, open_frame(1))
        mux.send(stream, bytes(2000))
        mux.close(stream)
        data = frame(DATA, 1, bytes(500)) * 101
        self.breaks("control", "over 1300 bytes", data, mux)

    def test_a_million_pings_are_refused_by_default(self) -> None:
        """A million pings are not answered, let alone kept."""
        mux = greeted()
        lump = frame(PING, 0, b"12345678") * 10000
        lumps = 0
        while mux.failed is None:
            mux.receive_data(lump)
            lumps += 1
        self.assertEqual(lumps, 7)
        self.assertLess(sum(map(len, mux.scheduler.out)), 200)
