"""Runs peers beside each other: each figure from a process of its own, the peers taking turns.

So no peer can disturb another, and a machine that slows down (A B C, A B C, ...) does so for all.
The programs ``gateway.py`` and ``services.py`` say what is compared; the rest is here.
"""

from __future__ import annotations

import argparse
import compileall
import importlib.util
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import report
from ending import stoppable
from rows import BEST, Job

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


@dataclass(frozen=True, slots=True)
class Comparison:
    """What one program compares.

    :ivar description: for its help.
    :ivar program: the name of a peer's program in ``peers``, with a place for the peer's name.
    :ivar columns: the peers in the order of the table's columns.
    :ivar packages: peer -> the package that it is, None for one that needs none.
    :ivar against: what the rows are compared with that do not say something else.
    :ivar heavy: what the heavy jobs are and need.
    """

    description: str
    program: str
    jobs: tuple[Job, ...]
    columns: tuple[str, ...]
    packages: dict[str, str | None]
    against: str
    heavy: str = ""

    def available(self, peer: str) -> bool:
        """Whether a peer is installed."""
        package = self.packages[peer]
        return package is None or importlib.util.find_spec(package) is not None


class PeerFailed(Exception):
    """A peer's process did not give a figure; the message says why."""


def parse(comparison: Comparison, argv: list[str]) -> argparse.Namespace:
    """Read the command line."""
    jobs = comparison.jobs
    parser = argparse.ArgumentParser(description=comparison.description)
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="default: 5")
    parser.add_argument(
        "--only",
        action="append",
        metavar="NAME",
        help="only this row or job (again for more): "
        + ", ".join(job.name for job in jobs)
        + "; a name that is given is run, heavy or not",
    )
    if comparison.heavy:
        parser.add_argument("--heavy", action="store_true", help=comparison.heavy)
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="a round with very little of each: only whether it works, the figures say nothing",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--rst", type=Path, metavar="FILE", help="write the table there")
    parser.add_argument("--plot", metavar="FILE", help="draw the ratios: .svg, .png (matplotlib)")
    arguments = parser.parse_args(argv)
    if arguments.rounds < 1:
        parser.error("--rounds: at least 1")
    names = {job.name for job in jobs} | {row.name for job in jobs for row in job.rows}
    for name in arguments.only or ():
        if name not in names:
            parser.error(f"--only: no row {name!r}; there are: {', '.join(sorted(names))}")
    return arguments


def choose(jobs: tuple[Job, ...], only: list[str] | None, heavy: bool) -> list[Job]:
    """The jobs that a command line asks for."""
    if only:
        wanted = set(only)
        return [
            job for job in jobs if job.name in wanted or wanted & {row.name for row in job.rows}
        ]
    return [job for job in jobs if heavy or not job.heavy]


def environment(packages: list[str]) -> dict[str, str]:
    """What the peers run in: the packages compiled, as pip leaves them, and bytecode used."""
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    if importlib.util.find_spec("pycomnet") is None:
        sys.path.insert(0, str(ROOT))
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), env.get("PYTHONPATH")]))
    for name in packages:
        spec = importlib.util.find_spec(name)
        for place in (spec and spec.submodule_search_locations) or ():
            compileall.compile_dir(place, quiet=2)
    return env


#: The peers' processes that are running, each the leader of a group of its own.
_running: set[subprocess.Popen[str]] = set()


def _kill(process: subprocess.Popen[str]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # all of its group has ended


def measure(program: Path, job: Job, smoke: bool, env: dict[str, str]) -> dict[str, float]:
    """Run a peer's process for a job; return its measures.

    :raises PeerFailed: it failed, or took longer than it may.
    """
    command = [sys.executable, str(program), job.name]
    process = subprocess.Popen(
        command + ["--smoke"] * smoke,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        text=True,
        start_new_session=True,
    )
    _running.add(process)
    try:
        output, errors = process.communicate(timeout=job.timeout)
    except subprocess.TimeoutExpired:
        raise PeerFailed(f"no answer in {job.timeout:g} seconds") from None
    finally:
        _running.discard(process)
        if process.poll() is None:
            _kill(process)
            process.communicate()
    lines = output.splitlines()
    if process.returncode or not lines:
        last = "\n".join(errors.splitlines()[-3:])
        raise PeerFailed(f"exit status {process.returncode}:\n{last}")
    figures: dict[str, float] = json.loads(lines[-1])
    return figures


def run(
    comparison: Comparison, arguments: argparse.Namespace, env: dict[str, str]
) -> tuple[list[report.Line], dict[str, str]]:
    """Measure everything.

    :returns: the lines, and what failed: ``job, peer`` and the last reason.
    """
    jobs = choose(comparison.jobs, arguments.only, getattr(arguments, "heavy", False))
    rounds = 1 if arguments.smoke else arguments.rounds
    turns = [
        (job, peer)
        for number in range(rounds)
        for job in jobs
        if not (job.once and number)
        for _ in range(1 if arguments.smoke else job.times)
        for peer in filter(comparison.available, job.peers)
    ]
    runs: dict[tuple[Job, str, str], list[float]] = {}
    failures = {}

    def take(turn: tuple[Job, str]) -> dict[str, float] | PeerFailed:
        job, peer = turn
        program = HERE / "peers" / comparison.program.format(peer)
        try:
            return measure(program, job, arguments.smoke, env)
        except PeerFailed as problem:
            return problem

    with ThreadPoolExecutor(os.cpu_count() if arguments.smoke else 1) as pool:
        try:
            for number, result in enumerate(pool.map(take, turns)):
                job, peer = turns[number]
                print(f"{number + 1}/{len(turns)} {job.name}, {peer}", file=sys.stderr)
                if isinstance(result, PeerFailed):
                    failures[f"{job.name}, {peer}"] = str(result)
                    continue
                for key, figure in result.items():
                    runs.setdefault((job, key, peer), []).append(figure)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(_running):
                _kill(process)
            raise
    lines = []
    for job in jobs:
        for row in job.rows:
            # A further row of figures that another row has: only the two that it compares.
            alone = row.against not in (comparison.against, BEST) and row.measure
            shown = (row.against, report.OURS) if alone else job.peers
            found = {peer: runs.get((job, row.key, peer), []) for peer in shown}
            lines.append(report.Line(row, {peer: each for peer, each in found.items() if each}))
    return lines, failures


def main(comparison: Comparison, argv: list[str]) -> int:
    """Run it; return the exit status: 1 when a peer failed to give a figure."""
    arguments = parse(comparison, argv)
    packages = [name for name in comparison.packages.values() if name is not None]
    env = environment(packages)
    conditions = report.conditions(1 if arguments.smoke else arguments.rounds, packages)
    with stoppable():
        lines, failures = run(comparison, arguments, env)
    table = report.Table(comparison.columns, comparison.against)
    print(report.caption(conditions))
    if conditions["load"] > 0.5 and not arguments.smoke:
        print(f"Something else ran on this machine: its load was {conditions['load']:.1f}.")
    print()
    print(table.text(lines, arguments.smoke))
    for name, problem in failures.items():
        print(f"\nfailed: {name}: {problem}")
    if arguments.json:
        found = {**conditions, "rows": [line.as_map() for line in lines], "failures": failures}
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    if arguments.rst:
        arguments.rst.write_text(table.rst(lines, conditions))
    if arguments.plot:
        table.plot(lines, arguments.plot)
    if arguments.smoke and not failures:
        print("\nit works (these figures say nothing: they are of very few values)")
    return 1 if failures else 0
