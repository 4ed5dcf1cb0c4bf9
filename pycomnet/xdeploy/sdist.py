"""Makes sdists of projects of this machine (PEP 517)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from twisted.internet.interfaces import IReactorThreads

from pycomnet.services.threads import in_thread
from pycomnet.xdeploy.plan import PackageIndex, SourceFile
from pycomnet.xdeploy.requirements import InvalidRequirements
from pycomnet.xdeploy.resolve import BuildFailed, DeploymentFailed, tail
from pycomnet.xdeploy.tool import run_tool, scratch
from pycomnet.xdeploy.wheelcache import WheelCache

#: What says that a directory is a project's.
FILES = ("pyproject.toml", "setup.py")


def project_directory(path: str | os.PathLike[str]) -> Path:
    """The directory of a project.

    :param path: of the directory, or of ``setup.py`` or ``pyproject.toml`` in it.
    :raises InvalidRequirements: there is no project.
    """
    given = Path(path).expanduser()
    directory = given if given.is_dir() else given.parent
    known = given.is_dir() or given.name in (*FILES, "setup.cfg")
    if not known or not any((directory / name).is_file() for name in FILES):
        raise InvalidRequirements(
            f"expected a project: a directory with {' or '.join(FILES)}, or one of these files; "
            f"{os.fspath(path)!r} is none"
        )
    return directory.absolute()


async def make_sdist(
    directory: Path, reactor: IReactorThreads, *, index: PackageIndex, cache: WheelCache
) -> SourceFile:
    """Make the sdist of a project, in an environment of what its build requires.

    :returns: the sdist; the same one as before, if the project has not changed.
    :raises BuildFailed: the project's build backend failed.
    """
    async with scratch(reactor) as place:
        argv = [sys.executable, "-m", "build", "--sdist", "--outdir", place, str(directory)]
        ran = await run_tool(reactor, argv, index.environment(), place)
        found = list(Path(place).glob("*.tar.gz"))
        if ran.status or len(found) != 1:
            if "No module named build" in ran.output:
                raise DeploymentFailed(
                    f"{sys.executable} has no module build: pip install 'pycomnet[xdeploy]'"
                )
            raise BuildFailed(
                f"no sdist can be made of {directory}: status {ran.status}:\n{tail(ran.output)}",
                ran.output,
            )
        made: SourceFile = await in_thread(reactor, cache.same_sdist, found[0])
    return made
