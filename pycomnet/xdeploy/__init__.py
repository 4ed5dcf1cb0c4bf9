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
    from pycomnet.xdeploy.farcode import EnvironmentRefused as EnvironmentRefused
    from pycomnet.xdeploy.project import SetupFile as SetupFile
    from pycomnet.xdeploy.request import Venv as Venv
    from pycomnet.xdeploy.request import VenvProgress as VenvProgress
    from pycomnet.xdeploy.requirements import InvalidRequirements as InvalidRequirements
    from pycomnet.xdeploy.resolve import BuildFailed as BuildFailed
    from pycomnet.xdeploy.resolve import DeploymentFailed as DeploymentFailed
    from pycomnet.xdeploy.resolve import ResolutionFailed as ResolutionFailed
    from pycomnet.xdeploy.upkeep import ListedVenv as ListedVenv
    from pycomnet.xdeploy.upkeep import Pruned as Pruned
    from pycomnet.xdeploy.upkeep import list_venvs as list
    from pycomnet.xdeploy.upkeep import prune_venvs as prune
    from pycomnet.xdeploy.upkeep import remove_venv as remove
    from pycomnet.xdeploy.venvgateway import create_venv as create_venv
    from pycomnet.xdeploy.venvgateway import create_venv_gateway as create_venv_gateway

#: name -> module and name in it
_WHERE = {
    "BuildFailed": "resolve:BuildFailed",
    "DeploymentFailed": "resolve:DeploymentFailed",
    "EnvironmentRefused": "farcode:EnvironmentRefused",
    "InvalidRequirements": "requirements:InvalidRequirements",
    "ListedVenv": "upkeep:ListedVenv",
    "Pruned": "upkeep:Pruned",
    "ResolutionFailed": "resolve:ResolutionFailed",
    "SetupFile": "project:SetupFile",
    "Venv": "request:Venv",
    "VenvProgress": "request:VenvProgress",
    "create_venv": "venvgateway:create_venv",
    "create_venv_gateway": "venvgateway:create_venv_gateway",
    "list": "upkeep:list_venvs",
    "prune": "upkeep:prune_venvs",
    "remove": "upkeep:remove_venv",
}

__all__ = [
    "BuildFailed",
    "DeploymentFailed",
    "EnvironmentRefused",
    "InvalidRequirements",
    "ListedVenv",
    "Pruned",
    "ResolutionFailed",
    "SetupFile",
    "Venv",
    "VenvProgress",
    "create_venv",
    "create_venv_gateway",
    "list",
    "prune",
    "remove",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, there = _WHERE[name].partition(":")
    try:
        value = getattr(import_module(f"{__name__}.{module}"), there)
    except ModuleNotFoundError as problem:
        if problem.name != "packaging":
            raise
        raise ImportError(
            "environments need more packages: pip install 'pycomnet[xdeploy]'"
        ) from problem
    globals()[name] = value
    return value


def __dir__() -> Any:
    return sorted([*globals(), *_WHERE])
