"""A local process, and how it ends.

``subprocess`` starts it, and not ``reactor.spawnProcess``: ``subprocess`` runs no Python code
between fork and exec, and reports at once that there is no such program. A pidfd shows the
process's end without SIGCHLD. So it works under any reactor, in any thread, and for the blocking
API.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable
from typing import IO, Any

from twisted.internet import defer

from pycomnet.deferred import OneShot
from pycomnet.far.live import Live
from pycomnet.gateways.boot import start_process
from pycomnet.gateways.transports.pipes import Readable
from pycomnet.gateways.transports.stderr import ErrorPipe, ErrorText
from pycomnet.net.reactors import PipeReactor

#: The exit status of a far side whose code has closed its connection's descriptor (far/worker.py).
LOST_DESCRIPTOR = 79

#: Seconds between checks of a process that has no pidfd.
POLL_INTERVAL = 0.05


class LocalProcess(Live):
    """A process whose standard input and output are pipes.

    :param argv: the program and its arguments.
    :param env: its whole environment.
    :param output: as for :class:`ErrorText`.
    :param pass_fds: further descriptors that it inherits.
    :param started: the process, if it has been started with all this already.
    :ivar stdin: the descriptor that its standard input is written to.
    :ivar stdout: the descriptor from which its standard output is read.
    :ivar status: its exit status, or minus the signal that ended it; None while it runs.
    :raises OSError: it could not be started.
    """

    def __init__(
        self,
        argv: list[str],
        env: dict[str, str] | None,
        output: Callable[[str], Any],
        reactor: PipeReactor,
        pass_fds: tuple[int, ...] = (),
        started: subprocess.Popen[bytes] | None = None,
    ) -> None:
        self._reactor = reactor
        self._text = ErrorText(output)
        self._ended: OneShot[int] = OneShot()
        self.status: int | None = None
        self._process = started or start_process(argv, env, pass_fds)
        self.pid = self._process.pid
        taken: list[int] = []
        try:  # there may be no descriptors left
            for file in (self._process.stdin, self._process.stdout, self._process.stderr):
                taken.append(_take_descriptor(file))
            self.stdin, self.stdout = taken[:2]
            # It is kept for its status alone: the files are closed, the arguments have our program.
            self._process.stdin = self._process.stdout = self._process.stderr = None
            self._process.args = ()
            self._stderr = ErrorPipe(taken[2], self._text, reactor)
            self._watch()
        except BaseException:
            self._never_started(taken)
            raise

    def _never_started(self, taken: list[int]) -> None:
        """End a process that could not be set up."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.status = self._process.wait()
        for file in (self._process.stdin, self._process.stdout, self._process.stderr):
            if file is not None:
                file.close()
        for fd in taken:
            with contextlib.suppress(OSError):
                os.close(fd)

    def kill(self, number: int) -> None:
        """Send a signal to its process group, if it still runs: it may be a shell with a script."""
        if self.status is None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def when_ended(self) -> defer.Deferred[int]:
        """Fires with :attr:`status` once it has ended. Cancelling it does not end the process."""
        return self._ended.when_fired()

    def keep(self, text: str) -> None:
        """Keep text that its code wrote to standard error, for :meth:`stderr_tail`."""
        self._text.keep(text)

    def stderr_tail(self) -> str:
        """The last lines of its standard error."""
        return self._text.tail()

    def _watch(self) -> None:
        try:
            fd = os.pidfd_open(self.pid)
        except (AttributeError, OSError):
            self._poll()
        else:
            Readable(fd, self._may_have_ended, self._reactor)

    def _poll(self) -> None:
        if self._may_have_ended():
            self._reactor.callLater(POLL_INTERVAL, self._poll)

    def _end_group(self) -> None:
        """Once it has ended, kill its process group. Until it is reaped, its pid is not reused."""
        with contextlib.suppress(AttributeError, OSError):
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                os.killpg(self.pid, signal.SIGKILL)

    def _may_have_ended(self) -> bool:
        self._end_group()
        status = self._process.poll()
        if status is None:
            return True
        self.status = status
        self._stderr.finish()
        self._ended.fire(status)
        return False


def _take_descriptor(file: IO[bytes] | None) -> int:
    assert file is not None
    fd = os.dup(file.fileno())
    file.close()
    return fd


def describe_status(status: int) -> str:
    """Describe how a process ended, in words.

    :param status: its exit status, or minus the signal that ended it.
    """
    if status == LOST_DESCRIPTOR:
        return (
            f"code that ran there had closed the connection's descriptor (os.close, os.closerange "
            f"or os.dup2), so it exited with status {status}"
        )
    if status >= 0:
        return f"it exited with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    words = f"it was killed by {name}"
    if -status == signal.SIGKILL:
        words += " (by somebody, or by the system because memory ran out)"
    return words
