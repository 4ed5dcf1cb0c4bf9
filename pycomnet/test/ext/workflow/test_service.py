"""The workflow service: runs, and who may see and steer them."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

from twisted.internet import defer, task
from twisted.trial.unittest import TestCase

from pycomnet.deferred import deferred
from pycomnet.errors import (
    DeadlineExceeded,
    InvalidArguments,
    Overloaded,
    PycomnetError,
    Unauthenticated,
)
from pycomnet.ext.workflow import expressions, stepper
from pycomnet.ext.workflow.client import workflow
from pycomnet.ext.workflow.definition import check_config
from pycomnet.ext.workflow.errors import (
    RunCancelled,
    RunConflict,
    RunFailed,
    RunFull,
    UnknownRun,
    UnknownTask,
)
from pycomnet.ext.workflow.records import MOST_BYTES, MOST_SIGNALS, Message
from pycomnet.ext.workflow.runfiles import MOST_FILES, RunFiles
from pycomnet.ext.workflow.service import WorkflowService
from pycomnet.ext.workflow.stores import make_run_store
from pycomnet.services.client.context import Context
from pycomnet.services.interface import Service, interface, method
from pycomnet.services.server.server import ServiceServer
from pycomnet.test.ext.workflow.kit import call


class Refused(PycomnetError):
    """The shop says no."""

    code = "test-refused"


@interface("demo.shop")
class Shop(Service):
    """Counts what it does."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.about: list[Any] = []
        self.held: list[defer.Deferred[Any]] = []
        self.fails = 0
        self.cancelled = 0

    def _note(self, request: Any) -> None:
        self.calls.append((request.method, request.args))
        self.about.append((request.key, request.on_behalf_of))

    @method()
    def add(self, request: Any) -> Any:
        self._note(request)
        return request.args + 1

    @method()
    def refuse(self, request: Any) -> Any:
        self._note(request)
        raise Refused("no")

    @method()
    def shaky(self, request: Any) -> Any:
        self._note(request)
        if self.fails:
            self.fails -= 1
            raise Refused("not yet")
        return "at last"

    @method()
    def hold(self, request: Any) -> Any:
        return self._hold(request)

    @method()
    def long(self, request: Any) -> Any:
        self._note(request)
        return "x" * (MOST_BYTES + 1)

    @method(idempotent=True)
    def hold_again(self, request: Any) -> Any:
        return self._hold(request)

    @method(once=True)
    def hold_once(self, request: Any) -> Any:
        return self._hold(request)

    def _hold(self, request: Any) -> Any:
        self._note(request)

        def cancelled(_: Any) -> None:
            self.cancelled += 1

        self.held.append(defer.Deferred(cancelled))
        return self.held[-1]


@interface("demo.only")
class Only(Service):
    """Has one method."""

    @method()
    def double(self, request: Any) -> Any:
        return [request.args] * 2


@interface("demo.named")
class Named(Service):
    """Has one named as a task."""

    @method()
    def t(self, request: Any) -> Any:
        return "t"

    @method()
    def other(self, request: Any) -> Any:
        return "other"


def the_reactor() -> Any:
    """The reactor that trial runs."""
    from twisted.internet import reactor

    return reactor


def shop(called: str, **more: Any) -> dict[str, Any]:
    """A call of the shop."""
    return call("demo.shop", method=called, **more)


