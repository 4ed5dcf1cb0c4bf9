"""What lies between a far side and the program that uses it, so that another can go on; no I/O.

Frames go through as they are, both ways, and so do credit and everything that it bounds: the two
ends keep the protocol with each other. What is kept here is what another program needs to go on
where one has stopped: of each channel its state, and every frame of the far side's whose value no
program has taken. docs/architecture.rst, "The factory", says why that is enough.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from pycomnet.factory.framing import RelayedFrameReader, frame, read_credit, read_hello
from pycomnet.wire.frames import (
    CLOSE,
    CREDIT,
    DATA,
    END,
    ERROR,
    FIRST,
    FIRST_MORE,
    GOAWAY,
    HEADER_SIZE,
    HELLO,
    MAX_CREDIT,
    MORE,
    OPEN,
    OPEN_END,
    PING,
    PONG,
    RAW,
    U32,
    frame_cost,
    name,
    run_cost,
)
from pycomnet.wire.mux import Limits, Mux, ProtocolError
from pycomnet.wire.values import PureCodec

#: Bytes of values longer than a window that are kept until they are taken, of all channels of a far
#: side together. A shorter one is always kept: credit bounds those.
MAX_KEPT = 64 << 20
#: What a window has more than a value may have that is held back until all of it has come: the cost
#: of its frames, so that its sender never lacks the credit for the rest.
HELD_MARGIN = 4096

_plain = PureCodec()


@attrs.frozen
class Kept:
    """A frame of the far side's that is kept.

    :ivar order: its place among all that came.
    :ivar number: of the value that it is a piece of: the channel's first is 1; 0 for an end.
    :ivar data: the frame.
    :ivar long: whether the value is longer than a window.
    """

    order: int
    number: int
    data: bytes
    long: bool

    @property
    def cost(self) -> int:
        """What it costs of the channel's credit."""
        return run_cost(len(self.data), 1) if self.number else 0


@attrs.define(eq=False)
class ChannelRecord:
    """What is kept of a channel.

    :ivar near: whether the program opened it.
    :ivar credit: what the program may still send.
    :ivar far_credit: what the far side may still send.
    :ivar kept: the far side's frames that nobody has taken, in order.
    :ivar count: the far side's whole values that have come.
    :ivar taken: how many of them a program has taken.
    :ivar size: bytes of the far side's value that is not complete yet.
    :ivar unkept: the number of a value that is too long to be kept; else 0.
    :ivar swallow: credit of the program's that the far side has had before.
    :ivar held: the frames of a value of the program's that is not complete yet.
    :ivar begun: whether the far side has got the beginning of such a value.
    :ivar ended: whether the program has ended its half.
    :ivar closed: whether the program has closed it by itself.
    :ivar far_ended: whether the far side has ended its half, or closed it.
    :ivar far_closed: whether it has closed it.
    :ivar pending: whether its answer to a CLOSE that was sent here is still to come.
    :ivar over: whether the program says no more on it.
    :ivar done: whether the program has seen its end, and all that was before that.
    :ivar known: whether the program that is there knows it.
    """

    id: int
    purpose: str
    raw: bool
    near: bool
    credit: int
    far_credit: int
    kept: deque[Kept] = attrs.field(factory=deque)
    count: int = 0
    taken: int = 0
    size: int = 0
    unkept: int = 0
    swallow: int = 0
    held: list[bytes] = attrs.field(factory=list)
    held_size: int = 0
    begun: bool = False
    ended: bool = False
    closed: bool = False
    far_ended: bool = False
    far_closed: bool = False
    pending: bool = False
    over: bool = False
    done: bool = False
    known: bool = True

    @property
    def cost(self) -> int:
        """What all that is kept costs."""
        return sum(kept.cost for kept in self.kept)


