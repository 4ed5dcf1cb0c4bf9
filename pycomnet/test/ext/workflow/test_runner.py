"""What a runner does: in virtual time, with a store of its own."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer, task
from twisted.trial.unittest import TestCase

from pycomnet.deferred import deferred
from pycomnet.ext.workflow import machine, runner, stepper
from pycomnet.ext.workflow.definition import Definition, check_tasks
from pycomnet.ext.workflow.errors import RunStoreFailed
from pycomnet.ext.workflow.records import FAILED, Message, WorkflowRun, pack
from pycomnet.ext.workflow.runner import Runner
from pycomnet.ext.workflow.stores import make_run_store, tables
from pycomnet.services.client.context import Context
from pycomnet.test.kit import first_cancels_rest


def the_reactor() -> Any:
    """The reactor that trial runs."""
    from twisted.internet import reactor

    return reactor


class Failing:
    """A store of which some calls fail a number of times.

    :param left: name -> how often it still fails.
    """

    def __init__(self, store: Any, left: dict[str, int]) -> None:
        self._store = store
        self.left = left

    def __getattr__(self, name: str) -> Any:
        if self.left.get(name):
            self.left[name] -= 1
            return lambda *args: defer.fail(RunStoreFailed("the disk is full"))
        return getattr(self._store, name)


class RunnerCase(TestCase):
    """A runner whose clock is the test's. Its store writes in a thread, as always."""

    timeout = 60

    async def run_with(self, tasks: Any) -> None:
        """Make a runner, and definitions for it."""
        checked = check_tasks(tasks)
        self.definitions = {name: Definition.of(name, checked) for name in checked}
        clock: Any = task.Clock()
        clock.getThreadPool = the_reactor().getThreadPool
        clock.callFromThread = the_reactor().callFromThread
        self.clock = clock
        self.store: Any = make_run_store("memory:", the_reactor())
        self.addCleanup(self.store.close)
        context = Context(the_reactor())
        self.addCleanup(context.close)
        self.runner = Runner(self.store, context, self.clock, self.clock.seconds)
        self.addCleanup(self.runner.close)
        await self.store.open(self.runner)
        self.runner.begin()

    async def start(self, name: str = "t", input: Any = None, id: str = "r") -> WorkflowRun:
        """Start a run."""
        run, _ = await self.runner.start(self.definitions[name], input, id)
        return run

    async def signal(self, id: str, name: str, value: Any = None) -> None:
        """Send a run a signal."""
        await self.store.post(id, Message("signal", name, pack(value)))

    @deferred
    async def ended(self, id: str = "r") -> WorkflowRun:
        """A run that has ended."""
        waiting = self.runner.when_ended(id)
        run = await self.kept(id)
        if not run.ended:
            await waiting
            run = await self.kept(id)
        else:
            waiting.addErrback(lambda failure: None)
            waiting.cancel()
        return run

    async def kept(self, id: str = "r") -> WorkflowRun:
        """What the store has of a run."""
        found = await self.store.get(id)
        assert found is not None
        return WorkflowRun.of(found[0])

    async def until(self, condition: Any) -> None:
        """Wait until something holds."""
        while not condition():
            await task.deferLater(the_reactor(), 0.005)

    async def parked(self) -> None:
        """Wait until the runner has nothing in memory, and claims nothing."""
        await self.until(lambda: not self.runner.live and not self.runner._claiming)


class EndingTests(RunnerCase):
    """Waiting for a run's end."""

    @deferred
    async def test_first_that_is_told_may_cancel_the_rest(self) -> None:
        """The others, which wait for the same run, have not been told yet, and never are."""
        await self.run_with({"t": [{"signal": "go"}]})
        told = first_cancels_rest(
            self, lambda: self.runner.when_ended("r"), lambda: self.runner.ended("r")
        )
        self.assertIsNone(told)
        self.assertFalse(self.runner.is_awaited("r"))
        waiting = [self.runner.when_ended("r") for _ in range(2)]
        await self.runner.close()
        for one in waiting:
            with self.assertRaises(defer.CancelledError):
                await one

    @deferred
    async def test_wait_that_is_cancelled_is_none(self) -> None:
        """When the last of them has given up, nobody waits for the run."""
        await self.run_with({"t": [{"signal": "go"}]})
        waiting = [self.runner.when_ended("r") for _ in range(2)]
        for one, left in zip(waiting, (True, False), strict=True):
            one.addErrback(lambda failure: failure.trap(defer.CancelledError))
            one.cancel()
            self.assertIs(self.runner.is_awaited("r"), left)
        self.assertEqual(self.runner.awaited(), [])


