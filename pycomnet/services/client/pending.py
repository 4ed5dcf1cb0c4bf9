"""A call that was sent, until it has its result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet import defer
from twisted.python.failure import Failure

from pycomnet.errors import (
    CallInterrupted,
    ConnectionLost,
    DeadlineExceeded,
    InvalidArguments,
    from_map,
)
from pycomnet.services.client.callerrors import of_a_call
from pycomnet.services.client.sentrequest import SentRequest
from pycomnet.wire.frames import ERROR, RESULT
from pycomnet.wire.values import InvalidValue, ValueNotReceivable, ValueNotSendable, blame

if TYPE_CHECKING:
    from pycomnet.services.client.connection import ClientConnection
    from pycomnet.services.client.pool import PooledServer
    from pycomnet.services.client.remoteservice import RemoteService


#: How often a call is repeated that may have run and whose method is idempotent; and a call that
#: did not run. If connections break as often as that, the call may be the cause.
MOST_REPEATS = 3
MOST_TURNS = 20

#: The reply of a method that returns None: an array of None. That it is neither encoded nor decoded
#: is 7 % of the row "null call, 64 in flight".
NOTHING = b"\x91\xc0"


def not_sendable(
    connection: ClientConnection, problem: ValueNotSendable, method: str, args: Any
) -> ValueNotSendable:
    """The error for a call that can't be sent, in terms of the caller's arguments."""
    parts = (
        ("method", "[1]", method, [None, method]),
        ("args", "[2]", args, [None, None, args]),
    )
    return blame(connection.encode, problem, parts)


def too_long(payload: bytes, peer: PooledServer) -> InvalidArguments:
    """The error for a request that the server does not take."""
    text = f"arguments of {len(payload)} bytes; the limit of {peer.address} is {peer.longest}:"
    return of_a_call(InvalidArguments(f"{text} send what is long as Binary"))


class CallAgain(Exception):
    """A call with blocks of binary data is to be repeated: its caller has the blocks."""


class Taker(Protocol):
    """What receives a call's result or its error: a Deferred, for example."""

    def callback(self, result: Any) -> None:
        """The result has come."""

    def errback(self, fail: Failure) -> None:
        """It has failed."""


