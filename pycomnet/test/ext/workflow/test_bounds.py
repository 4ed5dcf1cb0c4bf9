"""What one user of a workflow service can't do to the others."""

from __future__ import annotations

import tracemalloc
from typing import Any

import attrs
from twisted.internet import defer

from pycomnet.deferred import deferred
from pycomnet.errors import Overloaded
from pycomnet.ext.workflow import runner, service, stepper, transient
from pycomnet.ext.workflow.errors import (
    RunFailed,
    RunFull,
    RunStoreBusy,
    RunStoreFailed,
    UnknownRun,
)
from pycomnet.ext.workflow.records import RunChange, WorkflowRun, pack
from pycomnet.test.ext.workflow.kit import call
from pycomnet.test.ext.workflow.test_service import WorkflowCase, shop


class Deaf:
    """What follows a store, and is not told of the ends of runs."""

    def __init__(self, follower: Any) -> None:
        self._follower = follower

    def __getattr__(self, name: str) -> Any:
        return getattr(self._follower, name)

    def ended(self, run: str) -> None:
        """The end of a run, which it is not told."""


class BoundTests(WorkflowCase):
    """Memory and places."""

    @deferred
    async def test_asking_for_a_large_run_takes_little_memory(self) -> None:
        """Who signals or looks at a large run many times at once has it read a few times at a
        time, and not at all to know whose it is."""
        w = await self.serve({"t": [{"signal": "go"}]})
        run = WorkflowRun("big", "t", "none", "x" * (4 << 20), 1.0, updated=1.0)
        steps = [(f"s{n}", b"x" * (1 << 20)) for n in range(12)]
        _, claim = await self.service.store.create(run.row(), [])
        assert claim is not None
        change = RunChange(run.row(), claim.fence, tuple(steps), parked=True)
        await self.service.store.commit(change)
        self.patch(self.runner, "claimable", lambda: None)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        await defer.gatherResults([w.signal("big", "go", n) for n in range(30)])
        self.assertLess(tracemalloc.get_traced_memory()[1], 8 << 20)
        asked = [w.show("big") for _ in range(12)]
        for one in asked:
            one.addErrback(lambda _: None)  # these bytes are no steps
        await defer.gatherResults(asked)
        self.assertLess(tracemalloc.get_traced_memory()[1], 110 << 20)

    @deferred
    async def test_who_is_refused_a_place_has_run_nothing(self) -> None:
        """An \"overloaded\" says that nothing was run: there is no run then."""
        w = await self.serve({"t": [{"signal": "go"}]})
        self.patch(self.service._waiting, "most", 1)
        first = w.invoke("t", id="one")
        await self.until(lambda: len(self.service._waiting) == 1)
        await self.fails(w.invoke("t", id="two"), Overloaded)
        while not (found := await w.list()):
            pass
        self.assertEqual([one["id"] for one in found], ["one"])
        await w.signal("one", "go", 1)
        self.assertEqual(await first, 1)

    @deferred
    async def test_who_has_begun_a_run_is_not_told_that_nothing_was_changed(self) -> None:
        """A store that has too much to do keeps who waits for a run waiting."""
        w = await self.serve({"t": [{"signal": "go"}]})
        self.patch(service, "AGAIN", 0.01)
        await w.start("t", id="r")
        await self.until(lambda: not self.runner.live)
        row, refused = self.service.store.row, []

        def busy(run: str) -> Any:
            refused.append(run)
            return defer.fail(RunStoreBusy("busy"))

        self.patch(self.service.store, "row", busy)
        first = w.invoke("t", id="r")
        await self.until(lambda: len(refused) > 2)
        self.assertFalse(first.called)
        self.patch(self.service.store, "row", row)
        await w.signal("r", "go", 1)
        self.assertEqual(await first, 1)

    @deferred
    async def test_end_that_is_committed_without_an_answer(self) -> None:
        """Who waits for the run gets its result, also if the store can't be read just then."""
        w = await self.serve({"t": [shop("add")]})
        self.patch(stepper, "AGAIN", 0.01)
        self.patch(service, "AGAIN", 0.01)
        commit, row, refused = self.service.store.commit, self.service.store.row, []

        async def unanswered(change: RunChange) -> None:
            await commit(change)
            if change.row.state == "done":
                raise RunStoreFailed("the connection was lost")

        def busy(run: str) -> Any:
            refused.append(run)
            return row(run) if len(refused) > 1 else defer.fail(RunStoreBusy("busy"))

        self.patch(self.service.store, "commit", deferred(unanswered))
        # The store tells the end of the run to nobody: its answer is lost.
        self.patch(self.service.store, "_follower", Deaf(self.runner))
        self.patch(self.service.store, "row", busy)
        self.assertEqual(await w.invoke("t", 1), 2)

    @deferred
    async def test_invoke_of_two_is_cancelled_by_the_last(self) -> None:
        """A run that is not durable goes on while somebody waits for it."""
        w = await self.serve({"t": {"steps": [{"signal": "go"}], "durable": False}})
        first, second = w.invoke("t", id="r"), w.invoke("t", id="r")
        await self.until(lambda: len(self.service._waiting) == 2)
        first.cancel()
        await self.fails(first, defer.CancelledError)
        await self.until(lambda: len(self.service._waiting) == 1)
        await w.signal("r", "go", 7)
        self.assertEqual(await second, 7)

    @deferred
    async def test_runs_that_are_not_durable_take_no_room_of_others(self) -> None:
        """However many of them wait, a durable run begins."""
        self.patch(runner, "MOST_LIVE", 2)
        tasks = {"passing": {"steps": [{"signal": "go"}], "durable": False}, "t": [{"wait": 0.01}]}
        w = await self.serve(tasks)
        await defer.gatherResults([w.start("passing") for _ in range(3)])
        self.assertIsNone(await w.invoke("t"))

    @deferred
    async def test_runs_that_are_not_durable_are_bounded(self) -> None:
        """One too many is refused before it begins; who has ended makes room."""
        self.patch(transient, "MOST_TRANSIENT", 2)
        steps = [shop("add"), {"signal": "go"}]
        w = await self.serve({"t": {"steps": steps, "durable": False}})
        for number in range(2):
            await w.start("t", number, f"r{number}")
        await self.fails(w.start("t", 2, "r2"), Overloaded)
        await self.until(lambda: len(self.shop.calls) == 2)
        self.assertEqual([one for _, one in self.shop.calls], [0, 1])
        await w.signal("~r0", "go", "ended")
        self.assertEqual(await w.result("~r0"), "ended")
        await w.start("t", 2, "r2")

    @deferred
    async def test_user_has_half_of_the_room_of_runs_that_are_not_durable(self) -> None:
        """The others have the rest, of the number and of the bytes."""
        self.patch(transient, "MOST_TRANSIENT", 4)
        self.patch(transient, "MOST_TRANSIENT_BYTES", 10_000)
        await self.serve({"t": {"steps": [{"signal": "go"}], "durable": False}})
        definition = self.service._definitions["t"]
        for number in range(2):
            await self.runner.start(definition, None, f"r{number}", "ann")
        await self.fails(self.runner.start(definition, None, "r2", "ann"), Overloaded)
        await self.fails(self.runner.start(definition, "x" * 5_001, "r3", "bob"), Overloaded)
        await self.runner.start(definition, "x" * 4_000, "r3", "bob")
        self.assertEqual(len(self.runner.transient), 3)

    @deferred
    async def test_bytes_of_runs_that_are_not_durable(self) -> None:
        """Inputs, signals, and what steps give are bounded together, and given back."""
        self.patch(transient, "MOST_TRANSIENT_BYTES", 10_000)
        self.patch(transient, "REMEMBERED_BYTES", 10_000)
        tasks = {
            "waits": {"steps": [{"signal": "go"}], "durable": False},
            "makes": {"steps": [{"value": "${join('', [input, input])}"}], "durable": False},
            "calls": {"steps": [call("demo.only", method="double")], "durable": False},
        }
        w = await self.serve(tasks)
        await w.start("waits", None, "r")
        await self.fails(w.start("waits", "x" * 11_000), Overloaded)
        await self.fails(w.signal("~r", "other", "x" * 11_000), RunFull)
        for name in ("makes", "calls"):
            problem = await self.fails(w.invoke(name, "x" * 4_000), RunFailed)
            self.assertIn("bytes already", str(problem))
        await w.signal("~r", "go", "y" * 9_000)
        self.assertEqual(await w.result("~r"), "y" * 9_000)
        self.assertEqual(self.runner.transient.size, 0)
        # What has ended is remembered within bounds as well.
        for number in range(5):
            await w.invoke("calls", "x" * 1_000, id=str(number))
        await self.fails(w.show("~0"), UnknownRun)
        self.assertEqual((await w.show("~4"))["state"], "done")
        # Whoever waits for a run gets its result, however large.
        self.patch(transient, "REMEMBERED_BYTES", 100)
        self.assertEqual(await w.invoke("calls", "x" * 1_000), ["x" * 1_000] * 2)

    @deferred
    async def test_run_that_can_not_be_read_is_shown_as_such(self) -> None:
        """One bad row keeps nobody from seeing the others, and says what it is."""
        w = await self.serve({"t": [{"signal": "go"}]})
        await w.start("t", id="good")
        bad = WorkflowRun("bad", "t", "none", 1, 9e9, updated=9e9).row()
        await self.service.store.create(attrs.evolve(bad, data=pack(None)))
        shown = {one["id"]: one["error"] for one in await w.list()}
        self.assertEqual(shown["bad"]["code"], "unreadable")
        self.assertIsNone(shown["good"])
        self.assertEqual((await w.show("bad"))["state"], "running")
        await self.fails(w.result("bad"), RunStoreFailed)
