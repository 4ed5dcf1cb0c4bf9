"""A Deferred that has fired is as any other, whatever is done with it first."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.deferred import done


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
