"""What an environment is made of, and where that comes from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import attrs

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


__all__ = ["FarBuild", "PackageIndex", "Plan", "SourceFile"]
