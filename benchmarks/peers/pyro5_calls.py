"""Pyro5 with its msgpack serializer, its threaded server, and a proxy for each calling thread."""

from __future__ import annotations

import threading
import time
from typing import Any

import calls
import measure
import Pyro5
import Pyro5.api
from measure import Amounts

Pyro5.config.SERIALIZER = "msgpack"
Pyro5.config.THREADPOOL_SIZE = 2 * calls.FLIGHT
#: A proxy serves one thread at a time, so that calls at the same time need a thread each.
VALUES: dict[str, Any] = {"dict": calls.SMALL, "bytes": calls.BLOCK}


@Pyro5.api.expose
class Echo:
    """The service."""

    def null(self) -> None:
        return None

    def echo(self, value: Any) -> Any:
        return value

    def add(self, a: int, b: int) -> int:
        return a + b


def serve() -> None:
    daemon = Pyro5.api.Daemon(host="127.0.0.1", port=0)
    calls.announce(str(daemon.register(Echo(), "echo")))
    daemon.requestLoop()


def caller(proxy: Any, job: str) -> Any:
    """A function that makes one call of a job."""
    if job == "null":
        return proxy.null
    value = VALUES[job]
    echo = proxy.echo
    return lambda: echo(value)


def flight(address: str, job: str, count: int) -> float:
    """Calls a second with so many threads."""
    for total in measure.both(count):
        share = max(1, total // calls.FLIGHT)
        ready = threading.Barrier(calls.FLIGHT + 1)
        done = threading.Barrier(calls.FLIGHT + 1)

        def work(ready: Any = ready, done: Any = done, share: int = share) -> None:
            with Pyro5.api.Proxy(address) as proxy:
                proxy._pyroBind()
                call = caller(proxy, job)
                ready.wait()
                for _ in range(share):
                    call()
                done.wait()

        threads = [threading.Thread(target=work, daemon=True) for _ in range(calls.FLIGHT)]
        for thread in threads:
            thread.start()
        ready.wait()
        start = time.perf_counter()
        done.wait()
        took = time.perf_counter() - start
        for thread in threads:
            thread.join()
    return share * calls.FLIGHT / took


def run_proxy(job: str, amounts: Amounts) -> calls.Figures:
    """A proxy's calls, and its batches."""
    with calls.server(__file__) as address, Pyro5.api.Proxy(address) as proxy:
        if job != "batch":
            add = proxy.add
            calls.check(add(a=1, b=2), 3)
            took = calls.blocking(lambda: add(a=1, b=2), amounts.calls) * 1e6
            return {"proxy_one": took, "proxy_blocking": took}

        def batch() -> list[Any]:
            collected = Pyro5.api.BatchProxy(proxy)
            for number in range(calls.BATCH):
                collected.add(number, 1)
            return list(collected())

        calls.check_batch(batch())
        return {"batch": calls.blocking(batch, calls.batches(amounts)) * 1e3}


def run(job: str, amounts: Amounts) -> calls.Figures:
    if job in ("proxy", "proxy_blocking", "batch"):
        return run_proxy(job, amounts)
    one, flying = calls.amount(job, amounts)
    with calls.server(__file__) as address:
        with Pyro5.api.Proxy(address) as proxy:
            call = caller(proxy, job)
            calls.check(call(), VALUES.get(job))
            alone = calls.blocking(call, one)
        return calls.figures(job, alone, flight(address, job, flying))


if __name__ == "__main__":
    calls.program(serve, run)
