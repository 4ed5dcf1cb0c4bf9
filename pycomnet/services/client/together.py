"""Calls that are made together: as one request where the server takes batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet import defer
from twisted.python.failure import Failure

from pycomnet.errors import (
    CallInterrupted,
    CallSkipped,
    ConnectionLost,
    DeadlineExceeded,
    Overloaded,
    ServerLeaving,
    from_map,
)
from pycomnet.services.client.pending import (
    NOTHING,
    PendingCall,
    Taker,
    not_sendable,
    too_long,
)
from pycomnet.wire.frames import ERROR, NORMAL, RESULT
from pycomnet.wire.values import InvalidValue, ValueNotReceivable, ValueNotSendable

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

#: A method, its structured arguments, and what takes its result.
Call = tuple[str, Any, Taker]


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
        """So many more have a result or an error.

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

    def repeat(self, calls: Sequence[Call], repeats: int = 1) -> None:
        """Make calls each by itself, as they did not run or may run again."""
        for method, args, taker in calls:
            again = self.service.repeat(method, args, self.expires, None, repeats)
            self.runs(again)
            again.addCallbacks(taker.callback, self._failed, errbackArgs=(taker,))
            again.addBoth(lambda _, again=again: self.told(1, again))

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
            for request in requests(calls, connection.encode, peer.batch):
                self._send_request(peer, connection, request)

    async def _send_each(
        self, calls: Sequence[Call], peer: PooledServer, connection: ClientConnection
    ) -> None:
        sent = 0
        for request in requests(calls, connection.encode, peer.batch):
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
            if not peer.watched:
                service.context.pool.liveness.watch(peer)
            if expires is not None and left is not None:
                call.bucket = service.context.deadlines.add(call, left, expires)

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
            if not peer.watched:
                service.context.pool.liveness.watch(peer)
            if expires is not None and left is not None:
                pending.bucket = service.context.deadlines.add(pending, left, expires)


@attrs.define
class BatchRequest:
    """Some of the calls, as they are sent.

    :ivar names: the methods, if it is a batch; else it is one call, and is sent by itself.
    :ivar which: the number of each call's method.
    :ivar encoded: each call's arguments.
    :ivar problem: why its only call can't be sent.
    """

    calls: list[Call]
    names: list[str] = attrs.Factory(list)
    which: list[int] = attrs.Factory(list)
    encoded: list[bytes] = attrs.Factory(list)
    problem: ValueNotSendable | None = None


def requests(
    calls: Sequence[Call], encode: Callable[[object], bytes], most: int
) -> Iterator[BatchRequest]:
    """Calls as the requests that they go in, in their order.

    :param most: the most calls of a batch; 0 if there are none.
    """
    most = min(most, MOST_CALLS)
    numbers: dict[str, int] = {}
    request = BatchRequest([])
    size = 0
    for call in calls:
        method = call[0]
        payload = b""
        alone: BatchRequest | None = None
        if not most or SEPARATOR in method:
            alone = BatchRequest([call])
        else:
            try:
                payload = encode(call[1])
            except ValueNotSendable as problem:
                alone = BatchRequest([call], problem=problem)
        number = numbers.get(method)
        if request.calls and (
            alone is not None
            or len(request.calls) >= most
            or size + len(payload) > MOST_BYTES
            or (number is None and len(numbers) >= MOST_METHODS)
        ):
            yield request
            request = BatchRequest([])
            numbers, size, number = {}, 0, None
        if alone is not None:
            yield alone
            continue
        if number is None:
            number = numbers[method] = len(numbers)
            request.names.append(method)
        request.calls.append(call)
        request.which.append(number)
        request.encoded.append(payload)
        size += len(payload)
    if request.calls:
        yield request


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


