"""What each shortcut of pycomnet gains: each row with it and without it, in one run, interleaved.

A shortcut is switched off in a copy of the package, by a small change of its source, so the package
itself needs no switches. Each figure comes from a process of its own. The processes take turns: all
variants of a row, then the next row, and so on for each round; a ratio is of figures of one round.

Run it as ``python benchmarks/ablation.py``. What gains less than a tenth on every row is not worth
its code.
"""

from __future__ import annotations

import argparse
import compileall
import itertools
import json
import math
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import place_rows
import report
import rows
import service_rows
from compare import HERE, PeerFailed, environment, measure
from ending import stoppable
from rows import Job, Row

PACKAGE = HERE.parent / "pycomnet"
#: The factor from which on a shortcut is worth its code on a row.
WORTH = 1.1


@dataclass(frozen=True, slots=True)
class Change:
    """A replacement in a source file of the package; the old text is there exactly once."""

    path: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Shortcut:
    """Something that is there only to make pycomnet faster.

    :ivar changes: what switches it off.
    """

    name: str
    title: str
    changes: tuple[Change, ...]


SHORTCUTS = (
    Shortcut("nothing", "nothing is off in this copy: its figures are the run's noise", ()),
    Shortcut(
        "coalescing",
        "what one turn of the reactor sends is written together",
        (
            Change(
                "channels/connection.py",
                "            # What follows in the same turn is collected.\n"
                "            self.corked = True\n"
                "            self._turn = self.reactor.callLater(0, self._uncork)\n",
                "",
            ),
        ),
    ),
    Shortcut(
        "unary",
        "unary calls have no stream",
        (
            Change(
                "wire/calls.py",
                "size > longest",
                "True",
            ),
        ),
    ),
    Shortcut(
        "buffer",
        "the far side's write buffer",
        (
            Change(
                "far/writebuffer.py",
                '    if not hasattr(memoryview, "cast"):\n',
                "    if True:\n",
            ),
        ),
    ),
    Shortcut(
        "batcher",
        "the batcher: values enter the write buffer without a lock",
        (
            Change(
                "far/connection.py",
                "            if not self._may_batch or self.mux.scheduler.fragment < SIZE:\n",
                "            if True:\n",
            ),
        ),
    ),
    Shortcut(
        "far_polling",
        "the far side polls for the next value",
        (Change("far/connection.py", "        if busy:\n            self._wait.poll()\n", ""),),
    ),
    Shortcut(
        "pipe_polling",
        "the near side polls a far side's pipe",
        (
            Change(
                "gateways/transports/pipes.py",
                "            if not self._wait.poll():\n",
                "            if True:\n",
            ),
            Change(
                "gateways/transports/pipes.py",
                "not self.disconnected and self._wait.poll():\n",
                "False:\n",
            ),
        ),
    ),
    Shortcut(
        "fork_server_polling",
        "the fork server polls its connections",
        (Change("far/forkserver/loop.py", "        return self._wait.poll()\n", ""),),
    ),
    Shortcut(
        "socket_polling",
        "sockets are polled for the next answer",
        (
            Change(
                "net/reactorpoll.py",
                "        return wait.poll()\n",
                "        return None\n",
            ),
        ),
    ),
    Shortcut(
        "eager",
        "what is sent is written at once, not in the reactor's next turn",
        (
            Change(
                "net/eager.py",
                "    if not is_plain(transport):\n        return lambda",
                "    if True:\n        return lambda",
            ),
            Change(
                "net/eager.py",
                "    if not is_plain(transport) or not transport.connected",
                "    if True or not transport.connected",
            ),
        ),
    ),
    Shortcut(
        "bulk_size",
        "reads and writes of up to 1 MB where there is much",
        (Change("net/eager.py", "\nBULK_SIZE = 1 << 20\n", "\nBULK_SIZE = 1 << 16\n"),),
    ),
    Shortcut(
        "done",
        "a lighter Deferred for what is sent at once",
        (
            Change(
                "deferred.py",
                "done: Callable[[], Deferred[None]] = _Done\n",
                "def done() -> Deferred[None]:\n    return succeed(None)\n",
            ),
        ),
    ),
    Shortcut(
        "fork_server",
        "further gateways are forked",
        (Change("gateways/transports/popen.py", "request.spec.fork is not False", "False"),),
    ),
    Shortcut(
        "splice",
        "the system moves what a fork server forwards",
        (
            Change(
                "far/forkserver/splice.py",
                "    return (_splice is not None and pending(fd)) or 0\n",
                "    return 0\n",
            ),
        ),
    ),
    Shortcut(
        "rehearse",
        "a pre-forked worker does its first steps in advance",
        (
            Change(
                "far/forkserver/forking.py",
                "                rehearse(READ_FD, WRITE_FD)\n",
                "",
            ),
        ),
    ),
    Shortcut(
        "preforked",
        "a worker is forked before it is asked for",
        (
            Change(
                "far/forkserver/forker.py",
                "        if self.preforked is not None or self.is_full():\n",
                "        if True:\n",
            ),
        ),
    ),
)

