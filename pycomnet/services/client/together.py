"""Calls that are made together: as one request where the server takes batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet import defer
from twisted.python.failure import Failure

from pycomnet.errors import (
    CallSkipped,
)
from pycomnet.services.client.pending import (
    PendingCall,
    Taker,
    not_sendable,
    too_long,
)
from pycomnet.services.client.pendingbatch import BatchRequest, Call, PendingBatch
from pycomnet.wire.values import ValueNotSendable

if TYPE_CHECKING:
    from pycomnet.services.client.pool import ClientConnection, PooledServer
    from pycomnet.services.client.remoteservice import RemoteService

#: The most calls of one request, the most methods, and the most bytes of arguments, unless one call
#: has more: so the request fits a frame.
MOST_CALLS = 1000
MOST_METHODS = 100
MOST_BYTES = 48_000
SKIPPED = "it has not begun, as a call before it in the batch has failed"
#: Separates methods in a batch: see docs/protocol.rst.
SEPARATOR = "\n"

#: Whether a method may be called again.
May = Callable[[str], bool]


class Together:
    """Calls that were made together, until each has its result or its error.

    :param one_by_one: after one that fails, none begins.
    :ivar ended: fires when all have. Cancelling it cancels those that have not.
    """

    def __init__(
        self, service: RemoteService, count: int, expires: float | None, one_by_one: bool
    ) -> None:
        self.service = service
        self.expires = expires
        self.one_by_one = one_by_one
        #: whether one of them has failed
        self.failed = False
        self.ended: defer.Deferred[None] = defer.Deferred(self._cancel)
        self._left = count
        self._running: dict[Any, None] = {}
        self._is_cancelled = False
        #: fires when nothing is under way
        self._idle: defer.Deferred[None] | None = None

    def told(self, count: int, running: Any = None) -> None:
        """``count`` more calls have a result or an error.

        :param running: what has ended with it.
        """
        self._running.pop(running, None)
        if self._is_cancelled:
            return
        if not self._running and self._idle is not None:
            idle, self._idle = self._idle, None
            idle.callback(None)
        self._left -= count
        if self._left <= 0 and not self.ended.called:
            self.ended.callback(None)

    def broken(self, failure: Failure) -> None:
        """The calls could not be sent, for another reason than what they are."""
        if not self._is_cancelled and not self.ended.called:
            self.ended.errback(failure)

    def runs(self, running: Any) -> None:
        """Something is under way that ``cancel`` cancels."""
        self._running[running] = None

    def fail(self, taker: Taker, problem: BaseException) -> None:
        """Tell one its error; :meth:`told` is the caller's."""
        self.failed = True
        taker.errback(Failure(problem))

    def _cancel(self, _: object) -> None:
        self._is_cancelled = True
        running, self._running = self._running, {}
        for one in running:
            one.cancel()

    def repeat(
        self, calls: Sequence[Call], lost: Exception | None = None, may: May = lambda _: True
    ) -> None:
        """Make calls each by itself, if they did not run or may run again.

        :param lost: the error of the others.
        :param may: whether a method may be called again.
        """
        repeating = defer.Deferred.fromCoroutine(self._repeat(calls, lost, may))
        self.runs(repeating)

        def ended(result: object) -> None:
            if isinstance(result, Failure) and not result.check(defer.CancelledError):
                self.broken(result)
            self.told(0, repeating)

        repeating.addBoth(ended)

    async def _repeat(self, calls: Sequence[Call], lost: Exception | None, may: May) -> None:
        waiting = []
        for method, args, taker in calls:
            if self.one_by_one and self.failed:
                self.fail(taker, CallSkipped(SKIPPED))
                self.told(1)
            elif lost is not None and not may(method):
                self.fail(taker, lost)
                self.told(1)
            else:
                again = self.service.repeat(method, args, self.expires, None, 1)
                again.addCallbacks(taker.callback, self._failed, errbackArgs=(taker,))
                again.addCallback(lambda _: self.told(1))
                if self.one_by_one:
                    await again
                else:
                    waiting.append(again)
        if waiting:
            await defer.gatherResults(waiting)

    def _failed(self, failure: Failure, taker: Taker) -> None:
        self.failed = True
        taker.errback(failure)

    # -- sending ---------------------------------------------------------------------------------

    async def send(
        self, calls: Sequence[Call], peer: PooledServer, connection: ClientConnection
    ) -> None:
        """Send calls, as few requests in one write if the server takes batches."""
        if self.one_by_one:
            await self._send_each(calls, peer, connection)
            return
        with connection.together():
            for request in requests(calls, connection.encode, peer.batch, peer.longest):
                self._send_request(peer, connection, request)

    async def _send_each(
        self, calls: Sequence[Call], peer: PooledServer, connection: ClientConnection
    ) -> None:
        sent = 0
        for request in requests(calls, connection.encode, peer.batch, peer.longest):
            self._send_request(peer, connection, request)
            sent += len(request.calls)
            while self._running:
                self._idle = defer.Deferred()
                await self._idle
            if self.failed:
                break
        for _, _, taker in calls[sent:]:
            self.fail(taker, CallSkipped(SKIPPED))
        self.told(len(calls) - sent)

    def _send_request(
        self, peer: PooledServer, connection: ClientConnection, request: BatchRequest
    ) -> None:
        if request.problem is not None:
            ((method, args, taker),) = request.calls
            self.fail(taker, not_sendable(connection, request.problem, method, args))
            self.told(1)
        elif request.names:
            self._send_batch(peer, connection, request)
        else:
            self._send_alone(peer, connection, *request.calls[0])

    def _send_alone(
        self,
        peer: PooledServer,
        connection: ClientConnection,
        method: str,
        args: Any,
        taker: Taker,
    ) -> None:
        service, expires = self.service, self.expires
        call = PendingCall(service, peer, connection, method, args, expires)
        call.deferred = _Alone(self, call, taker)
        peer.pending += 1
        self.runs(call)
        try:
            left = service.context.left(expires)
            payload = connection.encode([service.called_by(peer), method, args, left])
            if len(payload) > peer.longest:
                raise too_long(payload, peer)
            call.id = connection.call("invoke", payload, call)
        except ValueNotSendable as problem:
            call.failed(not_sendable(connection, problem, method, args))
        except Exception as problem:
            call.failed(problem)
        else:
            self._sent(peer, call, left)

    def _send_batch(
        self, peer: PooledServer, connection: ClientConnection, request: BatchRequest
    ) -> None:
        service, expires = self.service, self.expires
        names = SEPARATOR.join(request.names)
        pending = PendingBatch(self, peer, connection, request)
        try:
            left = service.context.left(expires)
            interface = service.called_by(peer)
            places = request.which, request.encoded
            payload = connection.encode([interface, names, left, self.one_by_one, *places])
            if len(payload) > peer.longest:
                raise too_long(payload, peer)
            pending.id = connection.call("batch", payload, pending)
        except Exception as problem:
            pending.failed(problem)
        else:
            self._sent(peer, pending, left)

    def _sent(
        self, peer: PooledServer, pending: PendingCall | PendingBatch, left: float | None
    ) -> None:
        """A call or a batch is under way: watch its server and its deadline."""
        context = self.service.context
        if not peer.watched:
            context.pool.liveness.watch(peer)
        if self.expires is not None and left is not None:
            pending.bucket = context.deadlines.add(pending, left, self.expires)


