"""Makes environments where a gateway is, and gateways in them."""

from __future__ import annotations

import importlib.util
import os
import weakref
from collections.abc import Callable, Iterable
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from pycomnet.deferred import deferred
from pycomnet.errors import RemoteError
from pycomnet.gateways.modules import ModuleOffer, OfferedRoot
from pycomnet.gateways.spec import Spec
from pycomnet.gateways.transports.routes import has_fork_server
from pycomnet.xdeploy.interpreter import FarInterpreter
from pycomnet.xdeploy.plan import PackageIndex, Plan, SourceFile, WheelCache
from pycomnet.xdeploy.requirements import Requirements, check_name
from pycomnet.xdeploy.resolve import BuildFailed, DeploymentFailed, Resolver
from pycomnet.xdeploy.tool import in_thread

if TYPE_CHECKING:
    from pycomnet.channels.channel import Channel
    from pycomnet.gateways.gateway import Gateway

#: The far side's modules, by the name that they have there.
FAR_PACKAGE = "_pycomnet_xdeploy"
#: Bytes of a wheel that are sent at a time.
PIECE = 1 << 18
#: The code that keeps an environment from being removed while a gateway in it runs: the descriptor,
#: and with it the lock, ends with the process.
KEEP = """\
import fcntl, os
fcntl.flock(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), fcntl.LOCK_SH)
"""


class EnvironmentRefused(DeploymentFailed):
    """No environment can be made there: by that Python, or in that directory."""


@attrs.frozen
class VenvProgress:
    """What is being done for an environment.

    :ivar stage: ``waiting`` for another process that makes the same; ``resolve``; ``build`` an
        sdist; ``send`` wheels; ``install`` them; ``ready``.
    :ivar done: of ``total`` bytes (``send``) or wheels (``install``); 0 if that is not known.
    :ivar detail: what it is done with: the sdist's name, or the other process's number.
    """

    stage: str
    done: int = 0
    total: int = 0
    detail: str = ""


@attrs.frozen
class Venv:
    """An environment at a far side.

    :ivar name: what it was asked for by.
    :ivar identity: identifies what it is made of.
    :ivar path: its directory there.
    :ivar python: its interpreter there.
    :ivar packages: distribution -> version.
    :ivar made: whether it was made by this call.
    """

    name: str
    identity: str
    path: str
    python: str
    packages: dict[str, str] = attrs.field(hash=False)
    made: bool


#: The environments of gateways that were made here, and what was asked for.
_venvs: weakref.WeakKeyDictionary[Gateway, tuple[Venv, VenvRequest]] = weakref.WeakKeyDictionary()


def far_modules() -> ModuleOffer:
    """The offer of the far side's modules."""
    directory = Path(__file__).with_name("farside")
    spec = importlib.util.spec_from_file_location(
        FAR_PACKAGE, directory / "__init__.py", submodule_search_locations=[str(directory)]
    )
    assert isinstance(spec, ModuleSpec)
    return ModuleOffer({FAR_PACKAGE: OfferedRoot(spec)})


def start(gateway: Gateway, function: str, **kwargs: Any) -> Channel:
    """Run a function of the far side's modules there.

    :param function: ``module:function``, within the far side's package.
    :returns: the channel that the function gets.
    """
    # Whoever uses the gateway finds out if it is gone.
    gateway.offer_modules(far_modules()).addErrback(lambda _: None)
    module, _, name = function.partition(":")
    code = f"from {FAR_PACKAGE}.{module} import {name}\n{name}(channel, **given)\n"
    return gateway.remote_exec(code, given=kwargs)


def explained(problem: RemoteError) -> DeploymentFailed:
    """The error for what was raised at the far side."""
    if problem.type.endswith(".VenvRefused"):
        return EnvironmentRefused(problem.message)
    return DeploymentFailed(
        f"the far side failed with {problem.type}: {problem.message}", problem.formatted
    )


def beside(gateway: Gateway, python: tuple[str, ...], **changes: Any) -> Spec:
    """The spec of a gateway where this one is, with another interpreter.

    :param changes: of other keys of the spec.
    """
    spec = gateway.spec
    env = {**spec.env, **changes.pop("env", {})}
    if spec.transport == "popen":
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


