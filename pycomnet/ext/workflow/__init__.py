"""Chains of calls to services, that finish whatever dies meanwhile.

``workflow("/demo/workflow/1")`` is a workflow service, which ``twistd pycomnet-workflow`` runs;
:class:`Task` makes its tasks in Python. docs/howto/workflow.rst begins at the beginning.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pycomnet.ext.workflow.builder import Task as Task
    from pycomnet.ext.workflow.client import Workflow as Workflow
    from pycomnet.ext.workflow.client import workflow as workflow
    from pycomnet.ext.workflow.definition import read_config as read_config
    from pycomnet.ext.workflow.errors import ExpressionError as ExpressionError
    from pycomnet.ext.workflow.errors import FenceLost as FenceLost
    from pycomnet.ext.workflow.errors import RunCancelled as RunCancelled
    from pycomnet.ext.workflow.errors import RunConflict as RunConflict
    from pycomnet.ext.workflow.errors import RunFailed as RunFailed
    from pycomnet.ext.workflow.errors import RunStoreFailed as RunStoreFailed
    from pycomnet.ext.workflow.errors import UnknownRun as UnknownRun
    from pycomnet.ext.workflow.errors import UnknownTask as UnknownTask
    from pycomnet.ext.workflow.errors import WorkflowConfigError as WorkflowConfigError
    from pycomnet.ext.workflow.service import WorkflowService as WorkflowService

_WHERE = {
    "ExpressionError": "errors",
    "FenceLost": "errors",
    "RunCancelled": "errors",
    "RunConflict": "errors",
    "RunFailed": "errors",
    "RunStoreFailed": "errors",
    "Task": "builder",
    "UnknownRun": "errors",
    "UnknownTask": "errors",
    "Workflow": "client",
    "WorkflowConfigError": "errors",
    "WorkflowService": "service",
    "read_config": "definition",
    "workflow": "client",
}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # The errors first: a caller raises a service's errors by their codes.
    import_module(f"{__name__}.errors")
    value = getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
