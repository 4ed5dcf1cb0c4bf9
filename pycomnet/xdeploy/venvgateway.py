"""Makes environments where a gateway is, and gateways in them."""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import attrs

from pycomnet.deferred import reporting
from pycomnet.gateways.spec import Spec
from pycomnet.gateways.transports.routes import has_fork_server
from pycomnet.xdeploy.deploy import Deployment
from pycomnet.xdeploy.request import Venv, VenvOptions, VenvProgress, VenvRequest, request_of
from pycomnet.xdeploy.resolve import DeploymentFailed

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from pycomnet.gateways.gateway import Gateway

#: Takes a lock on the environment's use, which ends with the process.
KEEP = """\
import fcntl, os
fcntl.flock(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), fcntl.LOCK_SH)
"""
#: The environments of gateways that were made here, and what was asked for.
_venvs: weakref.WeakKeyDictionary[Gateway, tuple[Venv, VenvRequest]] = weakref.WeakKeyDictionary()


def remember(gateway: Gateway, venv: Venv, request: VenvRequest) -> None:
    """Remember in which environment a gateway is."""
    # Who is told of steps may refer to the gateway, which then would never go.
    _venvs[gateway] = venv, attrs.evolve(request, progress=_nothing)


def _nothing(progress: VenvProgress) -> None:
    pass


def venv_of(gateway: Gateway) -> Venv:
    """The environment that a gateway is in.

    :raises DeploymentFailed: it is in none that was made here.
    """
    return _found(gateway)[0]


def request_for(gateway: Gateway) -> VenvRequest:
    """What the environment of a gateway was made for.

    :raises DeploymentFailed: it is in none that was made here.
    """
    return _found(gateway)[1]


def _found(gateway: Gateway) -> tuple[Venv, VenvRequest]:
    if gateway not in _venvs:
        raise DeploymentFailed(
            f"gateway {gateway.id} is in no environment of its own: make it with "
            "create_venv_gateway(gateway, name, requirements)"
        )
    return _venvs[gateway]


def beside(gateway: Gateway, python: tuple[str, ...], **changes: Any) -> Spec:
    """The spec of a gateway where this one is, with another interpreter.

    It is started from where that one was only if that is the interpreter of who started it. Any
    other command may be one that runs its arguments elsewhere (``sudo -u``, ``docker exec``, a
    script), and the far side names the interpreter: it is started there.

    :param changes: of other keys of the spec.
    """
    spec = gateway.spec
    env = {**spec.env, **changes.pop("env", {})}
    own = spec.python is None or (spec.via is None and _is_interpreter(spec.python))
    if spec.transport == "popen" and own:
        return attrs.evolve(spec, python=python, env=env, resume=False, **{"id": None, **changes})
    return Spec(
        transport="popen",
        via=gateway.id,
        python=python,
        env=env,
        # What a worker starts has its niceness.
        nice=spec.nice if has_fork_server(spec) else 0,
        execmodel=spec.execmodel,
        trusted=spec.trusted,
        max_value=spec.max_value,
        max_items=spec.max_items,
        **changes,
    )


def _is_interpreter(python: tuple[str, ...]) -> bool:
    """Whether this is an interpreter of this machine: this program's, or Jython, which can't start
    gateways itself."""
    return python == (sys.executable,) or (
        len(python) == 1 and os.path.basename(python[0]) == "jython"
    )


async def deploy(gateway: Gateway, request: VenvRequest) -> tuple[Deployment, Gateway | None]:
    """Have an environment made.

    :returns: the deployment, which has to be closed; and the gateway with the interpreter that the
        request names, which has to be ended, if one was needed.
    """
    deployment = Deployment(gateway, request, look=request.python is not None)
    await deployment.run()
    if deployment.ready or request.python is None:
        return deployment, None
    helper = await gateway.group.makegateway(beside(gateway, request.python))
    try:
        deployment = Deployment(helper, request)
        await deployment.run()
    except BaseException:
        await helper.exit(0)
        raise
    return deployment, helper


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
    progress: Callable[[VenvProgress], Any] | None = None,
) -> Deferred[Venv]:
    """Have an environment at a gateway's far side, as :func:`create_venv_gateway` does.

    :returns: fires with the :class:`Venv`; fails and is cancelled as there.
    """
    options = VenvOptions(
        constraints=constraints,
        python=python,
        upgrade=upgrade,
        index=index,
        install=install,
        far=far,
        compile=compile,
        directory=directory,
    )
    return _venv(progress, gateway, name, requirements, options)


