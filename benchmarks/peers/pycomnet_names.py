"""``twistd pycomnet-nameserver`` with its SQLite store, as anybody runs it."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import calls
import measure
import names
from measure import Amounts
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from pycomnet.nameserver.records import digest, encode
from pycomnet.nameserver.stores import sqlite
from pycomnet.services.client.context import NAMESERVER, Context

TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
OPTIONS = ["-n", "--pidfile=", "pycomnet-nameserver"]
OPTIONS += ["--listen", "tcp:0:interface=127.0.0.1", "--store"]
SECRET = "the secret of all of them"
#: Leases that are renewed, and how often: seconds.
LEASES = 100_000
INTERVAL = 15
#: Clients of whom each has a connection.
CLIENTS = 64


def make_file(path: str, records: int) -> None:
    """Make the store's file with so many records, each with an interface of its own."""
    metadata, secret = encode({"version": "1.0"}), digest(SECRET)

    def row(number: int) -> tuple[Any, ...]:
        host, port = names.address(number)
        return (
            *(names.service(number), names.interface(number), f"tcp:{host}:{port}", metadata),
            *("blue\nlarge" if number % 2 else "green", 3600.0, number, secret, number, 3600.0),
        )

    Path(path).touch(0o600)  # the nameserver takes no file that others may read
    with sqlite3.connect(path) as file:
        file.executescript(sqlite.SCHEMA)
        file.execute(f"PRAGMA application_id = {sqlite.APPLICATION}")
        file.execute(f"PRAGMA user_version = {sqlite.VERSION}")
        file.execute("INSERT INTO state VALUES ('revision', 1000000)")
        file.executemany(
            f"INSERT INTO registrations VALUES ({', '.join('?' * 10)}, x'')",
            map(row, range(records)),
        )
    file.close()


