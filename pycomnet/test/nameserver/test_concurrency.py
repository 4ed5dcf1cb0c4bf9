"""So many run at a time, and thousands that end at once nest nothing."""

from __future__ import annotations

from twisted.internet import defer
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.nameserver.concurrency import ConcurrencyLimit


class ConcurrencyLimitTests(SynchronousTestCase):
    """Turns."""

    def test_so_many_run_at_a_time(self) -> None:
        """The others begin, in order, when one ends."""
        turns = ConcurrencyLimit(2)
        running: list[defer.Deferred[int]] = []

        def start() -> defer.Deferred[int]:
            running.append(defer.Deferred())
            return running[-1]

        results = [turns.run(start) for _ in range(4)]
        self.assertEqual(len(running), 2)
        running[1].callback(7)
        self.assertEqual(self.successResultOf(results[1]), 7)
        self.assertEqual(len(running), 3)
        running[0].errback(ValueError())
        self.failureResultOf(results[0], ValueError)
        self.assertEqual(len(running), 4)

    def test_thousands_that_end_at_once_nest_nothing(self) -> None:
        """Each may fail as soon as it begins."""
        turns = ConcurrencyLimit(1)
        first: defer.Deferred[None] = defer.Deferred()
        turns.run(lambda: first)
        results = [turns.run(lambda: defer.fail(ValueError())) for _ in range(5_000)]
        first.callback(None)
        for result in results:
            self.failureResultOf(result, ValueError)
