"""``pycomnet run --send DIR``: sends directories with the script, with their relative paths."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import click

#: The most bytes that are sent in all: larger data should be copied once, not for each run.
MAX_BYTES = 100 << 20
#: The most files that are sent in all.
MAX_FILES = 10_000


@attrs.frozen
class ScriptFiles:
    """Files that go with a script.

    :ivar root: the directory that contains the script and everything that is sent.
    :ivar script: the script's file, relative to the root, with ``/``.
    :ivar names: the other files, relative to the root, with ``/``.
    :ivar whole: whether the script's own directory is sent.
    """

    root: str
    script: str
    names: list[str]
    whole: bool

    @classmethod
    def of(cls, directories: tuple[str, ...], script: str) -> ScriptFiles:
        """Find the files in directories.

        :param script: the script's file.
        :raises click.ClickException: the files can't be sent.
        """
        own = os.path.dirname(os.path.realpath(script))
        tops = [os.path.realpath(directory) for directory in directories]
        for given, top in zip(directories, tops, strict=True):
            if not os.path.isdir(top):
                raise click.UsageError(f"--send {given}: there is no such directory")
            if not (_is_in(top, own) or _is_in(own, top)):
                raise click.UsageError(
                    f"--send {given}: expected a directory in or above {own}, which has the script"
                )
        root = os.path.commonpath([own, *tops])
        sizes: dict[str, int] = {}
        for top in tops:
            for path in _files(top):
                sizes[os.path.relpath(path, root)] = os.stat(path).st_size
        if sum(sizes.values()) > MAX_BYTES:
            largest = max(sizes, key=lambda name: sizes[name])
            raise click.UsageError(
                f"--send: {sum(sizes.values()) >> 20} MiB are more than the {MAX_BYTES >> 20} MiB "
                f"that are sent with a script; the largest is {largest} "
                f"({sizes[largest] >> 20} MiB): copy them there, with rsync perhaps"
            )
        if len(sizes) > MAX_FILES:
            raise click.UsageError(
                f"--send: {len(sizes)} files are more than the {MAX_FILES} that are sent with a "
                "script: copy them there, with rsync perhaps"
            )
        names = [name.replace(os.sep, "/") for name in sizes]
        name = os.path.relpath(os.path.realpath(script), root).replace(os.sep, "/")
        return cls(root, name, names, any(_is_in(own, top) for top in tops))

    def layout(self) -> dict[str, Any]:
        """The argument ``layout`` of ``run_program`` at the far side (cli/script.py)."""
        return {"script": self.script, "whole": self.whole}

    async def send(self, channel: Any) -> None:
        """Send the files one after the other, at the pace of the receiver, and then None."""
        for name in self.names:
            path = os.path.join(self.root, *name.split("/"))
            mode = stat.S_IMODE(os.stat(path).st_mode)
            await channel.send([name, mode, Path(path).read_bytes()])
        await channel.send(None)


def _is_in(path: str, directory: str) -> bool:
    return os.path.commonpath([path, directory]) == directory


def _files(top: str) -> Iterator[str]:
    for directory, names, files in os.walk(top):
        names[:] = sorted(name for name in names if name != "__pycache__")
        for name in [*files, *names]:
            path = os.path.join(directory, name)
            if os.path.islink(path) and not _is_in(os.path.realpath(path), top):
                raise click.UsageError(f"--send: the link {path} leads out of {top}")
            if os.path.isfile(path):
                yield path
