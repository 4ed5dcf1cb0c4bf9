"""A user's functions: when they are called, and what happens where they raise or cancel."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

import pycomnet
from pycomnet.rsync.reports import Reports
from pycomnet.test.rsync.test_targets import RSyncCase


class ReportsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.seen: list[Any] = []

    def event(self, path: str) -> pycomnet.SyncEvent:
        return pycomnet.SyncEvent("sent", "gw0:x", path)

    def test_events_are_told_in_a_turn_of_their_own(self) -> None:
        """Who tells goes on first; then all are told, in order, and who waits for that goes on."""
        reports = Reports(lambda event: self.seen.append(event.path), self.clock)
        for path in ("a", "b"):
            reports.tell(self.event(path))
        told = reports.flush()
        self.assertEqual(self.seen, [])
        self.assertNoResult(told)
        self.clock.advance(0)
        self.assertEqual(self.seen, ["a", "b"])
        self.successResultOf(told)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_function_that_raises_is_not_called_again(self) -> None:
        """What it raises is the problem; those who wait are cancelled."""

        def fail(event: pycomnet.SyncEvent) -> None:
            self.seen.append(event.path)
            raise ZeroDivisionError

        reports = Reports(fail, self.clock)
        raised = reports.problem.when_fired()
        for path in ("a", "b"):
            reports.tell(self.event(path))
        told = reports.flush()
        self.clock.advance(0)
        self.assertEqual(self.seen, ["a"])
        self.assertIsInstance(self.successResultOf(raised), ZeroDivisionError)
        self.failureResultOf(told, defer.CancelledError)
        reports.tell(self.event("c"))
        self.failureResultOf(reports.flush(), defer.CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_call_waits_for_what_is_returned(self) -> None:
        """Its Deferred fires with the result of the one that the function returns, or fails so."""
        reports = Reports(None, self.clock)
        first: defer.Deferred[int] = defer.Deferred()
        second: defer.Deferred[int] = defer.Deferred()
        outcomes = [reports.call(lambda each: each, each) for each in (first, second, 3)]
        self.clock.advance(0)
        self.assertNoResult(outcomes[0])
        first.callback(1)
        second.errback(ZeroDivisionError())
        self.assertEqual(self.successResultOf(outcomes[0]), 1)
        self.failureResultOf(outcomes[1], ZeroDivisionError)
        self.assertEqual(self.successResultOf(outcomes[2]), 3)

    def test_call_that_is_cancelled(self) -> None:
        """What it waits for is cancelled; what was not called yet never is."""
        reports = Reports(None, self.clock)
        waited: defer.Deferred[None] = defer.Deferred()
        running = reports.call(lambda _: waited, None)
        self.clock.advance(0)
        running.cancel()
        self.failureResultOf(running, defer.CancelledError)
        self.assertTrue(waited.called)
        never = reports.call(self.seen.append, 1)
        never.cancel()
        self.failureResultOf(never, defer.CancelledError)
        self.clock.advance(0)
        self.assertEqual(self.seen, [])


class ProgressTests(RSyncCase):
    """Runs whose user's functions end them."""

    def setUp(self) -> None:
        super().setUp()
        self.fill()
        self.seen: list[pycomnet.SyncEvent] = []

    async def sync(self, targets: int = 2, finished: Any = None) -> pycomnet.RSync:
        sync = pycomnet.RSync(self.source)
        for number in range(targets):
            sync.add_target(await self.gateway(), self.target(number), finished=finished)
        return sync

    async def assert_goes_on(self, sync: pycomnet.RSync) -> None:
        """What has ended had closed everything: the next run completes, and nothing is told."""
        told = len(self.seen)
        (await sync.send()).raise_for_failures()
        for number in range(len(sync.results)):
            self.assert_arrived(number)
        self.assertEqual(len(self.seen), told)

    async def test_progress_that_raises_ends_the_run(self) -> None:
        """The run fails with what was raised, at all targets, and no more is told."""

        def fail(event: pycomnet.SyncEvent) -> None:
            self.seen.append(event)
            raise ZeroDivisionError("in the user's function")

        sync = await self.sync()
        problem = await self.failure(sync.send(fail), ZeroDivisionError)
        self.assertIn("in the user's function", str(problem))
        self.assertEqual(len(self.seen), 1)
        await self.assert_goes_on(sync)

    async def test_progress_that_cancels_ends_the_run(self) -> None:
        """Cancelling in a report ends the run after that report."""

        def cancel(event: pycomnet.SyncEvent) -> None:
            self.seen.append(event)
            running.cancel()

        sync = await self.sync()
        running = sync.send(cancel)
        await self.failure(running, defer.CancelledError)
        self.assertEqual(len(self.seen), 1)
        await self.assert_goes_on(sync)

    async def test_last_report_may_end_it_as_well(self) -> None:
        """Also when all is done: what is told of the end raises, or cancels."""

        def fail(event: pycomnet.SyncEvent) -> None:
            if event.kind == "finished":
                raise ZeroDivisionError

        def cancel(event: pycomnet.SyncEvent) -> None:
            if event.kind == "finished":
                running.cancel()

        sync = await self.sync(1)
        await self.failure(sync.send(fail), ZeroDivisionError)
        running = sync.send(cancel)
        await self.failure(running, defer.CancelledError)
        await self.assert_goes_on(sync)

    async def test_finished_function_that_raises_or_cancels(self) -> None:
        """So does the function that is called when a target is finished."""

        def fail(result: pycomnet.TargetResult) -> None:
            raise ZeroDivisionError

        def cancel(result: pycomnet.TargetResult) -> None:
            running.cancel()

        await self.failure((await self.sync(2, fail)).send(), ZeroDivisionError)
        running = (await self.sync(2, cancel)).send()
        await self.failure(running, defer.CancelledError)
        await self.assert_goes_on(await self.sync())

    async def test_finished_function_is_waited_for(self) -> None:
        """The run ends when the Deferred that it returns has fired."""
        waited: defer.Deferred[None] = defer.Deferred()
        called: defer.Deferred[None] = defer.Deferred()

        def finished(result: pycomnet.TargetResult) -> Any:
            called.callback(None)
            return waited

        running = (await self.sync(1, finished)).send()
        await called
        self.assertNoResult(running)
        waited.callback(None)
        self.assertTrue((await running).ok)

    async def test_fetch(self) -> None:
        """So does what is told of a fetch, in its course and at its end."""

        def fail(event: pycomnet.SyncEvent) -> None:
            self.seen.append(event)
            if event.kind == kind:
                raise ZeroDivisionError

        def cancel(event: pycomnet.SyncEvent) -> None:
            self.seen.append(event)
            if event.kind == kind:
                running.cancel()

        gateway = await self.gateway()
        for kind in ("sent", "finished"):
            self.seen = []
            running = pycomnet.fetch(gateway, self.source, self.target(), progress=fail)
            await self.failure(running, ZeroDivisionError)
            self.assertEqual([event.kind for event in self.seen].count(kind), 1)
            self.seen = []
            target = self.target(len(kind))
            running = pycomnet.fetch(gateway, self.source, target, progress=cancel)
            await self.failure(running, defer.CancelledError)
            self.assertEqual([event.kind for event in self.seen].count(kind), 1)
        (await pycomnet.fetch(gateway, self.source, self.target(9))).raise_for_failures()
        self.assert_arrived(9)
