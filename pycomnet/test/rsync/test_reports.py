"""A user's functions: when they are called, and what happens where they raise or cancel."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

import pycomnet
from pycomnet.rsync.reports import Reports


class ReportsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.seen: list[Any] = []

    def event(self, path: str) -> pycomnet.SyncEvent:
        return pycomnet.SyncEvent("sent", "gw0:x", path)

    def test_events_are_told_in_a_turn_of_their_own(self) -> None:
        """Who tells goes on first; then all are told, in order, and who waits for that goes on."""
        reports = Reports(lambda event: self.seen.append(event.path), self.clock)
        for path in ("a", "b"):
            reports.tell(self.event(path))
        told = reports.flush()
        self.assertEqual(self.seen, [])
        self.assertNoResult(told)
        self.clock.advance(0)
        self.assertEqual(self.seen, ["a", "b"])
        self.successResultOf(told)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_function_that_raises_is_not_called_again(self) -> None:
        """What it raises is the problem; those who wait are cancelled."""

        def fail(event: pycomnet.SyncEvent) -> None:
            self.seen.append(event.path)
            raise ZeroDivisionError

        reports = Reports(fail, self.clock)
        raised = reports.problem.when_fired()
        for path in ("a", "b"):
            reports.tell(self.event(path))
        told = reports.flush()
        self.clock.advance(0)
        self.assertEqual(self.seen, ["a"])
        self.assertIsInstance(self.successResultOf(raised), ZeroDivisionError)
        self.failureResultOf(told, defer.CancelledError)
        reports.tell(self.event("c"))
        self.failureResultOf(reports.flush(), defer.CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_call_waits_for_what_is_returned(self) -> None:
        """Its Deferred fires with the result of the one that the function returns, or fails so."""
        reports = Reports(None, self.clock)
        first: defer.Deferred[int] = defer.Deferred()
        second: defer.Deferred[int] = defer.Deferred()
        outcomes = [reports.call(lambda each: each, each) for each in (first, second, 3)]
        self.clock.advance(0)
        self.assertNoResult(outcomes[0])
        first.callback(1)
        second.errback(ZeroDivisionError())
        self.assertEqual(self.successResultOf(outcomes[0]), 1)
        self.failureResultOf(outcomes[1], ZeroDivisionError)
        self.assertEqual(self.successResultOf(outcomes[2]), 3)

    def test_call_that_is_cancelled(self) -> None:
        """What it waits for is cancelled; what was not called yet never is."""
        reports = Reports(None, self.clock)
        waited: defer.Deferred[None] = defer.Deferred()
        running = reports.call(lambda _: waited, None)
        self.clock.advance(0)
        running.cancel()
        self.failureResultOf(running, defer.CancelledError)
        self.assertTrue(waited.called)
        never = reports.call(self.seen.append, 1)
        never.cancel()
        self.failureResultOf(never, defer.CancelledError)
        self.clock.advance(0)
        self.assertEqual(self.seen, [])
