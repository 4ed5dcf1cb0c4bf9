"""execnet's exceptions."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback

from pycomnet import forks
from pycomnet.errors import PycomnetError
from pycomnet.errors import RemoteError as _RemoteError
from pycomnet.execnet.farclasses import RemoteErrorBase, dumpformat, gateway_base
from pycomnet.wire.values import ValueNotSendable

DataFormatError = dumpformat.DataFormatError
DumpError = dumpformat.DumpError
LoadError = dumpformat.LoadError
TimeoutError = gateway_base.TimeoutError

#: The error of a channel whose code waits for a busy main thread.
MAIN_THREAD_ONLY_DEADLOCK_TEXT = (
    "concurrent remote_exec would cause deadlock for main_thread_only execmodel"
)
#: The text of the error when far code was interrupted.
INTERRUPTED = "keyboard-interrupted"


class RemoteError(RemoteErrorBase):
    """Far code raised, or closed a channel with an error.

    :ivar formatted: its traceback, or the error's text.
    """

    def __init__(self, formatted: str) -> None:
        Exception.__init__(self)
        self.formatted = formatted

    def __str__(self) -> str:
        return self.formatted

    def __repr__(self) -> str:
        return f"{type(self).__name__}: {self.formatted}"

    def __reduce__(self) -> tuple[type[RemoteError], tuple[str]]:
        return type(self), (self.formatted,)

    def warn(self) -> None:
        """Write it to standard error, as nobody can receive it."""
        if self.formatted == INTERRUPTED or sys.stderr is None:
            return
        with contextlib.suppress(Exception):  # it may be closed, or replaced by anything
            sys.stderr.write(f"[{os.getpid()}] Warning: unhandled {self!r}\n")


class HostNotFound(Exception):
    """The other machine can't be reached."""


def translated(problem: BaseException) -> BaseException:
    """Convert an exception of pycomnet to a new one of execnet.

    It is new each time, as a raised exception keeps the frames of the thread that raised it.
    """
    if isinstance(problem, _RemoteError):
        return RemoteError(problem.formatted or problem.message)
    if isinstance(problem, ValueNotSendable):
        return DumpError(f"can't serialize: {problem}")
    if isinstance(problem, PycomnetError):
        return OSError(str(problem))
    return problem


def geterrortext(problem: BaseException) -> str:
    """An exception's traceback, with which a channel is closed."""
    return "".join(traceback.format_exception(problem))


def used_after_fork(what: str) -> OSError:
    """The error for using the parent's object in a forked child."""
    return OSError(str(forks.used(what)))


__all__ = [
    "INTERRUPTED",
    "MAIN_THREAD_ONLY_DEADLOCK_TEXT",
    "DataFormatError",
    "DumpError",
    "HostNotFound",
    "LoadError",
    "RemoteError",
    "TimeoutError",
    "geterrortext",
    "translated",
    "used_after_fork",
]
