"""The drop-in beside execnet: the rows of gateway.py, and pytest-xdist on both. Interleaved.

python benchmarks/dropin.py --rounds 5
python benchmarks/dropin.py --only roundtrip --only n2
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

from rows import JOBS, Row

PEERS = Path(__file__).parent / "peers"
#: pytest's plugins that are installed here, apart from pytest-xdist.
OTHERS = {
    entry.name
    for entry in entry_points(group="pytest11")
    if not entry.value.startswith("xdist.") and entry.name != "twisted"
}
#: Leaves them out.
WITHOUT_OTHERS = tuple(word for name in sorted(OTHERS) for word in ("-p", f"no:{name}"))


@dataclass(frozen=True)
class Suite:
    """A run of pytest-xdist.

    :ivar count: the number of tests.
    :ivar target: how many times as good as with execnet it has to be.
    :ivar options: further options of pytest.
    :ivar bound: whether it is compared with forked workers that have no connection, too.
    """

    title: str
    count: int
    workers: int
    target: float
    options: tuple[str, ...] = ()
    bound: bool = False


SUITES = {
    "n2": Suite("pytest -n 2, 301 tests", 301, 2, 1.0),
    "short": Suite("pytest -n 2, 3,000 tests", 3000, 2, 1.1),
    "n8": Suite("pytest -n 8, 8 tests", 8, 8, 2.0, bound=True),
    "n8_alone": Suite("... no plugins but xdist", 8, 8, 2.0, WITHOUT_OTHERS, bound=True),
}
#: How many times as good a row of gateway.py has to be.
TIMES = 2.0
#: Rows in which the drop-in does as execnet does, whose meaning it has: it keeps what is not
#: received yet.
SAME = ("memory", "held_in", "held_out", "codec")
#: What else is shown of round trips: where other processes want the processors, too, the median
#: alone says little.
ROUND_TRIP = (
    Row("roundtrip_tenth", "... a tenth of them are quicker", "us", "less"),
    Row("roundtrip_mean", "... the mean", "us", "less"),
    Row("roundtrip_cpu", "... this process's processor time", "us", "less"),
)
TIMEOUT = 300


def figures(peer: str, job: str, smoke: bool) -> dict[str, float]:
    """What one process of a peer measures."""
    command = [sys.executable, str(PEERS / f"{peer}_peer.py"), job, *(["--smoke"] if smoke else [])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def seconds(peer: str, suite: Suite, directory: str) -> dict[str, float]:
    """The time of one run of a suite, and the processor's time.

    :param peer: ``dropin``, ``execnet``, or ``forked`` for workers without a connection.
    """
    count = suite.count
    Path(directory, "test_many.py").write_text(
        f"import pytest\n@pytest.mark.parametrize('n', range({count}))\ndef test(n): pass\n"
    )
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:twisted", *suite.options]
    if peer == "forked":
        command = [str(PEERS / "forked_pytest.py"), str(suite.workers), *options]
    else:
        command = ["-m", "pytest", *options, "-n", str(suite.workers)]
        if peer == "dropin":
            command += ["-p", "pycomnet.xdist"]
    before = os.times()
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *command],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    took = time.perf_counter() - begin
    after = os.times()
    if f"{count} passed" not in done.stdout:
        raise SystemExit(done.stdout + done.stderr)
    used = after.children_user + after.children_system
    return {"wall": took, "cpu": used - before.children_user - before.children_system}


def show(title: str, found: dict[str, list[float]], better: str, unit: str, target: float) -> None:
    """Print a row: both medians, and how many times as good the drop-in is."""
    ours, theirs = (statistics.median(found[peer]) for peer in ("dropin", "execnet"))
    factor = ours / theirs if better == "more" else theirs / ours
    goal = f"(at least {target:g})" if target else ""
    print(f"{title:52} {ours:10.2f} {theirs:10.2f} {unit:8} {factor:6.2f} {goal}", flush=True)


def measure_suite(suite: Suite, rounds: int) -> None:
    """Measure one of :data:`SUITES`."""
    found: dict[str, dict[str, list[float]]] = {}
    peers = ("execnet", "dropin", "forked") if suite.bound else ("execnet", "dropin")
    with tempfile.TemporaryDirectory() as directory:
        for _ in range(rounds):
            for peer in peers:
                for key, value in seconds(peer, suite, directory).items():
                    found.setdefault(key, {}).setdefault(peer, []).append(value)
    show(suite.title, found["wall"], "less", "s", suite.target)
    show(f"{suite.title}, processor", found["cpu"], "less", "s", 0)
    if suite.bound:
        for key, title in (("wall", "time"), ("cpu", "processor")):
            against = {"dropin": found[key]["dropin"], "execnet": found[key]["forked"]}
            show(f"... beside forked sessions alone, {title}", against, "less", "s", 0)


def measure_job(name: str, rows: tuple[Row, ...], rounds: int, smoke: bool) -> None:
    """Measure the rows of one job of gateway.py."""
    found: dict[str, dict[str, list[float]]] = {}
    bounds = [row for row in rows if row.against == "bare"]
    for _ in range(rounds):
        for peer in ("execnet", "dropin", *(["bare"] if bounds else [])):
            for key, value in figures(peer, name, smoke).items():
                found.setdefault(key, {}).setdefault(peer, []).append(value)
    for row in rows:
        if row.against == "execnet" and row.key in found:
            target = 0 if name in SAME else TIMES
            show(row.title, found[row.key], row.better, row.unit, target)
    for row in ROUND_TRIP:
        if row.key in found:
            show(row.title, found[row.key], row.better, row.unit, 0)
    for row in bounds:
        measured = found[row.measure or row.key]
        against = {"dropin": measured["dropin"], "execnet": measured["bare"]}
        show(f"{row.title} (no drop-in can be quicker)", against, row.better, row.unit, 0)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--only", action="append", help=f"a job of gateway.py, or of: {', '.join(SUITES)}"
    )
    parser.add_argument("--smoke", action="store_true", help="very little of each, one round")
    options = parser.parse_args()
    rounds = 1 if options.smoke else options.rounds
    print(f"{'':52} {'drop-in':>10} {'execnet':>10} {'':8} {'times':>6}")
    for job in JOBS:
        wanted = job.name in (options.only or ()) or not (options.only or job.heavy)
        if wanted and "execnet" in job.peers:
            measure_job(job.name, job.rows, rounds, options.smoke)
    for name, suite in SUITES.items():
        if name in (options.only or SUITES):
            measure_suite(suite, rounds)


if __name__ == "__main__":
    main()
