"""Virtual environments at far sides, and gateways in them.

::

    from pycomnet import xdeploy

    worker = await xdeploy.create_venv_gateway(gateway, "work", "requests>=2")

The names below are loaded when they are first used. The extra ``pycomnet[xdeploy]`` installs what
they need: pip, build and packaging.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pycomnet.xdeploy.deploy import EnvironmentRefused as EnvironmentRefused
    from pycomnet.xdeploy.deploy import Venv as Venv
    from pycomnet.xdeploy.deploy import VenvProgress as VenvProgress
    from pycomnet.xdeploy.deploy import create_venv as create_venv
    from pycomnet.xdeploy.deploy import create_venv_gateway as create_venv_gateway
    from pycomnet.xdeploy.requirements import InvalidRequirements as InvalidRequirements
    from pycomnet.xdeploy.resolve import BuildFailed as BuildFailed
    from pycomnet.xdeploy.resolve import DeploymentFailed as DeploymentFailed
    from pycomnet.xdeploy.resolve import ResolutionFailed as ResolutionFailed

_WHERE = {
    "BuildFailed": "resolve",
    "DeploymentFailed": "resolve",
    "EnvironmentRefused": "deploy",
    "InvalidRequirements": "requirements",
    "ResolutionFailed": "resolve",
    "Venv": "deploy",
    "VenvProgress": "deploy",
    "create_venv": "deploy",
    "create_venv_gateway": "deploy",
}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
