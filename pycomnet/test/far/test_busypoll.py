"""When a wait is polled for, by the rule that all polling follows."""

from __future__ import annotations

import itertools

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.far import busypoll
from pycomnet.far.busypoll import MOST_QUICK, QUICK, WINDOW, BusyWait

#: Seconds that a poll takes, by the test's clock.
STEP = 1e-6


class BusyWaitTests(SynchronousTestCase):
    """By a clock that the test turns: each yield of the processor takes :data:`STEP`, or longer."""

    def setUp(self) -> None:
        self.now = 0.0
        #: when what is waited for comes
        self.due = 0.0
        self.looks = 0
        self.away = STEP
        self.patch(busypoll, "_now", lambda: self.now)
        self.patch(busypoll, "_yield", self._give_away)
        self.wait = BusyWait(self._look)

    def _look(self, timeout: int) -> bool | None:
        self.assertEqual(timeout, 0)
        self.looks += 1
        return self.now >= self.due

    def _give_away(self) -> None:
        self.now += self.away

    def _takes(self, seconds: float) -> bool:
        """Wait for what comes after some time; whether it was polled for successfully."""
        self.due = self.now + seconds
        found = bool(self.wait.poll())
        if not found:
            self.now = max(self.now, self.due)
        self.wait.came()
        return found

    def test_polls_after_a_quick_wait(self) -> None:
        """The first wait is slept for; once it was quick the following are polled for."""
        self.assertFalse(self._takes(WINDOW / 2))
        self.assertEqual(self.looks, 0)
        for _ in range(5):
            self.assertTrue(self._takes(WINDOW / 2))

    def test_never_polls_for_what_is_slow(self) -> None:
        """While waits are long none is polled for."""
        for _ in range(50):
            self.assertFalse(self._takes(QUICK * 2))
        self.assertEqual(self.looks, 0)

    def test_polls_seldom_while_it_is_in_vain(self) -> None:
        """Waits that are quick, but longer than the window, are polled for less and less often."""
        polled = []
        for number in range(6 * MOST_QUICK):
            self.looks = 0
            self.assertFalse(self._takes((WINDOW + QUICK) / 2))
            if self.looks:
                polled.append(number)
        gaps = [later - sooner for sooner, later in itertools.pairwise(polled)]
        self.assertEqual(gaps[:6], [3, 5, 9, 17, 33, 65])
        self.assertEqual(set(gaps[6:]), {MOST_QUICK + 1})
        while not self._takes(WINDOW / 2):
            pass
        self.assertTrue(self._takes(WINDOW / 2))

    def test_processor_back_late_makes_polling_rare(self) -> None:
        """A processor that comes back late makes polling rare, even if it brought the answer."""
        self._takes(STEP)
        self.away = 2 * WINDOW
        self.assertTrue(self._takes(STEP))
        self.assertFalse(self._takes(STEP))
        self.assertFalse(self._takes(STEP))
        self.assertTrue(self._takes(STEP))

    def test_other_work_ends_polling_and_is_not_in_vain(self) -> None:
        """What else there is to do ends it at once, and does not count as in vain."""
        other = True
        self.wait = BusyWait(lambda timeout: None if other else self._look(timeout))
        for _ in range(5):
            began = self.now
            self.assertFalse(self._takes(STEP))
            self.assertLess(self.now - began, 2 * STEP)
        other = False
        self.assertTrue(self._takes(STEP))
        self.wait = BusyWait(self._look, busy=lambda: other)
        self._takes(STEP)
        self.assertTrue(self._takes(STEP))
        other = True
        self.assertFalse(self._takes(STEP))

    def test_nothing_is_polled_without_a_look_or_yield(self) -> None:
        """Where there is nothing to look with, or no way to yield, none is polled for."""
        wait = BusyWait(None)
        for _ in range(3):
            self.assertFalse(wait.poll())
            wait.came()
        self.patch(busypoll, "_yield", None)
        self.wait = BusyWait(self._look)
        for _ in range(3):
            self.assertFalse(self._takes(0.0))
        self.assertEqual(self.looks, 0)


class TwoEndsTests(SynchronousTestCase):
    """Two ends of a conversation, each of which waits for what the other says."""

    #: Seconds that an end takes to answer, and until one that sleeps is woken.
    ANSWER = 12e-6
    WAKE = 50e-6

    def _asleep(self, count: int, lull: float = 0.0) -> list[int]:
        """The numbers of the messages whose receiver slept.

        :param lull: seconds that an answer takes longer, of the first twenty.
        """
        now = 0.0
        due = 0.0

        def yield_() -> None:
            nonlocal now
            now += STEP

        self.patch(busypoll, "_now", lambda: now)
        self.patch(busypoll, "_yield", yield_)
        ends = [BusyWait(lambda _: now >= due) for _ in range(2)]
        #: when each began to wait
        began = [0.0, 0.0]
        slept = []
        for number in range(count):
            end = number % 2
            now = began[end]
            if not ends[end].poll():
                slept.append(number)
                now = max(now, due) + self.WAKE
            ends[end].came()
            now += self.ANSWER + (lull if number < 20 else 0.0)
            due = began[end] = now
        return slept

    def test_both_ends_poll_after_a_few_messages(self) -> None:
        """Though a sleeping end takes long to wake up, both poll after a few messages."""
        self.assertLess(max(self._asleep(2000)), 10)

    def test_both_ends_poll_again_after_a_lull(self) -> None:
        """So they do after answers that took long."""
        for lull in (WINDOW, QUICK, 100 * QUICK):
            self.assertLess(max(self._asleep(2000, lull)), 20 + 50, lull)
