"""pycomnet beside execnet, Mitogen and a bare socket pair: one run, one machine, interleaved.

Each figure comes from a process of its own, started afresh for each round, so that no peer can
disturb another; the peers take turns (A B C, A B C, ...), so that a machine that slows down does
so for all. Run it as ``python benchmarks/gateway.py``; benchmarks/README.rst says what the rows
are.
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
from pathlib import Path

import report
from rows import JOBS, OURS, Job

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


class PeerFailed(Exception):
    """A peer's process did not give a figure; the message says why."""


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="pycomnet beside execnet, Mitogen and a bare socket pair, in one run."
    )
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="default: 5")
    parser.add_argument(
        "--only",
        action="append",
        metavar="NAME",
        help="only this row or job (again for more): "
        + ", ".join(job.name for job in JOBS)
        + "; a name that is given is run, heavy or not",
    )
    parser.add_argument("--heavy", action="store_true", help="the 1 GB rows too: needs 8 GB")
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
    names = {job.name for job in JOBS} | {row.name for job in JOBS for row in job.rows}
    for name in arguments.only or ():
        if name not in names:
            parser.error(f"--only: no row {name!r}; there are: {', '.join(sorted(names))}")
    return arguments


def choose(only: list[str] | None, heavy: bool) -> list[Job]:
    """The jobs that a command line asks for."""
    if only:
        wanted = set(only)
        return [
            job for job in JOBS if job.name in wanted or wanted & {row.name for row in job.rows}
        ]
    return [job for job in JOBS if heavy or not job.heavy]


def environment() -> dict[str, str]:
    """What the peers run in: the packages compiled, as pip leaves them, and bytecode used."""
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    if importlib.util.find_spec("pycomnet") is None:
        sys.path.insert(0, str(ROOT))
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), env.get("PYTHONPATH")]))
    for name in ("pycomnet", "execnet", "mitogen"):
        spec = importlib.util.find_spec(name)
        for place in (spec and spec.submodule_search_locations) or ():
            compileall.compile_dir(place, quiet=2)
    return env


def available(peer: str) -> bool:
    """Whether a peer is installed."""
    return peer == "bare" or importlib.util.find_spec(peer) is not None


def measure(peer: str, job: Job, smoke: bool, env: dict[str, str]) -> dict[str, float]:
    """Run a peer's process for a job; return its measures.

    :raises PeerFailed: it failed, or took longer than it may.
    """
    command = [sys.executable, str(HERE / "peers" / f"{peer}_peer.py"), job.name]
    process = subprocess.Popen(
        command + ["--smoke"] * smoke,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=job.timeout)
    except subprocess.TimeoutExpired:
        raise PeerFailed(f"no answer in {job.timeout:g} seconds") from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    lines = output.splitlines()
    if process.returncode or not lines:
        last = "\n".join(errors.splitlines()[-3:])
        raise PeerFailed(f"exit status {process.returncode}:\n{last}")
    figures: dict[str, float] = json.loads(lines[-1])
    return figures


def run(
    arguments: argparse.Namespace, env: dict[str, str]
) -> tuple[list[report.Line], dict[str, str]]:
    """Measure everything.

    :returns: the lines, and what failed: ``job, peer`` and the last reason.
    """
    jobs = choose(arguments.only, arguments.heavy)
    rounds = 1 if arguments.smoke else arguments.rounds
    turns = [
        (job, peer)
        for _ in range(rounds)
        for job in jobs
        for _ in range(1 if arguments.smoke else job.times)
        for peer in filter(available, job.peers)
    ]
    runs: dict[tuple[Job, str, str], list[float]] = {}
    failures = {}

    def take(turn: tuple[Job, str]) -> dict[str, float] | PeerFailed:
        try:
            return measure(turn[1], turn[0], arguments.smoke, env)
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
            raise
    lines = []
    for job in jobs:
        for row in job.rows:
            shown = job.peers if row.against == "execnet" else (row.against, OURS)
            found = {peer: runs.get((job, row.key, peer), []) for peer in shown}
            lines.append(report.Line(row, {peer: each for peer, each in found.items() if each}))
    return lines, failures


def main(argv: list[str]) -> int:
    """Run it; return the exit status: 1 when a peer failed to give a figure."""
    arguments = parse(argv)
    env = environment()
    conditions = report.conditions(1 if arguments.smoke else arguments.rounds)
    lines, failures = run(arguments, env)
    print(report.caption(conditions))
    if conditions["load"] > 0.5 and not arguments.smoke:
        print(f"Something else ran on this machine: its load was {conditions['load']:.1f}.")
    print()
    print(report.text_table(lines, arguments.smoke))
    for name, problem in failures.items():
        print(f"\nfailed: {name}: {problem}")
    if arguments.json:
        found = {**conditions, "rows": [line.as_map() for line in lines], "failures": failures}
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    if arguments.rst:
        arguments.rst.write_text(report.rst_table(lines, conditions))
    if arguments.plot:
        report.plot(lines, conditions, arguments.plot)
    if arguments.smoke and not failures:
        print("\nit works (these figures say nothing: they are of very few values)")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