@attrs.frozen(eq=False)
class VenvRequest:
    """What is wanted.

    :ivar index: where packages come from.
    :ivar projects: sdists on this machine to install as well.
    :ivar directory: where environments are kept at the far side; None for the default.
    """

    name: str
    requirements: Requirements
    python: tuple[str, ...] | None
    upgrade: bool
    index: PackageIndex
    projects: tuple[Path, ...]
    directory: str | None
    progress: Callable[[VenvProgress], Any]
    cache: WheelCache

    def far_map(self, digests: list[str]) -> dict[str, Any]:
        """The request as the far side gets it.

        :param digests: the hashes of the projects' sdists.
        """
        key = self.requirements.key
        return {
            "name": self.name,
            "key": "-".join([key, *sorted(digests)]),
            "python": None if self.python is None else list(self.python),
            "root": self.directory,
            # What a file or directory has today may differ from what it had.
            "upgrade": self.upgrade or not self.requirements.fixed,
            "about": {"requirements": list(self.requirements.lines)},
        }


class Deployment:
    """The conversation with the far side about one environment.

    :param gateway: where it is to be; its interpreter is the environment's.
    :param look: whether only to find the environment; then it may have another interpreter.
    :ivar ready: what the far side says of it; empty if it was not found.
    """

    def __init__(self, gateway: Gateway, request: VenvRequest, look: bool = False) -> None:
        self._gateway = gateway
        self._request = request
        self._look = look
        self._channel: Channel | None = None
        self._plan = Plan()
        self.ready: dict[str, Any] = {}

    async def run(self) -> None:
        """Have the environment made; then it is kept until :meth:`close`."""
        request = self._request
        reactor = self._gateway.link.reactor
        files = [await in_thread(reactor, request.cache.copy, path) for path in request.projects]
        asked = {**request.far_map([file.sha256 for file in files]), "look": self._look}
        self._channel = channel = start(self._gateway, "deploy:create", request=asked)
        try:
            while not self.ready:
                message = await channel.receive()
                if message == {"absent": True} and self._look:
                    return
                await self._answer(channel, message)
        except RemoteError as problem:
            raise explained(problem) from None
        except BaseException:
            channel.close()
            raise
        request.progress(VenvProgress("ready"))

    def close(self) -> None:
        """Let the environment go: from now on it may be removed, unless something uses it."""
        if self._channel is not None:
            self._channel.close()

    @property
    def venv(self) -> Venv:
        """The environment."""
        ready = self.ready
        return Venv(
            self._request.name,
            ready["identity"],
            ready["path"],
            ready["python"],
            dict(ready["packages"]),
            ready["made"],
        )

    async def _answer(self, channel: Channel, message: Any) -> None:
        progress = self._request.progress
        match message:
            case {"ready": dict(ready)}:
                self.ready = ready
            case {"waiting": holder}:
                progress(VenvProgress("waiting", detail=str(holder or "")))
            case {"progress": [str(stage), int(done), int(total)]}:
                progress(VenvProgress(stage, done, total))
            case {"resolve": dict(facts)}:
                self._plan = await self._resolve(facts)
                await channel.send(self._plan.as_map())
            case {"send": [*digests]}:
                files = self._plan.files()
                for digest in digests:
                    await self._send(channel, files[digest])
            case {"failed": [str(name), int(status), str(output)]}:
                raise self._build_failed(name, status, output)
            case _:
                raise DeploymentFailed(f"the far side sent what is no message: {message!r:.200}")

    async def _resolve(self, facts: dict[str, Any]) -> Plan:
        request = self._request

        def told(what: str) -> None:
            stage, _, detail = what.partition(" ")
            request.progress(VenvProgress(stage, detail=detail))

        resolver = Resolver(
            FarInterpreter.of(facts),
            self._gateway.link.reactor,
            index=request.index,
            cache=request.cache,
            told=told,
        )
        return await resolver.resolve(
            request.requirements, upgrade=request.upgrade, projects=request.projects
        )

    async def _send(self, channel: Channel, file: SourceFile) -> None:
        """Send a file's bytes; the far side knows how many they are."""
        reactor = self._gateway.link.reactor
        with open(file.path, "rb") as opened:
            while piece := await in_thread(reactor, opened.read, PIECE):
                await channel.send(piece)

    def _build_failed(self, name: str, status: int, output: str) -> BuildFailed:
        here = [build.output for build in self._plan.builds if build.sdist.name == name]
        tried = "".join(f"\nWhen it was tried here:\n{text}" for text in here if text)
        return BuildFailed(
            f"{name} can't be built at the far side: its build ended with status {status}:\n"
            f"{output.strip()}{tried}",
            output,
        )


