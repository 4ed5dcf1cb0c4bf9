"""What the state machine of a run decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from pycomnet.ext.workflow.records import StepRecord
from pycomnet.ext.workflow.steperrors import StepFailure


@attrs.frozen
class Value:
    """A step, or a list of steps, is done."""

    value: Any


#: Kinds of steps that contain others: their results are made of the results of those.
HOLDERS = frozenset({"parallel", "map", "choice", "task"})


class _Pending:
    """The type of :data:`PENDING`: a step, or a list of steps, is not done."""


PENDING = _Pending()
Outcome = Value | StepFailure | _Pending


@attrs.frozen
class Evaluation:
    """A template that has to be evaluated; its value goes to ``WorkflowRun.values[key]``."""

    key: tuple[str, str]
    template: Any
    scope: Mapping[str, Any]


@attrs.frozen
class StepCall:
    """A call that has to be made.

    :ivar again: whether it was begun before a crash, and may have run.
    :ivar unsure: whether an attempt before this one may have run.
    :ivar attached: references to files of earlier steps, which go with it.
    """

    path: str
    step: Mapping[str, Any]
    task: str
    args: Any
    record: StepRecord
    again: bool = False
    unsure: bool = False
    attached: Sequence[Any] = ()


@attrs.define
class Decision:
    """What is to be done next.

    :ivar evaluate: expressions; the machine goes on when they have values.
    :ivar calls: to be made once ``changed`` is committed.
    :ivar cancel: paths of calls under way that are not wanted any more.
    :ivar changed: records of steps that are to be committed.
    :ivar due: when the run has to be stepped again, if nothing happens before.
    :ivar parkable: whether nothing is under way: the run waits only for times and signals.
    """

    evaluate: list[Evaluation] = attrs.field(factory=list)
    calls: list[StepCall] = attrs.field(factory=list)
    cancel: list[str] = attrs.field(factory=list)
    changed: dict[str, StepRecord] = attrs.field(factory=dict)
    due: float | None = None
    parkable: bool = True