class StartTests(RunnerCase):
    """Starting."""

    @deferred
    async def test_start_whose_caller_goes_is_a_run(self) -> None:
        """A caller who goes while the run is being kept takes nothing with it: it goes on, and a
        second start of the id finds it."""
        await self.run_with({"t": [{"value": 1}, {"signal": "go"}]})
        starting = defer.Deferred.fromCoroutine(self.runner.start(self.definitions["t"], None, "r"))
        starting.cancel()
        with self.assertRaises(defer.CancelledError):
            await starting
        run, new = await self.runner.start(self.definitions["t"], None, "r")
        self.assertEqual((run.id, new), ("r", False))
        await self.signal("r", "go", 5)
        self.assertEqual((await self.ended()).result, 5)

    @deferred
    async def test_start_beyond_what_fits_waits(self) -> None:
        """A run for which there is no room in memory is kept, and begins when there is."""
        self.patch(runner, "MOST_LIVE", 1)
        await self.run_with({"t": [{"value": "x"}], "stays": [{"wait": 1}]})
        await self.start("stays", id="s")
        await self.start()
        self.assertEqual(list(self.runner.live), ["s"])
        self.clock.advance(1)
        await self.ended("s")
        ending = self.ended()
        self.clock.advance(1)
        self.assertEqual((await ending).result, "x")


class SizeTests(RunnerCase):
    """What a run may keep."""

    async def _fails(self, steps: Any, input: Any = None) -> str:
        """With what code a run fails."""
        await self.run_with({"t": steps})
        await self.start(input=input)
        return str(((await self.ended()).error or {})["code"])

    @deferred
    async def test_value_that_is_too_long(self) -> None:
        """What an expression makes is bounded as what a call gives."""
        self.patch(stepper, "MOST_BYTES", 1_000)
        steps = [{"value": "${join('', [input, input])}"}]
        self.assertEqual(await self._fails(steps, "x" * 600), "too-long")

    @deferred
    async def test_results_of_all_steps(self) -> None:
        """What all steps of a run gave is bounded together; that can be caught."""
        self.patch(stepper, "MOST_RUN", 1_000)
        steps = [{"value": "${input}"}, {"value": "${input}"}]
        self.assertEqual(await self._fails(steps, "x" * 600), "too-long")

    @deferred
    async def test_result_of_a_run(self) -> None:
        """So is the run's result; what was done is undone then."""
        self.patch(machine, "MOST_RESULT", 1_000)
        steps = [{"parallel": [[{"value": "${input}"}], [{"value": "${input}"}]]}]
        self.assertEqual(await self._fails(steps, "x" * 600), "too-long")


