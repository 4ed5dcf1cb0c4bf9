"""Runs at real gateways that a user's functions end."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer

import pycomnet
from pycomnet.test.rsync.case import RSyncCase


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