def requests(
    calls: Sequence[Call], encode: Callable[[object], bytes], most: int, longest: int
) -> Iterator[BatchRequest]:
    """Calls as the requests that they go in, in their order.

    :param most: the most calls of a batch; 0 if there are none.
    :param longest: the most bytes of a request; a longer call is a batch all the same.
    """
    most = min(most, MOST_CALLS)
    most_bytes = min(MOST_BYTES, longest // 2)
    numbers: dict[str, int] = {}
    batch: list[Call] = []
    which: list[int] = []
    encoded: list[bytes] = []
    size = 0
    for call in calls:
        method, args, _ = call
        alone: BatchRequest | None = None
        payload = b""
        number = numbers.get(method)
        if number is None and (not most or SEPARATOR in method):
            alone = BatchRequest([call])
        else:
            try:
                payload = encode(args)
            except ValueNotSendable as problem:
                alone = BatchRequest([call], problem=problem)
        size += len(payload)
        if (
            alone is not None
            or size > most_bytes
            or len(batch) >= most
            or (number is None and len(numbers) >= MOST_METHODS)
        ):
            if batch:
                yield BatchRequest(batch, list(numbers), which, encoded)
            numbers, batch, which, encoded = {}, [], [], []
            size, number = len(payload), None
            if alone is not None:
                yield alone
                continue
        if number is None:
            number = numbers[method] = len(numbers)
            size += len(method)
        batch.append(call)
        which.append(number)
        encoded.append(payload)
    if batch:
        yield BatchRequest(batch, list(numbers), which, encoded)


class _Alone:
    """Takes the result of a call that was sent by itself."""

    def __init__(self, together: Together, call: PendingCall, taker: Taker) -> None:
        self._together = together
        self._call = call
        self._taker = taker

    def callback(self, result: Any) -> None:
        self._taker.callback(result)
        self._together.told(1, self._call)

    def errback(self, fail: Failure) -> None:
        self._together.failed = True
        self._taker.errback(fail)
        self._together.told(1, self._call)


__all__ = ["SKIPPED", "Together", "requests"]
