"""The multiplexer: bytes in, events out; channels, fragments, credit and closing, without I/O.

One :class:`Mux` is one end of a connection. Whoever does the I/O gives it what arrived
(:meth:`Mux.receive_data`), deals with the events, and writes what :meth:`Mux.data_to_send` gives.
It is not thread-safe: its user locks.

There are two classes of error. :class:`LocalError` is raised when this end's user asked for what
cannot be. A peer that breaks the protocol raises nothing: the last event is ``FAILED`` with a
:class:`ProtocolError`, and what is left to send is a GOAWAY that says so.
"""

try:
    from _collections import deque  # the package itself imports much more
except ImportError:
    from collections import deque

from .frames import (
    BIN32,
    CHANNELS,
    CLOSE,
    CONTROL,
    CREDIT,
    DATA,
    END,
    ERROR,
    FIRST,
    FIRST_MORE,
    FRAGMENT,
    FRAME_COST,
    GOAWAY,
    HEADER,
    HEADER_SIZE,
    HELLO,
    MAGIC,
    MAX_CHANNEL,
    MAX_CREDIT,
    MAX_HELLO,
    MAX_VALUE,
    MIN_FRAGMENT,
    MIN_FRAME,
    MIN_WINDOW,
    MORE,
    NORMAL,
    OPEN,
    OPEN_END,
    PING,
    PONG,
    RAW,
    RESULT,
    U16,
    U32,
    VERSION,
    WINDOW,
    name,
)
from .values import InvalidValue, PureCodec

# The events. Each is a tuple that begins with one of these.
EV_DATA = 0  # (EV_DATA, stream, payload, cost): a whole value's encoding, or raw bytes; or, where
# the value is long bytes, a memoryview whose ``obj`` is the value itself
EV_OPENED = 1  # (EV_OPENED, stream): the peer opened a channel
EV_END = 2  # (EV_END, stream): the peer sends no more on it
EV_CLOSED = 3  # (EV_CLOSED, stream, kind, payload): the peer closed it
EV_HELLO = 4  # (EV_HELLO, info): the peer's hello; channels can be opened now
EV_PONG = 5  # (EV_PONG, data)
EV_GOAWAY = 6  # (EV_GOAWAY, code, message)
EV_FAILED = 7  # (EV_FAILED, error): the last one

_pack = HEADER.pack
_unpack_from = HEADER.unpack_from
_plain = PureCodec()
_INTS = (int, type(1 << 70))  # Python 2 has two types of it
_STRS = (str, type(b"".decode("ascii")))
_view = memoryview
try:
    b"".join([_view(b"")])
except TypeError:  # Python 2's join takes no memoryview

    def _view(data):
        return data


class LocalError(Exception):
    """This end asked for something that the protocol does not allow, or not any more."""


class ProtocolError(Exception):
    """The peer broke the protocol.

    :ivar code: the stable name of what it broke (docs/protocol.rst, "Ping, pong, goaway").
    :ivar message: what was expected and what came.
    """

    def __init__(self, code, message):
        Exception.__init__(self, "%s: %s" % (code, message))
        self.code = code
        self.message = message


class Limits(object):
    """What this end allows its peer, as its hello announces, and what it keeps to itself.

    :ivar window: bytes of credit that each channel begins with.
    :ivar frame: bytes of the longest payload that is accepted.
    :ivar channels: channels that the peer may have open at a time.
    :ivar value: bytes of the longest value that is put together from fragments.
    :ivar control: bytes of answers that wait for a peer that does not read them.
    """

    def __init__(
        self, window=WINDOW, frame=FRAGMENT, channels=CHANNELS, value=MAX_VALUE, control=CONTROL
    ):
        if not MIN_WINDOW <= window <= MAX_CREDIT:
            raise ValueError("window: %d to %d, not %r" % (MIN_WINDOW, MAX_CREDIT, window))
        if not MIN_FRAME <= frame <= MAX_CREDIT:
            raise ValueError("frame: %d to %d, not %r" % (MIN_FRAME, MAX_CREDIT, frame))
        if not 0 <= channels <= MAX_CREDIT:
            raise ValueError("channels: 0 to %d, not %r" % (MAX_CREDIT, channels))
        self.window = window
        self.frame = frame
        self.channels = channels
        self.value = value
        self.control = control


