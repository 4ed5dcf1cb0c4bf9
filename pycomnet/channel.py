"""Channels at the near side: each operation returns a Deferred."""

from __future__ import annotations

import contextlib
import inspect
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from twisted.internet import defer
from twisted.logger import Logger
from twisted.python.failure import Failure

from pycomnet.errors import ChannelClosed, ConnectionLost, PycomnetError, RemoteError
from pycomnet.wire import mux as wire
from pycomnet.wire.frames import ERROR, FRAGMENT, NORMAL, RESULT, bin32
from pycomnet.wire.values import InvalidValue

if TYPE_CHECKING:
    from pycomnet.connection import Connection

log = Logger()


class _NoEndmarker:
    def __repr__(self) -> str:
        return "<no endmarker>"


#: What ``setcallback`` takes for "no endmarker".
NO_ENDMARKER = _NoEndmarker()


class ChannelCore:
    """What the connection keeps of a channel. Users have a :class:`Channel` in hands.

    The two are apart so that the connection, which the reactor keeps alive, does not keep alive
    what only users hold: a gateway that nobody can reach any more is ended.
    """

    __slots__ = (
        "busy",
        "callback",
        "close_waiters",
        "connection",
        "endmarker",
        "errback",
        "over",
        "queue",
        "seen",
        "sends",
        "stream",
        "taker",
        "waiters",
    )

    #: the classes that users can send over a channel as a channel
    handle_types: tuple[type, ...] = ()

    def __init__(self, connection: Connection, stream: wire.Stream) -> None:
        self.connection = connection
        self.stream = stream
        stream.app = self
        #: values nobody has received yet: (payload, cost)
        self.queue: deque[tuple[bytes, int]] = deque()
        self.waiters: deque[defer.Deferred[Any]] = deque()
        self.close_waiters: list[defer.Deferred[None]] = []
        #: Deferreds of sends that wait for credit
        self.sends: dict[defer.Deferred[None], None] = {}
        #: why no value comes any more
        self.over: Exception | None = None
        #: whether somebody was told of that, if it is an error
        self.seen = False
        self.callback: Callable[[Any], Any] | None = None
        self.errback: Callable[[Failure], Any] | None = None
        self.endmarker: object = NO_ENDMARKER
        #: True while a callback's Deferred is awaited
        self.busy = False
        #: takes raw bytes instead: a Twisted transport
        self.taker: Any = None

    # -- sending ---------------------------------------------------------------------------------

    def send(self, payload: bytes, prefix: bytes = b"") -> defer.Deferred[None]:
        deferred: defer.Deferred[None]
        connection = self.connection
        stream = self.stream
        if connection.lost is not None or not stream.sending:
            return defer.fail(self.send_error())
        size = len(payload)
        if size <= 65536 and not stream.queue and stream.credit >= size + 64:
            if connection.mux.send(stream, payload):
                connection.flush_soon()
                return defer.succeed(None)
            # The transport takes no more just now: wait behind what was just queued.
            stream.queue[-1][2] = deferred = defer.Deferred(self._cancel_send)
        else:
            deferred = defer.Deferred(self._cancel_send)
            connection.mux.send(stream, payload, deferred, prefix)
        self.sends[deferred] = None
        deferred.addBoth(self._sent, deferred)
        connection.flush_soon()
        return deferred

    def _sent(self, result: Any, deferred: defer.Deferred[None]) -> Any:
        self.sends.pop(deferred, None)
        return result

    def _cancel_send(self, deferred: defer.Deferred[None]) -> None:
        if not self.connection.mux.unsend(self.stream, deferred):
            # A part of it is gone already, so the rest will follow it.
            for item in self.stream.queue:
                if item[2] is deferred:
                    item[2] = None
        self.sends.pop(deferred, None)

    def send_error(self) -> Exception:
        if self.connection.lost is not None:
            return self.connection.lost
        if isinstance(self.over, RemoteError):
            self.seen = True
            return self.over
        return ChannelClosed(f"channel {self.stream.id} is closed for sending")

    def end(self) -> None:
        self.connection.mux.end(self.stream)
        self.connection.flush_soon()

    def close(self, error: Exception | None = None, kind: int = NORMAL, payload: bytes = b"") -> None:
        connection = self.connection
        if error is not None:
            kind, payload = ERROR, connection.encode(_error_map(error))
        if connection.lost is None:
            connection.mux.close(self.stream, kind, payload)
            connection.flush_soon()
        if kind == ERROR:
            self._fail_sends(ChannelClosed(f"channel {self.stream.id} was closed here"))
        self._finish(ChannelClosed(f"channel {self.stream.id} was closed here"))

    def abandon(self) -> None:
        """Nobody has the channel in hands any more."""
        if self.callback is not None or self.taker is not None:
            return
        if self.stream.purpose != "exec":
            self.close()
        elif not self.waiters and not (self.seen and self.over is not None):
            # The code runs on: what it sends is dropped, what it raises is logged.
            self.queue.clear()
            self.set_callback(_ignore, _log_unhandled, NO_ENDMARKER)

    # -- receiving -------------------------------------------------------------------------------

    def receive(self) -> defer.Deferred[Any]:
        if self.callback is not None or self.taker is not None:
            what = "a callback" if self.callback is not None else "a protocol"
            return defer.fail(PycomnetError(f"channel {self.stream.id} has {what}"))
        if self.queue and not self.waiters:
            payload, cost = self.queue.popleft()
            deferred: defer.Deferred[Any] = defer.Deferred()
            self._give(deferred, payload, cost)
            self.connection.flush_soon()
            return deferred
        if self.over is not None:
            self.seen = True
            return defer.fail(self.over)
        deferred = defer.Deferred(self._cancel_receive)
        self.waiters.append(deferred)
        stream = self.stream
        stream.wanted = True
        if stream.partial_cost:
            self.connection.mux.want(stream)
            self.connection.flush_soon()
        return deferred

    def _cancel_receive(self, deferred: defer.Deferred[Any]) -> None:
        with contextlib.suppress(ValueError):
            self.waiters.remove(deferred)
        self.stream.wanted = bool(self.waiters)

    def _give(self, deferred: defer.Deferred[Any], payload: bytes, cost: int) -> None:
        connection = self.connection
        if cost:
            connection.mux.consumed(self.stream, cost)
        try:
            value = self._value(payload)
        except InvalidValue as problem:
            deferred.errback(Failure(connection.violated("value", str(problem))))
        else:
            deferred.callback(value)

    def _value(self, payload: bytes) -> Any:
        if self.stream.raw:
            return payload
        if type(payload) is memoryview:
            return payload.obj
        return self.connection.decode(payload)

    def arrived(self, payload: bytes, cost: int) -> None:
        """A value's encoding, or raw bytes, from the peer."""
        if self.callback is not None and not self.busy and not self.queue:
            self._call_back(payload, cost)
        elif self.waiters:
            deferred = self.waiters.popleft()
            if not self.waiters:
                self.stream.wanted = False
            self._give(deferred, payload, cost)
        elif self.taker is not None and not self.busy:
            self.connection.mux.consumed(self.stream, cost)
            self.taker.data_received(payload)
        else:
            self.queue.append((payload, cost))

    def _call_back(self, payload: bytes, cost: int) -> None:
        connection = self.connection
        if cost:
            connection.mux.consumed(self.stream, cost)
        try:
            value = self._value(payload)
        except InvalidValue as problem:
            connection.violated("value", str(problem))
            return
        try:
            result = self.callback(value)  # type: ignore[misc]
        except BaseException:
            self._callback_failed(Failure())
            return
        if result is None:
            return
        if inspect.iscoroutine(result):
            result = defer.Deferred.fromCoroutine(result)
        if isinstance(result, defer.Deferred):
            if result.called and not result.paused and not isinstance(result.result, Failure):
                return
            self.busy = True
            self.stream.wanted = False
            result.addCallbacks(self._callback_done, self._callback_failed)

    def _callback_done(self, _: object) -> None:
        self.busy = False
        self._drain()
        self.connection.flush_soon()

    def _callback_failed(self, failure: Failure) -> None:
        """The user's callback raised: this channel ends, and nothing else does."""
        self.busy = False
        errback, self.callback, self.endmarker = self.errback, _ignore, NO_ENDMARKER
        self.errback = None
        self.queue.clear()
        self.close(failure.value if isinstance(failure.value, Exception) else None)
        self._tell(errback, failure)

    def set_callback(
        self,
        callback: Callable[[Any], Any],
        errback: Callable[[Failure], Any] | None,
        endmarker: object,
    ) -> None:
        if self.callback is not None or self.taker is not None or self.waiters:
            raise PycomnetError(
                f"channel {self.stream.id} has a callback, a protocol or a waiting receive already"
            )
        self.callback, self.errback, self.endmarker = callback, errback, endmarker
        self._drain()
        if self.connection.lost is None:
            self.connection.flush_soon()

    def set_taker(self, taker: Any) -> None:
        if not self.stream.raw:
            raise PycomnetError(f"channel {self.stream.id} is not raw: it carries values")
        if self.callback is not None or self.taker is not None or self.waiters:
            raise PycomnetError(f"channel {self.stream.id} has another taker already")
        self.taker = taker
        self.resume()

    def pause(self) -> None:
        self.busy = True

    def resume(self) -> None:
        self.busy = False
        while self.queue and not self.busy:
            payload, cost = self.queue.popleft()
            self.connection.mux.consumed(self.stream, cost)
            self.taker.data_received(payload)
        if self.over is not None and not self.queue and not self.busy:
            taker, self.taker = self.taker, None
            if taker is not None:
                self.seen = True
                taker.ended(self.over)
        elif self.connection.lost is None:
            self.connection.flush_soon()

    def _drain(self) -> None:
        """Call back with what has come in the meantime, and with the end if it has."""
        while self.queue and not self.busy:
            self._call_back(*self.queue.popleft())
        if self.busy:
            return
        if self.over is not None:
            self._call_end()
        elif self.connection.lost is None:
            self.connection.mux.want(self.stream)

    def _call_end(self) -> None:
        over, errback, callback = self.over, self.errback, self.callback
        endmarker, self.endmarker = self.endmarker, NO_ENDMARKER
        self.errback, self.callback = None, _ignore
        if not isinstance(over, ChannelClosed):
            self.seen = True
            self._tell(errback, Failure(over))
        if endmarker is not NO_ENDMARKER and callback is not None:
            try:
                callback(endmarker)
            except BaseException:
                self._tell(errback, Failure())

    @staticmethod
    def _tell(errback: Callable[[Failure], Any] | None, failure: Failure) -> None:
        if errback is None:
            log.failure("unhandled error in a channel's callback", failure)
            return
        try:
            result = errback(failure)
            if inspect.iscoroutine(result):
                result = defer.Deferred.fromCoroutine(result)
            if isinstance(result, defer.Deferred):
                result.addErrback(lambda f: log.failure("a channel's errback failed", f))
        except BaseException:
            log.failure("a channel's errback raised")

    # -- the end ---------------------------------------------------------------------------------

    def ended(self) -> None:
        """The peer sends no more."""
        self._finish(ChannelClosed(f"channel {self.stream.id}: the other end sends no more"))

    def closed(self, kind: int, payload: bytes) -> None:
        """The peer closed it."""
        if kind == RESULT:
            self.arrived(payload, 0)
        over: Exception = ChannelClosed(f"channel {self.stream.id}: the other end closed it")
        if kind == ERROR:
            try:
                error = self.connection.decode(payload)
            except InvalidValue as problem:
                over = self.connection.violated("value", str(problem))
            else:
                over = RemoteError.from_map(error if isinstance(error, dict) else {})
        self._fail_sends(over)
        self._finish(over)

    def connection_lost(self, lost: ConnectionLost) -> None:
        self.stream.sending = False
        self._fail_sends(lost)
        self._finish(lost)

    def _fail_sends(self, over: Exception) -> None:
        sends, self.sends = self.sends, {}
        for deferred in sends:
            if not deferred.called:
                deferred.errback(Failure(over))

    def _finish(self, over: Exception) -> None:
        if self.over is not None:
            return
        self.over = over
        waiters, self.waiters = self.waiters, deque()
        close_waiters, self.close_waiters = self.close_waiters, []
        if waiters or close_waiters:
            self.seen = True
        for waiter in waiters:
            waiter.errback(Failure(over))
        for closing in close_waiters:
            self._fire_close(closing)
        if self.taker is not None:
            if not self.busy:
                self.resume()
        elif self.callback is not None and not self.busy and not self.queue:
            self._call_end()

    def wait_close(self) -> defer.Deferred[None]:
        deferred: defer.Deferred[None] = defer.Deferred(self._cancel_close)
        if self.over is not None:
            self.seen = True
            self._fire_close(deferred)
        else:
            self.close_waiters.append(deferred)
        return deferred

    def _cancel_close(self, deferred: defer.Deferred[None]) -> None:
        with contextlib.suppress(ValueError):
            self.close_waiters.remove(deferred)

    def _fire_close(self, deferred: defer.Deferred[None]) -> None:
        if self.over is None or isinstance(self.over, ChannelClosed):
            deferred.callback(None)
        else:
            deferred.errback(Failure(self.over))


