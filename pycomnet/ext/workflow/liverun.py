"""A run that is in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from twisted.internet import defer

from pycomnet.ext.workflow.decisions import StepCall
from pycomnet.ext.workflow.records import StepRecord, WorkflowRun
from pycomnet.ext.workflow.stepcalls import CallAttempt, CallFor


@attrs.define(eq=False)
class LiveRun:
    """A run in memory.

    Its flags are facts of their own, no lifecycle (that is the state of its ``run``): whether a
    call of the stepper is on the stack, whether the store has a commit of it, and whether it is
    out of memory change independently, as a store may refuse a commit at once, or be done with it
    after the run was dropped.

    :ivar fence: the fence of the store's claim; None for a run that is not durable.
    :ivar under_way: path -> the call that is made, or None before it is made.
    :ivar calls: path -> a call to be made once the records are committed.
    :ivar attempts: path -> what is known of a call that is made.
    :ivar dirty: records to be committed.
    :ivar consumed: numbers of messages that were taken.
    :ivar definition: the bytes of the definition that a retry has chosen, to be committed.
    :ivar size: the bytes of the results of its steps.
    :ivar evaluating: keys of the expressions that are evaluated in a thread.
    :ivar changed: whether there is more to commit than ``dirty``.
    :ivar stepping: whether the stepper is stepping it: a call from within does not step it again.
    :ivar committing: whether a commit is under way; it is stepped again after that.
    :ivar again: whether it is to be stepped again, for what came meanwhile.
    :ivar gone: whether it is out of memory: it has ended, is parked, or is another service's.
    :ivar broken: whether it was failed because it can't be stepped.
    :ivar whom: for whom its calls are made; known once there is one.
    :ivar bare: whether its steps can't be stored either, so that only its row is.
    :ivar timer: the next step, by time.
    :ivar waiting: fire once what is changed now is committed.
    """

    run: WorkflowRun
    fence: int | None
    under_way: dict[str, defer.Deferred[Any] | None] = attrs.field(factory=dict)
    calls: dict[str, StepCall] = attrs.field(factory=dict)
    attempts: dict[str, CallAttempt] = attrs.field(factory=dict)
    dirty: dict[str, StepRecord | None] = attrs.field(factory=dict)
    consumed: list[int] = attrs.field(factory=list)
    definition: bytes | None = None
    size: int = 0
    evaluating: set[Any] = attrs.field(factory=set)
    changed: bool = False
    stepping: bool = False
    committing: bool = False
    again: bool = False
    gone: bool = False
    broken: bool = False
    bare: bool = False
    timer: Any = None
    whom: CallFor | None = None
    waiting: list[defer.Deferred[None]] = attrs.field(factory=list)


def dumped(
    records: Mapping[str, StepRecord | None],
) -> tuple[tuple[str, bytes | None], ...]:
    """What a store keeps of records; None for those that were removed."""
    return tuple(
        (path, None if record is None else record.dump()) for path, record in records.items()
    )
