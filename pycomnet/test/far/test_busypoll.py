"""Looking for an answer before sleeping for it."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.far.busypoll import BUSY, Spinner


class Spinning(SynchronousTestCase):
    """How often it is looked."""

    def setUp(self) -> None:
        self.looks = 0
        self.answer_at = 0
        self.now = 0.0
        self.away = 0.0

    def spinner(self) -> Spinner:
        """One whose processor is away for :attr:`away` seconds whenever it is given up."""
        spinner = Spinner(self.look, 40)
        spinner._now = lambda: self.now
        spinner._yield = self.give_away
        self.assertFalse(spinner.spin())  # nobody was asked yet
        self.assertEqual(self.looks, 0)
        return spinner

    def look(self, timeout: int) -> bool:
        """Whether there is an answer."""
        self.assertEqual(timeout, 0)
        self.looks += 1
        return self.looks == self.answer_at

    def give_away(self) -> None:
        """Let others have the processor."""
        self.now += self.away

    def test_answered(self) -> None:
        """It is looked until there is an answer, each time."""
        spinner = self.spinner()
        for _ in range(3):
            self.looks, self.answer_at = 0, 7
            self.assertTrue(spinner.spin())
            self.assertEqual(self.looks, 7)

    def test_in_vain(self) -> None:
        """It is looked so many times, and then more and more seldom."""
        spinner = self.spinner()
        looked = []
        for _ in range(20):
            self.looks = 0
            self.assertFalse(spinner.spin())
            looked.append(self.looks)
        self.assertEqual(looked, [40] + 3 * [0] + [40] + 7 * [0] + [40] + 7 * [0])

    def test_needed_elsewhere(self) -> None:
        """It is not looked again when another process took the processor meanwhile."""
        spinner = self.spinner()
        self.away = 2 * BUSY
        self.assertFalse(spinner.spin())
        self.assertEqual(self.looks, 1)
        self.away = BUSY / 2
        for _ in range(3):
            self.assertFalse(spinner.spin())
        self.assertFalse(spinner.spin())
        self.assertEqual(self.looks, 41)

    def test_nothing_to_look_with(self) -> None:
        """Where there is nothing to look with it is not looked."""
        self.assertFalse(Spinner(None, 40).spin())
