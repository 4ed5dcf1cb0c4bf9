"""What a fork server has on its channels, and how one is forwarded to another."""

from ...wire.frames import ERROR, bin32


class Nobody(object):
    """On a channel that is of no interest any more."""

    def __init__(self, peer, stream):
        self._peer = peer
        self._stream = stream
        stream.app = self

    def data(self, payload, cost):
        """Dropped."""
        self._peer.mux.consumed(self._stream, cost)

    def move(self, fd, length, cost):
        """Not worth it."""
        return False

    def ended(self):
        """Then this end has no more either."""
        self._peer.mux.close(self._stream)

    def closed(self, kind, payload):
        """As it is."""


class Waiting(object):
    """On a raw channel that was opened and is for something that is not there yet.

    :ivar last: what came last, once nothing more comes: its method and arguments; else None.
    """

    def __init__(self, peer, stream):
        self._peer = peer
        self._stream = stream
        self._items = []
        self.last = None
        stream.app = self

    def data(self, payload, cost):
        """Kept: at most a window."""
        self._items.append((payload, cost))

    def move(self, fd, length, cost):
        """There is nowhere to move it."""
        return False

    def ended(self):
        """Kept."""
        self.last = ("ended", ())

    def closed(self, kind, payload):
        """Kept."""
        self.last = ("closed", (kind, payload))

    def give(self, app):
        """Let this take over, with what has come."""
        self._stream.app = app
        for payload, cost in self._items:
            app.data(payload, cost)
        if self.last is not None:
            getattr(app, self.last[0])(*self.last[1])


class Splice(object):
    """Carries what comes on one channel to another, of another connection; one for each way."""

    def __init__(self, peer, stream, other, onto):
        self._peer = peer
        self._stream = stream
        self._other = other
        self._onto = onto
        self._raw = stream.raw
        if not self._raw:
            peer.mux.demand_read(stream)

    def data(self, payload, cost):
        """Send it on; give its credit back when that has happened."""
        other, onto, stream = self._other, self._onto, self._stream
        mux = self._peer.mux
        if not onto.sending or other.closed:
            gone = True
        elif type(payload) is memoryview:  # long bytes, without what the value begins with
            whole = payload.obj
            gone = other.mux.send(onto, whole, Sent(mux, stream, cost), bin32(len(whole)))
        else:
            gone = other.send_at_once(onto, payload) or other.mux.send(
                onto, payload, Sent(mux, stream, cost)
            )
        if gone:
            unacked = stream.unacked + cost
            if unacked < stream.half:
                stream.unacked = unacked
            else:
                mux.consumed(stream, cost)
        if not self._raw:
            mux.demand_read(stream)

    def move(self, fd, length, cost):
        """As :meth:`data`, of bytes that can be read from a descriptor; False if it can't be."""
        if not self._other.send_from(self._onto, fd, length):
            return False
        self._peer.mux.consumed(self._stream, cost)
        return True

    def ended(self):
        """So does the other."""
        if not self._other.closed:
            self._other.mux.end(self._onto)

    def closed(self, kind, payload):
        """So is the other."""
        if not self._other.closed and (kind == ERROR or self._onto.sending):
            self._other.mux.close(self._onto, kind, payload)


class Sent(object):
    """Called when what came on a channel has been sent on: gives its credit back."""

    __slots__ = ("_mux", "_stream", "_cost")

    def __init__(self, mux, stream, cost):
        self._mux = mux
        self._stream = stream
        self._cost = cost

    def __call__(self):
        self._mux.consumed(self._stream, self._cost)


def splice(one, stream, other, onto):
    """Make one channel of two: of ``one``'s and ``other``'s."""
    there = Splice(one, stream, other, onto)
    onto.app = Splice(other, onto, one, stream)
    waiting = stream.app
    if isinstance(waiting, Waiting):
        waiting.give(there)
    else:
        stream.app = there


__all__ = ["Nobody", "Splice", "Waiting", "splice"]
