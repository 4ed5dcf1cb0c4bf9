"""Runs a program of this machine, such as pip, and waits for its end without blocking."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence

import attrs
from twisted.internet import defer
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool


@attrs.frozen
class Ran:
    """How a program ended.

    :ivar status: its exit status, or minus the signal that ended it.
    :ivar output: what it wrote to its standard output and error.
    """

    status: int
    output: str


class _Program:
    """A program that is run by a thread, and can be ended by another."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], cwd: str | None) -> None:
        self._argv, self._env, self._cwd = list(argv), dict(env), cwd
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = False

    def run(self) -> Ran:
        with self._lock:
            if self._ended:
                return Ran(-signal.SIGKILL, "")
            self._process = process = subprocess.Popen(
                self._argv,
                env=self._env,
                cwd=self._cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        output, _ = process.communicate()
        return Ran(process.returncode, output.decode("utf-8", "replace"))

    def end(self) -> None:
        with self._lock:
            self._ended = True
            if self._process is not None and self._process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)


def run_tool(
    reactor: IReactorThreads, argv: Sequence[str], env: Mapping[str, str], cwd: str | None = None
) -> defer.Deferred[Ran]:
    """Run a program in a thread of the reactor's pool.

    :param env: its whole environment.
    :returns: fires with :class:`Ran`; fails with ``OSError`` if it can't be started. Cancelling it
        kills the program, and what it started.
    """
    program = _Program(argv, env, cwd)
    running = deferToThreadPool(reactor, reactor.getThreadPool(), program.run)
    ended: defer.Deferred[Ran] = defer.Deferred(lambda _: program.end())
    running.addCallbacks(
        lambda ran: None if ended.called else ended.callback(ran),
        lambda failure: None if ended.called else ended.errback(failure),
    )
    return ended


__all__ = ["Ran", "run_tool"]
