"""This checkout beside an older one: each row in both, in one run, interleaved.

Make a tree of the older commit, and name the program whose rows are measured::

    git worktree add /tmp/before COMMIT
    python benchmarks/before.py /tmp/before mediator --only websocket --only post --rounds 9

Each figure comes from a process of its own: of the tree's ``benchmarks/peers``, with the tree's
package. The two take turns, and each is first in every other round. A ratio is of figures of one
round: over 1, this checkout is better. The exit status is 1 if a row's median is below --floor, or
if a process failed.
"""

from __future__ import annotations

import argparse
import compileall
import os
import statistics
import sys
from dataclasses import dataclass, field
from pathlib import Path

import report
from compare import ROOT, Comparison, PeerFailed, choose, environment, measure
from ending import stoppable
from gateway import GATEWAYS
from mediator import MEDIATOR
from nameserver import NAMESERVERS
from places import PLACES
from rows import OURS, Job, Row
from services import SERVICES

PROGRAMS = {
    "gateway": GATEWAYS,
    "mediator": MEDIATOR,
    "nameserver": NAMESERVERS,
    "places": PLACES,
    "services": SERVICES,
}


@dataclass(slots=True)
class Pairs:
    """A row's figures, as (before, now) of each round."""

    row: Row
    figures: list[tuple[float, float]] = field(default_factory=list)

    def ratios(self) -> list[float]:
        """How many times as good the row is now, in each round."""
        return [self.row.factor(now, before) for before, now in self.figures]

    def cells(self, floor: float) -> list[str]:
        """For the table."""
        ratios = sorted(self.ratios())
        quarters = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        return [
            self.row.title,
            self.row.unit,
            *(report.number(statistics.median(each)) for each in zip(*self.figures, strict=True)),
            f"{statistics.median(ratios):.2f}",
            f"{quarters[0]:.2f} to {quarters[2]:.2f}",
            "yes" if statistics.median(ratios) >= floor else "NO",
        ]


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="This checkout beside an older one.")
    parser.add_argument("tree", type=Path, help="the checkout of an older commit")
    parser.add_argument("program", choices=PROGRAMS)
    parser.add_argument("--only", action="append", metavar="NAME", help="only this row or job")
    parser.add_argument("--rounds", type=int, default=9, metavar="N", help="default: 9")
    parser.add_argument("--floor", type=float, default=0.95, help="default: 0.95")
    parser.add_argument("--smoke", action="store_true", help="one round of very little of each")
    arguments = parser.parse_args(argv)
    if arguments.rounds < 1:
        parser.error("--rounds: at least 1")
    if not (arguments.tree / "benchmarks" / "peers").is_dir():
        parser.error(f"{arguments.tree} is no checkout: it has no benchmarks/peers")
    return arguments


def run(
    comparison: Comparison, jobs: list[Job], arguments: argparse.Namespace
) -> tuple[list[Pairs], list[str]]:
    """Measure everything; return the rows, and what failed."""
    trees = {"before": arguments.tree.resolve(), "now": ROOT}
    for tree in trees.values():
        compileall.compile_dir(tree / "pycomnet", quiet=2)
    env = environment([])
    program = Path("benchmarks", "peers", comparison.program.format(OURS))
    # Rows that repeat another row's measure compare it with a peer.
    pairs = {row.name: Pairs(row) for job in jobs for row in job.rows if not row.measure}
    failures = []
    rounds = 1 if arguments.smoke else arguments.rounds
    for number in range(rounds):
        for job in jobs:
            print(f"round {number + 1} of {rounds}, {job.name}", file=sys.stderr)
            found = {}
            for name in sorted(trees, reverse=number % 2 == 1):
                env["PYTHONPATH"] = str(trees[name])
                try:
                    found[name] = measure(trees[name] / program, job, arguments.smoke, env)
                except PeerFailed as problem:
                    failures.append(f"{job.name}, {name}: {problem}")
            if len(found) < len(trees):
                continue
            for row in job.rows:
                figures = [found[name].get(row.name) for name in trees]
                if row.name in pairs and None not in figures:
                    pairs[row.name].figures.append((figures[0], figures[1]))
    return [each for each in pairs.values() if each.figures], failures


def main(argv: list[str]) -> int:
    """Run it; return the exit status."""
    arguments = parse(argv)
    comparison = PROGRAMS[arguments.program]
    jobs = [job for job in choose(comparison.jobs, arguments.only, False) if OURS in job.peers]
    load = os.getloadavg()[0]
    with stoppable():
        pairs, failures = run(comparison, jobs, arguments)
    print(f"Medians of {arguments.rounds} interleaved rounds; load at the start {load:.1f}")
    header = ["what", "unit", "before", "now", "ratio", "quartiles", f"{arguments.floor:g}"]
    table = [header, *(each.cells(arguments.floor) for each in pairs)]
    widths = [max(len(cells[at]) for cells in table) for at in range(len(header))]
    for cells in table:
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        print("  ".join(padded).rstrip())
    for problem in failures:
        print(f"failed: {problem}")
    slower = [each for each in pairs if statistics.median(each.ratios()) < arguments.floor]
    return 1 if failures or (slower and not arguments.smoke) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
