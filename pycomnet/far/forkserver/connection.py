"""A connection of a fork server: the multiplexer over two non-blocking descriptors.

The ``app`` of each channel is an object with ``data(payload, cost)``, ``ended()`` and
``closed(kind, payload)``.
"""

import errno
import os
import select

from ...wire.assembly import view
from ...wire.frames import (
    DATA,
    ERROR,
    HEADER,
    HEADER_SIZE,
    HOP_WINDOW,
    RAW_FRAGMENT,
    frame_cost,
)
from ...wire.mux import (
    EV_CLOSED,
    EV_DATA,
    EV_END,
    EV_FAILED,
    EV_GOAWAY,
    EV_HELLO,
    EV_OPENED,
    EV_RUN,
    Limits,
    Mux,
    Stream,
)
from ...wire.values import PureCodec
from .splice import available, move

#: Bytes that are read at a time: usually, and when there is much.
READ_SMALL = 65536
READ_LARGE = 1048576
#: The reason for a connection's end, if there is no better one.
CLOSED = "it closed the connection"
#: How many pings a silent peer is sent before the connection is given up.
ASK_EACH = 3
#: The most pieces of one gathering write: no system's limit is lower.
MAX_PIECES = 512
#: Payloads up to this size, in bytes, are copied behind their frame's header.
SHORT = 16384
_writev = getattr(os, "writev", None)
_unpack = HEADER.unpack_from
_pack = HEADER.pack


def grow(fd):
    """Enlarge a pipe that was full, if the system can do so and allows it."""
    try:
        import fcntl

        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, READ_LARGE)
    except (ImportError, AttributeError, OSError, IOError):
        pass


def would_block(error):
    """Whether a read or write failed only because it would have had to wait."""
    return error.errno in (errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR)


def read_now(fd, size):
    """Read without waiting; empty at the end, and after an error; None if there is nothing."""
    try:
        return os.read(fd, size)
    except OSError as error:
        return None if would_block(error) else b""


