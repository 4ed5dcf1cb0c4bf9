"""The nameserver and the service of ``pycomnet demo``: processes of twistd, as users run them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

import pycomnet
from pycomnet.deferred import deferred
from pycomnet.errors import PycomnetError

TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
#: Seconds that a daemon has to end by itself.
END_TIMEOUT = 5.0
#: Seconds between two looks into a daemon's log.
LOOK = 0.05
#: Characters of a daemon's log that are shown when it did not work.
LOG_SHOWN = 2000


class Daemons:
    """Daemons in a directory of their own, which goes with them."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="pycomnet-"))
        self.nameserver = f"unix:{self.directory / 'names'}"
        self._processes: list[subprocess.Popen[bytes]] = []

    def start_nameserver(self) -> None:
        """Start a nameserver that keeps nothing."""
        self._start("pycomnet-nameserver", "--listen", self.nameserver, "--store", "memory:")

    def start_service(self) -> int:
        """Start the service, which waits for the nameserver; its process id."""
        options = ("--nameserver", self.nameserver, "--wait", "--ttl", "2")
        return self._start("pycomnet-service", *options, "pycomnet.cli.tourservice")

    @deferred
    async def start_mediator(self, reactor: Any) -> str:
        """Start an http mediator on this machine.

        :returns: fires with the spec of gateways there, once it listens.
        """
        options = ("--listen", "tcp:0:interface=127.0.0.1", "--token-file", "http.token")
        pid = self._start("pycomnet-http-exec", *options, "--drain", "1")
        log = self.directory / f"{pid}.log"
        while True:
            self.check()
            found = re.search(r"reach it with (http=[^/\s]+)", log.read_text(errors="replace"))
            if found is not None:
                return f"{found[1]}//token_file={self.directory / 'http.token'}"
            await deferLater(reactor, LOOK)

    def kill(self, pid: int) -> None:
        """Kill a daemon, so that it can't say goodbye."""
        for process in self._processes:
            if process.pid == pid:
                process.kill()
                process.wait()

    def check(self) -> None:
        """See whether those that were not killed are still there.

        :raises PycomnetError: one is not; with the end of its log.
        """
        for process in self._processes:
            if process.poll() not in (None, -signal.SIGKILL):
                log = (self.directory / f"{process.pid}.log").read_text(errors="replace")
                raise PycomnetError(f"a daemon of the tour has ended:\n{log[-LOG_SHOWN:]}")

    def _start(self, *args: str) -> int:
        root = str(Path(pycomnet.__file__).parent.parent)
        search = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        log = self.directory / "log"
        with open(log, "wb") as output:
            process = subprocess.Popen(
                [*TWISTD, "-n", "--pidfile=", *args],
                cwd=self.directory,
                env={**os.environ, "PYTHONPATH": search},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the tour, which ends them
            )
        log.rename(self.directory / f"{process.pid}.log")
        self._processes.append(process)
        return process.pid

    @deferred
    async def close(self) -> None:
        """End them, the last first, and remove the directory; it does not fail."""
        await deferToThread(self._end)

    def _end(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(END_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)