class WorkflowCase(TestCase):
    """A test with a shop, a nameserver in name only, and workflow services on a file."""

    timeout = 60
    #: seconds that calls under way have when the service stops
    grace = 0.0
    #: the most bytes of the files of runs, and whether there is a place for them
    most_files = MOST_FILES
    has_files = True

    @deferred
    async def setUp(self) -> None:  # type: ignore[override]
        directory = self.mktemp()
        os.mkdir(directory, 0o700)
        self.path = os.path.join(directory, "runs.sqlite")
        self.shop = Shop()
        await self.start_shop()
        self.context = Context(the_reactor())
        self.addCleanup(self.context.close)
        self.offset = 0.0

    def where(self) -> str:
        """The address of the test's store."""
        return f"sqlite:{self.path}"

    async def start_shop(self) -> None:
        """Start a server with the shop: its connections and its memory are new."""
        self.shop_server = ServiceServer(the_reactor())
        self.addCleanup(self.shop_server.close, 0)
        for one in (self.shop, Only(), Named()):
            await self.shop_server.add(one)
        self.shop_address = await self.shop_server.listen("tcp:0:interface=127.0.0.1")

    async def serve(self, tasks: Any, store: str | None = None, **more: Any) -> Any:
        """A client of a new workflow service."""
        settings = check_config({"tasks": tasks, **more})
        made = make_run_store(store or self.where(), the_reactor())
        self.service = WorkflowService(
            settings["tasks"],
            made,
            settings.get("schedules", ()),
            wall=lambda: time.time() + self.offset,
            grace=self.grace,
            files=RunFiles(f"{self.path}.files", self.most_files) if self.has_files else None,
        )
        # Everything is at the shop's address, whatever its interface.
        context = AtShop(self)
        self.addCleanup(context.close)
        self.server = ServiceServer(the_reactor(), context=context)
        self.addCleanup(self.server.close, 0)
        await self.server.add(self.service)
        assert self.service.runner is not None
        self.runner = self.service.runner
        address = await self.server.listen("tcp:0:interface=127.0.0.1")
        return workflow(context=self.context, address=address)

    async def crash(self) -> None:
        """End the workflow service as a crash would: nothing more is committed."""
        await self.runner.close()
        await self.service.store.close()
        await self.server.close(0)

    async def until(self, condition: Any) -> None:
        """Wait until something holds."""
        while not condition():
            await task.deferLater(the_reactor(), 0.005)

    async def fails(self, waiting: Any, kind: Any) -> Any:
        """What something fails with."""
        try:
            await waiting
        except kind as problem:
            return problem
        raise AssertionError("it did not fail")


class AtShop(Context):
    """A context whose nameserver knows only the shop."""

    def __init__(self, case: Any) -> None:
        super().__init__(the_reactor(), nameserver="tcp:127.0.0.1:1")
        self.case = case

    async def nameserver(self) -> Any:  # type: ignore[override]
        return self

    def invoke(self, method: str, args: Any, timeout: Any = None) -> Any:
        record = {
            "service": args.get("service") or "shop",
            "interfaces": [],
            "address": self.case.shop_address,
            "metadata": {},
        }
        if method == "list_services":
            return defer.succeed([] if args.get("after") else [record])
        return defer.succeed(record)


