"""Messages to a run: signals, and requests to cancel, suspend, resume or retry it."""

from __future__ import annotations

from typing import Any

from pycomnet.ext.workflow import machine
from pycomnet.ext.workflow.definition import Definition
from pycomnet.ext.workflow.errors import RunFull
from pycomnet.ext.workflow.records import MOST_SIGNALS, RETRIED, WorkflowRun

SIGNAL, CANCEL, SUSPEND, RESUME, RETRY = "signal", "cancel", "suspend", "resume", "retry"


#: The name of a ``retry`` that also repeats steps that may have run.
UNSURE = "unsure"


def apply(run: WorkflowRun, kind: str, name: str, value: Any, now: float) -> list[str]:
    """Apply a message to a run. One that does not fit the run's state changes nothing.

    :param name: the signal's name; for a ``retry`` :data:`UNSURE` or nothing.
    :param value: the signal's value; for a ``retry`` the definition to continue with, as bytes, or
        None for the pinned one.
    :returns: the paths of steps whose records were removed or have changed.
    :raises RunFull: too many signals wait in it.
    """
    if kind == RETRY:
        if run.state in RETRIED and not run.undone:
            assert run.pinned is not None
            definition = run.pinned if value is None else Definition.load(value)
            return machine.reset_failed(run, definition, now, unsure=name == UNSURE)
    elif run.ended:
        pass
    elif kind == SIGNAL:
        if sum(map(len, run.signals.values())) >= MOST_SIGNALS:
            raise RunFull(f"{MOST_SIGNALS} signals wait in the run {run.id!r} already")
        run.signals.setdefault(name, []).append(value)
    elif kind == CANCEL:
        run.cancelling = True
    elif kind in (SUSPEND, RESUME):
        run.suspended = kind == SUSPEND
    return []
