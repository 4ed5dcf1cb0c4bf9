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
from pathlib import Path

from rows import JOBS, Row

PEERS = Path(__file__).parent / "peers"
#: Name -> title, number of tests, workers, and how many times as good it has to be.
SUITES = {
    "n2": ("pytest -n 2, 301 tests", 301, 2, 1.0),
    "short": ("pytest -n 2, 3,000 tests", 3000, 2, 1.1),
    "n8": ("pytest -n 8, 8 tests", 8, 8, 2.0),
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


def seconds(peer: str, count: int, workers: int, directory: str) -> dict[str, float]:
    """The time of one run of pytest-xdist, and the processor's time."""
    plugin = ["-p", "pycomnet.xdist"] if peer == "dropin" else []
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:twisted"]
    Path(directory, "test_many.py").write_text(
        f"import pytest\n@pytest.mark.parametrize('n', range({count}))\ndef test(n): pass\n"
    )
    before = os.times()
    begin = time.perf_counter()
    done = subprocess.run(
        [*command, *plugin, "-n", str(workers)],
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


def measure_suite(name: str, rounds: int) -> None:
    """Measure one row of :data:`SUITES`."""
    title, count, workers, target = SUITES[name]
    found: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as directory:
        for _ in range(rounds):
            for peer in ("execnet", "dropin"):
                for key, value in seconds(peer, count, workers, directory).items():
                    found.setdefault(key, {}).setdefault(peer, []).append(value)
    show(title, found["wall"], "less", "s", target)
    show(f"{title}, processor", found["cpu"], "less", "s", 0)


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
    parser.add_argument("--only", action="append", help="a job of gateway.py, or of: n2, short, n8")
    parser.add_argument("--smoke", action="store_true", help="very little of each, one round")
    options = parser.parse_args()
    rounds = 1 if options.smoke else options.rounds
    print(f"{'':52} {'drop-in':>10} {'execnet':>10} {'':8} {'times':>6}")
    for job in JOBS:
        wanted = job.name in (options.only or ()) or not (options.only or job.heavy)
        if wanted and "execnet" in job.peers:
            measure_job(job.name, job.rows, rounds, options.smoke)
    for name in SUITES:
        if name in (options.only or SUITES):
            measure_suite(name, rounds)


if __name__ == "__main__":
    main()
