"""How long to wait before what failed is tried again."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.net.backoff import Backoff, retry_policy


class BackoffTests(SynchronousTestCase):
    """Delays grow while nothing comes of trying."""

    def between(self, number: float, least: float, most: float) -> None:
        self.assertGreaterEqual(number, least)
        self.assertLessEqual(number, most)

    def test_doubles_up_to_the_longest(self) -> None:
        """Each is at most twice the one before, and at least half of that; none is too long."""
        policy = retry_policy(0.1, 5.0)
        for attempt, most in ((0, 0.1), (1, 0.2), (2, 0.4), (5, 3.2), (6, 5.0), (100_000, 5.0)):
            self.between(policy(attempt), most / 2, most)

    def test_many_come_back_at_different_times(self) -> None:
        """No two wait for the same time, from the first try on."""
        policy = retry_policy(0.1, 5.0)
        for attempt in (0, 20):
            self.assertEqual(len({policy(attempt) for _ in range(20)}), 20)

    def test_delay_begins_anew_after_reset_or_progress(self) -> None:
        """After a reset, or when the number has changed, the delay is the first one again."""
        progress = [0]
        backoff = Backoff(Clock(), 0.1, 5.0, lambda: progress[0])
        for change in (backoff.reset, lambda: progress.append(progress.pop() + 1)):
            for most in (0.1, 0.2, 0.4):
                self.between(backoff.next_delay(), most / 2, most)
            change()
        self.between(backoff.next_delay(), 0.05, 0.1)

    def test_wait_fires_after_its_delay_or_is_cancelled(self) -> None:
        """It fires after the delay; cancelling it leaves no call behind."""
        clock = Clock()
        backoff = Backoff(clock, 0.1, 5.0)
        waiting = backoff.wait()
        clock.advance(0.049)
        self.assertNoResult(waiting)
        clock.advance(0.051)
        self.assertIsNone(self.successResultOf(waiting))
        backoff.wait().addErrback(lambda _: None).cancel()
        self.assertEqual(clock.getDelayedCalls(), [])
