"""The end of what carries a far side: which of its two signs comes first, and what is done then."""

from __future__ import annotations

import signal

from twisted.internet import defer
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.deferred import OneShot
from pycomnet.gateways.transportend import (
    DRAIN_TIMEOUT,
    EXIT_TIMEOUT,
    STATUS_TIMEOUT,
    StillRuns,
    TransportEnd,
)
from pycomnet.test.kit import TurnClock


class Transport:
    """What ends when the test says so."""

    def __init__(self) -> None:
        self.ended: OneShot[int | None] = OneShot()
        self.signals: list[int] = []

    @property
    def status(self) -> int | None:
        return self.ended.result

    def when_ended(self) -> defer.Deferred[int | None]:
        return self.ended.when_fired()

    def kill(self, number: int) -> None:
        self.signals.append(number)


class TransportEndTests(SynchronousTestCase):
    """What ``TransportEnd`` finds out and does."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.aborted: list[float] = []
        self.transport = Transport()
        self.end = TransportEnd(
            self.transport, lambda: self.aborted.append(self.clock.seconds()), self.clock
        )

    def tearDown(self) -> None:
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_connection_held_open_is_aborted_after_the_drain(self) -> None:
        """What it said last has its time; then the connection, which is held open, is aborted."""
        self.end.process_ended()
        self.clock.advance(DRAIN_TIMEOUT)
        self.assertEqual(self.aborted, [DRAIN_TIMEOUT])

    def test_connection_over_in_time_is_not_aborted(self) -> None:
        """The status is known, and nothing is aborted."""
        self.end.process_ended()
        self.transport.ended.fire(3)
        self.assertEqual(self.successResultOf(self.end.find_status()), 3)
        self.clock.advance(DRAIN_TIMEOUT)
        self.assertEqual((self.aborted, self.transport.signals), ([], []))

    def test_status_is_waited_for_after_the_connection(self) -> None:
        """The status is waited for."""
        finding = self.end.find_status()
        self.assertNoResult(finding)
        self.transport.ended.fire(-9)
        self.assertEqual(self.successResultOf(finding), -9)

    def test_process_that_goes_on_is_terminated_not_awaited(self) -> None:
        """It is told to end, and not waited for."""
        finding = self.end.find_status()
        self.clock.advance(STATUS_TIMEOUT)
        self.failureResultOf(finding, StillRuns)
        self.assertEqual(self.transport.signals, [signal.SIGTERM])

    def test_end_that_is_read_behind_the_timer_counts(self) -> None:
        """A program that was not run for so long has timers due before it reads what has come."""
        clock = TurnClock()  # what a timer arranges for is in the next turn, as with a reactor
        end = TransportEnd(self.transport, self.fail, clock)
        finding = end.find_status()
        clock.advance(STATUS_TIMEOUT)
        self.assertNoResult(finding)
        self.transport.ended.fire(-9)
        self.assertEqual(self.successResultOf(finding), -9)
        self.assertEqual(self.transport.signals, [])

    def test_no_signal_is_sent_to_what_ends_in_time(self) -> None:
        ending = self.end.end(1.0)
        self.transport.ended.fire(0)
        self.assertEqual(self.successResultOf(ending), 0)
        self.assertEqual((self.aborted, self.transport.signals), ([], []))

    def test_what_does_not_end_gets_sigterm_then_sigkill(self) -> None:
        """A signal that asks, then one that does not; it is waited for in any case."""
        ending = self.end.end(1.0)
        self.clock.advance(1.0)
        self.assertEqual(self.transport.signals, [signal.SIGTERM])
        self.clock.advance(EXIT_TIMEOUT)
        self.assertEqual(self.transport.signals, [signal.SIGTERM, signal.SIGKILL])
        self.assertEqual(self.aborted, [1.0, 1.0 + EXIT_TIMEOUT])
        self.assertNoResult(ending)
        self.transport.ended.fire(-9)
        self.assertEqual(self.successResultOf(ending), -9)
