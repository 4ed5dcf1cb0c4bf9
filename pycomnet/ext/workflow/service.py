"""The workflow service: starts runs, and lets their users see and steer them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from twisted.internet import defer, task

from pycomnet.deferred import deferred
from pycomnet.errors import Forbidden, InvalidArguments, Unauthenticated
from pycomnet.ext.workflow.callchecks import WaitLimit, as_time, check_text, is_one_of, problem_of
from pycomnet.ext.workflow.client import WORKFLOW
from pycomnet.ext.workflow.definition import Definition
from pycomnet.ext.workflow.errors import (
    RunConflict,
    RunStoreBusy,
    RunStoreFailed,
    UnknownRun,
)
from pycomnet.ext.workflow.graph import draw
from pycomnet.ext.workflow.machine import unsure_steps
from pycomnet.ext.workflow.messages import CANCEL, RESUME, RETRY, SIGNAL, SUSPEND, UNSURE
from pycomnet.ext.workflow.records import (
    DONE,
    ENDED,
    MOST_BYTES,
    MOST_SIGNAL,
    RESERVED,
    RETRIED,
    TRANSIENT,
    UNREADABLE,
    Message,
    RunQuery,
    StepRecord,
    WorkflowRun,
    pack,
)
from pycomnet.ext.workflow.runfiles import RunFiles, check_no_files, open_with, sweep
from pycomnet.ext.workflow.runner import Runner
from pycomnet.ext.workflow.stepper import AGAIN
from pycomnet.ext.workflow.timetable import Timetable
from pycomnet.services.interface import Service, interface, method
from pycomnet.services.threads import in_thread
from pycomnet.text.logs import Logger
from pycomnet.wire.values import ValueNotSendable

if TYPE_CHECKING:
    from pycomnet.interfaces import IRunStore
    from pycomnet.services.server.request import Request

log = Logger()

#: Seconds for which runs are kept that have ended.
KEEP = 7 * 86_400.0
#: Seconds that the calls under way have to end when the service stops.
GRACE = 10.0
#: The longest name of a signal.
LONGEST_NAME = 200
#: Seconds between checks for runs that are too old; the limit on the runs removed at once.
PRUNE_EVERY = 60.0
PRUNE = 500
#: How many of the calls that may run at a time are reserved for those that wait for no run.
FOR_OTHERS = 200
#: The most runs of a page.
PAGE = 1_000
#: Whole runs that are read at a time.
READS = 2


@interface(WORKFLOW)
class WorkflowService(Service):
    """Runs tasks: chains of calls to other services.

    :param tasks: checked tasks, by name.
    :param store: where runs are kept; not opened.
    :param schedules: checked schedules.
    :param keep: seconds for which runs are kept that have ended.
    :param wall: seconds since 1970.
    :param grace: seconds for which a stop waits for calls under way.
    :param files: where the blocks of binary data are kept that steps return; not opened.
    :raises WorkflowConfigError: a step's blocks are to be kept, and there is no place for them.
    """

    def __init__(
        self,
        tasks: Mapping[str, Mapping[str, Any]],
        store: IRunStore,
        schedules: Any = (),
        keep: float = KEEP,
        wall: Callable[[], float] = time.time,
        grace: float = GRACE,
        files: RunFiles | None = None,
    ) -> None:
        self.store = store
        self.files = files
        if files is None:
            check_no_files(tasks)
        self._tasks = tasks
        self._schedules = schedules
        self._keep = keep
        self._wall = wall
        self._grace = grace
        self._definitions = {name: Definition.of(name, tasks) for name in tasks}
        self._pruning: Any = None
        #: whether the files of all removed runs are removed; a crash may have left some
        self._swept = False
        self._threads: Any = None
        self._timetable: Timetable | None = None
        self.runner: Runner | None = None
        #: limits the calls that wait for the end of a run
        self._waiting = WaitLimit(1)
        #: limits how many whole runs are read at a time
        self._reading = defer.DeferredSemaphore(READS)

    # -- as a service ----------------------------------------------------------------------------

    @deferred
    async def started(self, server: Any) -> None:
        """Open the store, and continue the runs in it."""
        self._waiting.most = max(
            1, server.limits.running - min(FOR_OTHERS, server.limits.running // 2)
        )
        self._threads = server.reactor
        self.runner = Runner(
            self.store, server.context, server.reactor, self._wall, files=self.files
        )
        await open_with(self.files, self.store, self.runner, server.reactor)
        self.runner.begin()
        self._pruning = task.LoopingCall(self._prune)
        self._pruning.clock = server.reactor
        self._pruning.start(PRUNE_EVERY)
        if self._schedules:
            self._timetable = Timetable(
                self._schedules, self.store, self._start_scheduled, server.reactor, self._wall
            )
            await self._timetable.begin()

    @deferred
    async def stopped(self) -> None:
        """Stop stepping runs, and close the store."""
        if self._pruning is not None and self._pruning.running:
            self._pruning.stop()
        if self._timetable is not None:
            self._timetable.close()
        if self.runner is not None:
            await self.runner.close(self._grace)
        await self.store.close()

    async def _prune(self) -> None:
        try:
            while await self.store.prune(self._wall() - self._keep, PRUNE):
                self._swept = False
            if not self._swept and self.files is not None:
                self._swept = await sweep(self.files, self.store, self._threads)
        except Exception as problem:
            tell = log.error if isinstance(problem, RunStoreFailed | OSError) else log.failure
            tell("can't remove old runs: {problem}", problem=problem)

    async def _start_scheduled(self, name: str, args: Any, id: str) -> None:
        await self._runner.start(self._definitions[name], args, id)

    @property
    def _runner(self) -> Runner:
        if self.runner is None:
            raise RunStoreFailed("the workflow service has not begun")
        return self.runner

    # -- who may do what -------------------------------------------------------------------------

    def _check_run(self, request: Request, task: str) -> Definition:
        definition = self._definitions.get(task)
        allowed = self._tasks.get(task, {}).get("run")
        if allowed is not None and not is_one_of(request, allowed):
            if request.user is None:
                raise Unauthenticated(f"the task {task!r} is for users", "missing")
            text = f"{request.user} may not run the task {task!r}"
            raise Forbidden(text, request.interface, request.method)
        if definition is None:
            return Definition.of(task, self._tasks)  # which raises
        return definition

    def _sees(self, request: Request, run: WorkflowRun) -> bool:
        """Whether the caller may see and steer a run."""
        rules = self._tasks.get(run.task)
        if rules is None:
            pass  # the task is gone, and with it the rules of who may see its runs
        elif "see" in rules:
            if is_one_of(request, rules["see"]):
                return True
        elif "run" not in rules and not run.caller:
            return True
        user = request.user
        return user is not None and user.name == run.caller

    async def _run_of(self, request: Request) -> WorkflowRun:
        """A run that the caller may see. A run that is not in memory has no steps, input, result
        and signals here."""
        id = request.args["id"]
        check_text("an id", id)
        run = self._runner.known(id)
        if run is None:
            row = await self.store.row(id)
            run = self._runner.known(TRANSIENT + id) if row is None else WorkflowRun.seen(row)
        if run is None or not self._sees(request, run):
            raise UnknownRun(f"there is no run {id!r}, or you may not see it")
        return run

    async def _whole_run_of(self, request: Request) -> WorkflowRun:
        """A run that the caller may see, with everything that is stored of it."""
        run = await self._run_of(request)
        if self._runner.known(run.id) is not None:
            return run
        # It is read only for those who may see it, and a few at a time, as it may be large.
        found = await self._reading.run(self.store.get, run.id)
        if found is None:
            raise UnknownRun(f"there is no run {run.id!r} any more")
        row, steps = found
        return WorkflowRun.seen(row, {one.path: one for one in map(StepRecord.load, steps)})

    # -- methods ---------------------------------------------------------------------------------

    async def _begin(self, request: Request) -> WorkflowRun:
        args = request.args
        definition = self._check_run(request, args["task"])
        id = args.get("id")
        if id is None:
            id = secrets.token_hex(12)
        else:
            check_text("an id", id)
            if id.startswith(RESERVED):
                raise InvalidArguments(f"no id begins with one of {' '.join(RESERVED)}")
        input = args.get("args")
        if definition.main.get("durable", True):
            try:
                size = len(pack(input))
            except ValueNotSendable as problem:
                raise InvalidArguments(f"args can't be kept: {problem}") from None
            if size > MOST_BYTES:
                raise InvalidArguments(f"args have {size} bytes; the limit is {MOST_BYTES}")
        user = request.user
        taken = RunConflict(f"there is a run {id!r} of another user, or with another task or input")
        try:
            run, new = await self._runner.start(definition, input, id, user.name if user else "")
        except RunConflict:
            raise taken from None  # this user may not know the run's task
        if not new and not self._sees(request, run):
            raise taken
        return run

    @method("invoke", args={"task": "str", "args": "any?", "id": "str?"})
    async def invoke(self, request: Request) -> Any:
        """Run a task, and wait for its result. When nobody waits any more, a run that is not
        durable is cancelled; a durable one continues."""
        # Before it begins: a refused call has run nothing.
        with self._waiting.taken(request):
            run = await self._begin(request)
            try:
                return await self._result(run.id)
            except defer.CancelledError:
                if not run.durable and not self._runner.is_awaited(run.id):
                    self._runner.tell(run.id, CANCEL, "", None)
                raise

    @method("start", args={"task": "str", "args": "any?", "id": "str?"})
    async def start(self, request: Request) -> dict[str, Any]:
        """Start a run. A second start of the same id returns the existing run."""
        return (await self._begin(request)).show()

    @method("result", args={"id": "str"}, idempotent=True)
    async def result(self, request: Request) -> Any:
        """Wait for the end of a run, and return its result."""
        run = await self._run_of(request)
        with self._waiting.taken(request):
            return await self._result(run.id)

    async def _result(self, id: str) -> Any:
        while True:
            # Before the store is asked, so that no end is missed.
            waiting = self._runner.when_ended(id)
            try:
                run = self._runner.known(id)
                if run is None:
                    try:
                        run = await self._kept(id)
                    except RunStoreBusy:  # the run continues: ask again
                        await task.deferLater(self._threads, AGAIN)
                        continue
                if not run.ended and (run.error or {}).get("code") == UNREADABLE:
                    raise RunStoreFailed(f"the run {id!r} can't be read, and does not go on")
                # While it is in memory, its end is not committed.
                if run.ended and id not in self._runner.live:
                    break
                ended = await waiting
                if ended is not None:
                    run = ended
                    break
            finally:
                if not waiting.called:
                    waiting.addErrback(lambda failure: failure.trap(defer.CancelledError))
                    waiting.cancel()
        if run.state == DONE:
            return run.result
        raise problem_of(run)

    async def _kept(self, id: str) -> WorkflowRun:
        row = await self.store.row(id)
        if row is not None and row.state == DONE:
            found = await self._reading.run(self.store.get, id)
            row = None if found is None else found[0]
        if row is None:
            raise UnknownRun(f"there is no run {id!r} any more")
        return WorkflowRun.seen(row)

    @method(
        "list",
        args={
            "task": "str?",
            "state": "str?",
            "since": "float?",
            "until": "float?",
            "limit": "int?",
            "before": "list?",
        },
        idempotent=True,
    )
    async def list_runs(self, request: Request) -> list[dict[str, Any]]:
        """Runs that the caller may see, the newest first. ``before`` is the creation time and the
        id of the last run of the page before."""
        args = request.args or {}
        limit = args.get("limit") or 100
        if not 0 < limit <= PAGE:
            raise InvalidArguments(f"limit is from 1 to {PAGE}")
        before = args.get("before")
        if before is not None and (
            len(before) != 2 or type(before[0]) not in (int, float) or type(before[1]) is not str
        ):
            raise InvalidArguments("before is a run's creation time and its id")
        for what in ("task", "state"):
            if args.get(what) is not None:
                check_text(what, args[what])
        if before is not None:
            before = (as_time("before", before[0]), before[1])
            check_text("before's id", before[1])
        user = request.user
        # The same rules as in _sees.
        seen, callerless = [], []
        for name, rules in self._tasks.items():
            if "see" in rules:
                if is_one_of(request, rules["see"]):
                    seen.append(name)
            elif "run" not in rules:
                callerless.append(name)
        query = RunQuery(
            args.get("task"),
            args.get("state"),
            as_time("since", args.get("since")),
            as_time("until", args.get("until")),
            user.name if user else None,
            tuple(seen),
            tuple(callerless),
            before,
            limit,
        )
        return [WorkflowRun.seen(row).show() for row in await self.store.list(query)]

    @method("show", args={"id": "str"}, idempotent=True)
    async def show(self, request: Request) -> dict[str, Any]:
        """A run and its history: each step with its start, end, attempts, arguments and error."""
        run = await self._whole_run_of(request)
        steps = sorted(run.steps.values(), key=lambda one: (one.began, one.order))
        return {
            **run.show(),
            "input": run.input,
            "result": run.result,
            "signals": {name: len(waiting) for name, waiting in run.signals.items()},
            "steps": [one.show() for one in steps],
        }

    @method("files", args={"id": "str", "step": "str"}, idempotent=True)
    async def files_of(self, request: Request) -> Any:
        """The blocks of binary data that a step of a run has returned."""
        run = await self._whole_run_of(request)
        step = run.steps.get(request.args["step"])
        if step is None or self.files is None:
            raise UnknownRun(f"the run {run.id!r} has no such step with files")
        asked = run.id, run.nonce, step.files
        blocks = await self.files.asked.run(in_thread, self._threads, self.files.blocks, *asked)
        return (len(blocks), *blocks) if blocks else 0

    @method("graph", args={"task": "str?", "id": "str?", "format": "str?"}, idempotent=True)
    async def graph(self, request: Request) -> str:
        """A drawing of a task, or of a run with the states of its steps: ``mermaid`` or ``dot``."""
        args = request.args or {}
        steps: dict[str, str] = {}
        if args.get("id") is not None:
            run = await self._whole_run_of(request)
            steps = {path: one.state for path, one in run.steps.items()}
            data = await self.store.definition(run.definition) if run.durable else None
            definition = self._definitions.get(run.task) if data is None else Definition.load(data)
            if definition is None:
                raise UnknownRun(f"the definition of {run.id!r} is not there any more")
        elif args.get("task") is not None:
            definition = self._check_run(request, args["task"])
        else:
            raise InvalidArguments("graph: a task or an id")
        return draw(definition, steps, args.get("format") or "mermaid")

    @method("tasks", idempotent=True)
    def tasks(self, request: Request) -> dict[str, Any]:
        """The tasks that the caller may run, with what they are for."""
        return {
            name: {"doc": one.get("doc", ""), "definition": self._definitions[name].hash}
            for name, one in self._tasks.items()
            if "run" not in one or is_one_of(request, one["run"])
        }

    @method("signal", args={"id": "str", "name": "str", "value": "any?"})
    async def signal(self, request: Request) -> None:
        """Send a run a signal. It is kept until a step waits for it."""
        value, name = request.args.get("value"), request.args["name"]
        if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
            raise InvalidArguments(
                f"the name of a signal is a text of 1 to {LONGEST_NAME} printable characters"
            )
        if len(pack(value)) > MOST_SIGNAL:
            raise InvalidArguments(f"a signal brings at most {MOST_SIGNAL} bytes")
        await self._send(request, SIGNAL, name, value)

    @method("cancel", args={"id": "str"}, idempotent=True)
    async def cancel(self, request: Request) -> None:
        """Cancel a run: its calls under way are cancelled, and its steps are undone."""
        await self._send(request, CANCEL)

    @method("suspend", args={"id": "str"}, idempotent=True)
    async def suspend(self, request: Request) -> None:
        """Suspend a run: it begins no more steps until ``resume``."""
        await self._send(request, SUSPEND)

    @method("resume", args={"id": "str"}, idempotent=True)
    async def resume(self, request: Request) -> None:
        """Continue a suspended run."""
        await self._send(request, RESUME)

    @method("retry", args={"id": "str", "latest": "bool?", "unsure": "bool?"})
    async def retry(self, request: Request) -> None:
        """Continue a failed run at the steps that failed: with the definition that it has pinned,
        or with the ``latest``. ``unsure`` also repeats steps that may have run."""
        run = await self._whole_run_of(request)
        if request.args.get("latest") or run.task in self._tasks:
            self._check_run(request, run.task)
        if not run.ended or run.state == DONE:
            raise RunConflict(
                f"the run {run.id!r} is {run.shown_state}: only failed ones are retried"
            )
        if run.undone:
            raise RunConflict(f"the run {run.id!r} was compensated: start a new one")
        if not run.durable:
            raise RunConflict(f"the run {run.id!r} is not durable: start a new one")
        unsure = bool(request.args.get("unsure"))
        steps = unsure_steps(run)
        if steps and not unsure:
            raise RunConflict(
                f"these steps of the run {run.id!r} may have run: {', '.join(steps)}; to run them "
                "again all the same, say 'unsure'"
            )
        latest = None
        if request.args.get("latest"):
            # The commit that applies the message also stores the definition.
            latest = self._definitions[run.task].data
        await self._send(request, RETRY, UNSURE if unsure else "", latest, ended=True)

    async def _send(
        self, request: Request, kind: str, name: str = "", value: Any = None, ended: bool = False
    ) -> None:
        run = await self._run_of(request)
        if run.ended and not ended:
            if kind == SIGNAL:
                raise RunConflict(f"the run {run.id!r} has ended: it is {run.state}")
            return
        if self._runner.tell(run.id, kind, name, value):
            return
        message = Message(kind, name, b"" if value is None else pack(value))
        found = await self.store.post(run.id, message)
        if found is None:
            raise UnknownRun(f"there is no run {run.id!r} any more")
        if kind == SIGNAL and found.state in ENDED:
            raise RunConflict(f"the run {run.id!r} has ended: it is {found.state}")
        if kind == RETRY and found.state not in RETRIED:
            raise RunConflict(f"the run {run.id!r} is {found.state}: only failed ones are retried")
