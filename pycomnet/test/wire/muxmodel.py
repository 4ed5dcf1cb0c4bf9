"""A model of two muxes and the bytes between them: what must hold whatever the two ends do.

:class:`Link` has two honest ends, each with a user. Its methods are what users, transports and the
system in between may do, in any order; each checks what it sees against the model:

- values arrive complete, once and in order, and those that were taken back do not;
- no end of a channel is told that it ended or closed before it has all that was sent before;
- on the wire, each sender keeps to its credit and to the order of frames, counted here anew;
- what a channel can make its user hold is bounded by the window;
- neither end ever finds that the other broke the protocol.
"""

from __future__ import annotations

import struct
from collections import deque

from pycomnet.test.wire.muxkit import (
    CLOSE,
    COST,
    CREDIT,
    DATA,
    END,
    ERROR,
    FIRST,
    FIRST_MORE,
    HELLO,
    MORE,
    NORMAL,
    OPEN,
    OPEN_END,
    RESULT,
    flat,
    frames,
    left_over,
    plain,
    whole,
)
from pycomnet.wire import mux as wire
from pycomnet.wire.mux import Limits, LocalError, Mux, Stream

PING = b"ping...."

#: What :meth:`Link.operate` does: what moves values, which should be more likely, and the rest.
TRAFFIC = ("send", "send", "write", "deliver", "consume")
REST = (
    *("open", "open-first", "open-raw", "open-end", "prefix", "now", "unsend", "ping"),
    *("end", "close", "error", "result", "want", "unwant", "congested", "free"),
)


