"""execnet: many gateways, on a host, and through each other."""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

import execnet
import far
import measure
import places
from measure import MB, Amounts
from places import Clock


def many(group: Any, amounts: Amounts) -> dict[str, float]:
    clock = Clock()
    gateways = [group.makegateway("popen") for _ in range(places.many(amounts))]
    channels = [gateway.remote_exec(far.first) for gateway in gateways]
    for channel in channels:
        channel.receive()
    return {"many": clock.ms()}


def ssh(group: Any, amounts: Amounts) -> dict[str, float]:
    times = []
    with places.host() as host:
        spec = f"ssh=box//ssh_config={host.config}//python={sys.executable}"
        for _ in range(places.further(amounts) + 1):
            clock = Clock()
            gateway = group.makegateway(spec)
            gateway.remote_exec(far.first).receive()
            times.append(clock.ms())
        group.terminate(timeout=5)
    return {"ssh_first": times[0], "ssh_further": statistics.median(times[1:])}


def chain(group: Any, depth: int) -> list[Any]:
    made = [group.makegateway("popen")]
    for _ in range(depth):
        made.append(group.makegateway(f"popen//via={made[-1].id}"))
    return made


def hops(group: Any, amounts: Amounts) -> dict[str, float]:
    made = chain(group, max(places.DEPTHS))
    channels = [gateway.remote_exec(far.echo) for gateway in made]
    times: dict[int, list[float]] = {depth: [] for depth in places.DEPTHS}
    for count in measure.both(amounts.roundtrips // 10):
        for depth in places.DEPTHS:
            for number in range(max(1, count)):
                start = time.perf_counter()
                channels[depth].send(number)
                channels[depth].receive()
                times[depth].append(time.perf_counter() - start)
    return places.hop_figures(times)


def bulk(group: Any, amounts: Amounts) -> dict[str, float]:
    made = chain(group, 2)
    rates = {}
    for depth in (0, 2):
        counts = measure.both(amounts.megabytes)
        channel = made[depth].remote_exec(far.send_bytes, counts=counts, size=MB)
        for count in counts:
            start = time.perf_counter()
            channel.send("go")
            for _ in range(count):
                channel.receive()
            took = time.perf_counter() - start
        rates[depth] = amounts.megabytes / took
    return {"bulk_2": rates[2], "bulk_share": rates[2] / rates[0]}


def run(job: str, amounts: Amounts) -> dict[str, float]:
    group = execnet.Group()
    try:
        return {"many": many, "ssh": ssh, "hops": hops, "bulk": bulk}[job](group, amounts)
    finally:
        group.terminate(timeout=1)


if __name__ == "__main__":
    measure.answer(run)
