"""Mitogen: many contexts, forks on a host, and through each other."""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

import measure
import mitogen_far
import places
from measure import MB, Amounts
from mitogen_peer import Link, a_router
from places import Clock


def many(router: Any, amounts: Amounts) -> dict[str, float]:
    clock = Clock()
    contexts = [router.local(python_path=sys.executable) for _ in range(places.many(amounts))]
    for waiting in [context.call_async(mitogen_far.first) for context in contexts]:
        waiting.get().unpickle()
    return {"many": clock.ms()}


def ssh(router: Any, amounts: Amounts) -> dict[str, float]:
    """The first is a connection; further ones are forked there, which is how Mitogen has it."""
    with places.host() as host:
        clock = Clock()
        context = router.ssh(
            hostname="box",
            python_path=sys.executable,
            ssh_args=["-F", host.config],
            check_host_keys="ignore",
        )
        context.call(mitogen_far.first)
        first = clock.ms()
        times = []
        for _ in range(places.further(amounts)):
            clock = Clock()
            router.fork(via=context).call(mitogen_far.first)
            times.append(clock.ms())
    return {"ssh_first": first, "ssh_further": statistics.median(times)}


def chain(router: Any, depth: int) -> list[Any]:
    made = [router.local(python_path=sys.executable)]
    for _ in range(depth):
        made.append(router.local(python_path=sys.executable, via=made[-1]))
    return made


def hops(router: Any, amounts: Amounts) -> dict[str, float]:
    made = chain(router, max(places.DEPTHS))
    links = [Link(router, context, mitogen_far.echo) for context in made]
    times: dict[int, list[float]] = {depth: [] for depth in places.DEPTHS}
    for count in measure.both(amounts.roundtrips // 10):
        for depth in places.DEPTHS:
            for number in range(max(1, count)):
                start = time.perf_counter()
                links[depth].send(number)
                links[depth].receive()
                times[depth].append(time.perf_counter() - start)
    return places.hop_figures(times)


def bulk(router: Any, amounts: Amounts) -> dict[str, float]:
    made = chain(router, 2)
    rates = {}
    for depth in (0, 2):
        counts = measure.both(amounts.megabytes)
        link = Link(router, made[depth], mitogen_far.send_bytes, counts=counts, size=MB)
        for count in counts:
            start = time.perf_counter()
            link.send("go")
            for _ in range(count):
                link.receive()
            took = time.perf_counter() - start
        rates[depth] = amounts.megabytes / took
    return {"bulk_2": rates[2], "bulk_share": rates[2] / rates[0]}


def run(job: str, amounts: Amounts) -> dict[str, float]:
    with a_router() as router:
        return {"many": many, "ssh": ssh, "hops": hops, "bulk": bulk}[job](router, amounts)


if __name__ == "__main__":
    measure.answer(run)
