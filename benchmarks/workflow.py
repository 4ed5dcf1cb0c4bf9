"""Workflows beside three calls by hand, and beside DBOS on the same kind of database.

Both run chains of three steps that do nothing. A step of DBOS is a function in its own process;
ours is a call to a service, over a socket. What is not durable is also measured beside a service
that is written by hand, whose method makes the three calls. ``--waiting N`` starts N runs that wait
for a signal, and says what memory they take and how long a restart is.

    python benchmarks/workflow.py --runs 200
    python benchmarks/workflow.py --runs 200 --store postgresql
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ending import react
from twisted.internet import defer

import pycomnet
from pycomnet.ext.workflow import Task, WorkflowService, workflow
from pycomnet.ext.workflow.stores import make_run_store
from pycomnet.nameserver.daemon import NameserverService
from pycomnet.nameserver.stores.memory import MemoryStore
from pycomnet.test.postgresql import ROLE, postgresql

PEER = Path(__file__).parent / "peers" / "dbos_chain.py"


@pycomnet.interface("bench.null")
class Null(pycomnet.Service):
    """Does nothing."""

    @pycomnet.method()
    def null(self, request: Any) -> Any:
        """Return the arguments."""
        return request.args


@pycomnet.interface("bench.by-hand")
class ByHand(pycomnet.Service):
    """Makes the calls of the chain.

    :param null: the service that it calls.
    """

    def __init__(self, null: Any) -> None:
        self._null = null

    @pycomnet.method()
    async def chain(self, request: Any) -> Any:
        """Call three times, each time with the result before."""
        result = request.args
        for _ in range(3):
            result = await self._null.invoke("null", result)
        return result


def chain(name: str, durable: bool) -> Task:
    """Three null calls."""
    task = Task(name, durable=durable)
    for _ in range(3):
        task.call("bench.null", "null")
    return task


async def serve(reactor: Any, context: Any, where: str) -> tuple[Any, Any]:
    """A workflow service on a store, and its address."""
    tasks = chain("kept", True).check(chain("quick", False), Task("wait").signal("go"))
    store = make_run_store(where, reactor)
    server = pycomnet.ServiceServer(reactor, context=context)
    await server.add(WorkflowService(tasks, store))
    return server, await server.listen("tcp:0:interface=127.0.0.1")


def stores(args: argparse.Namespace, cleanup: ExitStack) -> tuple[str, str]:
    """The address of our store, and the peer's of its own: on a file each, or in one server."""
    directory = cleanup.enter_context(tempfile.TemporaryDirectory(dir=args.directory))
    if args.store == "sqlite":
        return f"sqlite:{directory}/runs.sqlite", f"sqlite:///{directory}/dbos.sqlite"
    server = cleanup.enter_context(postgresql(fsync="on"))
    server.execute("CREATE DATABASE dbos")
    peer = f"postgresql://{ROLE}@/dbos?host={server.directory}&port={server.port}"
    return server.address(), peer


async def measure(reactor: Any, args: argparse.Namespace) -> None:
    """Measure, and print a line for each figure."""
    with ExitStack() as cleanup:
        await measure_on(reactor, args, *stores(args, cleanup))