class PendingBatch:
    """A batch that was sent, and waits for outcomes.

    :ivar id: its channel's id; None before it is sent, and once the channel is closed.
    """

    def __init__(
        self,
        together: Together,
        peer: PooledServer,
        connection: ClientConnection,
        request: BatchRequest,
    ) -> None:
        self.id: int | None = None
        self.bucket: dict[Any, None] | None = None
        self.expires = together.expires
        self._together = together
        self._service = together.service
        self._peer = peer
        self._connection = connection
        #: the calls, each None once it has an outcome; how many have none; how many methods
        self._calls: list[Call | None] = list(request.calls)
        self._left = len(request.calls)
        self._methods = len(request.names)
        peer.pending += self._left
        together.runs(self)

    def _rest(self) -> list[Call]:
        """End it; returns the calls that have no outcome."""
        rest = [call for call in self._calls if call is not None]
        self._calls = []
        self._peer.pending -= self._left
        self._left = 0
        bucket, self.bucket = self.bucket, None
        if bucket is not None:
            bucket.pop(self, None)
        return rest

    # -- called by the connection ----------------------------------------------------------------

    def arrived(self, payload: bytes | memoryview, cost: int) -> None:
        """Some outcomes have arrived."""
        mux = self._connection.mux
        if cost and self.id in mux.streams:
            mux.consumed(mux.streams[self.id], cost)
        self._take(payload)

    def run_arrived(self, payloads: list[bytes], cost: int) -> None:
        """Several values with outcomes have arrived."""
        mux = self._connection.mux
        if cost and self.id in mux.streams:
            mux.consumed(mux.streams[self.id], cost)
        for payload in payloads:
            self._take(payload)

    def replied(self, payload: bytes | memoryview) -> None:
        """The last outcomes have arrived, in the frame that closes the channel."""
        self.id = None
        self._take(payload)
        self._ended()

    def ended(self) -> None:
        """The server ends its half only by closing."""
        self._close()
        self._ended()

    def closed(self, kind: int, payload: bytes) -> None:
        self.id = None
        if kind == RESULT:
            self.replied(payload)
        elif kind == ERROR:
            self._refused(payload)
        elif kind == NORMAL:
            self._ended()
        else:
            self._end(CallInterrupted("the server closed the batch without all results"))

    def _take(self, payload: bytes | memoryview) -> None:
        """Tell calls their outcomes."""
        if not self._calls:
            return
        connection = self._connection
        try:
            places, payloads = connection.decode(payload)[:2]  # type: ignore[arg-type]
            if type(places) is int:
                places = range(places, places + len(payloads))
            calls = [self._calls[place] for place in places if place >= 0]
            if len(calls) != len(payloads) or None in calls or len(set(places)) != len(calls):
                raise InvalidValue("each is that of a call, and each call has one")
            outcomes = self._decode(payloads)
        except (InvalidValue, ValueNotReceivable, TypeError, ValueError, LookupError) as problem:
            connection.violated("value", f"the outcomes of a batch: {problem}")
        else:
            for place in places:
                self._calls[place] = None
            self._tell(calls, outcomes)

    def _decode(self, payloads: list[bytes]) -> list[Any]:
        """Decode outcomes: each becomes an array of a result, or an error."""
        if not set(map(type, payloads)) <= {bytes}:
            raise InvalidValue("an outcome is a bin")
        if payloads.count(NOTHING) == len(payloads):
            return [[None]] * len(payloads)
        found = self._connection.decode_run(payloads)
        if found is None:
            found = [self._decode_one(payload) for payload in payloads]
        if set(map(type, found)) == {list} and all(found):
            return found
        for n, outcome in enumerate(found):
            if type(outcome) is dict:
                found[n] = from_map(outcome)
            elif not (outcome and type(outcome) is list) and not isinstance(outcome, Exception):
                raise InvalidValue("an outcome is an array of a result, or the map of an error")
        return found

    def _decode_one(self, payload: bytes) -> Any:
        try:
            return self._connection.decode(payload)
        except ValueNotReceivable as unknown:
            return unknown

    def _tell(self, calls: list[Any], outcomes: list[Any]) -> None:
        together = self._together
        self._left -= len(calls)
        self._peer.pending -= len(calls)
        again: list[Call] = []
        for call, outcome in zip(calls, outcomes, strict=True):
            if type(outcome) is list:
                call[2].callback(outcome[0])
            elif isinstance(outcome, ServerLeaving):
                again.append(call)
            else:
                together.fail(call[2], outcome)
        if again:
            self._peer.drop(self._connection)
            together.repeat(again)
        together.told(len(calls) - len(again))

    def _ended(self) -> None:
        """The server has closed the channel: what has no outcome has not begun."""
        rest = self._rest()
        together = self._together
        if together.one_by_one and together.failed:
            self._skip(rest)
        else:
            together.repeat(rest)
        together.told(0, self)

    def _skip(self, rest: list[Call]) -> None:
        for _, _, taker in rest:
            self._together.fail(taker, CallSkipped(SKIPPED))
        self._together.told(len(rest))

    def _refused(self, payload: bytes) -> None:
        """None of the calls has begun."""
        try:
            problem: Exception = from_map(self._connection.decode(payload))
        except InvalidValue as invalid:
            problem = self._connection.violated("value", str(invalid))
        except ValueNotReceivable as unknown:
            problem = unknown
        if isinstance(problem, ServerLeaving):
            self._peer.drop(self._connection)
        elif self._methods == 1 or isinstance(problem, (Overloaded, DeadlineExceeded)):
            self._end(problem)
            return
        self._together.repeat(self._rest())  # so each gets its own error
        self._together.told(0, self)

    def connection_lost(self, lost: ConnectionLost) -> None:
        last = self._connection.mux.last_taken
        unseen = last is not None and self.id is not None and self.id > last
        service, peer = self._service, self._peer
        rest = self._rest()
        closed = service.context.pool.closed
        again: list[Call] = []
        failed: list[Call] = []
        for call in rest:
            may = not closed and (unseen or service.may_repeat(peer, call[0]))
            (again if may else failed).append(call)
        why = f"{peer.address}: {lost.reason}, while a batch was under way"
        problem = CallInterrupted("the context was closed" if closed else why)
        problem.__cause__ = lost
        self._fail(failed, problem)
        self._together.repeat(again)
        self._together.told(0, self)

    def move(self, now: float) -> None:
        """The server does not answer: call another instance, if there is one and all calls may run
        twice.
        """
        service, peer = self._service, self._peer
        calls = [call for call in self._calls if call is not None]
        if service.has_other(peer, now) and all(service.may_repeat(peer, one[0]) for one in calls):
            peer.is_silent()
            self._close()
            self._together.repeat(self._rest())
            self._together.told(0, self)

    # -- what ends it here -----------------------------------------------------------------------

    def _fail(self, calls: list[Call], problem: Exception) -> None:
        for _, _, taker in calls:
            self._together.fail(taker, problem)
        self._together.told(len(calls))

    def _end(self, problem: Exception) -> None:
        self._fail(self._rest(), problem)
        self._together.told(0, self)

    def failed(self, problem: Exception) -> None:
        """It could not be sent."""
        self._end(problem)

    def expired(self) -> None:
        """Its deadline has passed."""
        self.bucket = None
        self._close()
        self._end(DeadlineExceeded("no result before the batch's deadline"))

    def cancel(self) -> None:
        """Cancel it. Nobody is told."""
        self._rest()
        self._close()

    def _close(self) -> None:
        connection = self._connection
        if self.id is not None and connection.lost is None:
            connection.mux.cancel_call(self.id)
            connection.flush_soon()
        self.id = None


__all__ = ["BatchRequest", "PendingBatch", "Together", "requests"]
