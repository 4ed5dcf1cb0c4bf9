"""Finds or builds wheels here, for the interpreter at the far side."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IReactorThreads

from pycomnet.errors import PycomnetError
from pycomnet.far.xdeploy.building import unpack
from pycomnet.far.xdeploy.interpreter import VenvRefused
from pycomnet.services.threads import in_thread
from pycomnet.text.printable import visible
from pycomnet.xdeploy.interpreter import FarInterpreter
from pycomnet.xdeploy.pipfor import NO_PIP
from pycomnet.xdeploy.plan import FarBuild, PackageIndex, Plan, SourceFile
from pycomnet.xdeploy.requirements import InvalidRequirements, Requirements
from pycomnet.xdeploy.tool import Ran, run_tool, scratch
from pycomnet.xdeploy.wheelcache import WheelCache

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: The default build backend of an sdist (PEP 517).
LEGACY_BACKEND = "setuptools.build_meta:__legacy__"
LEGACY_REQUIRES = ("setuptools>=40.8.0", "wheel")
#: Raised for an archive that is cut or broken. A KeyError is of a link to what it does not have.
BROKEN_ARCHIVE = (
    *(OSError, EOFError, KeyError, ValueError),
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error),
)
#: Said where sdists are not taken.
ONLY_WHEELS = (
    " (only wheels are taken: the far side is not trusted, and could choose whose build runs here)"
)
#: The most characters of a tool's output in an error's message; ``output`` has all of it.
MAX_SHOWN = 4000


class DeploymentFailed(PycomnetError):
    """An environment could not be made; the message says why.

    :ivar output: all that the program wrote that failed, or an empty text.
    """

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message)
        self.output = output


class ResolutionFailed(DeploymentFailed):
    """The requirements can't be resolved for that interpreter; the message names the package."""


class BuildFailed(DeploymentFailed):
    """A wheel could not be built; ``output`` has what its build wrote: the compiler's errors."""


