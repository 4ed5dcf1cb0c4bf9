"""What arrives at the multiplexer: bytes in, events out, and every limit kept."""

from struct import Struct

from .frames import (
    CHANNELS,
    CLOSE,
    CREDIT,
    DATA,
    END,
    FIRST,
    FIRST_MORE,
    FRAGMENT,
    FRAME_COST,
    GOAWAY,
    HEADER,
    HEADER_SIZE,
    HELLO,
    MAGIC,
    MAX_CREDIT,
    MAX_HELLO,
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
    RAW_FRAGMENT,
    RESULT,
    RUN,
    RUN_VALUE,
    U16,
    U32,
    VERSION,
    WINDOW,
    name,
)
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
    Assembly,
    ProtocolError,
    Stream,
    view,
)
from .values import InvalidValue, PureCodec

#: Bytes of a frame from which it is put together from pieces; how many those may be.
LONG_FRAME = 16384
MAX_PIECES = 64
#: Bytes of the longest frame whose likes right behind it are taken apart together.
LIKE = 256
#: How many elements, keys and values those may have: many times what any of them needs.
MAX_PLAIN = 16384
pack = HEADER.pack
unpack_from = HEADER.unpack_from
#: whether this Python takes records of one layout apart by one call
ITERATES = hasattr(HEADER, "iter_unpack")
#: for hellos, goodbyes and errors: values that hold no channels, from whoever connects
PLAIN = PureCodec(max_items=MAX_PLAIN, kinds=False)
# Python 2 has two types of each.
INTS = (int, type(1 << 70))
STRS = (str, type(b"".decode("ascii")))


#: what frames are taken apart with that have one size and begin alike
_LAYOUTS = {}


def _layout(kind, size):
    """The layout of a frame of a size whose payload begins with something."""
    layout = _LAYOUTS.get((kind, size))
    if layout is None:
        rest = size - HEADER_SIZE - Struct(kind).size
        layout = Struct("%s%s%ds" % (">IBI", kind, rest))
        if size <= LIKE and len(_LAYOUTS) < 4 * LIKE:
            _LAYOUTS[kind, size] = layout
    return layout


