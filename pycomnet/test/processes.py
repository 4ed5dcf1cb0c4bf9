"""Processes, for tests: waiting for what they do, stopping them, and measuring them."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from pycomnet.test.waiting import wait_until

#: Seconds in which processes that must end have ended, on a busy machine too.
GONE = 100


def posix_locks(path: str | os.PathLike[str]) -> list[str]:
    """The POSIX locks on a file, of whatever process: their kind, process and range."""
    number = f":{os.stat(path).st_ino} "
    with open("/proc/locks") as file:
        found = [line for line in file if number in line and "POSIX" in line]
    return sorted(line.partition(":")[2] for line in found)  # without its number in the list


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


def stop(*pids: int) -> None:
    """Stop processes, and wait until they stand still: ``kill`` returns before that."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    for pid in pids:
        wait_until(partial(_stands, pid), f"process {pid} stands still")


def _stands(pid: int) -> bool:
    """Whether none of a process's threads runs or waits."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # this thread has ended
            if (task / "stat").read_text().rpartition(")")[2].split()[0] not in "TZX":
                return False
    return True


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
    with contextlib.suppress(FileNotFoundError):  # it has ended, or will while this looks
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):  # this thread has
                found.update(map(int, (task / "children").read_text().split()))
    return found


def parent(pid: int) -> int:
    """The process that has started another one."""
    return status_field(pid, "PPid")


def command_line(pid: int) -> bytes:
    """The arguments of a process, each with a NUL behind it; nothing when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def versioned_python(version: str) -> str | None:
    """An interpreter of this version (``3.12``) that pyenv has, or None."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = sorted(root.glob(f"versions/{version}.*/bin/python"))
    return str(found[-1]) if found else None
