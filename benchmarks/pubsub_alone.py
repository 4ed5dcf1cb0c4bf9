"""What only pycomnet is measured in, for ``benchmarks/pubsub.py``: subscriptions that are idle, and
durable events."""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from pubsub_common import NAME, SMALL, run, serve, until_subscribed


def idle_publisher(pipe: Any) -> None:
    from twisted.internet import defer

    from pycomnet.ext.pubsub import publisher

    @publisher(NAME)
    class Events:
        """Publishes nothing."""

    async def main(reactor: Any) -> None:
        service: Any = Events()
        await serve(reactor, pipe, service)
        before = memory()
        await until_subscribed(reactor, service, 10_000)
        pipe.send((memory() - before) / 10_000)
        await defer.Deferred()

    run(main)


def idle_subscribers(address: str) -> None:
    from twisted.internet import defer

    from pycomnet.services.client.context import Context

    async def main(reactor: Any) -> None:
        kept = []
        for _ in range(10):
            service = await Context(reactor).connect(address)
            streams = [service.stream("subscribe", {}) for _ in range(1000)]
            for stream in streams:
                await stream.receive()
            kept.append(streams)
        await defer.Deferred()

    run(main)


def memory() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def idle() -> float:
    """What an idle subscription takes at its publisher, in bytes."""
    spawn = multiprocessing.get_context("spawn")
    mine, theirs = spawn.Pipe()
    publisher = spawn.Process(target=idle_publisher, args=(theirs,), daemon=True)
    publisher.start()
    address = mine.recv()
    subscribers = spawn.Process(target=idle_subscribers, args=(address,), daemon=True)
    subscribers.start()
    try:
        assert mine.poll(300), "they do not all subscribe"
        found: float = mine.recv()
        print(f"idle subscriptions: {found:,.0f} bytes each at the publisher, of 10,000")
        return found
    finally:
        for process in (publisher, subscribers):
            process.kill()
            process.join()


def durable() -> tuple[float, float]:
    """Durable events a second, and SQLite's commits one by one in the same directory."""
    found: list[float] = []
    import sqlite3

    from twisted.internet import defer
    from twisted.internet.task import react

    from pycomnet.ext.pubsub import publisher
    from pycomnet.services.server.server import ServiceServer

    directory = tempfile.mkdtemp(dir=os.environ.get("TMPDIR"))

    @publisher(NAME, history=1_000_000, store=os.path.join(directory, "events.db"))
    class Events:
        """Keeps them."""

    async def main(reactor: Any) -> None:
        service: Any = Events()
        server = ServiceServer(reactor)
        await server.add(service)
        rates = []
        for _ in range(3):
            begun = time.perf_counter()
            for _ in range(20):
                await defer.gatherResults([service.topic.publish(SMALL) for _ in range(500)])
            rates.append(10_000 / (time.perf_counter() - begun))
            rates.append(one_by_one())
        ours, theirs = statistics.median(rates[::2]), statistics.median(rates[1::2])
        found.extend((ours, theirs))
        print(
            f"durable: {ours:,.0f} events a second, 500 at a time; SQLite commits one by one: "
            f"{theirs:,.0f}; {ours / theirs:.1f} times as many"
        )
        await server.close()

    def one_by_one() -> float:
        connection = sqlite3.connect(os.path.join(directory, "other.db"), isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, x BLOB)")
        begun = time.perf_counter()
        for _ in range(500):
            connection.execute("INSERT INTO t (x) VALUES (?)", (SMALL,))
        seconds = time.perf_counter() - begun
        connection.close()
        return 500 / seconds

    try:
        react(main)
    except SystemExit:
        pass
    finally:
        shutil.rmtree(directory)
    return found[0], found[1]
