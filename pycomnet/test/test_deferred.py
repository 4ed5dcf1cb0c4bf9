"""What makes Deferreds: those that have fired are as any other, those of an event fire with it."""

from __future__ import annotations

import gc
import traceback
from typing import Any

from twisted.internet import defer
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.deferred import Condition, OneShot, done, reporting, shielded
from pycomnet.test.garbage import collects
from pycomnet.test.kit import first_cancels_rest


class ShieldedTests(SynchronousTestCase):
    """Functions that run to their end."""

    def setUp(self) -> None:
        self.event: OneShot[int] = OneShot()
        self.ended: list[int] = []

    @shielded
    async def work(self) -> int:
        """Wait for the event, and note that it was waited for."""
        try:
            result = await self.event.when_fired()
        except ValueError:
            self.ended.append(-1)
            raise
        self.ended.append(result)
        return result

    def test_cancelling_only_stops_the_waiting(self) -> None:
        """The function goes on, and so do its other callers."""
        one, two = self.work(), self.work()
        one.cancel()
        self.failureResultOf(one, defer.CancelledError)
        self.event.fire(3)
        self.assertEqual(self.successResultOf(two), 3)
        self.assertEqual(self.ended, [3, 3])
        self.assertEqual(self.successResultOf(self.work()), 3)

    def test_error_reaches_who_waits_and_is_dropped_if_nobody_does(self) -> None:
        """Nothing is logged for a caller that has cancelled."""
        one, two = self.work(), self.work()
        one.cancel()
        self.failureResultOf(one, defer.CancelledError)
        self.event.fail(ValueError("no"))
        self.failureResultOf(two, ValueError)
        self.assertEqual(self.ended, [-1, -1])


class DoneTests(SynchronousTestCase):
    """What ``done`` makes."""

    def test_done_is_a_deferred_fired_with_none(self) -> None:
        """It is a Deferred that has fired with None."""
        deferred = done()
        self.assertIsInstance(deferred, defer.Deferred)
        self.assertTrue(deferred.called)
        self.assertIsNone(self.successResultOf(deferred))

    def test_done_can_be_awaited_more_than_once(self) -> None:
        """It can be awaited, more than once, also after its result was changed."""

        async def user() -> list[Any]:
            first, changed = done(), done()
            changed.addCallback(lambda _: 5)
            return [await first, await first, await changed]

        result = self.successResultOf(defer.Deferred.fromCoroutine(user()))
        self.assertEqual(result, [None, None, 5])

    def test_callbacks_run_at_once_each_by_itself(self) -> None:
        """Callbacks run at once and in order, for each by itself."""
        first, second = done(), done()
        first.addCallback(lambda _: 1).addCallback(lambda value: value + 1)
        self.assertEqual(self.successResultOf(first), 2)
        self.assertIsNone(self.successResultOf(second))

    def test_raising_callback_goes_to_the_next_errback(self) -> None:

        def fail(_: object) -> None:
            raise ZeroDivisionError

        self.failureResultOf(done().addCallback(fail), ZeroDivisionError)

    def test_paused_runs_nothing(self) -> None:
        """While it is paused nothing runs."""
        ran: list[object] = []
        deferred = done()
        deferred.pause()
        deferred.addCallback(ran.append)
        self.assertEqual(ran, [])
        deferred.unpause()
        self.assertEqual(ran, [None])

    def test_done_works_with_cancel_gather_chain_and_timeout(self) -> None:
        """It can be cancelled, waited for with others, chained and given a timeout."""
        done().cancel()
        both: list[defer.Deferred[Any]] = [done(), defer.succeed(3)]
        self.assertEqual(self.successResultOf(defer.gatherResults(both)), [None, 3])
        waiting = defer.succeed(1).addCallback(lambda _: done())
        self.assertIsNone(self.successResultOf(waiting))
        clock: Any = Clock()
        self.assertIsNone(self.successResultOf(done().addTimeout(1, clock)))
        self.assertEqual(clock.getDelayedCalls(), [])


