"""Stands in for ``ssh`` in a network that is simulated: runs the command here, but from far away.

``slow_ssh.py MILLISECONDS ... COMMAND`` gives what it reads to the command, and what that writes
back, so many milliseconds later, each way, in one thread that waits for events. There is no
encryption and no handshake, so that what is measured is how often somebody waits for the network.
"""

from __future__ import annotations

import os
import select
import sys
import time
from collections import deque

if __name__ != "__main__":  # it starts a thousand times: without these
    import shlex
    from pathlib import Path

READ = 65536


class Line:
    """One direction: what was read is written when its time has come."""

    def __init__(self, source: int, target: int, delay: float) -> None:
        self.source = source
        self._target = target
        self._delay = delay
        self._items: deque[tuple[float, bytes]] = deque()
        self.ended = False

    def read(self) -> None:
        """Read what there is; its end is as late as everything else."""
        data = os.read(self.source, READ)
        self._items.append((time.monotonic() + self._delay, data))

    def due(self) -> float | None:
        """Seconds until something has to be written."""
        return max(0.0, self._items[0][0] - time.monotonic()) if self._items else None

    def write(self) -> None:
        """Write what has arrived."""
        while self._items and self._items[0][0] <= time.monotonic():
            _, data = self._items.popleft()
            if not data:
                self.ended = True
                os.close(self._target)
            while data:
                data = data[os.write(self._target, data) :]


def carry(lines: list[Line]) -> None:
    """Carry both ways until the command's output has ended."""
    reading = {line.source: line for line in lines}
    while not lines[1].ended:
        waits = [due for line in lines if (due := line.due()) is not None]
        ready = select.select(list(reading), [], [], min(waits, default=None))[0]
        for fd in ready:
            line = reading[fd]
            line.read()
            if not line._items[-1][1]:
                del reading[fd]
        for line in lines:
            line.write()


def install(directory: Path, delay: float) -> None:
    """Make it a program called ``ssh``.

    :param delay: milliseconds, each way.
    """
    ssh = directory / "ssh"
    line = shlex.join([sys.executable, "-I", "-S", __file__, str(delay)])
    ssh.write_text(f'#!/bin/sh\nexec {line} "$@"\n')
    ssh.chmod(0o755)


def main(argv: list[str]) -> int:
    delay = float(argv[1]) / 1000
    stdin, write_fd = os.pipe()
    read_fd, stdout = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(stdin, 0)
        os.dup2(stdout, 1)
        os.execv("/bin/sh", ["sh", "-c", argv[-1]])
    os.close(stdin)
    os.close(stdout)
    try:
        carry([Line(0, write_fd, delay), Line(read_fd, 1, delay)])
    except OSError:
        os.close(read_fd)  # nobody is there any more: the command sees it
        write_fd = -1
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    sys.exit(main(sys.argv) & 255)
