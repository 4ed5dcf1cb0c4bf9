"""pycomnet's services on the epoll reactor: one connection, each call awaited in a coroutine."""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

import calls
import guarded
import measure
from measure import Amounts
from twisted.internet import epollreactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

from pycomnet.ext.proxy import proxy
from pycomnet.services.client.context import TIMEOUT, Context
from pycomnet.services.interface import Service, interface, method
from pycomnet.services.server.server import ServiceServer
from pycomnet.wire.codec import make_codec
from pycomnet.wire.mux import Mux

NAME = "bench.echo"
#: Turns of calls through a proxy and by ``invoke``, whose ratio is measured.
RATIOS = 10
#: job -> the method that it calls, and with what
JOBS: dict[str, tuple[str, Any]] = {
    "null": ("null", None),
    "dict": ("echo", calls.SMALL),
    "bytes": ("echo", calls.BLOCK),
}


@interface(NAME)
class Echo(Service):
    """The service."""

    @method()
    def null(self, request: Any) -> None:
        """Nothing."""

    @method()
    def echo(self, request: Any) -> Any:
        """What came."""
        return request.args

    @method(args={"a": int, "b": int})
    def add(self, request: Any) -> Any:
        """The sum."""
        return request.args["a"] + request.args["b"]


def serve() -> None:
    if sys.argv[2:] == [guarded.ACCESS]:
        guarded.serve()
        return
    epollreactor.install()

    async def main(reactor: Any) -> None:
        server = ServiceServer(reactor)
        await server.add(Echo())
        calls.announce(await server.listen("tcp:0:interface=127.0.0.1"))
        await Deferred()

    react(main)


def _gather(callers: list[Any]) -> Deferred[Any]:
    return gatherResults([Deferred.fromCoroutine(caller) for caller in callers])


def greet(connection: Any) -> None:
    """Make a connected, blocking socket a client's that has made a call and waits."""
    mux = Mux(True)
    connection.sendall(mux.data_to_send())
    while mux.peer is None:
        mux.receive_data(connection.recv(65536))


def check_size(job: str) -> None:
    """Fail when a request is not as long as what bare Twisted echoes for it."""
    name, args = JOBS[job]
    near, far = Mux(True), Mux(False)
    far.receive_data(near.data_to_send())
    near.receive_data(far.data_to_send())
    near.call("invoke", make_codec().encode([NAME, name, args, TIMEOUT]))
    calls.check(len(near.data_to_send(2 * calls.WIRE_SIZES[job])), calls.WIRE_SIZES[job])


async def proxied(echo: Any, job: str, amounts: Amounts) -> calls.Figures:
    """Calls through a proxy, beside ``invoke``, and batches."""
    tool: Any = proxy(echo)
    calls.check(await tool.add(a=1, b=2), 3)
    if job == "batch":

        async def batch() -> list[Any]:
            async with tool.batch() as collected:
                for number in range(calls.BATCH):
                    collected.add(number, 1)
            return [call.result() for call in collected]

        calls.check_batch(await batch())
        took = await calls.sequential(batch, calls.batches(amounts)) * 1e3
        return {"batch": took, "batch_objects": took}
    alone = await calls.sequential(lambda: tool.add(a=1, b=2), amounts.calls)
    ratios = []
    for turn in range(RATIOS):
        spent = []
        ways = [lambda: tool.add(a=1, b=2), lambda: echo.invoke("add", {"a": 1, "b": 2})]
        for call in ways if turn % 2 else ways[::-1]:
            start = time.process_time()
            await calls.flight(call, amounts.calls, _gather)
            spent.append(time.process_time() - start)
        through, beside = spent if turn % 2 else spent[::-1]
        ratios.append(through / beside)
    return {"proxy_one": alone * 1e6, "proxy_invoke": statistics.median(ratios)}


async def requests_of_first(context: Context, address: str) -> calls.Figures:
    """How many requests the first call of a proxy sends beside its own."""
    echo = await context.connect(address, NAME)
    await echo.invoke("null")
    connection: Any = context.peer(address).connection
    call, sent = connection.call, 0

    def count(*args: Any) -> Any:
        nonlocal sent
        sent += 1
        return call(*args)

    connection.call = count
    tool: Any = proxy(echo)
    calls.check(await tool.add(a=1, b=2), 3)
    first, sent = sent, 0
    calls.check(await tool.add(a=1, b=2), 3)
    return {"proxy_first": float(first - sent)}


def without_deferreds(amounts: Amounts) -> calls.Figures:
    """Calls through a proxy of the blocking API."""
    from pycomnet import blocking
    from pycomnet.blocking.ext.proxy import proxy as blocking_proxy

    with calls.server(__file__) as address, blocking.Context() as context:
        add = blocking_proxy(context.connect(address, NAME)).add
        calls.check(add(a=1, b=2), 3)
        return {"proxy_blocking": calls.blocking(lambda: add(a=1, b=2), amounts.calls) * 1e6}


def run(job: str, amounts: Amounts) -> calls.Figures:
    if job == "idle":
        with calls.server(__file__) as address:
            return calls.idle_memory(address.rpartition(":")[2], amounts, greet)
    if job == "proxy_blocking":
        return without_deferreds(amounts)
    if job in ("proxy", "proxy_first", "batch"):
        found: calls.Figures = {}

        async def use(reactor: Any) -> None:
            with calls.server(__file__) as address:
                async with Context(reactor) as context:
                    if job == "proxy_first":
                        found.update(await requests_of_first(context, address))
                        return
                    echo = await context.connect(address, NAME)
                    found.update(await proxied(echo, job, amounts))

        measure.run_reactor(use)
        return found
    if job in guarded.JOBS:
        return guarded.run(job, __file__, amounts)
    check_size(job)
    one, flying = calls.amount(job, amounts)
    found = {}

    async def main(reactor: Any) -> None:
        with calls.server(__file__) as address:
            async with Context(reactor) as context:
                echo = await context.connect(address, NAME)
                name, args = JOBS[job]

                def call() -> Deferred[Any]:
                    return echo.invoke(name, args)

                calls.check(await call(), args)
                alone = await calls.sequential(call, one)
                rate = await calls.flight(call, flying, _gather)
                found.update(calls.figures(job, alone, rate))

    measure.run_reactor(main)
    return found


if __name__ == "__main__":
    calls.program(serve, run)
