"""Calls that are made together.

If the server accepts batches, the calls are sent as few requests. Otherwise each call is a request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet import defer
from twisted.python.failure import Failure

from pycomnet.errors import CallSkipped
from pycomnet.services.client.pending import (
    PendingCall,
    Taker,
    not_sendable,
    too_long,
)
from pycomnet.services.client.pendingbatch import BatchRequest, Call, PendingBatch
from pycomnet.wire.values import ValueNotSendable

if TYPE_CHECKING:
    from pycomnet.services.client.connection import ClientConnection
    from pycomnet.services.client.pool import PooledServer
    from pycomnet.services.client.remoteservice import RemoteService

#: The most calls of one request, the most methods, and the most bytes of arguments, unless one call
#: has more: so the request fits a frame.
MOST_CALLS = 1000
MOST_METHODS = 100
MOST_BYTES = 48_000
#: The most calls of a run.
MOST_OF_RUN = 256
SKIPPED = "it has not begun, as a call before it in the batch has failed"
#: Separates methods in a batch: see docs/protocol.rst.
SEPARATOR = "\n"

#: Whether a method may be called again.
May = Callable[[str], bool]


class CallGroup:
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

    def completed(self, count: int, running: Any = None) -> None:
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

    def not_sent(self, failure: Failure) -> None:
        """The calls could not be sent, and that is no fault of one of them."""
        if not self._is_cancelled and not self.ended.called:
            self.ended.errback(failure)

    def began(self, running: Any) -> None:
        """Something is under way that ``cancel`` cancels."""
        self._running[running] = None

    def fail(self, taker: Taker, problem: BaseException) -> None:
        """Tell one its error; :meth:`completed` is the caller's."""
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
        self.began(repeating)

        def ended(result: object) -> None:
            if isinstance(result, Failure) and not result.check(defer.CancelledError):
                self.not_sent(result)
            self.completed(0, repeating)

        repeating.addBoth(ended)

    async def _repeat(self, calls: Sequence[Call], lost: Exception | None, may: May) -> None:
        waiting = []
        for method, args, taker in calls:
            if self.one_by_one and self.failed:
                self.fail(taker, CallSkipped(SKIPPED))
                self.completed(1)
            elif lost is not None and not may(method):
                self.fail(taker, lost)
                self.completed(1)
            else:
                again = self.service.repeat(method, args, self.expires, None, 1)
                again.addCallbacks(taker.callback, self._failed, errbackArgs=(taker,))
                again.addCallback(lambda _: self.completed(1))
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
            for request in self._requests(calls, peer, connection):
                self._send_request(peer, connection, request)

    def _requests(
        self, calls: Sequence[Call], peer: PooledServer, connection: ClientConnection
    ) -> Iterator[BatchRequest]:
        most = 0 if self.service.about else peer.batch  # a batch has no metadata
        return requests(calls, connection.encode, most, peer.longest, peer.run)

    async def _send_each(
        self, calls: Sequence[Call], peer: PooledServer, connection: ClientConnection
    ) -> None:
        sent = 0
        for request in self._requests(calls, peer, connection):
            self._send_request(peer, connection, request)
            sent += len(request.calls)
            while self._running:
                self._idle = defer.Deferred()
                await self._idle
            if self.failed:
                break
        for _, _, taker in calls[sent:]:
            self.fail(taker, CallSkipped(SKIPPED))
        self.completed(len(calls) - sent)

    def _send_request(
        self, peer: PooledServer, connection: ClientConnection, request: BatchRequest
    ) -> None:
        if request.problem is not None:
            ((method, args, taker),) = request.calls
            self.fail(taker, not_sendable(connection, request.problem, method, args))
            self.completed(1)
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
        self.began(call)
        try:
            left = service.context.left(expires)
            payload = connection.encode(service.request(peer, method, args, left))
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
            places = [request.which, request.encoded]
            if request.counts is not None:
                places.append(request.counts)
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
    calls: Sequence[Call],
    encode: Callable[[object], bytes],
    most: int,
    longest: int,
    run: int = 0,
) -> Iterator[BatchRequest]:
    """Calls as the requests that they go in, in their order.

    :param most: the most calls of a batch; 0 if there are none.
    :param longest: the most bytes of a request; a longer call is a batch all the same.
    :param run: the most bytes of a run of several calls; 0 if there are no runs.
    """
    most = min(most, MOST_CALLS)
    most_bytes = min(MOST_BYTES, longest // 2)
    request = BatchRequest([], counts=[] if run else None)
    numbers: dict[str, int] = {}
    size = 0
    for part, payload, problem in _parts(calls, encode, most, min(run, most_bytes)):
        method = part[0][0]
        number = numbers.get(method)
        size += len(payload)
        is_alone = problem is not None or not most or SEPARATOR in method
        if (
            is_alone
            or size > most_bytes
            or len(request.calls) + len(part) > most
            or (number is None and len(numbers) >= MOST_METHODS)
        ):
            if request.calls:
                request.names = list(numbers)
                yield request
            request = BatchRequest([], counts=[] if run else None)
            numbers, size, number = {}, len(payload), None
            if is_alone:
                yield BatchRequest(part, problem=problem)
                size = 0
                continue
        if number is None:
            number = numbers[method] = len(numbers)
            size += len(method)
        request.calls += part
        request.which.append(number)
        request.encoded.append(payload)
        if request.counts is not None:
            request.counts.append(len(part))
    if request.calls:
        request.names = list(numbers)
        yield request


#: A run of calls, or one, with the encoding of the arguments; or why these can't be sent.
Part = tuple[list[Call], bytes, ValueNotSendable | None]


def _parts(
    calls: Sequence[Call], encode: Callable[[object], bytes], most: int, run: int
) -> Iterator[Part]:
    """Calls as they are encoded: in runs of the same method where that is possible.

    :param run: the most bytes of a run of several; 0 if there are no runs.
    """
    at = 0
    # How many calls to encode together: fewer after an encoding that was in vain. So no call is
    # encoded more often than a few times.
    likely = MOST_OF_RUN
    while at < len(calls):
        method = calls[at][0]
        if not most or SEPARATOR in method:
            yield [calls[at]], b"", None
            at += 1
            continue
        try:
            first = encode(calls[at][1])
        except ValueNotSendable as problem:
            yield [calls[at]], b"", problem
            at += 1
            continue
        if not run:
            yield [calls[at]], first, None
            at += 1
            continue
        length = min(likely, most, run // (len(first) + 1))  # if they are alike
        part = list(calls[at : at + max(1, length)])
        for n, call in enumerate(part):
            if call[0] != method:
                del part[n:]
                break
        payload = b"\x91" + first
        if len(part) > 1:
            try:
                together = encode([call[1] for call in part])
            except ValueNotSendable:
                together = b""  # some of them; each by itself
            if together and len(together) <= run:
                payload = together
            else:
                likely = len(part) // 2
                part = part[:1]
        if len(part) >= likely:
            likely = min(2 * likely, MOST_OF_RUN)
        yield part, payload, None
        at += len(part)


class _Alone:
    """Takes the result of a call that was sent by itself."""

    def __init__(self, group: CallGroup, call: PendingCall, taker: Taker) -> None:
        self._group = group
        self._call = call
        self._taker = taker

    def callback(self, result: Any) -> None:
        self._taker.callback(result)
        self._group.completed(1, self._call)

    def errback(self, fail: Failure) -> None:
        self._group.failed = True
        self._taker.errback(fail)
        self._group.completed(1, self._call)
