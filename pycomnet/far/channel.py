"""The far side's channel for the user's code: its operations block."""

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

#: The default of ``setcallback``: no endmarker.
NO_ENDMARKER = object()
#: The most bytes of an encoded error: it fits in a frame.
MAX_ERROR = 60000
#: Values up to this size are copied behind their frame's header.
SHORT = 16384


class RemoteError(Exception):
    """The near side closed the channel with an error, or its code raised one.

    :ivar formatted: the traceback at the near side, if there is one.
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
        self.channel.wake()


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

    ``send`` blocks while the other end's window is full, ``receive`` until there is a value. After
    the last value, ``receive`` raises EOFError, or :class:`RemoteError` if the channel was closed
    with an error. A channel that came in a value, or from ``newchannel``, is closed when nothing
    refers to it any more.

    The attributes below are for the connection, its batcher and the code that runs requests; the
    user's code must not use them.

    :ivar link: the connection.
    :ivar stream: the mux's state of it.
    :ivar batcher: a Batcher, while this channel has the write buffer for itself.
    :ivar items: what has arrived: payload and cost; or a list of payloads and their cost in all.
    :ivar over: None while values may come; then the exception with the reason why none will.
    :ivar request: called with the first value, which then is not received.
    :ivar accepted: whether the user's code has had a reference to it.
    :ivar runs: whether this is the channel of code that is running.
    """

    RemoteError = RemoteError

    def __init__(self, link, stream):
        self.link = link
        self.stream = stream
        self._immediate = link.mux.immediate
        self.batcher = None
        self.items = deque()
        #: decoded values, which came before ``items``
        self._values = deque()
        self._waiters = []
        #: threads in ``receive``
        self._waiting = 0
        self.over = None
        self.request = None
        self.accepted = True
        self._callback = None
        self.runs = False

    @property
    def id(self):
        """The channel's number on its connection."""
        return self.stream.id

    @property
    def gateway(self):
        """The connection's :class:`~.worker.FarGateway`: ``newchannel()`` and ``id``."""
        return self.link.gateway

    def __repr__(self):
        return "<Channel %d%s>" % (self.id, " closed" if self.isclosed() else "")

    def send(self, value):
        """Send a value; block until there is room for it.

        :raises TypeError: the value, or something in it, can't be sent.
        :raises EOFError: the channel or the connection is closed.
        """
        batcher = self.batcher
        if batcher is not None and batcher.owner == get_ident():
            # The fast path takes no lock: Batcher.stop waits while this is busy. Once the value is
            # in the write buffer it arrives, whatever happens to this process.
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
                payload = batcher.encode(value)  # encodes the value, or raises the proper error
        elif self.stream.raw:
            payload = bytes(value)
        elif type(value) is bytes and len(value) > FRAGMENT and bytes is not str:
            self._send(value, bin32(len(value)))
            return
        else:
            payload = self.link.encode(value)
        if len(payload) < SHORT:
            link = self.link
            with link.write_lock:
                with link.lock:
                    link.settle()
                    frame = self._immediate(self.stream, payload)
                if frame is not None:
                    try:
                        link.write_value(self, frame)
                    except BaseException as error:
                        link.write_failed(error)
                    return
        self._send(payload)

    def _send(self, payload, prefix=b""):
        link = self.link
        scheduler = link.mux.scheduler
        token = None
        with link.write_lock:
            with link.lock:
                if link.closed:
                    raise EOFError(link.reason)
                stream = self.stream
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
                link.write_parts(parts)
            for other in sent:
                other.done(True)
            if token is not None:
                link.flush_locked()
        if token is not None:
            link.wait(lambda: token.state is not None or not stream.sending, self._waiters)
            if token.state is None:
                raise self._send_error()

    def _send_error(self):
        if self.over is not None and not isinstance(self.over, RemoteError):
            return EOFError("channel %d is closed: %s" % (self.id, self.over))
        if self.over is not None:
            return self._end()
        return EOFError("channel %d is closed for sending" % self.id)

    def receive(self, timeout=None):
        """Receive the next value.

        :param timeout: seconds, or None to wait for ever.
        :raises ValueNotReceivable: this end does not have the value's type; the next value can
            be received.
        :raises EOFError: the other end closed it, and everything it sent has been received.
        :raises RemoteError: it was closed with an error.
        """
        try:
            if self._callback is None:
                return self._values.popleft()
        except IndexError:
            pass
        decoded, payload = self._next(timeout)
        if decoded or self.stream.raw:
            return payload
        if type(payload) is memoryview:
            return payload.obj
        return self.decode(payload)

    def decode(self, payload):
        """Decode a value; bytes that are no value end the connection.

        :raises EOFError: they are no value.
        """
        link = self.link
        try:
            return link.decode(payload)
        except InvalidValue as error:
            link.violated(error)
            raise EOFError(link.reason)

    def _next(self, timeout):
        """Take what is next: True and a value, or False and a payload."""
        link = self.link
        items = self.items
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
            if self.over is not None and not items and not self._values:
                raise self._end()
            self._wait(timeout)

    def _end(self):
        """The exception to raise when nothing more comes.

        It is a new one each time: a raised exception keeps its frames alive, and with them this
        channel and others, which would not be freed.
        """
        over = self.over
        if isinstance(over, RemoteError):
            return RemoteError(over.__dict__)
        return EOFError(*over.args)

    def _take(self, mux):
        """As :meth:`_next`, with the lock held; None if there is nothing."""
        values = self._values
        if values:
            return True, values.popleft()
        items = self.items
        if not items:
            return None
        payload, cost = items.popleft()
        mux.consumed(self.stream, cost)
        if type(payload) is not list:
            return False, payload
        run = self.link.decode_run(payload)
        if run is not None:
            values.extend(run)
            return True, values.popleft()
        items.extendleft([(each, 0) for each in reversed(payload)])
        return False, items.popleft()[0]

    def _ready(self):
        if self.items or self._values or self.over is not None:
            return True
        if not self.stream.read_demand:
            # Another thread got the value for which both waited.
            self._want()
        return False

    def _want(self):
        link = self.link
        with link.lock:
            link.mux.demand_read(self.stream)
            write = link.mux.has_data()
        if write:
            link.flush()

    def _wait(self, timeout):
        link = self.link
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
                    self.stream.read_demand = False

    class TimeoutError(IOError):
        """Nothing has come within the timeout of ``receive``."""

    def __iter__(self):
        return self

    def __next__(self):
        try:
            return self.receive()
        except EOFError:
            raise StopIteration

    next = __next__

    def setcallback(self, callback, endmarker=NO_ENDMARKER):
        """Call ``callback`` with each value, in a thread of the channel's own.

        :param endmarker: if given, ``callback`` is called with this at the end.
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
        # Whatever the callback raises, the near side gets it, and the callback the endmarker.
        try:
            while True:
                try:
                    value = receive()
                except (EOFError, RemoteError):
                    break
                callback(value)
        except:  # noqa: E722 - Java's exceptions have another base class
            from .execute import error_map

            self.close_as(ERROR, error_payload(self.link, error_map()))
        finally:
            if endmarker is not NO_ENDMARKER:
                callback(endmarker)

    def close(self, error=None):
        """Close it in both directions; what was sent still arrives.

        The channel of running code ends only when the code has: the near side's ``waitclose`` waits
        for that, and gets what the code raises.

        :param error: a string: the near side's ``receive`` raises RemoteError with it.
        """
        link = self.link
        if error is None and self.runs:
            self.send_end()
            with link.lock:
                if self.over is None:
                    self.over = EOFError("channel %d was closed here" % self.id)
                self.items.clear()
                self._values.clear()
            self.wake()
        elif error is None:
            self.close_as(NORMAL, b"")
        else:
            if not isinstance(error, dict):
                error = {"code": "remote", "type": "", "message": str(error)}
            self.close_as(ERROR, error_payload(link, error))

    def close_as(self, kind, payload):
        """Close it with a CLOSE frame of this kind."""
        link = self.link
        self.batcher = None
        with link.lock:
            link.mux.close(self.stream, kind, payload)
            if self.over is None:
                self.over = EOFError("channel %d was closed here" % self.id)
        self.wake()
        if not link.closed:
            link.flush()

    def close_with(self, value):
        """Send a last value and close, in one frame if it is short enough."""
        try:
            payload = self.link.encode(value)
        except ValueNotSendable as error:
            raise error.renamed("", "result", value)
        if len(payload) <= MAX_ERROR:
            self.close_as(RESULT, payload)
        else:
            self._send(payload)
            self.close_as(NORMAL, b"")

    def send_end(self):
        """End sending; the other end may go on."""
        self.batcher = None
        with self.link.lock:
            self.link.mux.end(self.stream)
        self.link.flush()

    def isclosed(self):
        """Whether nothing more can be sent."""
        return not self.stream.sending

    def waitclose(self, timeout=None):
        """Wait until the other end has closed it.

        :raises RemoteError: it was closed with an error.
        """
        link = self.link
        if not link.wait(lambda: self.over is not None, self._waiters, timeout):
            raise self.TimeoutError("channel %d: not closed in %g seconds" % (self.id, timeout))
        if isinstance(self.over, RemoteError):
            raise self._end()

    def makefile(self, mode="w", proxyclose=False):
        """A file object: each write is sent unchanged; received values are read.

        :param mode: ``"w"`` or ``"r"``.
        :param proxyclose: whether closing the file closes the channel.
        """
        from .files import ChannelFileRead, ChannelFileWrite

        if mode not in ("w", "r"):
            raise ValueError("mode: 'w' or 'r', not %r" % (mode,))
        return (ChannelFileWrite if mode == "w" else ChannelFileRead)(self, proxyclose)

    # -- called by the link, with the lock held --------------------------------------------------

    def run_arrived(self, payloads, cost):
        """Several values have come together; ``cost`` is their cost in all."""
        if self.request is not None or self.stream.raw:
            for payload in payloads:
                self.arrived(payload, frame_cost(len(payload)))
            return
        self.items.append((payloads, cost))
        if self._waiters:
            self.wake()

    def arrived(self, payload, cost):
        """A value has come."""
        if self.request is not None:
            request, self.request = self.request, None
            self.stream.read_demand = False
            self.link.mux.consumed(self.stream, cost)
            request(self, payload)
            return
        self.items.append((payload, cost))
        if self._waiters:
            self.wake()

    def peer_ended(self):
        """The other end sends no more."""
        if self.over is None:
            self.over = EOFError("channel %d: the other end sends no more" % self.id)
        self.wake()

    def peer_closed(self, kind, payload):
        """The other end has closed it."""
        self.batcher = None
        if self.over is None:
            self.over = EOFError("channel %d: the other end closed it" % self.id)
        if kind == RESULT:
            self.items.append((payload, 0))
        elif kind == ERROR:
            try:
                error = self.link.decode(payload)
            except InvalidValue:
                self.wake()
                raise
            except ValueNotReceivable as problem:
                error = {"message": "an error that can't be shown: %s" % problem}
            self.over = RemoteError(error if isinstance(error, dict) else {})
        self.wake()

    def connection_lost(self, reason):
        """The connection is over."""
        self.stream.sending = False
        self.batcher = None
        if self.over is None:
            self.over = EOFError(reason)
        self.wake()

    def wake(self):
        """Wake the threads that wait for it."""
        for waiter in list(self._waiters):
            self.link.wake_waiter(waiter)


__all__ = ["FarChannel", "LocalError", "RemoteError", "error_payload"]