class Relay:
    """Between a far side and the program that uses it.

    Whoever does the I/O writes what is in :attr:`to_far` and :attr:`to_program` and empties them.

    :param max_kept: bytes of long values that are kept.
    :param keeps: whether another program may go on. If not, what the far side says is the one
        program's that comes, which is told nothing of channels before: to it all begins.
    :ivar far: the far side's hello, once it has come.
    :ivar attached: whether a program is there.
    :ivar goodbye: whether the program has said that this is the end.
    :ivar long_kept: bytes that are kept of values longer than a window.
    """

    def __init__(self, max_kept: int = MAX_KEPT, keeps: bool = True) -> None:
        self.keeps = keeps
        self.limits = Limits()
        self.far: dict[str, Any] | None = None
        self.to_far: list[bytes] = [Mux(True, self.limits).data_to_send()]
        self.to_program: list[bytes] = []
        self.records: dict[int, ChannelRecord] = {}
        self.attached = not keeps
        self.goodbye = False
        self.long_kept = 0
        self._max_kept = max_kept
        self._max_held = 0
        self._far_hello = b""
        self._parting = b""
        self._far_reader = RelayedFrameReader(self.limits.frame)
        self._reader = RelayedFrameReader(self.limits.frame)
        self._order = 0
        self._next_id = 1
        self._last_far_id = 0

    # -- programs come and go --------------------------------------------------------------------

    def attach(self) -> dict[str, Any]:
        """A program comes; what it is to be sent is in :attr:`to_program`.

        :returns: what it has to know before its connection begins (docs/protocol.rst, "The
            factory").
        """
        if not self.keeps:
            return {"channels": [], "next": self._next_id, "last": 0}
        self.attached = True
        self._reader = RelayedFrameReader(self.limits.frame)
        channels = []
        again: list[Kept] = []
        for record in self.records.values():
            record.known = not record.closed
            if record.closed:
                continue
            window = record.far_credit + record.cost
            # Credit may have been given for pieces of a value that comes again.
            record.swallow = max(window - self.limits.window, 0)
            again += record.kept
            channels.append(
                [
                    record.id,
                    record.purpose,
                    record.raw,
                    record.ended,
                    record.credit,
                    window,
                    record.taken,
                ]
            )
        again.sort(key=lambda kept: kept.order)
        self.to_program = [self._far_hello, *(kept.data for kept in again), self._parting]
        return {"channels": channels, "next": self._next_id, "last": self._last_far_id}

    def detach(self) -> None:
        """The program is gone: what it had begun to say and not finished is dropped."""
        self.attached = False
        self.to_program = []
        for record in self.records.values():
            record.held, record.held_size = [], 0
            if record.begun and not record.far_closed and not record.over:
                self._cut(record, "the program was gone before it had sent all of a value")
            elif record.unkept:
                self._cut(record, "a value was too long to be kept for another program")
            record.begun = False
            # The program may have taken what it had not given credit for yet.
            credit = self.limits.window - record.far_credit - record.cost
            if credit > 0 and not record.far_ended and not record.closed:
                record.far_credit += credit
                self.to_far.append(frame(CREDIT, record.id, U32.pack(credit)))

    def _cut(self, record: ChannelRecord, message: str) -> None:
        """End a channel that nobody can go on with, at both ends."""
        error = _plain.encode({"code": "interrupted", "message": message})
        closing = frame(CLOSE, record.id, bytes([ERROR]) + error)
        if not record.far_closed and not record.closed:
            self.to_far.append(closing)
            record.pending = not record.far_ended
        first = min(record.unkept or record.count + 1, record.count + 1)
        while record.kept and not 0 < record.kept[-1].number < first:
            self._drop(record.kept.pop())
        if not record.far_closed:
            record.over = True
        record.far_ended = record.far_closed = True
        record.unkept = 0
        if not record.closed:
            self._keep(record, 0, closing)

    def confirm(self, taken: Mapping[int, int], done: Iterable[int] = ()) -> None:
        """The program has taken values.

        :param taken: how many of each channel's, from its first.
        :param done: channels that are over, and of which it wants to know nothing more.
        """
        for id, number in taken.items():
            record = self.records.get(id)
            if record is None or number <= record.taken:
                continue
            record.taken = number
            while record.kept and 0 < record.kept[0].number <= number:
                self._drop(record.kept.popleft())
            if record.unkept <= number:
                record.unkept = 0
        for id in done:
            record = self.records.get(id)
            if record is not None:
                # What makes it over may still be on its way.
                record.done = True
                self._settle(record)

    def _settle(self, record: ChannelRecord) -> None:
        if record.over and (record.done or not self.keeps):
            self._forget(record)

    # -- what the program says -------------------------------------------------------------------

    def from_program(self, data: bytes) -> None:
        """Bytes from the program.

        :raises ProtocolError: it broke the protocol.
        """
        for kind, id, whole in self._reader.feed(data):
            if kind in (DATA, MORE):
                self._program_data(kind, id, whole)
            elif kind == CREDIT:
                self._program_credit(id, whole)
            elif kind == OPEN:
                self._open(id, whole, True)
                self.to_far.append(whole)
            elif kind in (END, CLOSE):
                self._program_end(kind, id, whole)
            elif kind == HELLO:
                self._check_hello(whole)
            elif kind != PONG:  # the far side's pings are answered here
                self.goodbye = self.goodbye or kind == GOAWAY
                self.to_far.append(whole)

    def _check_hello(self, whole: bytes) -> None:
        hello = read_hello(whole)
        for key in ("window", "frame", "channels"):
            expected = getattr(self.limits, key)
            if hello[key] != expected:
                raise ProtocolError("hello", f"{key}: a factory needs {expected}, not {hello[key]}")

    def _program_data(self, kind: int, id: int, whole: bytes) -> None:
        record = self.records.get(id)
        if record is None:
            raise ProtocolError("channel", f"{name(kind)} for channel {id}, which is not there")
        if record.closed or record.ended or record.over:
            return
        if kind == DATA and not record.held:
            self._forward(record, whole)
            record.begun = False
            return
        record.held.append(whole)
        record.held_size += len(whole)
        if kind == DATA or record.begun or record.held_size > self._max_held:
            held, record.held, record.held_size = record.held, [], 0
            for one in held:
                self._forward(record, one)
            record.begun = kind == MORE

    def _forward(self, record: ChannelRecord, whole: bytes) -> None:
        record.credit -= run_cost(len(whole), 1)
        self.to_far.append(whole)

    def _program_credit(self, id: int, whole: bytes) -> None:
        credit = read_credit(whole)
        record = self.records.get(id)
        if record is None or record.far_ended or record.closed:
            return
        swallowed = min(credit, record.swallow)
        record.swallow -= swallowed
        credit -= swallowed
        if credit:
            record.far_credit += credit
            if record.far_credit > MAX_CREDIT:
                raise ProtocolError("window", f"channel {id}: credit over {MAX_CREDIT}")
            self.to_far.append(frame(CREDIT, id, U32.pack(credit)))

    def _program_end(self, kind: int, id: int, whole: bytes) -> None:
        record = self.records.get(id)
        if record is None or record.closed or record.over:
            return
        # A CLOSE may come within a value, which is dropped then.
        record.held, record.held_size, record.begun = [], 0, False
        self.to_far.append(whole)
        if kind == END:
            record.ended = True
            record.over = record.far_ended
            self._settle(record)
        elif record.far_closed:
            record.over = True  # it answers
            self._settle(record)
        else:
            record.closed = record.over = True
            record.unkept = 0
            record.pending = not record.far_ended
            while record.kept:
                self._drop(record.kept.pop())
            self._forget(record)

    # -- what the far side says ------------------------------------------------------------------

    def from_far(self, data: bytes) -> None:
        """Bytes from the far side.

        :raises ProtocolError: it broke the protocol.
        """
        for kind, id, whole in self._far_reader.feed(data):
            if kind in (DATA, MORE):
                self._far_data(kind, id, whole)
            elif kind == CREDIT:
                credit = read_credit(whole)
                record = self.records.get(id)
                if record is not None:
                    record.credit += credit
                    self._tell(record, whole)
            elif kind == OPEN:
                self._tell(self._open(id, whole, False), whole)
            elif kind in (END, CLOSE):
                self._far_end(kind, id, whole)
            elif kind == PING:
                self.to_far.append(frame(PONG, 0, whole[HEADER_SIZE:]))
            elif kind == HELLO:
                self.far = read_hello(whole)
                self._far_hello = whole
                self._max_held = max(self.far["window"] // 2 - HELD_MARGIN, 0)
                if self.attached:
                    self.to_program.append(whole)
            else:
                if kind == GOAWAY:
                    self._parting = whole
                if self.attached:
                    self.to_program.append(whole)

    def _tell(self, record: ChannelRecord, whole: bytes) -> None:
        if self.attached and record.known:
            self.to_program.append(whole)

    def _far_data(self, kind: int, id: int, whole: bytes) -> None:
        record = self.records.get(id)
        if record is not None and record.pending:
            return  # the CLOSE has not got there yet
        if record is None or record.far_ended:
            raise ProtocolError("channel", f"{name(kind)} for channel {id}, which is not there")
        record.far_credit -= run_cost(len(whole), 1)
        self._came(record, whole, kind == DATA)
        self._tell(record, whole)

    def _came(self, record: ChannelRecord, whole: bytes, last: bool) -> None:
        """Keep a piece of a value."""
        if not self.keeps:
            return
        number = record.count + 1
        record.size += len(whole)
        is_long = record.size > self.limits.window
        if not record.unkept and is_long and self.long_kept + len(whole) > self._max_kept:
            record.unkept = number
            while record.kept and record.kept[-1].number == number:
                self._drop(record.kept.pop())
        if record.unkept != number:
            self._keep(record, number, whole, is_long)
        if last:
            record.count, record.size = number, 0

    def _keep(
        self, record: ChannelRecord, number: int, whole: bytes, is_long: bool = False
    ) -> None:
        if not self.keeps:
            return
        self._order += 1
        record.kept.append(Kept(self._order, number, whole, is_long))
        if is_long:
            self.long_kept += len(whole)

    def _drop(self, kept: Kept) -> None:
        if kept.long:
            self.long_kept -= len(kept.data)

    def _far_end(self, kind: int, id: int, whole: bytes) -> None:
        record = self.records.get(id)
        if record is None:
            return
        if record.pending:
            record.pending = False
            if record.closed:
                self._tell(record, whole)
                self._forget(record)
            return
        if record.far_closed:
            raise ProtocolError("channel", f"{name(kind)} for channel {id}, which it has closed")
        record.far_ended = True
        record.far_closed = kind == CLOSE
        record.over = record.ended
        self._keep(record, 0, whole)
        self._tell(record, whole)
        self._settle(record)

    # -- both ------------------------------------------------------------------------------------

    def _open(self, id: int, whole: bytes, near: bool) -> ChannelRecord:
        start = HEADER_SIZE + 2
        if self.far is None or len(whole) < start or len(whole) < start + whole[start - 1]:
            raise ProtocolError("frame", f"OPEN of {len(whole) - HEADER_SIZE} bytes")
        last = self._next_id - 2 if near else self._last_far_id
        if id % 2 != near or id <= last:
            raise ProtocolError("channel", f"OPEN of channel {id} after {last}")
        flags, size = whole[HEADER_SIZE], whole[start - 1]
        purpose = whole[start : start + size].decode("ascii", "replace")
        record = self.records[id] = ChannelRecord(
            id, purpose, bool(flags & RAW), near, self.far["window"], self.limits.window
        )
        first = whole[start + size :]
        cost = frame_cost(len(first)) if flags & FIRST else 0
        more = bool(flags & FIRST_MORE)
        if near:
            self._next_id = id + 2
            record.credit -= cost
            record.begun = more
            record.ended = bool(flags & OPEN_END)
            return record
        self._last_far_id = id
        record.far_credit -= cost
        if flags & FIRST:
            # Another program knows that the channel is there: to it this is as DATA would be.
            self._came(record, frame(MORE if more else DATA, id, first), not more)
        if flags & OPEN_END:
            record.far_ended = True
            self._keep(record, 0, frame(END, id))
        return record

    def _forget(self, record: ChannelRecord) -> None:
        """Let it go, unless the far side still has to answer."""
        record.closed = True
        while record.kept:
            self._drop(record.kept.pop())
        if not record.pending:
            self.records.pop(record.id, None)
