"""What the peers of the mediator's comparison share: the measures of a gateway."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import far
import measure
from measure import MB, Amounts
from twisted.internet.task import deferLater

import pycomnet

#: The checkout's tests have servers that are ordinary processes.
sys.path.append(str(Path(__file__).resolve().parents[2]))

Figures = dict[str, float]


async def trip(gateway: Any, amounts: Amounts) -> float:
    """Microseconds of a round trip of a small value."""
    channel = gateway.remote_exec(far.echo)
    for count in measure.both(amounts.roundtrips // 2):
        times = []
        for number in range(count):
            start = time.perf_counter()
            channel.send(number)
            await channel.receive()
            times.append(time.perf_counter() - start)
    channel.close()
    return statistics.median(times) * 1e6


async def bytes_in(gateway: Any, amounts: Amounts) -> float:
    """MB a second from the far side, in values of 1 MB."""
    counts = measure.both(amounts.megabytes)
    channel = gateway.remote_exec(far.send_bytes, counts=counts, size=MB)
    for count in counts:
        start = time.perf_counter()
        channel.send("go")
        for _ in range(count):
            await channel.receive()
        took = time.perf_counter() - start
    return amounts.megabytes / took


async def bytes_out(gateway: Any, amounts: Amounts) -> float:
    """MB a second to the far side."""
    counts = measure.both(amounts.megabytes)
    channel = gateway.remote_exec(far.take, counts=counts)
    data = bytes(MB)
    for count in counts:
        start = time.perf_counter()
        for _ in range(count):
            await channel.send(data)
        await channel.receive()
        took = time.perf_counter() - start
    return amounts.megabytes / took


async def figures_of(job: str, gateway: Any, amounts: Amounts) -> Figures:
    """The rows of one way."""
    return {
        f"{job}_trip": await trip(gateway, amounts),
        f"{job}_in": await bytes_in(gateway, amounts),
        f"{job}_out": await bytes_out(gateway, amounts),
    }


def run(work: Callable[[Any, Any], Awaitable[Figures]]) -> Figures:
    """Do what needs a group and a running reactor."""
    figures: Figures = {}

    async def main(reactor: Any) -> None:
        await deferLater(reactor, 0)  # the reactor runs from here on
        async with pycomnet.Group(reactor) as group:
            figures.update(await work(group, reactor))

    measure.run_reactor(main)
    return figures
