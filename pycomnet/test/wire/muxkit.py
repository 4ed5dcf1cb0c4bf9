"""Frames written and read by hand, and muxes that have said hello: what the mux's tests share.

Nothing here uses the mux's own packing, so that both being wrong in the same way shows.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import ormsgpack
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.wire import mux as wire
from pycomnet.wire.mux import Limits, Mux, ProtocolError, Stream

if TYPE_CHECKING:
    from pycomnet.wire.mux import Event

TYPES = ("HELLO", "DATA", "MORE", "CREDIT", "OPEN", "END", "CLOSE", "PING", "PONG", "GOAWAY")
HELLO, DATA, MORE, CREDIT, OPEN, END, CLOSE, PING, PONG, GOAWAY = range(10)
RAW, FIRST, FIRST_MORE, OPEN_END = 1, 2, 4, 8
NORMAL, ERROR, RESULT = 0, 1, 2
COST = 64
WINDOW = 1 << 20
FRAGMENT = 1 << 16

#: The shortest payload of a MORE.
PIECE = b"m" * 256


def frame(ftype: int, channel: int = 0, payload: bytes = b"") -> bytes:
    """A frame as docs/protocol.rst has it."""
    return struct.pack(">IBI", len(payload), ftype, channel) + payload


def hello(magic: bytes = b"PYCOMNET", version: int = 1, **values: Any) -> bytes:
    """A hello frame with these values in its map."""
    return frame(HELLO, 0, magic + struct.pack(">H", version) + ormsgpack.packb(values))


def open_frame(
    channel: int, flags: int = 0, first: bytes = b"", purpose: bytes = b"channel"
) -> bytes:
    """An OPEN frame."""
    return frame(OPEN, channel, bytes([flags, len(purpose)]) + purpose + first)


def credit(channel: int, size: int) -> bytes:
    """A CREDIT frame."""
    return frame(CREDIT, channel, struct.pack(">I", size))


def close(channel: int, kind: int = NORMAL, payload: bytes = b"") -> bytes:
    """A CLOSE frame."""
    return frame(CLOSE, channel, bytes([kind]) + payload)


def frames(data: bytes) -> list[tuple[int, int, bytes]]:
    """Whole frames as type, channel and payload; anything else fails."""
    found = []
    while data:
        length, ftype, channel = struct.unpack_from(">IBI", data)
        assert len(data) >= 9 + length, f"{len(data)} bytes left of a frame of {9 + length}"
        found.append((ftype, channel, data[9 : 9 + length]))
        data = data[9 + length :]
    return found


def sent_types(mux: Mux) -> list[str]:
    """The names of the frames that the mux has to send now."""
    return [TYPES[ftype] for ftype, _, _ in frames(mux.data_to_send(1 << 30))]


def greeted(initiator: bool = False, limits: Limits | None = None, **values: Any) -> Mux:
    """A mux that has had a hello with these values and whose own has been written.

    By default it is the acceptor: its peer, the test, opens the odd channels.
    """
    mux = Mux(initiator, limits)
    mux.data_to_send()
    events = mux.receive_data(hello(**values))
    assert [event[0] for event in events] == [wire.EV_HELLO], events
    return mux


def pair(near: Limits | None = None, far: Limits | None = None) -> tuple[Mux, Mux]:
    """An initiator and an acceptor that have each other's hello."""
    initiator, acceptor = Mux(True, near), Mux(False, far)
    there, back = initiator.data_to_send(), acceptor.data_to_send()
    acceptor.receive_data(there)
    initiator.receive_data(back)
    return initiator, acceptor


def opened(mux: Mux, data: bytes) -> Stream:
    """Feed the mux the OPEN of a channel, perhaps with more; return its stream."""
    event = mux.receive_data(data)[0]
    assert event[0] == wire.EV_OPENED
    return event[1]


def whole(payload: bytes | memoryview) -> bytes:
    """The encoding of a value as an event has it: a memoryview's object is the decoded bytes."""
    if isinstance(payload, memoryview):
        value = payload.obj
        assert type(value) is bytes
        return b"\xc6" + struct.pack(">I", len(value)) + value
    return payload


def flat(events: Iterable[Event]) -> Iterator[Event]:
    """Events with each value of a run as one of its own; a run costs what its values do."""
    for event in events:
        if event[0] == wire.EV_RUN:
            _, stream, payloads, cost = event
            assert len(payloads) > 1
            assert cost == sum(len(payload) + COST for payload in payloads)
            for payload in payloads:
                yield wire.EV_DATA, stream, payload, len(payload) + COST
        else:
            yield event


def plain(events: Iterable[Event]) -> list[tuple[Any, ...]]:
    """Events that can be compared: streams as their ids, errors as their codes and messages."""
    found: list[tuple[Any, ...]] = []
    for event in flat(events):
        items: list[Any] = [event[0]]
        item: Any
        for item in event[1:]:
            if isinstance(item, Stream):
                item = item.id
            elif isinstance(item, ProtocolError):
                item = (item.code, item.message)
            elif isinstance(item, memoryview):
                item = whole(item)
            items.append(item)
        found.append(tuple(items))
    return found


def failure(mux: Mux, data: bytes) -> ProtocolError:
    """Feed the mux what breaks the protocol; return the error.

    It is the last event, all that is left to send is a GOAWAY that says the same, and what comes
    after it is not looked at.
    """
    events = mux.receive_data(data)
    assert events, "it was accepted without an event"
    assert events[-1][0] == wire.EV_FAILED, f"accepted: {plain(events)[-5:]}"
    error = events[-1][1]
    assert mux.failed is error
    left = frames(mux.data_to_send())
    assert [ftype for ftype, _, _ in left if ftype != HELLO] == [GOAWAY], left
    reason = ormsgpack.unpackb(left[-1][2])
    assert reason == {"code": error.code, "message": error.message[:4096]}, reason
    assert mux.receive_data(data) == [] and not mux.has_data()
    return error


def exchange(near: Mux, far: Mux) -> tuple[list[Event], list[Event]]:
    """Deliver what each has to send until both are quiet; the events at each."""
    at_near: list[Event] = []
    at_far: list[Event] = []
    while True:
        there, back = near.data_to_send(), far.data_to_send()
        if not there and not back:
            return at_near, at_far
        at_far += far.receive_data(there)
        at_near += near.receive_data(back)


def left_over(mux: Mux) -> list[object]:
    """Everything that a mux keeps although no channel is open; empty when all is well."""
    alive = [stream for stream in mux.scheduler.ready if stream.queue or stream.finish]
    kept = [
        mux.streams,
        mux.calls.pending,
        mux.calls.received,
        mux.scheduler.out,
        alive,
        mux.lacking(),
        mux.table.peer_open,
        mux.table.local_open,
    ]
    return [item for item in kept if item]


class HostileCase(SynchronousTestCase):
    """Tests of a peer that breaks the protocol."""

    def breaks(self, code: str, message: str, data: bytes, mux: Mux | None = None) -> None:
        """The bytes end the connection with this code, and the message has this in it."""
        error = failure(greeted() if mux is None else mux, data)
        self.assertEqual(error.code, code, error.message)
        self.assertIn(message, error.message)
        self.assertEqual(str(error), f"{error.code}: {error.message}")
