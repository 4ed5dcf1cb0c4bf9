"""The state machine of a run: decides what comes next from the run's records.

It has no reactor, no clock and no randomness: the time is an argument. Its caller calls
:func:`advance`, commits the changed records, and then does what the :class:`Decision` says.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

from pycomnet.ext.workflow.decisions import (
    PENDING,
    Decision,
    Outcome,
    Value,
)
from pycomnet.ext.workflow.definition import Definition
from pycomnet.ext.workflow.records import (
    BEGUN,
    CANCELLED,
    COMPENSATING,
    DONE,
    FAILED,
    MOST_RESULT,
    RETRYING,
    RUNNING,
    STEP_DONE,
    StepRecord,
    WorkflowRun,
    size_of,
    step_key,
)
from pycomnet.ext.workflow.steperrors import (
    StepFailure,
    failure_of,
    may_have_run,
    retry_at,
    was_not_run,
)
from pycomnet.ext.workflow.steps import StepWalk
from pycomnet.ext.workflow.walk import Undo, fail_record


def advance(
    run: WorkflowRun, now: float, under_way: Container[str] = (), held: bool = False
) -> Decision:
    """Decide what comes next, and note it in the run's records.

    :param run: with its definition in ``pinned``.
    :param now: seconds since 1970.
    :param under_way: the paths of calls that are being made. A step that has begun and is not among
        them was begun before a crash.
    :param held: no step begins; calls under way continue.
    """
    walk = RunWalk(run, now, under_way)
    walk.held = held
    return walk.run()


def step_done(
    run: WorkflowRun, path: str, result: Any, now: float, files: Sequence[Any] = ()
) -> StepRecord | None:
    """Note the result of a step's call; None if the step is not under way any more.

    :param files: references to the blocks of the result.
    """
    record = run.steps.get(path)
    if record is None or record.state != BEGUN:
        return None
    record.state, record.result, record.ended, record.due = STEP_DONE, result, now, None
    record.files = files
    run.ordered += 1
    record.order = run.ordered
    run.values.pop((path, "args"), None)
    return record


def step_failed(
    run: WorkflowRun,
    path: str,
    error: dict[str, Any],
    now: float,
    retry: Mapping[str, Any] | None,
    safe: bool,
    random: Callable[[], float],
) -> StepRecord | None:
    """Note that a step's call has failed: the step waits for its next attempt, or has failed for
    good. None if it is not under way any more.

    :param retry: the step's setting for that.
    :param safe: whether it may run twice.
    :param random: gives numbers from 0 to 1.
    """
    record = run.steps.get(path)
    if record is None or record.state != BEGUN:
        return None
    record.error = error
    if may_have_run(error):
        record.unsure = record.unsure or not safe
    elif record.memory and not was_not_run(error):
        # The server that remembers the call has answered that it failed. Without such a memory an
        # answer says nothing about the attempts before.
        record.unsure = False
    if not record.unsure:
        record.memory = ""
    at = retry_at(retry, error, record.attempts, now, safe, random)
    if at is not None:
        record.state, record.due = RETRYING, at
    else:
        fail_record(run, record, error, now)
    return record


def unsure_steps(run: WorkflowRun) -> list[str]:
    """The steps of a failed run that a retry would repeat, that may have run, and whose calls no
    server remembers."""
    instead = _instead(run)
    return sorted(
        path
        for path, record in run.steps.items()
        if _is_unsure(record) and not record.memory and _begins_anew(run, path, record, instead)
    )


def _is_unsure(record: StepRecord) -> bool:
    """Whether a step of an ended run may have run. If the run was failed without asking the
    machine, so may a call that had begun."""
    return record.unsure or (record.kind == "call" and record.state == BEGUN)


def _instead(run: WorkflowRun) -> dict[str, list[StepRecord]]:
    """The path of a failed step -> the records of the steps of its ``catch``."""
    found: dict[str, list[StepRecord]] = {}
    for path, record in run.steps.items():
        for at, char in enumerate(path):
            if char == "!":
                found.setdefault(path[:at], []).append(record)
    return found


def reset_failed(
    run: WorkflowRun, definition: Definition, now: float, unsure: bool = False
) -> list[str]:
    """Let a failed run continue at the steps that failed.

    :param definition: the definition to continue with.
    :param unsure: call steps that may have run as if they had not. Otherwise their calls are
        repeated at the server that may remember them.
    :returns: the paths of the records that were removed or have changed.
    """
    instead = _instead(run)
    removed = {
        path for path, record in run.steps.items() if _begins_anew(run, path, record, instead)
    }
    # The records of a ``catch`` are obsolete if its step is repeated.
    removed |= {
        path
        for path in run.steps
        if any(path[:at] in removed for at, char in enumerate(path) if char == "!")
    }
    for path in removed:
        old = run.steps.pop(path)
        if _is_unsure(old) and old.kind == "call" and not unsure:
            kept = StepRecord(path, old.kind, RETRYING, now, old.attempts, memory=old.memory)
            kept.unsure = True
            run.steps[path] = kept
    deadline = definition.main.get("deadline")
    run.state, run.error, run.failure, run.result = RUNNING, None, None, None
    run.cancelling = run.suspended = False
    run.deadline = None if deadline is None else now + deadline
    run.definition, run.pinned = definition.hash, definition
    run.values.clear()
    return sorted(removed)


def _begins_anew(
    run: WorkflowRun, path: str, record: StepRecord, handlers: Mapping[str, list[StepRecord]]
) -> bool:
    """Whether a step of a failed run is repeated. A failed step is not if a ``catch`` handled its
    error, or if a step that contains it is done."""
    if "~" in path:
        return True
    if record.state == STEP_DONE:
        return False
    for at, char in enumerate(path):
        holder = run.steps.get(path[:at]) if char in "/[" else None
        if holder is not None and holder.state == STEP_DONE:
            return False
    instead = handlers.get(path)
    return not instead or any(one.state != STEP_DONE for one in instead)


#: The key, in a run's values, of the steps that are still to be undone. The last one is undone
#: next.
UNDO = ("", "undo")


class RunWalk(StepWalk):
    """A walk over a whole run: forward through its steps, or back through those that are undone."""

    def run(self) -> Decision:
        run, now = self._run, self._now
        if run.state == RUNNING:
            self._forward()
        if run.state == COMPENSATING:
            self._compensate()
        ended = run.ended
        if ended:
            self._drop_all()
            self.decision.due = None
        if ended or self.decision.changed:
            run.updated = now
        return self.decision

    def _forward(self) -> None:
        run = self._run
        outcome: Outcome
        if run.cancelling:
            outcome = StepFailure(failure_of("cancelled", "the run was cancelled"))
        elif run.deadline is not None and self._now >= run.deadline:
            outcome = StepFailure(failure_of("deadline", "the run's deadline has passed"))
        else:
            if run.deadline is not None:
                self._due(run.deadline)
            outcome = self._sequence(run.pinned.main["steps"], "", self._scope(), run.input)  # type: ignore[union-attr]
        if isinstance(outcome, Value) and run.durable:
            try:
                size_of(outcome.value, MOST_RESULT, "the run's result")
            except ValueError as problem:
                outcome = StepFailure(failure_of("too-long", str(problem)))
        if isinstance(outcome, Value):
            run.state, run.result = DONE, outcome.value
        elif isinstance(outcome, StepFailure):
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
        left: list[Undo] | None = run.values.get(UNDO)
        if left is None:
            self._collecting = True
            self._undo.clear()
            self._sequence(run.pinned.main["steps"], "", self._scope(), run.input)  # type: ignore[union-attr]
            if self.decision.evaluate:
                return
            self._collecting = False
            self.decision.due = None
            undone = set(run.undone)
            left = [one for one in self._undo if one.path not in undone]
            left.sort(key=lambda one: one.order)
            run.values[UNDO] = left
        while left:
            undo = left[-1]
            self._task = undo.task
            key = step_key(run.id, undo.path, run.nonce)
            scope = {**undo.scope, "result": undo.result, "key": key}
            outcome = self._sequence(undo.steps, f"{undo.path}~/", scope, undo.result)
            if outcome is PENDING:
                return
            left.pop()
            run.undone.append(undo.path)
            if isinstance(outcome, StepFailure) and run.failure is not None:
                failed = {**outcome.error, "step": outcome.path}
                run.failure.setdefault("compensation", []).append(failed)
        run.error = run.failure
        cancelled = run.cancelling and (run.failure or {}).get("code") == "cancelled"
        run.state = CANCELLED if cancelled else FAILED
