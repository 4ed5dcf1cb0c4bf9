"""The calls of steps: how they fail, and how often they are made."""

from __future__ import annotations

from pycomnet.deferred import deferred
from pycomnet.errors import from_map
from pycomnet.ext.workflow.errors import RunFailed
from pycomnet.test.ext.workflow.test_service import WorkflowCase, shop

#: Takes all errors.
CAUGHT = [{"errors": ["*"], "then": []}]


class CallingTests(WorkflowCase):
    """Calls of a shop."""

    @deferred
    async def test_method_with_once_that_has_failed_by_a_nested_call(self) -> None:
        """Whatever the error's code says of another call: the method has run, and is not called
        again."""
        w = await self.serve({"t": [shop("hold_once", timeout=5)]})
        codes = ("interrupted", "unreachable", "once-memory", "leaving", "forbidden")
        for number, code in enumerate(codes):
            run = w.invoke("t", 1)
            await self.until(lambda number=number: len(self.shop.held) > number)  # type: ignore[misc]
            self.shop.held[-1].errback(from_map({"code": code, "message": "of another"}))
            problem = await self.fails(run, RunFailed)
            self.assertEqual(problem.error["code"], code)
            self.assertEqual(len(self.shop.held), number + 1)

    @deferred
    async def test_method_with_once_that_fails_after_a_crash(self) -> None:
        """The repetition has the error that the method raises: the step has failed so."""
        tasks = {"t": [shop("hold_once", name="s", timeout=5)]}
        w = await self.serve(tasks)
        await w.start("t", 1, "r")
        await self.until(lambda: self.shop.held)
        await self.crash()
        await self.until(lambda: not self.shop_server.running)
        w = await self.serve(tasks)
        run = w.result("r")
        await self.until(lambda: self.shop_server.running)
        self.shop.held[0].errback(ValueError("sold out"))
        problem = await self.fails(run, RunFailed)
        self.assertEqual((problem.error["code"], len(self.shop.held)), ("remote", 1))
        self.assertIn("sold out", problem.error["message"])

    @deferred
    async def test_steps_that_fail_before_they_are_sent(self) -> None:
        """A thousand in a row, at once: none nests in the one before, durable or not."""
        taken = shop("add", args="too long", catch=[{"errors": ["arguments"], "then": []}])
        each = {"map": [taken], "over": "${input}", "concurrency": 1}
        tasks = {"t": {"steps": [each], "durable": False}, "d": [each]}
        w = await self.serve(tasks)
        peer = self.server.context.peer(self.shop_address)
        await peer.connect()
        peer.longest = 10
        for task, count in (("t", 1_000), ("d", 50)):
            result = await w.invoke(task, list(range(count)), timeout=50)
            self.assertEqual(len(result), count)
        self.assertEqual(self.shop.calls, [])
        self.assertEqual(self.runner.counts.steps, {"failed": 1_050})

    @deferred
    async def test_long_numbers(self) -> None:
        """They are arguments and results, and are shown."""
        number = 10**5000
        steps = [shop("add", name="one"), shop("add", args={"n": "${steps.one}"}, catch=CAUGHT)]
        w = await self.serve({"t": {"steps": steps, "durable": False}, "d": steps})
        for task in ("t", "d"):
            self.assertEqual((await w.invoke(task, number, id=task))["type"], "TypeError")
            states = [step["state"] for step in (await w.show(task))["steps"]]
            self.assertEqual(states, ["done", "failed"])
            self.assertIn("one", await w.graph(id=task))

    @deferred
    async def test_long_chain(self) -> None:
        """A thousand steps, each with the result before; a call of another goes between them."""
        w = await self.serve({"t": {"steps": [shop("add")] * 1_000, "durable": False}})
        run = w.invoke("t", 0, timeout=50)
        await self.until(lambda: len(self.shop.calls) > 10)
        quick = self.context.at(self.shop_address, "demo.only")
        self.assertEqual(await quick.invoke("double", 1), [1, 1])
        self.assertLess(len(self.shop.calls), 1_000)
        self.assertEqual(await run, 1_000)