async def measure_on(reactor: Any, args: argparse.Namespace, where: str, peers: str) -> None:
    """Measure on a store, and the peer on another."""
    names = NameserverService(MemoryStore(), ["tcp:0:interface=127.0.0.1"], reactor, print)
    names.startService()
    while not names.addresses:
        await pycomnet.Context(reactor).sleep(0.01)
    async with pycomnet.Context(reactor, nameserver=names.addresses[0], timeout=None) as context:
        nulls = pycomnet.ServiceServer(reactor)
        await nulls.add(Null())
        address = await nulls.listen("tcp:0:interface=127.0.0.1")
        offer = {"service": "null", "interfaces": ["bench.null"], "address": address, "ttl": 600}
        await (await context.nameserver()).invoke("register", offer)
        server, at = await serve(reactor, context, where)
        w = workflow(context=context, address=at)
        null = await context.locate("bench.null")
        await not_durable(context, w, null, args.runs // 4)
        begun = time.perf_counter()
        for number in range(args.runs):
            await w.invoke("kept", number)
        one = time.perf_counter() - begun
        gate = defer.DeferredSemaphore(args.at_a_time)
        begun = time.perf_counter()
        await defer.gatherResults(
            [gate.run(w.invoke, "kept", number) for number in range(args.runs * 4)]
        )
        many = time.perf_counter() - begun
        if args.waiting:
            server = await waiting(reactor, context, w, server, where, args.waiting)
        await server.close()
        await nulls.close()
    await names.stopService()
    peer: Any = None
    if not args.no_peer:
        ran = await output_of(
            [sys.executable, str(PEER), peers, str(args.runs), str(args.at_a_time)]
        )
        peer = json.loads(ran.splitlines()[-1])
    steps = args.runs * 12
    print(f"durable, one after the other: {args.runs / one:.0f} runs a second", end="")
    print(f", DBOS {args.runs / peer['one']:.0f}: {peer['one'] / one:.1f} times" if peer else "")
    print(f"durable, {args.at_a_time} at a time: {steps / many:.0f} steps a second", end="")
    print(f", DBOS {steps / peer['many']:.0f}: {peer['many'] / many:.1f} times" if peer else "")


async def not_durable(context: Any, w: Any, null: Any, count: int) -> None:
    """Measure runs that are not durable beside three calls, and beside a service by hand: the
    processor time of all together, in turns."""
    by_hand = pycomnet.ServiceServer(context.reactor)
    await by_hand.add(ByHand(null))
    floor = context.at(await by_hand.listen("tcp:0:interface=127.0.0.1"), "bench.by-hand")

    async def three(number: int) -> None:
        for _ in range(3):
            await null.invoke("null", number)

    ways: dict[str, Any] = {
        "three calls": three,
        "a service by hand": lambda number: floor.invoke("chain", number),
        "a workflow": lambda number: w.invoke("quick", number),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(21):
        for name, way in ways.items():
            begun = time.process_time()
            for number in range(count):
                await way(number)
            times[name].append((time.process_time() - begun) / count * 1e6)
    await by_hand.close()
    bare = times["three calls"]
    for name, taken in times.items():
        ratio = statistics.median(one / other for one, other in zip(taken, bare, strict=True))
        each = statistics.median(taken)
        print(f"not durable, {name}: {each:.0f} us of processor, {ratio:.2f} times three calls")


async def output_of(command: list[str]) -> str:
    """The output of a program; nothing else runs meanwhile."""
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return ran.stdout


async def waiting(reactor: Any, context: Any, w: Any, server: Any, where: str, count: int) -> Any:
    """Start runs that wait, and restart the service."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for first in range(0, count, 1000):  # so that what is measured is not this program's lists
        numbers = range(first, min(count, first + 1000))
        await defer.gatherResults([w.start("wait", None, f"w{number}") for number in numbers])
    used = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    await server.close()
    begun = time.perf_counter()
    server, at = await serve(reactor, context, where)
    again = workflow(context=context, address=at)
    await again.signal("w0", "go", 1)
    assert await again.result("w0") == 1
    print(f"{count} runs wait: {used:.0f} MB more at the most", end="")
    print(f", a restart takes {time.perf_counter() - begun:.2f} s")
    return server


def main() -> None:
    """Read the command line, and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=200, help="chains, one after the other")
    parser.add_argument("--store", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--at-a-time", type=int, default=64)
    parser.add_argument("--waiting", type=int, default=0, help="runs that wait for a signal")
    parser.add_argument("--directory", help="where the files are: on the disk to measure")
    parser.add_argument("--no-peer", action="store_true", help="without DBOS")
    arguments = parser.parse_args()
    react(lambda reactor: measure(reactor, arguments))


if __name__ == "__main__":
    main()