class TimeTests(RunnerCase):
    """What happens by itself, when nothing else happens."""

    async def _over(self, steps: Any, seconds: float) -> WorkflowRun:
        """A run that is parked, and whose time comes."""
        await self.run_with({"t": steps})
        await self.start()
        await self.parked()
        self.clock.advance(seconds - 0.1)
        await self.parked()
        self.assertFalse((await self.kept()).ended)
        self.clock.advance(0.2)
        return await self.ended()

    @deferred
    async def test_wait_ends_at_its_time(self) -> None:
        """A wait for which the run is parked ends when it should."""
        run = await self._over([{"wait": 5}, {"value": "over"}], 5)
        self.assertEqual(run.result, "over")

    @deferred
    async def test_timeout_of_a_signal(self) -> None:
        """A signal's timeout comes when it should."""
        run = await self._over([{"signal": "go", "timeout": 5}], 5)
        self.assertEqual((run.error or {})["code"], "deadline")

    @deferred
    async def test_deadline_of_a_run(self) -> None:
        """The deadline of a run that waits comes when it should."""
        run = await self._over({"steps": [{"signal": "go"}], "deadline": 5}, 5)
        self.assertEqual((run.error or {})["code"], "deadline")

    @deferred
    async def test_retry_after_its_delay(self) -> None:
        """A call's next attempt is made when it should: no service, so it fails twice."""
        retry = {"attempts": 2, "delay": 5, "jitter": 0}
        step = {"interface": "no.such", "method": "x", "timeout": 0.05, "retry": retry}
        run = await self._over([{**step, "idempotent": True}], 5)
        self.assertEqual((run.state, run.ordered), (FAILED, 1))

    @deferred
    async def test_earlier_of_two_is_first(self) -> None:
        """A run that is parked for a short time does not wait for one that was parked before."""
        await self.run_with({"long": [{"wait": 500}], "short": [{"wait": 5}]})
        await self.start("long", id="l")
        await self.parked()
        await self.start("short", id="s")
        await self.parked()
        self.clock.advance(5.1)
        self.assertTrue((await self.ended("s")).ended)
        self.assertFalse((await self.kept("l")).ended)


class StoreTroubleTests(RunnerCase):
    """A store that fails for some time."""

    @deferred
    async def test_runs_go_on_when_the_store_works_again(self) -> None:
        """Commits and messages that the store could not do are done later; the log has one line
        for all."""
        await self.run_with({"t": [{"signal": "go"}]})
        names = [f"r{n}" for n in range(5)]
        for name in names:
            await self.start(id=name)
        refused: list[Any] = []
        commit, messages = self.store.commit, self.store.messages

        def fails(*args: Any) -> defer.Deferred[Any]:
            refused.append(args)
            return defer.fail(RunStoreFailed("full"))

        self.store.commit = self.store.messages = fails
        lines: list[str] = []
        self.patch(stepper.log, "error", lambda text, **more: lines.append(text))
        for name in names:
            await self.signal(name, "go", 1)
        await self.until(lambda: len(refused) >= 5)
        ends = [self.ended(name) for name in names]
        self.store.commit, self.store.messages = commit, messages
        for _ in range(3):
            self.clock.advance(1)
            await self.until(lambda: not self.runner._claiming)
        for run in await defer.gatherResults(ends):
            self.assertEqual(run.result, 1)
        self.assertLessEqual(len(lines), 1)

    @deferred
    async def test_claims_that_could_not_be_read_or_ended_come_again(self) -> None:
        """Runs that were claimed just before the store failed are claimed again when it works."""
        await self.run_with({"t": [{"signal": "go"}]})
        await self.start()
        await self.parked()
        self.runner._definitions.clear()
        failing: Any = Failing(self.store, {"definition": 1, "release": 2})
        self.runner.store = failing
        await self.signal("r", "go", 5)
        ended = self.ended()
        while not ended.called:
            self.clock.advance(1)
            await task.deferLater(the_reactor(), 0.005)
        self.assertEqual((await ended).result, 5)
        self.assertEqual(failing.left, {"definition": 0, "release": 0})

    @deferred
    async def test_commit_that_counted_though_it_failed(self) -> None:
        """When the end of a run was kept although its commit failed, those who wait are told."""
        await self.run_with({"t": [{"signal": "go"}]})
        await self.start()
        await self.parked()
        commit = self.store.commit

        def lies(change: Any) -> defer.Deferred[Any]:
            self.store.commit = commit
            done: defer.Deferred[Any] = self.store._do(tables.commit, change)
            return done.addCallback(lambda _: defer.fail(RunStoreFailed("I/O error")))

        self.store.commit = lies
        ending = self.runner.when_ended("r")
        await self.signal("r", "go", 1)
        await self.until(lambda: self.store.commit is commit or "commit" not in vars(self.store))
        for _ in range(3):
            await task.deferLater(the_reactor(), 0.05)
            self.clock.advance(1)
        await ending


