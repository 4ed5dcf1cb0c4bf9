"""What calls services: a service elsewhere, its calls and its streams."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet import defer
from twisted.python.failure import Failure

from pycomnet.errors import (
    CallInterrupted,
    ConnectionLost,
    DeadlineExceeded,
    InvalidArguments,
    RemoteError,
    ServerLeaving,
    ServiceUnreachable,
    UnknownInterface,
    from_map,
)
from pycomnet.wire.frames import ERROR, NORMAL, RESULT
from pycomnet.wire.values import InvalidValue

if TYPE_CHECKING:
    from pycomnet.services.context import Context
    from pycomnet.services.pool import ClientConnection, Peer
    from pycomnet.services.routes import Route
    from pycomnet.wire.mux import Stream

#: Seconds between attempts to reach a service, the first and the longest.
FIRST_RETRY = 0.05
LONGEST_RETRY = 1.0


class _Default:
    def __repr__(self) -> str:
        return "<the context's timeout>"


#: What ``invoke`` takes for "as long as the context says".
DEFAULT: Any = _Default()


class PendingCall:
    """A call that was sent, and waits for its result."""

    __slots__ = ("bucket", "connection", "deferred", "peer", "repeat", "stream")

    def __init__(
        self,
        peer: Peer,
        connection: ClientConnection,
        repeat: Callable[[], defer.Deferred[Any]] | None,
    ) -> None:
        self.peer = peer
        self.connection = connection
        #: what calls again, when the connection breaks
        self.repeat = repeat
        self.stream: Stream | None = None
        self.bucket: dict[Any, None] | None = None
        self.deferred: defer.Deferred[Any] | None = defer.Deferred(self._cancelled)

    def _finish(self) -> defer.Deferred[Any] | None:
        """It is over; who waits for it, if somebody still does."""
        deferred, self.deferred = self.deferred, None
        if deferred is not None:
            self.peer.pending -= 1
            bucket = self.bucket
            if bucket is not None:
                bucket.pop(self, None)
        return deferred

    # -- what the connection says ----------------------------------------------------------------

    def arrived(self, payload: bytes | memoryview, cost: int) -> None:
        """The result."""
        connection = self.connection
        if cost:
            connection.mux.consumed(self.stream, cost)  # type: ignore[arg-type]
        deferred = self._finish()
        if deferred is None:
            return
        try:
            if isinstance(payload, memoryview):
                raise InvalidValue("a result is an array, not bytes")
            answer = connection.decode(payload)
            value = answer[0]
        except (InvalidValue, TypeError, IndexError, KeyError) as problem:
            deferred.errback(Failure(connection.violated("value", f"a result: {problem}")))
        else:
            deferred.callback(value)

    def ended(self) -> None:
        self._no_result()

    def closed(self, kind: int, payload: bytes) -> None:
        if kind == RESULT:
            self.arrived(payload, 0)
            return
        if kind != ERROR:
            self._no_result()
            return
        deferred = self._finish()
        if deferred is None:
            return
        try:
            problem: Exception = from_map(self.connection.decode(payload))
        except InvalidValue as invalid:
            problem = self.connection.violated("value", str(invalid))
        if isinstance(problem, ServerLeaving):
            self.peer.drop(self.connection)
            if self.repeat is not None:
                self._again(deferred, self.repeat)
                return
        deferred.errback(Failure(problem))

    def _no_result(self) -> None:
        deferred = self._finish()
        if deferred is not None:
            deferred.errback(
                Failure(CallInterrupted("the server closed the call without a result"))
            )

    def connection_lost(self, lost: ConnectionLost) -> None:
        deferred = self._finish()
        if deferred is None:
            return
        if self.repeat is not None:
            self._again(deferred, self.repeat)
            return
        problem = CallInterrupted(
            f"{self.peer.address}: {lost.reason}, while the call was under way"
        )
        problem.__cause__ = lost
        deferred.errback(Failure(problem))

    def _again(
        self, deferred: defer.Deferred[Any], repeat: Callable[[], defer.Deferred[Any]]
    ) -> None:
        again = repeat()
        deferred._canceller = lambda _: again.cancel()
        again.chainDeferred(deferred)

    # -- what ends it here -----------------------------------------------------------------------

    def expired(self) -> None:
        """Its deadline has passed."""
        self.bucket = None
        deferred = self._finish()
        self._close()
        if deferred is not None:
            deferred.errback(Failure(DeadlineExceeded("no result before its deadline")))

    def _cancelled(self, _: object) -> None:
        self._finish()
        self._close()

    def _close(self) -> None:
        stream, connection = self.stream, self.connection
        if stream is not None and connection.lost is None:
            connection.mux.close(stream, NORMAL)
            connection.flush_soon()


class RemoteService:
    """A service elsewhere, to call its methods.

    It has no connection of its own: all that is called at one address shares one, which is made
    when it is needed and made again when it broke.

    :ivar interface: the interface it is called by.
    """

    def __init__(self, context: Context, route: Route, interface: str | None) -> None:
        self._context = context
        self._route = route
        self.interface = interface

    def __repr__(self) -> str:
        return f"<RemoteService {self.interface} {self._route}>"

    def invoke(
        self,
        method: str,
        args: Any = None,
        timeout: float | None = DEFAULT,
        attachments: Sequence[Any] = (),
        with_binary: bool = False,
    ) -> defer.Deferred[Any]:
        """Call a method.

        :param args: its structured arguments, as a rule a dict: any value that can be sent.
        :param timeout: seconds until it is given up; None for ever. By default as long as the
            context says. The server is told, and cancels the method.
        :param attachments: blocks of binary data, each a :class:`Binary`.
        :param with_binary: fire with (result, files) rather than with the result alone.
        :returns: fires with the method's result. Fails with a
            :class:`~pycomnet.errors.ServiceError`, whose subclasses say what went wrong, or with
            :class:`RemoteError` when the method raised. Cancelling it cancels the method.
        """
        peer = self._route.pick()
        connection = None if peer is None else peer.connection
        context = self._context
        if timeout is DEFAULT:
            timeout = context.timeout
        if connection is None or peer is None or attachments or with_binary:
            expires = None if timeout is None else context.reactor.seconds() + timeout
            return defer.Deferred.fromCoroutine(
                self._invoke(method, args, expires, attachments, with_binary)
            )
        if context.expires is not None:
            timeout = context.limit(timeout)
        return self._send(peer, connection, method, args, timeout)

    def _send(
        self,
        peer: Peer,
        connection: ClientConnection,
        method: str,
        args: Any,
        timeout: float | None,
    ) -> defer.Deferred[Any]:
        interface = self.interface or _only(peer)
        context = self._context
        repeat: Callable[[], defer.Deferred[Any]] | None = None
        call = PendingCall(peer, connection, repeat)
        try:
            payload = connection.encode([interface, method, args, timeout])
            if len(payload) > peer.longest:
                raise InvalidArguments(
                    f"arguments of {len(payload)} bytes, and {peer.longest} are the most that"
                    f" {peer.address} takes: send what is long as Binary"
                )
            call.stream = connection.ask("invoke", payload, call)
        except Exception as problem:
            return defer.fail(problem)
        peer.pending += 1
        if timeout is not None:
            call.bucket = context.deadlines.add(call, timeout)
        assert call.deferred is not None
        return call.deferred

    async def _invoke(
        self,
        method: str,
        args: Any,
        expires: float | None,
        attachments: Sequence[Any],
        with_binary: bool,
    ) -> Any:
        context = self._context
        peer, connection = await self._reach(expires)
        return await self._send(peer, connection, method, args, context.left(expires))

    async def _reach(self, expires: float | None) -> tuple[Peer, ClientConnection]:
        """A connection to an instance of the service, before the deadline."""
        context = self._context
        delay = FIRST_RETRY
        while True:
            left = context.left(expires)
            try:
                reaching = self._route.reach()
                if left is not None:
                    reaching.addTimeout(left, context.reactor)
                return await reaching
            except defer.TimeoutError:
                text = f"{self._route} could not be reached before the call's deadline"
                raise DeadlineExceeded(text) from None
            except ServiceUnreachable as problem:
                if not self._route.may_return():
                    raise
                left = context.left(expires)
                if left is not None and left <= delay:
                    raise DeadlineExceeded(f"{problem} (until the call's deadline)") from problem
            await context.sleep(delay)
            delay = min(2 * delay, LONGEST_RETRY)

    def stream(self, method: str, args: Any = None, timeout: float | None = None) -> RemoteStream:
        """Call a method that gives one value after the other.

        :param timeout: seconds until it is given up, values and all; by default never.
        :returns: what to iterate over, at once; what goes wrong is raised there.
        """
        expires = None if timeout is None else self._context.reactor.seconds() + timeout
        return RemoteStream(self, method, args, expires)

    def introspect(self) -> defer.Deferred[dict[str, Any]]:
        """What the service offers: see :func:`pycomnet.services.interface.describe`."""
        return self.invoke("introspect")


def _only(peer: Peer) -> str:
    """The interface that a server has, if it is one."""
    found = list(peer.services)
    if len(found) != 1:
        have = ", ".join(found) or "none"
        raise UnknownInterface(f"{peer.address}: say which interface is meant; there are: {have}")
    return found[0]


class RemoteStream:
    """The values that a method gives, one after the other. Iterate over it with ``async for``.

    The method waits when they are not taken. :meth:`close` it when no more are wanted.
    """

    def __init__(
        self, service: RemoteService, method: str, args: Any, expires: float | None
    ) -> None:
        self._service = service
        self._core: Any = None
        self._problem: Exception | None = None
        self._closed = False
        self._bucket: dict[Any, None] | None = None
        self._ready: list[defer.Deferred[Any]] = []
        self._opening: defer.Deferred[None] | None = None
        opening = defer.Deferred.fromCoroutine(self._open(method, args, expires))
        if not opening.called:
            self._opening = opening
        opening.addBoth(self._opened)

    async def _open(self, method: str, args: Any, expires: float | None) -> None:
        service = self._service
        context = service._context
        peer, connection = await service._reach(expires)
        interface = service.interface or _only(peer)
        left = context.left(expires)
        payload = connection.encode([interface, method, args, left])
        self._core = connection.open("stream", payload, end=True)
        if left is not None:
            self._bucket = context.deadlines.add(self, left)

    def _opened(self, result: Any) -> None:
        self._opening = None
        if isinstance(result, Failure):
            self._problem = result.value  # type: ignore[assignment]
        ready, self._ready = self._ready, []
        for one in ready:
            if not one.called:
                one.callback(None)

    def receive(self) -> defer.Deferred[Any]:
        """The next value.

        :returns: fires with it. Fails with ``StopAsyncIteration``'s equal for Deferreds,
            :class:`~pycomnet.errors.ChannelClosed`, at the end; else as ``invoke`` does, and with
            :class:`~pycomnet.errors.CallInterrupted` when the connection broke. Cancelling it
            leaves the value for the next ``receive``.
        """
        if self._problem is not None:
            return defer.fail(self._problem)
        if self._core is None:
            waiting: defer.Deferred[Any] = defer.Deferred()
            self._ready.append(waiting)
            return waiting.addCallback(lambda _: self.receive())
        received: defer.Deferred[Any] = self._core.receive()
        return received.addErrback(self._failed)

    def _failed(self, failure: Failure) -> Any:
        problem = failure.value
        if self._problem is not None:
            raise self._problem
        if isinstance(problem, ConnectionLost):
            raise CallInterrupted(f"{problem.reason}, while the stream went on") from problem
        if isinstance(problem, RemoteError):
            raise from_map(problem.error)
        return failure

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        from pycomnet.errors import ChannelClosed

        try:
            return await self.receive()
        except ChannelClosed:
            self.close()
            raise StopAsyncIteration from None

    def expired(self) -> None:
        """Its deadline has passed."""
        self._bucket = None
        self._problem = DeadlineExceeded("the stream's deadline has passed")
        self.close()

    def close(self) -> None:
        """Want no more: the method is cancelled."""
        if self._bucket is not None:
            self._bucket.pop(self, None)
            self._bucket = None
        if self._opening is not None:
            self._opening.cancel()
        if self._core is not None and not self._closed:
            self._closed = True
            self._core.close()

    cancel = close


__all__ = ["DEFAULT", "PendingCall", "RemoteService", "RemoteStream"]