class RunTests(WorkflowCase):
    """What a run does."""

    @deferred
    async def test_chain(self) -> None:
        """A chain gives the last step's result; keys and caller go with each call."""
        w = await self.serve({"t": [shop("add", name="one"), shop("add")]})
        self.assertEqual(await w.invoke("t", 5, id="r"), 7)
        keys = [key.rpartition(":") for key, _ in self.shop.about]
        self.assertEqual([before for before, _, _ in keys], ["r:one", "r:2"])
        self.assertEqual(keys[0][2], keys[1][2])

    @deferred
    async def test_client_knows_the_id_of_what_it_started(self) -> None:
        """Also when it gets an error instead of an answer: the run may go on."""
        w = await self.serve({"t": [shop("hold")]})
        problem = await self.fails(w.invoke("t", None, timeout=0.3), DeadlineExceeded)
        self.assertEqual((await w.show(problem.run))["state"], "running")

    @deferred
    async def test_keys_of_two_runs_of_an_id_differ(self) -> None:
        """What is pruned or not kept, and started again, is not answered with what was before."""
        w = await self.serve({"t": {"steps": [shop("add")], "durable": False}})
        await w.invoke("t", 1, id="r")
        self.runner.transient.forget()
        await w.invoke("t", 1, id="r")
        (one, _), (two, _) = self.shop.about
        self.assertNotEqual(one, two)

    @deferred
    async def test_not_durable(self) -> None:
        """A task that is not durable gives the same, and leaves nothing in the store."""
        w = await self.serve({"t": {"steps": [shop("add"), shop("add")], "durable": False}})
        self.assertEqual(await w.invoke("t", 5, id="r"), 7)
        self.assertEqual(await w.list(), [])
        self.assertEqual((await w.show("r"))["state"], "done")
        self.assertEqual(await w.result("r"), 7)

    @deferred
    async def test_method_of_a_step_that_names_none(self) -> None:
        """It is the interface's only one, or the one of the task's name."""
        w = await self.serve(
            {"t": [call("demo.only"), call("demo.named")], "u": [call("demo.named")]}
        )
        self.assertEqual(await w.invoke("t", 1), "t")
        problem = await self.fails(w.invoke("u", 1), RunFailed)
        self.assertIn("say which one is meant", str(problem))

    @deferred
    async def test_error_names_run_step_and_cause(self) -> None:
        """The caller gets an error that says what failed where."""
        w = await self.serve({"t": [shop("add"), shop("refuse", name="pay")]})
        problem = await self.fails(w.invoke("t", 1, id="r"), RunFailed)
        self.assertEqual((problem.run, problem.step), ("r", "pay"))
        self.assertEqual(problem.error["code"], "test-refused")
        self.assertIn("no", str(problem))

    @deferred
    async def test_retry_until_it_works(self) -> None:
        """A step is tried again; the history says how often."""
        self.shop.fails = 2
        retry = {"attempts": 5, "delay": 0.01}
        w = await self.serve({"t": [shop("shaky", retry=retry)]})
        self.assertEqual(await w.invoke("t", {"x": 1}, id="r"), "at last")
        (step,) = (await w.show("r"))["steps"]
        self.assertEqual((step["attempts"], step["state"], step["args"]), (3, "done", "{'x': 1}"))

    @deferred
    async def test_result_that_is_too_long_is_of_a_call_that_has_run(self) -> None:
        """It is not called again, and it is undone."""
        step = shop("long", retry={"attempts": 3, "delay": 0.01}, compensate=[shop("add", args=1)])
        w = await self.serve({"t": [step]})
        problem = await self.fails(w.invoke("t", 1), RunFailed)
        self.assertEqual(problem.error["code"], "result")
        self.assertEqual([name for name, _ in self.shop.calls], ["long", "add"])

    @deferred
    async def test_second_attempt_of_a_step_with_once_that_may_have_run(self) -> None:
        """It goes to the memory that has the first one, and nowhere else."""
        retry = {"attempts": 2, "delay": 0.01, "errors": ["deadline"]}
        w = await self.serve({"t": [shop("hold_once", timeout=0.5, retry=retry)]})
        run = w.invoke("t", 1)
        await self.until(lambda: self.shop.held)
        await self.shop_server.close(0)
        await self.start_shop()
        problem = await self.fails(run, RunFailed)
        self.assertEqual(problem.error["code"], "unknown", problem.error)
        self.assertEqual(len(self.shop.held), 1)

    @deferred
    async def test_cancel_while_a_call_is_committed(self) -> None:
        """A call that is not wanted any more when it is committed is not made."""
        w = await self.serve({"t": [shop("hold"), shop("add", args=1)]})
        await w.start("t", 1, "r")
        await self.until(lambda: self.shop.held)
        commit = self.service.store.commit
        commits: list[Any] = []

        def held(change: Any) -> Any:
            waiting: Any = defer.Deferred()
            commits.append((waiting, change))
            return waiting

        self.patch(self.service.store, "commit", held)
        self.shop.held[0].callback(None)
        await self.until(lambda: commits)
        await w.cancel("r")
        await self.until(lambda: self.runner.live["r"].run.cancelling)
        self.patch(self.service.store, "commit", commit)
        waiting, change = commits[0]
        commit(change).chainDeferred(waiting)
        await self.fails(w.result("r"), RunCancelled)
        self.assertEqual([name for name, _ in self.shop.calls], ["hold"])

    @deferred
    async def test_call_that_hangs_times_out_twice(self) -> None:
        """A call that hangs is cancelled at its timeout, and so is its second attempt."""
        retry = {"attempts": 2, "delay": 0.01, "errors": ["deadline"]}
        w = await self.serve({"t": [shop("hold", timeout=1.0, retry=retry)]})
        problem = await self.fails(w.invoke("t"), RunFailed)
        self.assertEqual(problem.error["code"], "deadline")
        self.assertEqual(len(self.shop.held), 2)
        await self.until(lambda: self.shop.cancelled == 2)

    @deferred
    async def test_start_twice_is_one_run(self) -> None:
        """The same id twice is one run; with another input it is an error."""
        w = await self.serve({"t": [shop("hold")]})
        one, two = await defer.gatherResults([w.start("t", 1, "r"), w.start("t", 1, "r")])
        self.assertEqual(one["created"], two["created"])
        await self.until(lambda: self.shop.held)
        await self.fails(w.start("t", 2, "r"), RunConflict)
        self.shop.held[0].callback("x")
        self.assertEqual(await w.result("r"), "x")
        self.assertEqual(len(self.shop.calls), 1)

    @deferred
    async def test_result_is_given_once_it_is_committed(self) -> None:
        """Nobody has a result that the store does not have: after a crash it would be another."""
        w = await self.serve({"t": [shop("add")]})
        commits: list[Any] = []
        commit = self.service.store.commit

        def held(change: Any) -> Any:
            waiting: Any = defer.Deferred()
            commits.append((waiting, change))
            return waiting

        self.patch(self.service.store, "commit", held)
        invoked = w.invoke("t", 1, id="r")
        await self.until(lambda: commits)
        result = w.result("r")
        await w.tasks()  # a call that comes after it has been answered
        self.assertFalse(invoked.called or result.called)
        waiting, change = commits[0]
        commit(change).chainDeferred(waiting)
        self.assertEqual([await invoked, await result], [2, 2])

    @deferred
    async def test_same_id_of_a_task_that_is_not_durable(self) -> None:
        """A run that is only in memory is another than the kept one of its id, whose result nobody
        can forge so, nor hide it."""
        tasks: Any = {"t": [{"signal": "go"}], "u": {"steps": [shop("add")], "durable": False}}
        w = await self.serve(tasks)
        await w.start("t", None, "r")
        await self.until(lambda: not self.runner.live)
        result = w.result("r")
        await w.tasks()  # which is answered after it has begun to wait
        self.assertEqual(await w.invoke("u", 41, id="r"), 42)
        self.assertFalse(result.called)
        self.assertEqual((await w.show("r"))["task"], "t")
        self.assertEqual((await w.show("~r"))["task"], "u")
        await w.signal("r", "go", "Ann's")
        self.assertEqual(await result, "Ann's")
        await self.fails(w.start("t", 1, "~r"), InvalidArguments)

    @deferred
    async def test_who_may_run_and_see(self) -> None:
        """Tasks for users are refused to others, and their runs are not shown."""
        w = await self.serve({"t": {"steps": [shop("add")], "run": ["bob"]}, "u": [shop("add")]})
        await self.fails(w.invoke("t", 1), Unauthenticated)
        self.assertEqual(list(await w.tasks()), ["u"])
        definition = self.service._definitions["t"]
        await self.runner.start(definition, 1, "bobs", "bob")
        await w.invoke("u", 1, id="mine")
        self.assertEqual([one["id"] for one in await w.list()], ["mine"])
        await self.fails(w.show("bobs"), UnknownRun)
        await self.fails(w.cancel("bobs"), UnknownRun)

    @deferred
    async def test_users_are_passed_on(self) -> None:
        """The user who started a run is told to each service that it calls."""
        w = await self.serve({"t": [{"signal": "go"}, shop("add", args=1)]})
        await self.runner.start(self.service._definitions["t"], None, "r", "bob")
        await self.service.store.post("r", Message("signal", "go"))
        await self.runner.when_ended("r")
        ((key, user),) = self.shop.about
        self.assertTrue(key.startswith("r:2:"))
        self.assertEqual(user, "bob")
        self.assertEqual(await w.list(), [])

    @deferred
    async def test_id_of_another_user_tells_nothing_of_the_run(self) -> None:
        """The error is the same whether task and input are guessed right."""
        w = await self.serve({"t": {"steps": [{"signal": "go"}], "see": ["bob"]}, "u": []})
        await self.runner.start(self.service._definitions["t"], 1, "r", "bob")
        guesses = [("t", 1), ("t", 2), ("u", 1)]
        said = {str(await self.fails(w.start(*one, "r"), RunConflict)) for one in guesses}
        self.assertEqual(len(said), 1)

    @deferred
    async def test_unknown_task_and_run(self) -> None:
        """What is not there is an error that helps."""
        w = await self.serve({"order": []})
        self.assertIn("did you mean 'order'?", str(await self.fails(w.invoke("ordr"), UnknownTask)))
        await self.fails(w.show("none"), UnknownRun)
        await self.fails(w.signal("none", "go"), UnknownRun)
        await self.fails(w.start("order", None, ""), InvalidArguments)
        self.assertIsNone(await w.invoke("order"))

    @deferred
    async def test_what_can_not_be_an_id_is_refused(self) -> None:
        """Each method refuses what can't be an id, a name or a time, before the store sees it."""
        w = await self.serve({"t": [{"value": 1}]})
        for wrong in ("", "\ud800", "x\n", "x" * 201):
            for ask in (w.show, w.result, w.cancel, w.retry, lambda id: w.graph(id=id)):
                with self.assertRaises(InvalidArguments):
                    await ask(wrong)
            with self.assertRaises(InvalidArguments):
                await w.start("t", id=wrong)
        wrong_queries: list[dict[str, Any]] = [
            {"since": 10**400},
            {"before": (10**400, "a")},
            {"task": "\ud800"},
        ]
        for query in wrong_queries:
            with self.assertRaises(InvalidArguments):
                await w.list(**query)
        self.assertEqual(await w.list(since=2**63), [])

    @deferred
    async def test_signal_wakes_a_parked_run(self) -> None:
        """A run that waits is not in memory; a signal brings it back."""
        w = await self.serve({"t": [{"signal": "go"}, shop("add")]})
        await w.start("t", None, "r")
        await self.until(lambda: not self.runner.live)
        result = w.result("r")
        await w.signal("r", "other", "not this")
        await self.until(lambda: not self.runner.live)
        await w.signal("r", "go", 41)
        self.assertEqual(await result, 42)
        self.assertEqual((await w.show("r"))["signals"], {"other": 1})

    @deferred
    async def test_signal_before_its_step(self) -> None:
        """A signal that comes too early is kept for its step."""
        w = await self.serve({"t": [shop("hold"), {"signal": "go"}]})
        await w.start("t", None, "r")
        await w.signal("r", "go", "early")
        self.shop.held[0].callback(None)
        self.assertEqual(await w.result("r"), "early")
        await self.fails(w.signal("r", "go"), RunConflict)

    @deferred
    async def test_signals_are_not_dropped(self) -> None:
        """What is acknowledged is kept; what does not fit is refused, with the run in memory or
        parked, kept or not."""
        tasks: Any = {
            "parked": [{"signal": "go"}],
            "live": [shop("hold")],
            "passing": {"steps": [shop("hold")], "durable": False},
        }
        w = await self.serve(tasks)
        for name in tasks:
            run = (await w.start(name))["id"]
            sent = [w.signal(run, "other", number) for number in range(MOST_SIGNALS + 5)]
            results = await defer.DeferredList(sent, consumeErrors=True)
            refused = [one for done, one in results if not done]
            self.assertEqual(len(refused), 5, name)
            self.assertTrue(all(one.check(RunFull) for one in refused))
            while (await w.show(run))["signals"] != {"other": MOST_SIGNALS}:
                pass  # each look is a call, and takes its time
            await self.fails(w.signal(run, "one too many"), RunFull)
        await self.fails(w.signal(run, "x" * 201), InvalidArguments)

    @deferred
    async def test_retry_of_what_may_have_run(self) -> None:
        """It is refused, unless it is said."""
        w = await self.serve({"t": [{"parallel": [[shop("hold")], [shop("hold_again")]]}]})
        await w.start("t", None, "r")
        await self.until(lambda: len(self.shop.held) == 2)
        await w.cancel("r")
        await self.fails(w.result("r"), RunCancelled)
        problem = await self.fails(w.retry("r"), RunConflict)
        self.assertIn("may have run: 1/0/1;", str(problem))
        await w.retry("r", unsure=True)
        await self.until(lambda: len(self.shop.held) == 4)

    @deferred
    async def test_retry_of_a_step_with_once_that_may_have_run(self) -> None:
        """It has the first call's answer."""
        w = await self.serve({"t": [shop("hold_once")]})
        await w.start("t", None, "r")
        await self.until(lambda: self.shop.held)
        await w.cancel("r")
        await self.fails(w.result("r"), RunCancelled)
        await w.retry("r")
        self.shop.held[0].callback("first")
        while (await w.show("r"))["state"] != "done":
            pass  # each look is a call, and takes its time
        self.assertEqual(await w.result("r"), "first")
        self.assertEqual(len(self.shop.held), 1)

    @deferred
    async def test_cancel(self) -> None:
        """Cancelling cancels the call, undoes what was done, and ends the run so."""
        steps = [shop("add", compensate=[shop("add", args="${result}")]), shop("hold")]
        w = await self.serve({"t": steps})
        await w.start("t", 1, "r")
        await self.until(lambda: self.shop.held)
        await w.cancel("r")
        await self.fails(w.result("r"), RunCancelled)
        self.assertEqual(self.shop.calls[-1], ("add", 2))
        await self.until(lambda: self.shop.cancelled)

    @deferred
    async def test_suspend_and_resume(self) -> None:
        """A suspended run begins nothing until it goes on."""
        w = await self.serve({"t": [shop("hold"), shop("add", args=1)]})
        await w.start("t", None, "r")
        await self.until(lambda: self.shop.held)
        await w.suspend("r")
        while not await w.list(state="suspended"):
            pass  # each look is a call, and takes its time
        self.shop.held[0].callback(1)
        await self.until(lambda: not self.runner.live)
        await w.resume("r")
        self.assertEqual(await w.result("r"), 2)

    @deferred
    async def test_retry_of_a_failed_run(self) -> None:
        """A failed run goes on from what failed."""
        self.shop.fails = 1
        w = await self.serve({"t": [shop("add"), shop("shaky")]})
        await w.start("t", 1, "r")
        await self.fails(w.result("r"), RunFailed)
        await w.retry("r")
        await self.until(lambda: len(self.shop.calls) == 3)
        self.assertEqual(await w.result("r"), "at last")
        self.assertEqual([name for name, _ in self.shop.calls], ["add", "shaky", "shaky"])
        await self.fails(w.retry("r"), RunConflict)

    @deferred
    async def test_retry_that_was_acknowledged_is_seen(self) -> None:
        """Right after ``retry`` the run runs: its result is the new one, a second retry is
        refused."""
        w = await self.serve({"t": [shop("refuse", name="s"), {"signal": "go"}]})
        await self.fails(w.invoke("t", 1, id="r"), RunFailed)
        self.patch(self.runner, "claimable", lambda: None)
        await w.retry("r")
        self.assertEqual((await w.show("r"))["state"], "running")
        self.assertEqual([one["state"] for one in await w.list()], ["running"])
        await self.fails(w.retry("r"), RunConflict)
        result = w.result("r")
        await w.cancel("r")
        del self.runner.claimable
        self.runner.claimable()
        await self.fails(result, RunCancelled)

    @deferred
    async def test_those_who_wait_leave_room(self) -> None:
        """However many wait for runs, there is room to signal them."""
        w = await self.serve({"t": [{"signal": "go"}]})
        self.patch(self.service._waiting, "most", 2)
        await w.start("t", id="r")
        waiting = [w.result("r"), w.result("r")]
        await self.until(lambda: len(self.service._waiting) == 2)
        await self.fails(w.result("r"), Overloaded)
        await w.signal("r", "go", 1)
        self.assertEqual(await defer.gatherResults(waiting), [1, 1])
        self.assertEqual(await w.result("r"), 1)

    @deferred
    async def test_cancelling_invoke(self) -> None:
        """If nobody waits any more, a durable run goes on, and another is cancelled."""
        tasks: Any = {"t": [shop("hold")], "u": {"steps": [shop("hold")], "durable": False}}
        w = await self.serve(tasks)
        for number, name in enumerate("tu", 1):
            waiting = w.invoke(name, None, id=name)
            await self.until(lambda number=number: len(self.shop.held) == number)
            waiting.cancel()
            await self.fails(waiting, defer.CancelledError)
        await self.until(lambda: self.shop.cancelled == 1)
        self.assertEqual((await w.show("t"))["state"], "running")
        self.shop.held[0].callback("goes on")
        self.assertEqual(await w.result("t"), "goes on")

    @deferred
    async def test_costly_expression_fails_its_step(self) -> None:
        """An expression that never ends fails soon, can be caught, and does not block."""
        costly = "${input[].[" + ",".join(["sort(`[3,2,1]`)"] * 100) + "][][]}"
        steps = [{"value": costly}]
        caught = [{"errors": ["expression"], "then": [{"value": "caught"}]}]
        w = await self.serve({"t": [{"parallel": [steps], "catch": caught}]})
        threads: list[Any] = []
        begun: defer.Deferred[None] = defer.Deferred()
        answered = threading.Event()
        real = expressions.evaluate

        def evaluate(template: Any, scope: Any, budget: int, seconds: Any) -> Any:
            if seconds is not None:
                threads.append(threading.current_thread())
                the_reactor().callFromThread(begun.callback, None)
                answered.wait(30)
            return real(template, scope, budget, seconds)

        self.patch(stepper, "evaluate", evaluate)
        result = w.invoke("t", [list(range(9))] * 5_000)
        await begun
        self.assertEqual(list(await w.tasks()), ["t"])  # while it is evaluated
        answered.set()
        self.assertEqual(await result, "caught")
        self.assertIsNot(threads[0], threading.current_thread())