def _ignore(_: object) -> None:
    """The callback of a channel whose end has been told."""


def _log_unhandled(failure: Failure) -> None:
    if failure.check(RemoteError):
        log.error("unhandled error in remote code:\n{error}", error=failure.getErrorMessage())


def _error_map(error: Exception) -> dict[str, str]:
    if isinstance(error, RemoteError):
        return error.as_map()
    return {
        "code": "remote",
        "type": type(error).__name__,
        "message": str(error)[:8000],
    }


class Channel:
    """One end of a channel to code at the far side.

    It is closed when nobody holds it any more and it has no callback.

    :ivar gateway: what it leads to.
    """

    __slots__ = ("__weakref__", "_finalizer", "core", "gateway")

    def __init__(self, core: ChannelCore, gateway: Any) -> None:
        self.core = core
        self.gateway = gateway
        self._finalizer = weakref.finalize(self, gateway.abandoned, core)
        self._finalizer.atexit = False

    @property
    def id(self) -> int:
        """Its number on its connection."""
        return self.core.stream.id

    def __repr__(self) -> str:
        state = "closed" if self.isclosed() else "open"
        return f"<Channel {self.id} of {self.gateway.id}, {state}>"

    def send(self, value: object) -> defer.Deferred[None]:
        """Send a value.

        :param value: None, bool, int, float, complex, str, bytes, list, tuple, dict, set,
            frozenset, channels, and these within each other; on a raw channel, bytes.
        :returns: fires when there is room for the value on its way: whoever waits for it cannot
            send faster than the other end takes. Fails with
            :class:`~pycomnet.wire.values.ValueNotSendable` (a TypeError that says what in the value
            can't be sent, and where), :class:`ChannelClosed`, :class:`RemoteError` or
            :class:`ConnectionLost`. Cancelling it takes the value back if none of it has been sent.
        """
        core = self.core
        if core.stream.raw:
            if not isinstance(value, bytes | bytearray | memoryview):
                kind = type(value).__name__
                return defer.fail(TypeError(f"a raw channel carries bytes, not {kind}"))
            return core.send(bytes(value))
        if type(value) is bytes and len(value) > FRAGMENT:
            return core.send(value, bin32(len(value)))
        try:
            payload = core.connection.encode(value)
        except Exception as problem:
            return defer.fail(problem)
        return core.send(payload)

    def receive(self) -> defer.Deferred[Any]:
        """The next value.

        :returns: fires with it; fails with :class:`ChannelClosed` (an EOFError) at the end,
            :class:`RemoteError` when the far code raised, :class:`ConnectionLost`. Cancelling it
            leaves the value for the next ``receive``.
        """
        return self.core.receive()

    def setcallback(
        self,
        callback: Callable[[Any], Any],
        errback: Callable[[Failure], Any] | None = None,
        endmarker: object = NO_ENDMARKER,
    ) -> None:
        """Have each value given to ``callback``, those that have come already first.

        :param callback: called with one value at a time. If it returns a Deferred or a coroutine,
            the next value waits for that, and so does the sender when the window is full. If it
            raises, the channel is closed with the error, and nothing else is touched.
        :param errback: called once with a Failure when the channel does not end well: it wraps
            :class:`RemoteError` when the far code raised, :class:`ConnectionLost` when the
            connection ended, or what ``callback`` itself raised. Without one, the failure is
            logged.
        :param endmarker: ``callback`` is called with this after the last value, if it is given.
        :raises PycomnetError: the channel has a callback, or a ``receive`` that waits.
        """
        self.core.set_callback(callback, errback, endmarker)

    def waitclose(self) -> defer.Deferred[None]:
        """Wait for the other end to close it, or to send no more.

        :returns: fires with None; fails with :class:`RemoteError` when the far code raised, and
            with :class:`ConnectionLost`. Cancelling it changes nothing.
        """
        return self.core.wait_close()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self.core.receive()
        except ChannelClosed:
            raise StopAsyncIteration from None

    def close(self, error: str | Exception | None = None) -> None:
        """Close both directions; what was sent still arrives, unless ``error`` is given.

        :param error: the far code's ``receive`` raises RemoteError with it.
        """
        if isinstance(error, str):
            error = RemoteError("", error)
        self.core.close(error)

    def send_end(self) -> None:
        """Say that no more will be sent; the other end may go on sending."""
        self.core.end()

    def isclosed(self) -> bool:
        """Whether nothing can be sent on it any more."""
        return not self.core.stream.sending or self.core.connection.lost is not None

    def makefile(self, mode: str = "w", proxyclose: bool = False) -> Any:
        """A file-like object whose methods return Deferreds; see :mod:`pycomnet.files`."""
        from pycomnet.files import ChannelFile

        return ChannelFile(self, mode, proxyclose)

    def attach(self, protocol: Any) -> None:
        """Make a raw channel the transport of a Twisted protocol.

        :param protocol: an ``IProtocol``; its ``connectionLost`` gets ``ConnectionDone`` when the
            other end finished, else what ended it.
        """
        from pycomnet.channeltransport import ChannelTransport

        ChannelTransport(self, protocol).start()


ChannelCore.handle_types = (Channel,)
