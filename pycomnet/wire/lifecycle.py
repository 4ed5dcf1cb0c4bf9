"""Opens and closes channels, for this end and for the peer."""

from .frames import (
    CLOSE,
    END,
    ERROR,
    FIRST,
    FIRST_MORE,
    MIN_FRAGMENT,
    NORMAL,
    OPEN,
    OPEN_END,
    RAW,
    RESULT,
    frame_cost,
    frame_room,
    pack,
)
from .hello import cut_error
from .stream import EV_CLOSED, EV_DATA, EV_END, EV_OPENED, LocalError, ProtocolError, Stream


class Lifecycle(object):
    """Opens, ends and closes the channels of a connection.

    :param limits: this end's :class:`~.stream.Limits`.
    """

    def __init__(self, limits, table, scheduler, flow):
        self._limits = limits
        self._table = table
        self._scheduler = scheduler
        self._flow = flow
        #: bytes that this end may send at first on each channel; None before the peer's hello
        self.peer_window = None

    # -- at this end's wish ----------------------------------------------------------------------

    def open(self, purpose, first=None, raw=False, end=False):
        """Open a channel.

        :param purpose: what it is for, up to 255 ASCII characters.
        :param first: the encoding of its first value, or None.
        :param raw: for bytes, not values.
        :param end: this end sends no more after ``first``.
        :returns: a :class:`~.stream.Stream`.
        :raises LocalError: the connection is over, or has no hello or no room for it; or the
            purpose is not valid.
        """
        table, scheduler = self._table, self._scheduler
        if scheduler.failed is not None:
            raise LocalError(
                "no channel can be opened: the connection is over (%s)" % scheduler.failed
            )
        if self.peer_window is None:
            raise LocalError("no channel can be opened: there is no hello from the peer")
        table.check_room()
        try:
            head = purpose.encode("ascii")
        except UnicodeError:
            raise LocalError("a purpose is ASCII, not %r" % purpose)
        if len(head) > 255:
            raise LocalError("a purpose is up to 255 characters, not %d" % len(head))
        id = table.next_id
        table.next_id = id + 2
        stream = Stream(id, purpose, raw, True, self.peer_window, self._limits.window)
        table.add(stream)
        flags = RAW if raw else 0
        piece = b""
        rest = None
        if first is not None:
            flags |= FIRST
            size = len(first)
            room = min(scheduler.fragment - 2 - len(head), frame_room(stream.credit))
            piece = first
            if size > room:
                piece = first[:room]
                rest = room
                if not raw:
                    flags |= FIRST_MORE
            stream.credit -= frame_cost(len(piece))
        if end and rest is None:
            flags |= OPEN_END
            stream.sending = False
            stream.end_sent = True
        payload = bytearray((flags, len(head))) + head
        scheduler.out.append(pack(len(payload) + len(piece), OPEN, id) + bytes(payload))
        if piece:
            scheduler.out.append(piece)
        if rest is not None:
            stream.queue.append([first, rest, None, b""])
            scheduler.enqueue(stream)
            if end:
                self.end(stream)
        return stream

    def resume(self, next_id, last_peer_id):
        """Continue where another program has stopped; call this before anything has arrived.

        :param next_id: the id of the next channel that this end opens.
        :param last_peer_id: the highest id of those that the peer has opened.
        """
        self._table.next_id = next_id
        self._table.last_peer_id = last_peer_id

    def restore(self, id, purpose, raw, ended, credit, window):
        """Restore a channel that was open when the other program stopped.

        :param ended: whether that program had ended its sending.
        :param credit: bytes that this end may send; ``window`` is what the peer may send.
        :returns: its :class:`~.stream.Stream`.
        """
        local = id & 1 != self._table.peer_parity
        stream = Stream(id, purpose, raw, local, credit, self._limits.window)
        stream.window = window
        if ended:
            stream.sending, stream.end_sent = False, True
        self._table.add(stream)
        return stream

    def end(self, stream):
        """Send END on this channel, after what is queued."""
        if stream.sending:
            stream.sending = False
            stream.finish = (END, b"")
            self._scheduler.finish(stream)

    def close(self, stream, kind=NORMAL, payload=b""):
        """Close the channel in both directions, after what is queued unless ``kind`` is ERROR.

        If it is being closed already, only an error that overtakes queued data has an effect. If
        the payload is too long for the peer's frames, a result is sent as a value before the close,
        and an error is cut.

        :param payload: for ERROR the encoding of the error's map, for RESULT that of the last
            value.
        :raises LocalError: it is a result, and the channel is closed for sending.
        """
        if stream.close_sent or stream.id not in self._table.streams:
            return
        queue = stream.queue
        if (
            stream.finish is not None
            and stream.finish[0] == CLOSE
            and not (kind == ERROR and queue)
        ):
            return
        if kind == RESULT and not stream.sending:
            raise LocalError("channel %d is closed for sending" % stream.id)
        scheduler = self._scheduler
        if len(payload) >= scheduler.fragment:
            if kind == RESULT:
                queue.append([payload, 0, None, b""])
                scheduler.enqueue(stream)
                kind, payload = NORMAL, b""
            else:
                payload = cut_error(payload, scheduler.fragment)
        if kind == ERROR:
            queue.clear()
        stream.sending = False
        stream.stop_receiving()
        stream.finish = (CLOSE, bytes(bytearray((kind,))) + payload)
        scheduler.finish(stream)
        if queue:
            self._flow.release(stream)

    # -- at the peer's ---------------------------------------------------------------------------

    def opened(self, id, payload, events):
        """Handle an OPEN frame."""
        table = self._table
        if id & 1 != table.peer_parity or id <= table.last_peer_id:
            raise ProtocolError(
                "channel",
                "OPEN of channel %d after %d: ids are %s and only grow"
                % (id, table.last_peer_id, "odd" if table.peer_parity else "even"),
            )
        if table.peer_open >= self._limits.channels:
            raise ProtocolError("channels", "over %d open channels" % self._limits.channels)
        head = bytearray(payload[:2])
        if len(head) < 2 or len(payload) < 2 + head[1]:
            raise ProtocolError("frame", "OPEN of %d bytes is too short" % len(payload))
        flags, size = head
        first = payload[2 + size :]
        if (
            flags > 15
            or (flags & FIRST_MORE and (not flags & FIRST or flags & (RAW | OPEN_END)))
            or (first and not flags & FIRST)
            or (len(first) < MIN_FRAGMENT and flags & FIRST_MORE)
        ):
            raise ProtocolError("frame", "OPEN with flags %d and %d bytes" % (flags, len(first)))
        try:
            purpose = payload[2 : 2 + size].decode("ascii")
        except UnicodeDecodeError:
            raise ProtocolError("frame", "OPEN's purpose %r is not ASCII" % payload[2 : 2 + size])
        table.last_peer_id = id
        raw = bool(flags & RAW)
        stream = Stream(id, purpose, raw, False, self.peer_window, self._limits.window)
        table.add(stream)
        events.append((EV_OPENED, stream))
        if flags & FIRST_MORE:
            self._flow.fragment(stream, first)
        elif flags & FIRST:
            events.append((EV_DATA, stream, first, self._flow.charge(stream, len(first))))
        if flags & OPEN_END:
            self.ended(stream, b"", events)

    def ended(self, stream, payload, events):
        """Handle an END frame."""
        if payload:
            raise ProtocolError("frame", "END with %d bytes" % len(payload))
        if stream.close_sent:
            self._scheduler.forget(stream)
            return
        if stream.ended:
            raise ProtocolError("channel", "a second END on channel %d" % stream.id)
        if stream.partial is not None:
            raise ProtocolError("frame", "END on channel %d within a value" % stream.id)
        stream.ended = True
        if not stream.receiving:
            return  # our CLOSE waits behind what is queued
        stream.receiving = False
        events.append((EV_END, stream))
        if stream.end_sent:
            self._scheduler.forget(stream)

    def closed(self, stream, payload, events):
        """Handle a CLOSE frame."""
        kind = bytearray(payload[:1])
        if not kind or kind[0] > RESULT or (kind[0] == NORMAL and len(payload) > 1):
            raise ProtocolError("frame", "CLOSE with %r" % payload[:8])
        if kind[0] == RESULT and stream.ended:
            raise ProtocolError("channel", "a result on channel %d after its end" % stream.id)
        if kind[0] == RESULT and stream.partial is not None:
            raise ProtocolError("frame", "a result on channel %d within a value" % stream.id)
        if not stream.close_sent:
            if not stream.end_sent:
                self._scheduler.respond(pack(1, CLOSE, stream.id) + b"\x00")
            events.append((EV_CLOSED, stream, kind[0], payload[1:]))
        self._scheduler.forget(stream)
