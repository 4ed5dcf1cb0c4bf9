"""pycomnet: many gateways, on a host, and through each other."""

from __future__ import annotations

import os
import resource
import statistics
import sys
import time
from typing import Any

import far
import measure
import places
from measure import MB, Amounts
from places import Clock
from twisted.internet.defer import gatherResults
from twisted.internet.task import deferLater

import pycomnet

Figures = dict[str, float]
#: Round trips that are timed for the first and the last of many.
LOOKS = 300


async def many(group: Any, amounts: Amounts) -> Figures:
    count = places.many(amounts)
    clock = Clock()
    gateways = await group.makegateways(["popen"] * count)
    channels = [gateway.remote_exec(far.first) for gateway in gateways]
    await gatherResults([channel.receive() for channel in channels])
    return {"many": clock.ms()}


async def ssh(group: Any, amounts: Amounts) -> Figures:
    times = []
    with places.host() as host:
        for _ in range(places.further(amounts) + 1):
            clock = Clock()
            gateway = await group.makegateway(host.spec())
            await gateway.remote_exec(far.first).receive()
            times.append(clock.ms())
        await group.terminate()
    return {"ssh_first": times[0], "ssh_further": statistics.median(times[1:])}


async def chain(group: Any, depth: int) -> list[Any]:
    """Gateways through each other; each with one process more in between, as with Mitogen.

    That is the supervisor of a place. The first hop needs no new one; what comes after it is a
    place of its own, as on another machine: an interpreter that is called differently.
    """
    made = [await group.makegateway("popen//fork=yes")]
    for number in range(depth):
        python = [sys.executable, "-X", f"hop={number}"] if number else None
        made.append(await group.makegateway("popen", python=python, via=made[-1].id))
    return made


async def round_trips(gateway: Any, count: int) -> list[float]:
    channel = gateway.remote_exec(far.echo)
    times = []
    for number in range(count):
        start = time.perf_counter()
        channel.send(number)
        await channel.receive()
        times.append(time.perf_counter() - start)
    # One that lingers would keep the channel for another program, and the code that waits there.
    channel.close()
    await channel.waitclose()
    return times


