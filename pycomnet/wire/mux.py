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

from struct import Struct

from .frames import (
    CLOSE,
    DATA,
    END,
    ERROR,
    FIRST,
    FIRST_MORE,
    FRAGMENT,
    FRAME_COST,
    GOAWAY,
    HEADER_SIZE,
    HELLO,
    MAGIC,
    MAX_CHANNEL,
    MAX_HELLO,
    MAX_VALUE,
    MIN_FRAGMENT,
    MIN_FRAME,
    MORE,
    NORMAL,
    OPEN,
    OPEN_END,
    PING,
    RAW,
    RESULT,
    U16,
    VERSION,
)
from .receive import PLAIN, STRS, Receiver, pack
from .stream import (
    EV_ANSWERED,
    EV_ASKED,
    EV_CLOSED,
    EV_DATA,
    EV_END,
    EV_FAILED,
    EV_GOAWAY,
    EV_HELLO,
    EV_OPENED,
    EV_PONG,
    EV_RUN,
    Limits,
    LocalError,
    ProtocolError,
    Stream,
    view,
)
from .values import InvalidValue

#: How the payload of a CLOSE with a result begins; the whole beginning of such a frame.
CLOSE_RESULT = bytes(bytearray((RESULT,)))
pack_result = Struct(">IBIB").pack


def _head(purpose):
    """How the payload of an OPEN begins that has a whole first value, after which is the end."""
    name = purpose.encode("ascii")
    return bytes(bytearray((FIRST | OPEN_END, len(name)))) + name


#: So many channels with long values take turns at a time, and each so often before it makes room
#: for another that waits: a megabyte.
LONG = 4
LONG_RUN = 16


