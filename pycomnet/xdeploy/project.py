"""A project of this machine that is installed into a gateway's environment."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet import defer
from twisted.internet.interfaces import IReactorThreads

from pycomnet.deferred import reporting
from pycomnet.errors import RemoteError
from pycomnet.xdeploy.deploy import Deployment
from pycomnet.xdeploy.farcode import FAR_PACKAGE, explained
from pycomnet.xdeploy.request import Venv, VenvProgress
from pycomnet.xdeploy.sdist import make_sdist, project_directory
from pycomnet.xdeploy.venvgateway import remember, request_for, venv_of

if TYPE_CHECKING:
    from pathlib import Path

    from twisted.internet.defer import Deferred

    from pycomnet.gateways.gateway import Gateway


class SetupFile:
    """A project of this machine.

    :param path: of its directory, or of ``setup.py`` or ``pyproject.toml`` in it.
    :raises InvalidRequirements: there is no project.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.directory = project_directory(path)

    def __repr__(self) -> str:
        return f"<SetupFile {self.directory}>"

    def sdist_remote_install(
        self,
        gateway: Gateway,
        *,
        upgrade: bool = False,
        progress: Callable[[VenvProgress], Any] | None = None,
    ) -> Deferred[Venv]:
        """Install the project, and what it depends on, where a gateway is in an environment.

        Its sdist is made here, and installed as pip would do it. As an environment never changes,
        another one is made that has the project as well, and the environment's name then means
        that. This gateway moves to it: what its code imports or starts from now on comes from
        there. Modules that are imported already stay as they are, and submodules of packages that
        are imported already still come from the old one.

        :param gateway: made by :func:`create_venv_gateway`.
        :param upgrade: whether to ask the index for what was resolved before.
        :param progress: as there.
        :returns: fires with the :class:`Venv`. Fails as there, with :class:`DeploymentFailed` if
            the gateway is in no environment. Cancelling it leaves the gateway as it is.
        """
        return _install(progress, self.directory, gateway, upgrade)


#: Each project is added to what the one before has made.
_installing: weakref.WeakKeyDictionary[Gateway, defer.DeferredLock] = weakref.WeakKeyDictionary()


@reporting
async def _install(
    report: Callable[[VenvProgress], object], directory: Path, gateway: Gateway, upgrade: bool
) -> Venv:
    async with _installing.setdefault(gateway, defer.DeferredLock()):
        return await _install_alone(report, directory, gateway, upgrade)


async def _install_alone(
    report: Callable[[VenvProgress], object], directory: Path, gateway: Gateway, upgrade: bool
) -> Venv:
    request = request_for(gateway)
    sdist = await make_sdist(
        directory,
        IReactorThreads(gateway.link.reactor),
        index=request.index,
        cache=request.cache,
    )
    name = sdist.name.rpartition("-")[0]
    others = [each for each in request.projects if each.name.rpartition("-")[0] != name]
    wanted = attrs.evolve(
        request,
        projects=(*others, sdist),
        upgrade=upgrade,
        progress=report,
    )
    deployment = Deployment(gateway, wanted)
    await deployment.run()
    try:
        await gateway.call(
            f"{FAR_PACKAGE}.environmentswitch:switch_environment",
            venv_of(gateway).path,
            deployment.venv.path,
            deployment.lock_path,
        )
    except RemoteError as problem:
        raise explained(problem) from None
    finally:
        deployment.close()
    remember(gateway, deployment.venv, wanted)
    return deployment.venv
