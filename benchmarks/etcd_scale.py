"""Nameservers on etcd with many registrations: renewals, and a start with all of them.

``python benchmarks/etcd_scale.py leases --count 100000`` registers so many services at two
nameservers on three members, renews each every 15 seconds, and shows which part of a core each
process takes. With fewer and a shorter ``--interval`` there are as many renewals a second. The
client takes little of the processor (``renewals.py``), so members and nameservers have it even on
two cores. ``bare --count 100000`` renews leases at the members by a bare loop (``etcd_bare.py``),
as many in one frame as ``--together`` says: what etcd itself takes. ``load --count 1000000`` puts
so many records into etcd, and shows how long a nameserver takes until it listens. Both need some
minutes and a gigabyte or two. ``locate --count 10000`` compares a nameserver on etcd with one on
SQLite, in turns.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import etcd_bare
from ending import react
from renewals import RenewalConnection, renewal
from twisted.internet import defer, task
from twisted.internet.endpoints import connectProtocol
from twisted.internet.threads import deferToThread

from pycomnet.etcd import EtcdClient, PutRequest
from pycomnet.nameserver.stores.etcd.keys import NONCE, KeyLayout, record_value
from pycomnet.net.endpoints import client_endpoint
from pycomnet.services.client.context import Context
from pycomnet.test.nameserver.kit import record
from pycomnet.test.system.daemons import Daemon, Daemons, daemons
from pycomnet.test.system.etcdruns import READY
from pycomnet.test.system.etcds import EtcdMembers

#: Requests at a time while it is filled; puts in a transaction.
IN_FLIGHT, PUTS = 64, 100
#: Seconds that a start may take.
PATIENCE = 900.0
#: Rounds of locating, and how many of each round.
ROUNDS, LOCATES = 15, 5_000
SECRET = "a secret of sixteen"


def resident(pid: int) -> int:
    """The bytes of memory that a process has now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def processor(pid: int) -> float:
    """Seconds of processor that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def at_once(one: Callable[[int], Awaitable[Any]], count: int, many: int) -> None:
    """Call a function with each number, so many at a time."""
    waiting = iter(range(count))

    async def work() -> None:
        for number in waiting:
            await one(number)

    await defer.gatherResults([defer.Deferred.fromCoroutine(work()) for _ in range(many)])


def start(started: Daemons, members: EtcdMembers, number: int, store: str | None = None) -> Daemon:
    """Start a nameserver; by default on etcd."""
    limits = ("--max-per-client", "2000000", "--max-services", "2000000", "--max-ttl", "86400")
    return started.start(
        "pycomnet-nameserver",
        *("--listen", f"unix:{started.directory}/n{number}", *limits),
        *("--store", store or f"etcd:{members.urls}"),
    )


def registration(number: int, ttl: float) -> dict[str, Any]:
    """The arguments of a registration."""
    return {
        "service": f"org.example.service-{number}",
        "interfaces": [f"org.example.kind-{number % 1000}"],
        "address": f"tcp:10.0.0.1:{number % 60_000 + 1}",
        "ttl": ttl,
        "secret": SECRET,
    }


async def locate(reactor: Any, members: EtcdMembers, started: Daemons, options: Any) -> None:
    """Locate at a nameserver on etcd and at one on SQLite, in turns."""
    names = [
        start(started, members, 0),
        start(started, members, 1, f"sqlite:{started.directory}/names.db"),
    ]
    contexts = [Context(reactor, nameserver=(await one.seen(READY))[1]) for one in names]
    servers = [await one.nameserver() for one in contexts]
    for server in servers:

        async def register(number: int, server: Any = server) -> None:
            await server.invoke("register", registration(number, options.ttl))

        await at_once(register, options.count, IN_FLIGHT)
    rates: list[list[float]] = [[], []]
    spent = [0.0, 0.0]
    for _ in range(ROUNDS):
        for which, server in enumerate(servers):

            async def ask(number: int, server: Any = server) -> None:
                await server.invoke("locate", {"interface": f"org.example.kind-{number % 1000}"})

            begun, before = time.monotonic(), processor(names[which].pid)
            await at_once(ask, LOCATES, IN_FLIGHT)
            rates[which].append(LOCATES / (time.monotonic() - begun))
            spent[which] += processor(names[which].pid) - before
    rate = statistics.median(ours / other for ours, other in zip(*rates, strict=True))
    ours, other = (each / ROUNDS / LOCATES * 1e6 for each in spent)
    print(
        f"locate among {options.count}: {statistics.median(rates[0]):.0f}/s, {rate:.2f} of "
        f"SQLite's rate; {ours:.1f} us of the nameserver's processor each, SQLite's {other:.1f}: "
        f"{other / ours:.2f} of its rate by that"
    )
    for context in contexts:
        await context.close()


async def leases(reactor: Any, members: EtcdMembers, started: Daemons, options: Any) -> None:
    """Renew many leases."""
    names = [start(started, members, number) for number in range(2)]
    addresses = [(await one.seen(READY))[1] for one in names]
    contexts = [Context(reactor, nameserver=address) for address in addresses]
    servers = [await one.nameserver() for one in contexts]
    requests: list[bytes] = [b""] * options.count

    async def register(number: int) -> None:
        given = await servers[number % 2].invoke("register", registration(number, options.ttl))
        requests[number] = renewal(given["lease"], SECRET)

    begun = time.monotonic()
    await at_once(register, options.count, IN_FLIGHT)
    took = time.monotonic() - begun
    print(f"{options.count} registered in {took:.0f} s: {options.count / took:.0f}/s", flush=True)
    for context in contexts:
        await context.close()
    results: Counter[str] = Counter()
    connections: list[RenewalConnection] = []
    for number in range(2 * options.connections):
        connection = RenewalConnection(results)
        endpoint = client_endpoint(reactor, addresses[number % 2])
        await connectProtocol(endpoint, connection)
        await connection.ready
        connections.append(connection)
    pids = {f"member {one.name}": one.process.pid for one in members.members}
    pids |= {f"nameserver {number}": one.pid for number, one in enumerate(names)}
    pids["client"] = os.getpid()
    before = {name: processor(pid) for name, pid in pids.items()}
    begun = time.monotonic()
    sent = 0
    while (passed := time.monotonic() - begun) < options.seconds:
        due = int(passed / options.interval * options.count)
        now = [requests[number % options.count] for number in range(sent, due)]
        # The numbers' order is that of the connections, so each nameserver renews what it has
        # registered; any other would do.
        for at, connection in enumerate(connections):
            some = now[(at - sent) % len(connections) :: len(connections)]
            if some:
                connection.renew(some)
        sent = due
        await task.deferLater(reactor, options.tick)
    passed = time.monotonic() - begun
    spent = {name: processor(pid) - before[name] for name, pid in pids.items()}
    renewed = results["renewed"]
    if not renewed:
        raise SystemExit(f"nothing was renewed: {dict(results)}")
    print(
        f"{renewed / passed:.0f} renewals/s of {sent / passed:.0f} asked for, for {passed:.0f} s: "
        f"{dict(results)}; load {os.getloadavg()[0]:.1f}"
    )
    for kind in ("member", "nameserver", "client"):
        some_spent = [seconds for name, seconds in spent.items() if name.startswith(kind)]
        each = ", ".join(f"{seconds / passed:.2f}" for seconds in some_spent)
        total = sum(some_spent)
        print(
            f"{kind}s: {total / passed:.2f} of a core ({each}), {1e6 * total / renewed:.1f} us for "
            "each renewal"
        )


async def bare(reactor: Any, members: EtcdMembers, started: Daemons, options: Any) -> None:
    """Renew many leases at the leader, without nameservers."""
    client = EtcdClient([one.url.replace("http://", "tcp:") for one in members.members], reactor)
    await client.connect()
    granted: list[int] = []

    async def grant(_: int) -> None:
        granted.append((await client.grant(int(options.ttl), timeout=60)).id)

    await at_once(grant, options.count, IN_FLIGHT)
    await client.close()
    leader = next(one for one in members.members if one.leads())
    port = int(leader.url.rpartition(":")[2])
    pids = [one.process.pid for one in members.members]
    for together in options.together:
        spent = [processor(pid) for pid in (*pids, os.getpid())]
        begun = time.monotonic()
        renewed = await deferToThread(
            etcd_bare.renew,
            port,
            granted,
            options.count / options.interval,
            together,
            2 * options.connections,
            options.seconds,
        )
        passed = time.monotonic() - begun
        *etcd, own = (
            processor(pid) - before for pid, before in zip((*pids, os.getpid()), spent, strict=True)
        )
        print(
            f"{together} in a frame: {renewed / passed:.0f} renewals/s for {passed:.0f} s; "
            f"members: {sum(etcd) / passed:.2f} of a core, {1e6 * sum(etcd) / renewed:.1f} us for "
            f"each renewal; the bare loop {1e6 * own / renewed:.1f} us; "
            f"load {os.getloadavg()[0]:.1f}",
            flush=True,
        )


async def load(reactor: Any, members: EtcdMembers, started: Daemons, options: Any) -> None:
    """Start a nameserver with many records."""
    layout = KeyLayout(b"/pycomnet/names/")
    client = EtcdClient([one.url.replace("http://", "tcp:") for one in members.members], reactor)
    await client.connect()
    first = start(started, members, 0)  # it writes the base of fences
    await first.seen(READY)
    alone, alone_bytes = processor(first.pid), resident(first.pid)
    print(f"0 records: {alone:.1f} s of processor, {alone_bytes / 1e6:.0f} MB")
    first.signal()
    await first.ended()

    async def put(number: int) -> None:
        lease = (await client.grant(86_400, timeout=60)).id
        requests = []
        for at in range(number * PUTS, (number + 1) * PUTS):
            one = record(
                f"org.example.service-{at:07}",
                f"org.example.kind-{at % 50_000}",
                address=f"tcp:10.0.0.{at % 250}:{at % 60_000 + 1}",
                tags=("blue", f"zone-{at % 100}"),
                metadata={"zone": "a"},
                ttl=86_400.0,
            )
            value = record_value(one, secrets.token_bytes(NONCE), 1 << 50)
            requests.append(PutRequest(layout.record(one.service), value, lease))
        await client.txn([], requests, timeout=60)

    begun = time.monotonic()
    await at_once(put, options.count // PUTS, 8)
    print(f"{options.count} put in {time.monotonic() - begun:.0f} s", flush=True)
    await client.close()
    for _ in range(options.times):
        before = {one.name: processor(one.process.pid) for one in members.members}
        begun = time.monotonic()
        loading = start(started, members, 1)
        await deferToThread(loading.wait_for, READY, PATIENCE)
        took = time.monotonic() - begun
        own = processor(loading.pid)
        others = sum(processor(one.process.pid) - before[one.name] for one in members.members)
        memory = resident(loading.pid)
        print(
            f"{options.count} records: the nameserver listens after {took:.1f} s, with {own:.1f} s "
            f"of processor, and {others:.1f} s of etcd's; it has {memory / 1e6:.0f} MB, "
            f"{(memory - alone_bytes) / options.count:.0f} bytes more for each",
            flush=True,
        )
        loading.signal()
        await loading.ended()


async def main(reactor: Any, options: argparse.Namespace) -> None:
    """Run it."""
    with ExitStack() as stack:
        where = Path(tempfile.mkdtemp(prefix="pycomnet-s-", dir=options.directory))
        stack.callback(shutil.rmtree, where, ignore_errors=True)
        members = EtcdMembers(where, 3)
        for one in members.members:
            one.add_arguments("--quota-backend-bytes", str(8 << 30))
        stack.callback(members.stop)
        for one in members.members:
            one.start()
        await deferToThread(members.wait)
        started = stack.enter_context(daemons(where))
        await MEASURES[options.what](reactor, members, started, options)


MEASURES = {"leases": leases, "bare": bare, "load": load, "locate": locate}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=MEASURES)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=60.0, help="of renewals")
    parser.add_argument("--interval", type=float, default=15.0, help="seconds between renewals")
    parser.add_argument("--tick", type=float, default=0.002, help="seconds between two requests")
    parser.add_argument("--connections", type=int, default=1, help="to each nameserver")
    parser.add_argument(
        "--together", type=int, nargs="+", default=[1, 17, 133], help="renewals in a bare frame"
    )
    parser.add_argument("--ttl", type=float, default=600.0, help="of the leases that are renewed")
    parser.add_argument("--times", type=int, default=2, help="starts of a nameserver")
    parser.add_argument("--directory", default=None, help="for the members' data")
    found = parser.parse_args()
    react(lambda reactor: main(reactor, found))
