"""Reactors whose timers go by the monotonic clock."""

from __future__ import annotations

import time

from twisted.internet.selectreactor import SelectReactor
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.net.clock import StoppableClock, use_monotonic_clock


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


class StoppableTests(SynchronousTestCase):
    """:class:`StoppableClock`."""

    def setUp(self) -> None:
        self.now = 1000.0
        self.patch(time, "monotonic", lambda: self.now)
        self.reactor = SelectReactor()
        self.addCleanup(self.reactor.removeAll)

    def test_timers_wait_while_it_stands(self) -> None:
        """They go on from where they were, also after an error in the block."""
        clock = StoppableClock()
        self.assertTrue(use_monotonic_clock(self.reactor, clock))
        called: list[str] = []
        self.reactor.callLater(10, called.append, "due")
        self.now += 9
        for _ in range(2):
            with self.assertRaises(KeyError), clock.stopped():
                self.now += 600
                self.reactor.callLater(5, called.append, "later")
                self.reactor.runUntilCurrent()
                self.assertEqual(clock(), 1009)
                raise KeyError
            self.assertEqual(clock(), 1009)
        self.reactor.runUntilCurrent()
        self.assertEqual(called, [])
        self.now += 1
        self.reactor.runUntilCurrent()
        self.assertEqual(called, ["due"])
        self.now += 4
        self.reactor.runUntilCurrent()
        self.assertEqual(called, ["due", "later", "later"])
