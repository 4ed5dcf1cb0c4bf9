"""No program at all: each file is read, and written as pycomnet's far side writes it, in a loop.

What is left of the others' time beside this is what the program adds; a single thread of Python
can't be faster. To eight targets, eight processes do it at the same time.

Two measures are of parts: only making the short files, from memory; and a bare pair, of which one
process reads a long file, hashes it and writes it to a pipe, and the other one hashes what comes
and writes it to a file.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Iterable
from pathlib import Path

import files
import measure
from measure import Amounts

#: Bytes that are read and written at once.
PIECE = 1 << 20


def copy(source: Path, directory: int, number: int, name: str) -> None:
    """Copy a file under a temporary name, give it its mode and time, and rename it."""
    read = os.open(source, os.O_RDONLY)
    status = os.fstat(read)
    pieces = iter(lambda: os.read(read, PIECE), b"")
    make(pieces, status.st_mode & 0o7777, status.st_mtime_ns, directory, number, name)
    os.close(read)


def make(
    pieces: Iterable[bytes], mode: int, mtime: int, directory: int, number: int, name: str
) -> None:
    """Make a file: under a temporary name, with its mode and time."""
    temporary = f".bare-{number}"
    written = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode, dir_fd=directory)
    for data in pieces:
        os.write(written, data)
    os.utime(written, ns=(mtime, mtime))
    os.close(written)
    os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)


def copy_tree(source: Path, target: Path) -> None:
    """Copy a tree."""
    for path, _, names in os.walk(source):
        there = target / Path(path).relative_to(source)
        there.mkdir(parents=True, exist_ok=True)
        directory = os.open(there, os.O_RDONLY)
        for number, name in enumerate(names):
            copy(Path(path, name), directory, number, name)
        os.close(directory)


def send(source: Path, targets: list[Path]) -> int:
    """Each target has a process of its own, but for a single one."""
    if len(targets) == 1:
        copy_tree(source, targets[0])
        return 0
    started = []
    for target in targets:
        pid = os.fork()
        if not pid:
            try:
                copy_tree(source, target)
                os._exit(0)
            finally:
                os._exit(1)
        started.append(pid)
    if any([os.waitpid(pid, 0)[1] for pid in started]):
        raise AssertionError("a process has failed")
    return 0


def make_only(amounts: Amounts) -> float:
    """Milliseconds of making the short files."""
    with files.places() as (source, targets):
        files.fill(source, files.scale(amounts, 3000), 1000)
        content = {
            path: [(each.name, each.read_bytes()) for each in path.iterdir()]
            for path in source.iterdir()
        }
        os.sync()
        began = time.perf_counter()
        for path, found in content.items():
            there = targets[0] / path.name
            there.mkdir(parents=True, exist_ok=True)
            directory = os.open(there, os.O_RDONLY)
            for number, (name, data) in enumerate(found):
                make([data], 0o644, 10**18, directory, number, name)
            os.close(directory)
        return (time.perf_counter() - began) * 1000


def pair(amounts: Amounts) -> float:
    """Milliseconds of a bare pair with a long file."""
    with files.places() as (source, targets):
        path = files.fill_long(source, files.scale(amounts, 200 * files.MIB))
        os.sync()
        reading, writing = os.pipe()
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIECE)
        began = time.perf_counter()
        pid = os.fork()
        if not pid:
            try:
                os.close(writing)
                receive(reading, targets[0])
                os._exit(0)
            finally:
                os._exit(1)
        os.close(reading)
        found = hashlib.sha256()
        with open(path, "rb", 0) as file:
            while data := file.read(PIECE):
                found.update(data)
                left = memoryview(data)
                while left:
                    left = left[os.write(writing, left) :]
        os.close(writing)
        if os.waitpid(pid, 0)[1]:
            raise AssertionError("a process has failed")
        return (time.perf_counter() - began) * 1000


def receive(reading: int, target: Path) -> None:
    """Write what comes from a pipe to a file."""
    found = hashlib.sha256()
    with open(target, "wb", 0) as file:
        while data := os.read(reading, PIECE // 4):
            found.update(data)
            file.write(data)


def run(job: str, amounts: Amounts) -> dict[str, float]:
    figures = files.run_job(job, amounts, send)
    if job == "many":
        figures["many_made"] = make_only(amounts)
    elif job == "new":
        figures["new_pair"] = pair(amounts)
    return figures


if __name__ == "__main__":
    measure.answer(run)
