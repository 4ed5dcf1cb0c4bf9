"""What access rules cost pycomnet's calls: a rule beside none, and many logins at the same time."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import calls
from measure import Amounts
from twisted.internet import epollreactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

from pycomnet.ext import access
from pycomnet.ext.access.passwordedit import set_password
from pycomnet.services.client.context import Context
from pycomnet.services.interface import Service, interface, method
from pycomnet.services.server.server import ServiceServer

NAME = "bench.guarded"
PASSWORD = "a password"
JOBS = ("rule", "logins")
#: Batches of calls of each kind, which take turns; calls of one.
BATCHES = 40
#: What makes this program the server.
ACCESS = "access"
#: Where the server has its users.
USERS = "BENCH_USERS"


class Null(Service):
    """The service: what it takes of its processor, too."""

    @method()
    def null(self, request: Any) -> None:
        """Nothing."""

    @method()
    def processor(self, request: Any) -> float:
        """The seconds of processor time of this process."""
        return time.process_time()


def serve() -> None:
    """Serve it twice: without access rules, and with one."""
    epollreactor.install()
    users = access.PasswordFile(os.environ[USERS])

    async def main(reactor: Any) -> None:
        found = []
        for make in (lambda cls: cls, access.auth(users)):
            server = ServiceServer(reactor)
            await server.add(interface(NAME)(make(type("Served", (Null,), {})))())
            found.append(await server.listen("tcp:0:interface=127.0.0.1"))
        calls.announce(found)
        await Deferred()

    react(main)


async def processor_of(service: Any, count: int) -> float:
    """The processor time of so many calls, in flight, at both ends together."""
    there = await service.invoke("processor")
    here = time.process_time()

    def gather(callers: list[Any]) -> Deferred[Any]:
        return gatherResults([Deferred.fromCoroutine(caller) for caller in callers])

    await calls.flight(lambda: service.invoke("null"), count, gather)
    here = time.process_time() - here
    return here + await service.invoke("processor") - there


async def compare(reactor: Any, plain: str, guarded: str, amounts: Amounts) -> calls.Figures:
    """How many times as much processor time a call takes where its method has a rule."""
    credentials = access.Password("alice", PASSWORD)
    ratios = []
    async with Context(reactor) as nobody, Context(reactor, credentials=credentials) as alice:
        both = [await nobody.connect(plain, NAME), await alice.connect(guarded, NAME)]
        for number in range(BATCHES):
            took = {}
            for one in both if number % 2 else both[::-1]:
                took[one] = await processor_of(one, amounts.calls)
            ratios.append(took[both[1]] / took[both[0]])
    return {"rule": statistics.median(ratios)}


async def storm(reactor: Any, guarded: str, amounts: Amounts) -> calls.Figures:
    """How long calls of one client take while many others log in."""
    contexts = [
        Context(reactor, timeout=None, credentials=access.Password("alice", PASSWORD))
        for _ in range(amounts.logins + 1)
    ]
    other = await contexts.pop().connect(guarded, NAME)

    async def call_until(is_over: Callable[[], bool]) -> list[float]:
        """Call again and again; the milliseconds of each."""
        times = []
        while not is_over():
            begun = time.perf_counter()
            await other.invoke("null")
            times.append((time.perf_counter() - begun) * 1e3)
        return times

    end = time.perf_counter() + amounts.quiet
    quiet = await call_until(lambda: time.perf_counter() > end)
    start = time.perf_counter()
    logins = gatherResults([context.connect(guarded, NAME) for context in contexts])
    times = await call_until(lambda: logins.called)
    await logins
    took = time.perf_counter() - start
    for context in (other.context, *contexts):
        await context.close()
    return {
        "logins_p99": statistics.quantiles(times, n=100)[-1],
        "logins_p50": statistics.median(times),
        "quiet_p99": statistics.quantiles(quiet, n=100)[-1],
        "quiet_p50": statistics.median(quiet),
        "logins_took": took,
    }


def run(job: str, script: str, amounts: Amounts) -> calls.Figures:
    """Measure a job.

    :param script: the program that is the server, too.
    """
    found: calls.Figures = {}
    with tempfile.TemporaryDirectory() as directory:
        os.environ[USERS] = os.path.join(directory, "passwd")
        set_password(os.environ[USERS], "alice", PASSWORD)  # bcrypt, 12 rounds

        async def main(reactor: Any) -> None:
            with calls.server(script, ACCESS) as addresses:
                plain, guarded = calls.json.loads(addresses)
                if job == "rule":
                    found.update(await compare(reactor, plain, guarded, amounts))
                else:
                    found.update(await storm(reactor, guarded, amounts))

        calls.measure.run_reactor(main)
    return found
