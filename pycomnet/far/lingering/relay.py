"""Passes frames between a far side and its program, and keeps what another program needs; no I/O.

The relay passes frames on unchanged, both ways. So credit, and everything that credit bounds, is
between the two ends. The relay keeps what another program needs to continue where one has stopped:
the state of each channel, and each frame of the far side whose value no program has taken.
docs/architecture/factory.rst says why that is enough.
"""

from collections import deque

from ...wire.frames import (
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
    RESULT,
    U32,
    frame_cost,
    frame_name,
    run_cost,
)
from ...wire.mux import Limits, Mux, ProtocolError
from ...wire.values import PureCodec
from . import channelstates as states
from .framing import RelayedFrameReader, frame, read_credit, read_hello

#: Bytes of values longer than a window that are kept until they are taken, for all channels of a
#: far side together. Shorter values are always kept: credit bounds them.
MAX_KEPT = 64 << 20
#: A value of the program is held until it is complete if it is so much shorter than a window: the
#: cost of its frames. So its sender never lacks the credit for the rest.
HELD_MARGIN = 4096

_plain = PureCodec()
#: The first byte of a CLOSE that has a result.
_GOOD = bytes(bytearray((RESULT,)))
#: What a frame does to its channel: one of the program's, and one of the far side's.
_PROGRAM_EVENTS = {END: states.END, CLOSE: states.CLOSE}
_FAR_EVENTS = {END: states.FAR_END, CLOSE: states.FAR_CLOSE}


class Kept(object):
    """A kept frame of the far side.

    :ivar order: its place among all frames of the far side.
    :ivar number: the number of its value in its channel, from 1 on; 0 for an end.
    :ivar data: the frame.
    :ivar long: whether the value is longer than a window.
    """

    __slots__ = ("order", "number", "data", "long")

    def __init__(self, order, number, data, long):
        self.order = order
        self.number = number
        self.data = data
        self.long = long

    @property
    def cost(self):
        """Its cost in credit."""
        return run_cost(len(self.data), 1) if self.number else 0


class ChannelRecord(object):
    """What is known of a channel.

    :ivar state: its state in the table :data:`~.channelstates.CHANNEL`.
    :ivar near: whether a program opened it.
    :ivar credit: the program's credit.
    :ivar far_credit: the far side's credit.
    :ivar kept: the far side's frames whose values no program has taken, in order.
    :ivar count: the number of complete values that the far side has sent.
    :ivar taken: how many of them a program has taken.
    :ivar size: bytes of the far side's value that is not complete yet.
    :ivar unkept: the number of a value that is too long to be kept; else 0.
    :ivar swallow: credit from the program that the far side has had already: it is not passed on.
    :ivar held: frames of a value of the program that is not complete yet.
    :ivar begun: whether the beginning of such a value was passed on.
    :ivar done: whether the program has seen its end, and everything before that. It may say so
        before the frame that ends it has passed the relay.
    :ivar known: whether the program that is attached knows it.
    """

    #: the attributes that a copy of the relay needs (:meth:`Relay.snapshot`)
    COPIED = (
        "id",
        "purpose",
        "raw",
        "near",
        "credit",
        "far_credit",
        "swallow",
        "state",
        "known",
    )

    __slots__ = COPIED + (
        "kept",
        "count",
        "taken",
        "size",
        "unkept",
        "held",
        "held_size",
        "begun",
        "done",
    )

    def __init__(self, id, purpose, raw, near, credit, far_credit):
        self.id = id
        self.purpose = purpose
        self.raw = raw
        self.near = near
        self.credit = credit
        self.far_credit = far_credit
        self.kept = deque()
        self.count = self.taken = self.size = self.unkept = self.swallow = self.held_size = 0
        self.held = []
        self.state = states.OPEN
        self.begun = self.done = False
        self.known = True

    @property
    def cost(self):
        """The cost of all kept frames."""
        return sum([kept.cost for kept in self.kept])

    @property
    def is_for_program(self):
        """Whether the program, or another one, has anything to do with it."""
        return self.state != states.CLOSED

    @property
    def is_over(self):
        """Whether neither end sends anything more that counts."""
        return self.state not in states.PROGRAM_SENDS and self.state not in states.FAR_SENDS


