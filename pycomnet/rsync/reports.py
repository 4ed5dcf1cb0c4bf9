"""Calls the user's functions with a run's events.

They are called in turns of the reactor of their own. No coroutine of the run is active then, so a
function may cancel the run; and if it raises, that ends the run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from pycomnet.deferred import OneShot
from pycomnet.rsync.result import SyncEvent


class Reports:
    """The queue of events and calls for the user's functions.

    :param report: called with each event; None: events are dropped.
    :param reactor: schedules the turns.
    :ivar problem: what a function of the user's raised; then no function is called any more.
    """

    def __init__(self, report: Callable[[SyncEvent], object] | None, reactor: IReactorTime) -> None:
        self._report = report
        self._reactor = reactor
        #: the function, its argument, and the Deferred that :meth:`call` returned, or None
        self._waiting: deque[tuple[Callable[[Any], object], Any, Deferred[Any] | None]] = deque()
        self._turn: IDelayedCall | None = None
        self._is_closed = False
        self.problem: OneShot[Exception] = OneShot()

    @property
    def wanted(self) -> bool:
        """Whether events are reported."""
        return self._report is not None

    def tell(self, event: SyncEvent) -> None:
        """Report an event."""
        if self._report is not None:
            self._put(self._report, event, None)

    def call(self, function: Callable[[Any], object], argument: Any) -> Deferred[Any]:
        """Call a function after all events and calls that are in the queue.

        :returns: fires with what it returns, or with the result of the Deferred that it returns;
            fails as it does. Cancelling it cancels that.
        """
        called: list[Deferred[Any]] = []

        def cancel(_: object) -> None:
            for each in called:
                each.cancel()

        outcome: Deferred[Any] = Deferred(cancel)

        def begin(argument: Any) -> None:
            called.append(maybeDeferred(function, argument))
            called[0].addBoth(_settle, outcome)

        self._put(begin, argument, outcome)
        return outcome

    def flush(self) -> Deferred[None]:
        """Fires when the queue is empty; fails with what a function raised."""
        return self.call(lambda _: None, None)

    def close(self) -> None:
        """Drop what is in the queue, and take nothing more."""
        self._is_closed = True
        self._waiting.clear()
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def _put(
        self, function: Callable[[Any], object], argument: Any, outcome: Deferred[Any] | None
    ) -> None:
        if self._is_closed:
            if outcome is not None:
                outcome.cancel()
            return
        self._waiting.append((function, argument, outcome))
        if self._turn is None:
            self._turn = self._reactor.callLater(0, self._take_turn)

    def _take_turn(self) -> None:
        self._turn = None
        while self._waiting:
            function, argument, outcome = self._waiting.popleft()
            if outcome is not None and outcome.called:
                continue  # it was cancelled
            try:
                function(argument)
            except Exception as problem:
                self._end(problem)

    def _end(self, problem: Exception) -> None:
        left = [outcome for _, _, outcome in self._waiting if outcome is not None]
        self.close()
        self.problem.fire(problem)
        for outcome in left:
            outcome.cancel()


def _settle(result: Any, outcome: Deferred[Any]) -> None:
    if not outcome.called:
        outcome.callback(result)  # a Failure is its failure
