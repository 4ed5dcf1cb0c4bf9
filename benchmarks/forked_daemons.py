"""Daemons that are forked from a process which has imported them, for scripts that kill many.

A daemon takes nearly a second of processor time to be imported, and some hundredths to start. A
script that kills hundreds of them would wait for imports alone. Here each is a process of its own
as well, made by :mod:`multiprocessing`'s fork server, and runs the same command from twistd's start
on.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from pycomnet.test.system.daemons import Daemon, Daemons, environment

#: What the fork server imports. None of it installs a reactor.
MODULES = (
    "pycomnet.ext.access.storedcredentials",
    "pycomnet.ext.workflow.service",
    "pycomnet.ext.workflow.status",
    "pycomnet.ext.workflow.stores.postgresql",
    "pycomnet.ext.workflow.stores.sqlite",
    "pycomnet.services.launch.launcher",
    "pycomnet.tap.exitstatus",
    "pycomnet.tap.service",
    "pycomnet.tap.workflow",
    "twisted.internet.epollreactor",
    "twisted.plugins.pycomnet_plugins",
    "twisted.scripts._twistd_unix",
    "twisted.scripts.twistd",
)


def run_daemon(said: Connection, command: list[str], directory: str) -> None:
    """Be a daemon. Runs in a process that was forked for it."""
    os.chdir(directory)
    for descriptor in (sys.stdout.fileno(), sys.stderr.fileno()):
        os.dup2(said.fileno(), descriptor)
    said.close()
    sys.argv[:] = command
    from twisted.scripts.twistd import run

    run()


#: Held to start a process and to read its exit status, which starting another one does as well:
#: :mod:`multiprocessing` is not for several threads at a time there.
_lock = threading.Lock()


class ForkedProcess:
    """A daemon's process, with what :class:`Daemon` uses of a ``Popen``. It ends with the script.

    :param command: the arguments of twistd.
    """

    def __init__(self, command: list[str], directory: str) -> None:
        context: Any = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(MODULES))
        os.environ.update(environment())
        here, there = context.Pipe(duplex=False)
        self._process = context.Process(
            target=run_daemon, args=(there, command, directory), daemon=True
        )
        self._status: int | None = None
        with _lock:
            self._process.start()
        there.close()
        self.pid: int = self._process.pid
        self.stdout = os.fdopen(os.dup(here.fileno()), "rb")
        here.close()

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended: then another process may have its id."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)

    def poll(self) -> int | None:
        """Return its exit status, or None while it runs."""
        with _lock:
            if self._status is None:
                self._status = self._process.exitcode
                if self._status is not None:
                    self._process.close()
            return self._status

    def wait(self, timeout: float | None = None) -> int:
        """Block until it has ended; its exit status."""
        with _lock:
            ending = [self._process.sentinel] if self._status is None else []
        if ending:
            wait(ending, timeout)
        status = self.poll()
        if status is None:
            raise subprocess.TimeoutExpired("twistd", timeout or 0.0)
        return status


class ForkedDaemon(Daemon):
    """A daemon that is forked. It has the environment of the script."""

    def _run(self, command: Sequence[str], directory: Path | str, env: Mapping[str, str]) -> Any:
        return ForkedProcess(["twistd", *command], str(directory))


class ForkedDaemons(Daemons):
    """Starts daemons by fork."""

    kind = ForkedDaemon


__all__ = ["ForkedDaemons"]
