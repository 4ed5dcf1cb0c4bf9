"""What the peers that call a service share: the server's process, and how calls are measured."""

from __future__ import annotations

import json
import resource
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import measure
from measure import MB, Amounts

Figures = dict[str, float]

#: Calls that are under way at a time, in the rows that say so.
FLIGHT = 64
#: What is called, and the values that the three jobs echo.
BLOCK = b"x" * MB
SMALL = measure.small_dict(1)
#: Bytes of a call's request on pycomnet's wire, which its peer checks: what bare Twisted echoes.
WIRE_SIZES = {"null": 44, "dict": 79, "bytes": 1_000_192}
#: Calls in a batch; and how many calls there are for each batch that is measured.
BATCH, BATCH_SHARE = 1000, 100
#: What makes a process of a peer its server.
SERVE = "--serve"


@contextmanager
def server(script: str, *args: str) -> Iterator[str]:
    """Run a peer's server in a process of its own.

    :param script: the peer's program; with ``--serve`` it prints the address that it listens on.
    :param args: what follows that.
    :returns: that line.
    """
    process = subprocess.Popen(
        [sys.executable, script, SERVE, *args],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        if not address:
            raise RuntimeError(f"{script} {SERVE} ended with status {process.wait()}")
        yield address
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def amount(job: str, amounts: Amounts) -> tuple[int, int]:
    """How many calls of a job are made one after the other, and how many in flight."""
    if job == "bytes":
        return amounts.blocks, amounts.blocks
    return amounts.calls, 4 * amounts.calls


def figures(job: str, sequential: float, flying: float) -> Figures:
    """The measures of a job: the seconds of one call, and calls a second in flight."""
    return {
        f"{job}_one": sequential * 1e6,
        f"{job}_flight": flying,
        f"{job}_flight_awaited": flying,
    }


def batches(amounts: Amounts) -> int:
    """How many batches are measured."""
    return max(3, amounts.calls // BATCH_SHARE)


def check_batch(results: list[Any]) -> None:
    """Fail when the results of a batch, whose calls add 1 to each number, are others."""
    check(results, list(range(1, BATCH + 1)))


def idle_memory(address: str, amounts: Amounts, greet: Callable[[Any], None]) -> Figures:
    """What an idle connection adds to the server's resident memory, in kB.

    :param address: its port, on 127.0.0.1.
    :param greet: does with a connected, blocking socket what makes it a client's.
    """
    host_port = ("127.0.0.1", int(address))
    (pid,) = measure.far_processes()
    sockets = []

    def connect(count: int) -> None:
        for _ in range(count):
            sockets.append(socket.create_connection(host_port))
            greet(sockets[-1])

    connect(max(10, amounts.idle // 100))  # what the first ones make the server load
    before = measure.memory([pid], "Rss")
    connect(amounts.idle)
    grown = measure.memory([pid], "Rss") - before
    for each in sockets:
        each.close()
    return {"idle": grown * MB / 1000 / amounts.idle}


def allow_connections() -> None:
    """Let this process have as many descriptors as the system lets it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


# -- peers that block ----------------------------------------------------------------------------


def blocking(call: Callable[[], Any], count: int) -> float:
    """The median of the seconds that a call takes, one after the other."""
    for number in measure.both(count):
        times = []
        for _ in range(number):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
    return statistics.median(times)


# -- peers whose calls are awaited ---------------------------------------------------------------


async def sequential(call: Callable[[], Awaitable[Any]], count: int) -> float:
    """The median of the seconds that a call takes, one after the other."""
    for number in measure.both(count):
        times = []
        for _ in range(number):
            start = time.perf_counter()
            await call()
            times.append(time.perf_counter() - start)
    return statistics.median(times)


async def flight(
    call: Callable[[], Awaitable[Any]],
    count: int,
    gather: Callable[[list[Any]], Awaitable[Any]],
) -> float:
    """Calls a second with :data:`FLIGHT` under way: so many coroutines, each one call at a time.

    :param gather: waits for all of some coroutines.
    """
    for total in measure.both(count):
        left = total

        async def caller() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await call()

        start = time.perf_counter()
        await gather([caller() for _ in range(min(FLIGHT, total))])
        took = time.perf_counter() - start
    return total / took


# -- the program ---------------------------------------------------------------------------------


def check(got: Any, wanted: Any) -> None:
    """Fail when a call's answer is not what it should be: such a figure would say nothing."""
    if got != wanted:
        raise AssertionError(f"the answer was {str(got)[:80]}, not {str(wanted)[:80]}")


def program(serve: Callable[[], None], run: Callable[[str, Amounts], Figures]) -> None:
    """Be the server, or the client that measures what the command line asks for.

    :param serve: listens, calls :func:`announce` and serves until it is killed.
    """
    allow_connections()
    if sys.argv[1:2] == [SERVE]:
        serve()
    else:
        measure.answer(run)


def announce(address: object) -> None:
    """Say where this server listens."""
    print(address if isinstance(address, str) else json.dumps(address), flush=True)
