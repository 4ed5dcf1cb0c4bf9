"""execnet's exceptions."""

from __future__ import annotations

import sys

from pycomnet.far.execnet.dumpformat import DataFormatError, DumpError, LoadError
from pycomnet.far.execnet.gateway_base import TimeoutError

#: What a channel fails with if code is to run in a main thread that is busy.
MAIN_THREAD_ONLY_DEADLOCK_TEXT = (
    "this code waited for the main thread, where other code runs and does not end: with "
    "execmodel=main_thread_only, wait for a channel's end before the next remote_exec"
)


class RemoteError(Exception):
    """Far code raised, or closed a channel with an error.

    :ivar formatted: its traceback, or the error's text.
    """

    def __init__(self, formatted: str) -> None:
        super().__init__()
        self.formatted = formatted

    def __str__(self) -> str:
        return self.formatted

    def __repr__(self) -> str:
        return f"{type(self).__name__}: {self.formatted}"

    def __reduce__(self) -> tuple[type[RemoteError], tuple[str]]:
        return type(self), (self.formatted,)

    def warn(self) -> None:
        """Show it on standard error."""
        sys.stderr.write(f"[{id(self)}] Warning: unhandled {self!r}\n")


class HostNotFound(Exception):
    """The other machine can't be reached."""


__all__ = [
    "MAIN_THREAD_ONLY_DEADLOCK_TEXT",
    "DataFormatError",
    "DumpError",
    "HostNotFound",
    "LoadError",
    "RemoteError",
    "TimeoutError",
]
