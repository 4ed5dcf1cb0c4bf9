"""Steps runs: commits what the state machine decides, and then makes the calls."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from pycomnet.errors import error_map
from pycomnet.ext.workflow import machine
from pycomnet.ext.workflow.counters import Counts
from pycomnet.ext.workflow.decisions import Decision, Evaluation, StepCall, Value
from pycomnet.ext.workflow.errors import ExpressionError, FenceLost, RunFull, RunNotKept
from pycomnet.ext.workflow.expressions import BUDGET, INLINE, SECONDS, TooCostly, evaluate
from pycomnet.ext.workflow.liverun import LiveRun, dumped
from pycomnet.ext.workflow.records import (
    ENDED,
    FAILED,
    MOST_BYTES,
    MOST_RUN,
    RETRYING,
    STEP_DONE,
    STEP_FAILED,
    RunChange,
    StepRecord,
    WorkflowRun,
    size_of,
    weight_of,
)
from pycomnet.ext.workflow.runfiles import RunFiles, WithFiles
from pycomnet.ext.workflow.stepcalls import CallAttempt, CallFor, NotHeld, StepCaller, call_error
from pycomnet.ext.workflow.steperrors import StepFailure, failure_of
from pycomnet.ext.workflow.transient import TransientRuns
from pycomnet.services.threads import in_thread
from pycomnet.text.logs import Logger

if TYPE_CHECKING:
    from pycomnet.interfaces import IRunStore
    from pycomnet.services.client.context import Context

log = Logger()

#: Seconds: a run that has nothing to do for longer than that is parked.
PARK_AFTER = 2.0
#: Durable runs that are in memory at a time.
MOST_LIVE = 20_000
#: Costly expressions that are evaluated at a time.
EVALUATIONS = 2
#: Seconds until a commit that failed is tried again.
AGAIN = 1.0
#: The longest delayed call, in seconds: the machine's clock may be set meanwhile.
LONGEST_DELAY = 600.0


class RunStepper:
    """Steps the runs that are in memory.

    :param store: what runs are committed to.
    :param context: for the calls.
    :param wall: seconds since 1970.
    :param files: the files of runs, if steps may have any.
    :ivar live: id -> the runs that this service has.
    """

    def __init__(
        self,
        store: IRunStore,
        context: Context,
        reactor: IReactorTime,
        wall: Callable[[], float] = time.time,
        files: RunFiles | None = None,
    ) -> None:
        self.store = store
        self._reactor = reactor
        self._caller = StepCaller(context, files)
        self._wall = wall
        self.live: dict[str, LiveRun] = {}
        self.counts = Counts()
        self._evaluations = defer.DeferredSemaphore(EVALUATIONS)
        #: whether a commit has failed, and none was made since
        self._store_fails = False
        self.transient = TransientRuns()
        self.closed = False
        #: whether no step begins any more
        self.stopping = False

    def ended(self, run: str, kept: WorkflowRun | None = None) -> None:
        """Notify those who wait for a run that it has ended, or may have.

        :param kept: the run, if it has ended here and its end is committed. Without it they ask the
            store.
        """
        raise NotImplementedError

    def parked(self, due: float | None) -> None:
        """A run was parked.

        :param due: when it is to go on by itself.
        """
        raise NotImplementedError

    # -- steps -----------------------------------------------------------------------------------

    def _step(self, live: LiveRun) -> None:
        """Step a run, or mark it to be stepped again if it is being stepped or committed."""
        if live.stepping or live.committing or live.gone:
            live.again = True
            return
        live.stepping = True
        try:
            live.again = True
            while live.again and not live.gone and not live.committing:
                live.again = False
                self._step_once(live)
        except Exception as problem:
            log.failure("the run {run} can't go on", run=live.run.id)
            self._broken(live, f"it can't go on: {type(problem).__name__}: {problem!s:.500}")
        finally:
            live.stepping = False

    def _broken(self, live: LiveRun, text: str) -> None:
        """Fail a run that can't continue, without asking the machine."""
        run = live.run
        if not live.broken:
            log.error("the run {run} has failed: {problem}", run=run.id, problem=text)
        under_way, live.under_way = live.under_way, {}
        for path, made in under_way.items():
            told, record = live.attempts.pop(path, None), run.steps.get(path)
            if record is not None and (told is None or told.safe or not told.sent):
                # It has not run, or may run twice: a retry begins it anew.
                record.state, record.due = RETRYING, None
                live.dirty[path] = record
            if made is not None:
                made.cancel()
        live.calls.clear()
        live.evaluating.clear()
        run.values.clear()
        live.broken = True
        run.state, run.updated = FAILED, self._wall()
        run.suspended, run.result = False, None
        run.error = run.failure = failure_of("internal", text)
        if live.fence is None:
            self._over(live)
            return
        try:
            row = run.row()
        except Exception:
            # A signal has brought what can't be stored.
            run.signals.clear()
            row = run.row()
        # The results of its steps are stored, so that a retry does not repeat them.
        steps: tuple[tuple[str, bytes | None], ...] = ()
        try:
            if not live.bare:
                steps = dumped(live.dirty)
        except Exception:
            live.bare = True
        if live.bare:
            live.dirty.clear()
        consumed = tuple(live.consumed)
        change = RunChange(row, live.fence, steps, consumed, definition=live.definition)
        self._commit(live, change, None)

    def _step_once(self, live: LiveRun) -> None:
        run = live.run
        if live.broken:
            self._broken(live, str((run.error or {}).get("message", "")))
            return
        decision = self._decide(live)
        ended = run.ended
        if live.fence is None:
            live.dirty.clear()
            live.consumed.clear()
            if ended:
                self._over(live)
            else:
                self._perform(live)
                self._set_timer(live, decision.due)
            return
        idle = decision.parkable and not live.under_way and not live.evaluating
        parked = (
            not ended
            and not self.stopping  # its held steps begin after the next start
            and idle
            and not live.calls
            and (decision.due is None or decision.due - self._wall() > PARK_AFTER)
        )
        if not (live.dirty or live.changed or ended or parked):
            self._perform(live)
            self._set_timer(live, decision.due)
            return
        steps = dumped(live.dirty)
        consumed = tuple(live.consumed)
        change = RunChange(
            run.row(), live.fence, steps, consumed, parked, decision.due, live.definition
        )
        self._commit(live, change, decision.due)

    def _commit(self, live: LiveRun, change: RunChange, due: float | None) -> None:
        kept, live.dirty, live.changed = live.dirty, {}, False
        waiting, live.waiting = live.waiting, []
        live.committing = True
        self.store.commit(change).addCallbacks(
            self._committed,
            self._not_committed,
            callbackArgs=(live, change, due, waiting),
            errbackArgs=(live, kept, waiting),
        ).addErrback(lambda failure: log.failure("the runner failed", failure))

    def _decide(self, live: LiveRun) -> Decision:
        """Advance the machine until all expressions that are quick have been evaluated."""
        run = live.run
        while True:
            decision = machine.advance(run, self._wall(), live.under_way, self.stopping)
            for path in decision.cancel:
                live.calls.pop(path, None)
                told = live.attempts.pop(path, None)
                if told is not None and (told.safe or not told.sent):
                    run.steps[path].unsure = False
                made = live.under_way.pop(path, None)
                if made is not None:
                    made.cancel()
            live.dirty.update(decision.changed)
            for call in decision.calls:
                live.calls[call.path] = call
                live.under_way[call.path] = None
            if not decision.evaluate:
                return decision
            wanted = [one for one in decision.evaluate if one.key not in live.evaluating]
            if not wanted:
                return decision
            for one in wanted:
                self._evaluate(live, one)

    def _evaluate(self, live: LiveRun, wanted: Evaluation) -> None:
        try:
            value = evaluate(wanted.template, wanted.scope, INLINE, None)
        except TooCostly:
            live.evaluating.add(wanted.key)
            # A few at a time: others use the reactor's threads as well.
            threads: Any = self._reactor
            running = self._evaluations.run(
                in_thread, threads, evaluate, wanted.template, wanted.scope, BUDGET, SECONDS
            )
            running.addBoth(self._evaluated, live, wanted)
        except ExpressionError as problem:
            self._no_value(live, wanted, problem)
        else:
            self._value(live, wanted, value)

    def _value(self, live: LiveRun, wanted: Evaluation, value: Any) -> None:
        """Store the value of an expression, and count it if it is the result of a step."""
        found: Any = Value(value)
        if wanted.key[1] == "value":
            try:
                self._count(live, value)
            except (ValueError, RunFull) as problem:
                found = StepFailure(failure_of("too-long", str(problem)), wanted.key[0])
        live.run.values[wanted.key] = found

    def _count(self, live: LiveRun, value: Any) -> None:
        """Count the bytes of the result of a step.

        :raises ValueError: there are too many, or the result can't be stored.
        :raises RunFull: all runs that are not durable have too many together.
        """
        if live.fence is None:
            self.transient.add(live, weight_of(value))
            return
        size = size_of(value, MOST_BYTES, "the result")
        if live.size + size > MOST_RUN:
            raise ValueError(f"the results of the run's steps have more than {MOST_RUN} bytes")
        live.size += size

    def _evaluated(self, result: Any, live: LiveRun, wanted: Evaluation) -> None:
        live.evaluating.discard(wanted.key)
        if isinstance(result, Failure):
            problem = result.value
            if not isinstance(problem, ExpressionError):
                log.failure("an expression failed", result)
            self._no_value(live, wanted, problem)
        else:
            self._value(live, wanted, result)
        self._step(live)

    def _no_value(self, live: LiveRun, wanted: Evaluation, problem: Any) -> None:
        error = failure_of("expression", str(problem)[:2_000])
        live.run.values[wanted.key] = StepFailure(error, wanted.key[0])

    def _set_timer(self, live: LiveRun, due: float | None) -> None:
        if live.timer is not None:
            if live.timer.active():
                live.timer.cancel()
            live.timer = None
        if due is not None and not live.gone:
            delay = min(max(0.0, due - self._wall()), LONGEST_DELAY)
            live.timer = self._reactor.callLater(delay, self._step, live)

    # -- commits ---------------------------------------------------------------------------------

    def _committed(
        self,
        _: None,
        live: LiveRun,
        change: RunChange,
        due: float | None,
        waiting: list[defer.Deferred[None]],
    ) -> None:
        live.committing = False
        if self._store_fails:
            self._store_fails = False
            log.info("the store of runs works again")
        live.consumed = [one for one in live.consumed if one not in change.consumed]
        if live.definition is change.definition:
            live.definition = None
        for one in waiting:
            one.callback(None)
        if live.gone:
            return
        if change.row.state in ENDED:
            self._over(live)
        elif change.parked:
            self._drop(live)
            self.parked(due)
        else:
            if live.again:
                self._step(live)  # what came meanwhile may be that the calls are not wanted
                return
            self._perform(live)
            self._set_timer(live, due)

    def _not_committed(
        self,
        failure: Failure,
        live: LiveRun,
        kept: dict[str, StepRecord | None],
        waiting: list[defer.Deferred[None]],
    ) -> None:
        live.committing = False
        live.waiting = [*waiting, *live.waiting]
        if live.gone:
            self._drop(live)
            return
        problem = failure.value
        if isinstance(problem, FenceLost) or self.closed:
            log.info("{problem}", problem=problem)
            self._drop(live)
            if not self.closed:
                # An earlier commit may have succeeded though it was reported as failed: those who
                # wait ask the store.
                self.ended(live.run.id)
            return
        if isinstance(problem, RunNotKept) and not live.bare:
            live.dirty = {**kept, **live.dirty}
            live.bare = live.broken
            self._broken(live, f"it can't be kept: {problem}")
            return
        if not self._store_fails:
            self._store_fails = True
            log.error("runs wait for their store: {problem}", problem=problem)
        live.dirty = {**kept, **live.dirty}
        live.changed = True
        if live.timer is not None and live.timer.active():
            live.timer.cancel()
        live.timer = self._reactor.callLater(AGAIN, self._step, live)

    def _over(self, live: LiveRun) -> None:
        """Remove a run that has ended from memory, after its end was committed."""
        run = live.run
        self.counts.runs[run.state] += 1
        live.gone = True
        if self.live.get(run.id) is live:
            del self.live[run.id]
        if live.fence is None:
            self.transient.end(live)
        self._set_timer(live, None)
        self.ended(run.id, run)

    def _drop(self, live: LiveRun) -> None:
        """Stop stepping a run: cancel its calls, and remove it from memory."""
        live.gone = True
        if self.live.get(live.run.id) is live:
            del self.live[live.run.id]
        self._set_timer(live, None)
        under_way, live.under_way = live.under_way, {}
        for made in under_way.values():
            if made is not None:
                made.cancel()
        waiting, live.waiting = live.waiting, []
        for one in waiting:
            one.errback(Failure(FenceLost("the run is not this service's any more")))

    # -- calls -----------------------------------------------------------------------------------

    def _perform(self, live: LiveRun) -> None:
        """Make the calls that were decided. While the lease may be over, make none."""
        if live.fence is not None and not self.store.held:
            return
        calls, live.calls = live.calls, {}
        for path, call in calls.items():
            if path not in live.under_way:
                continue
            attempt = live.attempts[path] = CallAttempt()
            whom = live.whom = live.whom or self._whom(live)
            made = live.under_way[path] = self._caller.call(call, whom, attempt)
            made.addCallbacks(
                self._succeeded,
                self._call_failed,
                callbackArgs=(live, call, attempt, made),
                errbackArgs=(live, call, attempt, made),
            )

    def _whom(self, live: LiveRun) -> CallFor:
        """For whom the calls of a run are made."""
        run, durable = live.run, live.fence is not None
        remember = partial(self._remember, live)
        return CallFor(
            run.id, run.caller, durable, run.nonce, remember, lambda: not durable or self.store.held
        )

    async def _remember(self, live: LiveRun, call: StepCall) -> None:
        """Commit a step's record before its call is sent."""
        if live.gone:
            raise FenceLost("the run is not this service's any more")
        live.dirty[call.path] = call.record
        live.changed = True
        waiting: defer.Deferred[None] = defer.Deferred()
        live.waiting.append(waiting)
        self._step(live)
        await waiting

    def _succeeded(
        self, result: Any, live: LiveRun, call: StepCall, attempt: CallAttempt, made: Any
    ) -> None:
        if not self._is_wanted(live, call, made):
            return
        files: Sequence[Any] = ()
        if isinstance(result, WithFiles):
            result, files = result.value, result.files
        try:
            self._count(live, [result, *files] if files else result)
        except Exception as problem:
            self._fail(live, call, error_map(problem) | {"code": "result"}, attempt)
            return
        record = machine.step_done(live.run, call.path, result, self._wall(), files)
        self._next(live, record)

    def _call_failed(
        self,
        failure: Failure,
        live: LiveRun,
        call: StepCall,
        attempt: CallAttempt,
        made: Any,
    ) -> None:
        if not self._is_wanted(live, call, made):
            return
        problem: Any = failure.value
        if isinstance(problem, NotHeld):  # it is made when the lease is renewed
            live.calls[call.path], live.under_way[call.path] = call, None
            return
        problem = self._caller.explained(problem, call, attempt)
        self._fail(live, call, call_error(problem, attempt.sent), attempt)

    def _fail(
        self, live: LiveRun, call: StepCall, error: dict[str, Any], attempt: CallAttempt
    ) -> None:
        retry = call.step.get("retry")
        record = machine.step_failed(
            live.run, call.path, error, self._wall(), retry, attempt.safe, random.random
        )
        self._next(live, record)

    def _is_wanted(self, live: LiveRun, call: StepCall, made: Any) -> bool:
        """Whether a call's outcome counts: it was not cancelled, nor made anew."""
        if live.gone or live.under_way.get(call.path) is not made:
            return False
        del live.under_way[call.path]
        live.attempts.pop(call.path, None)
        return True

    def _next(self, live: LiveRun, record: StepRecord | None) -> None:
        if record is not None:
            if record.state in (STEP_DONE, STEP_FAILED):
                self.counts.steps[record.state] += 1
            live.dirty[record.path] = record
        self._step(live)
