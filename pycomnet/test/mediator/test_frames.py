"""The frames of a WebSocket: what wsproto would see, cut anywhere, whatever it is."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage

from pycomnet.mediator.frames import HEADER, NUMBER_UP_TO, Frames, TooLong, frame, mask
from pycomnet.test.properties import examples, given, settings

BIG = 1 << 63
CLOSED = "nothing is looked at after this"

#: The sizes at which a frame's head changes, and masking another way.
sizes = st.one_of(
    st.integers(0, 200), st.sampled_from([116, 117, NUMBER_UP_TO, 65526, 65527, 65536, 70000])
)
offsets = st.integers(0, (1 << 64) - 1)
ours = st.tuples(st.just("stream"), st.integers(0, 255), offsets, sizes)
theirs = st.one_of(
    st.tuples(st.just("text"), st.text(max_size=200)),
    st.tuples(st.just("ping"), st.binary(max_size=125)),
    st.tuples(st.just("short"), st.binary(max_size=HEADER.size - 1)),
    st.tuples(st.just("fragments"), st.lists(st.binary(max_size=50), min_size=2, max_size=4)),
)
messages = st.lists(st.one_of(ours, theirs), max_size=8)


def written(wire: Connection, message: Any, masked: bool) -> tuple[bytes, bool]:
    """A message's frames, and whether they are given on as they come."""
    kind = message[0]
    if kind == "stream":
        _, number, offset, size = message
        data = bytes(byte & 0xFF for byte in range(size))
        return b"".join(frame(number, offset, data, masked)), True
    if kind == "text":
        return wire.send(TextMessage(message[1])), False
    if kind == "ping":
        return wire.send(Ping(message[1])), False
    if kind == "short":
        return wire.send(BytesMessage(message[1])), False
    *first, last = message[1]
    parts = [wire.send(BytesMessage(part, message_finished=False)) for part in first]
    # A control frame may come between the fragments of a message.
    parts.append(wire.send(Pong(b"between")))
    return b"".join([*parts, wire.send(BytesMessage(last))]), False


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """Data, cut at these places."""
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[begin:end] for begin, end in itertools.pairwise(places)]


def taken(frames: Frames, data: bytes) -> list[Any]:
    """What comes of data, taken as both ends do."""
    whole = frames.whole(data)
    return list(frames.feed(data)) if whole is None else [whole]


def flat(event: Event) -> list[Any]:
    """What an event says, by byte or letter; the bytes of binary messages as numbers."""
    if isinstance(event, BytesMessage):
        return list(event.data)
    if isinstance(event, TextMessage):
        return [("text", letter) for letter in event.data]
    if isinstance(event, CloseConnection):
        return [("close", event.code), CLOSED]
    assert isinstance(event, (Ping, Pong))
    return [(type(event).__name__, bytes(event.payload))]


def role(masked: bool) -> ConnectionType:
    """Which end the one that reads is: a client masks, so that reads a server."""
    return ConnectionType.SERVER if masked else ConnectionType.CLIENT


class MaskTests(SynchronousTestCase):
    """Masking."""

    @given(st.binary(max_size=3000), st.binary(min_size=4, max_size=4), st.integers(0, 3000))
    def test_as_the_standard_has_it(self, data: bytes, key: bytes, at: int) -> None:
        """Byte i of the payload by byte i modulo 4 of the key; also from its middle on."""
        wanted = bytes(byte ^ key[(at + place) % 4] for place, byte in enumerate(data))
        self.assertEqual(bytes(mask(data, key, at)), wanted)
        self.assertEqual(bytes(mask(wanted, key, at)), data)

    def test_key_is_fresh(self) -> None:
        """No two frames have a key in common, as nobody may foresee it."""
        keys = {frame(0, 0, b"x", True)[0][2:6] for _ in range(100)}
        self.assertTrue(len(keys) > 95, keys)


