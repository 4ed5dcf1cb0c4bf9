"""Pyro5's own nameserver: records in memory (in its SQLite store where they must be on disk)."""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import calls
import measure
import names
import Pyro5
import Pyro5.api
import Pyro5.nameserver
from measure import Amounts

Pyro5.config.SERIALIZER = "msgpack"
Pyro5.config.THREADPOOL_SIZE = 2 * calls.FLIGHT


def uri(number: int) -> str:
    host, port = names.address(number)
    return f"PYRO:calc@{host}:{port}"


def serve(records: str, storage: str = "") -> None:
    options = {"storage": storage} if storage else {}
    daemon = Pyro5.nameserver.NameServerDaemon("127.0.0.1", 0, **options)
    for number in range(int(records)):
        daemon.nameserver.storage[names.service(number)] = uri(number), None
    calls.announce(str(daemon.uriFor(daemon.nameserver)))
    daemon.requestLoop()


@contextlib.contextmanager
def server(records: int, storage: str = "") -> Iterator[str]:
    with calls.server(__file__, str(records), *[storage] * bool(storage)) as address:
        yield address


def flight(address: str, make: Any, count: int) -> float:
    """Calls a second with so many threads, each with a connection of its own.

    :param make: gives a function that makes one call, of a proxy and the thread's number.
    """
    share = max(1, count // calls.FLIGHT)
    ready, done = (threading.Barrier(calls.FLIGHT + 1) for _ in range(2))

    def work(thread: int) -> None:
        with Pyro5.api.Proxy(address) as proxy:
            proxy._pyroBind()
            call = make(proxy, thread)
            ready.wait()
            for _ in range(share):
                call()
            done.wait()

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(calls.FLIGHT)]
    for thread in threads:
        thread.start()
    ready.wait()
    start = time.perf_counter()
    done.wait()
    took = time.perf_counter() - start
    for thread in threads:
        thread.join()
    return share * calls.FLIGHT / took


def locate(records: int, amounts: Amounts, flying: bool = True) -> tuple[float, float]:
    """The seconds of a lookup, and lookups a second in flight."""

    def make(proxy: Any, thread: int = 0) -> Any:
        following = names.cycle(names.asked(records))
        return lambda: proxy.lookup(names.service(following()))

    with server(records) as address:
        with Pyro5.api.Proxy(address) as proxy:
            calls.check(str(proxy.lookup(names.service(0))), uri(0))
            alone = calls.blocking(make(proxy), amounts.calls)
        rate = 0.0
        for count in measure.both(4 * amounts.calls) if flying else ():
            rate = flight(address, make, count)
    return alone, rate


def register(amounts: Amounts) -> float:
    """Registrations a second, in its SQLite store: a commit for each."""

    def make(proxy: Any, thread: int) -> Any:
        numbers = iter(range(thread * 1_000_000, (thread + 1) * 1_000_000))

        def call() -> None:
            number = next(numbers)
            proxy.register(names.service(number), uri(number))

        return call

    # With a twentieth of the registrations it takes as long as ours with all.
    with (
        tempfile.TemporaryDirectory() as directory,
        server(0, f"sql:{Path(directory) / 'names.sqlite'}") as address,
    ):
        return flight(address, make, max(calls.FLIGHT, amounts.registrations // 20))


def run(job: str, amounts: Amounts) -> calls.Figures:
    if job == "register":
        return {"register": register(amounts)}
    if job == "flat":
        many, _ = locate(names.count("locate_1m", amounts), amounts, False)
        one, _ = locate(1, amounts, False)
        return {"flat": many / one}
    alone, rate = locate(names.count(job, amounts), amounts)
    return {f"{job}_one": alone * 1e6, f"{job}_flight": rate}


if __name__ == "__main__":
    names.program(serve, run)
