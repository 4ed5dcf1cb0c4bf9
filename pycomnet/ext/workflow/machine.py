"""The state machine of a run: what comes next, by what is kept of it.

It has no reactor, no clock and no randomness: the time is an argument. Who drives it calls
:func:`advance`, commits what has changed, and then does what the :class:`Decision` says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

from pycomnet.ext.workflow.definition import Definition, moment
from pycomnet.ext.workflow.expressions import is_true, needs_evaluation
from pycomnet.ext.workflow.failures import Failed, catches, failure_of, may_have_run, retry_at
from pycomnet.ext.workflow.records import (
    BEGUN,
    CANCELLED,
    COMPENSATING,
    DONE,
    FAILED,
    RETRYING,
    RUNNING,
    STEP_DONE,
    STEP_FAILED,
    WAITING,
    Run,
    StepRecord,
    shown,
)
from pycomnet.ext.workflow.stepkinds import LONGEST, MOST_ITEMS


@attrs.frozen
class Value:
    """A step, or a list of steps, is done."""

    value: Any


#: Kinds of steps that hold others; what they give is made of that.
HOLDERS = frozenset({"parallel", "map", "choice", "task"})


class _Pending:
    """It is not over."""


PENDING = _Pending()
Outcome = Value | Failed | _Pending


@attrs.frozen
class Evaluation:
    """A template that has to be evaluated; its value goes to ``Run.values[key]``."""

    key: tuple[str, str]
    template: Any
    scope: Mapping[str, Any]


@attrs.frozen
class StepCall:
    """A call that has to be made.

    :ivar again: whether it may have run before.
    """

    path: str
    step: Mapping[str, Any]
    task: str
    args: Any
    record: StepRecord
    again: bool = False


@attrs.define
class Decision:
    """What comes next.

    :ivar evaluate: expressions; the machine goes on when they have values.
    :ivar calls: to be made once ``changed`` is committed.
    :ivar cancel: paths of calls under way that are not wanted any more.
    :ivar changed: records of steps that are to be committed.
    :ivar consumed: numbers of signals that were taken.
    :ivar due: when something happens by itself.
    :ivar parkable: whether nothing is under way: the run waits only for times and signals.
    """

    evaluate: list[Evaluation] = attrs.field(factory=list)
    calls: list[StepCall] = attrs.field(factory=list)
    cancel: list[str] = attrs.field(factory=list)
    changed: dict[str, StepRecord] = attrs.field(factory=dict)
    consumed: list[int] = attrs.field(factory=list)
    due: float | None = None
    parkable: bool = True


def advance(run: Run, now: float, under_way: Iterable[str] = ()) -> Decision:
    """Decide what comes next, and note it in the run's records.

    :param run: with its definition in ``pinned``.
    :param now: seconds since 1970.
    :param under_way: the paths of calls that are being made. A step that has begun and is not among
        them was begun before a crash.
    """
    return _Walk(run, now, frozenset(under_way)).run()


def step_done(run: Run, path: str, result: Any, now: float) -> StepRecord | None:
    """A step's call has a result; None if nobody waits for it any more."""
    record = run.steps.get(path)
    if record is None or record.state != BEGUN:
        return None
    record.state, record.result, record.ended, record.due = STEP_DONE, result, now, None
    run.ordered += 1
    record.order = run.ordered
    return record


def step_failed(
    run: Run,
    path: str,
    error: dict[str, Any],
    now: float,
    retry: Mapping[str, Any] | None,
    safe: bool,
    random: Callable[[], float],
) -> StepRecord | None:
    """A step's call has failed: it waits for its next attempt, or the step fails.

    :param retry: what the step says of that.
    :param safe: whether it may run twice.
    :param random: gives numbers from 0 to 1.
    """
    record = run.steps.get(path)
    if record is None or record.state != BEGUN:
        return None
    record.error = error
    at = retry_at(retry, error, record.attempts, now, safe, random)
    if at is not None:
        record.state, record.due = RETRYING, at
    else:
        _fail(run, record, error, now)
    return record


