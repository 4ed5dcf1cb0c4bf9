"""Kills either end of rsync again and again, and checks what is left.

``python benchmarks/rsync_kills.py`` syncs a tree that changes each time, and kills the near or the
far process at a random moment of the run, until so many kills have fallen into one. After each, a
file at the target is whole, old or new, at most two temporary files of each are left, and no
process is. Then the same run is made again, and is not killed: it makes the trees equal, and leaves
no temporary file. Half of the runs are fetches. Exits with status 1 and the kill's number at the
first fault.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ending import stoppable

#: The near process: makes a tree equal to another, by send or fetch.
NEAR = """
import sys
from pycomnet.blocking import Group, RSync, fetch
way, source, target = sys.argv[1:]
with Group() as group:
    gateway = group.makegateway("popen", timeout=300)
    print(gateway.info["pid"], flush=True)
    if way == "fetch":
        fetch(gateway, source, target, delete=True, timeout=300).raise_for_failures()
    else:
        sync = RSync(source, delete=True)
        sync.add_target(gateway, target)
        sync.send(timeout=300).raise_for_failures()
"""
#: Bytes of the tree's files: some long ones, of which parts change, and many short ones.
SIZES = {"long": 12_000_000, "middle": 400_000, **{f"short{n}": 1000 for n in range(200)}}
TEMPORARY = re.compile(r"\.pycomnet-[0-9a-f]{20}")
#: Seconds for a process to end.
PATIENCE = 120


class Fault(Exception):
    """The target is not what it may be."""


class Trees:
    """A source that changes, and a target."""

    def __init__(self, base: Path, seed: int) -> None:
        self.source, self.target = base / "source", base / "target"
        self._random = random.Random(seed)
        #: file -> the contents that it may have at the target
        self._allowed: dict[str, set[bytes]] = collections.defaultdict(set)
        self._now: dict[str, bytes] = {}
        self.source.mkdir()

    def change(self) -> None:
        """Change every file: some bytes of it, or all."""
        for name, size in SIZES.items():
            content = self._now.get(name)
            if content is None or self._random.random() < 0.3:
                content = self._random.randbytes(size)
            else:
                at = self._random.randrange(size)
                content = content[:at] + self._random.randbytes(9) + content[at:]
            (self.source / name).write_bytes(content)
            self._now[name] = content
            self._allowed[name].add(content)

    def check(self) -> int:
        """Check the target; return how many temporary files are there.

        :raises Fault: a file is neither old nor new, or there are too many temporary files.
        """
        left = 0
        for path in self.target.iterdir() if self.target.exists() else ():
            if TEMPORARY.fullmatch(path.name):
                left += 1
            elif path.read_bytes() not in self._allowed[path.name]:
                raise Fault(f"{path.name} is torn")
        if left > 2 * len(SIZES):
            raise Fault(f"{left} temporary files")
        # What is here now is all that may be there after the next run, beside the new contents.
        for name in SIZES:
            path = self.target / name
            self._allowed[name] = {self._now[name]}
            if path.exists():
                self._allowed[name].add(path.read_bytes())
        return left

    def check_equal(self) -> None:
        """Check that both are equal, and nothing else is there.

        :raises Fault: they are not.
        """
        found = {path.name: path.read_bytes() for path in self.target.iterdir()}
        if found != self._now:
            raise Fault("a run that was not killed has not made the trees equal")


@contextlib.contextmanager
def start(trees: Trees, way: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Start a run; the near process, and the far one's number. It ends with the block."""
    near = subprocess.Popen(
        [sys.executable, "-c", NEAR, way, trees.source, trees.target],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert near.stdout is not None
    with near:
        try:
            yield near, int(near.stdout.readline())
        finally:
            near.kill()


def wait_gone(pid: int) -> None:
    """Wait until a process is gone.

    :raises Fault: it stays.
    """
    end = time.monotonic() + PATIENCE
    while Path(f"/proc/{pid}").exists():
        if time.monotonic() > end:
            raise Fault(f"process {pid} is still there")
        time.sleep(0.01)


def whole_run(trees: Trees, way: str) -> float:
    """A run that nobody kills; the seconds that it took."""
    with start(trees, way) as (near, far):
        began = time.monotonic()
        if near.wait(PATIENCE):
            raise Fault("a run that was not killed has failed")
        took = time.monotonic() - began
        wait_gone(far)
    trees.check_equal()
    return took


def killed_run(trees: Trees, way: str, whom: str, after: float) -> bool:
    """A run that is killed; whether it went on then."""
    with start(trees, way) as (near, far):
        with contextlib.suppress(subprocess.TimeoutExpired):
            near.wait(after)
        with contextlib.suppress(ProcessLookupError):
            os.kill(near.pid if whom == "near" else far, signal.SIGKILL)
        status = near.wait(PATIENCE)
        wait_gone(far)
    return status != 0


def run(kills: int, seed: int, base: Path) -> None:
    """Kill so many runs, and check.

    :raises Fault: something is not as it must be.
    """
    chance = random.Random(seed)
    trees = Trees(base, seed)
    took = {}
    for way in ("send", "fetch"):
        trees.change()
        took[way] = whole_run(trees, way)
    done: collections.Counter[str] = collections.Counter()
    most = 0
    while done.total() < kills:
        way, whom = chance.choice(("send", "fetch")), chance.choice(("near", "far"))
        trees.change()
        if killed_run(trees, way, whom, chance.random() * took[way]):
            done[f"{whom} end of a {way}"] += 1
            if not done.total() % 10:
                print(f"{done.total()} kills", file=sys.stderr)
        try:
            most = max(most, trees.check())
            took[way] = (took[way] + whole_run(trees, way)) / 2
        except Fault as fault:
            raise Fault(f"after kill {done.total()} ({way}, {whom} end): {fault}") from None
    for what, count in sorted(done.items()):
        print(f"{count} kills of the {what}")
    print(
        f"at most {most} temporary files were left; every file was whole, old or new; "
        "each rerun made the trees equal"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Kills rsync's ends, and checks what is left.")
    parser.add_argument("--kills", type=int, default=100, metavar="N", help="default: 100")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="default: 1")
    given = parser.parse_args()
    with stoppable(), tempfile.TemporaryDirectory() as base:
        try:
            run(given.kills, given.seed, Path(base))
        except Fault as fault:
            sys.exit(str(fault))


if __name__ == "__main__":
    main()