class CrashTests(WorkflowCase):
    """What a restarted service does."""

    @deferred
    async def test_goes_on_where_it_was(self) -> None:
        """A run goes on at its step; what was done is not done again; its clock counts on."""
        tasks = {"t": [shop("add"), {"wait": 100}, shop("add")]}
        w = await self.serve(tasks)
        await w.start("t", 1, "r")
        await self.until(lambda: self.shop.calls and not self.runner.live)
        await self.crash()
        self.offset = 101.0
        w = await self.serve(tasks)
        self.assertEqual(await w.result("r"), 3)
        self.assertEqual(self.shop.calls, [("add", 1), ("add", 2)])

    @deferred
    async def test_run_keeps_its_definition(self) -> None:
        """A run ends by the definition that it began with, and new ones have the new one."""
        w = await self.serve({"t": [{"signal": "go"}, {"value": "old"}]})
        await w.start("t", 1, "r")
        await self.until(lambda: not self.runner.live)
        await self.crash()
        w = await self.serve({"t": [{"value": "new"}]})
        await w.signal("r", "go")
        self.assertEqual(await w.result("r"), "old")
        self.assertEqual(await w.invoke("t"), "new")

    @deferred
    async def test_retry_with_the_latest_definition(self) -> None:
        """A mended definition is used from the failed step on; the first is not repeated."""
        w = await self.serve({"t": [shop("add"), shop("refuse")]})
        await self.fails(w.invoke("t", 1, id="r"), RunFailed)
        await self.crash()
        w = await self.serve({"t": [shop("add"), shop("add", args='${steps."1"}')]})
        await w.retry("r", latest=True)
        await self.until(lambda: len(self.shop.calls) == 3)
        self.assertEqual(await w.result("r"), 3)
        self.assertEqual([name for name, _ in self.shop.calls], ["add", "refuse", "add"])

    async def _in_flight(self, name: str, **more: Any) -> Any:
        caught = [{"errors": ["unknown"], "then": [{"value": "${error.step}"}]}]
        tasks = {"t": [shop(name, name="s", catch=caught, **more)]}
        w = await self.serve(tasks)
        await w.start("t", 1, "r")
        await self.until(lambda: self.shop.held)
        await self.crash()
        return await self.serve(tasks)

    @deferred
    async def test_idempotent_step_in_flight_runs_again(self) -> None:
        """What may run twice runs again."""
        w = await self._in_flight("hold_again")
        await self.until(lambda: len(self.shop.held) == 2)
        self.shop.held[1].callback("again")
        self.assertEqual(await w.result("r"), "again")

    @deferred
    async def test_other_step_in_flight_is_unknown(self) -> None:
        """What may not run twice does not run again, and its catch knows."""
        w = await self._in_flight("hold")
        self.assertEqual(await w.result("r"), "s")
        self.assertEqual(len(self.shop.held), 1)

    @deferred
    async def test_step_with_once_in_flight_has_its_answer(self) -> None:
        """A method with ``once`` answers the repetition with the first call's result."""
        w = await self._in_flight("hold_once")
        result = w.result("r")
        self.shop.held[0].callback("kept")
        self.assertEqual(await result, "kept")
        self.assertEqual(len(self.shop.held), 1)

    @deferred
    async def test_order_of_arguments_does_not_matter(self) -> None:
        """A repetition has the same arguments in whatever order the file had them."""
        w = await self._in_flight("hold_once", args={"b": 1, "a": {"d": 2, "c": 3}})
        result = w.result("r")
        self.shop.held[0].callback("kept")
        self.assertEqual(await result, "kept")

    @deferred
    async def test_step_with_once_whose_service_died_too(self) -> None:
        """When the service has lost its memory as well, the step is unknown, and does not run."""
        tasks = {"t": [shop("hold_once", name="s", timeout=5)]}
        w = await self.serve(tasks)
        await w.start("t", 1, "r")
        await self.until(lambda: self.shop.held)
        await self.crash()
        await self.shop_server.close(0)
        await self.start_shop()
        w = await self.serve(tasks)
        problem = await self.fails(w.result("r"), RunFailed)
        self.assertEqual(problem.error["code"], "unknown")
        self.assertEqual(len(self.shop.held), 1)

    @deferred
    async def test_orderly_stop_waits_for_calls(self) -> None:
        """The call under way ends, its result is kept, and the next step begins after the
        restart."""
        self.grace = 60.0
        tasks = {"t": [shop("hold"), shop("add")]}
        w = await self.serve(tasks)
        await w.start("t", 1, "r")
        await self.until(lambda: self.shop.held)
        stopping = self.server.close(0)
        await self.until(lambda: self.runner.stopping)
        self.assertEqual(self.shop.cancelled, 0)
        self.shop.held[0].callback(5)
        await stopping
        self.assertEqual([name for name, _ in self.shop.calls], ["hold"])
        w = await self.serve(tasks)
        self.assertEqual(await w.result("r"), 6)

    @deferred
    async def test_old_runs_are_pruned(self) -> None:
        """What has ended long ago goes; its id is free."""
        w = await self.serve({"t": [shop("add")]})
        await w.invoke("t", 1, id="r")
        self.offset = 8 * 86_400.0
        await self.service._prune()
        await self.fails(w.show("r"), UnknownRun)
        self.assertEqual(await w.invoke("t", 5, id="r"), 6)

    @deferred
    async def test_service_that_moves_while_a_call_begins(self) -> None:
        """A service is gone when its call is about to be sent, and is back elsewhere: the call goes
        there, as it has not run."""
        w = await self.serve({"t": [shop("hold_once", timeout=30)]})
        moved: list[bool] = []
        commit = self.service.store.commit

        async def move(change: Any) -> None:
            await self.shop_server.close(0)
            await self.start_shop()
            await commit(change)

        def committing(change: Any) -> Any:
            if moved or change.row.state == "done":
                return commit(change)
            moved.append(True)
            return defer.Deferred.fromCoroutine(move(change))

        self.patch(self.service.store, "commit", committing)
        result = w.invoke("t", 1)
        await self.until(lambda: self.shop.held)
        self.shop.held[0].callback("there")
        self.assertEqual(await result, "there")
        self.assertEqual(len(self.shop.calls), 1)