class FramesTests(SynchronousTestCase):
    """Frames."""

    @settings(max_examples=examples(50), deadline=None)
    @given(messages, st.lists(st.integers(0, 1 << 20), max_size=20), st.booleans(), st.booleans())
    def test_frames_may_be_cut_anywhere(
        self, sent: list[Any], cuts: list[int], at_ends: bool, masked: bool
    ) -> None:
        """Streams are given on with their offsets; what is wsproto's gets there, byte by byte."""
        sender = Connection(role(not masked))
        frames = Frames(masked, BIG)
        whole, other, streams = b"", b"", []
        for message in sent:
            data, fast = written(sender, message, masked)
            whole += data
            if at_ends:
                cuts = [*cuts, len(whole)]
            if fast:
                streams.append((message[1], message[2], message[3]))
            else:
                other += data
        got, passed = [], b""
        for piece in pieces(whole, cuts):
            for number, offset, part in taken(frames, piece):
                if number < 0:
                    passed += bytes(part)
                else:
                    got += [(number, offset + at, byte) for at, byte in enumerate(bytes(part))]
        wanted = [
            (number, offset + at, at & 0xFF)
            for number, offset, size in streams
            for at in range(size)
        ]
        self.assertEqual(got, wanted)
        self.assertEqual(passed, other)

    @settings(max_examples=examples(50), deadline=None)
    @given(
        messages,
        st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), max_size=4),
        st.lists(st.integers(0, 1 << 20), max_size=8),
        st.booleans(),
    )
    def test_as_wsproto_alone(
        self, sent: list[Any], changes: list[tuple[int, int]], cuts: list[int], masked: bool
    ) -> None:
        """Whatever the bytes are: what is received, and what ends it, is what wsproto says."""
        sender = Connection(role(not masked))
        data = bytearray(b"".join(written(sender, message, masked)[0] for message in sent))
        for place, byte in changes:
            if data:
                data[place % min(len(data), 400)] = byte
        alone, behind = Connection(role(masked)), Connection(role(masked))
        wanted: list[Any] = []
        got: list[Any] = []
        frames = Frames(masked, BIG)
        cut = pieces(bytes(data), cuts)
        for piece in cut:
            alone.receive_data(piece)
            wanted += [one for event in alone.events() for one in flat(event)]
        for piece in cut:
            for number, _, part in taken(frames, piece):
                if got and got[-1] == CLOSED:
                    break
                if number < 0:
                    behind.receive_data(bytes(part))
                    got += [one for event in behind.events() for one in flat(event)]
                else:
                    got += bytes(part)
        bare = [[one for one in each if not isinstance(one, int)] for each in (got, wanted)]
        self.assertEqual(*bare)
        # Less the head of each message; what there is of one that is not complete comes later.
        self.assertTrue(len(got) - len(bare[0]) <= len(wanted) - len(bare[1]))

    def test_a_bad_head_is_refused_at_once(self) -> None:
        """wsproto gets the head of a frame that is not ours as it comes, byte by byte, and once."""
        for head in (b"\x89\x7e", b"\x8a\xff", b"\x83\x7f", b"\x09\x7e"):
            frames, wire = Frames(False, BIG), Connection(role(False))
            for number in range(2):
                for _, _, part in taken(frames, head[number : number + 1]):
                    wire.receive_data(bytes(part))
            self.assertIsInstance(next(iter(wire.events())), CloseConnection, head)
        text = b"\x81\x7e\x01\x00" + b"t" * 256
        frames = Frames(False, BIG)
        parts = [part for at in range(len(text)) for part in taken(frames, text[at : at + 1])]
        self.assertEqual(b"".join(bytes(part) for _, _, part in parts), text)

    def test_too_long_message_is_refused_by_its_head(self) -> None:
        """A message over the limit is refused by its head: nothing of it is waited for."""
        data = b"".join(frame(1, 0, bytes(100), False))
        self.assertEqual(len(list(Frames(False, 109).feed(data))), 1)
        self.assertRaises(TooLong, list, Frames(False, 108).feed(data[:12]))

    def test_data_within_a_frame_is_not_copied(self) -> None:
        """What lies within a frame is given on as it is."""
        frames = Frames(False, BIG)
        data = b"".join(frame(1, 0, bytes(1 << 20), False))
        list(frames.feed(data[:100]))
        middle = data[100:90_000]
        ((_, offset, piece),) = frames.feed(middle)
        self.assertIs(piece, middle)
        self.assertEqual(offset, 100 - 10 - HEADER.size)

    def test_short_message_alone_is_taken_in_one_step(self) -> None:
        """A short message that comes alone is taken in one step, and nothing else is."""
        for masked in (True, False):
            short = b"".join(frame(1, 7, b"value", masked))
            frames = Frames(masked, BIG)
            self.assertEqual(frames.whole(short), (1, 7, b"value"))
            for other in (
                short[:-1],
                short + b"\x82",
                short[1:],
                b"".join(frame(1, 7, bytes(117), masked)),
            ):
                self.assertIsNone(frames.whole(other))
            # Bytes within a longer message are its own, whatever they look like.
            long = b"".join(frame(1, 0, short * 40, masked))
            list(frames.feed(long[:100]))
            self.assertIsNone(frames.whole(short))
            self.assertIsNone(Frames(not masked, BIG).whole(short))
            self.assertIsNone(Frames(masked, HEADER.size).whole(short))
