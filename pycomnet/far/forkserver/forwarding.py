"""The objects on a fork server's channels, and how one channel is forwarded to another."""

from ...wire.frames import ERROR, bin32


class Nobody(object):
    """On a channel that is no longer of interest."""

    def __init__(self, peer, stream):
        self._peer = peer
        self._stream = stream
        stream.app = self

    def data(self, payload, cost):
        """Drop it."""
        self._peer.mux.consumed(self._stream, cost)

    def move(self, fd, length, cost):
        """Splice nothing."""
        return False

    def ended(self):
        """End sending as well."""
        self._peer.mux.close(self._stream)

    def closed(self, kind, payload):
        """No action needed."""


class Waiting(object):
    """On a raw channel whose destination does not exist yet.

    :ivar last: the last event, once nothing more comes: its method and arguments; else None.
    """

    def __init__(self, peer, stream):
        self._peer = peer
        self._stream = stream
        self._items = []
        self.last = None
        stream.app = self

    def data(self, payload, cost):
        """Keep it: at most a window."""
        self._items.append((payload, cost))

    def move(self, fd, length, cost):
        """Splice nothing: the destination does not exist yet."""
        return False

    def ended(self):
        """Kept."""
        self.last = ("ended", ())

    def closed(self, kind, payload):
        """Kept."""
        self.last = ("closed", (kind, payload))

    def give(self, app):
        """Let ``app`` take over, with what has come."""
        self._stream.app = app
        for payload, cost in self._items:
            app.data(payload, cost)
        if self.last is not None:
            getattr(app, self.last[0])(*self.last[1])


class Splice(object):
    """Forwards what comes on one channel to a channel of another connection; one per direction."""

    def __init__(self, peer, stream, other, onto):
        self._peer = peer
        self._stream = stream
        self._other = other
        self._onto = onto
        self._raw = stream.raw
        if not self._raw:
            peer.mux.demand_read(stream)

    def data(self, payload, cost):
        """Forward it; give its credit back when it has been sent."""
        other, onto, stream = self._other, self._onto, self._stream
        mux = self._peer.mux
        if not onto.sending or other.closed:
            gone = True
        elif type(payload) is memoryview:  # long bytes, without the value's header
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
        """As :meth:`data`, for bytes that can be read from a descriptor; False if impossible."""
        if not self._other.send_from(self._onto, fd, length):
            return False
        self._peer.mux.consumed(self._stream, cost)
        return True

    def ended(self):
        """End the other channel as well."""
        if not self._other.closed:
            self._other.mux.end(self._onto)

    def closed(self, kind, payload):
        """Close the other channel as well."""
        if not self._other.closed and (kind == ERROR or self._onto.sending):
            self._other.mux.close(self._onto, kind, payload)


class Sent(object):
    """Called when what came on a channel has been forwarded: gives its credit back."""

    __slots__ = ("_mux", "_stream", "_cost")

    def __init__(self, mux, stream, cost):
        self._mux = mux
        self._stream = stream
        self._cost = cost

    def __call__(self):
        self._mux.consumed(self._stream, self._cost)


def splice(one, stream, other, onto):
    """Join two channels into one: each forwards to the other."""
    there = Splice(one, stream, other, onto)
    onto.app = Splice(other, onto, one, stream)
    waiting = stream.app
    if isinstance(waiting, Waiting):
        waiting.give(there)
    else:
        stream.app = there
