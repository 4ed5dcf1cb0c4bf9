"""The request for an environment, and the progress that is reported."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.interfaces import IReactorThreads

from pycomnet.gateways.spec import Spec
from pycomnet.xdeploy.plan import PackageIndex, SourceFile
from pycomnet.xdeploy.requirements import Requirements, check_name
from pycomnet.xdeploy.sdist import make_sdist, project_directory
from pycomnet.xdeploy.wheelcache import WheelCache

if TYPE_CHECKING:
    from pycomnet.gateways.gateway import Gateway


@attrs.frozen
class VenvProgress:
    """What is being done for an environment.

    :ivar stage: ``waiting`` for another process that makes the same; ``resolve``; ``build`` an
        sdist; ``send`` wheels; ``compile`` their modules; ``install`` them; ``ready``.
    :ivar done: of ``total`` bytes (``send``), modules (``compile``) or wheels (``install``); 0 if
        that is not known.
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


@attrs.frozen(kw_only=True)
class VenvOptions:
    """The options of :func:`create_venv_gateway` that say what is made."""

    constraints: str | Iterable[str] = ()
    python: str | os.PathLike[str] | Iterable[str] | None = None
    upgrade: bool = False
    index: str | os.PathLike[str] | None = None
    install: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] = ()
    far: bool = False
    compile: bool = True
    directory: str | None = None


@attrs.frozen(eq=False)
class VenvRequest:
    """What is wanted.

    :ivar index: where packages come from.
    :ivar projects: sdists on this machine to install as well.
    :ivar far: whether the far machine's own pip and index are used.
    :ivar compile: whether modules are compiled when it is made.
    :ivar directory: where environments are kept at the far side; None for the default.
    """

    name: str
    requirements: Requirements
    python: tuple[str, ...] | None
    upgrade: bool
    index: PackageIndex
    projects: tuple[SourceFile, ...]
    directory: str | None
    far: bool
    progress: Callable[[VenvProgress], Any]
    cache: WheelCache
    compile: bool = True

    def far_map(self) -> dict[str, Any]:
        """The request as the far side gets it."""
        digests = sorted(file.sha256 for file in self.projects)
        return {
            "name": self.name,
            "key": "-".join([self.requirements.key, *digests]),
            "python": None if self.python is None else list(self.python),
            "root": self.directory,
            # What a file or directory has today may differ from what it had.
            "upgrade": self.upgrade or not self.requirements.fixed,
            "compile": self.compile,
            "about": json.dumps({"requirements": self.requirements.lines}),
        }


async def request_of(
    gateway: Gateway,
    name: str,
    requirements: str | Iterable[str],
    options: VenvOptions,
    progress: Callable[[VenvProgress], Any] | None,
) -> VenvRequest:
    """Check what a user asks for, and make the sdists of projects.

    :raises InvalidRequirements: a requirement or the name is not valid.
    :raises SpecError: the interpreter isn't one.
    :raises BuildFailed: an sdist can't be made.
    """
    request = VenvRequest(
        name=check_name(name),
        requirements=Requirements.of(requirements, options.constraints),
        python=Spec.parse("popen", python=options.python).python,
        upgrade=bool(options.upgrade),
        index=PackageIndex(None if options.index is None else os.fspath(options.index)),
        projects=(),
        directory=options.directory,
        far=bool(options.far),
        compile=bool(options.compile),
        progress=progress or (lambda _: None),
        cache=WheelCache(),
    )
    given = options.install
    paths = [given] if isinstance(given, (str, os.PathLike)) else given
    reactor = IReactorThreads(gateway.link.reactor)
    sdists = [
        await make_sdist(
            project_directory(path),
            reactor,
            index=request.index,
            cache=request.cache,
        )
        for path in paths
    ]
    return attrs.evolve(request, projects=tuple(sdists))
