"""A walk over the steps of a run: what all kinds of steps share."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

import attrs

from pycomnet.ext.workflow.decisions import (
    HOLDERS,
    PENDING,
    Decision,
    Evaluation,
    Outcome,
    Value,
)
from pycomnet.ext.workflow.expressions import needs_evaluation
from pycomnet.ext.workflow.records import (
    BEGUN,
    RUNNING,
    STEP_DONE,
    STEP_FAILED,
    WAITING,
    StepRecord,
    WorkflowRun,
)
from pycomnet.ext.workflow.steperrors import StepFailure, catches, failure_of, may_have_run
from pycomnet.ext.workflow.stepkinds import MOST_RECORDS

#: A step of a definition, and the values that its expressions may use.
Step = Mapping[str, Any]
Scope = Mapping[str, Any]
#: A step's record, if it has begun.
Record = StepRecord | None


def fail_record(run: WorkflowRun, record: StepRecord, error: dict[str, Any], now: float) -> None:
    """Note in a step's record that it has failed for good."""
    record.state, record.error, record.ended, record.due = STEP_FAILED, error, now, None
    run.ordered += 1
    record.order = run.ordered


@attrs.frozen
class Undo:
    """A step that is to be undone."""

    order: int
    path: str
    steps: Any
    scope: Scope
    result: Any
    task: str


