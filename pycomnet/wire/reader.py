"""The frame reader: turns bytes, cut anywhere, into events and whole frames."""

from .assembly import view
from .calls import CLOSE_RESULT
from .frames import (
    CLOSE,
    DATA,
    FRAGMENT,
    FRAME_COST,
    GOAWAY,
    HEADER_SIZE,
    MORE,
    OPEN,
    RUN,
    RUN_VALUE,
    frame_cost,
    frame_name,
    run_cost,
    unpack_from,
)
from .hello import check_start
from .stream import EV_DATA, EV_RUN, ProtocolError

#: Frames from this size on, in bytes, are joined from their pieces at the end; the most pieces.
LONG_FRAME = 16384
MAX_PIECES = 64


class FrameReader(object):
    """Cuts the bytes of a connection into frames.

    It turns the most frequent frames into events itself: a value in one frame, a run of short
    values, a unary call and its reply. All others go to ``handle``.

    :param handle: called with each other frame: its type, its channel's id, its payload and the
        list of events that it may append to.
    """

    def __init__(self, table, flow, calls, handle):
        self._streams = table.streams
        self._flow = flow
        self._calls = calls
        self._handle = handle
        #: the longest frame that may come, in bytes; -1 before the hello
        self.max_frame = -1
        #: whether a part of a frame is kept: its first bytes, or the pieces of a long one and the
        #: number of bytes that are missing
        self.is_within = False
        #: whether the connection is over
        self.is_stopped = False
        self._tail = bytearray()
        self._pieces = None
        self._lacking = 0

    def lacking(self):
        """The least number of bytes missing from an incomplete frame; 0 if there is none."""
        if self._pieces is not None:
            return self._lacking
        have = len(self._tail)
        if have < HEADER_SIZE:
            return have and HEADER_SIZE - have
        return HEADER_SIZE + unpack_from(bytes(self._tail[:HEADER_SIZE]))[0] - have

    def kept(self):
        """The pieces of an incomplete frame."""
        return self._pieces or [self._tail]

    def stop(self):
        """The connection is over: read nothing more."""
        self.is_stopped = True
        self._forget()

    def _forget(self):
        self._tail = bytearray()
        self._pieces = None
        self.is_within = False

    def read_rest(self, data, events):
        """Complete the incomplete frame.

        :returns: the position after it, or -1 if it is still incomplete.
        """
        if self._pieces is not None:
            return self._read_piece(data, events)
        tail = self._tail
        have = len(tail)
        position = 0
        if have < HEADER_SIZE:
            position = HEADER_SIZE - have
            tail += data[:position]
            have = len(tail)
            if self.max_frame < 0:
                check_start(tail)
            if have < HEADER_SIZE:
                return -1
        length, ftype, _ = unpack_from(bytes(tail[:HEADER_SIZE]))
        if position and self.max_frame >= 0:
            self._check_header(length, ftype)
        stop = position + HEADER_SIZE + length - have
        tail += data[position:stop]
        if len(tail) < HEADER_SIZE + length:
            return -1
        self._forget()
        self.read(bytes(tail), 0, events)
        return stop

    def _read_piece(self, data, events):
        pieces, lacking = self._pieces, self._lacking
        if len(data) < lacking:
            self._lacking = lacking - len(data)
            pieces.append(data)
            if len(pieces) > MAX_PIECES:
                # Many tiny pieces would take much more memory than their bytes.
                self._pieces = [b"".join(pieces)]
            return -1
        self._forget()
        pieces.append(view(data)[:lacking])
        first = pieces[0]
        _, ftype, id = unpack_from(first)
        if ftype == DATA:
            pieces[0] = first[HEADER_SIZE:]
            self._handle(DATA, id, b"".join(pieces), events)
        else:
            self.read(b"".join(pieces), 0, events)
        return lacking

    def read(self, data, position, events):
        """Read the frames from a position on, and keep the bytes of an incomplete last one."""
        end = len(data)
        streams = self._streams
        calls = self._calls
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
                    # Inlined (FlowControl.charge) for the row "small dicts, far to near".
                    cost = length + FRAME_COST
                    window = stream.window - cost
                    if window < 0:
                        self._flow.overrun(stream, window)
                    stream.window = window
                    if stream.partial is None:
                        if length <= RUN_VALUE and end - stop > HEADER_SIZE:
                            stop = self._read_run(data, position, stop, end, stream, events)
                        else:
                            events.append((EV_DATA, stream, data[start:stop], cost))
                    else:
                        self._flow.complete(stream, data[start:stop], cost, events)
                else:
                    # A unary call has no stream until a frame other than its reply comes.
                    self._handle(DATA, id, data[start:stop], events)
            elif (
                ftype == CLOSE
                and stop <= end
                and id in calls.pending
                and data.startswith(CLOSE_RESULT, start, stop)
                and length <= limit
            ):
                stop = calls.read_replies(id, data, position, stop, events)
            else:
                if (
                    ftype == OPEN
                    and stop <= end
                    and data.startswith(calls.expected_heads, start, stop)
                    and length <= limit
                ):
                    after = calls.read_calls(id, data, position, stop, events)
                    if after != position:
                        position = after
                        continue
                if limit < 0:
                    check_start(data[position : position + 64])
                else:
                    self._check_header(length, ftype)
                if stop > end:
                    break
                if length >= FRAGMENT and ftype == MORE and id in streams:
                    # Not copied: it will be joined with the other fragments.
                    self._flow.more(streams[id], view(data)[start:stop])
                else:
                    self._handle(ftype, id, data[start:stop], events)
                limit = self.max_frame
                if self.is_stopped:
                    return
            position = stop
        if position < end:
            self.is_within = True
            if end - position >= HEADER_SIZE and length >= LONG_FRAME and limit >= 0:
                # Its header was checked above. Its pieces are joined once, at the end.
                self._pieces = [view(data)[position:]]
                self._lacking = stop - end
                return
            self._tail = tail = bytearray(data[position:])
            if len(tail) < HEADER_SIZE and limit < 0:
                check_start(tail)

    def _read_run(self, data, position, stop, end, stream, events):
        """Read a short value and those of its channel behind it; return the position after."""
        id = stream.id
        run = [data[position + HEADER_SIZE : stop]]
        first = stop
        if end > position + RUN:
            end = position + RUN
        last = end - HEADER_SIZE
        head = data[position : position + HEADER_SIZE]
        if data[stop : stop + HEADER_SIZE] == head:
            # Many values of a stream have the same size, so their frames have the same header.
            # Whatever has that size and stands between two such headers is a value.
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
        # The first has been charged already.
        window = stream.window - run_cost(stop - first, len(run) - 1)
        while window < 0:
            # Values over the credit are left for later, when each is checked by itself.
            size = len(run.pop())
            window += frame_cost(size)
            stop -= size + HEADER_SIZE
        stream.window = window
        cost = run_cost(stop - position, len(run))
        if len(run) == 1:
            events.append((EV_DATA, stream, run[0], cost))
        else:
            events.append((EV_RUN, stream, run, cost))
        return stop

    def _check_header(self, length, ftype):
        if ftype > GOAWAY:
            raise ProtocolError("frame", "unknown frame type %d" % ftype)
        if length > self.max_frame:
            raise ProtocolError(
                "frame",
                "%s of %d bytes, the limit is %d" % (frame_name(ftype), length, self.max_frame),
            )
