"""The plan of an environment: its files, and where they come from."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
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
        """Its row in the plan that the far side gets."""
        return [self.name, self.sha256, self.size]


@attrs.frozen
class FarBuild:
    """An sdist that has to be built at the far side.

    :ivar wheels: what its build requires.
    :ivar backend: the build backend, and the directories in the sdist to import it from.
    :ivar output: the output when it was tried here.
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
    #: the directory that is given, wherever this program stands later
    directory: str | None = attrs.field(init=False)

    @directory.default
    def _directory(self) -> str | None:
        return None if self.given is None or "://" in self.given else os.path.abspath(self.given)

    def arguments(self) -> list[str]:
        """pip's options. Others see them, so an address, which may have a password, is none."""
        if self.directory is not None:
            return ["--no-index", "--find-links", self.directory]
        return []

    def environment(self) -> dict[str, str]:
        """The environment of pip: an index that is given is the only one."""
        env = dict(os.environ)
        if self.given is not None:
            for name in SOURCES:
                env.pop(name, None)
            env["PIP_CONFIG_FILE"] = os.devnull
            # The processes in which pip installs what a build requires.
            if self.directory is not None:
                env["PIP_NO_INDEX"] = "1"
                # A URL, as pip takes a variable with blanks in it for several directories.
                env["PIP_FIND_LINKS"] = Path(self.directory).as_uri()
            else:
                env["PIP_INDEX_URL"] = self.given
        env["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
        env["PIP_NO_INPUT"] = "1"
        env["PYTHONIOENCODING"] = "utf-8"
        return env

    def key(self) -> list[Any]:
        """What identifies it: the address or directory, or pip's configuration.

        And all of pip's variables, as any may change what it chooses (``PIP_NO_DEPS``).
        """
        dropped = SOURCES if self.given is not None else ()
        variables = sorted(
            (name, value)
            for name, value in os.environ.items()
            if name.startswith("PIP_") and name not in dropped
        )
        if self.given is not None:
            return [self.directory or self.given, variables]
        return [None, variables, _configuration()]


def _configuration() -> str:
    """A hash of the files that pip's configuration is in, as they are now."""
    home = os.path.expanduser("~")
    user = os.environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    system = os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg"
    places = [*(os.path.join(each, "pip") for each in system.split(os.pathsep)), "/etc"]
    places += [os.path.join(home, ".pip"), os.path.join(user, "pip"), sys.prefix]
    places.append(os.path.join(home, "Library", "Application Support", "pip"))
    places.append("/Library/Application Support/pip")
    paths = [os.path.join(place, "pip.conf") for place in places]
    found = hashlib.sha256()
    for path in [*paths, os.environ.get("PIP_CONFIG_FILE", "")]:
        with contextlib.suppress(OSError):
            data = Path(path).read_bytes()
            found.update(f"{path}\0{len(data)}\0".encode(errors="surrogateescape") + data)
    return found.hexdigest()