#: The programs of benchmarks/peers, and the jobs of each that are measured.
JOBS: tuple[tuple[str, tuple[Job, ...]], ...] = (
    (
        "pycomnet_peer.py",
        tuple(
            job
            for job in rows.JOBS
            if job.name
            in {
                "roundtrip",
                "roundtrips_first",
                "dicts_in",
                "dicts_out",
                "burst",
                "bytes_in",
                "bytes_out",
                "list",
                "start",
            }
        ),
    ),
    (
        "pycomnet_calls.py",
        tuple(job for job in service_rows.JOBS if job.name in {"null", "dict", "bytes"}),
    ),
    (
        "pycomnet_places.py",
        tuple(job for job in place_rows.JOBS if job.name in {"many", "ssh", "hops", "bulk"}),
    ),
)


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="What each shortcut of pycomnet gains.")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="default: 5")
    parser.add_argument(
        "--minutes",
        type=float,
        metavar="M",
        help="in place of --rounds: as many as end within that, but one at least",
    )
    names = [shortcut.name for shortcut in SHORTCUTS]
    parser.add_argument(
        "--only", action="append", choices=names, help="only this shortcut (again for more)"
    )
    jobs = [job.name for _, some in JOBS for job in some]
    parser.add_argument("--job", action="append", choices=jobs, help="only this job (likewise)")
    parser.add_argument("--smoke", action="store_true", help="one round of very little of each")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--rst", type=Path, metavar="FILE", help="write the table there")
    arguments = parser.parse_args(argv)
    if arguments.rounds < 1:
        parser.error("--rounds: at least 1")
    return arguments


def without(shortcut: Shortcut, directory: Path) -> Path:
    """A copy of the package in which a shortcut is switched off.

    :param directory: where it is put; it is made.
    :returns: what to put on the path.
    :raises SystemExit: its source has changed so that the change does not fit any more.
    """
    shutil.copytree(
        PACKAGE, directory / "pycomnet", ignore=shutil.ignore_patterns("test", "__pycache__")
    )
    for change in shortcut.changes:
        path = directory / "pycomnet" / change.path
        text = path.read_text()
        if text.count(change.old) != 1:
            raise SystemExit(
                f"{shortcut.name}: {change.path} has {text.count(change.old)} times, not once:\n"
                f"{change.old}"
            )
        path.write_text(text.replace(change.old, change.new))
    compileall.compile_dir(directory, quiet=2)
    (directory / "pycomnet" / "test").symlink_to(PACKAGE / "test")  # some rows use its daemons
    return directory


@dataclass(slots=True)
class Gain:
    """What the shortcuts gain on one row.

    :ivar rounds: how many times it was measured.
    :ivar figure: the row as it is: the median of all rounds.
    :ivar factors: shortcut -> how many times as good the row is with it: the median of the rounds.
    """

    row: Row
    rounds: int
    figure: float
    factors: dict[str, float]


def turns_of(
    jobs: list[tuple[str, Job]], arguments: argparse.Namespace
) -> Iterator[tuple[int, str, Job]]:
    """Each job of each round, with the round's number; the time that a job takes is taken here."""
    end = math.inf if arguments.minutes is None else time.monotonic() + arguments.minutes * 60
    rounds = 1 if arguments.smoke else arguments.rounds
    took: dict[str, float] = {}
    for number in itertools.count() if end < math.inf else range(rounds):
        for program, job in jobs:
            start = time.monotonic()
            if number and start + took[job.name] > end:
                return
            yield number, program, job
            took[job.name] = time.monotonic() - start


