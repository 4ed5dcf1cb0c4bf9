"""Starting a near side of its own process for a test, and reading what it says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from select import poll
from typing import Any

from pycomnet.test.processes import GONE, command_line, still_there

ROOT = Path(__file__).parents[3]
#: Seconds that anything may take on a busy machine before the test gives up.
PATIENCE = 120


class Near:
    """A running program: its pid, what it prints, and its end.

    :param argv: what follows ``python``.
    :param env: environment variables that it has beside those of this process.
    """

    def __init__(self, *argv: str, **env: str) -> None:
        env = {**os.environ, "PYTHONPATH": str(ROOT), **env}
        self.process = subprocess.Popen(
            [sys.executable, *argv],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self.pid = self.process.pid
        self._rest = b""

    def line(self, timeout: float = PATIENCE) -> Any:
        """What the next line that it prints says, as JSON."""
        assert self.process.stdout is not None
        waiting = poll()
        waiting.register(self.process.stdout)
        while b"\n" not in self._rest:
            assert waiting.poll(timeout * 1000), "it prints nothing"
            data = os.read(self.process.stdout.fileno(), 65536)
            assert data, f"it ended: {self.ended()}"
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)

    def signal(self, number: int) -> None:
        """Send it, and nobody else, a signal."""
        self.process.send_signal(number)

    def tell(self, line: str) -> None:
        """Give it a line on its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def ended(self, timeout: float = PATIENCE) -> tuple[int, str, str]:
        """Wait for its end; its status, and what else it printed on both streams."""
        out, err = self.process.communicate(timeout=timeout)
        return self.process.returncode, (self._rest + out).decode(), err.decode()


@contextmanager
def near(*argv: str, **env: str) -> Iterator[Near]:
    """A program that is killed at the end, if it has not ended."""
    program = Near(*argv, **env)
    try:
        yield program
    finally:
        program.process.kill()
        program.process.communicate()


@contextmanager
def processes_end(pids: list[int], timeout: float = GONE) -> Iterator[None]:
    """Fail unless all these processes live now, and have ended so many seconds after the block."""
    assert len(pids) == len(set(pids))
    for pid in pids:
        os.kill(pid, 0)
    try:
        yield
        left = still_there(pids, timeout)
        assert not left, [command_line(pid) for pid in left]
    finally:
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
