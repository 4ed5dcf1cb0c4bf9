"""A batch that was sent, until each call of the batch has its outcome."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs

from pycomnet.errors import (
    CallInterrupted,
    ConnectionLost,
    DeadlineExceeded,
    Overloaded,
    from_map,
)
from pycomnet.services.client.callerrors import of_a_call
from pycomnet.services.client.pending import Taker
from pycomnet.services.client.sentrequest import SentRequest
from pycomnet.wire.frames import ERROR, RESULT
from pycomnet.wire.values import InvalidValue, ValueNotReceivable, ValueNotSendable

if TYPE_CHECKING:
    from pycomnet.services.client.callgroup import CallGroup
    from pycomnet.services.client.connection import ClientConnection
    from pycomnet.services.client.pool import PooledServer

#: A method, its structured arguments, and what takes its result.
Call = tuple[str, Any, Taker]
#: Errors that are the same for all calls of a batch.
OF_ALL = (Overloaded, DeadlineExceeded, CallInterrupted)


@attrs.define
class BatchRequest:
    """A request: a batch of calls, or one call.

    :ivar calls: the calls of this request.
    :ivar names: the names of the batch's methods; empty if the request is one call by itself.
    :ivar which: the number of each call's method; or of each run's.
    :ivar encoded: each call's arguments; or each run's, in an array.
    :ivar counts: the calls of each run; None if there are no runs.
    :ivar problem: why its only call can't be sent.
    """

    calls: list[Call]
    names: list[str] = attrs.Factory(list)
    which: list[int] = attrs.Factory(list)
    encoded: list[bytes] = attrs.Factory(list)
    counts: list[int] | None = None
    problem: ValueNotSendable | None = None


class PendingBatch(SentRequest):
    """A batch that was sent, and waits for the outcomes of its calls."""

    def __init__(
        self,
        group: CallGroup,
        peer: PooledServer,
        connection: ClientConnection,
        request: BatchRequest,
    ) -> None:
        super().__init__(group.service, peer, connection, group.expires)
        self._group = group
        #: the calls, each None once it has an outcome; how many have none; how many methods
        self._calls: list[Call | None] = list(request.calls)
        self._left = len(request.calls)
        self._methods = len(request.names)
        self._counts = request.counts
        self._has_outcomes = False
        peer.pending += self._left
        group.began(self)

    def _rest(self) -> list[Call]:
        """End it; returns the calls that have no outcome."""
        rest = [call for call in self._calls if call is not None]
        self._calls = []
        self.peer.pending -= self._left
        self._left = 0
        self.forget_deadline()
        return rest

    # -- called by the connection ----------------------------------------------------------------

    def arrived(self, payload: bytes | memoryview, cost: int) -> None:
        """Some outcomes have arrived."""
        self.consumed(cost)
        self._take(payload)

    def run_arrived(self, payloads: list[bytes], cost: int) -> None:
        """Several values with outcomes have arrived."""
        self.consumed(cost)
        for payload in payloads:
            self._take(payload)

    def replied(self, payload: bytes | memoryview) -> None:
        """The last outcomes have arrived, in the frame that closes the channel."""
        self.id = None
        self._take(payload)
        self._ended()

    def ended(self) -> None:
        """The server ends its half only by closing."""
        self.close()
        self._ended()

    def closed(self, kind: int, payload: bytes) -> None:
        self.id = None
        if kind == RESULT:
            self.replied(payload)
        elif kind == ERROR:
            self._refused(payload)
        else:
            self._ended()

    def _take(self, payload: bytes | memoryview) -> None:
        """Give calls their outcomes."""
        if not self._calls:
            return
        connection = self.connection
        before = self._calls
        try:
            places, payloads, *more = connection.decode(payload)  # type: ignore[arg-type]
            results: list[tuple[list[Any], list[Any]]] = []
            if more and more[0]:
                self._calls = list(before)
                results = self._results(more[0])
            outcomes = self._decode(payloads)
            places, calls = self._calls_of(places, len(outcomes))
        except (InvalidValue, ValueNotReceivable, TypeError, ValueError, LookupError) as problem:
            self._calls = before  # none has been told
            self._end(connection.violated("value", f"the outcomes of a batch: {problem}"))
            return
        told = self._sort_out(places, calls, outcomes)
        count = len(told) + sum(len(found) for found, _ in results)
        self._has_outcomes = self._has_outcomes or bool(outcomes or results)
        # Counted first: what a taker does may end the batch.
        self._left -= count
        self.peer.pending -= count
        for found, values in results:
            for call, value in zip(found, values, strict=True):
                call[2].callback(value)
        group = self._group
        for call, outcome in told:
            if type(outcome) is list:
                call[2].callback(outcome[0])
            else:
                group.fail(call[2], outcome)
        if count:
            group.completed(count)

    def _results(self, results: Any) -> list[tuple[list[Any], list[Any]]]:
        """The calls of results that have no bin of their own, with these."""
        if self._counts is None or type(results) is not list or len(results) % 2:
            raise InvalidValue("these are no results of calls")
        found = []
        for first, values in zip(results[::2], results[1::2], strict=True):
            if type(first) is not int or type(values) is not list:
                raise InvalidValue("a number, and the results of the calls from there on")
            found.append((self._calls_of(first, len(values))[1], values))
        return found

    def _calls_of(self, places: Any, count: int) -> tuple[Sequence[int], list[Any]]:
        """The calls that outcomes are of; from now on they have one."""
        calls = self._calls
        if type(places) is int:
            places = range(places, places + count)
            if not places.start and count == len(calls) and None not in calls:
                # As most. It is a twentieth of the row "1,000 such calls in a batch", which is
                # behind its target.
                self._calls = []
                return places, calls
        found = [calls[place] for place in places if place >= 0]
        if len(found) != count or None in found or len(set(places)) != count:
            raise InvalidValue("each is that of a call, and each call has one")
        for place in places:
            calls[place] = None
        return places, found

    def _decode(self, payloads: list[bytes]) -> list[Any]:
        """Decode outcomes: each becomes an array of a result, or an error."""
        if not set(map(type, payloads)) <= {bytes}:
            raise InvalidValue("an outcome is a bin")
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
            return self.connection.decode(payload)
        except ValueNotReceivable as unknown:
            return unknown

    def _sort_out(
        self, places: Sequence[int], calls: list[Any], outcomes: list[Any]
    ) -> list[tuple[Call, Any]]:
        """The calls that are told their outcome, each with an array of its result, or its error.

        What has not begun and may be made again is as good as without an outcome.
        """
        told: list[tuple[Call, Any]] = []
        for place, call, outcome in zip(places, calls, outcomes, strict=True):
            if type(outcome) is list:
                told.append((call, outcome))
            elif self.peer.most_repeats(self.connection, outcome):
                self._calls = self._calls or [None] * len(calls)
                self._calls[place] = call
            else:
                told.append((call, self.peer.explained(outcome)))
        return told

    def _ended(self) -> None:
        """The server has closed the channel: what has no outcome has not begun."""
        self._group.repeat(self._rest())
        self._group.completed(0, self)

    def _refused(self, payload: bytes) -> None:
        """None of the calls has begun."""
        try:
            problem: Exception = from_map(self.connection.decode(payload))
        except InvalidValue as invalid:
            self._end(self.connection.violated("value", str(invalid)))
            return
        except ValueNotReceivable as unknown:
            problem = unknown
        same = self._methods == 1 or isinstance(problem, OF_ALL)
        if self._has_outcomes or (same and not self.peer.most_repeats(self.connection, problem)):
            self._end(self.peer.explained(problem))
            return
        self._group.repeat(self._rest())  # so each gets its own error
        self._group.completed(0, self)

    def connection_lost(self, lost: ConnectionLost) -> None:
        unseen = self.connection.never_saw(self.id)
        service, peer = self.service, self.peer
        rest = self._rest()
        closed = service.context.pool.closed
        why = f"{peer.address}: {lost.reason}, while a batch was under way"
        problem = CallInterrupted("the context was closed" if closed else why)
        problem.__cause__ = lost
        self._group.repeat(
            rest,
            problem,
            lambda method: not closed and (unseen or service.may_repeat(peer, method)),
        )
        self._group.completed(0, self)

    def move(self, now: float) -> None:
        """The server does not answer: call another instance, if there is one and all calls may run
        twice.
        """
        service, peer = self.service, self.peer
        calls = [call for call in self._calls if call is not None]
        if service.has_other(peer, now) and all(service.may_repeat(peer, one[0]) for one in calls):
            peer.mark_silent()
            self.close()
            self._group.repeat(self._rest())
            self._group.completed(0, self)

    # -- what ends it here -----------------------------------------------------------------------

    def _fail(self, calls: list[Call], problem: Exception) -> None:
        for _, _, taker in calls:
            self._group.fail(taker, problem)
        self._group.completed(len(calls))

    def _end(self, problem: Exception) -> None:
        self._fail(self._rest(), problem)
        self._group.completed(0, self)

    def failed(self, problem: Exception) -> None:
        """It could not be sent."""
        self._end(problem)

    def expired(self) -> None:
        """Its deadline has passed."""
        self.bucket = None
        self.close()
        self._end(of_a_call(DeadlineExceeded("no result before the batch's deadline")))

    def cancel(self) -> None:
        """Cancel it. No taker is called."""
        self._rest()
        self.close()
