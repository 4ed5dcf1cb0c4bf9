"""What the peers of the places' comparison share: an sshd, how deep, and the bulk."""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from measure import Amounts

#: The checkout's tests have an sshd that is an ordinary process.
sys.path.append(str(Path(__file__).resolve().parents[2]))

DEPTHS = (0, 1, 2, 3)


def many(amounts: Amounts) -> int:
    """How many gateways are started."""
    return 50 if amounts.roundtrips > 1000 else 5


def further(amounts: Amounts) -> int:
    """How many further gateways there are on a host; the median counts."""
    return 15 if amounts.roundtrips > 1000 else 2


@contextmanager
def host() -> Iterator[Any]:
    """An sshd on loopback, with keys of its own."""
    from pycomnet.test.system.sshd import Sshd

    with tempfile.TemporaryDirectory() as directory:
        running = Sshd(Path(directory))
        try:
            yield running
        finally:
            running.stop()


@contextmanager
def factory() -> Iterator[str]:
    """A local factory as a daemon; its address."""
    from pycomnet.test.system.daemons import daemons

    with tempfile.TemporaryDirectory() as directory, daemons(Path(directory)) as running:
        address = f"unix:{directory}/sock"
        running.start("pycomnet-factory", "--listen", address).wait_for("listening on")
        yield address


#: Milliseconds that a network between two simulated hosts takes, there and back.
NETWORK = 50.0


@contextmanager
def network(milliseconds: float) -> Iterator[None]:
    """Have ``ssh`` lead to hosts that are simulated, so far away.

    :param milliseconds: for a round trip to the next host.
    """
    from pycomnet.test.system.slow_ssh import install

    before = os.environ["PATH"]
    with tempfile.TemporaryDirectory() as directory:
        install(Path(directory), milliseconds / 2)
        os.environ["PATH"] = f"{directory}{os.pathsep}{before}"
        try:
            yield
        finally:
            os.environ["PATH"] = before


def hop_figures(times: dict[int, list[float]]) -> dict[str, float]:
    """The rows of round trips: seconds for each, by how many hops they went through."""
    median = {depth: statistics.median(each) for depth, each in times.items()}
    found = {f"hop_{depth}": median[depth] * 1e6 for depth in (1, 2, 3)}
    found["hop_added"] = (median[3] - median[0]) / 3 / median[0]
    return found


class Clock:
    """Milliseconds since it was made."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    def ms(self) -> float:
        return (time.perf_counter() - self._start) * 1e3
