"""Virtual environments at far sides, without Deferreds: as :mod:`pycomnet.xdeploy`.

Each function takes ``timeout`` in seconds; ``progress`` is called in a thread.
"""

from __future__ import annotations

import builtins
import os
from collections.abc import Callable, Iterable
from typing import Any

from pycomnet.blocking import Gateway
from pycomnet.blocking.waiting import wait_for
from pycomnet.blocking.wrapper import in_pool_thread, to_blocking_api, to_deferred_api
from pycomnet.xdeploy import project, upkeep, venvgateway
from pycomnet.xdeploy.farcode import EnvironmentRefused
from pycomnet.xdeploy.request import Venv, VenvProgress
from pycomnet.xdeploy.requirements import InvalidRequirements
from pycomnet.xdeploy.resolve import BuildFailed, DeploymentFailed, ResolutionFailed
from pycomnet.xdeploy.upkeep import ListedVenv, Pruned

ProgressCallback = Callable[[VenvProgress], Any]


def _call(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    timeout: float | None,
    progress: ProgressCallback | None = None,
    **options: Any,
) -> Any:
    if progress is not None:
        options["progress"] = in_pool_thread(progress)
    args = to_deferred_api(args)
    return to_blocking_api(wait_for(lambda: function(*args, **options), timeout, function.__name__))


def create_venv(
    gateway: Gateway,
    name: str,
    requirements: str | Iterable[str] = "",
    *,
    constraints: str | Iterable[str] = (),
    python: str | os.PathLike[str] | Iterable[str] | None = None,
    upgrade: bool = False,
    index: str | os.PathLike[str] | None = None,
    install: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] = (),
    far: bool = False,
    compile: bool = True,
    directory: str | None = None,
    progress: ProgressCallback | None = None,
    timeout: float | None = None,
) -> Venv:
    """As :func:`pycomnet.xdeploy.create_venv`."""
    made: Venv = _call(
        venvgateway.create_venv,
        (gateway, name, requirements),
        timeout,
        progress,
        constraints=constraints,
        python=python,
        upgrade=upgrade,
        index=index,
        install=install,
        far=far,
        compile=compile,
        directory=directory,
    )
    return made


def create_venv_gateway(
    gateway: Gateway,
    name: str,
    requirements: str | Iterable[str] = "",
    *,
    constraints: str | Iterable[str] = (),
    python: str | os.PathLike[str] | Iterable[str] | None = None,
    upgrade: bool = False,
    index: str | os.PathLike[str] | None = None,
    install: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] = (),
    far: bool = False,
    compile: bool = True,
    directory: str | None = None,
    id: str | None = None,
    progress: ProgressCallback | None = None,
    timeout: float | None = None,
) -> Gateway:
    """As :func:`pycomnet.xdeploy.create_venv_gateway`."""
    made: Gateway = _call(
        venvgateway.create_venv_gateway,
        (gateway, name, requirements),
        timeout,
        progress,
        constraints=constraints,
        python=python,
        upgrade=upgrade,
        index=index,
        install=install,
        far=far,
        compile=compile,
        directory=directory,
        id=id,
    )
    return made


class SetupFile:
    """As :class:`pycomnet.xdeploy.SetupFile`."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._wrapped = project.SetupFile(path)
        self.directory = self._wrapped.directory

    def __repr__(self) -> str:
        return repr(self._wrapped)

    def sdist_remote_install(
        self,
        gateway: Gateway,
        *,
        upgrade: bool = False,
        progress: ProgressCallback | None = None,
        timeout: float | None = None,
    ) -> Venv:
        """As :meth:`pycomnet.xdeploy.SetupFile.sdist_remote_install`."""
        made: Venv = _call(
            self._wrapped.sdist_remote_install, (gateway,), timeout, progress, upgrade=upgrade
        )
        return made


def list(
    gateway: Gateway, *, directory: str | None = None, timeout: float | None = None
) -> builtins.list[ListedVenv]:
    """As ``pycomnet.xdeploy.list``."""
    found: builtins.list[ListedVenv] = _call(
        upkeep.list_venvs, (gateway,), timeout, directory=directory
    )
    return found


def remove(
    gateway: Gateway, name: str, *, directory: str | None = None, timeout: float | None = None
) -> bool:
    """As ``pycomnet.xdeploy.remove``."""
    return bool(_call(upkeep.remove_venv, (gateway, name), timeout, directory=directory))


def prune(
    gateway: Gateway, *, directory: str | None = None, timeout: float | None = None
) -> Pruned:
    """As ``pycomnet.xdeploy.prune``."""
    made: Pruned = _call(upkeep.prune_venvs, (gateway,), timeout, directory=directory)
    return made


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