async def hops(group: Any, amounts: Amounts) -> Figures:
    made = await chain(group, max(places.DEPTHS))
    times: dict[int, list[float]] = {depth: [] for depth in places.DEPTHS}
    for count in measure.both(amounts.roundtrips // 10):
        for _ in range(5):
            for depth in places.DEPTHS:
                found = await round_trips(made[depth], max(1, count // 5))
                if count > 1:
                    times[depth] += found
    return places.hop_figures(times)


async def bulk(group: Any, amounts: Amounts) -> Figures:
    made = await chain(group, 2)
    rates = {}
    for depth in (0, 2):
        counts = measure.both(amounts.megabytes)
        channel = made[depth].remote_exec(far.send_bytes, counts=counts, size=MB)
        for count in counts:
            start = time.perf_counter()
            channel.send("go")
            for _ in range(count):
                await channel.receive()
            took = time.perf_counter() - start
        rates[depth] = amounts.megabytes / took
    return {"bulk_2": rates[2], "bulk_share": rates[2] / rates[0]}


async def factory(group: Any, amounts: Amounts) -> Figures:
    """Gateways that were forked alike: this program's, the factory's, and one that lingers there.

    Their round trips are timed by turns, as what else the machine does comes and goes.
    """
    with places.factory() as address:
        async with pycomnet.Group(group._reactor) as kept:
            kept.setlocalfactory(endpoint=address)
            gateways = [
                await group.makegateway("popen//fork=yes"),
                await kept.makegateway("popen"),
                await kept.makegateway("popen//id=lingers//linger=60"),
            ]
            times: list[list[float]] = [[] for _ in gateways]
            for count in measure.both(amounts.roundtrips // 4):
                for _ in range(10):
                    for gateway, taken in zip(gateways, times, strict=True):
                        found = await round_trips(gateway, max(1, count // 10))
                        if count > 1:
                            taken += found
        direct, given, lingers = map(statistics.median, times)
    return {
        "factory": given / direct,
        "factory_lingers": lingers / direct,
        "factory_direct": direct * 1e6,
    }


async def fleet(group: Any, amounts: Amounts) -> Figures:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 4096:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    count = 500 if amounts.roundtrips > 1000 else 5
    clock = Clock()
    first = await group.makegateway("popen//fork=yes")
    gateways = [first, *await group.makegateways(["popen//fork=yes"] * (count - 1))]
    pids = await gatherResults([gateway.call("os:getpid") for gateway in gateways])
    start = clock.ms() / 1e3
    assert len(set(pids)) == count
    # The worker and the supervisor that watches it alone.
    both = [*pids, *[parent(pid) for pid in pids]]
    private = sum(measure.memory(both, name) for name in ("Private_Dirty", "Private_Clean"))
    ends = []
    for gateway in (gateways[0], gateways[-1], gateways[0], gateways[-1]):
        ends.append(statistics.median(await round_trips(gateway, LOOKS)))
    return {
        "fleet_private": private / count,
        "fleet_last": min(ends[1::2]) / min(ends[0::2]),
        "fleet_start": start,
    }


def tree_specs(wide: int, hosts: bool) -> tuple[list[str], list[str]]:
    """A tree of three levels: all gateways, and the ids of the leaves.

    :param hosts: each leaf has a host of its own; else those of a host are forked there.
    """
    python = f"//python={sys.executable}"
    specs, leaves = [], []
    for a in range(wide):
        specs.append(f"ssh=a{a}//id=a{a}{python}")
        for b in range(wide):
            specs.append(f"ssh=b{a}.{b}//id=b{a}.{b}//via=a{a}{python}")
            for c in range(wide):
                leaf = f"c{a}.{b}.{c}"
                leaves.append(leaf)
                transport = f"ssh={leaf}" if hosts else "popen"
                own = python if hosts else ""
                specs.append(f"{transport}//id={leaf}//via=b{a}.{b}{own}")
    return specs, leaves


async def grow(group: Any, wide: int, hosts: bool, away: float) -> float:
    """Milliseconds until all leaves of a tree have answered."""
    specs, leaves = tree_specs(wide, hosts)
    with places.network(away):
        clock = Clock()
        await group.makegateways(specs, parallel=len(specs), timeout=150.0)
        channels = [group[leaf].remote_exec(far.first) for leaf in leaves]
        await gatherResults([channel.receive() for channel in channels])
        took = clock.ms()
        await group.terminate()
    return took


async def tree(group: Any, amounts: Amounts) -> Figures:
    """Three hosts wide, and three hosts away."""
    wide = 3 if amounts.roundtrips > 1000 else 1
    near = min([await grow(group, wide, True, 0.0) for _ in range(3)])
    away = min([await grow(group, wide, True, places.NETWORK) for _ in range(3)])
    return {"tree": (away - near) / (3 * places.NETWORK), "tree_start": near}


async def forest(group: Any, amounts: Amounts) -> Figures:
    """Ten wide: a thousand leaves on a hundred hosts, two hosts away.

    Starting them takes the processors so long that what waits for the network is hidden by it, all
    of it where the difference of the two times is within their noise: both are shown.
    """
    wide = 10 if amounts.roundtrips > 1000 else 2
    near = await grow(group, wide, False, 0.0)
    away = await grow(group, wide, False, places.NETWORK)
    trips = max(0.0, away - near) / (2 * places.NETWORK)
    return {"forest": trips, "forest_away": away / 1e3, "forest_start": near / 1e3}


def parent(pid: int) -> int:
    with open(f"/proc/{pid}/stat", "rb") as stat:
        return int(stat.read().rpartition(b")")[2].split()[1])


def run(job: str, amounts: Amounts) -> Figures:
    jobs = {
        "many": many,
        "ssh": ssh,
        "hops": hops,
        "bulk": bulk,
        "factory": factory,
        "fleet": fleet,
        "tree": tree,
        "forest": forest,
    }
    figures: Figures = {}

    async def main(reactor: Any) -> None:
        await deferLater(reactor, 0)  # the reactor runs from here on
        async with pycomnet.Group(reactor) as group:
            figures.update(await jobs[job](group, amounts))

    measure.run_reactor(main)
    return figures


if __name__ == "__main__":
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    measure.answer(run)
