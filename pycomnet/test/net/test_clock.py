"""Reactors whose timers go by the monotonic clock."""

from __future__ import annotations

import time

from twisted.internet.selectreactor import SelectReactor
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.net.clock import use_monotonic_clock


class MonotonicTests(SynchronousTestCase):
    """What :func:`use_monotonic_clock` changes, and what it leaves alone."""

    def setUp(self) -> None:
        self.reactor = SelectReactor()
        self.addCleanup(self.reactor.removeAll)

    def test_timers_ignore_a_wall_clock_that_is_set(self) -> None:
        """A timer is due when its seconds have passed, though the wall clock is a day ahead."""
        self.assertTrue(use_monotonic_clock(self.reactor))
        called: list[str] = []
        self.reactor.callLater(1000, called.append, "too early")
        self.reactor.callLater(0, called.append, "due")
        now = time.time()
        self.patch(time, "time", lambda: now + 86400)
        self.reactor.runUntilCurrent()
        self.assertEqual(called, ["due"])
        self.assertEqual(use_monotonic_clock(self.reactor), True, "again is no matter")

    def test_reactor_with_timers_keeps_its_clock(self) -> None:
        """A reactor with timers, or that runs, keeps the clock that they have their times by."""
        seconds = self.reactor.seconds
        call = self.reactor.callLater(1000, lambda: None)
        self.assertFalse(use_monotonic_clock(self.reactor))
        call.cancel()
        self.reactor.running = True
        self.assertFalse(use_monotonic_clock(self.reactor))
        self.assertIs(self.reactor.seconds, seconds)
