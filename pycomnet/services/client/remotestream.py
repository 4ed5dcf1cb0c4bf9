"""The values of a stream, at its caller."""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

from twisted.internet import defer
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

from pycomnet.deferred import OneShot
from pycomnet.errors import (
    CallInterrupted,
    ChannelClosed,
    ConnectionLost,
    DeadlineExceeded,
    RemoteError,
    from_map,
)
from pycomnet.far.live import Live
from pycomnet.services.client.callerrors import of_a_call
from pycomnet.services.client.pending import MOST_TURNS, not_sendable
from pycomnet.wire.values import ValueNotSendable

if TYPE_CHECKING:
    from pycomnet.services.client.remoteservice import RemoteService


class ValueIterator:
    """Iterates over what ``receive`` gives, up to the channel's end; then it is closed."""

    receive: Callable[[], Awaitable[Any]]
    close: Callable[[], object]

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self.receive()
        except ChannelClosed:
            self.close()
            raise StopAsyncIteration from None


class RemoteStream(ValueIterator, Live):
    """The values of a streaming method. Iterate over it with ``async for``.

    The method waits if the values are not taken. :meth:`close` the stream to get no more; this also
    happens when nobody holds it any more, as after a ``break``.

    Where a login is needed first, or a leaving server has not run the method, the method is called
    again, as with ``invoke``. A stream that has begun is not repeated.
    """

    #: the channel; None until it is open, and for one whose ``__init__`` has failed
    _core: Any = None

    def __init__(
        self, service: RemoteService, method: str, args: Any, expires: float | None
    ) -> None:
        self._service = service
        self._peer: Any = None
        self._problem: Exception | None = None
        self._closed = False
        self._bucket: dict[Any, None] | None = None
        #: stands for this stream in the bucket, without a reference to it
        self._deadline = _Deadline(self)
        self._ready: OneShot[None] = OneShot()
        self._opening: defer.Deferred[None] | None = None
        #: the method, its arguments and when it has to have ended, until there is a value
        self._request: tuple[str, Any, float | None] | None = (method, args, expires)
        self._repeats = 0
        self._begin()

    def _begin(self) -> None:
        """Ask for the values; :attr:`_ready` fires when that is done, or has failed."""
        assert self._request is not None
        opening = defer.Deferred.fromCoroutine(self._open(*self._request))
        if not opening.called:
            self._opening = opening
        opening.addBoth(self._opened)

    @property
    def peer(self) -> Any:
        """The server that the stream comes from; None before it is reached."""
        return self._peer

    async def _open(self, method: str, args: Any, expires: float | None) -> None:
        service = self._service
        context = service.context
        await service.pause(expires, self._repeats)
        peer, connection = await service.reach(expires)
        self._peer = peer
        left = context.left(expires)
        try:
            payload = connection.encode(service.request(peer, method, args, left))
        except ValueNotSendable as problem:
            raise not_sendable(connection, problem, method, args) from None
        self._core = connection.open("stream", payload, end=True)
        if left is not None:
            expires = context.reactor.seconds() + left
            self._bucket = context.deadlines.add(self._deadline, left, expires)

    def _opened(self, result: Any) -> None:
        self._opening = None
        if isinstance(result, Failure):
            self._problem = result.value  # type: ignore[assignment]
        self._ready.fire(None)

    def receive(self) -> defer.Deferred[Any]:
        """The next value.

        :returns: fires with the value. At the end it fails with
            :class:`~pycomnet.errors.ChannelClosed`; else as ``invoke`` does, and with
            :class:`~pycomnet.errors.CallInterrupted` when the connection broke. Cancelling it
            leaves the value for the next ``receive``.
        """
        if self._problem is not None:
            return defer.fail(self._problem)
        if self._core is None:
            return self._ready.when_fired().addCallback(lambda _: self.receive())
        received: defer.Deferred[Any] = self._core.receive()
        if self._request is not None:
            received.addCallback(self._has_begun)
        return received.addErrback(self._failed, self._core)

    def _has_begun(self, value: Any) -> Any:
        self._request = None
        return value

    def _failed(self, failure: Failure, core: Any) -> Any:
        problem = failure.value
        if self._problem is not None:
            raise self._problem
        if core is not self._core:
            return self.receive()  # another receive() has seen it, and the method is called again
        if isinstance(problem, ConnectionLost):
            unseen = core.connection.never_saw(core.stream.id)
            if unseen and self._repeats < MOST_TURNS and not self._service.context.pool.closed:
                return self._receive_anew()
            raise CallInterrupted(f"{problem.reason}, while the stream went on") from problem
        if isinstance(problem, RemoteError):
            found = from_map(problem.error)
            most = self._peer.most_repeats(core.connection, found)
            if self._request is not None and not self._closed and self._repeats < most:
                return self._receive_anew()
            self._service.goes_elsewhere(self._peer, found)  # the next stream does
            raise self._peer.explained(found)
        return failure

    def _receive_anew(self) -> defer.Deferred[Any]:
        """Call the method once more, which did not run, and give its first value."""
        self._repeats += 1
        self._core = None
        self._forget_deadline()
        self._ready = OneShot()
        self._begin()
        return self.receive()

    def expired(self) -> None:
        """Its deadline has passed."""
        self._bucket = None
        self._problem = of_a_call(DeadlineExceeded("the stream's deadline has passed"))
        self.close()

    def close(self) -> None:
        """Receive no more values, and cancel the method."""
        self._forget_deadline()
        if self._opening is not None:
            self._opening.cancel()
        if self._core is not None and not self._closed:
            self._closed = True
            self._core.close()

    cancel = close

    def _forget_deadline(self) -> None:
        if self._bucket is not None:
            self._bucket.pop(self._deadline, None)
            self._bucket = None

    def __del__(self) -> None:
        core = self._core
        if core is not None and not self._closed:
            # The garbage collector calls this in any thread, at any time.
            reactor = IReactorFromThreads(self._service.context.reactor)
            reactor.callFromThread(_let_go, core, self._bucket, self._deadline)


def _let_go(core: Any, bucket: dict[Any, None] | None, deadline: _Deadline) -> None:
    if bucket is not None:
        bucket.pop(deadline, None)
    core.close()


class _Deadline:
    """A stream's deadline, without a strong reference to the stream."""

    def __init__(self, stream: RemoteStream) -> None:
        self._stream = weakref.ref(stream)

    def expired(self) -> None:
        """It has passed."""
        stream = self._stream()
        if stream is not None:
            stream.expired()
