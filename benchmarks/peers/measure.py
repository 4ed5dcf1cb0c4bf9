"""What the peers share: how much of each is measured, the values, memory, and the answer."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MB = 1_000_000
#: Dicts that are sent one right after the other, with nothing in between.
BURST = 1000
#: Seconds without progress after which a sender counts as blocked, and between looks at it.
BLOCKED_AFTER = 1.0
LOOK = 0.1
#: Seconds from which on a ping counts as a stall: the target of the ping-pong.
STALL = 0.02


@dataclass(frozen=True, slots=True)
class Amounts:
    """How much is measured.

    Each measurement is preceded by a tenth of it that does not count.
    """

    roundtrips: int = 5000
    #: the first ones of a gateway, nothing before them
    first: int = 1000
    dicts: int = 40000
    #: bursts of :data:`BURST` dicts
    bursts: int = 50
    megabytes: int = 200
    lists: int = 30
    held: int = 300
    big: int = 1000
    #: calls one after the other; four times as many in flight
    calls: int = 3000
    #: calls with a megabyte, both ways
    blocks: int = 256
    #: idle connections
    idle: int = 10000
    #: logins at the same time
    logins: int = 200
    #: seconds of calls before that
    quiet: float = 3.0
    #: registrations of a nameserver; the share of its records; seconds of renewals
    registrations: int = 40000
    records: float = 1.0
    renewals: float = 8.0
    #: seconds for each of the codec's figures
    codec: float = 0.1


SMOKE = Amounts(
    roundtrips=100,
    first=100,
    dicts=1000,
    bursts=3,
    megabytes=5,
    lists=3,
    held=30,
    big=20,
    calls=100,
    blocks=5,
    idle=100,
    logins=5,
    quiet=0.1,
    registrations=500,
    records=0.001,
    renewals=0.3,
    codec=0.005,
)


def both(count: int) -> list[int]:
    """The amounts of the warming up and of what counts."""
    return [max(1, count // 10), count]


def small_dict(number: int) -> dict[str, Any]:
    """What is streamed; the far functions have the same."""
    return {"id": number, "name": "a name", "score": 0.5, "ok": True}


def dict_list() -> list[dict[str, Any]]:
    """A thousand of them."""
    return [small_dict(number) for number in range(1000)]


def codec_figures(
    dumps: Callable[[Any], bytes], loads: Callable[[bytes], Any], amounts: Amounts
) -> dict[str, float]:
    """Microseconds that a serializer takes for each shape: the median of some batches."""
    shapes = {
        "int": 12345,
        "dict": small_dict(1),
        "bytes": b"x" * MB,
        "list": dict_list(),
    }
    found = {}
    for name, value in shapes.items():
        data = dumps(value)
        if loads(data) != value:
            raise AssertionError(f"{name} does not survive")
        found[f"dumps_{name}"] = _each(dumps, value, amounts.codec)
        found[f"loads_{name}"] = _each(loads, data, amounts.codec)
    return found


def _each(function: Callable[[Any], Any], argument: Any, seconds: float) -> float:
    batch = 1
    while True:
        start = time.perf_counter()
        for _ in range(batch):
            function(argument)
        took = time.perf_counter() - start
        if took > seconds / 10:
            break
        batch *= 2
    figures = []
    for _ in range(10):
        start = time.perf_counter()
        for _ in range(batch):
            function(argument)
        figures.append((time.perf_counter() - start) / batch * 1e6)
    return statistics.median(figures)


def percentile(figures: list[float], share: float) -> float:
    """The figure that a share of them does not exceed."""
    return sorted(figures)[min(len(figures) - 1, int(len(figures) * share))]


def pingpong_figures(way: str, times: list[float], size: int, took: float) -> dict[str, float]:
    """The rows of a ping-pong (seconds for each) beside a value of ``size`` bytes.

    A stall is only one ping, however long it is, as the next waits for it; so percentiles alone
    would hide it, and there is also the share of the time that went by in stalls.
    """
    stalled = sum(each for each in times if each > STALL)
    return {
        f"big_{way}_p99": percentile(times, 0.99) * 1000,
        f"big_{way}_max": max(times) * 1000,
        f"big_{way}_stalled": stalled / took * 100,
        f"big_{way}_rate": size / MB / took,
    }


# -- memory (Linux) ------------------------------------------------------------------------------


def far_processes() -> list[int]:
    """The processes that this one started, and theirs: the far side."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", "rb") as stat:
                    fields = stat.read().rpartition(b")")[2].split()
            except OSError:
                continue
            if fields[0] != b"Z":
                parents[int(entry)] = int(fields[1])
    found = [os.getpid()]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found[1:]


def _field(path: str, name: str) -> float:
    with open(path) as file:
        for line in file:
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024 / MB
    return 0.0


def memory(pids: list[int], name: str) -> float:
    """``Pss`` or ``Rss`` of the processes, summed, in MB."""
    return sum(_field(f"/proc/{pid}/smaps_rollup", name) for pid in pids)


def watch_growth(pids: list[int]) -> Callable[[], float]:
    """What the processes' resident memory has grown by since now, at its peak, in MB."""
    for pid in pids:
        with open(f"/proc/{pid}/clear_refs", "w") as file:
            file.write("5")  # the peak is what it is now
    before = sum(_field(f"/proc/{pid}/status", "VmHWM") for pid in pids)
    return lambda: sum(_field(f"/proc/{pid}/status", "VmHWM") for pid in pids) - before


class Progress:
    """Says when a counter has stood still, or has reached its end."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._last = -1
        self._since = time.perf_counter()

    def over(self, count: int) -> bool:
        """Look at the counter."""
        now = time.perf_counter()
        if count != self._last:
            self._last, self._since = count, now
        return count >= self._total or now - self._since > BLOCKED_AFTER


# -- Twisted -------------------------------------------------------------------------------------


def run_reactor(main: Callable[[Any], Any]) -> None:
    """Run an ``async def`` on Twisted's epoll reactor, which it is given.

    :raises SystemExit: it failed.
    """
    from twisted.internet import epollreactor
    from twisted.internet.task import react

    epollreactor.install()
    try:
        react(main)
    except SystemExit as end:
        if end.code:
            raise


# -- the answer ----------------------------------------------------------------------------------


def answer(run: Callable[[str, Amounts], dict[str, float]]) -> None:
    """Measure what the command line asks for and print it, as the last line, as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("job")
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args()
    figures = run(arguments.job, SMOKE if arguments.smoke else Amounts())
    print(json.dumps(figures), flush=True)