class PendingCall(SentRequest):
    """A call that was sent, and waits for its result.

    :ivar deferred: fires with the answer: an array of the result and, if it has blocks, those.
    """

    __slots__ = ("again", "args", "deferred", "files", "method", "repeats")

    def __init__(
        self,
        service: RemoteService,
        peer: PooledServer,
        connection: ClientConnection,
        method: str,
        args: Any,
        expires: float | None,
        files: bool = False,
        repeats: int = 0,
    ) -> None:
        super().__init__(service, peer, connection, expires)
        self.method = method
        self.args = args
        #: whether the caller wants the whole answer, with blocks; then the caller repeats the call
        #: when this one fails with :class:`CallAgain`
        self.files = files
        #: how often this call was sent before
        self.repeats = repeats
        #: the repeated call, if this one did not run or may run twice
        self.again: defer.Deferred[Any] | None = None
        #: a Deferred, or another Taker
        self.deferred: Any = defer.Deferred(self._cancelled)

    def _finish(self) -> Any:
        """End the call; returns its Deferred or other taker if that has not been fired."""
        deferred = self.deferred
        if deferred is not None:
            self.deferred = None
            self.peer.pending -= 1
            self.forget_deadline()
        return deferred

    # -- called by the connection ----------------------------------------------------------------

    def arrived(self, payload: bytes | memoryview, cost: int) -> None:
        """A long result has arrived."""
        self.consumed(cost)
        self.replied(payload)

    def replied(self, payload: bytes | memoryview) -> None:
        """The result has arrived, usually in the frame that closes the channel."""
        deferred = self._finish()
        if deferred is None:
            return
        if payload == NOTHING and not self.files:
            deferred.callback(None)
            return
        connection = self.connection
        try:
            answer = connection.decode(payload)  # type: ignore[arg-type]
            value = answer if self.files else answer[0]
            if type(answer) is not list:
                raise InvalidValue(f"an array, not {type(answer).__name__}")
            if len(answer) > 2:
                self.peer.note_state(answer[2])
        except (InvalidValue, TypeError, IndexError, KeyError) as problem:
            deferred.errback(Failure(connection.violated("value", f"a result: {problem}")))
        except ValueNotReceivable:
            deferred.errback(Failure())
        else:
            deferred.callback(value)

    def run_arrived(self, payloads: list[bytes], cost: int) -> None:
        """Several values: a result is one."""
        self.arrived(payloads[0], 0)
        self.connection.violated("channel", "a call has one result")

    def ended(self) -> None:
        """The server ends its half only by closing."""
        self._no_result()

    def closed(self, kind: int, payload: bytes) -> None:
        self.id = None
        if kind == RESULT:
            self.replied(payload)
        elif kind == ERROR:
            self._refused(payload)
        else:
            self._no_result()

    def _refused(self, payload: bytes) -> None:
        deferred = self._finish()
        if deferred is None:
            return
        try:
            problem: Exception = from_map(self.connection.decode(payload))
        except InvalidValue as invalid:
            problem = self.connection.violated("value", str(invalid))
        except ValueNotReceivable as unknown:
            problem = unknown
        most = self.peer.most_repeats(self.connection, problem)
        if self.repeats < most or self.service.goes_elsewhere(self.peer, problem):
            self._call_again(deferred)
        else:
            deferred.errback(Failure(self.peer.explained(problem)))

    def _no_result(self) -> None:
        deferred = self._finish()
        if deferred is not None:
            text = "the server closed the call without a result"
            deferred.errback(Failure(CallInterrupted(text)))

    def connection_lost(self, lost: ConnectionLost) -> None:
        deferred = self._finish()
        if deferred is None:
            return
        unseen = self.connection.never_saw(self.id)
        if self.service.context.pool.closed:
            problem: Exception = CallInterrupted("the context was closed")
        elif self.repeats < (MOST_TURNS if unseen else MOST_REPEATS) and (
            unseen or self.service.may_repeat(self.peer, self.method)
        ):
            self._call_again(deferred)
            return
        else:
            text = f"{self.peer.address}: {lost.reason}, while {self.method} was under way"
            if self.repeats:
                text += f", and {self.repeats} times before"
            problem = CallInterrupted(text)
        problem.__cause__ = lost
        deferred.errback(Failure(problem))

    def _call_again(self, deferred: Taker) -> None:
        if self.files:
            deferred.errback(Failure(CallAgain()))
            return
        self.again = again = self.service.repeat(
            self.method, self.args, self.expires, None, self.repeats + 1
        )
        again.addCallbacks(deferred.callback, deferred.errback)

    def move(self, now: float) -> None:
        """The server does not answer: call another instance, if there is one and the call may run
        twice.
        """
        service = self.service
        if (
            self.repeats >= MOST_REPEATS
            or not service.may_repeat(self.peer, self.method)
            or not service.has_other(self.peer, now)
        ):
            return
        self.peer.mark_silent()
        deferred = self._finish()
        self.close()
        if deferred is not None:
            self._call_again(deferred)

    def failed(self, problem: Exception) -> None:
        """It could not be sent."""
        deferred = self._finish()
        if deferred is not None:
            deferred.errback(Failure(problem))

    # -- what ends it here -----------------------------------------------------------------------

    def expired(self) -> None:
        """Its deadline has passed."""
        self.bucket = None
        deferred = self._finish()
        self.close()
        if deferred is not None:
            text = f"{self.method}: no result before the call's deadline"
            deferred.errback(Failure(of_a_call(DeadlineExceeded(text))))

    def cancel(self) -> None:
        """Cancel it, if it has no result. Its taker is not called."""
        if self.deferred is not None or self.again is not None:
            self._cancelled(None)

    def _cancelled(self, _: object) -> None:
        again, self.again = self.again, None
        if again is not None:
            again.cancel()
            return
        self._finish()
        self.close()