class Stream(object):
    """What the mux keeps of one channel. ``app`` is its user's."""

    __slots__ = (
        "id",
        "purpose",
        "raw",
        "app",
        "local",
        "credit",
        "queue",
        "ready",
        "window",
        "unacked",
        "half",
        "wanted",
        "partial",
        "partial_size",
        "partial_cost",
        "sending",
        "receiving",
        "ended",
        "end_sent",
        "close_sent",
        "finish",
    )

    def __init__(self, id, purpose, raw, local, credit, window):
        self.id = id
        self.purpose = purpose
        self.raw = raw
        self.app = None
        #: True when this end opened it.
        self.local = local
        #: what this end may still send
        self.credit = credit
        #: values that wait for credit or their turn: [payload, offset, token]
        self.queue = deque()
        #: True while it is in the mux's round of senders
        self.ready = False
        #: what the peer may still send
        self.window = window
        #: what was consumed and not given back yet
        self.unacked = 0
        self.half = window // 2
        #: True while somebody waits for the value that comes next
        self.wanted = False
        self.partial = None
        self.partial_size = 0
        self.partial_cost = 0
        #: False once this end's user has ended or closed it
        self.sending = True
        #: False once the peer has ended it, or this end closed it: then data is dropped
        self.receiving = True
        #: True once the peer has ended it: nothing more can come
        self.ended = False
        self.end_sent = False
        self.close_sent = False
        #: the type and payload of the END or CLOSE that follows what is queued
        self.finish = None


