"""Processes, for tests: waiting for them to be gone, and measuring them."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterable
from pathlib import Path

#: Seconds in which processes that must end have ended, on a busy machine too.
GONE = 60


def still_there(pids: Iterable[int], timeout: float = GONE) -> list[int]:
    """Wait until processes have ended (a zombie has).

    :param timeout: seconds for all of them together.
    :returns: those that had not ended by then.
    """
    left: dict[int, int] = {}
    poll = select.poll()
    for pid in pids:
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        left[fd] = pid
        poll.register(fd, select.POLLIN)
    end = time.monotonic() + timeout
    try:
        while left:
            ready = poll.poll(max(0, end - time.monotonic()) * 1000)
            if not ready:
                return sorted(left.values())
            for fd, _ in ready:
                poll.unregister(fd)
                del left[fd]
                os.close(fd)
    finally:
        for fd in left:
            os.close(fd)
    return []


def status_field(pid: int, name: str) -> int:
    """A number of ``/proc/PID/status``; sizes are in kB there, and in bytes here."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            number, *unit = value.split()
            return int(number) * (1024 if unit == ["kB"] else 1)
    raise KeyError(name)


def resident(pid: int) -> int:
    """Bytes of memory that a process has for itself: the heap, not the files that it maps."""
    return status_field(pid, "RssAnon")


def processor_time(pid: int) -> float:
    """Seconds of processor time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children(pid: int) -> set[int]:
    """The child processes that a process has now, ended ones that it has not reaped included."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        found.update(map(int, (task / "children").read_text().split()))
    return found


def versioned_python(version: str) -> str | None:
    """An interpreter of this version (``3.12``) that pyenv has, or None."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = sorted(root.glob(f"versions/{version}.*/bin/python"))
    return str(found[-1]) if found else None