class Resolver:
    """Resolves requirements for one interpreter.

    :param told: called with what it does now: ``"resolve"`` or ``"build NAME"``.
    :param builds_here: whether pip may take sdists of the index, whose builds run on this machine:
        also to learn what they depend on.
    """

    def __init__(
        self,
        interpreter: FarInterpreter,
        reactor: IReactorThreads,
        *,
        index: PackageIndex | None = None,
        cache: WheelCache | None = None,
        told: Callable[[str], object] = lambda stage: None,
        builds_here: bool = True,
    ) -> None:
        self._interpreter = interpreter
        self._reactor = reactor
        self._index = PackageIndex() if index is None else index
        self._cache = cache or WheelCache()
        self._told = told
        self._builds_here = builds_here

    async def resolve(
        self,
        requirements: Requirements,
        *,
        upgrade: bool = False,
        projects: Iterable[SourceFile] = (),
    ) -> Plan:
        """Find wheels for requirements, and for sdists of projects of this machine.

        :param upgrade: whether to ask the index, also if this was resolved before.
        :raises ResolutionFailed: there is no wheel or sdist for one of them.
        """
        projects = tuple(projects)
        if not requirements.lines and not projects:
            return Plan()
        key = self._key(requirements, projects)
        if not upgrade and key is not None:
            plan: Plan | None = await in_thread(self._reactor, self._cache.read_plan, key)
            if plan is not None:
                return plan
        self._told("resolve")
        async with scratch(self._reactor) as name:
            files = await self._download(requirements, projects, Path(name))
            plan = await self._planned(files)
        if key is not None:
            await in_thread(self._reactor, self._cache.write_plan, key, plan)
        return plan

    def _key(self, requirements: Requirements, projects: tuple[SourceFile, ...]) -> str | None:
        """What a plan is kept under; None if it may be another one next time."""
        if not requirements.fixed or projects:
            return None
        wanted = [requirements.key, self._interpreter.key, self._index.key(), self._builds_here]
        return hashlib.sha256(json.dumps(wanted).encode()).hexdigest()

    async def _download(
        self, requirements: Requirements, projects: tuple[SourceFile, ...], place: Path
    ) -> list[SourceFile]:
        """Let pip choose and download."""
        files = place / "files"
        files.mkdir()
        lines = list(requirements.lines)
        for file in projects:
            line = file.path.absolute().as_uri()
            lines.append(f"{line} --hash=sha256:{file.sha256}" if requirements.hashed else line)
        wanted = place / "requirements.txt"
        limits = place / "constraints.txt"
        limits.write_text("".join(f"{line}\n" for line in requirements.constraints))
        wanted.write_text("".join(f"{line}\n" for line in lines))
        facts = "-"
        if not self._interpreter.is_like_this_one():
            path = place / "facts.json"
            path.write_text(
                json.dumps(
                    {
                        "tags": self._interpreter.tag_texts(),
                        "markers": self._interpreter.markers,
                        "version": self._interpreter.version,
                    }
                )
            )
            facts = str(path)
        options = [] if self._builds_here else ["--only-binary", ":all:"]
        options += ["--dest", str(files), "--requirement", str(wanted)]
        options += ["--constraint", str(limits)]
        ran = await self._pip(facts, "download", *options)
        if ran.status:
            where = "" if self._builds_here else ONLY_WHEELS
            raise ResolutionFailed(
                f"nothing can be found for {requirements if requirements.lines else 'the project'} "
                f"that {self._interpreter} can use{where}:\n{_essence(ran.output)}",
                ran.output,
            )
        return [
            await in_thread(self._reactor, self._cache.add, path)
            for path in sorted(files.iterdir())
        ]

    async def _planned(self, files: list[SourceFile]) -> Plan:
        wheels, builds = [], []
        for file in files:
            if file.name.endswith(".whl"):
                wheels.append(file)
                continue
            built, output = await self._build(file)
            if built is not None:
                wheels.append(built)
            else:
                builds.append(await self._far_build(file, output))
        return Plan(tuple(wheels), tuple(builds))

    async def _build(self, sdist: SourceFile) -> tuple[SourceFile | None, str]:
        """Build an sdist here.

        :returns: its wheel, or None if the far side can't use that, or it can't be built here; and
            what the build wrote.
        """
        built = await in_thread(self._reactor, self._cache.read_built, sdist)
        output = ""
        if built is None:
            self._told(f"build {sdist.name}")
            async with scratch(self._reactor) as place:
                ran = await self._pip(
                    "-", "wheel", "--no-deps", "--wheel-dir", place, str(sdist.path)
                )
                output = ran.output
                found = list(Path(place).glob("*.whl"))
                if ran.status or len(found) != 1:
                    return None, output
                built = await in_thread(self._reactor, self._cache.add, found[0])
            await in_thread(self._reactor, self._cache.write_built, sdist, built)
        return (built if self._interpreter.supports_wheel_built_here(built.name) else None), output

    async def _far_build(self, sdist: SourceFile, output: str) -> FarBuild:
        """Plan to build an sdist at the far side: find what its build requires."""
        backend, paths, requires = await in_thread(self._reactor, build_system, sdist.path)
        requires += await self._further_requires(sdist)
        inner = Resolver(
            self._interpreter,
            self._reactor,
            index=self._index,
            cache=self._cache,
            told=self._told,
            builds_here=self._builds_here,
        )
        try:
            plan = await inner.resolve(Requirements.of(requires))
        except InvalidRequirements as problem:
            raise BuildFailed(
                f"{sdist.name}: what its build requires is wrong: {problem}"
            ) from None
        except ResolutionFailed as problem:
            raise BuildFailed(
                f"{sdist.name} has no wheel that {self._interpreter} can use. It was to be built "
                f"there, but what its build requires can't be had: {problem}\n"
                f"When it was tried here:\n{tail(output)}",
                output,
            ) from None
        if plan.builds:
            raise BuildFailed(
                f"{sdist.name} has to be built at the far side, and so has "
                f"{plan.builds[0].sdist.name}, which its build requires: give a wheel of that"
            )
        return FarBuild(sdist, plan.wheels, backend, tuple(paths), output)

    async def _further_requires(self, sdist: SourceFile) -> list[str]:
        """The requirements that the backend returns when it is run, beside ``pyproject.toml``'s.

        It is asked here, as pip has asked it here before: what a far side says must not choose what
        runs on this machine. A backend that can't run here is not asked; then the build there may
        fail, and says what it lacks.
        """
        async with scratch(self._reactor) as place:
            result = Path(place) / "result"
            try:
                source = await in_thread(
                    self._reactor, unpack, str(sdist.path), str(Path(place) / "source")
                )
            except (*BROKEN_ARCHIVE, VenvRefused) as problem:
                raise BuildFailed(f"{sdist.name} can't be unpacked: {problem}") from None
            runner = str(Path(__file__).with_name("buildrequires.py"))
            argv = [sys.executable, runner, source, str(result)]
            ran = await run_tool(self._reactor, argv, self._index.environment(), place)
            if ran.status:
                return []
            found: list[str] = json.loads(result.read_text(encoding="utf-8"))
            return found

    async def _pip(self, facts: str, command: str, *arguments: str) -> Ran:
        runner = str(Path(__file__).with_name("pipfor.py"))
        argv = [sys.executable, runner, facts, command, "--progress-bar", "off"]
        argv += [*self._index.arguments(), *arguments]
        ran = await run_tool(self._reactor, argv, self._index.environment())
        if ran.status == NO_PIP:
            raise DeploymentFailed(ran.output.strip())
        return ran


