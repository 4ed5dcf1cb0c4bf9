"""The kinds of steps: what each does in a walk over a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from pycomnet.ext.workflow.decisions import PENDING, Outcome, StepCall, Value
from pycomnet.ext.workflow.expressions import is_true
from pycomnet.ext.workflow.records import (
    BEGUN,
    RETRYING,
    STEP_DONE,
    WAITING,
)
from pycomnet.ext.workflow.steperrors import StepFailure, failure_of
from pycomnet.ext.workflow.stepkinds import LONGEST, MOST_ITEMS
from pycomnet.ext.workflow.timestamps import timestamp
from pycomnet.ext.workflow.valuetext import shown
from pycomnet.ext.workflow.walk import Record, Scope, Step, Walk


class StepWalk(Walk):
    """A walk that knows the kinds of steps."""

    def _walk(self, step: Step, path: str, scope: Scope, record: Record) -> Outcome:
        return self._KINDS[step["kind"]](self, step, path, scope, record)

    def _given(self, step: Step, path: str, name: str, scope: Scope) -> Outcome:
        """A step's input: the value of its own expression, or the result of the step before it."""
        if name in step:
            return self._evaluated(path, name, step[name], scope)
        return Value(scope["last"])

    def _call(self, step: Step, path: str, scope: Scope, record: Record) -> Outcome:
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
        args = self._given(step, path, "args", scope)
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
        attached = self._attached(step["attach"], path) if "attach" in step else ()
        self.decision.calls.append(
            StepCall(path, step, self._task, args.value, record, again, record.unsure, attached)
        )
        return PENDING

    def _attached(self, names: Sequence[str], path: str) -> Sequence[Any]:
        """The files of earlier steps, in this list of steps or in one that holds it."""
        found: list[Any] = []
        for name in names:
            at = len(path)
            while at >= 0:
                at = path.rfind("/", 0, at)
                record = self._run.steps.get(path[: at + 1] + name)
                if record is not None:
                    found += record.files
                    break
        return found

    def _parallel(self, step: Step, path: str, scope: Scope, record: Record) -> Outcome:
        if not self._holder(step, path, record):
            return PENDING
        branches = step["parallel"]
        named = isinstance(branches, Mapping)
        items = branches.items() if named else enumerate(branches)
        found: dict[Any, Any] = {}
        waiting = False
        for name, steps in items:
            outcome = self._sequence(steps, f"{path}/{name}/", scope, scope["last"])
            if isinstance(outcome, StepFailure):
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

    def _map(self, step: Step, path: str, scope: Scope, record: Record) -> Outcome:
        if record is None and self._collecting:
            return PENDING
        over = self._given(step, path, "over", scope)
        if not isinstance(over, Value):
            return over
        items = over.value
        if not isinstance(items, (list, tuple)) or len(items) > MOST_ITEMS:
            text = f"{path}: expected a list of at most {MOST_ITEMS} items, got {shown(items, 80)}"
            return StepFailure(failure_of("expression", text), path)
        if not self._holder(step, path, record):
            return PENDING
        state = self._run.values.setdefault((path, "items"), {})
        front = state.setdefault("front", 0)
        results: dict[int, Any] = state.setdefault("results", {})
        failed: dict[int, StepFailure] = state.setdefault("failed", {})
        active, most = 0, step.get("concurrency", 10)
        for index in range(0 if self._collecting else front, len(items)):
            if (index in results or index in failed) and not self._collecting:
                continue
            within = {**scope, "item": items[index], "index": index}
            outcome = self._sequence(step["map"], f"{path}[{index}]/", within, items[index])
            if isinstance(outcome, Value):
                results[index] = outcome.value
            elif isinstance(outcome, StepFailure):
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

    def _choice(self, step: Step, path: str, scope: Scope, record: Record) -> Outcome:
        if record is None and self._collecting:
            return PENDING
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

    def _wait(self, step: Step, path: str, scope: Scope, record: Record) -> Outcome:
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
                text = f"{path}: expected {what}, got {shown(found.value, 80)}"
                return StepFailure(failure_of("expression", text), path)
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
            return timestamp(value)
        except (ValueError, OverflowError):
            return None

    def _signal(self, step: Step, path: str, scope: Scope, record: Record) -> Outcome:
        if record is not None and record.state == STEP_DONE:
            return Value(record.result)
        if self._collecting or (record is None and not self._may_begin()):
            return PENDING
        if record is None:
            record = self._begin(step, path, WAITING)
        waiting = self._run.signals.get(step["signal"])
        if waiting:
            value = record.result = waiting.pop(0)
            if not waiting:
                del self._run.signals[step["signal"]]
            return Value(value)
        self._due(record.due)
        return PENDING

    def _subtask(self, step: Step, path: str, scope: Scope, record: Record) -> Outcome:
        if record is None and self._collecting:
            return PENDING
        args = self._given(step, path, "args", scope)
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
                return StepFailure(failure_of("deadline", text), path)
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

    def _fail_step(self, step: Step, path: str, scope: Scope, record: Record) -> Outcome:
        if not self._may_begin():
            return PENDING
        failure = step["fail"]
        message = self._evaluated(path, "message", failure.get("message", ""), scope)
        if not isinstance(message, Value):
            return message
        text = message.value if isinstance(message.value, str) else shown(message.value)
        return StepFailure(failure_of(failure["code"], text), path)

    def _value_step(self, step: Step, path: str, scope: Scope, record: Record) -> Outcome:
        if record is not None and record.state == STEP_DONE:
            return Value(record.result)
        if not self._may_begin():
            return PENDING
        found = self._evaluated(path, "value", step["value"], scope)
        if isinstance(found, Value):
            record = record or self._begin(step, path, BEGUN)
            record.result = found.value
        return found

    #: kind of step -> the method that walks it
    _KINDS: ClassVar[Mapping[str, Callable[..., Outcome]]] = {
        "call": _call,
        "parallel": _parallel,
        "map": _map,
        "choice": _choice,
        "wait": _wait,
        "until": _wait,
        "signal": _signal,
        "task": _subtask,
        "fail": _fail_step,
        "value": _value_step,
    }