class Mux(Receiver):
    """One end of a connection.

    :param initiator: True at the end that made the connection.
    :param limits: a :class:`Limits`.
    :param info: a map for the hello's ``info``.
    :param credential: bytes for the hello, or None.
    """

    def __init__(self, initiator, limits=None, info=None, credential=None):
        self.limits = limits = limits or Limits()
        self.streams = {}
        #: id -> app: what this end has asked, while nothing has happened but that. Neither these
        #: channels nor the next ones have a stream, until :meth:`stream_of` makes one.
        self.questions = {}
        #: id -> purpose: what the peer has asked, likewise
        self.unanswered = {}
        #: id -> stream: of those that were asked, and closed before the user has seen that
        self._closed_early = {}
        #: what the peer's hello says; None until it has come
        self.peer = None
        #: why the connection is over: a ProtocolError, also for a GOAWAY of either end
        self.failed = None
        #: the highest id of this end's channels that the peer dealt with before its GOAWAY; None
        #: while there is none, or if that does not say so
        self.last_taken = None
        #: True while the transport takes no more: then nothing is moved past the channels' queues,
        #: neither values nor what ends a channel, so that the limit on channels bounds that too
        self.congested = False
        #: tokens of queued values that have been handed over since the user last looked
        self.sent = []
        #: the id of the next channel that this end opens, and the highest that the peer has opened
        self.next_id = 1 if initiator else 2
        self._peer_parity = 0 if initiator else 1
        self.last_peer_id = 0
        #: how many the peer has opened
        self.peer_open = 0
        #: how many channels are open that this end has opened
        self.local_open = 0
        self._goodbye = False
        self._untold = []
        #: purpose -> what packs the beginning of a frame that is a whole question, how its payload
        #: begins, the size of that, and how long the rest may be
        self._heads = {}
        #: the same the other way round, for what the peer may ask; and its keys
        self._expected = {}
        self._expected_heads = ()
        self._control = 0
        #: the channels that have something to send, in the order of their turns
        self.ready = deque()
        #: the ids of channels with long values that take turns: how many each has had
        self.turns = {}
        #: channels with long values that wait until they may
        self.waiting = deque()
        self._tail = bytearray()
        #: the pieces of a long frame that is not complete yet, and how many bytes it lacks
        self._pieces = None
        self._lacking = 0
        #: bytes of the longest frame that may come; before the hello no other frame may
        self.max_frame = -1
        #: bytes of the longest frames that are sent: of values, and on raw channels
        self.fragment = self.raw_fragment = FRAGMENT
        hello = {
            "window": limits.window,
            "frame": limits.frame,
            "channels": limits.channels,
            "info": info or {},
        }
        if credential is not None:
            hello["credential"] = bytearray(credential)
        payload = MAGIC + U16.pack(VERSION) + PLAIN.encode(hello)
        if len(payload) > MAX_HELLO:
            raise LocalError("a hello of %d bytes, the limit is %d" % (len(payload), MAX_HELLO))
        self._first = pack(len(payload), HELLO, 0) + payload
        #: what is to be written next: frames, and long payloads without their header
        self.out = [self._first]

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
        if self.local_open >= self.peer["channels"]:
            raise LocalError("the peer allows %d open channels" % self.peer["channels"])
        id = self.next_id
        if id > MAX_CHANNEL:
            raise LocalError("the connection has used all its channel ids")
        try:
            head = purpose.encode("ascii")
        except UnicodeError:
            raise LocalError("a purpose is ASCII, not %r" % purpose)
        if len(head) > 255:
            raise LocalError("a purpose is up to 255 characters, not %d" % len(head))
        self.next_id = id + 2
        stream = Stream(id, purpose, raw, True, self.peer["window"], self.limits.window)
        self.streams[id] = stream
        self.local_open += 1
        flags = RAW if raw else 0
        piece = b""
        rest = None
        if first is not None:
            flags |= FIRST
            size = len(first)
            room = min(self.fragment - 2 - len(head), stream.credit - FRAME_COST)
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
        self.out.append(pack(len(payload) + len(piece), OPEN, id) + bytes(payload))
        if piece:
            self.out.append(piece)
        if rest is not None:
            stream.queue.append([first, rest, None, b""])
            self._enqueue(stream)
            if end:
                self.end(stream)
        return stream

    def resume(self, next_id, last_peer_id):
        """Go on where another program has stopped; before anything has come.

        :param next_id: the id of the next channel that this end opens.
        :param last_peer_id: the highest id of those that the peer has opened.
        """
        self.next_id = next_id
        self.last_peer_id = last_peer_id

    def restore(self, id, purpose, raw, ended, credit, window):
        """A channel that was open when the other program stopped.

        :param ended: whether it had ended its sending.
        :param credit: bytes that this end may send, and ``window`` what the peer may.
        :returns: its :class:`Stream`.
        """
        local = id & 1 != self._peer_parity
        self.streams[id] = stream = Stream(id, purpose, raw, local, credit, self.limits.window)
        stream.window = window
        if ended:
            stream.sending, stream.end_sent = False, True
        if local:
            self.local_open += 1
        else:
            self.peer_open += 1
        return stream

    def expect(self, purposes):
        """Have a whole question for one of these purposes be one event, ``EV_ASKED``."""
        self._expected = dict((_head(purpose), purpose) for purpose in purposes)
        self._expected_heads = tuple(self._expected)

    def ask(self, purpose, first, app=None):
        """Open a channel for one value and no more from this end: as :meth:`open` with ``end``.

        It is the short way for a value that fits in the frame, to a peer that is there.

        :param app: what comes with the result in ``EV_ANSWERED``, and is the stream's user if
            anything else happens.
        :returns: the channel's id.
        """
        asking = self._heads.get(purpose)
        if asking is None:
            return self._ask_long(purpose, first, app)
        pack_question, head, head_size, longest = asking
        id = self.next_id
        size = len(first)
        if (
            size > longest
            or self.local_open >= self.peer["channels"]
            or self.failed is not None
            or id > MAX_CHANNEL
        ):
            return self._ask_long(purpose, first, app)
        self.next_id = id + 2
        self.questions[id] = app
        self.local_open += 1
        self.out.append(pack_question(head_size + size, OPEN, id, head) + first)
        return id

    def _ask_long(self, purpose, first, app):
        if self.peer is not None and len(self._heads) < 64 and len(purpose) < 200:
            head = _head(purpose)
            size = len(head)
            longest = min(self.fragment, self.peer["window"] - FRAME_COST) - size
            self._heads[purpose] = Struct(">IBI%ds" % size).pack, head, size, longest
        stream = self.open(purpose, first, end=True)
        stream.app = app
        stream.wanted = True
        return stream.id

    def stream_of(self, id):
        """The stream of a question, made if there is none yet; None if it is over."""
        stream = self.streams.get(id)
        if stream is not None:
            return stream
        asked = id in self.questions
        if not asked and id not in self.unanswered:
            return self._closed_early.get(id)
        purpose = "" if asked else self.unanswered.pop(id)
        credit = self.peer["window"] if self.failed is None else 0
        self.streams[id] = stream = Stream(id, purpose, False, asked, credit, self.limits.window)
        if asked:
            stream.app = self.questions.pop(id)
            stream.sending = False
            stream.end_sent = stream.wanted = True
        else:
            stream.receiving = False
            stream.ended = True
        return stream

    def withdraw(self, id):
        """Want no result any more of what was asked."""
        stream = self.stream_of(id)
        if stream is not None:
            self.close(stream)

    def reply(self, id, payload):
        """Answer what the peer has asked, as :meth:`answer` does, by the id of ``EV_ASKED``."""
        size = len(payload) + 1
        if (
            size > self.fragment
            or self.congested
            or self.failed is not None
            or self.unanswered.pop(id, None) is None
        ):
            stream = self.stream_of(id)
            if stream is not None:
                self.answer(stream, payload)
            return
        self.peer_open -= 1
        self.out.append(pack_result(size, CLOSE, id, RESULT) + payload)

    def answer(self, stream, payload):
        """Close a channel with a result: as :meth:`close`, the short way where there is one."""
        if (
            not stream.ended
            or not stream.sending
            or stream.queue
            or stream.finish is not None
            or self.congested
            or self.failed is not None
            or len(payload) >= self.fragment
            or self.streams.pop(stream.id, None) is None
        ):
            self.close(stream, RESULT, payload)
            return
        if stream.local:
            self.local_open -= 1
        else:
            self.peer_open -= 1
        stream.sending = stream.receiving = False
        stream.close_sent = True
        self.out.append(pack(len(payload) + 1, CLOSE, stream.id) + CLOSE_RESULT + payload)

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
            size <= self.fragment
            and not prefix
            and stream.credit >= size + FRAME_COST
            and not stream.queue
            and not self.congested
        ):
            stream.credit -= size + FRAME_COST
            if size < 1024:
                self.out.append(pack(size, DATA, stream.id) + payload)
            else:
                self.out.append(pack(size, DATA, stream.id))
                self.out.append(payload)
            return True
        if size + len(prefix) > MAX_VALUE and not stream.raw:
            raise LocalError("a value of %d bytes, the limit is %d" % (size, MAX_VALUE))
        stream.queue.append([payload, -len(prefix), token, prefix])
        self._enqueue(stream)
        return False

    def send_now(self, stream, payload):
        """Send a short value if it need not wait for anything: the fast way of :meth:`send`.

        :returns: how many pieces are on their way with it; 0 when :meth:`send` has to be called.
        """
        size = len(payload)
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
        """The frame of a short value, when it may be written at once: the fastest way there is.

        :returns: its bytes, which the caller must write next; None when it has to be sent by
            :meth:`send`, because something is to be written before it or credit is short.
        """
        size = len(payload)
        if (
            stream.credit < size + FRAME_COST
            or self.out
            or self.ready
            or stream.queue  # it waits for credit for more than this
            or size > self.fragment
            or not stream.sending
            or self.congested
        ):
            return None
        stream.credit -= size + FRAME_COST
        return pack(size, DATA, stream.id) + payload

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
        if len(payload) >= self.fragment:
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
            self.out.append(pack(8, PING, 0) + data)

    def goaway(self, code, message):
        """Say that this connection is over, and why. It is the last thing to be sent."""
        if self._goodbye:
            return
        self._goodbye = True
        most = 4096 if self.fragment == FRAGMENT else 128
        goodbye = {"code": code, "message": message[:most]}
        if code == "exit":
            goodbye["last"] = self.last_peer_id
        payload = PLAIN.encode(goodbye)
        self.out.append(pack(len(payload), GOAWAY, 0) + payload)
        self._over(ProtocolError(code, message))

    # -- what is to be written -------------------------------------------------------------------

    def has_data(self):
        """Whether there is something to write now."""
        return bool(self.out or (self.ready and self.peer is not None))

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
        # At least one fragment each time, so that small values that are sent without end
        # cannot keep a long one from its turn.
        while ready:
            stream = ready.popleft()
            stream.ready = False
            taken = self._take_fragment(stream, parts)
            size += taken
            if taken and stream.queue and stream.credit > FRAME_COST:
                stream.ready = True
                self._goes_on(stream)
            elif self.turns and self.turns.pop(stream.id, 0):
                self._next_long()
            if size >= limit:
                break
        return parts

    def _goes_on(self, stream):
        """A channel has had its turn, and has more to send.

        Of those with long values :data:`LONG` take turns at a time, or else each of a hundred would
        make the peer hold nearly all of its value before the first is complete.
        """
        runs = self.turns
        run = runs.get(stream.id, 0)
        if run < LONG_RUN and (run or len(runs) < LONG):
            runs[stream.id] = run + 1
            self.ready.append(stream)
        elif run and not self.waiting:
            self.ready.append(stream)
        else:
            self.waiting.append(stream)
            if run:
                del runs[stream.id]
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
            return self._finish(stream, parts)
        item = queue[0]
        payload, offset, token, prefix = item
        left = len(payload) - offset
        room = stream.credit - FRAME_COST
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
            self.ready.append(stream)

    def _finish(self, stream, out=None):
        """Send the END or CLOSE that waits, if nothing is queued before it; return its size."""
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
            self._forget(stream)
        return HEADER_SIZE + len(payload)

    def _cut_error(self, payload):
        """An error's map, cut so that it fits in the peer's frames."""
        message = "an error of %d bytes" % len(payload)
        cut = {"code": "remote", "message": message}
        try:
            error = PLAIN.decode(payload)
        except InvalidValue:
            error = None
        if isinstance(error, dict):
            half = self.fragment // 32 - 16  # four texts, of up to 4 bytes a character
            for key in ("code", "type", "message", "formatted"):
                value = error.get(key)
                if isinstance(value, STRS):
                    short = len(value) <= 2 * half
                    cut[key] = value if short else value[:half] + "..." + value[-half:]
        return PLAIN.encode(cut)


__all__ = [
    "EV_ANSWERED",
    "EV_ASKED",
    "EV_CLOSED",
    "EV_DATA",
    "EV_END",
    "EV_FAILED",
    "EV_GOAWAY",
    "EV_HELLO",
    "EV_OPENED",
    "EV_PONG",
    "EV_RUN",
    "Limits",
    "LocalError",
    "Mux",
    "ProtocolError",
    "Stream",
]
