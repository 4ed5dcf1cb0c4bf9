"""Unary calls: one value each way, on a channel that needs no stream.

A unary call is an OPEN with a whole first value and the end of sending; its reply is a CLOSE with a
result. Until anything else happens on its channel, each end keeps only the channel's id.
"""

from struct import Struct

from .frames import (
    CLOSE,
    FIRST,
    HEADER_SIZE,
    MAX_CHANNEL,
    OPEN,
    OPEN_END,
    RESULT,
    frame_cost,
    frame_room,
    frames_alike,
    pack,
)
from .stream import EV_CALL, EV_REPLY, Stream

#: The start of the payload of a CLOSE with a result; the packer of the start of such a frame.
CLOSE_RESULT = bytes(bytearray((RESULT,)))
#: Where a result begins in such a frame.
REPLY_START = HEADER_SIZE + len(CLOSE_RESULT)
pack_result = Struct(">IBIB").pack
#: For how many purposes the start of a call's frame is cached; the longest such purpose.
MAX_HEADS = 64
MAX_HEAD = 200


def _head(purpose):
    """The start of the payload of an OPEN with a whole first value and the end of sending."""
    name = purpose.encode("ascii")
    return bytes(bytearray((FIRST | OPEN_END, len(name)))) + name


class UnaryCalls(object):
    """Keeps the unary calls of both ends that have no stream.

    :param limits: this end's :class:`~.stream.Limits`.
    """

    def __init__(self, limits, table, scheduler, lifecycle):
        self._limits = limits
        self._table = table
        self._scheduler = scheduler
        self._lifecycle = lifecycle
        #: id -> app: this end's calls
        self.pending = {}
        #: id -> purpose: the peer's calls that have no reply yet
        self.received = {}
        #: id -> stream: the peer's calls that were closed before the user has seen their event
        self.closed_early = {}
        #: purpose -> the packer of the start of a whole call's frame, the start of its payload, the
        #: size of that, and the longest rest
        self._heads = {}
        #: the reverse, for the peer's calls: the start of the payload -> purpose; and the keys of
        #: that, for ``startswith``
        self._expected = {}
        self.expected_heads = ()

    # -- what this end's user does ---------------------------------------------------------------

    def expect_calls(self, purposes):
        """Report a whole unary call for one of these purposes as one event, ``EV_CALL``."""
        self._expected = dict((_head(purpose), purpose) for purpose in purposes)
        self.expected_heads = tuple(self._expected)

    def call(self, purpose, first, app=None):
        """Open a channel for one value from this end and a result from the peer.

        :param app: is returned with the result in ``EV_REPLY``; if anything else happens, it
            becomes the stream's ``app``.
        :returns: the channel's id.
        """
        head = self._heads.get(purpose)
        if head is None:
            return self._call_with_stream(purpose, first, app)
        pack_call, start, start_size, longest = head
        size = len(first)
        table, scheduler = self._table, self._scheduler
        if (
            size > longest
            or table.local_open >= table.local_limit
            or scheduler.failed is not None
            or table.next_id > MAX_CHANNEL
        ):
            return self._call_with_stream(purpose, first, app)
        id = table.next_id
        table.next_id = id + 2
        table.local_open += 1
        self.pending[id] = app
        scheduler.out.append(pack_call(start_size + size, OPEN, id, start) + first)
        return id

    def _call_with_stream(self, purpose, first, app):
        window = self._lifecycle.peer_window
        if window is not None and len(self._heads) < MAX_HEADS and len(purpose) < MAX_HEAD:
            start = _head(purpose)
            size = len(start)
            longest = min(self._scheduler.fragment, frame_room(window)) - size
            self._heads[purpose] = Struct(">IBI%ds" % size).pack, start, size, longest
        stream = self._lifecycle.open(purpose, first, end=True)
        stream.app = app
        stream.read_demand = True
        return stream.id

    def cancel_call(self, id):
        """Close the channel of a call of this end whose result is no longer needed."""
        stream = self.stream_of(id)
        if stream is not None:
            self._lifecycle.close(stream)

    def reply(self, id, payload):
        """Close a call's channel with a result, as :meth:`reply_on`, by the id of ``EV_CALL``."""
        size = len(payload) + 1
        scheduler = self._scheduler
        if (
            size > scheduler.fragment
            or scheduler.congested
            or scheduler.failed is not None
            or self.received.pop(id, None) is None
        ):
            stream = self.stream_of(id)
            if stream is not None:
                self.reply_on(stream, payload)
            return
        self._table.peer_open -= 1
        scheduler.out.append(pack_result(size, CLOSE, id, RESULT) + payload)

    def reply_on(self, stream, payload):
        """Close a channel with a result: as ``close``, but faster for a short result."""
        scheduler = self._scheduler
        if (
            not stream.ended
            or not stream.sending
            or stream.queue
            or stream.finish is not None
            or scheduler.congested
            or scheduler.failed is not None
            or len(payload) >= scheduler.fragment
            or not self._table.remove(stream)
        ):
            self._lifecycle.close(stream, RESULT, payload)
            return
        stream.sending = stream.receiving = False
        stream.close_sent = True
        scheduler.out.append(pack(len(payload) + 1, CLOSE, stream.id) + CLOSE_RESULT + payload)

    def stream_of(self, id):
        """The stream of a channel; one is made for a call that has none. None if it is over."""
        streams = self._table.streams
        stream = streams.get(id)
        if stream is not None:
            return stream
        local = id in self.pending
        if not local and id not in self.received:
            return self.closed_early.get(id)
        purpose = "" if local else self.received.pop(id)
        credit = self._lifecycle.peer_window if self._scheduler.failed is None else 0
        streams[id] = stream = Stream(id, purpose, False, local, credit, self._limits.window)
        if local:
            stream.app = self.pending.pop(id)
            stream.sending = False
            stream.end_sent = stream.read_demand = True
        else:
            stream.receiving = False
            stream.ended = True
        return stream

    # -- what comes ------------------------------------------------------------------------------

    def stream_for_frame(self, id):
        """The stream for a frame that is not a reply; None if the channel is not open."""
        stream = self._table.streams.get(id)
        if stream is None:
            if id in self.pending:
                stream = self.stream_of(id)
            elif id in self.received:
                stream = self.closed_early[id] = self.stream_of(id)
        return stream

    def read_replies(self, id, data, position, stop, events):
        """Read a reply, and those behind it that are as long.

        :param id: the channel of the first, a pending call.
        :param position: where its frame begins; ``stop`` is where it ends.
        :returns: the position after them.
        """
        pending = self.pending
        events.append((EV_REPLY, pending.pop(id), data[position + REPLY_START : stop]))
        size = stop - position
        count = 1
        if len(data) - stop >= size:
            length = size - HEADER_SIZE
            for other, ftype, id, kind, payload in frames_alike("1s", data, stop, stop + size):
                if other != length or ftype != CLOSE or kind != CLOSE_RESULT or id not in pending:
                    break
                events.append((EV_REPLY, pending.pop(id), payload))
                count += 1
        self._table.local_open -= count
        return position + count * size

    def read_calls(self, id, data, position, stop, events):
        """Read a whole expected call, and those behind it that are as long and for its purpose.

        :param id: the channel of the first.
        :returns: the position after them; the start position if it is not such a call after all.
        """
        for head in self.expected_heads:
            if data.startswith(head, position + HEADER_SIZE, stop):
                break
        size = stop - position
        length = size - HEADER_SIZE
        table = self._table
        parity = table.peer_parity
        last = table.last_peer_id
        room = self._limits.channels - table.peer_open
        if (
            id <= last
            or id & 1 != parity
            or room < 1
            or frame_cost(length - len(head)) > self._limits.window
        ):
            return position
        received, purpose = self.received, self._expected[head]
        received[id] = purpose
        events.append((EV_CALL, id, data[position + HEADER_SIZE + len(head) : stop]))
        last = id
        count = 1
        if len(data) - stop >= size:
            for other, ftype, id, start, payload in frames_alike(
                "%ds" % len(head), data, stop, stop + size
            ):
                if (
                    other != length
                    or start != head
                    or ftype != OPEN
                    or id <= last
                    or id & 1 != parity
                    or count >= room
                ):
                    break
                received[id] = purpose
                last = id
                count += 1
                events.append((EV_CALL, id, payload))
        table.last_peer_id = last
        table.peer_open += count
        return position + count * size