class BrokenTests(RunnerCase):
    """Runs that can't go on, and records that can't be read."""

    @deferred
    async def test_run_that_can_not_go_on_fails(self) -> None:
        """A run at which the walk fails ends as failed; others go on."""
        await self.run_with({"t": [{"signal": "go"}], "other": [{"signal": "go"}]})
        await self.start()
        await self.start("other", id="o")
        advance = machine.advance

        def broken(run: Any, *rest: Any) -> Any:
            if run.id == "r":
                raise RecursionError("too deep")
            return advance(run, *rest)

        self.patch(machine, "advance", broken)
        await self.signal("r", "go")
        run = await self.ended()
        self.assertEqual((run.state, (run.error or {})["code"]), (FAILED, "internal"))
        self.assertIn("too deep", (run.error or {})["message"])
        self.assertEqual(len(self.flushLoggedErrors(RecursionError)), 1)
        await self.signal("o", "go", 1)
        self.assertEqual((await self.ended("o")).result, 1)

    @deferred
    async def test_what_can_not_be_kept_fails_its_run(self) -> None:
        """A commit that the store never takes fails the run, and is not tried for ever."""
        await self.run_with({"t": [{"signal": "go"}]})
        await self.start()
        await self.parked()
        row = WorkflowRun.row
        bad: Any = object()

        def unkept(run: WorkflowRun) -> Any:
            made = row(run)
            object.__setattr__(made, "data", made.data if run.state == FAILED else bad)
            return made

        self.patch(WorkflowRun, "row", unkept)
        await self.signal("r", "go")
        run = await self.ended()
        self.assertEqual((run.state, (run.error or {})["code"]), (FAILED, "internal"))

    @deferred
    async def test_run_that_can_not_be_read_keeps_no_other(self) -> None:
        """One run whose records can't be read is left as it is; those before and after it go on,
        and who waits for it is told."""
        await self.run_with({"t": [{"signal": "go"}]})
        for name in ("a", "b", "c"):
            await self.start(id=name)
        await self.parked()
        await self.store._do(_spoil, "b")
        waiting = self.runner.when_ended("b")
        for name in ("b", "a", "c"):
            await self.signal(name, "go", name)
        for name in ("a", "c"):
            self.assertEqual((await self.ended(name)).result, name)
        with self.assertRaisesRegex(RunStoreFailed, "can't be read"):
            await waiting
        self.assertEqual(len(self.flushLoggedErrors()), 1)

    @deferred
    async def test_run_without_its_definition_fails(self) -> None:
        """A run whose definition is lost ends, and says so."""
        await self.run_with({"t": [{"signal": "go"}]})
        await self.start()
        await self.parked()
        self.runner._definitions.clear()
        await self.store._do(_lose_definitions)
        await self.signal("r", "go")
        run = await self.ended()
        self.assertIn("its definition", (run.error or {})["message"])
        # Nor does a retry mend that; it is taken, and not claimed for ever.
        again = self.runner.when_ended("r")
        await self.store.post("r", Message("retry"))
        await again
        await self.parked()
        self.assertEqual(await self.store.messages("r"), [])
        self.assertEqual((await self.kept()).state, FAILED)

    @deferred
    async def test_retry_keeps_the_definition_that_it_brings(self) -> None:
        """The definition that a retry goes on with is kept with the run, whatever is pruned."""
        await self.run_with({"t": [{"fail": {"code": "no"}}]})
        await self.start()
        await self.ended()
        new = Definition.of("t", check_tasks({"t": [{"signal": "go"}]}))
        await self.store.post("r", Message("retry", "", pack(new.data)))
        await self.parked()
        self.assertEqual((await self.kept()).definition, new.hash)
        await self.store.prune(1e12, 100)
        self.assertEqual(await self.store.definition(new.hash), new.data)


def _spoil(connection: Any, run: str) -> None:
    connection.execute("UPDATE runs SET data = ? WHERE id = ?", (b"no record", run))


def _lose_definitions(connection: Any) -> None:
    connection.execute("DELETE FROM definitions")
