"""Shows the output of far code line by line with the gateway's id, or writes it to files."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import weakref
from collections.abc import Callable
from typing import BinaryIO

import click
from twisted.internet import defer

from pycomnet.cli.program import CommandProgram, encode
from pycomnet.gateways.output import MAX_LINE, STDERR, STDOUT, Output
from pycomnet.text.printable import prefixed, visible, visible_line

#: Colours of the gateways' ids, used in turn; readable on dark and light backgrounds.
COLOURS = ("cyan", "green", "magenta", "yellow", "blue", "bright_cyan", "bright_green")

#: Writes text. Returns None if it is written, else a Deferred that fires when it is.
Write = Callable[[str], "defer.Deferred[None] | None"]


class GatewayLines:
    """An output callback for a group: shows whole lines, each prefixed with its gateway's id.

    While the lines can't be written, the Deferred that it returns makes the far side wait.

    :param stdout: writes standard output.
    :param stderr: writes standard error.
    :param prefix: whether each line begins with the gateway's id.
    :param alone: whether there is only one gateway. Then output without a prefix is shown as it
        arrives, and not split into lines.
    :param colours: called with a stream (1, 2): whether it shows colours.
    :param terminal: called with a stream: whether it is a terminal. There control characters are
        made visible. Elsewhere they are kept, but the prefix is also put after each character that
        a program may take for a line end.
    :param raw: whether to leave control characters unchanged.
    """

    def __init__(
        self,
        stdout: Write,
        stderr: Write,
        prefix: bool = True,
        alone: bool = False,
        colours: Callable[[int], bool] = lambda stream: False,
        terminal: Callable[[int], bool] = lambda stream: False,
        raw: bool = False,
    ) -> None:
        self._write = {STDOUT: stdout, STDERR: stderr}
        self._prefix = prefix
        self._as_it_comes = alone and not prefix
        self._colours = colours
        self._terminal = terminal
        self._raw = raw
        self._prefixes: dict[tuple[str, int], str] = {}
        self._number: dict[str, int] = {}
        self._rest: dict[tuple[str, int], str] = {}
        self._waiting = 0

    def __call__(self, output: Output) -> defer.Deferred[None] | None:
        stream = STDERR if output.stream == STDERR else STDOUT
        if self._as_it_comes:
            visibly = self._terminal(stream) and not self._raw
            return self._put(stream, visible(output.text) if visibly else output.text)
        key = (output.gateway, stream)
        *lines, rest = (self._rest.pop(key, "") + output.text).split("\n")
        if len(rest) > MAX_LINE:
            lines.append(rest)
            rest = ""
        if rest:
            self._rest[key] = rest
        return self._show(key, lines) if lines else None

    def flush(self) -> None:
        """Show unfinished lines, since no more output comes."""
        for key, rest in list(self._rest.items()):
            self._show(key, [rest])
        self._rest.clear()

    @property
    def idle(self) -> bool:
        """Whether all output has been written."""
        return not self._waiting

    def _show(self, key: tuple[str, int], lines: list[str]) -> defer.Deferred[None] | None:
        prefix = self._prefix_of(key)
        if not self._raw:
            terminal = self._terminal(key[1])
            return self._put(
                key[1], "".join(f"{prefixed(prefix, line, terminal)}\n" for line in lines)
            )
        return self._put(key[1], "".join(f"{prefix}{line}\n" for line in lines))

    def _put(self, stream: int, text: str) -> defer.Deferred[None] | None:
        waited = self._write[stream](text)
        if waited is not None:
            self._waiting += 1
            waited.addBoth(self._written)
        return waited

    def _written(self, result: None) -> None:
        self._waiting -= 1

    def _prefix_of(self, key: tuple[str, int]) -> str:
        if not self._prefix:
            return ""
        known = self._prefixes.get(key)
        if known is None:
            gateway, stream = key
            number = self._number.setdefault(gateway, len(self._number))
            shown = visible_line(gateway)
            known = f"[{shown}] "
            if self._colours(stream):
                known = click.style(f"[{shown}]", fg=COLOURS[number % len(COLOURS)]) + " "
            self._prefixes[key] = known
        return known


def output_shown_by(
    program: CommandProgram,
    prefix: bool = True,
    alone: bool = False,
    to_stderr: bool = False,
    raw: bool = False,
) -> GatewayLines:
    """Make a callback that writes to the program's standard output and error, or only to error."""

    def terminal(stream: int) -> bool:
        out = program.stderr if stream == STDERR or to_stderr else program.stdout
        return out.isatty()

    def colours(stream: int) -> bool:
        return terminal(stream) and "NO_COLOR" not in os.environ

    def stdout(text: str) -> defer.Deferred[None] | None:
        return program.stdout.put(encode(text))

    return GatewayLines(
        program.show if to_stderr else stdout,
        program.show,
        prefix,
        alone,
        colours,
        terminal,
        raw,
    )


class GatewayFiles:
    """An output callback for a group: writes to ``DIR/ID.out`` and ``DIR/ID.err``.

    Only this user may read and write the files. Symbolic links in the directory are not followed.

    :param directory: created if it does not exist; its parent must exist.
    :raises OSError: the directory can't be created or opened.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory, 0o700)
        self._fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._fd)
        self._files: dict[tuple[str, int], BinaryIO] = {}

    def open(self, gateway: str) -> None:
        """Create the files of a gateway, even if it prints nothing.

        :raises OSError: a file can't be created, or something with its name exists that is not a
            plain file of this user.
        """
        for stream, suffix in ((STDOUT, "out"), (STDERR, "err")):
            name = f"{gateway.replace(os.sep, '_')}.{suffix}"
            try:
                self._files[gateway, stream] = self._make(name)
            except OSError as problem:
                path = os.path.join(self._directory, name)
                reason = problem.strerror
                if problem.errno == errno.ELOOP:
                    reason = "it is a symbolic link, which is not followed"
                raise OSError(problem.errno, reason, path) from None

    def _make(self, name: str) -> BinaryIO:
        # Truncated only after the checks below. O_NONBLOCK, since opening a pipe would block.
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(name, flags, 0o600, dir_fd=self._fd)
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
                raise OSError(errno.EEXIST, "it exists, and is not a plain file")
            if found.st_uid != os.geteuid():
                raise OSError(errno.EPERM, "it exists, and belongs to another user")
            os.ftruncate(fd, 0)
            return os.fdopen(fd, "wb")
        except BaseException:
            os.close(fd)
            raise

    def __call__(self, output: Output) -> None:
        file = self._files.get((output.gateway, STDERR if output.stream == STDERR else STDOUT))
        if file is not None:
            file.write(encode(output.text))
            file.flush()
