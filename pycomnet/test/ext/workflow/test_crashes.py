"""A workflow service that dies at any commit, and the next one, which goes on."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer

from pycomnet.deferred import deferred
from pycomnet.ext.workflow import service as workflows
from pycomnet.ext.workflow.errors import RunCancelled, RunConflict, RunFailed
from pycomnet.services.interface import Service, interface, method
from pycomnet.test.ext.workflow.kit import call
from pycomnet.test.ext.workflow.test_service import WorkflowCase, shop

#: What writes to a store.
WRITES = ("create", "commit", "post")


@interface("demo.till")
class Till(Service):
    """Counts what it does."""

    def __init__(self) -> None:
        self.effects: list[tuple[str, Any]] = []

    @method(once=True)
    def pay(self, request: Any) -> Any:
        self.effects.append((request.key, request.args))
        return {"n": len(self.effects), **request.args}

    @method(idempotent=True)
    def ask(self, request: Any) -> Any:
        return request.args


class Dying:
    """A store up to some write: that one, and all that comes after, is never done.

    :param writes: how many are done.
    """

    def __init__(self, store: Any, writes: int) -> None:
        self._store = store
        self.left = writes
        self.died: defer.Deferred[None] = defer.Deferred()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if name not in WRITES:
            return found

        def write(*args: Any) -> Any:
            self.left -= 1
            if self.left >= 0:
                return found(*args)
            if not self.died.called:
                self.died.callback(None)
            return defer.Deferred()

        return write


def pay(name: str, **args: Any) -> dict[str, Any]:
    """A payment."""
    return call("demo.till", method="pay", name=name, args=args)


TASKS: dict[str, Any] = {
    "t": [
        pay("first", b=1, a=2),
        {"parallel": {"x": [pay("x", sum=1)], "a": [{"value": "${input}"}]}, "name": "both"},
        {"map": [pay("each", n="${item}", of="${index}")], "over": "${input}", "name": "all"},
        {"choice": [{"when": "${input[0] == `1`}", "then": [{"task": "inner"}]}], "name": "c"},
        {"wait": 0.01},
        call("demo.till", method="ask", args="${steps.all}"),
    ],
    "inner": [pay("inner", within=True), {"value": "done"}],
}


class EachCommitTests(WorkflowCase):
    """A crash at each write of a run that has all kinds of steps."""

    async def _die_after(self, writes: int) -> bool:
        """Run the task with a service that dies after so many writes, and then with another.

        :returns: whether the first died.
        """
        till, id = Till(), f"r{writes}"
        await self.shop_server.close(0)
        await self.start_shop()
        await self.shop_server.add(till)
        made = workflows.WorkflowService.started
        dying: list[Dying] = []

        def started(service: Any, server: Any) -> Any:
            if not dying:
                service.store = Dying(service.store, writes)
                dying.append(service.store)
            return made(service, server)

        self.patch(workflows.WorkflowService, "started", started)
        w = await self.serve(TASKS)
        (store,) = dying
        first = w.invoke("t", [1, 2, 3], id=id)
        first.addErrback(lambda failure: None)
        await defer.DeferredList([first, store.died], fireOnOneCallback=True)
        died = store.died.called
        await self.crash()
        w = await self.serve(TASKS)
        keys: list[Any] = []
        try:
            result = await w.invoke("t", [1, 2, 3], id=id)
        except RunFailed as problem:
            # It died before the name of the till's memory was kept with the step.
            self.assertEqual((problem.error["code"], died), ("unknown", True), problem)
            keys = [key for key, _ in till.effects]
        else:
            keys = [key for key, _ in till.effects]
            self.assertEqual([one["of"] for one in result], [0, 1, 2], writes)
            self.assertEqual(len(keys), 6, (writes, keys))
        self.assertEqual(len(keys), len(set(keys)), (writes, keys))
        await self.crash()
        return bool(died)

    @deferred
    async def test_each_ends_and_pays_once(self) -> None:
        """Wherever the service dies, the run ends, and each payment is made at most
        once: all are, unless the run has failed as it is not known of one."""
        writes = 0
        while await self._die_after(writes):
            writes += 1
        self.assertGreater(writes, 8)


class UnsureTests(WorkflowCase):
    """A step whose earlier attempt may have run."""

    @deferred
    async def test_cancel_before_the_next_attempt_is_sent(self) -> None:
        """Nobody repeats what the earlier attempt may have done without a word."""
        retry = {"attempts": 3, "delay": 0.01, "errors": ["interrupted"]}
        w = await self.serve({"t": [shop("hold", name="h", retry=retry)]})
        await w.start("t", 1, "r")
        await self.until(lambda: self.shop.held)
        await self.shop_server.close(0)
        await self.until(lambda: self.runner.live["r"].run.steps["h"].attempts == 2)
        await w.cancel("r")
        await self.fails(w.result("r"), RunCancelled)
        problem = await self.fails(w.retry("r"), RunConflict)
        self.assertIn("may have run: h", str(problem))