def _fail(run: Run, record: StepRecord, error: dict[str, Any], now: float) -> None:
    record.state, record.error, record.ended, record.due = STEP_FAILED, error, now, None
    run.ordered += 1
    record.order = run.ordered


def reset_failed(run: Run, definition: Definition, now: float) -> list[str]:
    """Have a failed run go on from the steps that failed.

    :param definition: which it goes on with.
    :returns: the paths of the records that were removed.
    """
    removed = {path for path, record in run.steps.items() if _begins_anew(run, path, record)}
    # What was done instead of a step that begins anew is not wanted any more.
    removed |= {
        path
        for path in run.steps
        if any(path[:at] in removed for at, char in enumerate(path) if char == "!")
    }
    for path in removed:
        del run.steps[path]
    deadline = definition.main.get("deadline")
    run.state, run.error, run.failure, run.result = RUNNING, None, None, None
    run.cancelling = run.suspended = False
    run.deadline = None if deadline is None else now + deadline
    run.definition, run.pinned = definition.hash, definition
    run.values.clear()
    return sorted(removed)


def _begins_anew(run: Run, path: str, record: StepRecord) -> bool:
    """Whether a step of a failed run begins anew. One that has failed stays as it is if a ``catch``
    took that, or if it is in a step that is done."""
    if "~" in path:
        return True
    if record.state == STEP_DONE:
        return False
    for at, char in enumerate(path):
        holder = run.steps.get(path[:at]) if char in "/[" else None
        if holder is not None and holder.state == STEP_DONE:
            return False
    instead = [one for other, one in run.steps.items() if other.startswith(f"{path}!")]
    return not instead or any(one.state != STEP_DONE for one in instead)


@attrs.frozen
class _Undo:
    """A step that is to be undone."""

    order: int
    path: str
    steps: Any
    scope: Mapping[str, Any]
    result: Any


