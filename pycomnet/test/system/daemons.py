"""Daemons of pycomnet as processes, for tests: started as a user does, and what they say."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from twisted.internet import defer
from twisted.internet.threads import deferToThread

from pycomnet.test.system.nearby import ROOT

#: Seconds that anything may take on a busy machine before a test gives up.
PATIENCE = 120
TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
COMMAND = [sys.executable, "-m", "pycomnet"]
#: The services of the documentation.
EXAMPLES = ROOT / "docs" / "examples"


def environment(**more: str) -> dict[str, str]:
    """That of this process, with this checkout on the path."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


class Daemon:
    """A daemon under ``twistd -n``, in a directory of its own.

    :param name: ``pycomnet-service`` or another.
    :param reactor: twistd's, if not the default.
    :param before: what its command is run by.
    :ivar lines: what it has logged so far, and written to standard error.
    """

    def __init__(
        self,
        name: str,
        *args: str,
        directory: Path | str,
        reactor: str | None = None,
        before: Sequence[str] = (),
        **env: str,
    ) -> None:
        options = [] if reactor is None else [f"--reactor={reactor}"]
        self.before = before
        self.process: Any = self._run(
            [*options, "-n", "--pidfile=", name, *args], directory, environment(**env)
        )
        self.pid: int = self.process.pid
        self.lines: list[str] = []
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _run(self, command: Sequence[str], directory: Path | str, env: Mapping[str, str]) -> Any:
        """Start twistd with these arguments; a ``Popen``, or what behaves like one."""
        return subprocess.Popen(
            [*self.before, *TWISTD, *command],
            cwd=directory,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._more:
                self.lines.append(line.decode())
                self._more.notify_all()
        with self._more:
            self.lines.append("")  # the end
            self._more.notify_all()

    @property
    def said(self) -> str:
        """All that it has said."""
        return "".join(self.lines)

    def wait_for(self, pattern: str, timeout: float = PATIENCE) -> re.Match[str]:
        """Block until it has said something; what matches."""
        found: list[re.Match[str]] = []

        def there() -> bool:
            match = re.search(pattern, self.said)
            if match is not None:
                found.append(match)
            return match is not None or self.lines[-1:] == [""]

        with self._more:
            assert self._more.wait_for(there, timeout), f"no {pattern!r} in:\n{self.said}"
        assert found, f"it ended without {pattern!r}:\n{self.said}"
        return found[0]

    def seen(self, pattern: str) -> defer.Deferred[re.Match[str]]:
        """Fires when it has said something, with what matches."""
        return deferToThread(self.wait_for, pattern)

    def wait(self, timeout: float = PATIENCE) -> int:
        """Block until it has ended; its exit status."""
        status: int = self.process.wait(timeout)
        self._reader.join(timeout)
        return status

    def ended(self) -> defer.Deferred[int]:
        """Fires when it has ended, with its exit status."""
        return deferToThread(self.wait)

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def close(self) -> None:
        """End it, at the end of a test."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()


class Daemons:
    """Starts daemons that end with the test.

    :param directory: a directory of the test's own, short enough for sockets in it.
    :cvar kind: what a daemon is made by.
    """

    kind: ClassVar[type[Daemon]] = Daemon

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.started: list[Daemon] = []
        self._is_closed = False
        #: A thread may be starting one while others are ended.
        self._lock = threading.Lock()

    def start(
        self,
        name: str,
        *args: str,
        directory: Path | None = None,
        reactor: str | None = None,
        before: Sequence[str] = (),
        **env: str,
    ) -> Daemon:
        """Start a daemon."""
        where = directory or self.directory
        with self._lock:
            if self._is_closed:
                raise RuntimeError(f"{name} is not started: all daemons have been ended")
            daemon = self.kind(name, *args, directory=where, reactor=reactor, before=before, **env)
            self.started.append(daemon)
        return daemon

    def nameserver(self, name: str = "names", *args: str) -> str:
        """Start a nameserver on a socket of this name and wait for it; its address."""
        address = f"unix:{self.directory / name}"
        arguments = args or ("--store", "memory:")
        self.start("pycomnet-nameserver", "--listen", address, *arguments).wait_for(
            "the nameserver is at"
        )
        return address

    def service(self, nameserver: str, *args: str, module: str = "calc", **env: str) -> Daemon:
        """Start the services of a module that is in the documentation's examples."""
        options = ("--nameserver", nameserver, *args, module)
        directory = self.directory if (self.directory / f"{module}.py").exists() else EXAMPLES
        return self.start("pycomnet-service", *options, directory=directory, **env)

    def close(self) -> None:
        """End all of them; no more is started."""
        with self._lock:
            self._is_closed = True
        for daemon in reversed(self.started):
            daemon.close()


@contextmanager
def daemons(directory: Path) -> Iterator[Daemons]:
    """Daemons that end with the block."""
    started = Daemons(directory)
    try:
        yield started
    finally:
        started.close()


def command(*args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the ``pycomnet`` command to its end."""
    return subprocess.run(
        [*COMMAND, *args],
        env=environment(**options.pop("env", {})),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        **options,
    )