class Walk:
    """One walk over the steps of a run.

    :ivar decision: what the walk decides.
    """

    def __init__(self, run: WorkflowRun, now: float, under_way: Container[str]) -> None:
        assert run.pinned is not None
        self._run = run
        self._now = now
        self._under_way = under_way
        self._tasks = run.pinned.tasks
        self._task = run.pinned.task
        self.decision = Decision()
        #: whether no step begins, as the service stops
        self.held = False
        #: whether the walk only collects the steps that are to be undone, and begins none
        self._collecting = False
        self._undo: list[Undo] = []

    def _walk(self, step: Step, path: str, scope: Scope, record: Record) -> Outcome:
        """Walk a step by its kind."""
        raise NotImplementedError

    def _scope(self) -> dict[str, Any]:
        run = self._run
        context = {
            "run": run.id,
            "task": run.task,
            "started": run.created,
            "on_behalf_of": run.caller or None,
        }
        return {"input": run.input, "last": run.input, "steps": {}, "context": context}

    # -- lists of steps --------------------------------------------------------------------------

    def _sequence(self, steps: Any, prefix: str, scope: Scope, last: Any) -> Outcome:
        results = dict(scope["steps"])
        here = {**scope, "steps": results}
        records = self._run.steps
        for step in steps:
            name = step["name"]
            path = prefix + name
            record = records.get(path)
            if (
                record is not None
                and record.state == STEP_DONE
                and step["kind"] == "call"
                and not self._collecting
            ):
                # Most steps of a long run: each walk passes all of them.
                last = results[name] = record.result
                continue
            here["last"] = last
            outcome = self._step(step, path, here, record)
            if not isinstance(outcome, Value):
                return outcome
            last = results[name] = outcome.value
        return Value(last)

    def _step(self, step: Step, path: str, scope: Scope, record: Record) -> Outcome:
        key = (path, "done")
        if record is not None and record.state == STEP_FAILED:
            error = record.error or {}
            outcome: Outcome = StepFailure(error, error.get("step", path))
            if self._collecting:
                self._walk(step, path, scope, record)
        elif record is None and self._is_too_long():
            text = f"the run has {MOST_RECORDS} steps: no more begin"
            outcome = StepFailure(failure_of("too-long", text), path)
        elif key in self._run.values and not self._collecting:
            return Value(self._run.values[key])
        elif record is not None and record.due is not None and self._timed_out(step, record):
            outcome = StepFailure(
                failure_of("deadline", f"{path}: no end within its timeout"), path
            )
        else:
            outcome = self._walk(step, path, scope, record)
        if isinstance(outcome, StepFailure):
            outcome = self._failed(step, path, scope, outcome)
        elif isinstance(outcome, Value):
            self._finish(path)
            if step["kind"] in HOLDERS:
                self._run.values[key] = outcome.value
        if self._collecting and "compensate" in step:
            self._collect(step, path, scope, outcome)
        return outcome

    def _failed(self, step: Step, path: str, scope: Scope, failed: StepFailure) -> Outcome:
        record = self._run.steps.get(path)
        if not self._collecting:
            if record is None:
                record = self._begin(step, path, STEP_FAILED)
                record.state = BEGUN
            if record.state != STEP_FAILED:
                if step["kind"] in HOLDERS:
                    self._drop_below(path)
                fail_record(
                    self._run, record, {**failed.error, "step": failed.path or path}, self._now
                )
                self._changed(record)
        catch = catches(step.get("catch", ()), failed.error)
        if catch is None:
            return failed if failed.path else StepFailure(failed.error, path)
        error = {**failed.error, "step": failed.path or path}
        within = {**scope, "error": error}
        then = step["catch"][catch]["then"]
        return self._sequence(then, f"{path}!{catch}/", within, error)

    def _finish(self, path: str) -> None:
        """Note that a step is done, unless it is a call: :func:`~.machine.step_done` notes that."""
        record = self._run.steps.get(path)
        if record is None or record.state in (STEP_DONE, STEP_FAILED) or self._collecting:
            return
        record.state, record.ended, record.due = STEP_DONE, self._now, None
        self._run.ordered += 1
        record.order = self._run.ordered
        self._changed(record)

    def _timed_out(self, step: Step, record: StepRecord) -> bool:
        """Whether the timeout of a step that is not a call has passed."""
        if self._collecting or "timeout" not in step or step["kind"] == "call":
            return False
        if step["kind"] == "signal" and self._run.signals.get(step["signal"]):
            return False  # the signal is here, and may have come in time
        return record.state in (BEGUN, WAITING) and self._now >= (record.due or 0.0)

    def _collect(self, step: Step, path: str, scope: Scope, outcome: Outcome) -> None:
        record = self._run.steps.get(path)
        if record is None:
            return
        done = record.state == STEP_DONE
        if done or (record.state == STEP_FAILED and _may_have_run(record)):
            result = outcome.value if done and isinstance(outcome, Value) else None
            order = record.order
            self._undo.append(
                Undo(order, path, step["compensate"], dict(scope), result, self._task)
            )

    # -- records ---------------------------------------------------------------------------------

    def _begin(self, step: Step, path: str, state: str) -> StepRecord:
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
        return not self._collecting and not self._run.suspended and not self.held

    def _is_too_long(self) -> bool:
        return len(self._run.steps) >= MOST_RECORDS and self._run.state == RUNNING

    def _holder(self, step: Step, path: str, record: StepRecord | None) -> bool:
        """Begin a step that contains others; return whether it has begun."""
        if record is None:
            if not self._may_begin():
                return False
            record = self._begin(step, path, BEGUN)
        if record.state == BEGUN and not self._collecting:
            self._due(record.due)
        return True

    def _drop_below(self, path: str) -> None:
        """Cancel the steps in progress within a step that has failed."""
        for other, record in self._run.steps.items():
            if other.startswith((f"{path}/", f"{path}[")) and other != path:
                self._drop(record)
        self.decision.calls = [c for c in self.decision.calls if not _is_in(c.path, path)]
        self.decision.evaluate = [e for e in self.decision.evaluate if not _is_in(e.key[0], path)]

    def _drop_all(self) -> None:
        for record in self._run.steps.values():
            if record.state not in (STEP_DONE, STEP_FAILED):
                self._drop(record)
        self.decision.calls.clear()
        self.decision.evaluate.clear()

    def _drop(self, record: StepRecord) -> None:
        if record.state in (STEP_DONE, STEP_FAILED):
            return
        if record.state == BEGUN and record.kind == "call" and not self._unsent(record):
            self.decision.cancel.append(record.path)
            record.unsure = True
        error = failure_of("cancelled", "another step has failed, or the run was cancelled")
        if record.state != BEGUN or record.kind != "call" or self._unsent(record):
            error["ran"] = False
        fail_record(self._run, record, error, self._now)
        self._changed(record)

    def _unsent(self, record: StepRecord) -> bool:
        return any(call.record is record for call in self.decision.calls)

    # -- values ----------------------------------------------------------------------------------

    def _evaluated(self, path: str, what: str, template: Any, scope: Scope) -> Outcome:
        """The value of a template, or PENDING until it has been evaluated."""
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


def _may_have_run(record: StepRecord) -> bool:
    """Whether a step that has failed may have had its effect, in its last attempt or before."""
    return record.unsure or may_have_run(record.error)


def _is_in(path: str, holder: str) -> bool:
    """Whether a step is another one, or is within it."""
    return path == holder or path.startswith((f"{holder}/", f"{holder}["))
