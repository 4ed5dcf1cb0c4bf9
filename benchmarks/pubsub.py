"""Publish and subscribe, side by side with peers, in one run: ``python benchmarks/pubsub.py``.

Each peer is a publisher in one process and its subscribers in another, in Python, over loopback
TCP; a broker where the peer needs one. Rounds of all peers alternate. A ratio is the median of the
rounds' ratios: what slows the machine down for some seconds slows both parts of it. Absolute
figures are of this machine; with other programs on it only the ratios say something, and processor
time is shown beside them.

Peers that are not installed are left out: nats-py with nats-server, redis-py with redis-server,
pyzmq. *bare* writes to sockets, and reads them.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import NamedTuple

from ending import stoppable
from pubsub_alone import durable, idle
from pubsub_common import LONG, SMALL, Job
from pubsub_latency import latency
from pubsub_peers import PEERS, available
from pubsub_stalled import stalled

#: name -> subscribers, events, payload, and whether events or deliveries are counted
ROWS = {
    "128 B, one to one": (1, 300_000, SMALL),
    "128 B, one to 100": (100, 5_000, SMALL),
    "1 MB, one to 10": (10, 100, LONG),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", help="rows whose name has this")
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--scale", type=float, default=1.0, help="times the number of events")
    parser.add_argument("--latency", action="store_true", help="measure the latency only")
    parser.add_argument("--stalled", action="store_true", help="measure a stalled subscriber only")
    parser.add_argument("--idle", action="store_true", help="measure idle subscriptions only")
    parser.add_argument("--durable", action="store_true", help="measure durable events only")
    parser.add_argument("--rst", type=Path, metavar="FILE", help="measure all, write a table")
    parser.add_argument("--nats", action="store_true", help="measure via= beside clients of NATS")
    options = parser.parse_args()
    with stoppable():
        measure(options)


def measure(options: argparse.Namespace) -> None:
    """Measure what is asked for."""
    if options.nats:
        from nats_rows import through_nats

        through_nats(options.rounds, options.scale)
        return
    if options.latency:
        latency([name for name in options.peers.split(",") if available(name)], options.rounds)
        return
    if options.stalled:
        stalled(options.rounds, options.scale)
        return
    if options.idle or options.durable:
        if options.idle:
            idle()
        if options.durable:
            durable()
        return
    peers = [name for name in options.peers.split(",") if available(name)]
    if options.rst is not None:
        from pubsub_table import write_table

        write_table(options.rst, peers, options.rounds, options.scale)
        return
    for row in ROWS:
        if not options.only or options.only in row:
            throughput(row, peers, options.rounds, options.scale)


class Found(NamedTuple):
    """What was measured of a peer.

    :ivar rate: deliveries a second, and
    :ivar used: ... microseconds of all processors for each.
    :ivar times: how often as fast the first peer is.
    """

    rate: float
    used: float
    times: float


def throughput(row: str, peers: list[str], rounds: int, scale: float) -> dict[str, Found]:
    """Measure a row."""
    subscribers, count, payload = ROWS[row]
    job = Job(subscribers, max(1, int(count * scale)), payload)
    if payload is SMALL:
        peers = [name for name in peers if name != "bare"]
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in peers}
    for _ in range(rounds):
        for name in peers:
            seen[name].append(PEERS[name](job))
    print(f"{row}: {job.count} events, {job.subscribers} subscribers")
    deliveries = job.count * job.subscribers
    found = {}
    for name in peers:
        seconds, used = (statistics.median(one[place] for one in seen[name]) for place in (0, 1))
        times, shares = [], []
        for first, other in zip(seen[peers[0]], seen[name], strict=True):
            times.append(other[0] / first[0])
            shares.append(first[1] / other[1])
        found[name] = Found(deliveries / seconds, used / deliveries * 1e6, statistics.median(times))
        print(
            f"  {name:10} {found[name].rate:12,.0f} /s   "
            f"{found[name].used:8.2f} us of processors each   "
            f"{peers[0]} is {found[name].times:5.2f} times as fast "
            f"({min(times):.2f} to {max(times):.2f}), "
            f"with {statistics.median(shares):5.2f} of the processor time"
        )
    return found


if __name__ == "__main__":
    main()
