"""The trees of the rsync benchmarks, and what is measured of sending them."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from measure import SMOKE, Amounts

MIB = 1 << 20
#: Milliseconds that a hop takes, each way.
HOP = 50.0

#: What sends the tree to the targets, with or without parts of old files; returns the bytes on the
#: wire, or 0.
Send = Callable[[Path, list[Path]], int]


def scale(amounts: Amounts, value: int) -> int:
    """An amount, or a fortieth of it."""
    return max(1, value // 40) if amounts is SMOKE else value


def fill(root: Path, files: int, size: int) -> None:
    """Make files of a size, a hundred in a directory."""
    numbers = random.Random(1)
    for number in range(files):
        directory = root / f"d{number // 100}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"f{number}").write_bytes(numbers.randbytes(size))


def fill_long(root: Path, size: int) -> Path:
    """Make one long file."""
    root.mkdir(parents=True, exist_ok=True)
    path = root / "long"
    numbers = random.Random(2)
    with path.open("wb") as file:
        while size > 0:
            file.write(numbers.randbytes(min(size, MIB)))
            size -= MIB
    return path


#: Bytes that a source and its targets take at most.
ROOM = 4 << 30


def memory() -> str | None:
    """A file system in memory, if there is one; None: where temporary files are.

    On ext4, inodes that were deleted in the last minutes are searched one by one when files are
    made. So each measurement would pay for the trees that others have deleted.
    """
    shared = "/dev/shm"
    if "TMPDIR" in os.environ or not os.access(shared, os.W_OK):
        return None
    return shared if shutil.disk_usage(shared).free > ROOM else None


@contextmanager
def places() -> Iterator[tuple[Path, list[Path]]]:
    """A source and eight targets, none of which is there yet."""
    base = Path(tempfile.mkdtemp(prefix="pycomnet-bench-", dir=memory()))
    try:
        yield base / "source", [base / f"target{number}" for number in range(8)]
    finally:
        shutil.rmtree(base)


def timed(send: Send, source: Path, targets: list[Path]) -> tuple[float, int]:
    """Milliseconds of sending, and bytes on the wire."""
    os.sync()  # what was written before is not written meanwhile
    began = time.perf_counter()
    size = send(source, targets)
    return (time.perf_counter() - began) * 1000, size


def check(source: Path, targets: list[Path]) -> None:
    """Fail unless the targets are equal to the source."""
    for path in source.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            for target in targets:
                if (target / path.relative_to(source)).read_bytes() != content:
                    raise AssertionError(f"{path.name} differs")


def run_job(
    job: str,
    amounts: Amounts,
    send: Send,
    grown: Callable[[], tuple[float, float]] | None = None,
    beside: Send | None = None,
) -> dict[str, float]:
    """Measure a job.

    :param grown: what the near and the far process have grown by since it was made, in MB.
    :param beside: what sends with the far side that this one is compared with.
    """
    with places() as (source, targets):
        first = targets[:1]
        warm = source.with_name("warm")
        fill(warm, 1, 10)
        send(warm, [targets[7]])  # code is compiled, modules are imported
        if job in ("many", "ssh"):
            fill(source, scale(amounts, 3000), 1000)
            took, _ = timed(send, source, first)
            check(source, first)
            return {job: took}
        if job == "hops":
            fill_long(source, scale(amounts, 37_000_000))
            took, _ = timed(send, source, first)
            check(source, first)
            return {job: took}
        if job == "jython":
            assert beside is not None
            fill(source, scale(amounts, 3000), 1000)
            beside(warm, [targets[6]])
            jython, _ = timed(send, source, first)
            cpython, _ = timed(beside, source, targets[1:2])
            check(source, targets[:2])
            for number in (2, 3):  # the JVM compiles meanwhile what it has run often
                send(source, targets[number : number + 1])
            warm_jython, _ = timed(send, source, targets[4:5])
            warm_cpython, _ = timed(beside, source, targets[5:6])
            return {
                job: jython / cpython,
                "jython_ms": jython,
                "jython_warm": warm_jython / warm_cpython,
                "jython_warm_ms": warm_jython,
            }
        if job == "same":
            fill(source, scale(amounts, 10000), 100)
            send(source, first)
            took, _ = timed(send, source, first)
            return {"same": took}
        if job == "targets":
            fill(source, scale(amounts, 3000), 1000)
            fill_long(source, scale(amounts, 50 * MIB))
            one, _ = timed(send, source, first)
            shutil.rmtree(targets[0])
            eight, _ = timed(send, source, targets)
            check(source, targets)
            return {"targets": eight / one, "targets_8": eight}
        size = scale(amounts, 200 * MIB)
        path = fill_long(source, size)
        took, _ = timed(send, source, first)
        found = {"new": took}
        if grown is not None:
            found["new_near"], found["new_far"] = grown()  # before the check, which reads files
        check(source, first)
        if job == "new":
            return found
        data = path.read_bytes()
        middle = size // 2
        if job == "changed":
            path.write_bytes(data[:middle] + bytes(2) + data[middle + 2 :])
        else:
            path.write_bytes(b"x" + data)
        del data
        later = time.time() + 10  # rsync compares seconds only
        os.utime(path, (later, later))
        took, wire = timed(send, source, first)
        check(source, first)
        return {job: took, f"{job}_wire": wire / size * 100}