class Relay(object):
    """Between a far side and the program that uses it.

    The caller writes what is in :attr:`to_far` and :attr:`to_program`, and empties them.

    :param max_kept: bytes of values longer than a window that are kept.
    :param keeps: whether another program may continue. If not, everything is for the one program
        that is attached, and nothing is kept.
    :ivar far: the far side's hello, once it has arrived.
    :ivar attached: whether a program is attached.
    :ivar goodbye: whether a program has sent GOAWAY, which ends the far side.
    :ivar long_kept: bytes that are kept of values longer than a window.
    :ivar answers: for each id from :meth:`ask`: None until the answer has arrived; then the
        encoding of the value, or no bytes if the far side refused.
    """

    def __init__(self, max_kept=MAX_KEPT, keeps=True):
        self.keeps = keeps
        self.limits = Limits()
        self.far = None
        self.to_far = [Mux(True, self.limits).data_to_send()]
        self.to_program = []
        self.records = {}
        self.attached = not keeps
        self.goodbye = False
        self.long_kept = 0
        self.answers = {}
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

    def attach(self):
        """A program is attached. What it has to be sent first is in :attr:`to_program`.

        :returns: its ``state``, as in docs/protocol.rst, "The factory".
        """
        if not self.keeps:
            return {"channels": [], "next": self._next_id, "last": 0}
        self.attached = True
        self._reader = RelayedFrameReader(self.limits.frame)
        channels = []
        again = []
        for record in self.records.values():
            record.known = record.is_for_program
            if not record.known:
                continue
            window = record.far_credit + record.cost
            # The last program may have given credit for pieces of a value that is sent again.
            record.swallow = max(window - self.limits.window, 0)
            again += record.kept
            channels.append(
                [
                    record.id,
                    record.purpose,
                    record.raw,
                    record.state in (states.ENDED, states.OVER),
                    record.credit,
                    window,
                    record.taken,
                ]
            )
        again.sort(key=lambda kept: kept.order)
        self.to_program = [self._far_hello] + [kept.data for kept in again] + [self._parting]
        return {"channels": channels, "next": self._next_id, "last": self._last_far_id}

    def detach(self):
        """The program is gone: drop its values that are not complete."""
        self.attached = False
        self.to_program = []
        for record in self.records.values():
            record.held, record.held_size = [], 0
            if record.begun and record.state != states.FAR_CLOSED:
                self._cut(record, "the program was gone before it had sent all of a value")
            elif record.unkept:
                self._cut(record, "a value was too long to be kept for another program")
            record.begun = False
            # The program may have taken values that it had not given credit for yet.
            credit = self.limits.window - record.far_credit - record.cost
            if credit > 0 and record.state in states.FAR_SENDS:
                record.far_credit += credit
                self.to_far.append(frame(CREDIT, record.id, U32.pack(credit)))

    def _cut(self, record, message):
        """End a channel that no program can continue, at both ends."""
        error = _plain.encode({"code": "interrupted", "message": message})
        closing = frame(CLOSE, record.id, bytearray((ERROR,)) + error)
        if self._step(record, states.INTERRUPT) == states.CLOSE_BOTH:
            self.to_far.append(closing)
        first = min(record.unkept or record.count + 1, record.count + 1)
        while record.kept and not 0 < record.kept[-1].number < first:
            self._drop(record.kept.pop())
        record.unkept = 0
        self._keep(record, 0, closing)

    def _step(self, record, event):
        """Take a channel to its next state.

        :returns: what is to be done, as in the table; None for nothing.
        :raises ProtocolError: the event can't happen in its state.
        """
        row = states.CHANNEL[record.state]
        if event not in row:
            raise ProtocolError(
                "channel",
                "channel %d: %s, but %s"
                % (record.id, states.EVENTS[event], states.STATES[record.state]),
            )
        record.state, effect = row[event]
        if record.state in (states.CLOSED, states.GONE):
            record.unkept = 0
            while record.kept:
                self._drop(record.kept.pop())
            if record.state == states.GONE:
                del self.records[record.id]
        return effect

    def drop_part(self):
        """The far side is gone: drop its frame that is not complete."""
        self._far_reader.drop_part()

    # -- a copy, at the far side -----------------------------------------------------------------

    def snapshot(self):
        """The state for a copy of this relay. From the same bytes the copy does the same.

        :returns: bytes for :meth:`restore` of a relay that keeps nothing.
        """
        records = [
            [getattr(record, key) for key in ChannelRecord.COPIED]
            for record in self.records.values()
        ]
        counters = [self.far["window"], self._max_held, self._next_id, self._last_far_id]
        return _plain.encode([list(ChannelRecord.COPIED), counters, records])

    def restore(self, snapshot):
        """Become the copy of a relay.

        :param snapshot: the other relay's :meth:`snapshot`.
        :raises ValueError: it is of another version of this package, which was replaced while the
            factory was running.
        """
        copied, counters, records = _plain.decode(snapshot)
        if copied != list(ChannelRecord.COPIED):
            raise ValueError("the snapshot is of another version of pycomnet")
        window, self._max_held, self._next_id, self._last_far_id = counters
        self.far = {"window": window}
        self.to_far = []
        self._far_reader.begin()
        for values in records:
            record = ChannelRecord(*values[:6])
            for key, value in zip(ChannelRecord.COPIED, values):
                setattr(record, key, value)
            self.records[record.id] = record

    def ask(self, purpose, value=None):
        """Ask the far side something for the factory, by a channel that no program sees.

        :returns: the channel's id, the key of the answer in :attr:`answers`.
        """
        id = self._next_id
        self._next_id += 2
        head = bytearray((FIRST | OPEN_END, len(purpose))) + purpose.encode("ascii")
        self.to_far.append(frame(OPEN, id, bytes(head) + _plain.encode(value)))
        self.answers[id] = None
        return id

    # -- what was taken --------------------------------------------------------------------------

    def confirm(self, taken, done=()):
        """The program has taken values: they need not be kept any more.

        :param taken: a map: for each channel the number of its values, from the first on.
        :param done: channels that are over, and whose end the program has seen.
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
                # The frame that ends it may still be on its way.
                record.done = True
                self._settle(record)

    def _settle(self, record):
        if (record.done or not self.keeps) and states.SEE in states.CHANNEL[record.state]:
            self._step(record, states.SEE)

    # -- from the program ------------------------------------------------------------------------

    def from_program(self, data):
        """Bytes from the program.

        :raises ProtocolError: the program broke the protocol. What precedes that was passed on.
        """
        reader = self._reader
        for kind, id, whole in reader.feed(data):
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
            elif kind != PONG:  # the relay answers the far side's pings itself
                self.goodbye = self.goodbye or kind == GOAWAY
                self.to_far.append(whole)
        if reader.problem is not None:
            raise reader.problem

    def _check_hello(self, whole):
        hello = read_hello(whole)
        for key in ("window", "frame", "channels"):
            expected = getattr(self.limits, key)
            if hello[key] != expected:
                raise ProtocolError(
                    "hello", "%s: a factory needs %d, not %d" % (key, expected, hello[key])
                )

    def _program_data(self, kind, id, whole):
        record = self.records.get(id)
        if record is None:
            self._not_there(kind, id)
        if record.state not in states.PROGRAM_SENDS:
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

    def _forward(self, record, whole):
        record.credit -= run_cost(len(whole), 1)
        self.to_far.append(whole)

    def _program_credit(self, id, whole):
        credit = read_credit(whole)
        record = self.records.get(id)
        if record is None or record.state not in states.FAR_SENDS:
            return
        swallowed = min(credit, record.swallow)
        record.swallow -= swallowed
        credit -= swallowed
        if credit:
            record.far_credit += credit
            if record.far_credit > MAX_CREDIT:
                raise ProtocolError("window", "channel %d: credit over %d" % (id, MAX_CREDIT))
            self.to_far.append(frame(CREDIT, id, U32.pack(credit)))

    def _program_end(self, kind, id, whole):
        record = self.records.get(id)
        if record is None or self._step(record, _PROGRAM_EVENTS[kind]) is None:
            return
        # If a CLOSE interrupts a value, the value is dropped.
        record.held, record.held_size, record.begun = [], 0, False
        self.to_far.append(whole)
        self._settle(record)

    # -- from the far side -----------------------------------------------------------------------

    def from_far(self, data):
        """Bytes from the far side.

        :raises ProtocolError: the far side broke the protocol.
        """
        reader = self._far_reader
        for kind, id, whole in reader.feed(data):
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
        if reader.problem is not None:
            raise reader.problem

    def _tell(self, record, whole):
        if self.attached and record.known:
            self.to_program.append(whole)

    def _far_data(self, kind, id, whole):
        record = self.records.get(id)
        if record is not None and record.state in states.FAR_UNAWARE:
            return
        if record is None or record.state not in states.FAR_SENDS:
            self._not_there(kind, id)
        record.far_credit -= run_cost(len(whole), 1)
        self._came(record, whole, kind == DATA)
        self._tell(record, whole)

    def _not_there(self, kind, id):
        raise ProtocolError(
            "channel", "%s for channel %d, which is not there" % (frame_name(kind), id)
        )

    def _came(self, record, whole, last):
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

    def _keep(self, record, number, whole, is_long=False):
        if not self.keeps:
            return
        self._order += 1
        record.kept.append(Kept(self._order, number, whole, is_long))
        if is_long:
            self.long_kept += len(whole)

    def _drop(self, kept):
        if kept.long:
            self.long_kept -= len(kept.data)

    def _far_end(self, kind, id, whole):
        record = self.records.get(id)
        if record is None:
            if id in self.answers and kind == CLOSE:
                good = whole[HEADER_SIZE : HEADER_SIZE + 1] == _GOOD
                self.answers[id] = whole[HEADER_SIZE + 1 :] if good else b""
            return
        effect = self._step(record, _FAR_EVENTS[kind])
        if effect == states.KEEP:
            self._keep(record, 0, whole)
        if effect is not None:
            self._tell(record, whole)
        self._settle(record)

    # -- both ------------------------------------------------------------------------------------

    def _open(self, id, whole, near):
        start = HEADER_SIZE + 2
        head = bytearray(whole[HEADER_SIZE:start])
        if self.far is None or len(head) < 2 or len(whole) < start + head[1]:
            raise ProtocolError("frame", "OPEN of %d bytes" % (len(whole) - HEADER_SIZE))
        last = self._next_id - 2 if near else self._last_far_id
        if id % 2 != near or id <= last:
            raise ProtocolError("channel", "OPEN of channel %d after %d" % (id, last))
        flags, size = head
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
            if flags & OPEN_END:
                self._step(record, states.END)
            return record
        self._last_far_id = id
        record.far_credit -= cost
        if flags & FIRST:
            # To another program, which knows the channel, this is as if it had come as DATA.
            self._came(record, frame(MORE if more else DATA, id, first), not more)
        if flags & OPEN_END:
            self._step(record, states.FAR_END)
            self._keep(record, 0, frame(END, id))
        return record
