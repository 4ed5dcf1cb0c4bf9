"""All rows of publish and subscribe as a table: ``benchmarks/pubsub.py --rst FILE``."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pubsub
from nats_rows import through_nats
from pubsub_alone import durable, idle
from pubsub_latency import RATE, latency
from pubsub_stalled import stalled

#: Peers with a broker, and those that are shown for comparison.
BROKERS = ("nats-py", "redis-py")
COLUMNS = ("pycomnet", "nats-py", "redis-py", "pyzmq", "bare")
PACKAGES = ("pycomnet", "nats-py", "redis", "pyzmq", "twisted")


def write_table(path: Path, peers: list[str], rounds: int, scale: float) -> None:
    """Measure everything, and write the table."""
    load = os.getloadavg()[0]
    lines = list(measure(peers, rounds, scale))
    versions = ", ".join(f"{name} {installed(name)}" for name in PACKAGES)
    busy = f" Something else ran on this machine: its load was {load:.1f}." if load > 0.5 else ""
    text = [
        f"Medians of {rounds} interleaved rounds; CPython {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs; {versions}.{busy}",
        "",
        ".. list-table::",
        "   :header-rows: 1",
        "",
    ]
    for line in [("what", *COLUMNS, "ratio", "target", "reached"), *lines]:
        text += [f"   {'*' if not place else ' '} - {cell}" for place, cell in enumerate(line)]
    path.write_text("\n".join(line.rstrip() for line in text) + "\n")
    print(path.read_text())


def installed(name: str) -> str:
    """A package's version."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "(none)"


def line(
    what: str, figures: dict[str, str], ratio: str, target: str, reached: bool | None
) -> tuple[str, ...]:
    """A line of the table."""
    cells = [figures.get(name, "") for name in COLUMNS]
    return (what, *cells, ratio, target, {True: "yes", False: "NO", None: ""}[reached])


def measure(peers: list[str], rounds: int, scale: float) -> Iterable[tuple[str, ...]]:
    """The lines, one after the other."""
    for row in pubsub.ROWS:
        found = pubsub.throughput(row, peers, rounds, scale)
        used = {name: f"{one.used:,.2f}" for name, one in found.items()}
        shown = {name: f"{one.rate:,.0f}" for name, one in found.items()}
        brokers = {name: found[name].times for name in BROKERS if name in found}
        if row.startswith("1 MB"):
            share = found["bare"].times
            yield line(f"{row}, /s", shown, f"{share:.2f}", "over 0.5 of bare", share > 0.5)
        elif brokers:
            name = (
                "nats-py" if row.endswith("one to one") else min(brokers, key=brokers.__getitem__)
            )
            times = brokers[name]
            yield line(f"{row}, /s", shown, f"{times:.1f} times", f"3 times {name}", times >= 3)
        yield line("... us of all processors for each", used, "", "", None)
    latencies = latency(peers, rounds)
    for place, what in enumerate(("p50", "p99")):
        delays = {name: one[place] for name, one in latencies.items()}
        shown = {name: f"{one * 1e6:,.0f}" for name, one in delays.items()}
        best = min((one for name, one in delays.items() if name in BROKERS), default=0.0)
        ratio = f"{delays['pycomnet'] / best:.2f}" if best else ""
        reached = delays["pycomnet"] < best if best else None
        title = f"latency at {RATE:,} events a second, {what}, us"
        yield line(title, shown, ratio, "below each broker's", reached)
    share = stalled(max(rounds, 9), scale)
    title = "one of 101 stalled: the others' rate"
    yield line(title, {"pycomnet": f"{share:.2f}"}, "", "0.95 of that without it", share >= 0.95)
    size = idle()
    title = "an idle subscription of 10,000, bytes"
    yield line(title, {"pycomnet": f"{size:,.0f}"}, "", "under 4,096", size < 4096)
    ours, theirs = durable()
    title = f"durable events a second; SQLite's commits one by one: {theirs:,.0f}"
    times = ours / theirs
    yield line(title, {"pycomnet": f"{ours:,.0f}"}, f"{times:.0f} times", "5 times", times >= 5)
    if shutil.which("nats-server") is not None:
        rates = through_nats(rounds, scale)[100]
        share = rates["via="] / rates["pycomnet.nats"]
        title = "through NATS, 128 B, one to 100, /s; bare: pycomnet.nats"
        shown = {"pycomnet": f"{rates['via=']:,.0f}", "nats-py": f"{rates['nats-py']:,.0f}"}
        shown["bare"] = f"{rates['pycomnet.nats']:,.0f}"
        yield line(title, shown, f"{share:.2f}", "0.9 of bare", share >= 0.9)