def build_system(path: Path) -> tuple[str, list[str], list[str]]:
    """The build requirements in an sdist (PEP 518).

    :returns: the backend, the directories to import it from, and what the build requires.
    :raises BuildFailed: its ``pyproject.toml`` can't be read.
    """
    try:
        text = _pyproject(path)
    except BROKEN_ARCHIVE as problem:
        raise BuildFailed(f"{path.name}: its pyproject.toml can't be read: {problem}") from None
    try:
        table = tomllib.loads("" if text is None else text.decode())
    except (ValueError, RecursionError) as problem:
        raise BuildFailed(f"{path.name}: its pyproject.toml can't be read: {problem}") from None
    system: Any = table.get("build-system", {})
    if not isinstance(system, Mapping):
        raise BuildFailed(f"{path.name}: expected a table [build-system], not {system!r:.100}")
    backend = system.get("build-backend")
    requires = list(_texts(path, system, "requires", LEGACY_REQUIRES))
    backend_path = list(_texts(path, system, "backend-path", ()))
    if not isinstance(backend, (str, type(None))):
        raise BuildFailed(f"{path.name}: expected build-backend as text, not {backend!r:.100}")
    if backend is None:
        return LEGACY_BACKEND, ["."], list(dict.fromkeys([*requires, *LEGACY_REQUIRES]))
    if backend.startswith("setuptools."):
        requires.append("wheel")  # which setuptools asks for when it runs, until 70.1
    return backend, backend_path, requires


def _texts(
    path: Path, system: Mapping[str, Any], key: str, default: tuple[str, ...]
) -> Iterable[str]:
    found = system.get(key, default)
    if not isinstance(found, (list, tuple)) or not all(isinstance(each, str) for each in found):
        raise BuildFailed(f"{path.name}: expected {key} as a list of texts, not {found!r:.100}")
    return found


def _pyproject(path: Path) -> bytes | None:
    """The ``pyproject.toml`` of an sdist."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if re.fullmatch(r"[^/]+/pyproject\.toml", name):
                    return archive.read(name)
        return None
    with tarfile.open(path) as tar:
        for member in tar:
            if re.fullmatch(r"(\./)?[^/]+/pyproject\.toml", member.name):
                file: io.BufferedIOBase | None = tar.extractfile(member)  # type: ignore[assignment]
                with contextlib.closing(file or io.BytesIO()) as opened:
                    return opened.read()
    return None


def _essence(output: str) -> str:
    """The errors in pip's output."""
    lines = [line for line in output.splitlines() if line.lstrip().startswith("ERROR:")]
    return visible("\n".join(lines)) if lines else tail(output)


def tail(output: str) -> str:
    """The end of a tool's output, for an error's message."""
    return visible(output.strip()[-MAX_SHOWN:])
