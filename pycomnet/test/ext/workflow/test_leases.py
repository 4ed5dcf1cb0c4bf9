"""A workflow service whose lease at the store may be over."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer

from pycomnet.deferred import deferred
from pycomnet.ext.workflow.stores.batchedstore import BatchedRunStore
from pycomnet.test.ext.workflow.test_service import WorkflowCase, shop


class HeldTests(WorkflowCase):
    """What it does meanwhile."""

    @deferred
    async def test_no_call_begins_before_the_lease_is_renewed(self) -> None:
        """While its claims may be another service's it commits, and calls nothing; once the lease
        is renewed it makes the calls that have waited, each once."""
        w = await self.serve({"t": [shop("add"), shop("add")]})
        patched = self.patch(BatchedRunStore, "held", False)
        waiting = w.invoke("t", 1, id="r")
        await self.until(lambda: "r" in self.runner.live)
        (step,) = (await w.show("r"))["steps"]
        self.assertEqual((step["state"], self.shop.calls), ("begun", []))
        self.runner.renewed()  # not yet
        self.assertEqual(self.shop.calls, [])
        patched.restore()
        self.runner.renewed()
        self.assertEqual(await waiting, 3)
        self.runner.renewed()
        self.assertEqual(self.shop.calls, [("add", 1), ("add", 2)])

    @deferred
    async def test_no_call_is_sent_after_the_lease(self) -> None:
        """A call that was begun while the lease lasted is not sent if it is over by then; once it
        is renewed it is made, once."""
        kinds = {
            "plain": [shop("hold")],
            "idempotent": [shop("hold", idempotent=True)],
            "once": [shop("hold_once")],
        }
        w = await self.serve(kinds)
        for number, name in enumerate(kinds, 1):
            asked: list[bool] = []

            def held(_: Any, asked: list[bool] = asked) -> bool:
                asked.append(not asked)
                return asked[-1]

            patched = self.patch(BatchedRunStore, "held", property(held))
            waiting = w.invoke(name, 1, id=name)
            await self.until(lambda asked=asked: len(asked) > 1 + (name == "once"))  # type: ignore[misc]  # noqa: B023
            patched.restore()
            self.assertEqual((len(self.shop.held), waiting.called), (number - 1, False))
            self.runner.renewed()
            await self.until(lambda number=number: len(self.shop.held) == number)  # type: ignore[misc]
            self.shop.held[-1].callback("x")
            self.assertEqual(await waiting, "x")

    @deferred
    async def test_what_a_store_asks_for(self) -> None:
        """It knows its claims, and the runs for whose end somebody waits; those that are not
        durable are none of the store's."""
        tasks = {
            "t": [shop("hold")],
            "quick": {"durable": False, "steps": [shop("hold")]},
            "letter": [{"signal": "go"}],
        }
        w = await self.serve(tasks)
        for name in tasks:
            await w.start(name, 1, name)
        await self.until(lambda: len(self.shop.held) == 2 and "letter" not in self.runner.live)
        waiting = [w.result(id) for id in ("t", "~quick", "letter")]
        await self.until(
            lambda: self.runner.is_awaited("~quick") and len(self.runner.awaited()) == 2
        )
        self.assertEqual(set(self.runner.awaited()), {"t", "letter"})
        self.assertEqual(self.runner.claims(), {"t": 1})
        for one in waiting:
            one.addErrback(lambda failure: None)
            one.cancel()

    @deferred
    async def test_runs_that_are_lost_are_stepped_no_more(self) -> None:
        """A run that is another service's by now is dropped, with its call under way; who waits
        for its end goes on waiting."""
        w = await self.serve({"t": [shop("hold")]})
        waiting = w.invoke("t", 1, id="r")
        await self.until(lambda: self.shop.held and self.runner.is_awaited("r"))
        self.runner.lost(["r", "none"])
        self.assertEqual(self.runner.claims(), {})
        await self.until(lambda: self.shop.cancelled)
        self.assertFalse(waiting.called)
        waiting.addErrback(lambda failure: None)
        waiting.cancel()

    @deferred
    async def test_run_that_is_lost_before_it_is_in_memory(self) -> None:
        """A run that is another service's before its definition was read is not stepped."""
        w = await self.serve({"t": [shop("hold", idempotent=True)]})
        await w.start("t", 1, "r")
        await self.until(lambda: self.shop.held)
        pinned = self.runner.live["r"].run.pinned
        self.runner.lost(["r"])
        reading: defer.Deferred[Any] = defer.Deferred()
        patched = self.patch(self.runner, "_definition", lambda hash: reading)
        await self.runner.store.release({"r": 1})
        self.runner.claimable()
        await self.until(lambda: self.runner.claims() == {"r": 2})
        self.runner.lost(["r"])
        self.assertEqual(self.runner.claims(), {})
        reading.callback(pinned)
        self.assertEqual((self.runner.live, len(self.shop.held)), ({}, 1))
        # Once it can be claimed again it goes on.
        patched.restore()
        await self.until(lambda: not self.runner._claiming)
        await self.runner.store.release({"r": 2})
        self.runner.claimable()
        await self.until(lambda: len(self.shop.held) == 2)

    @deferred
    async def test_end_that_is_none(self) -> None:
        """Who waits for a result waits on if the run has not ended: it was retried at once, or
        somebody has sent a notice that is wrong."""
        w = await self.serve({"t": [shop("hold")]})
        waiting = w.invoke("t", 1, id="r")
        await self.until(lambda: self.shop.held and self.runner.is_awaited("r"))
        self.runner.ended("r")
        await self.until(lambda: self.runner.is_awaited("r"))
        self.assertFalse(waiting.called)
        self.shop.held[0].callback("x")
        self.assertEqual(await waiting, "x")
