"""The channel as the user's code at the far side has it: its operations block."""

try:
    from _collections import deque  # the package itself imports much more
except ImportError:
    from collections import deque

from ..wire.frames import (
    ERROR,
    FRAGMENT,
    NORMAL,
    RESULT,
    bin32,
    frame_cost,
)
from ..wire.mux import LocalError
from ..wire.values import MAX_VALUE, InvalidValue, ValueNotReceivable, ValueNotSendable
from .batcher import get_ident
from .connection import start_new_thread
from .live import Live

#: What ``setcallback`` and ``makefile`` take for "none".
NO_ENDMARKER = object()
MAX_ERROR = 60000
#: Values up to this are copied behind their frame's header.
SHORT = 16384


class RemoteError(Exception):
    """The near side closed the channel with an error, or its code raised one.

    :ivar formatted: the traceback there, if there is one.
    """

    def __init__(self, error):
        self.type = error.get("type", "")
        self.message = error.get("message", "")
        self.formatted = error.get("formatted", "")
        Exception.__init__(self, self.formatted or self.message)


class _Token(object):
    """A value that waits for credit."""

    __slots__ = ("channel", "state")

    def __init__(self, channel):
        self.channel = channel
        self.state = None

    def done(self, state):
        self.state = state
        self.channel._wake()


