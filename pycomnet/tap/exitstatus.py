"""Ends a daemon that can't continue, with a message and a non-zero exit status."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from types import TracebackType

from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IReactorCore, IReactorFromThreads

from pycomnet.errors import PycomnetError
from pycomnet.text.logs import Logger
from pycomnet.text.printable import visible

log = Logger()


def on_second_signal(reactor: IReactorCore, function: Callable[[], object]) -> None:
    """Call a function if SIGTERM or SIGINT comes while the reactor is already shutting down."""

    from_threads = IReactorFromThreads(reactor)

    def again(number: int, frame: object) -> None:
        from_threads.callFromThread(function)

    def ending() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, again)

    reactor.addSystemEventTrigger("before", "shutdown", ending)


class ExitStatus:
    """The exit status of a process that twistd runs.

    twistd exits with 0 however its reactor was stopped. So a service maker creates this object. It
    exits with status 1, after twistd has removed the pid file, if :meth:`fail` was called. An error
    before the reactor runs ends twistd with its own status; then this object shows only the message
    of a PycomnetError, without a traceback.

    :param name: the daemon's name, which begins each message.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._status = 0
        atexit.register(self._leave)
        self._excepthook = sys.excepthook
        sys.excepthook = self._raised

    def fail(self, reactor: IReactorCore, problem: Exception) -> None:
        """Stop the reactor, so that all services are stopped in order, and exit with status 1."""
        if self._status:
            return
        self._status = 1
        self.say(problem)
        reactor.callWhenRunning(self._stop, reactor)

    def _stop(self, reactor: IReactorCore) -> None:
        with contextlib.suppress(ReactorNotRunning):  # it was stopped already
            reactor.stop()

    def _raised(
        self, kind: type[BaseException], problem: BaseException, trace: TracebackType | None
    ) -> None:
        if isinstance(problem, PycomnetError):
            self.say(problem)
        else:
            self._excepthook(kind, problem, trace)

    def say(self, problem: Exception) -> None:
        """Report a problem in the log, and on standard error where that is not the log."""
        log.critical("{name}: {problem}", name=self._name, problem=problem)
        if sys.__stderr__ is not None:
            print(visible(f"{self._name}: {problem}"), file=sys.__stderr__, flush=True)

    def _leave(self) -> None:
        if not self._status:
            return
        for stream in (sys.stdout, sys.stderr):
            try:
                if stream is not None:
                    stream.flush()
            except (OSError, ValueError):
                continue
        os._exit(self._status)
