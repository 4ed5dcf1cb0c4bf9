"""Decides what is written next: short values at once, long ones in fragments, in turns."""

try:
    from _collections import deque  # the package itself imports much more
except ImportError:
    from collections import deque

from .assembly import view
from .frames import (
    DATA,
    END,
    FRAGMENT,
    FRAME_COST,
    HEADER_SIZE,
    MAX_VALUE,
    MIN_FRAGMENT,
    MIN_FRAME,
    MORE,
    frame_cost,
    frame_room,
    pack,
)
from .stream import LocalError, ProtocolError

#: How many channels with long values take turns at a time; and after how many turns (a megabyte)
#: each makes room for a channel that waits.
LONG_AT_A_TIME = 4
LONG_TURNS = 16
#: A value shorter than this is copied behind its frame's header.
COPIED = 1024


class Scheduler(object):
    """Keeps the frames to be written, and the channels that wait for credit or for their turn.

    :param table: the connection's :class:`~.table.ChannelTable`.
    :param control: bytes of responses that may wait for a peer that does not read them.
    """

    def __init__(self, table, control):
        self._table = table
        self._control_limit = control
        #: bytes of responses in ``out``
        self._control = 0
        #: what is written next: frames, and long payloads behind their header
        self.out = []
        #: the channels that have something to send, in the order of their turns
        self.ready = deque()
        #: id -> turns it has had: the channels with long values that take turns now
        self.turns = {}
        #: channels with long values that wait until they may take turns
        self.waiting = deque()
        #: tokens of queued values that the user has got for writing; the user empties it
        self.sent = []
        #: True while the transport takes no more: then values and END and CLOSE frames stay in the
        #: channels' queues, so that the limits of the channels bound those too
        self.congested = False
        #: why sending has ended: a ProtocolError
        self.failed = None
        #: False before the peer's hello: until then only the hello is written
        self.started = False
        #: the longest payload of a frame, in bytes: of values, and on raw channels
        self.fragment = self.raw_fragment = FRAGMENT

    # -- may it be sent now ----------------------------------------------------------------------

    def may_send(self, stream, size):
        """Whether a frame with a payload of ``size`` bytes may be written now.

        It may if it need not wait for credit, for its channel's queue or for the transport.
        The three methods below have copies of this, as a call would show in a benchmark's row.
        """
        return (
            size <= (self.raw_fragment if stream.raw else self.fragment)
            and frame_cost(size) <= stream.credit
            and stream.sending
            and not stream.queue
            and not self.congested
        )

    def is_idle(self):
        """Whether nothing waits to be written before a new frame."""
        return not self.out and not self.ready

    # -- sending ---------------------------------------------------------------------------------

    def send(self, stream, payload, token=None, prefix=b""):
        """Send a value's encoding, or raw bytes.

        :param prefix: is sent before the payload, which saves copying a long one behind it.
        :param token: is put into :attr:`sent` once the user has got the last of the payload.
        :returns: True if all is in ``out`` already: then the token is not used. False if it waits
            for credit or for its turn.
        :raises LocalError: the channel is closed for sending, or the value is too long.
        """
        if not stream.sending:
            raise LocalError("channel %d is closed for sending" % stream.id)
        size = len(payload)
        # Inlined (may_send, frame_cost) for the row "values of 5 kB" of the multiplexer alone.
        cost = size + FRAME_COST
        if (
            size <= self.fragment
            and cost <= stream.credit
            and not prefix
            and not stream.queue
            and not self.congested
        ):
            stream.credit -= cost
            if size < COPIED:
                self.out.append(pack(size, DATA, stream.id) + payload)
            else:
                self.out.append(pack(size, DATA, stream.id))
                self.out.append(payload)
            return True
        size += len(prefix)
        if size > MAX_VALUE and not stream.raw:
            raise LocalError("a value of %d bytes, the limit is %d" % (size, MAX_VALUE))
        stream.queue.append([payload, -len(prefix), token, prefix])
        self.enqueue(stream)
        return False

    def send_now(self, stream, payload):
        """Send a short value if it need not wait: the fast path of :meth:`send`.

        :returns: the number of pieces in ``out``; 0 if :meth:`send` has to be called.
        """
        size = len(payload)
        # Inlined (may_send, frame_cost) for the row "small dicts, near to far".
        cost = size + FRAME_COST
        if (
            cost > stream.credit
            or not stream.sending
            or stream.queue
            or size > MIN_FRAME
            or self.congested
        ):
            return 0
        stream.credit -= cost
        if size != stream.head_size:
            stream.head_size = size
            stream.head = pack(size, DATA, stream.id)
        out = self.out
        out.append(stream.head + payload)
        return len(out)

    def immediate(self, stream, payload):
        """The frame of a short value, if it may be written at once: the fastest path.

        :returns: its bytes, which the caller must write next; None if the caller has to use
            :meth:`send`, because something is to be written before it or credit is short.
        """
        size = len(payload)
        # Inlined (may_send, is_idle, frame_cost) for the row "round trip of a small value".
        cost = size + FRAME_COST
        if (
            stream.credit < cost
            or self.out
            or self.ready
            or stream.queue  # what is queued goes first
            or size > self.fragment
            or not stream.sending
            or self.congested
        ):
            return None
        stream.credit -= cost
        return pack(size, DATA, stream.id) + payload

    def unsend(self, stream, token):
        """Take back a queued value of which nothing has been sent yet.

        :returns: whether it was taken back.
        """
        queue = stream.queue
        for index, item in enumerate(queue):
            if item[2] is token:
                if item[1] + len(item[3]):
                    return False
                del queue[index]
                if queue:
                    self.enqueue(stream)  # the credit may be enough for the next value
                else:
                    self.finish(stream)
                return True
        return False

    def respond(self, frame):
        """Queue a response to the peer, up to the limit on responses."""
        self._control += len(frame)
        if self._control > self._control_limit:
            raise ProtocolError(
                "control",
                "over %d bytes of responses wait to be read by the peer" % self._control_limit,
            )
        self.out.append(frame)

    def enqueue(self, stream):
        """Let a channel with queued data take turns, if it has credit for some of the data."""
        if not stream.ready and frame_room(stream.credit) > 0:
            stream.ready = True
            self.ready.append(stream)

    def finish(self, stream, out=None):
        """Send the waiting END or CLOSE if nothing is queued before it; return its size.

        :param out: the list to append it to; default: :attr:`out`.
        """
        if stream.finish is None or stream.queue or self.failed is not None:
            return 0
        if out is None:
            if self.congested:
                if not stream.ready:
                    stream.ready = True
                    self.ready.append(stream)
                return 0
            out = self.out
        ftype, payload = stream.finish
        stream.finish = None
        out.append(pack(len(payload), ftype, stream.id) + payload)
        if ftype == END:
            stream.end_sent = True
        else:
            stream.close_sent = True
        if stream.ended:
            self.forget(stream)
        return HEADER_SIZE + len(payload)

    def forget(self, stream):
        """Remove a channel that is over in both directions."""
        self._table.remove(stream)
        stream.sending = False
        stream.queue.clear()
        stream.finish = None
        stream.stop_receiving()
        if stream.ready:
            for ready in (self.ready, self.waiting):
                self._prune(ready)

    def _prune(self, ready):
        """Remove channels that are over from a queue, if most of its entries may be over."""
        streams = self._table.streams
        if len(ready) > 2 * len(streams) + 64:
            alive = [other for other in ready if other.id in streams or other.id in self.turns]
            ready.clear()
            ready.extend(alive)

    def stop(self, error):
        """The connection is over: send nothing more, except what is in :attr:`out`."""
        if self.failed is None:
            self.failed = error
        self.ready.clear()
        self.waiting.clear()
        self.turns.clear()

    # -- what is to be written -------------------------------------------------------------------

    def has_data(self):
        """Whether there is something to write now."""
        return bool(self.out or (self.ready and self.started))

    def data_to_send(self, limit=4 * FRAGMENT):
        """What to write next.

        :param limit: about the most bytes. Fragments of long values are added, one from each
            channel in turn, until that is reached.
        :returns: bytes; empty if there is nothing.
        """
        parts = self.parts_to_send(limit)
        if len(parts) == 1:
            return parts[0]
        return b"".join(parts)

    def take_out(self):
        """The frames that wait for nothing: what :meth:`parts_to_send` begins with."""
        parts, self.out = self.out, []
        self._control = 0
        return parts

    def parts_to_send(self, limit=4 * FRAGMENT):
        """As :meth:`data_to_send`, as a list of pieces."""
        parts = self.out
        self._control = 0
        ready = self.ready
        if not ready:
            if parts:
                self.out = []
            return parts
        self.out = []
        size = 0
        for part in parts:
            size += len(part)
        # At least one fragment each time, so that an endless flow of small values does not
        # starve a long one.
        while ready:
            stream = ready.popleft()
            stream.ready = False
            taken = self._take_fragment(stream, parts)
            size += taken
            if taken and stream.queue and frame_room(stream.credit) > 0:
                stream.ready = True
                self._goes_on(stream)
            elif self.turns and self.turns.pop(stream.id, 0):
                self._next_long()
            if size >= limit:
                break
        return parts

    def _goes_on(self, stream):
        """Queue a channel that has had its turn and has more to send.

        Only :data:`LONG_AT_A_TIME` channels with long values take turns. If a hundred did, the peer
        would have to hold nearly all of each value before the first is complete.
        """
        turns = self.turns
        had = turns.get(stream.id, 0)
        if had < LONG_TURNS and (had or len(turns) < LONG_AT_A_TIME):
            turns[stream.id] = had + 1
            self.ready.append(stream)
        elif had and not self.waiting:
            self.ready.append(stream)
        else:
            self.waiting.append(stream)
            if had:
                del turns[stream.id]
                self._next_long()

    def _next_long(self):
        """Let the next of the channels with long values take turns."""
        if self.waiting:
            stream = self.waiting.popleft()
            self.turns[stream.id] = 1
            self.ready.append(stream)

    def _take_fragment(self, stream, parts):
        """Append the next frame of the channel to ``parts``; return its size, or 0."""
        queue = stream.queue
        if not queue:
            return self.finish(stream, parts)
        item = queue[0]
        payload, offset, token, prefix = item
        left = len(payload) - offset
        room = frame_room(stream.credit)
        most = self.raw_fragment if stream.raw else self.fragment
        take = left if left < most else most
        if take > room:
            if room < MIN_FRAGMENT:
                return 0
            take = room
        last = take == left
        ftype = DATA if last or stream.raw else MORE
        parts.append(pack(take, ftype, stream.id))
        end = offset + take
        if offset < 0:
            # A fragment is longer than any prefix.
            parts.append(prefix)
            offset = 0
        if offset or not last:
            parts.append(view(payload)[offset:end])
        else:
            parts.append(payload)
        stream.credit -= frame_cost(take)
        if last:
            queue.popleft()
            if token is not None:
                self.sent.append(token)
            if not queue and stream.finish is not None:
                take += self.finish(stream, parts)
        else:
            item[1] = end
        return HEADER_SIZE + take