class Mux(object):
    """One end of a connection.

    :param initiator: True at the end that made the connection.
    :param limits: a :class:`Limits`.
    :param info: a map for the hello's ``info``.
    :param credential: bytes for the hello, or None.
    """

    def __init__(self, initiator, limits=None, info=None, credential=None):
        self.limits = limits = limits or Limits()
        self.streams = {}
        #: what the peer's hello says; None until it has come
        self.peer = None
        #: why the connection is over: a ProtocolError, also for a GOAWAY of either end
        self.failed = None
        #: True while the transport takes no more: then nothing is moved past the channels' queues,
        #: neither values nor what ends a channel, so that the limit on channels bounds that too
        self.congested = False
        #: tokens of queued values that have been handed over since the user last looked
        self.sent = []
        self._next_id = 1 if initiator else 2
        self._peer_parity = 0 if initiator else 1
        self._last_peer_id = 0
        self._peer_open = 0
        self._local_open = 0
        self._goodbye = False
        self._untold = []
        self._control = 0
        self._ready = deque()
        self._tail = bytearray()
        self._max_frame = -1  # before the hello no other frame may come
        self._fragment = FRAGMENT
        hello = {
            "window": limits.window,
            "frame": limits.frame,
            "channels": limits.channels,
            "info": info or {},
        }
        if credential is not None:
            hello["credential"] = bytearray(credential)
        payload = MAGIC + U16.pack(VERSION) + _plain.encode(hello)
        if len(payload) > MAX_HELLO:
            raise LocalError("a hello of %d bytes, the limit is %d" % (len(payload), MAX_HELLO))
        self._first = _pack(len(payload), HELLO, 0) + payload
        self._out = [self._first]

    # -- what this end's user does ---------------------------------------------------------------

    def open(self, purpose, first=None, raw=False, end=False):
        """Open a channel.

        :param purpose: what it is for, up to 255 ASCII characters.
        :param first: the encoding of its first value, or None.
        :param raw: for bytes, not values.
        :param end: this end sends no more after ``first``.
        :returns: a :class:`Stream`.
        """
        if self.failed is not None:
            raise LocalError("no channel can be opened: the connection is over (%s)" % self.failed)
        if self.peer is None:
            raise LocalError("no channel can be opened: there is no hello from the peer")
        if self._local_open >= self.peer["channels"]:
            raise LocalError("the peer allows %d open channels" % self.peer["channels"])
        id = self._next_id
        if id > MAX_CHANNEL:
            raise LocalError("the connection has used all its channel ids")
        try:
            head = purpose.encode("ascii")
        except UnicodeError:
            raise LocalError("a purpose is ASCII, not %r" % purpose)
        if len(head) > 255:
            raise LocalError("a purpose is up to 255 characters, not %d" % len(head))
        self._next_id = id + 2
        stream = Stream(id, purpose, raw, True, self.peer["window"], self.limits.window)
        self.streams[id] = stream
        self._local_open += 1
        flags = RAW if raw else 0
        piece = b""
        rest = None
        if first is not None:
            flags |= FIRST
            size = len(first)
            room = min(self._fragment - 2 - len(head), stream.credit - FRAME_COST)
            piece = first
            if size > room:
                piece = first[:room]
                rest = room
                if not raw:
                    flags |= FIRST_MORE
            stream.credit -= len(piece) + FRAME_COST
        if end and rest is None:
            flags |= OPEN_END
            stream.sending = False
            stream.end_sent = True
        payload = bytearray((flags, len(head))) + head
        self._out.append(_pack(len(payload) + len(piece), OPEN, id) + bytes(payload))
        if piece:
            self._out.append(piece)
        if rest is not None:
            stream.queue.append([first, rest, None, b""])
            self._enqueue(stream)
            if end:
                self.end(stream)
        return stream

    def send(self, stream, payload, token=None, prefix=b""):
        """Send a value's encoding, or raw bytes.

        :param prefix: goes in front of the payload, which saves copying a long one behind it.
        :param token: what is put into :attr:`sent` once the last of it has been handed over.
        :returns: True when it is on its way already, and the token is not used; False when it
            waits for credit or for its turn.
        """
        if not stream.sending:
            raise LocalError("channel %d is closed for sending" % stream.id)
        size = len(payload)
        if (
            size <= self._fragment
            and not prefix
            and stream.credit >= size + FRAME_COST
            and not stream.queue
            and not self.congested
        ):
            stream.credit -= size + FRAME_COST
            if size < 1024:
                self._out.append(_pack(size, DATA, stream.id) + payload)
            else:
                self._out.append(_pack(size, DATA, stream.id))
                self._out.append(payload)
            return True
        if size + len(prefix) > MAX_VALUE and not stream.raw:
            raise LocalError("a value of %d bytes, the limit is %d" % (size, MAX_VALUE))
        stream.queue.append([payload, -len(prefix), token, prefix])
        self._enqueue(stream)
        return False

    def immediate(self, stream, payload):
        """The frame of a short value, when it may be written at once: the fastest way there is.

        :returns: its bytes, which the caller must write next; None when it has to be sent by
            :meth:`send`, because something is to be written before it or credit is short.
        """
        size = len(payload)
        if (
            stream.credit < size + FRAME_COST
            or self._out
            or self._ready
            or stream.queue  # it waits for credit for more than this
            or size > self._fragment
            or not stream.sending
            or self.congested
        ):
            return None
        stream.credit -= size + FRAME_COST
        return _pack(size, DATA, stream.id) + payload

    def unsend(self, stream, token):
        """Take back a queued value of which nothing has been sent yet.

        :returns: True when it was taken back.
        """
        queue = stream.queue
        for index, item in enumerate(queue):
            if item[2] is token:
                if item[1] + len(item[3]):
                    return False
                del queue[index]
                if queue:
                    self._enqueue(stream)  # the next may be short enough for the credit
                else:
                    self._finish(stream)
                return True
        return False

    def end(self, stream):
        """Send no more on this channel; what is queued goes first."""
        if stream.sending:
            stream.sending = False
            stream.finish = (END, b"")
            self._finish(stream)

    def close(self, stream, kind=NORMAL, payload=b""):
        """Close the channel, both ways. What is queued goes first, unless ``kind`` is ERROR.

        When it is being closed already, only an error that goes before what is queued matters. A
        result or an error that is too long for the peer's frames is sent as a value before the
        close, or cut.
        """
        if stream.close_sent or stream.id not in self.streams:
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
        if len(payload) >= self._fragment:
            if kind == RESULT:
                queue.append([payload, 0, None, b""])
                self._enqueue(stream)
                kind, payload = NORMAL, b""
            else:
                payload = self._cut_error(payload)
        if kind == ERROR:
            queue.clear()
        stream.sending = False
        self._stop_receiving(stream)
        stream.finish = (CLOSE, bytes(bytearray((kind,))) + payload)
        self._finish(stream)
        if queue and self._used(stream):
            self._give_quietly(stream, self._used(stream))

    def consumed(self, stream, cost):
        """The user took what cost this much: give the credit back, in large portions."""
        unacked = stream.unacked + cost
        if unacked >= stream.half and stream.receiving:
            self._give_quietly(stream, unacked)
            unacked = 0
        stream.unacked = unacked

    def want(self, stream, wanted=True):
        """Somebody waits, or not any more, for the value that comes next on this channel."""
        stream.wanted = wanted
        if wanted and stream.partial_cost:
            cost = stream.partial_cost
            stream.partial_cost = 0
            self.consumed(stream, cost)

    def ping(self, data):
        """Ask the peer to answer with the same eight bytes."""
        if len(data) != 8:
            raise LocalError("a ping has 8 bytes, not %d" % len(data))
        if self.failed is None:
            self._out.append(_pack(8, PING, 0) + data)

    def goaway(self, code, message):
        """Say that this connection is over, and why. It is the last thing to be sent."""
        if self._goodbye:
            return
        self._goodbye = True
        most = 4096 if self._fragment == FRAGMENT else 128
        payload = _plain.encode({"code": code, "message": message[:most]})
        self._out.append(_pack(len(payload), GOAWAY, 0) + payload)
        self._over(ProtocolError(code, message))

    # -- what is to be written -------------------------------------------------------------------

    def has_data(self):
        """Whether there is something to write now."""
        return bool(self._out or (self._ready and self.peer is not None))

    def data_to_send(self, limit=4 * FRAGMENT):
        """What to write next.

        :param limit: about how many bytes at the most: fragments of long values are added, one
            from each channel in turn, until there are so many.
        :returns: bytes; empty when there is nothing.
        """
        parts = self.parts_to_send(limit)
        if len(parts) == 1:
            return parts[0]
        return b"".join(parts)

    def parts_to_send(self, limit=4 * FRAGMENT):
        """As :meth:`data_to_send`, in pieces that are not put together."""
        parts = self._out
        self._control = 0
        ready = self._ready
        if not ready:
            if parts:
                self._out = []
            return parts
        self._out = []
        size = 0
        for part in parts:
            size += len(part)
        # At least one fragment each time, so that small values that are sent without end
        # cannot keep a long one from its turn.
        while ready:
            stream = ready.popleft()
            stream.ready = False
            taken = self._take_fragment(stream, parts)
            size += taken
            if taken and stream.queue and stream.credit > FRAME_COST:
                stream.ready = True
                ready.append(stream)
            if size >= limit:
                break
        return parts

    def _take_fragment(self, stream, parts):
        """Append the next frame of the channel to ``parts``; return its size, or 0."""
        queue = stream.queue
        if not queue:
            return self._finish(stream, parts)
        item = queue[0]
        payload, offset, token, prefix = item
        left = len(payload) - offset
        room = stream.credit - FRAME_COST
        take = left if left < self._fragment else self._fragment
        if take > room:
            if room < MIN_FRAGMENT:
                return 0
            take = room
        last = take == left
        ftype = DATA if last or stream.raw else MORE
        parts.append(_pack(take, ftype, stream.id))
        end = offset + take
        if offset < 0:
            # A fragment is longer than any prefix.
            parts.append(prefix)
            offset = 0
        if offset or not last:
            parts.append(_view(payload)[offset:end])
        else:
            parts.append(payload)
        stream.credit -= take + FRAME_COST
        if last:
            queue.popleft()
            if token is not None:
                self.sent.append(token)
            if not queue and stream.finish is not None:
                take += self._finish(stream, parts)
        else:
            item[1] = end
        return HEADER_SIZE + take

    def _enqueue(self, stream):
        if not stream.ready and stream.credit > FRAME_COST:
            stream.ready = True
            self._ready.append(stream)

    def _finish(self, stream, out=None):
        """Send the END or CLOSE that waits, if nothing is queued before it; return its size."""
        if stream.finish is None or stream.queue or self.failed is not None:
            return 0
        if out is None:
            if self.congested:
                if not stream.ready:
                    stream.ready = True
                    self._ready.append(stream)
                return 0
            out = self._out
        ftype, payload = stream.finish
        stream.finish = None
        out.append(_pack(len(payload), ftype, stream.id) + payload)
        if ftype == END:
            stream.end_sent = True
        else:
            stream.close_sent = True
        if stream.ended:
            self._forget(stream)
        return HEADER_SIZE + len(payload)

    def _cut_error(self, payload):
        """An error's map, cut so that it fits in the peer's frames."""
        message = "an error of %d bytes" % len(payload)
        cut = {"code": "remote", "message": message}
        try:
            error = _plain.decode(payload)
        except InvalidValue:
            error = None
        if isinstance(error, dict):
            half = self._fragment // 32 - 16  # four texts, of up to 4 bytes a character
            for key in ("code", "type", "message", "formatted"):
                value = error.get(key)
                if isinstance(value, _STRS):
                    short = len(value) <= 2 * half
                    cut[key] = value if short else value[:half] + "..." + value[-half:]
        return _plain.encode(cut)

    def _answer(self, frame):
        """Queue a frame that the peer made us send, within the limit on those."""
        self._control += len(frame)
        if self._control > self.limits.control:
            raise ProtocolError(
                "control",
                "over %d bytes of answers wait to be read by the peer" % self.limits.control,
            )
        self._out.append(frame)

    def _give_credit(self, stream, credit):
        self._answer(_pack(4, CREDIT, stream.id) + U32.pack(credit))
        stream.window += credit

    def _give_quietly(self, stream, credit):
        # This end's user does this, who must not see it raise: receive_data tells.
        try:
            self._give_credit(stream, credit)
        except ProtocolError as error:
            self._untold.append(self._fail(error))

    def _used(self, stream):
        """What to give back of a channel whose CLOSE waits behind what is queued.

        All that the peer has used, as it is dropped. Otherwise two ends could wait for each other:
        this one's CLOSE for the credit for what is before it, the peer's user, who would give that,
        for credit to send.
        """
        used = self.limits.window - stream.window
        return used if used >= stream.half and not stream.ended and self.failed is None else 0

    def _fail(self, error):
        """The peer broke the protocol; return the event that says so."""
        self._tail = bytearray()
        # The hello goes before the GOAWAY if it has not gone yet; nothing else matters now.
        self._out = [part for part in self._out[:1] if part is self._first]
        self._over(error)
        self.goaway(error.code, error.message)
        return (EV_FAILED, error)

    def _over(self, error):
        """Nothing is sent and nothing is taken any more, but what is on its way."""
        if self.failed is None:
            self.failed = error
        self._ready.clear()
        for stream in self.streams.values():
            stream.credit = 0
            self._stop_receiving(stream)

    def _stop_receiving(self, stream):
        stream.receiving = False
        stream.partial = None
        stream.partial_size = stream.partial_cost = 0

    def _forget(self, stream):
        if self.streams.pop(stream.id, None) is not None:
            if stream.local:
                self._local_open -= 1
            else:
                self._peer_open -= 1
        stream.sending = stream.receiving = False
        stream.queue.clear()
        stream.finish = None
        stream.partial = None
        ready = self._ready
        if stream.ready and len(ready) > 2 * len(self.streams) + 64:
            # Most that wait for their turn are over. It may be long until that comes.
            alive = [other for other in ready if other.id in self.streams]
            ready.clear()
            ready.extend(alive)

    # -- what arrives ----------------------------------------------------------------------------

    def receive_data(self, data):
        """Take bytes that arrived.

        :param data: bytes, cut anywhere.
        :returns: a list of events; none once the connection is over.
        """
        events = []
        if self.failed is not None:
            events, self._untold = self._untold, events
            return events
        try:
            position = 0
            if self._tail:
                position = self._receive_tail(data, events)
                if position < 0 or self.failed is not None:
                    return events
            self._receive(data, position, events)
        except ProtocolError as error:
            events.append(self._fail(error))
        return events

    def _receive_tail(self, data, events):
        """Complete the frame that the last bytes began; return the position after it, or -1."""
        tail = self._tail
        have = len(tail)
        position = 0
        if have < HEADER_SIZE:
            position = HEADER_SIZE - have
            tail += data[:position]
            have = len(tail)
            if self.peer is None:
                self._check_start(tail)
            if have < HEADER_SIZE:
                return -1
        length, ftype, _ = _unpack_from(bytes(tail[:HEADER_SIZE]))
        if position and self.peer is not None:
            self._check_header(length, ftype)
        stop = position + HEADER_SIZE + length - have
        tail += data[position:stop]
        if len(tail) < HEADER_SIZE + length:
            return -1
        self._tail = bytearray()
        self._receive(bytes(tail), 0, events)
        return stop

    def _receive(self, data, position, events):
        end = len(data)
        streams = self.streams
        limit = self._max_frame
        while end - position >= HEADER_SIZE:
            length, ftype, id = _unpack_from(data, position)
            start = position + HEADER_SIZE
            stop = start + length
            if ftype == DATA and length <= limit:
                if stop > end:
                    break
                stream = streams.get(id)
                if stream is not None and stream.receiving:
                    cost = length + FRAME_COST
                    window = stream.window - cost
                    if window < 0:
                        self._overrun(stream, window)
                    stream.window = window
                    if stream.partial is None:
                        events.append((EV_DATA, stream, data[start:stop], cost))
                    else:
                        self._complete(stream, data[start:stop], cost, events)
                else:
                    self._drop(id, stream, length)
            else:
                if self.peer is None:
                    self._check_start(data[position : position + 64])
                else:
                    self._check_header(length, ftype)
                if stop > end:
                    break
                if length >= FRAGMENT and ftype == MORE:
                    # Not copied: it is joined with the others soon.
                    self._frame(ftype, id, _view(data)[start:stop], events)
                else:
                    self._frame(ftype, id, data[start:stop], events)
                if self.failed is not None:
                    return
                limit = self._max_frame
            position = stop
        if position < end:
            self._tail = tail = bytearray(data[position:])
            if len(tail) < HEADER_SIZE and self.peer is None:
                self._check_start(tail)

    def _check_start(self, start):
        """Refuse what can't become a hello as soon as that is known: it may never be longer."""
        start = bytes(start)
        if start[4:5] > b"\x00" or (len(start) > 4 and U32.unpack(start[:4])[0] > MAX_HELLO):
            self._not_hello(start)

    def _not_hello(self, start):
        raise ProtocolError(
            "hello", "expected a hello, got %r: the peer does not speak this protocol" % start[:64]
        )

    def _check_header(self, length, ftype):
        if ftype > GOAWAY:
            raise ProtocolError("frame", "unknown frame type %d" % ftype)
        if length > self._max_frame:
            raise ProtocolError(
                "frame",
                "%s of %d bytes, the limit is %d" % (name(ftype), length, self._max_frame),
            )

    def _overrun(self, stream, window):
        raise ProtocolError(
            "window",
            "channel %d: %d bytes over its credit (the window is %d)"
            % (stream.id, -window, self.limits.window),
        )

    def _drop(self, id, stream, length):
        """Data that nobody takes: allowed only until the peer has our CLOSE."""
        if stream is None:
            self._unknown(id, DATA)
        if stream.ended:
            raise ProtocolError("channel", "data on channel %d after its end" % id)
        stream.window -= length + FRAME_COST
        if stream.window < 0:
            self._overrun(stream, stream.window)
        if not stream.close_sent and self._used(stream):
            self._give_credit(stream, self._used(stream))

    def _unknown(self, id, ftype):
        what = "is over" if self._is_past(id) else "was never opened"
        raise ProtocolError("channel", "%s for channel %d, which %s" % (name(ftype), id, what))

    def _is_past(self, id):
        if id & 1 == self._peer_parity:
            return 0 < id <= self._last_peer_id
        return 0 < id < self._next_id

    def _complete(self, stream, payload, cost, events):
        """The last fragment of a value."""
        partial = stream.partial
        partial.append(payload)
        self._check_value(stream, len(payload))
        stream.partial = None
        stream.partial_size = 0
        cost += stream.partial_cost
        stream.partial_cost = 0
        first = partial[0]
        if first[:1] == BIN32 and not stream.raw and _view is memoryview:
            # Bytes: what they are encoded as is they themselves, behind five bytes. A memoryview
            # in the event says that its ``obj`` is the value, which saves copying that.
            partial[0] = first[5:]
            value = b"".join(partial)
            if bytes(first[1:5]) == U32.pack(len(value)):
                events.append((EV_DATA, stream, memoryview(value), cost))
                return
            partial[0] = first
        events.append((EV_DATA, stream, b"".join(partial), cost))

    def _check_value(self, stream, size):
        stream.partial_size += size
        if stream.partial_size > self.limits.value:
            raise ProtocolError(
                "value", "channel %d: a value over %d bytes" % (stream.id, self.limits.value)
            )

    def _fragment_arrived(self, stream, payload):
        if stream.partial is None:
            stream.partial = []
        stream.partial.append(payload)
        self._check_value(stream, len(payload))
        cost = len(payload) + FRAME_COST
        stream.partial_cost += cost
        if stream.wanted:
            cost = stream.partial_cost + stream.unacked
            stream.partial_cost = 0
            if cost >= stream.half:
                self._give_credit(stream, cost)
                cost = 0
            stream.unacked = cost

    def _frame(self, ftype, id, payload, events):
        """Any frame but DATA."""
        if ftype == HELLO:
            self._hello(id, payload, events)
        elif ftype == PING or ftype == PONG:
            if id or len(payload) != 8:
                raise ProtocolError("frame", "%s is 8 bytes on channel 0" % name(ftype))
            if ftype == PING:
                self._answer(_pack(8, PONG, 0) + payload)
            else:
                events.append((EV_PONG, payload))
        elif ftype == GOAWAY:
            reason = self._map(payload, "frame", "GOAWAY")
            code, message = reason.get("code"), reason.get("message")
            if id or not isinstance(code, _STRS) or not isinstance(message, _STRS):
                raise ProtocolError("frame", "GOAWAY is a code and a message on channel 0")
            events.append((EV_GOAWAY, code, message))
            self._over(ProtocolError(code, message))
        elif ftype == OPEN:
            self._opened(id, payload, events)
        else:
            stream = self.streams.get(id)
            if stream is None:
                if ftype == MORE or not self._is_past(id):
                    self._unknown(id, ftype)
            elif ftype == MORE:
                self._more(stream, payload)
            elif ftype == CREDIT:
                self._credit(stream, payload)
            elif ftype == END:
                self._ended(stream, payload, events)
            else:
                self._closed(stream, payload, events)

    def _hello(self, id, payload, events):
        if self.peer is not None:
            raise ProtocolError("hello", "a second hello")
        if id:
            raise ProtocolError("hello", "a hello on channel %d, not 0" % id)
        size = len(MAGIC)
        if payload[:size] != MAGIC:
            self._not_hello(payload)
        if len(payload) < size + 2:
            raise ProtocolError(
                "hello", "a hello of %d bytes, at least %d" % (len(payload), size + 2)
            )
        (version,) = U16.unpack_from(payload, size)
        if version != VERSION:
            raise ProtocolError(
                "version", "the peer speaks version %d, this is version %d" % (version, VERSION)
            )
        hello = self._map(payload[size + 2 :], "hello", "the hello")
        peer = {"window": WINDOW, "frame": FRAGMENT, "channels": CHANNELS, "info": {}}
        lowest = {"window": MIN_WINDOW, "frame": MIN_FRAME, "channels": 0}
        for key in lowest:
            value = hello.get(key, peer[key])
            if type(value) not in _INTS or not lowest[key] <= value <= MAX_CREDIT:
                raise ProtocolError(
                    "hello", "%s: %d to %d, not %.60r" % (key, lowest[key], MAX_CREDIT, value)
                )
            peer[key] = value
        peer["credential"] = credential = hello.get("credential")
        if credential is not None and type(credential) is not bytes:
            raise ProtocolError("hello", "credential: bytes, not %s" % type(credential).__name__)
        info = hello.get("info", {})
        if not isinstance(info, dict):
            raise ProtocolError("hello", "info: a map, not %s" % type(info).__name__)
        peer["info"] = info
        self.peer = peer
        self._fragment = min(FRAGMENT, peer["frame"])
        self._max_frame = self.limits.frame
        events.append((EV_HELLO, peer))

    def _map(self, payload, code, what):
        try:
            value = _plain.decode(payload)
        except InvalidValue as error:
            raise ProtocolError(code, "%s: %s" % (what, error))
        if not isinstance(value, dict):
            raise ProtocolError(code, "%s: a map, not %s" % (what, type(value).__name__))
        return value

    def _opened(self, id, payload, events):
        if id & 1 != self._peer_parity or id <= self._last_peer_id:
            raise ProtocolError(
                "channel",
                "OPEN of channel %d after %d: ids are %s and only grow"
                % (id, self._last_peer_id, "odd" if self._peer_parity else "even"),
            )
        if self._peer_open >= self.limits.channels:
            raise ProtocolError("channels", "over %d open channels" % self.limits.channels)
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
        self._last_peer_id = id
        stream = Stream(
            id, purpose, bool(flags & RAW), False, self.peer["window"], self.limits.window
        )
        self.streams[id] = stream
        self._peer_open += 1
        events.append((EV_OPENED, stream))
        if flags & FIRST:
            cost = len(first) + FRAME_COST
            stream.window -= cost
            if stream.window < 0:
                self._overrun(stream, stream.window)
            if flags & FIRST_MORE:
                self._fragment_arrived(stream, first)
            else:
                events.append((EV_DATA, stream, first, cost))
        if flags & OPEN_END:
            self._ended(stream, b"", events)

    def _more(self, stream, payload):
        if stream.raw:
            raise ProtocolError("frame", "MORE on the raw channel %d" % stream.id)
        if len(payload) < MIN_FRAGMENT:
            raise ProtocolError(
                "frame", "MORE of %d bytes, at least %d" % (len(payload), MIN_FRAGMENT)
            )
        if not stream.receiving:
            self._drop(stream.id, stream, len(payload))
            return
        stream.window -= len(payload) + FRAME_COST
        if stream.window < 0:
            self._overrun(stream, stream.window)
        self._fragment_arrived(stream, payload)

    def _credit(self, stream, payload):
        if len(payload) != 4:
            raise ProtocolError("frame", "CREDIT of %d bytes, not 4" % len(payload))
        stream.credit += U32.unpack(payload)[0]
        if stream.credit > MAX_CREDIT:
            raise ProtocolError("window", "channel %d: credit over %d" % (stream.id, MAX_CREDIT))
        if stream.queue:
            self._enqueue(stream)

    def _ended(self, stream, payload, events):
        if payload:
            raise ProtocolError("frame", "END with %d bytes" % len(payload))
        if stream.close_sent:
            self._forget(stream)
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
            self._forget(stream)

    def _closed(self, stream, payload, events):
        kind = bytearray(payload[:1])
        if not kind or kind[0] > RESULT or (kind[0] == NORMAL and len(payload) > 1):
            raise ProtocolError("frame", "CLOSE with %r" % payload[:8])
        if kind[0] == RESULT and stream.ended:
            raise ProtocolError("channel", "a result on channel %d after its end" % stream.id)
        if kind[0] == RESULT and stream.partial is not None:
            raise ProtocolError("frame", "a result on channel %d within a value" % stream.id)
        if not stream.close_sent:
            if not stream.end_sent:
                self._answer(_pack(1, CLOSE, stream.id) + b"\x00")
            events.append((EV_CLOSED, stream, kind[0], payload[1:]))
        self._forget(stream)
