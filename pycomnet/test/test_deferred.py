"""What makes Deferreds: those that have fired are as any other, those of an event fire with it."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.deferred import OneShot, done


class DoneTests(SynchronousTestCase):
    """What ``done`` makes."""

    def test_is_one(self) -> None:
        """It is a Deferred that has fired with None."""
        deferred = done()
        self.assertIsInstance(deferred, defer.Deferred)
        self.assertTrue(deferred.called)
        self.assertIsNone(self.successResultOf(deferred))

    def test_awaited(self) -> None:
        """It can be awaited, more than once, also after its result was changed."""

        async def user() -> list[Any]:
            first, changed = done(), done()
            changed.addCallback(lambda _: 5)
            return [await first, await first, await changed]

        result = self.successResultOf(defer.Deferred.fromCoroutine(user()))
        self.assertEqual(result, [None, None, 5])

    def test_callbacks(self) -> None:
        """Callbacks run at once and in order, for each by itself."""
        first, second = done(), done()
        first.addCallback(lambda _: 1).addCallback(lambda value: value + 1)
        self.assertEqual(self.successResultOf(first), 2)
        self.assertIsNone(self.successResultOf(second))

    def test_raising_callback(self) -> None:
        """What a callback raises goes to the next errback."""

        def fail(_: object) -> None:
            raise ZeroDivisionError

        self.failureResultOf(done().addCallback(fail), ZeroDivisionError)

    def test_paused(self) -> None:
        """While it is paused nothing runs."""
        ran: list[object] = []
        deferred = done()
        deferred.pause()
        deferred.addCallback(ran.append)
        self.assertEqual(ran, [])
        deferred.unpause()
        self.assertEqual(ran, [None])

    def test_among_others(self) -> None:
        """It can be cancelled, waited for with others, chained and given a timeout."""
        done().cancel()
        both: list[defer.Deferred[Any]] = [done(), defer.succeed(3)]
        self.assertEqual(self.successResultOf(defer.gatherResults(both)), [None, 3])
        waiting = defer.succeed(1).addCallback(lambda _: done())
        self.assertIsNone(self.successResultOf(waiting))
        clock: Any = Clock()
        self.assertIsNone(self.successResultOf(done().addTimeout(1, clock)))
        self.assertEqual(clock.getDelayedCalls(), [])


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

    def test_once(self) -> None:
        """The second time nothing happens, and the first result stays."""
        self.ending.fire(1)
        self.assertFalse(self.ending.fire(2))
        self.assertEqual(self.successResultOf(self.ending.when_fired()), 1)

    def test_cancelled(self) -> None:
        """One that is cancelled is forgotten, and the others are not."""
        first, second = self.ending.when_fired(), self.ending.when_fired()
        first.cancel()
        self.failureResultOf(first, defer.CancelledError)
        self.ending.fire(3)
        self.assertEqual(self.successResultOf(second), 3)

    def test_cancelled_by_another(self) -> None:
        """One that is cancelled while those before it are told is not told."""
        first, second = self.ending.when_fired(), self.ending.when_fired()
        first.addCallback(lambda _: second.cancel())
        self.ending.fire(3)
        self.failureResultOf(second, defer.CancelledError)

    def test_while_told(self) -> None:
        """What asks while it is told has its answer: it has happened before anybody knows."""
        asked: list[int] = []
        first = self.ending.when_fired()
        first.addCallback(lambda _: self.ending.when_fired().addCallback(asked.append))
        self.ending.fire(3)
        self.assertEqual(asked, [3])

    def test_independent(self) -> None:
        """What one does with the result the others don't see."""
        first, second = self.ending.when_fired(), self.ending.when_fired()
        first.addCallback(lambda _: 1 / 0)
        self.ending.fire(3)
        self.failureResultOf(first, ZeroDivisionError)
        self.assertEqual(self.successResultOf(second), 3)