class Receiver(object):
    """The receiving half of a :class:`~.mux.Mux`, which has the state and the other half."""

    def _answer(self, frame):
        """Queue a frame that the peer made us send, within the limit on those."""
        self._control += len(frame)
        if self._control > self.limits.control:
            raise ProtocolError(
                "control",
                "over %d bytes of answers wait to be read by the peer" % self.limits.control,
            )
        self.out.append(frame)

    def _give_credit(self, stream, credit):
        self._answer(pack(4, CREDIT, stream.id) + U32.pack(credit))
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
        self._pieces = None
        # The hello goes before the GOAWAY if it has not gone yet; nothing else matters now.
        self.out = [part for part in self.out[:1] if part is self._first]
        self._over(error)
        self.goaway(error.code, error.message)
        return (EV_FAILED, error)

    def _over(self, error):
        """Nothing is sent and nothing is taken any more, but what is on its way."""
        if self.failed is None:
            self.failed = error
        self.ready.clear()
        self.waiting.clear()
        self.turns.clear()
        for stream in self.streams.values():
            stream.credit = 0
            self._stop_receiving(stream)

    def _stop_receiving(self, stream):
        stream.receiving = False
        stream.partial = None
        stream.partial_cost = 0

    def _forget(self, stream):
        if self.streams.pop(stream.id, None) is not None:
            if stream.local:
                self.local_open -= 1
            else:
                self.peer_open -= 1
        stream.sending = stream.receiving = False
        stream.queue.clear()
        stream.finish = None
        stream.partial = None
        if stream.ready:
            for ready in (self.ready, self.waiting):
                if len(ready) > 2 * len(self.streams) + 64:
                    # Most that wait for their turn are over. It may be long until that comes.
                    alive = [
                        other
                        for other in ready
                        if other.id in self.streams or other.id in self.turns
                    ]
                    ready.clear()
                    ready.extend(alive)

    # -- what arrives ----------------------------------------------------------------------------

    def receive_data(self, data):
        """Take bytes that arrived.

        :param data: bytes, cut anywhere.
        :returns: a list of events; none once the connection is over.
        """
        events = []
        if self._closed_early:
            self._closed_early = {}
        if self.failed is not None:
            events, self._untold = self._untold, events
            return events
        try:
            position = 0
            if self._pieces is not None:
                position = self._receive_piece(data, events)
                if position < 0 or self.failed is not None:
                    return events
            elif self._tail:
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
        length, ftype, _ = unpack_from(bytes(tail[:HEADER_SIZE]))
        if position and self.peer is not None:
            self._check_header(length, ftype)
        stop = position + HEADER_SIZE + length - have
        tail += data[position:stop]
        if len(tail) < HEADER_SIZE + length:
            return -1
        self._tail = bytearray()
        self._receive(bytes(tail), 0, events)
        return stop

    def _receive_piece(self, data, events):
        """Complete a long frame that the last bytes began; return the position after it, or -1."""
        pieces, lacking = self._pieces, self._lacking
        if len(data) < lacking:
            self._lacking = lacking - len(data)
            pieces.append(data)
            if len(pieces) > MAX_PIECES:
                # What comes in crumbs shall not take more memory than it is long.
                self._pieces = [b"".join(pieces)]
            return -1
        self._pieces = None
        pieces.append(view(data)[:lacking])
        first = pieces[0]
        _, ftype, id = unpack_from(first)
        if ftype == DATA:
            pieces[0] = first[HEADER_SIZE:]
            self._data(id, b"".join(pieces), events)
        else:
            self._receive(b"".join(pieces), 0, events)
        return lacking

    def _data(self, id, payload, events):
        stream = self._stream(id)
        if stream is None or not stream.receiving:
            self._drop(id, stream, len(payload))
            return
        cost = len(payload) + FRAME_COST
        stream.window -= cost
        if stream.window < 0:
            self._overrun(stream, stream.window)
        if stream.partial is None:
            events.append((EV_DATA, stream, payload, cost))
        else:
            self._complete(stream, payload, cost, events)

    def lacking(self):
        """How many bytes the frame lacks that has begun to come: at least; 0 if there is none."""
        if self._pieces is not None:
            return self._lacking
        have = len(self._tail)
        if have < HEADER_SIZE:
            return have and HEADER_SIZE - have
        return HEADER_SIZE + unpack_from(bytes(self._tail[:HEADER_SIZE]))[0] - have

    def _receive(self, data, position, events):
        end = len(data)
        streams = self.streams
        limit = self.max_frame
        while end - position >= HEADER_SIZE:
            length, ftype, id = unpack_from(data, position)
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
                        if length <= RUN_VALUE and end - stop > HEADER_SIZE:
                            stop = self._receive_run(data, position, stop, end, stream, events)
                        else:
                            events.append((EV_DATA, stream, data[start:stop], cost))
                    else:
                        self._complete(stream, data[start:stop], cost, events)
                else:
                    # A question has no stream before something else than its result comes.
                    self._data(id, data[start:stop], events)
            elif (
                ftype == CLOSE
                and stop <= end
                and id in self.questions
                and data.startswith(b"\x02", start, stop)
                and length <= limit
            ):
                stop = self._results(data, position, stop, events)
            elif (
                ftype == OPEN
                and stop <= end
                and data.startswith(self._expected_heads, start, stop)
                and length <= limit
                and self._questions(data, position, stop, events)
            ):
                stop = self._after
            else:
                if self.peer is None:
                    self._check_start(data[position : position + 64])
                else:
                    self._check_header(length, ftype)
                if stop > end:
                    break
                if length >= FRAGMENT and ftype == MORE:
                    # Not copied: it is joined with the others soon.
                    self._frame(ftype, id, view(data)[start:stop], events)
                else:
                    self._frame(ftype, id, data[start:stop], events)
                if self.failed is not None:
                    return
                limit = self.max_frame
            position = stop
        if position < end:
            if end - position >= HEADER_SIZE and length >= LONG_FRAME and self.peer is not None:
                # It was checked above. It is put together once, from what came.
                self._pieces = [view(data)[position:]]
                self._lacking = stop - end
                return
            self._tail = tail = bytearray(data[position:])
            if len(tail) < HEADER_SIZE and self.peer is None:
                self._check_start(tail)

    def _stream(self, id):
        """The stream for a frame that has come, if there is one."""
        stream = self.streams.get(id)
        if stream is None:
            if id in self.questions:
                stream = self.stream_of(id)
            elif id in self.unanswered:
                stream = self._closed_early[id] = self.stream_of(id)
        return stream

    def _alike(self, kind, data, position, stop):
        """The frame that begins at a position and as many of its size as follow, as tuples.

        :param kind: the format of what their payloads begin with.
        :returns: for each length, type, id, what the payload begins with, and the rest of that;
            those of another length or type have to be told by that.
        """
        size = stop - position
        count = (len(data) - position) // size if size <= LIKE and ITERATES else 1
        layout = _layout(kind, size)
        if count > 1:
            return layout.iter_unpack(view(data)[position : position + count * size])
        return (layout.unpack_from(data, position),)

    def _results(self, data, position, stop, events):
        """The result of a question, and those that follow; the position after them."""
        questions = self.questions
        size = stop - position
        length = size - HEADER_SIZE
        count = len(questions)
        for other, ftype, id, kind, payload in self._alike("1s", data, position, stop):
            if other != length or ftype != CLOSE or kind != b"\x02" or id not in questions:
                break
            events.append((EV_ANSWERED, questions.pop(id), payload))
        count -= len(questions)
        self.local_open -= count
        return position + count * size

    def _questions(self, data, position, stop, events):
        """A whole question that is expected, and those that follow for the same purpose.

        :returns: how many, and :attr:`_after` is the position after them; 0 when it is another case
            than it seemed.
        """
        for head in self._expected:
            if data.startswith(head, position + HEADER_SIZE, stop):
                break
        size = stop - position
        length = size - HEADER_SIZE
        if length - len(head) + FRAME_COST > self.limits.window:
            return 0
        purpose = self._expected[head]
        unanswered = self.unanswered
        parity = self._peer_parity
        last = self.last_peer_id
        count = 0
        room = self.limits.channels - self.peer_open
        for other, ftype, id, start, payload in self._alike(
            "%ds" % len(head), data, position, stop
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
            unanswered[id] = purpose
            last = id
            count += 1
            events.append((EV_ASKED, id, payload))
        self.last_peer_id = last
        self.peer_open += count
        self._after = position + count * size
        return count

    def _receive_run(self, data, position, stop, end, stream, events):
        """A short value and those of the same channel right behind it; the position after them."""
        id = stream.id
        run = [data[position + HEADER_SIZE : stop]]
        first = stop
        if end > position + RUN:
            end = position + RUN
        last = end - HEADER_SIZE
        head = data[position : position + HEADER_SIZE]
        if data[stop : stop + HEADER_SIZE] == head:
            # Many values of a stream have the same size, and their frames the same header. What is
            # between two such headers and has that size is a value, whatever it consists of.
            size = first - position - HEADER_SIZE
            same = data[stop:end].split(head)
            same[0] = run[0]
            if set(map(len, same)) == {size}:
                run = same
            else:
                for number, piece in enumerate(same):
                    if len(piece) != size:
                        run = same[:number]
                        if len(piece) > size:
                            run.append(piece[:size])
                        break
            stop = position + len(run) * (size + HEADER_SIZE)
        limit = RUN_VALUE if self.max_frame > RUN_VALUE else self.max_frame
        while stop <= last:
            length, ftype, other = unpack_from(data, stop)
            if other != id or ftype != DATA or length > limit:
                break
            start = stop + HEADER_SIZE
            after = start + length
            if after > end:
                break
            run.append(data[start:after])
            stop = after
        # What the first costs has been taken off already.
        extra = FRAME_COST - HEADER_SIZE
        window = stream.window - (stop - first) - (len(run) - 1) * extra
        while window < 0:
            # Those for which there is no credit are left to be found out by themselves.
            size = len(run.pop())
            window += size + FRAME_COST
            stop -= size + HEADER_SIZE
        stream.window = window
        cost = stop - position + len(run) * extra
        if len(run) == 1:
            events.append((EV_DATA, stream, run[0], cost))
        else:
            events.append((EV_RUN, stream, run, cost))
        return stop

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
        if length > self.max_frame:
            raise ProtocolError(
                "frame",
                "%s of %d bytes, the limit is %d" % (name(ftype), length, self.max_frame),
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
        what = "is over" if self.is_past(id) else "was never opened"
        raise ProtocolError("channel", "%s for channel %d, which %s" % (name(ftype), id, what))

    def is_past(self, id):
        """Whether a channel of this id has been opened, by whichever end."""
        if id & 1 == self._peer_parity:
            return 0 < id <= self.last_peer_id
        return 0 < id < self.next_id

    def _complete(self, stream, payload, cost, events):
        """The last fragment of a value."""
        partial = stream.partial
        partial.append(payload)
        self._check_value(stream)
        stream.partial = None
        cost += stream.partial_cost
        stream.partial_cost = 0
        # The value that was waited for is here; whoever waits for the next one says so again.
        stream.wanted = False
        events.append((EV_DATA, stream, partial.finish(), cost))

    def _check_value(self, stream):
        if stream.partial.size > self.limits.value:
            raise ProtocolError(
                "value", "channel %d: a value over %d bytes" % (stream.id, self.limits.value)
            )

    def _fragment_arrived(self, stream, payload):
        if stream.partial is None:
            stream.partial = Assembly()
        stream.partial.append(payload)
        self._check_value(stream)
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
                self._answer(pack(8, PONG, 0) + payload)
            else:
                events.append((EV_PONG, payload))
        elif ftype == GOAWAY:
            reason = self._map(payload, "frame", "GOAWAY")
            code, message = reason.get("code"), reason.get("message")
            if id or not isinstance(code, STRS) or not isinstance(message, STRS):
                raise ProtocolError("frame", "GOAWAY is a code and a message on channel 0")
            last = reason.get("last")
            if type(last) in INTS:
                self.last_taken = last
            events.append((EV_GOAWAY, code, message))
            self._over(ProtocolError(code, message))
        elif ftype == OPEN:
            self._opened(id, payload, events)
        else:
            stream = self._stream(id)
            if stream is None:
                if ftype == MORE or not self.is_past(id):
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
            if type(value) not in INTS or not lowest[key] <= value <= MAX_CREDIT:
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
        self.fragment = min(FRAGMENT, peer["frame"])
        self.raw_fragment = min(RAW_FRAGMENT, peer["frame"])
        self.max_frame = self.limits.frame
        events.append((EV_HELLO, peer))

    def _map(self, payload, code, what):
        try:
            value = PLAIN.decode(payload)
        except InvalidValue as error:
            raise ProtocolError(code, "%s: %s" % (what, error))
        if not isinstance(value, dict):
            raise ProtocolError(code, "%s: a map, not %s" % (what, type(value).__name__))
        return value

    def _opened(self, id, payload, events):
        if id & 1 != self._peer_parity or id <= self.last_peer_id:
            raise ProtocolError(
                "channel",
                "OPEN of channel %d after %d: ids are %s and only grow"
                % (id, self.last_peer_id, "odd" if self._peer_parity else "even"),
            )
        if self.peer_open >= self.limits.channels:
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
        self.last_peer_id = id
        stream = Stream(
            id, purpose, bool(flags & RAW), False, self.peer["window"], self.limits.window
        )
        self.streams[id] = stream
        self.peer_open += 1
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
                self._answer(pack(1, CLOSE, stream.id) + b"\x00")
            events.append((EV_CLOSED, stream, kind[0], payload[1:]))
        self._forget(stream)