class _Walk:
    """One walk over the steps of a run."""

    def __init__(self, run: Run, now: float, under_way: frozenset[str]) -> None:
        assert run.pinned is not None
        self._run = run
        self._now = now
        self._under_way = under_way
        self._tasks = run.pinned.tasks
        self._task = run.pinned.task
        self.decision = Decision()
        #: whether nothing begins: what is to be undone is being collected
        self._collecting = False
        self._undo: list[_Undo] = []
        self._kinds: dict[str, Callable[..., Outcome]] = {
            "call": self._call,
            "parallel": self._parallel,
            "map": self._map,
            "choice": self._choice,
            "wait": self._wait,
            "until": self._wait,
            "signal": self._signal,
            "task": self._subtask,
            "fail": self._fail_step,
            "value": self._value_step,
        }

    def run(self) -> Decision:
        run, now = self._run, self._now
        if run.state == RUNNING:
            self._forward()
        if run.state == COMPENSATING:
            self._compensate()
        if run.ended:
            self._drop_all()
            self.decision.due = None
        if self.decision.changed or run.ended:
            run.updated = now
        return self.decision

    def _scope(self) -> dict[str, Any]:
        run = self._run
        context = {
            "run": run.id,
            "task": run.task,
            "started": run.created,
            "on_behalf_of": run.caller or None,
        }
        return {"input": run.input, "last": run.input, "steps": {}, "context": context}

    def _forward(self) -> None:
        run = self._run
        outcome: Outcome
        if run.cancelling:
            outcome = Failed(failure_of("cancelled", "the run was cancelled"))
        elif run.deadline is not None and self._now >= run.deadline:
            outcome = Failed(failure_of("deadline", "the run's deadline has passed"))
        else:
            if run.deadline is not None:
                self._due(run.deadline)
            outcome = self._sequence(run.pinned.main["steps"], "", self._scope(), run.input)  # type: ignore[union-attr]
        if isinstance(outcome, Value):
            run.state, run.result = DONE, outcome.value
        elif isinstance(outcome, Failed):
            self._drop_all()
            run.state = COMPENSATING
            run.failure = {**outcome.error, "step": outcome.path}
            run.values.clear()
            run.suspended = False

    # -- compensation ----------------------------------------------------------------------------

    def _compensate(self) -> None:
        """Undo what was done, the last first; then the run has failed."""
        run = self._run
        self.decision.evaluate.clear()
        self.decision.due = None
        self._collecting = True
        self._undo.clear()
        self._sequence(run.pinned.main["steps"], "", self._scope(), run.input)  # type: ignore[union-attr]
        if self.decision.evaluate:
            return
        self._collecting = False
        self.decision.due = None
        for undo in sorted(self._undo, key=lambda one: -one.order):
            if undo.path in run.undone:
                continue
            scope = {**undo.scope, "result": undo.result}
            outcome = self._sequence(undo.steps, f"{undo.path}~/", scope, undo.result)
            if outcome is PENDING:
                return
            run.undone.append(undo.path)
            if isinstance(outcome, Failed) and run.failure is not None:
                failed = {**outcome.error, "step": outcome.path}
                run.failure.setdefault("compensation", []).append(failed)
        run.error = run.failure
        cancelled = run.cancelling and (run.failure or {}).get("code") == "cancelled"
        run.state = CANCELLED if cancelled else FAILED

    # -- lists of steps --------------------------------------------------------------------------

    def _sequence(
        self, steps: Any, prefix: str, scope: Mapping[str, Any], last: Any
    ) -> Outcome:
        here = {**scope, "steps": dict(scope["steps"])}
        for step in steps:
            name = step["name"]
            here["last"] = last
            outcome = self._step(step, prefix + name, here)
            if not isinstance(outcome, Value):
                return outcome
            last = outcome.value
            here["steps"][name] = last
        return Value(last)

    def _step(self, step: Mapping[str, Any], path: str, scope: Mapping[str, Any]) -> Outcome:
        record = self._run.steps.get(path)
        key = (path, "value")
        if record is not None and record.state == STEP_FAILED:
            error = record.error or {}
            outcome: Outcome = Failed(error, error.get("step", path))
            if self._collecting:
                self._kinds[step["kind"]](step, path, scope, record)
        elif key in self._run.values and not self._collecting:
            return Value(self._run.values[key])
        elif record is not None and record.due is not None and self._timed_out(step, record):
            outcome = Failed(failure_of("deadline", f"{path}: no end within its timeout"), path)
        else:
            outcome = self._kinds[step["kind"]](step, path, scope, record)
        if isinstance(outcome, Failed):
            outcome = self._failed(step, path, scope, outcome)
        elif isinstance(outcome, Value):
            self._finish(step, path, outcome.value)
            if step["kind"] in HOLDERS:
                self._run.values[key] = outcome.value
        if self._collecting and "compensate" in step:
            self._collect(step, path, scope, outcome)
        return outcome

    def _failed(
        self, step: Mapping[str, Any], path: str, scope: Mapping[str, Any], failed: Failed
    ) -> Outcome:
        record = self._run.steps.get(path)
        if not self._collecting:
            if record is None:
                record = self._begin(step, path, STEP_FAILED)
                record.state = BEGUN
            if record.state != STEP_FAILED:
                self._drop_below(path)
                _fail(self._run, record, {**failed.error, "step": failed.path or path}, self._now)
                self._changed(record)
        catch = catches(step.get("catch", ()), failed.error)
        if catch is None:
            return failed if failed.path else Failed(failed.error, path)
        error = {**failed.error, "step": failed.path or path}
        within = {**scope, "error": error}
        then = step["catch"][catch]["then"]
        return self._sequence(then, f"{path}!{catch}/", within, error)

    def _finish(self, step: Mapping[str, Any], path: str, value: Any) -> None:
        """Note that a step which holds others is done; a call notes that itself."""
        record = self._run.steps.get(path)
        if record is None or record.state in (STEP_DONE, STEP_FAILED) or self._collecting:
            return
        record.state, record.ended, record.due = STEP_DONE, self._now, None
        self._run.ordered += 1
        record.order = self._run.ordered
        self._changed(record)

    def _timed_out(self, step: Mapping[str, Any], record: StepRecord) -> bool:
        """Whether the timeout of a step that is no call has passed."""
        if self._collecting or "timeout" not in step or step["kind"] == "call":
            return False
        return record.state in (BEGUN, WAITING) and self._now >= (record.due or 0.0)

    def _collect(
        self, step: Mapping[str, Any], path: str, scope: Mapping[str, Any], outcome: Outcome
    ) -> None:
        record = self._run.steps.get(path)
        if record is None:
            return
        done = record.state == STEP_DONE
        if done or (record.state == STEP_FAILED and may_have_run(record.error)):
            result = outcome.value if done and isinstance(outcome, Value) else None
            order = record.order
            self._undo.append(_Undo(order, path, step["compensate"], dict(scope), result))

    # -- records ---------------------------------------------------------------------------------

    def _begin(self, step: Mapping[str, Any], path: str, state: str) -> StepRecord:
        record = StepRecord(path, step["kind"], state, self._now)
        timeout = step.get("timeout")
        if timeout is not None and step["kind"] != "call":
            record.due = self._now + timeout
        self._run.steps[path] = record
        self._changed(record)
        return record

    def _changed(self, record: StepRecord) -> None:
        self.decision.changed[record.path] = record

    def _due(self, at: float | None) -> None:
        if at is not None and (self.decision.due is None or at < self.decision.due):
            self.decision.due = at

    def _may_begin(self) -> bool:
        """Whether a step may begin now."""
        return not self._collecting and not self._run.suspended

    def _holder(self, step: Mapping[str, Any], path: str, record: StepRecord | None) -> bool:
        """Begin a step that holds others; whether it has begun."""
        if record is None:
            if not self._may_begin():
                return False
            record = self._begin(step, path, BEGUN)
        if record.state == BEGUN and not self._collecting:
            self._due(record.due)
        return True

    def _drop_below(self, path: str) -> None:
        """Cancel all that goes on in a step that has failed."""
        for other, record in self._run.steps.items():
            if other.startswith((f"{path}/", f"{path}[")) and other != path:
                self._drop(record)
        self.decision.calls = [c for c in self.decision.calls if not _is_in(c.path, path)]
        self.decision.evaluate = [e for e in self.decision.evaluate if not _is_in(e.key[0], path)]

    def _drop_all(self) -> None:
        for record in self._run.steps.values():
            self._drop(record)
        self.decision.calls.clear()
        self.decision.evaluate.clear()

    def _drop(self, record: StepRecord) -> None:
        if record.state in (STEP_DONE, STEP_FAILED):
            return
        if record.state == BEGUN and record.kind == "call" and not self._unsent(record):
            self.decision.cancel.append(record.path)
        error = failure_of("cancelled", "another step has failed, or the run was cancelled")
        if record.state != BEGUN or record.kind != "call" or self._unsent(record):
            error["ran"] = False
        _fail(self._run, record, error, self._now)
        self._changed(record)

    def _unsent(self, record: StepRecord) -> bool:
        return any(call.record is record for call in self.decision.calls)

    # -- values ----------------------------------------------------------------------------------

    def _evaluated(self, path: str, what: str, template: Any, scope: Mapping[str, Any]) -> Outcome:
        """A template's value, once it is there."""
        if not needs_evaluation(template):
            return Value(template)
        key = (path, what)
        found = self._run.values.get(key)
        if found is None:
            if self._may_begin() or self._collecting:
                self.decision.evaluate.append(Evaluation(key, template, dict(scope)))
            self.decision.parkable = False
            return PENDING
        outcome: Outcome = found
        return outcome

    # -- the kinds of steps ----------------------------------------------------------------------

    def _call(
        self,
        step: Mapping[str, Any],
        path: str,
        scope: Mapping[str, Any],
        record: StepRecord | None,
    ) -> Outcome:
        if record is not None and record.state == STEP_DONE:
            return Value(record.result)
        if record is not None and record.state == BEGUN and path in self._under_way:
            self.decision.parkable = False
            return PENDING
        if not self._may_begin():
            return PENDING
        if record is not None and record.state == RETRYING and self._now < (record.due or 0.0):
            self._due(record.due)
            return PENDING
        args: Outcome = Value(scope["last"])
        if "args" in step:
            args = self._evaluated(path, "args", step["args"], scope)
        if not isinstance(args, Value):
            return args
        self.decision.parkable = False
        again = record is not None and record.state == BEGUN
        if record is None:
            record = self._begin(step, path, BEGUN)
            record.shown = shown(args.value)
        if not again:
            record.state, record.due = BEGUN, None
            record.attempts += 1
            self._changed(record)
        self.decision.calls.append(StepCall(path, step, self._task, args.value, record, again))
        return PENDING

    def _parallel(
        self,
        step: Mapping[str, Any],
        path: str,
        scope: Mapping[str, Any],
        record: StepRecord | None,
    ) -> Outcome:
        if not self._holder(step, path, record):
            return PENDING
        branches = step["parallel"]
        named = isinstance(branches, Mapping)
        items = branches.items() if named else enumerate(branches)
        found: dict[Any, Any] = {}
        waiting = False
        for name, steps in items:
            outcome = self._sequence(steps, f"{path}/{name}/", scope, scope["last"])
            if isinstance(outcome, Failed):
                if not self._collecting:
                    return outcome
                waiting = True
            elif isinstance(outcome, Value):
                found[name] = outcome.value
            else:
                waiting = True
        if waiting:
            return PENDING
        return Value(found if named else list(found.values()))

    def _map(
        self,
        step: Mapping[str, Any],
        path: str,
        scope: Mapping[str, Any],
        record: StepRecord | None,
    ) -> Outcome:
        over: Outcome = Value(scope["last"])
        if "over" in step:
            over = self._evaluated(path, "over", step["over"], scope)
        if not isinstance(over, Value):
            return over
        items = over.value
        if not isinstance(items, (list, tuple)) or len(items) > MOST_ITEMS:
            text = f"{path}: expected a list of at most {MOST_ITEMS} items, got {items!r:.80}"
            return Failed(failure_of("expression", text), path)
        if not self._holder(step, path, record):
            return PENDING
        state = self._run.values.setdefault((path, "items"), {})
        front = state.setdefault("front", 0)
        results: dict[int, Any] = state.setdefault("results", {})
        failed: dict[int, Failed] = state.setdefault("failed", {})
        active, most = 0, step.get("concurrency", 10)
        for index in range(0 if self._collecting else front, len(items)):
            if (index in results or index in failed) and not self._collecting:
                continue
            within = {**scope, "item": items[index], "index": index}
            outcome = self._sequence(step["map"], f"{path}[{index}]/", within, items[index])
            if isinstance(outcome, Value):
                results[index] = outcome.value
            elif isinstance(outcome, Failed):
                failed[index] = outcome
                if len(failed) > step.get("tolerate", 0) and not self._collecting:
                    return outcome
            else:
                active += 1
                if active >= most and not self._collecting:
                    break
        while front in results or front in failed:
            front += 1
        state["front"] = front
        if len(results) + len(failed) < len(items):
            return PENDING
        return Value(
            [results[i] if i in results else {"error": failed[i].error} for i in range(len(items))]
        )

    def _choice(
        self,
        step: Mapping[str, Any],
        path: str,
        scope: Mapping[str, Any],
        record: StepRecord | None,
    ) -> Outcome:
        for index, choice in enumerate(step["choice"]):
            holds = self._evaluated(path, f"when{index}", choice["when"], scope)
            if not isinstance(holds, Value):
                return holds
            if is_true(holds.value):
                if not self._holder(step, path, record):
                    return PENDING
                return self._sequence(choice["then"], f"{path}/{index}/", scope, scope["last"])
        if not self._holder(step, path, record):
            return PENDING
        default = step.get("default", ())
        return self._sequence(default, f"{path}/default/", scope, scope["last"])

    def _wait(
        self,
        step: Mapping[str, Any],
        path: str,
        scope: Mapping[str, Any],
        record: StepRecord | None,
    ) -> Outcome:
        if record is None:
            if not self._may_begin():
                return PENDING
            kind = step["kind"]
            found = self._evaluated(path, kind, step[kind], scope)
            if not isinstance(found, Value):
                return found
            due = self._time_of(kind, found.value)
            if due is None:
                what = "seconds" if kind == "wait" else "a time with its zone"
                text = f"{path}: expected {what}, got {found.value!r:.80}"
                return Failed(failure_of("expression", text), path)
            record = self._begin(step, path, WAITING)
            record.due = due
        if record.state == STEP_DONE or (self._now >= (record.due or 0.0) and not self._collecting):
            return Value(scope["last"])
        self._due(record.due)
        return PENDING

    def _time_of(self, kind: str, value: Any) -> float | None:
        """When a wait ends."""
        if kind == "wait":
            if type(value) not in (int, float) or not 0 <= value <= LONGEST:
                return None
            return float(self._now + value)
        try:
            return moment(value)
        except (ValueError, OverflowError):
            return None

    def _signal(
        self,
        step: Mapping[str, Any],
        path: str,
        scope: Mapping[str, Any],
        record: StepRecord | None,
    ) -> Outcome:
        if record is not None and record.state == STEP_DONE:
            return Value(record.result)
        if self._collecting or (record is None and not self._may_begin()):
            return PENDING
        if record is None:
            record = self._begin(step, path, WAITING)
        waiting = self._run.signals.get(step["signal"])
        if waiting:
            number, value = waiting.pop(0)
            self.decision.consumed.append(number)
            record.result = value
            return Value(value)
        self._due(record.due)
        return PENDING

    def _subtask(
        self,
        step: Mapping[str, Any],
        path: str,
        scope: Mapping[str, Any],
        record: StepRecord | None,
    ) -> Outcome:
        args: Outcome = Value(scope["last"])
        if "args" in step:
            args = self._evaluated(path, "args", step["args"], scope)
        if not isinstance(args, Value):
            return args
        if not self._holder(step, path, record):
            return PENDING
        task = self._tasks[step["task"]]
        deadline = task.get("deadline")
        began = self._run.steps[path].began
        if deadline is not None and not self._collecting:
            if self._now >= began + deadline:
                text = f"{path}: the deadline of {step['task']} has passed"
                return Failed(failure_of("deadline", text), path)
            self._due(began + deadline)
        within = {
            "input": args.value,
            "last": args.value,
            "steps": {},
            "context": scope["context"],
        }
        before, self._task = self._task, step["task"]
        try:
            return self._sequence(task["steps"], f"{path}/", within, args.value)
        finally:
            self._task = before

    def _fail_step(
        self,
        step: Mapping[str, Any],
        path: str,
        scope: Mapping[str, Any],
        record: StepRecord | None,
    ) -> Outcome:
        if not self._may_begin():
            return PENDING
        failure = step["fail"]
        message = self._evaluated(path, "message", failure.get("message", ""), scope)
        if not isinstance(message, Value):
            return message
        return Failed(failure_of(failure["code"], str(message.value)), path)

    def _value_step(
        self,
        step: Mapping[str, Any],
        path: str,
        scope: Mapping[str, Any],
        record: StepRecord | None,
    ) -> Outcome:
        if record is not None and record.state == STEP_DONE:
            return Value(record.result)
        if not self._may_begin():
            return PENDING
        found = self._evaluated(path, "value", step["value"], scope)
        if isinstance(found, Value):
            record = record or self._begin(step, path, BEGUN)
            record.result = found.value
        return found


def _is_in(path: str, holder: str) -> bool:
    """Whether a step is in another one, or is that."""
    return path == holder or path.startswith((f"{holder}/", f"{holder}["))


__all__ = ["Decision", "Evaluation", "StepCall", "Value", "advance", "reset_failed", "step_done", "step_failed"]