@collects
class OneShotTests(SynchronousTestCase):
    """What ``OneShot`` tells of what happens once."""

    def setUp(self) -> None:
        self.ending: OneShot[int] = OneShot()

    def test_all_are_told(self) -> None:
        """Whoever waits gets the result, in order; whoever asks later gets it at once."""
        told: list[tuple[str, int]] = []
        self.ending.when_fired().addCallback(lambda result: told.append(("first", result)))
        self.ending.when_fired().addCallback(lambda result: told.append(("second", result)))
        self.assertEqual((told, self.ending.fired, self.ending.result), ([], False, None))
        self.assertTrue(self.ending.fire(3))
        self.assertEqual(told, [("first", 3), ("second", 3)])
        self.assertEqual((self.ending.fired, self.ending.result), (True, 3))
        self.assertEqual(self.successResultOf(self.ending.when_fired()), 3)

    def test_second_fire_changes_nothing(self) -> None:
        """The second time nothing happens, and the first result stays."""
        self.ending.fire(1)
        self.assertFalse(self.ending.fire(2))
        self.assertEqual(self.successResultOf(self.ending.when_fired()), 1)

    def test_cancelled_waiter_is_forgotten_alone(self) -> None:
        """One that is cancelled is forgotten, and the others are not."""
        first, second = self.ending.when_fired(), self.ending.when_fired()
        first.cancel()
        self.failureResultOf(first, defer.CancelledError)
        self.ending.fire(3)
        self.assertEqual(self.successResultOf(second), 3)

    def test_waiter_cancelled_by_another_is_not_told(self) -> None:
        """One that is cancelled while those before it are told is not told."""
        first, second = self.ending.when_fired(), self.ending.when_fired()
        first.addCallback(lambda _: second.cancel())
        self.ending.fire(3)
        self.failureResultOf(second, defer.CancelledError)

    def test_who_asks_while_told_is_answered(self) -> None:
        """What asks while it is told has its answer: it has happened before anybody knows."""
        asked: list[int] = []
        first = self.ending.when_fired()
        first.addCallback(lambda _: self.ending.when_fired().addCallback(asked.append))
        self.ending.fire(3)
        self.assertEqual(asked, [3])

    def test_one_waiters_error_is_not_anothers(self) -> None:
        """What one does with the result the others don't see."""
        first, second = self.ending.when_fired(), self.ending.when_fired()
        first.addCallback(lambda _: 1 / 0)
        self.ending.fire(3)
        self.failureResultOf(first, ZeroDivisionError)
        self.assertEqual(self.successResultOf(second), 3)

    def test_each_waiter_gets_a_failure_of_its_own(self) -> None:
        """Each who waits gets the error in a Failure of its own, and so does who asks later."""
        error = ValueError("why")
        first, second = self.ending.when_fired(), self.ending.when_fired()
        self.assertTrue(self.ending.fail(error))
        self.assertEqual((self.ending.fired, self.ending.error), (True, error))
        failures = [
            self.failureResultOf(waiter, ValueError)
            for waiter in (first, second, self.ending.when_fired())
        ]
        self.assertEqual([failure.value for failure in failures], [error] * 3)
        self.assertEqual(len(set(map(id, failures))), 3)
        self.assertFalse(self.ending.fire(3))
        self.assertFalse(self.ending.fail(KeyError()))
        self.failureResultOf(self.ending.when_fired(), ValueError)

    def test_failure_that_nobody_waits_for_is_not_logged(self) -> None:
        """It is no unhandled error: that is for those who wait."""
        self.ending.fail(ValueError())
        del self.ending
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_traceback_does_not_grow(self) -> None:
        """However often a failure is awaited, the error does not keep who did."""

        async def ask() -> None:
            await self.ending.when_fired()

        def depth(error: BaseException) -> int:
            return len(traceback.extract_tb(error.__traceback__))

        self.ending.fail(ValueError())
        depths = {
            depth(self.failureResultOf(defer.Deferred.fromCoroutine(ask())).value) for _ in range(5)
        }
        self.assertEqual(len(depths), 1)

    def test_first_told_may_cancel_the_rest(self) -> None:
        """Whoever is told first may cancel the others, whether it happens or fails."""
        told = first_cancels_rest(self, self.ending.when_fired, lambda: self.ending.fire(3))
        self.assertEqual(told, 3)
        failing: OneShot[int] = OneShot()
        told = first_cancels_rest(self, failing.when_fired, lambda: failing.fail(KeyError()))
        told.trap(KeyError)

    def test_last_cancelled_before_it_happens_says_abandoned(self) -> None:
        """The last that is cancelled before it happens says so; none that is cancelled after."""
        abandoned: list[bool] = []
        ending: OneShot[int] = OneShot(lambda: abandoned.append(ending.fired))
        first, second = ending.when_fired(), ending.when_fired()
        first.cancel()
        self.assertEqual(abandoned, [])
        second.cancel()
        self.assertEqual(abandoned, [False])
        first_cancels_rest(self, ending.when_fired, lambda: ending.fire(3))
        self.assertEqual(abandoned, [False])
        for waiter in (first, second):
            self.failureResultOf(waiter, defer.CancelledError)

    def test_follow_takes_the_deferreds_result_or_failure(self) -> None:
        """It has what a Deferred fires with, or what that fails with: which is handled thereby."""
        source: defer.Deferred[int] = defer.Deferred()
        self.ending.follow(source)
        source.callback(3)
        self.assertEqual(self.successResultOf(self.ending.when_fired()), 3)
        failing: OneShot[int] = OneShot()
        failing.follow(defer.fail(KeyError()))
        self.failureResultOf(failing.when_fired(), KeyError)