class ForkServerConnection(object):
    """One end of a connection.

    :param loop: watches the descriptors.
    :param opened: called with each channel that the other end opens.
    :param over: called once with the reason, a sentence, when the connection is over.
    """

    def __init__(self, loop, read_fd, write_fd, initiator, info, opened, over):
        self.loop = loop
        self.read_fd = read_fd
        self.write_fd = write_fd
        self.mux = Mux(initiator, Limits(HOP_WINDOW, RAW_FRAGMENT), info)
        self.codec = PureCodec(Stream, self._dump, self._load)
        self.closed = False
        #: functions that are called when the hello has come
        self.ready = []
        #: when something last came from the other end, by the loop's clock
        self.heard = loop.now()
        #: seconds of silence after which the connection is given up, or None
        self.silence = None
        self._asked = 0
        #: whether it was silent for too long when that was last checked
        self._is_late = False
        self._opened = opened
        self._over = over
        self._out = []
        self._size = READ_SMALL
        self._grown = False
        loop.watch(read_fd, select.POLLIN, self._readable)
        loop.peers.append(self)

    def _dump(self, stream):
        return stream.id

    def _load(self, id):
        return self.mux.streams[id]

    # -- reading ---------------------------------------------------------------------------------

    def _readable(self, events):
        size = self._size
        if size == READ_LARGE:
            # Only the rest of the frame that has begun, so that the next can be spliced.
            size = self.mux.lacking() or size
            if size == READ_LARGE and self._carry():
                return
        data = read_now(self.read_fd, size)
        if not data:
            if data is not None:
                self.over(CLOSED)
            return
        if len(data) >= READ_SMALL:
            self.loop.bulk = True
            if self._size == READ_SMALL:
                self._size = READ_LARGE
                grow(self.read_fd)
        self.receive(data)

    def _carry(self):
        """Let the system splice long frames that are forwarded; False if there are none."""
        fd, mux = self.read_fd, self.mux
        there = available(fd)
        if there < HEADER_SIZE + SHORT:
            return False
        self.heard = self.loop.now()
        self.loop.bulk = True
        end = max(0, there - READ_LARGE)
        while there > end and there >= HEADER_SIZE + SHORT and not self.closed:
            head = os.read(fd, HEADER_SIZE)
            there -= HEADER_SIZE
            length, ftype, id = _unpack(head)
            stream = mux.streams.get(id)
            cost = frame_cost(length)
            if (
                ftype != DATA
                or not SHORT <= length <= there
                or length > mux.reader.max_frame
                or stream is None
                or not stream.raw
                or not stream.receiving
                or stream.window < cost
                or not stream.app.move(fd, length, cost)
            ):
                # Of long frames only this one: the next may be spliced again.
                self.receive(head + os.read(fd, length if length >= SHORT else READ_LARGE))
                return True
            stream.window -= cost
            there -= length
        return True

    def send_from(self, stream, fd, length):
        """Send ``length`` bytes from a readable descriptor on a raw channel, if possible now.

        :returns: whether it was done; otherwise nothing was read.
        """
        scheduler = self.mux.scheduler
        if not scheduler.is_idle() and not self._out:
            self.flush()  # what waits is mostly credit
        if (
            self._out
            or self.closed
            or not scheduler.is_idle()
            or not scheduler.may_send(stream, length)
        ):
            return False
        head = _pack(length, DATA, stream.id)
        self._out = self._write([head])
        if self.closed:
            return False
        stream.credit -= frame_cost(length)
        rest = move(fd, self.write_fd, length) if not self._out else os.read(fd, length)
        if rest:
            self._out.append(rest)
            self._wait()
        return True

    def receive(self, data):
        """Handle bytes that have arrived."""
        self.heard = self.loop.now()
        for event in self.mux.receive_data(data):
            kind = event[0]
            if kind == EV_DATA:
                event[1].app.data(event[2], event[3])
            elif kind == EV_RUN:
                stream = event[1]
                if stream.raw:
                    stream.app.data(b"".join(event[2]), event[3])
                else:
                    for payload in event[2]:
                        stream.app.data(payload, frame_cost(len(payload)))
            elif kind == EV_OPENED:
                self._opened(self, event[1])
            elif kind == EV_END:
                event[1].app.ended()
            elif kind == EV_CLOSED:
                event[1].app.closed(event[2], event[3])
            elif kind == EV_HELLO:
                ready, self.ready = self.ready, None
                for call in ready:
                    call()
            elif kind == EV_GOAWAY:
                self.over("it said goodbye: %s %s" % event[1:])
                return
            elif kind == EV_FAILED:
                self.flush()
                self.over("it broke the protocol: %s" % event[1])
                return

    def when_ready(self, call):
        """Call ``call`` once channels can be opened."""
        if self.ready is None:
            call()
        else:
            self.ready.append(call)

    def check_silence(self):
        """Ping a silent peer, or give it up; return the seconds until the next check."""
        if not self.silence or self.closed:
            return None
        silent = self.loop.now() - self.heard
        if silent > self.silence:
            if self._is_late:
                self.over("it was silent for %g seconds" % self.silence)
            # This process may have been busy itself: first read what has come in the meantime.
            self._is_late = True
            return 0
        self._is_late = False
        step = float(self.silence) / ASK_EACH
        asked = int(silent / step)
        if asked > self._asked and self.mux.peer is not None:
            self.mux.ping(b"\0" * 8)
            self.flush()
        self._asked = asked
        return (asked + 1) * step - silent

    # -- writing ---------------------------------------------------------------------------------

    def send(self, stream, payload, sent):
        """Send a value's encoding, or raw bytes, as :meth:`Mux.send`; write short ones at once."""
        return self.send_at_once(stream, payload) or self.mux.send(stream, payload, sent)

    def send_at_once(self, stream, payload):
        """Send it if it is short and need not wait; return whether it was sent."""
        if self._out or len(payload) >= SHORT:
            return False
        frame = self.mux.immediate(stream, payload)
        if frame is None:
            return False
        try:
            done = os.write(self.write_fd, frame)
        except OSError as error:
            if not would_block(error):
                self.over("can't write to it: %s" % error)
                return True
            done = 0
        if done != len(frame):
            self._out = [frame[done:]]
            self._wait()
        return True

    def begin_with(self, data):
        """Write these bytes before anything else, the hello included."""
        self._out = [data]
        self._wait()

    def flush(self):
        """Write what waits, as far as the descriptor takes it."""
        mux = self.mux
        while not self.closed:
            parts = self._out
            if not parts:
                parts = mux.parts_to_send(READ_LARGE)
                if mux.scheduler.sent:
                    sent, mux.scheduler.sent = mux.scheduler.sent, []
                    for call in sent:
                        call()
                if not parts:
                    return
            self._out = self._write(parts)
            if self._out:
                self._wait()
                return

    def _wait(self):
        """Watch the descriptor, as it takes no more for now."""
        self.mux.scheduler.congested = True
        self.loop.watch(self.write_fd, select.POLLOUT, self._writable)
        if not self._grown:
            self._grown = True
            grow(self.write_fd)

    def _write(self, parts):
        """Write; return what is left."""
        if len(parts) > 1 and (_writev is None or len(parts) > MAX_PIECES):
            parts = [b"".join(parts)]
        size = 0
        for part in parts:
            size += len(part)
        try:
            if len(parts) == 1:
                done = os.write(self.write_fd, parts[0])
            else:
                done = _writev(self.write_fd, parts)
        except OSError as error:
            if not would_block(error):
                self.over("can't write to it: %s" % error)
                return []
            done = 0
        if done == size:
            return []
        for at, part in enumerate(parts):
            if done < len(part):
                return [view(part)[done:]] + list(parts[at + 1 :])
            done -= len(part)

    def _writable(self, events):
        self._out = self._write(self._out)
        if not self._out and not self.closed:
            self.loop.watch(self.write_fd, 0, None)
            self.mux.scheduler.congested = False
            self.flush()

    def over(self, reason):
        """The connection is over; its creator calls :meth:`tell` to notify the channels."""
        if self.closed:
            return
        self.closed = True
        self.loop.peers.remove(self)
        self.loop.watch(self.write_fd, 0, None)
        self.loop.watch(self.read_fd, 0, None)
        for fd in set((self.read_fd, self.write_fd)):
            os.close(fd)
        self._over(reason)

    def tell(self, reason):
        """Notify all channels that it is over."""
        payload = self.codec.encode({"code": "hop", "message": reason})
        for stream in list(self.mux.streams.values()):
            if stream.app is not None:
                stream.app.closed(ERROR, payload)
        self.mux.streams.clear()

    def fail(self, stream, code, message):
        """Close a channel with an error."""
        if not self.closed:
            payload = self.codec.encode({"code": code, "message": message})
            self.mux.close(stream, ERROR, payload)