def request_of(
    name: str,
    requirements: str | Iterable[str],
    python: str | os.PathLike[str] | Iterable[str] | None,
    upgrade: bool,
    index: str | os.PathLike[str] | None,
    projects: Iterable[Path],
    directory: str | None,
    progress: Callable[[VenvProgress], Any] | None,
) -> VenvRequest:
    """Check what a user asks for.

    :raises InvalidRequirements: a requirement or the name is not valid.
    :raises SpecError: the interpreter isn't one.
    """
    return VenvRequest(
        name=check_name(name),
        requirements=Requirements.of(requirements),
        python=Spec.parse("popen", python=python).python,
        upgrade=bool(upgrade),
        index=PackageIndex(None if index is None else os.fspath(index)),
        projects=tuple(projects),
        directory=directory,
        progress=progress or (lambda _: None),
        cache=WheelCache(),
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


@deferred
async def create_venv(
    gateway: Gateway,
    name: str,
    requirements: str | Iterable[str] = "",
    *,
    python: str | os.PathLike[str] | Iterable[str] | None = None,
    upgrade: bool = False,
    index: str | os.PathLike[str] | None = None,
    directory: str | None = None,
    progress: Callable[[VenvProgress], Any] | None = None,
) -> Venv:
    """Have an environment at a gateway's far side, as :func:`create_venv_gateway` does.

    :returns: fires with the :class:`Venv`; fails and is cancelled as there.
    """
    request = request_of(name, requirements, python, upgrade, index, (), directory, progress)
    deployment, helper = await deploy(gateway, request)
    deployment.close()
    if helper is not None:
        await helper.exit(0)
    return deployment.venv


@deferred
async def create_venv_gateway(
    gateway: Gateway,
    name: str,
    requirements: str | Iterable[str] = "",
    *,
    python: str | os.PathLike[str] | Iterable[str] | None = None,
    upgrade: bool = False,
    index: str | os.PathLike[str] | None = None,
    directory: str | None = None,
    id: str | None = None,
    progress: Callable[[VenvProgress], Any] | None = None,
) -> Gateway:
    """Make a gateway in a virtual environment where another gateway is.

    The environment is made if there is none of that name for these requirements. Wheels are found
    or built here, for the interpreter there, and sent. The far machine needs no pip and no network.

    :param gateway: where; over any transport.
    :param name: the environment's name there, for the user that the gateway runs as.
    :param requirements: what is wanted in it, such as ``"requests>=2\\nattrs"``; or a list.
    :param python: the interpreter there, and its arguments; by default the gateway's.
    :param upgrade: whether to ask the index although the environment is there, or was resolved
        before.
    :param index: the address of a simple index, or a directory of wheels and sdists here, that is
        used instead of those that pip is configured for.
    :param directory: where environments are kept there; by default
        ``~/.local/share/pycomnet/xdeploy``.
    :param id: the new gateway's name in its group.
    :param progress: called with a :class:`VenvProgress` for each step.
    :returns: fires with the gateway. Its interpreter is the environment's, it stands in the
        environment's directory, and scripts of the environment are found first. Fails with
        :class:`InvalidRequirements`, :class:`ResolutionFailed`, :class:`BuildFailed`,
        :class:`EnvironmentRefused`, other :class:`DeploymentFailed`; and as
        :meth:`Group.makegateway`. Cancelling it ends what runs for it; nothing incomplete stays.
    """
    request = request_of(name, requirements, python, upgrade, index, (), directory, progress)
    return await gateway_in(gateway, request, id)


async def gateway_in(gateway: Gateway, request: VenvRequest, id: str | None = None) -> Gateway:
    """Make a gateway in the environment of a request."""
    deployment, helper = await deploy(gateway, request)
    try:
        ready = deployment.ready
        path = ready["path"]
        spec = beside(
            gateway,
            (ready["python"],),
            chdir=path,
            id=id,
            env={
                "VIRTUAL_ENV": path,
                "PATH": os.pathsep.join([f"{path}/bin", ready["PATH"]]),
            },
        )
        made: Gateway = await gateway.group.makegateway(spec)
        lock = f"{ready['root']}/locks/use-{ready['identity']}"
        try:
            await made.remote_exec(KEEP, path=lock).waitclose()
        except BaseException:
            await made.exit(0)
            raise
        _venvs[made] = deployment.venv, request
        return made
    finally:
        deployment.close()
        if helper is not None:
            await helper.exit(0)


__all__ = [
    "Deployment",
    "EnvironmentRefused",
    "Venv",
    "VenvProgress",
    "create_venv",
    "create_venv_gateway",
]