@reporting
async def _venv(
    report: Callable[[VenvProgress], object],
    gateway: Gateway,
    name: str,
    requirements: str | Iterable[str],
    options: VenvOptions,
) -> Venv:
    request = await request_of(gateway, name, requirements, options, report)
    deployment, helper = await deploy(gateway, request)
    deployment.close()
    if helper is not None:
        await helper.exit(0)
    return deployment.venv


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
    progress: Callable[[VenvProgress], Any] | None = None,
) -> Deferred[Gateway]:
    """Make a gateway in a virtual environment where another gateway is.

    The environment is made if there is none of that name for these requirements. Wheels are found
    or built here, for the interpreter there, and sent. The far machine needs no pip and no network.
    For a gateway that is not trusted only wheels are taken from the index: nothing of it is built.

    :param gateway: where; over any transport.
    :param name: the environment's name there, for the user that the gateway runs as.
    :param requirements: what is wanted in it, such as ``"requests>=2\\nattrs"``; or a list.
    :param constraints: which versions may be taken of what is needed, as in a file for pip's option
        ``-c``. What a build requires is not looked at by them.
    :param python: the interpreter there, and its arguments; by default the gateway's.
    :param upgrade: whether to ask the index although the environment is there, or was resolved
        before.
    :param index: the address of a simple index, or a directory of wheels and sdists here, that is
        used instead of those that pip is configured for.
    :param install: projects of this machine that are installed as well, through their sdists: paths
        of directories, ``setup.py`` or ``pyproject.toml``.
    :param far: whether the far machine's own pip resolves the requirements, with the index that it
        is configured for; or with ``index``, an address that is good there.
    :param compile: whether modules are compiled when the environment is made, as pip does it: once
        on each host. If not, as with uv, each is compiled in each environment when it is first
        imported; a new host is ready sooner.
    :param directory: where environments are kept there; by default
        ``~/.local/share/pycomnet/xdeploy``.
    :param id: the new gateway's name in its group.
    :param progress: called with a :class:`VenvProgress` for each step. It may cancel what this
        returns.
    :returns: fires with the gateway. Its interpreter is the environment's, it stands in the
        environment's directory, and scripts of the environment are found first. Fails with
        :class:`InvalidRequirements`, :class:`ResolutionFailed`, :class:`BuildFailed`,
        :class:`EnvironmentRefused`, other :class:`DeploymentFailed`; and as
        :meth:`Group.makegateway`. Cancelling it ends what runs for it; nothing incomplete stays.
    """
    options = VenvOptions(
        constraints=constraints,
        python=python,
        upgrade=upgrade,
        index=index,
        install=install,
        far=far,
        compile=compile,
        directory=directory,
    )
    return _venv_gateway(progress, gateway, name, requirements, options, id)


@reporting
async def _venv_gateway(
    report: Callable[[VenvProgress], object],
    gateway: Gateway,
    name: str,
    requirements: str | Iterable[str],
    options: VenvOptions,
    id: str | None,
) -> Gateway:
    request = await request_of(gateway, name, requirements, options, report)
    return await gateway_in(gateway, request, id)


async def gateway_in(gateway: Gateway, request: VenvRequest, id: str | None = None) -> Gateway:
    """Make a gateway in the environment of a request."""
    deployment, helper = await deploy(gateway, request)
    try:
        ready = deployment.ready
        path = ready["path"]
        spec = beside(
            gateway,
            (deployment.venv.python,),
            chdir=path,
            id=id,
            env={
                "VIRTUAL_ENV": path,
                "PATH": os.pathsep.join([f"{path}/bin", ready["PATH"]]),
            },
        )
        made: Gateway = await gateway.group.makegateway(spec)
        try:
            await made.remote_exec(KEEP, path=deployment.lock_path).waitclose()
        except BaseException:
            await made.exit(0)
            raise
        remember(made, deployment.venv, request)
        return made
    finally:
        deployment.close()
        if helper is not None:
            await helper.exit(0)
