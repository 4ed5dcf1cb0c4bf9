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

#: What a channel fails with if code is to run in a main thread that is busy.
MAIN_THREAD_ONLY_DEADLOCK_TEXT = (
    "concurrent remote_exec would cause deadlock for main_thread_only execmodel"
)


#: What a channel is closed with when its code was interrupted.
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
        """Show it on standard error, as nobody takes it."""
        if self.formatted == INTERRUPTED or sys.stderr is None:
            return
        with contextlib.suppress(Exception):  # it is closed, or something that can't write
            sys.stderr.write(f"[{os.getpid()}] Warning: unhandled {self!r}\n")


class HostNotFound(Exception):
    """The other machine can't be reached."""


def translated(problem: BaseException) -> BaseException:
    """execnet's exception for one of pycomnet's: a new one each time.

    A raised exception keeps the frames that it went through, and is not raised in another thread.
    """
    if isinstance(problem, _RemoteError):
        return RemoteError(problem.formatted or problem.message)
    if isinstance(problem, ValueNotSendable):
        return DumpError(f"can't serialize: {problem}")
    if isinstance(problem, PycomnetError):
        return OSError(str(problem))
    return problem


def geterrortext(problem: BaseException) -> str:
    """The text that a channel is closed with: the traceback."""
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
