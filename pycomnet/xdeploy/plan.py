"""What an environment is made of, where it comes from, and what of that is kept here."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import attrs

from pycomnet.xdeploy.interpreter import own_interpreter

#: Variables of pip that choose where packages come from.
SOURCES = (
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"),
    *("PIP_CONSTRAINT", "PIP_PRE", "PIP_CONFIG_FILE", "PIP_NO_BINARY", "PIP_ONLY_BINARY"),
)


@attrs.frozen
class SourceFile:
    """A wheel or an sdist on this machine.

    :ivar sha256: its hash.
    """

    path: Path
    sha256: str
    size: int

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    def row(self) -> list[Any]:
        """What the far side is told of it."""
        return [self.name, self.sha256, self.size]


@attrs.frozen
class FarBuild:
    """An sdist that has to be built at the far side.

    :ivar wheels: what its build requires.
    :ivar backend: the build backend, and the directories in the sdist to import it from.
    :ivar output: what was said when it was tried here.
    """

    sdist: SourceFile
    wheels: tuple[SourceFile, ...]
    backend: str
    paths: tuple[str, ...]
    output: str = ""


@attrs.frozen
class Plan:
    """What an environment is made of."""

    wheels: tuple[SourceFile, ...] = ()
    builds: tuple[FarBuild, ...] = ()

    def files(self) -> dict[str, SourceFile]:
        """All files, by their hashes."""
        files = list(self.wheels)
        for build in self.builds:
            files += [build.sdist, *build.wheels]
        return {file.sha256: file for file in files}

    def as_map(self) -> dict[str, Any]:
        """What the far side is told."""
        return {
            "wheels": [file.row() for file in self.wheels],
            "builds": [
                {
                    "sdist": build.sdist.row(),
                    "wheels": [file.row() for file in build.wheels],
                    "backend": build.backend,
                    "paths": list(build.paths),
                }
                for build in self.builds
            ],
        }


@attrs.frozen
class PackageIndex:
    """Where packages come from.

    :ivar given: the address of a simple index, a directory of wheels and sdists; or None for what
        pip is configured to use.
    """

    given: str | None = None

    def arguments(self) -> list[str]:
        """pip's options."""
        if self.given is None:
            return []
        if os.path.isdir(self.given):
            return ["--no-index", "--find-links", os.path.abspath(self.given)]
        return ["--index-url", self.given]

    def environment(self) -> dict[str, str]:
        """The environment of pip: an index that is given is the only one."""
        env = dict(os.environ)
        if self.given is not None:
            for name in SOURCES:
                env.pop(name, None)
            env["PIP_CONFIG_FILE"] = os.devnull
            # The processes in which pip installs what a build requires.
            if os.path.isdir(self.given):
                env["PIP_NO_INDEX"] = "1"
                env["PIP_FIND_LINKS"] = os.path.abspath(self.given)
            else:
                env["PIP_INDEX_URL"] = self.given
        env["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
        env["PIP_NO_INPUT"] = "1"
        env["PYTHONIOENCODING"] = "utf-8"
        return env

    def key(self) -> list[Any]:
        """What identifies it."""
        return [self.given, *(None if self.given else os.environ.get(name) for name in SOURCES)]


class WheelCache:
    """What was resolved and downloaded here before: files by their hash, plans by what was wanted.

    :param path: its directory; by default one below the user's caches.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        if path is None:
            caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
            path = os.path.join(caches, "pycomnet", "xdeploy")
        self.path = Path(path)

    def add(self, path: Path) -> SourceFile:
        """Move a file into the cache."""
        found = hashlib.sha256()
        with open(path, "rb") as file:
            for piece in iter(lambda: file.read(1 << 20), b""):
                found.update(piece)
        digest = found.hexdigest()
        size = path.stat().st_size
        target = self.path / "files" / digest / path.name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(f"{path.name}.{os.getpid()}")
            shutil.move(path, part)
            part.rename(target)
        return SourceFile(target, digest, size)

    def read_plan(self, key: str) -> Plan | None:
        """The plan that was kept, if all its files are here."""
        found = self._read("plans", key)
        if found is None:
            return None
        try:
            return Plan(
                tuple(self._file(row) for row in found["wheels"]),
                tuple(
                    FarBuild(
                        self._file(build["sdist"]),
                        tuple(self._file(row) for row in build["wheels"]),
                        build["backend"],
                        tuple(build["paths"]),
                    )
                    for build in found["builds"]
                ),
            )
        except (KeyError, TypeError, ValueError, OSError):
            return None

    def write_plan(self, key: str, plan: Plan) -> None:
        """Keep a plan."""
        self._write("plans", key, plan.as_map())

    def same_sdist(self, path: Path) -> SourceFile:
        """Take an sdist into the cache; if one with the same content was made before, return that.

        Two sdists of the same sources differ in times, and so in their hashes.
        """
        key = _content_hash(path)
        found = self._read("sdists", key)
        if found is not None:
            try:
                return self._file(found["sdist"])
            except (KeyError, TypeError, ValueError, OSError):
                pass
        sdist = self.add(path)
        self._write("sdists", key, {"sdist": sdist.row()})
        return sdist

    def read_built(self, sdist: SourceFile) -> SourceFile | None:
        """The wheel that was built of an sdist by this interpreter."""
        found = self._read("built", f"{sdist.sha256}-{own_interpreter().key[:32]}")
        try:
            return None if found is None else self._file(found["wheel"])
        except (KeyError, TypeError, ValueError, OSError):
            return None

    def write_built(self, sdist: SourceFile, wheel: SourceFile) -> None:
        """Remember which wheel this interpreter builds of an sdist."""
        key = f"{sdist.sha256}-{own_interpreter().key[:32]}"
        self._write("built", key, {"wheel": wheel.row()})

    def _file(self, row: list[Any]) -> SourceFile:
        name, digest, size = row
        path = self.path / "files" / digest / name
        if path.stat().st_size != size:
            raise ValueError(f"{path} has changed")
        return SourceFile(path, digest, size)

    def _read(self, kind: str, key: str) -> dict[str, Any] | None:
        try:
            value = json.loads((self.path / kind / f"{key}.json").read_text())
        except (OSError, ValueError):
            return None
        return value if isinstance(value, dict) else None

    def _write(self, kind: str, key: str, value: dict[str, Any]) -> None:
        path = self.path / kind / f"{key}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}")
        part.write_text(json.dumps(value))
        part.rename(path)


def _content_hash(path: Path) -> str:
    """A hash of the files in an sdist, without times and owners."""
    found = hashlib.sha256(path.name.encode())
    with tarfile.open(path) as archive:
        members = {member.name: member for member in archive.getmembers()}
        for name in sorted(members):
            member = members[name]
            kind = member.type.decode("ascii", "replace")
            found.update(f"\0{name}\0{kind}{member.mode & 0o111}\0{member.linkname}\0".encode())
            file = archive.extractfile(member) if member.isfile() else None
            if file is not None:
                with file:
                    for piece in iter(lambda opened=file: opened.read(1 << 20), b""):  # type: ignore[misc]
                        found.update(piece)
    return found.hexdigest()


__all__ = ["FarBuild", "PackageIndex", "Plan", "SourceFile", "WheelCache"]
