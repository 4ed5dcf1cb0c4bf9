"""A connection of a place's supervisor: the multiplexer over two descriptors, without waiting.

What is on its channels are objects with ``data(payload, cost)``, ``ended()`` and
``closed(kind, payload)``.
"""

import errno
import os
import select

from ..wire.frames import ERROR, FRAME_COST, bin32
from ..wire.mux import (
    EV_CLOSED,
    EV_DATA,
    EV_END,
    EV_FAILED,
    EV_GOAWAY,
    EV_HELLO,
    EV_OPENED,
    EV_RUN,
    Mux,
    Stream,
)
from ..wire.stream import view
from ..wire.values import PureCodec

READ_SMALL = 65536
READ_LARGE = 1048576
#: Why a connection is over, when there is no better reason.
CLOSED = "it closed the connection"
#: Times in which a silent other end is asked for a sign of life before it is given up.
ASK_EACH = 3
#: Pieces that one gathering write takes: no system's limit is lower.
MAX_PIECES = 512
_writev = getattr(os, "writev", None)


#: Bytes up to which a payload is copied behind its frame's header.
SHORT = 16384


def grow(fd):
    """Have a pipe that is found full hold more, where the system knows how and grants it."""
    try:
        import fcntl

        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, READ_LARGE)
    except (ImportError, AttributeError, OSError, IOError):
        pass


def would_block(error):
    """Whether a read or write failed only for now."""
    return error.errno in (errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR)


class Peer(object):
    """One end of a connection.

    :param loop: watches the descriptors.
    :param opened: called with each channel that the other end opens.
    :param over: called once with a sentence when the connection is over.
    """

    def __init__(self, loop, read_fd, write_fd, initiator, info, opened, over):
        self.loop = loop
        self.read_fd = read_fd
        self.write_fd = write_fd
        self.mux = Mux(initiator, None, info)
        self.codec = PureCodec(Stream, self._dump, self._load)
        self.closed = False
        #: called when the hello has come
        self.ready = []
        #: when the other end was last heard, by the loop's clock
        self.heard = loop.now()
        #: seconds after which it is given up when it says nothing, or None
        self.silence = None
        self._asked = 0
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
        try:
            data = os.read(self.read_fd, self._size)
        except OSError as error:
            if would_block(error):
                return
            data = b""
        if not data:
            self.over(CLOSED)
            return
        if len(data) >= READ_SMALL and self._size == READ_SMALL:
            self._size = READ_LARGE
            grow(self.read_fd)
        self.receive(data)

    def receive(self, data):
        """Deal with what came."""
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
                        stream.app.data(payload, len(payload) + FRAME_COST)
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
        """Call this once channels can be opened."""
        if self.ready is None:
            call()
        else:
            self.ready.append(call)

    def check_silence(self):
        """Ask a silent other end for a sign of life, or give it up; the seconds until then."""
        if not self.silence or self.closed:
            return None
        silent = self.loop.now() - self.heard
        if silent > self.silence:
            self.over("it was silent for %g seconds" % self.silence)
            return 0
        step = float(self.silence) / ASK_EACH
        asked = int(silent / step)
        if asked > self._asked and self.mux.peer is not None:
            self.mux.ping(b"\0" * 8)
            self.flush()
        self._asked = asked
        return (asked + 1) * step - silent

    # -- writing ---------------------------------------------------------------------------------

    def send(self, stream, payload, sent):
        """Send a value's encoding, or raw bytes, as :meth:`Mux.send`; short ones at once."""
        mux = self.mux
        if len(payload) < SHORT and not self._out:
            frame = mux.immediate(stream, payload)
            if frame is not None:
                self._out = self._write([frame])
                if self._out:
                    self._wait()
                return True
        return mux.send(stream, payload, sent)

    def flush(self):
        """Write what there is, as far as the descriptor takes it."""
        mux = self.mux
        while not self.closed:
            parts = self._out
            if not parts:
                parts = mux.parts_to_send(READ_LARGE)
                if mux.sent:
                    sent, mux.sent = mux.sent, []
                    for call in sent:
                        call()
                if not parts:
                    return
            self._out = self._write(parts)
            if self._out:
                self._wait()
                return

    def _wait(self):
        """The descriptor takes no more just now."""
        self.mux.congested = True
        self.loop.watch(self.write_fd, select.POLLOUT, self._writable)
        if not self._grown:
            self._grown = True
            grow(self.write_fd)

    def _write(self, parts):
        """Write; what is left."""
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
            self.mux.congested = False
            self.flush()

    def over(self, reason):
        """It is over; whoever made this tells those on its channels so."""
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
        """Tell those on its channels that it is over."""
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


class Nobody(object):
    """On a channel that is of no interest any more."""

    def __init__(self, peer, stream):
        self._peer = peer
        self._stream = stream
        stream.app = self

    def data(self, payload, cost):
        """Dropped."""
        self._peer.mux.consumed(self._stream, cost)

    def ended(self):
        """Then this end has no more either."""
        self._peer.mux.close(self._stream)

    def closed(self, kind, payload):
        """As it is."""


class Waiting(object):
    """On a raw channel that was opened and is for something that is not there yet."""

    def __init__(self, peer, stream):
        self._peer = peer
        self._stream = stream
        self._items = []
        self._last = None
        stream.app = self

    def data(self, payload, cost):
        """Kept: at most a window."""
        self._items.append((payload, cost))

    def ended(self):
        """Kept."""
        self._last = ("ended", ())

    def closed(self, kind, payload):
        """Kept."""
        self._last = ("closed", (kind, payload))

    def give(self, app):
        """Let this take over, with what has come."""
        self._stream.app = app
        for payload, cost in self._items:
            app.data(payload, cost)
        if self._last is not None:
            getattr(app, self._last[0])(*self._last[1])


class Splice(object):
    """Carries what comes on one channel to another, of another connection; one for each way."""

    def __init__(self, peer, stream, other, onto):
        self._peer = peer
        self._stream = stream
        self._other = other
        self._onto = onto
        if not stream.raw:
            peer.mux.want(stream)

    def data(self, payload, cost):
        """Send it on; give its credit back when that has happened."""
        prefix = b""
        if type(payload) is memoryview:  # long bytes, without what the value begins with
            payload = payload.obj
            prefix = bin32(len(payload))
        mux = self._peer.mux
        stream = self._stream
        if not self._onto.sending or self._other.closed:
            mux.consumed(stream, cost)
            return

        def sent():
            mux.consumed(stream, cost)

        if prefix:
            gone = self._other.mux.send(self._onto, payload, sent, prefix)
        else:
            gone = self._other.send(self._onto, payload, sent)
        if gone:
            mux.consumed(stream, cost)
        if not stream.raw:
            mux.want(stream)

    def ended(self):
        """So does the other."""
        if not self._other.closed:
            self._other.mux.end(self._onto)

    def closed(self, kind, payload):
        """So is the other."""
        if not self._other.closed and (kind == ERROR or self._onto.sending):
            self._other.mux.close(self._onto, kind, payload)


def splice(one, stream, other, onto):
    """Make one channel of two: of ``one``'s and ``other``'s."""
    there = Splice(one, stream, other, onto)
    onto.app = Splice(other, onto, one, stream)
    waiting = stream.app
    if isinstance(waiting, Waiting):
        waiting.give(there)
    else:
        stream.app = there


__all__ = ["Nobody", "Peer", "Splice", "Waiting", "grow", "splice", "would_block"]