def error_payload(link, error):
    """The encoding of an error's map, cut so that it fits in a frame."""
    payload = None
    if sum([len(text) for text in error.values()]) < MAX_ERROR:
        payload = link.encode(error)
    if payload is None or len(payload) > MAX_ERROR:
        error = dict(error)
        # A character takes up to four bytes.
        for key, most in (("message", 4000), ("type", 400), ("code", 40), ("formatted", 10000)):
            text = error.get(key, "")
            if len(text) > most:
                error[key] = text[: most // 2] + "\n... cut ...\n" + text[-(most // 2) :]
        payload = link.encode(error)
    return payload


class FarChannel(Live):
    """One end of a channel.

    ``send`` blocks while the other end's window is full, ``receive`` until there is a value. At
    the end of what the other end sent, ``receive`` raises EOFError, or :class:`RemoteError` when
    it was closed with an error. One that came in a value, or from ``newchannel``, is closed when
    nobody holds it any more.
    """

    RemoteError = RemoteError

    def __init__(self, link, stream):
        self._link = link
        self._stream = stream
        self._immediate = link.mux.immediate
        #: a Batcher, while this channel has the write buffer for itself
        self._batcher = None
        #: what has come: payload and cost; or a list of payloads, and what they cost together
        self._items = deque()
        #: values that came before those, decoded already
        self._values = deque()
        self._waiters = []
        #: threads in ``receive``
        self._waiting = 0
        #: None while values may come; then the exception that says why none will
        self._over = None
        #: called with the first value instead of its being received
        self._request = None
        #: whether the user's code has had it in hands
        self._claimed = True
        self._callback = None
        #: whether this is the channel of code that is running
        self._runs = False

    @property
    def id(self):
        """The channel's number on its connection."""
        return self._stream.id

    @property
    def gateway(self):
        """The connection's own view: ``newchannel()`` and ``id``."""
        return self._link.gateway

    def __repr__(self):
        return "<Channel %d%s>" % (self.id, " closed" if self.isclosed() else "")

    def send(self, value):
        """Send a value; block until there is room for it.

        :raises TypeError: the value can't be sent; it says what in it and where.
        :raises EOFError: the channel or the connection is closed.
        """
        batcher = self._batcher
        if batcher is not None and batcher.owner == get_ident():
            # The short way, which takes no lock: Collector.stop waits for who is busy. Once the
            # value is there nothing that happens to this process keeps it from arriving.
            try:
                if type(value) is bytes:
                    payload = batcher.encode(value)
                else:
                    payload = batcher.pack(value, batcher.hook, batcher.options)
            except Exception:
                payload = batcher.encode(value)
            if not batcher.busy:
                try:
                    batcher.busy = True
                    if len(payload) != batcher.size:
                        batcher.expect(len(payload))
                    begin = batcher.end
                    end = begin + batcher.step
                    if end <= batcher.limit and batcher.on:
                        batcher.put(batcher.memory, begin, batcher.head, payload)
                        batcher.end = batcher.shared[0] = end
                        return
                finally:
                    batcher.busy = False
            if len(payload) > MAX_VALUE:
                payload = batcher.encode(value)  # which says so
        elif self._stream.raw:
            payload = bytes(value)
        elif type(value) is bytes and len(value) > FRAGMENT and bytes is not str:
            self._send(value, bin32(len(value)))
            return
        else:
            payload = self._link.encode(value)
        if len(payload) < SHORT:
            link = self._link
            with link.write_lock:
                with link.lock:
                    link.settle()
                    frame = self._immediate(self._stream, payload)
                if frame is not None:
                    try:
                        link.write_value(self, frame)
                    except BaseException as error:
                        link.write_failed(error)
                    return
        self._send(payload)

    def _send(self, payload, prefix=b""):
        link = self._link
        scheduler = link.mux.scheduler
        token = None
        with link.write_lock:
            with link.lock:
                if link.closed:
                    raise EOFError(link.reason)
                stream = self._stream
                if not stream.sending:
                    raise self._send_error()
                link.settle()
                if not scheduler.send(stream, payload, None, prefix):
                    token = _Token(self)
                    stream.token_for_last(token)
                parts = scheduler.parts_to_send()
                sent = scheduler.sent
                if sent:
                    scheduler.sent = []
            if parts:
                link._write(parts)
            for other in sent:
                other.done(True)
            if token is not None:
                link._flush()
        if token is not None:
            link.wait(lambda: token.state is not None or not stream.sending, self._waiters)
            if token.state is None:
                raise self._send_error()

    def _send_error(self):
        if self._over is not None and not isinstance(self._over, RemoteError):
            return EOFError("channel %d is closed: %s" % (self.id, self._over))
        if self._over is not None:
            return self._end()
        return EOFError("channel %d is closed for sending" % self.id)

    def receive(self, timeout=None):
        """The next value.

        :param timeout: seconds, or None to wait for ever.
        :raises ValueNotReceivable: it is of a type that is not there here; the next one can be
            received.
        :raises EOFError: the other end closed it, and everything it sent has been received.
        :raises RemoteError: it was closed with an error.
        """
        try:
            if self._callback is None:
                return self._values.popleft()
        except IndexError:
            pass
        decoded, payload = self._next(timeout)
        if decoded or self._stream.raw:
            return payload
        if type(payload) is memoryview:
            return payload.obj
        return self._decode(payload)

    def _decode(self, payload):
        """A value that came; bytes that are none end the connection.

        :raises EOFError: that happened.
        """
        link = self._link
        try:
            return link.decode(payload)
        except InvalidValue as error:
            link.violated(error)
            raise EOFError(link.reason)

    def _next(self, timeout):
        """What is next: True and a value, or False and a payload."""
        link = self._link
        items = self._items
        while True:
            if self._callback is not None:
                raise IOError("channel %d has a callback" % self.id)
            mux = link.mux
            with link.lock:
                found = self._take(mux)
                write = mux.scheduler.out
            if write:
                link.flush()
            if found is not None:
                return found
            if self._over is not None and not items and not self._values:
                raise self._end()
            self._wait(timeout)

    def _end(self):
        """Why nothing comes any more, to be raised.

        It is a new exception each time: one that was raised holds the frames that it went through.
        Those hold this channel, and others, which would not be freed.
        """
        over = self._over
        if isinstance(over, RemoteError):
            return RemoteError(over.__dict__)
        return EOFError(*over.args)

    def _take(self, mux):
        """As :meth:`_next`, holding the lock; None when there is nothing."""
        values = self._values
        if values:
            return True, values.popleft()
        items = self._items
        if not items:
            return None
        payload, cost = items.popleft()
        mux.consumed(self._stream, cost)
        if type(payload) is not list:
            return False, payload
        run = self._link.decode_run(payload)
        if run is not None:
            values.extend(run)
            return True, values.popleft()
        items.extendleft([(each, 0) for each in reversed(payload)])
        return False, items.popleft()[0]

    def _ready(self):
        if self._items or self._values or self._over is not None:
            return True
        if not self._stream.read_demand:
            # Another thread got the value that both waited for.
            self._want()
        return False

    def _want(self):
        link = self._link
        with link.lock:
            link.mux.demand_read(self._stream)
            write = link.mux.has_data()
        if write:
            link.flush()

    def _wait(self, timeout):
        link = self._link
        with link.lock:
            self._waiting += 1
        try:
            self._want()
            if not link.wait(self._ready, self._waiters, timeout):
                raise self.TimeoutError("nothing came in %g seconds" % timeout)
        finally:
            with link.lock:
                self._waiting -= 1
                if not self._waiting:
                    self._stream.read_demand = False

    class TimeoutError(IOError):
        """Nothing came in the time that ``receive`` was given."""

    def __iter__(self):
        return self

    def __next__(self):
        try:
            return self.receive()
        except EOFError:
            raise StopIteration

    next = __next__

    def setcallback(self, callback, endmarker=NO_ENDMARKER):
        """Have ``callback`` called with each value, in a thread of the channel's own.

        :param endmarker: it is called with this at the end, if one is given.
        """
        if self._callback is not None:
            raise IOError("channel %d has a callback already" % self.id)
        receive = self._next_value
        self._callback = callback
        start_new_thread(self._call_back, (receive, callback, endmarker))

    def _next_value(self):
        callback, self._callback = self._callback, None
        try:
            return self.receive()
        finally:
            self._callback = callback

    def _call_back(self, receive, callback, endmarker):
        try:
            while True:
                callback(receive())
        except EOFError:
            pass
        except Exception:
            if self._over is None:
                from .execute import error_map

                self.close(error_map())
        if endmarker is not NO_ENDMARKER:
            callback(endmarker)

    def close(self, error=None):
        """Close it, both ways; what was sent still arrives.

        The channel of code that is running is gone for good when that has run: the near side's
        ``waitclose`` waits for it, and gets what it raises.

        :param error: a string: the near side's ``receive`` raises RemoteError with it.
        """
        link = self._link
        if error is None and self._runs:
            self.send_end()
            with link.lock:
                if self._over is None:
                    self._over = EOFError("channel %d was closed here" % self.id)
                self._items.clear()
                self._values.clear()
            self._wake()
        elif error is None:
            self._close(NORMAL, b"")
        else:
            if not isinstance(error, dict):
                error = {"code": "remote", "type": "", "message": str(error)}
            self._close(ERROR, error_payload(link, error))

    def _close(self, kind, payload):
        link = self._link
        self._batcher = None
        with link.lock:
            link.mux.close(self._stream, kind, payload)
            if self._over is None:
                self._over = EOFError("channel %d was closed here" % self.id)
        self._wake()
        if not link.closed:
            link.flush()

    def close_with(self, value):
        """Send a last value and close, in one frame when it is short enough."""
        try:
            payload = self._link.encode(value)
        except ValueNotSendable as error:
            raise error.renamed("", "result", value)
        if len(payload) <= MAX_ERROR:
            self._close(RESULT, payload)
        else:
            self._send(payload)
            self._close(NORMAL, b"")

    def send_end(self):
        """Say that no more is sent; the other end may go on."""
        self._batcher = None
        with self._link.lock:
            self._link.mux.end(self._stream)
        self._link.flush()

    def isclosed(self):
        """Whether nothing can be sent any more."""
        return not self._stream.sending

    def waitclose(self, timeout=None):
        """Wait until the other end has closed it.

        :raises RemoteError: it was closed with an error.
        """
        link = self._link
        if not link.wait(lambda: self._over is not None, self._waiters, timeout):
            raise self.TimeoutError("channel %d: not closed in %g seconds" % (self.id, timeout))
        if isinstance(self._over, RemoteError):
            raise self._end()

    def makefile(self, mode="w", proxyclose=False):
        """A file object: what is written is sent as it is; what is received is read.

        :param mode: ``"w"`` or ``"r"``.
        :param proxyclose: closing the file closes the channel.
        """
        from .files import ChannelFileRead, ChannelFileWrite

        if mode not in ("w", "r"):
            raise ValueError("mode: 'w' or 'r', not %r" % (mode,))
        return (ChannelFileWrite if mode == "w" else ChannelFileRead)(self, proxyclose)

    # -- what the link says; it holds the lock ---------------------------------------------------

    def _run_arrived(self, payloads, cost):
        if self._request is not None or self._stream.raw:
            for payload in payloads:
                self._arrived(payload, frame_cost(len(payload)))
            return
        self._items.append((payloads, cost))
        if self._waiters:
            self._wake()

    def _arrived(self, payload, cost):
        if self._request is not None:
            request, self._request = self._request, None
            self._stream.read_demand = False
            self._link.mux.consumed(self._stream, cost)
            request(self, payload)
            return
        self._items.append((payload, cost))
        if self._waiters:
            self._wake()

    def _ended(self):
        if self._over is None:
            self._over = EOFError("channel %d: the other end sends no more" % self.id)
        self._wake()

    def _closed(self, kind, payload):
        self._batcher = None
        if self._over is None:
            self._over = EOFError("channel %d: the other end closed it" % self.id)
        if kind == RESULT:
            self._items.append((payload, 0))
        elif kind == ERROR:
            try:
                error = self._link.decode(payload)
            except InvalidValue:
                self._wake()
                raise
            except ValueNotReceivable as problem:
                error = {"message": "an error that can't be shown: %s" % problem}
            self._over = RemoteError(error if isinstance(error, dict) else {})
        self._wake()

    def _lost(self, reason):
        self._stream.sending = False
        self._batcher = None
        if self._over is None:
            self._over = EOFError(reason)
        self._wake()

    def _wake(self):
        for waiter in list(self._waiters):
            self._link.wake_waiter(waiter)


__all__ = ["FarChannel", "LocalError", "RemoteError", "error_payload"]
