"""Drives a run's state machine without a reactor: time and results are the test's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pycomnet.ext.workflow import machine
from pycomnet.ext.workflow.decisions import Evaluation, StepCall, Value
from pycomnet.ext.workflow.definition import Definition, check_tasks
from pycomnet.ext.workflow.errors import ExpressionError
from pycomnet.ext.workflow.expressions import evaluate
from pycomnet.ext.workflow.records import StepRecord, WorkflowRun
from pycomnet.ext.workflow.steperrors import StepFailure, failure_of


def call(interface: str, **more: Any) -> dict[str, Any]:
    """A step that calls."""
    return {"interface": interface, **more}


class Drive:
    """A run, its calls under way, and what they give.

    :param answers: interface -> its result, an error's map (with ``code``), or a function of the
        arguments; what is not in it stays under way.
    :ivar calls: interface and arguments of each call that was made.
    """

    def __init__(
        self,
        steps: Any,
        input: Any = None,
        answers: dict[str, Any] | None = None,
        more: dict[str, Any] | None = None,
    ) -> None:
        tasks = check_tasks({"main": steps, **(more or {})})
        self.definition = Definition.of("main", tasks)
        self.run = WorkflowRun("r", "main", self.definition.hash, input, 1000.0)
        self.run.pinned = self.definition
        deadline = self.definition.main.get("deadline")
        self.run.deadline = None if deadline is None else 1000.0 + deadline
        self.now = 1000.0
        self.answers = answers or {}
        self.under_way: dict[str, StepCall] = {}
        self.calls: list[tuple[str, Any]] = []
        self.cancelled: list[str] = []
        self.safe = False
        self.due: float | None = None
        #: what a store would have
        self.kept: dict[str, bytes] = {}

    def go(self, seconds: float = 0.0) -> Drive:
        """Let time pass, and go on until nothing more happens."""
        self.now += seconds
        for _ in range(10_000):
            decision = machine.advance(self.run, self.now, self.under_way)
            self.due = decision.due
            for record in decision.changed.values():
                self.kept[record.path] = record.dump()
            for path in decision.cancel:
                self.cancelled.append(self.under_way.pop(path).step["interface"])
            for each in decision.evaluate:
                self.run.values[each.key] = self._value(each)
            for one in decision.calls:
                self.calls.append((one.step["interface"], one.args))
                self.under_way[one.path] = one
            answered = [self._answer(path) for path in list(self.under_way)]
            if not decision.evaluate and not any(answered):
                return self
        raise AssertionError("it never rests")

    def _value(self, wanted: Evaluation) -> Any:
        try:
            return Value(evaluate(wanted.template, wanted.scope))
        except ExpressionError as problem:
            return StepFailure(failure_of(problem.code, str(problem)), wanted.key[0])

    def _answer(self, path: str) -> bool:
        made = self.under_way[path]
        interface = made.step["interface"]
        if interface not in self.answers:
            return False
        answer = self.answers[interface]
        if isinstance(answer, list):
            answer = answer.pop(0) if answer else None
        if callable(answer):
            function: Callable[[Any], Any] = answer
            answer = function(made.args)
        del self.under_way[path]
        if isinstance(answer, dict) and "code" in answer:
            retry = made.step.get("retry")
            record = machine.step_failed(
                self.run, path, answer, self.now, retry, self.safe, lambda: 0.5
            )
        else:
            record = machine.step_done(self.run, path, answer, self.now)
        if record is not None:
            self.kept[path] = record.dump()
        return True

    def crash(self) -> Drive:
        """Lose all but what was kept."""
        steps = {path: StepRecord.load(data) for path, data in self.kept.items()}
        run = WorkflowRun.of(self.run.row(), steps)
        run.pinned = self.definition
        self.run, self.under_way = run, {}
        return self

    @property
    def interfaces(self) -> list[str]:
        """The interfaces that were called."""
        return [interface for interface, _ in self.calls]