class Daemon:
    """The nameserver's process.

    :ivar address: where it is; once it answers there.
    :ivar started: the seconds until then.
    """

    def __init__(self, path: str) -> None:
        start = time.perf_counter()
        self.process = subprocess.Popen(
            [*TWISTD, *OPTIONS, f"sqlite:{path}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.address = ""
        for line in self.process.stdout:
            found = re.search(r"the nameserver is at (\S+)", line)
            if found is not None:
                self.address = found[1]
                break
        else:
            raise RuntimeError(f"the nameserver ended with status {self.process.wait()}")
        self.started = time.perf_counter() - start

    def stop(self) -> float:
        """End it in order; the seconds that it takes."""
        start = time.perf_counter()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        return time.perf_counter() - start

    def used(self) -> float:
        """Processor time that it has used, in seconds."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_bytes().rpartition(b")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def daemon(records: int) -> Iterator[Daemon]:
    """A nameserver that has so many records."""
    with tempfile.TemporaryDirectory() as directory:
        path = str(Path(directory) / "names.sqlite")
        make_file(path, records)
        found = Daemon(path)
        try:
            yield found
        finally:
            found.process.kill()
            found.process.wait()
            assert found.process.stdout is not None
            found.process.stdout.close()


@asynccontextmanager
async def clients(reactor: Any, address: str, count: int) -> AsyncIterator[list[Any]]:
    """Clients of a nameserver, each with a connection of its own."""
    contexts = [Context(reactor) for _ in range(count)]
    try:
        yield [await context.connect(address, NAMESERVER) for context in contexts]
    finally:
        for context in contexts:
            await context.close()


def _gather(callers: list[Any]) -> Deferred[Any]:
    return gatherResults([Deferred.fromCoroutine(caller) for caller in callers])


async def locate(
    reactor: Any, records: int, amounts: Amounts, flying: bool = True
) -> tuple[float, float]:
    """The seconds of a locate, and locates a second in flight."""
    with daemon(records) as server:
        async with clients(reactor, server.address, 1) as (client,):
            following = names.cycle(names.asked(records))

            def call() -> Deferred[Any]:
                return client.invoke("locate", {"interface": names.interface(following())})

            first = await client.invoke("locate", {"interface": names.interface(0)})
            calls.check(first["service"], names.service(0))
            alone = await calls.sequential(call, amounts.calls)
            rate = await calls.flight(call, 4 * amounts.calls, _gather) if flying else 0.0
    return alone, rate


async def million(reactor: Any, amounts: Amounts) -> calls.Figures:
    """Memory, and how long it takes to start and stop."""
    with daemon(names.count("locate_1m", amounts)) as server:
        async with clients(reactor, server.address, 1) as (client,):
            stat = await client.invoke("stat")
            calls.check(stat["services"], names.count("locate_1m", amounts))
        resident = measure.memory([server.process.pid], "Rss")
        return {"start": server.started, "resident": resident, "stop": server.stop()}


async def register(reactor: Any, amounts: Amounts) -> calls.Figures:
    """Registrations a second, each acknowledged when it is on the disk, one client's one by one."""
    with daemon(0) as server:
        async with clients(reactor, server.address, CLIENTS) as some:
            rate = 0.0
            for total in measure.both(amounts.registrations):
                share = max(1, total // CLIENTS)

                async def work(client: Any, first: int, share: int = share) -> None:
                    for number in range(first, first + share):
                        host, port = names.address(number)
                        await client.invoke(
                            "register",
                            {
                                "service": names.service(number),
                                "interfaces": [names.interface(number % 1000)],
                                "address": f"tcp:{host}:{port}",
                                "ttl": 3600,
                            },
                        )

                start = time.perf_counter()
                base = 10**7 * (total == amounts.registrations)
                await _gather([work(one, base + n * share) for n, one in enumerate(some)])
                rate = share * CLIENTS / (time.perf_counter() - start)
    return {"register": rate}


async def renew(reactor: Any, amounts: Amounts) -> calls.Figures:
    """The nameserver's share of one core while all leases are renewed at an even pace."""
    leases = int(LEASES * max(0.01, amounts.records))
    rate = leases / INTERVAL
    with daemon(leases) as server:
        async with clients(reactor, server.address, CLIENTS) as some:
            renewed = 0

            async def pace(seconds: float) -> None:
                nonlocal renewed
                start = time.perf_counter()
                first, waiting = renewed, 0

                def done(_: object) -> None:
                    nonlocal waiting
                    waiting -= 1

                while (now := time.perf_counter() - start) < seconds:
                    while renewed - first < now * rate and waiting < 4 * CLIENTS:
                        args = {"lease": renewed % leases, "secret": SECRET}
                        waiting += 1
                        some[renewed % CLIENTS].invoke("renew", args).addCallback(done)
                        renewed += 1
                    await deferLater(reactor, 0.002)
                while waiting:
                    await deferLater(reactor, 0.002)

            await pace(amounts.renewals / 10)
            renewed, used, start = 0, server.used(), time.perf_counter()
            await pace(amounts.renewals)
            used, took = server.used() - used, time.perf_counter() - start
    # Where the client could not keep the pace, as if it had.
    return {"renew": 100 * used / took * max(1.0, rate * took / renewed)}


def run(job: str, amounts: Amounts) -> calls.Figures:
    found: calls.Figures = {}

    async def main(reactor: Any) -> None:
        if job == "million":
            found.update(await million(reactor, amounts))
        elif job == "register":
            found.update(await register(reactor, amounts))
        elif job == "renew":
            found.update(await renew(reactor, amounts))
        elif job == "flat":
            many, _ = await locate(reactor, names.count("locate_1m", amounts), amounts, False)
            one, _ = await locate(reactor, 1, amounts, False)
            found["flat"] = many / one
        else:
            alone, rate = await locate(reactor, names.count(job, amounts), amounts)
            found.update({f"{job}_one": alone * 1e6, f"{job}_flight": rate})

    measure.run_reactor(main)
    return found


if __name__ == "__main__":
    names.program(lambda: None, run)
