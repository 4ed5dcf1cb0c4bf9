"""The errors of workflows."""

from __future__ import annotations

from typing import Any

from pycomnet.errors import Overloaded, PycomnetError, ServiceError


class WorkflowConfigError(PycomnetError, ValueError):
    """A configuration of workflows that can't be used.

    :ivar problems: what is wrong with it, one text each; with line and column if there is a file.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class ExpressionError(ServiceError, ValueError):
    """An expression has no value here, or takes too long; a ``catch`` may take it."""

    code = "expression"


class RunFailed(ServiceError):
    """A run has ended with an error that nothing caught.

    :ivar run: its id.
    :ivar step: the path of the step that failed.
    :ivar error: that error's map, with ``code``, ``type`` and ``message``.
    """

    code = "workflow-failed"
    fields = ("run", "step", "error")
    run = step = ""
    error: dict[str, Any] = {}

    def __init__(
        self, message: str, run: str = "", step: str = "", error: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.run = run
        self.step = step
        self.error = error or {}


class RunCancelled(RunFailed):
    """A run was cancelled."""

    code = "workflow-cancelled"


class UnknownTask(ServiceError, LookupError):
    """The workflow service has no such task; the message lists those that it has."""

    code = "workflow-task"


class UnknownRun(ServiceError, LookupError):
    """There is no run of that id, or this user may not see it."""

    code = "workflow-run"


class RunConflict(ServiceError):
    """A run can't do that in its state, or its id is one of a run of another task or input."""

    code = "workflow-conflict"


class RunStoreFailed(ServiceError):
    """The store of runs can't read or write; nothing was changed."""

    code = "workflow-store"


class RunNotKept(RunStoreFailed):
    """The store can never store this value: it is too long, or of a type that it does not have.
    Nothing was changed."""

    code = "workflow-not-kept"


class RunFull(RunStoreFailed):
    """The run, or all runs that are not durable together, have reached a limit."""

    code = "workflow-full"


class RunStoreBusy(RunStoreFailed, Overloaded):
    """Too many operations wait for the store, because its database is slow or does not answer.
    Nothing was changed: try again later."""

    code = "workflow-busy"


class RunFilesFull(ServiceError):
    """There is no room for the blocks of binary data that a step returned."""

    code = "workflow-files-full"


class RunFileLost(ServiceError):
    """A block of binary data of an earlier step is not there any more, or is damaged."""

    code = "workflow-file-lost"


class FenceLost(RunStoreFailed):
    """Another workflow service has claimed the run."""

    code = "workflow-fence"