class Side:
    """One end of one channel, as its user knows it."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        #: what the user sent and did not take back
        self.sent: list[bytes] = []
        #: tokens of those that may still be taken back, with their places in ``sent``
        self.waiting: dict[object, int] = {}
        self.ended = False
        #: the kind and payload of the user's close
        self.closed: tuple[int, bytes] | None = None
        #: what came, and what of it the user has not consumed
        self.received: list[bytes] = []
        self.unconsumed: deque[int] = deque()
        #: the peer's end or close has been told
        self.told: str | None = None


class Sender:
    """One direction of one channel on the wire: what its sender may send."""

    def __init__(self, credit: int, raw: bool) -> None:
        self.credit = credit
        self.raw = raw
        self.inside = False
        self.ended = self.closed = False

    def sends(self, ftype: int, payload: bytes, frame_limit: int) -> None:
        assert len(payload) <= frame_limit, f"a frame of {len(payload)} bytes"
        assert not self.closed, f"{ftype} after CLOSE"
        assert not self.ended or ftype in (CREDIT, CLOSE), f"{ftype} after END"
        if ftype in (DATA, MORE):
            self.credit -= len(payload) + COST
            assert self.credit >= 0, f"{-self.credit} bytes over the credit"
            assert ftype == DATA or (len(payload) >= 256 and not self.raw)
            self.inside = ftype == MORE
        elif ftype == END:
            assert not self.inside, "END within a value"
            self.ended = True
        elif ftype == CLOSE:
            assert payload[0] != RESULT or not (self.inside or self.ended), "a result too late"
            self.closed = True


class End:
    """One of the two muxes, its users, and the bytes that are on their way to it."""

    def __init__(self, initiator: bool, limits: Limits) -> None:
        self.mux = Mux(initiator, limits)
        self.limits = limits
        self.sides: dict[int, Side] = {}
        self.senders: dict[int, Sender] = {}
        #: all that it has written
        self.said: list[bytes] = []
        self.to_come = b""
        #: the credit that is in them: where its frame ends, for which channel, how much
        self.credits: deque[tuple[int, int, int]] = deque()
        self.written = self.arrived = 0
        self.said_hello = False
        self.pings = self.pongs = 0


class Link:
    """Two ends that have said nothing yet.

    :param limits: of the initiator and of the acceptor.
    """

    def __init__(self, *limits: Limits) -> None:
        self.ends = [End(True, limits[0]), End(False, limits[1])]
        self.counter = 0

    def other(self, end: End) -> End:
        return self.ends[self.ends[0] is end]

    def side(self, end: End, number: int) -> Side | None:
        """One of the end's channels, those that are over too, by any number."""
        sides = list(end.sides.values())
        return sides[-1 - number % len(sides)] if sides else None

    def value(self, size: int) -> bytes:
        """Bytes that are like no other value's."""
        self.counter += 1
        return (b"%d:" % self.counter + b"v" * size)[: max(size, 8)]

    def operate(self, name: str, who: int, which: int, size: int) -> None:
        """One operation on the self."""
        end = self.ends[who]
        side = self.side(end, which)
        if name.startswith("open"):
            first = None if name == "open" else size
            self.open(end, first, name == "open-raw", name == "open-end")
        elif name == "ping":
            self.ping(end)
        elif name == "congested":
            end.mux.scheduler.congested = True
        elif name == "free":
            end.mux.scheduler.congested = False
        elif name == "write":
            if not end.mux.scheduler.congested:
                self.write(end, size)
        elif name == "deliver":
            self.deliver(end, size)
        elif side is None:
            pass
        elif name == "send":
            self.send(end, side, size)
        elif name == "prefix":
            self.send(end, side, size, prefix=True)
        elif name == "now":
            self.send_now(end, side, size)
        elif name == "unsend":
            self.unsend(end, side)
        elif name == "end":
            self.end(end, side)
        elif name in ("want", "unwant"):
            self.want(end, side, name == "want")
        elif name == "consume":
            self.consume(end, side)
        else:
            self.close(end, side, {"close": NORMAL, "error": ERROR, "result": RESULT}[name])

    # -- what users do ---------------------------------------------------------------------------

    def open(self, end: End, size: int | None, raw: bool, ended: bool) -> None:
        mux = end.mux
        open_now = sum(stream.local for stream in mux.streams.values())
        first = None if size is None else self.value(size)
        try:
            stream = mux.open("channel", first, raw, ended)
        except LocalError:
            assert mux.peer is None or open_now >= mux.peer["channels"]
            return
        assert mux.peer is not None and open_now < mux.peer["channels"]
        side = end.sides[stream.id] = Side(stream)
        if first is not None:
            side.sent.append(first)
        side.ended = ended

    def send(self, end: End, side: Side, size: int, prefix: bool = False) -> None:
        value = self.value(size)
        token = object()
        try:
            if prefix:
                gone = end.mux.send(side.stream, value[3:], token, value[:3])
            else:
                gone = end.mux.send(side.stream, value, token)
        except LocalError:
            assert side.ended or side.closed or side.told == "closed"
            return
        assert not side.ended and not side.closed and side.told != "closed"
        if not gone:
            side.waiting[token] = len(side.sent)
        side.sent.append(value)

    def send_now(self, end: End, side: Side, size: int) -> None:
        value = self.value(size)
        data = end.mux.immediate(side.stream, value)
        if data is not None:
            assert not end.mux.has_data()
            side.sent.append(value)
            self.on_the_wire(end, data)

    def unsend(self, end: End, side: Side) -> None:
        for token, place in reversed(side.waiting.items()):
            if end.mux.unsend(side.stream, token):
                del side.waiting[token], side.sent[place]
                for other, later in side.waiting.items():
                    side.waiting[other] = later - (later > place)
                return

    def end(self, end: End, side: Side) -> None:
        end.mux.end(side.stream)
        side.ended = True

    def close(self, end: End, side: Side, kind: int) -> None:
        payload = b"" if kind == NORMAL else self.value(20)
        over = side.stream.id not in end.mux.streams
        overrides = kind == ERROR and bool(side.stream.queue)
        try:
            end.mux.close(side.stream, kind, payload)
        except LocalError:
            assert kind == RESULT and side.ended and not side.closed and not over
            return
        if side.closed is None or overrides:
            side.closed = (kind, payload)

    def consume(self, end: End, side: Side) -> None:
        if side.unconsumed:
            end.mux.consumed(side.stream, side.unconsumed.popleft())

    def want(self, end: End, side: Side, wanted: bool) -> None:
        end.mux.demand_read(side.stream, wanted)

    def ping(self, end: End) -> None:
        end.mux.ping(PING)
        end.pings += 1

    # -- what transports do ----------------------------------------------------------------------

    def write(self, end: End, limit: int) -> None:
        """Take what the mux has to send and put it on the wire."""
        self.on_the_wire(end, end.mux.data_to_send(limit))
        sent, end.mux.scheduler.sent = end.mux.scheduler.sent, []
        for token in sent:
            [side] = [side for side in end.sides.values() if token in side.waiting]
            del side.waiting[token]

    def on_the_wire(self, end: End, data: bytes) -> None:
        other = self.other(end)
        end.said.append(data)
        for ftype, id, payload in frames(data):
            other.written += 9 + len(payload)
            if not end.said_hello:
                assert ftype == HELLO
                end.said_hello = True
                continue
            assert ftype != HELLO
            if ftype == OPEN:
                assert len(payload) <= other.limits.frame
                flags, size = payload[:2]
                raw = end.mux.streams[id].raw if id in end.mux.streams else bool(flags & 1)
                for one, its_peer in ((end, other), (other, end)):
                    one.senders[id] = Sender(its_peer.limits.window, raw)
                if flags & FIRST:
                    first = payload[2 + size :]
                    kind = MORE if flags & FIRST_MORE else DATA
                    end.senders[id].sends(kind, first, other.limits.frame)
                end.senders[id].ended = bool(flags & OPEN_END)
            elif id:
                end.senders[id].sends(ftype, payload, other.limits.frame)
                if ftype == CREDIT:
                    (size,) = struct.unpack(">I", payload)
                    assert size >= end.limits.window // 2, f"a crumb of credit: {size}"
                    other.credits.append((other.written, id, size))
        other.to_come += data

    def deliver(self, end: End, size: int) -> None:
        """Let that many bytes arrive."""
        data, end.to_come = end.to_come[:size], end.to_come[size:]
        end.arrived += len(data)
        while end.credits and end.credits[0][0] <= end.arrived:
            _, id, credit = end.credits.popleft()
            end.senders[id].credit += credit
        for event in flat(end.mux.receive_data(data)):
            if event[0] == wire.EV_OPENED:
                assert event[1].id not in end.sides
                end.sides[event[1].id] = Side(event[1])
            elif event[0] == wire.EV_DATA:
                self.check_data(end, event[1], whole(event[2]), event[3])
            elif event[0] == wire.EV_END:
                self.check_over(end, event[1].id, "ended")
            elif event[0] == wire.EV_CLOSED:
                self.check_over(end, event[1].id, "closed", (event[2], event[3]))
            elif event[0] == wire.EV_PONG:
                assert event[1] == PING
                end.pongs += 1
                assert end.pongs <= end.pings
            else:
                assert event[0] == wire.EV_HELLO, plain([event])

    def check_data(self, end: End, stream: Stream, payload: bytes, cost: int) -> None:
        side = end.sides[stream.id]
        assert side.told is None, f"a value after the peer {side.told}"
        assert side.closed is None, "a value after the user closed the channel"
        side.received.append(payload)
        side.unconsumed.append(cost)
        assert sum(side.unconsumed) <= end.limits.window
        self.check_prefix(side, self.other(end).sides[stream.id])

    @staticmethod
    def check_prefix(side: Side, peer: Side, whole: bool = False) -> None:
        received, sent = side.received, peer.sent
        if side.stream.raw:
            received, sent = [b"".join(received)], [b"".join(sent)]
            right = sent[0] == received[0] if whole else sent[0].startswith(received[0])
        else:
            right = sent == received if whole else sent[: len(received)] == received
        assert right, f"received {received}, sent {sent}"

    def check_over(
        self, end: End, id: int, how: str, close: tuple[int, bytes] | None = None
    ) -> None:
        side, peer = end.sides[id], self.other(end).sides[id]
        assert side.told != "closed" and (how == "closed" or side.told is None)
        side.told = how
        if close is None:
            assert peer.ended
        else:
            assert peer.closed == close, f"{peer.closed} came as {close}"
        if side.closed is None and (close is None or close[0] != ERROR):
            self.check_prefix(side, peer, whole=True)

    # -- in the end ------------------------------------------------------------------------------

    def settle(self) -> None:
        """Let all arrive and be received, until nothing moves any more; see that all has come."""
        for _ in range(1000):
            moved = False
            for end in self.ends:
                end.mux.scheduler.congested = False
                for side in end.sides.values():
                    self.want(end, side, True)
                    while side.unconsumed:
                        self.consume(end, side)
                        moved = True
                self.write(end, 1 << 20)
                other = self.other(end)
                moved = moved or bool(other.to_come)
                self.deliver(other, 1 << 30)
            if not moved:
                break
        else:
            raise AssertionError("it never comes to rest")
        for end in self.ends:
            assert end.pongs == end.pings
            for id, side in end.sides.items():
                peer = self.other(end).sides[id]
                if side.closed is None and peer.closed is None:
                    self.check_prefix(side, peer, whole=True)
                    assert (side.told == "ended") == peer.ended
                if peer.closed is not None and side.closed is None:
                    assert side.told == "closed" or (side.ended and side.told == "ended")

    def finish(self, closer: int) -> None:
        """Close whatever is open, from one end or both; see that nothing is left."""
        for number, end in enumerate(self.ends):
            if closer in (number, 2):
                for side in end.sides.values():
                    if side.stream.id in end.mux.streams:
                        self.close(end, side, NORMAL)
        self.settle()
        for end in self.ends:
            assert left_over(end.mux) == [], left_over(end.mux)
            assert not end.to_come