class ConditionTests(SynchronousTestCase):
    """What ``Condition`` tells of what happens again and again."""

    def setUp(self) -> None:
        self.changed = Condition()

    def test_each_waiter_is_told_of_the_next_time_once(self) -> None:
        """Whoever waits is told of the next time, once; who waits while it is told, of a later."""
        told: list[str] = []
        first = self.changed.wait().addCallback(lambda _: told.append("first"))
        first.addCallback(lambda _: self.changed.wait().addCallback(lambda _: told.append("again")))
        self.changed.notify_all()
        self.assertEqual((told, self.changed.waiting), (["first"], 1))
        self.changed.notify_all()
        self.assertEqual((told, self.changed.waiting), (["first", "again"], 0))

    def test_notification_without_waiters_is_not_remembered(self) -> None:
        """That it happened while nobody waited is not told later."""
        self.changed.notify_all()
        self.assertNoResult(self.changed.wait())

    def test_first_notified_may_cancel_the_rest(self) -> None:
        """Whoever is told first may cancel the others."""
        first_cancels_rest(self, self.changed.wait, self.changed.notify_all)
        self.assertEqual(self.changed.waiting, 0)


class ReportingTests(SynchronousTestCase):
    """What ``reporting`` makes: functions that call another with their progress."""

    def setUp(self) -> None:
        self.event: defer.Deferred[None] = defer.Deferred()
        self.ended: list[object] = []

    def running(self, progress: Any, steps: int = 2) -> defer.Deferred[int]:
        """A function that reports its steps when an event fires, and then returns."""

        @reporting
        async def work(report: Any, result: int) -> int:
            try:
                await self.event
                for number in range(steps):
                    report(number)
                return result
            except BaseException as problem:
                self.ended.append(type(problem))
                raise

        return work(progress, 5)

    def test_steps_are_reported_and_the_result_is_returned(self) -> None:
        """Its steps go to the function that is given, or to nobody."""
        seen: list[int] = []
        first, second = self.running(seen.append), self.running(None)
        self.event.callback(None)
        self.assertEqual(seen, [0, 1])
        self.assertEqual([self.successResultOf(first), self.successResultOf(second)], [5, 5])

    def test_cancelling_in_a_report_ends_it_there(self) -> None:
        """What is told of a step may cancel the whole: nothing is done after that step."""
        seen: list[int] = []

        def cancel(step: int) -> None:
            seen.append(step)
            made.cancel()

        made = self.running(cancel)
        self.event.callback(None)
        self.failureResultOf(made, defer.CancelledError)
        self.assertEqual((seen, self.ended), ([0], [defer.CancelledError]))

    def test_cancelling_between_reports_is_as_ever(self) -> None:
        """While it waits it is cancelled as any coroutine's Deferred."""
        made = self.running(None)
        made.cancel()
        self.failureResultOf(made, defer.CancelledError)
        self.assertEqual(self.ended, [defer.CancelledError])