def run(
    shortcuts: Iterable[Shortcut], jobs: list[tuple[str, Job]], arguments: argparse.Namespace
) -> tuple[list[Gain], list[str]]:
    """Measure everything.

    :returns: the rows, and what failed, in words.
    """
    figures: dict[tuple[str, str], list[dict[str, float]]] = {}
    failures = []
    with tempfile.TemporaryDirectory(prefix="ablation-") as work:
        places = {"": str(PACKAGE.parent)}
        for shortcut in shortcuts:
            places[shortcut.name] = str(without(shortcut, Path(work) / shortcut.name))
        env = environment(["pycomnet"])
        for number, program, job in turns_of(jobs, arguments):
            print(f"round {number + 1}, {job.name}", file=sys.stderr)
            turns = list(places)
            for name in turns[number % len(turns) :] + turns[: number % len(turns)]:
                env["PYTHONPATH"] = places[name]
                try:
                    found = measure(HERE / "peers" / program, job, arguments.smoke, env)
                except PeerFailed as problem:
                    failures.append(f"{job.name}, without {name or 'nothing'}: {problem}")
                    found = {}
                figures.setdefault((job.name, name), []).append(found)
    gains = []
    for _, job in jobs:
        shown: set[str] = set()
        for row in job.rows:
            whole = figures[job.name, ""]
            if row.key in shown or not any(row.key in found for found in whole):
                continue
            shown.add(row.key)
            factors = {}
            for name in list(places)[1:]:
                ratios = [
                    row.factor(with_it[row.key], without_it[row.key])
                    for with_it, without_it in zip(whole, figures[job.name, name], strict=True)
                    if row.key in with_it and row.key in without_it
                ]
                if ratios:
                    factors[name] = statistics.median(ratios)
            figure = statistics.median(found[row.key] for found in whole if row.key in found)
            gains.append(Gain(row, len(whole), figure, factors))
    return gains, failures


def rst(gains: list[Gain], shortcuts: list[Shortcut], conditions: dict[str, object]) -> str:
    """The table for docs/: a row of the benchmarks in each row, a shortcut in each column."""
    lines = [report.caption(conditions), "", ".. list-table::", "   :header-rows: 1", ""]
    lines += _cells(["row", "as it is", *(shortcut.name for shortcut in shortcuts)])
    for gain in gains:
        factors = [gain.factors.get(shortcut.name) for shortcut in shortcuts]
        figure = f"{report.number(gain.figure)} {gain.row.unit}"
        lines += _cells([gain.row.title, figure, *map(_shown, factors)])
    lines.append("")
    for shortcut in shortcuts:
        best = max(gains, key=lambda gain: gain.factors.get(shortcut.name, 0.0))
        lines += [
            f"``{shortcut.name}``",
            f"   {shortcut.title}; at most {best.factors.get(shortcut.name, 0.0):.2f} times"
            f" ({best.row.title})",
        ]
    return "\n".join(lines) + "\n"


def _cells(texts: list[str]) -> list[str]:
    first, *others = texts
    return [f"   * - {first}", *(f"     - {text}".rstrip() for text in others)]


def _shown(factor: float | None) -> str:
    if factor is None:
        return ""
    return f"**{factor:.2f}**" if factor >= WORTH else f"{factor:.2f}"


def main(argv: list[str]) -> int:
    """Run it; return the exit status: 1 when a process failed to give a figure."""
    arguments = parse(argv)
    shortcuts = [
        shortcut for shortcut in SHORTCUTS if not arguments.only or shortcut.name in arguments.only
    ]
    jobs = [
        (program, job)
        for program, some in JOBS
        for job in some
        if not arguments.job or job.name in arguments.job
    ]
    conditions = report.conditions(0, ["pycomnet"])
    with stoppable():
        gains, failures = run(shortcuts, jobs, arguments)
    conditions["rounds"] = min((gain.rounds for gain in gains), default=0)
    table = rst(gains, shortcuts, conditions)
    print(table)
    for problem in failures:
        print(f"failed: {problem}")
    if arguments.json:
        found = [
            {"row": gain.row.name, "figure": gain.figure, "factors": gain.factors} for gain in gains
        ]
        arguments.json.write_text(json.dumps({**conditions, "rows": found}, indent=1) + "\n")
    if arguments.rst:
        arguments.rst.write_text(table)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
