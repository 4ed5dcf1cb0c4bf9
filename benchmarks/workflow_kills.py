"""Kills workflow services, and the service that they call, at random, and checks every run.

Each run pays (a method with ``once``), marks (a method that may not run twice), then ships (an
idempotent one). A run may end with the code ``unknown`` if the paying service was killed while it
was called; then its payment is undone. What must hold: no run is lost, every run ends, no payment
and no mark is made twice, what is done has been paid and shipped, and what is not done was undone
once it may have been paid. A mark of which nobody knows whether it was made is not made again.

A service is killed again once its successor is registered and some random time has passed. The
services that run the workflows and the one that they call are killed independently, so that both
may be gone at a time.

On PostgreSQL two services share the runs, and some are stopped for longer than their lease: what
they do when they go on must do nothing twice.

    python benchmarks/workflow_kills.py --kills 20 --service-kills 5
    python benchmarks/workflow_kills.py --kills 20 --service-kills 5 --store postgresql --stops 10
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ending import react
from forked_daemons import ForkedDaemons
from twisted.internet import defer
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from pycomnet.errors import PycomnetError
from pycomnet.ext.workflow import RunFailed, UnknownRun, workflow
from pycomnet.services.client.context import Context
from pycomnet.test.postgresql import postgresql
from pycomnet.test.system.daemons import Daemon

NAME = "/kills/workflow"
#: Seconds of a lease.
LEASE = 2.0
SERVICE = """
import os, pathlib, pycomnet
from twisted.internet import reactor, task

EFFECTS = pathlib.Path(__file__).parent / "effects"

def note(text):
    descriptor = os.open(EFFECTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, text.encode())
    os.close(descriptor)

@pycomnet.interface("kills.shop")
class Shop(pycomnet.Service):
    @pycomnet.method(once=True)
    async def pay(self, request):
        note(f"pay {request.args}\\n")
        await task.deferLater(reactor, 0.05)
        return request.args

    @pycomnet.method()
    async def mark(self, request):
        note(f"mark {request.args}\\n")
        await task.deferLater(reactor, 0.02)

    @pycomnet.method(idempotent=True)
    async def ship(self, request):
        note(f"ship {request.args}\\n")
        return f"shipped {request.args}"

    @pycomnet.method(idempotent=True)
    async def refund(self, request):
        note(f"refund {request.args}\\n")
"""
RETRY = {"attempts": 100, "delay": 0.2, "max_delay": 2}
CONFIG = {
    "tasks": {
        "order": [
            {
                "name": "pay",
                "interface": "kills.shop",
                "method": "pay",
                "timeout": 60,
                "compensate": [
                    {
                        "interface": "kills.shop",
                        "method": "refund",
                        "args": "${input}",
                        "timeout": 60,
                        "retry": RETRY,
                    }
                ],
            },
            {
                "name": "mark",
                "interface": "kills.shop",
                "method": "mark",
                "args": "${input}",
                "timeout": 60,
                "retry": RETRY,
                "catch": [{"errors": ["*"], "then": [{"value": "nobody knows"}]}],
            },
            {
                "interface": "kills.shop",
                "method": "ship",
                "args": "${input}",
                "timeout": 60,
                "retry": RETRY,
            },
        ]
    }
}
#: Seconds after the last kill in which every run has to end.
LONGEST_END = 120.0


class Kills:
    """One run of the checker."""

    def __init__(
        self, reactor: Any, started: ForkedDaemons, args: argparse.Namespace, store: list[str]
    ) -> None:
        self._reactor = reactor
        self._started = started
        self._args = args
        self._store = store
        self._random = random.Random(args.seed)
        self._nameserver = started.nameserver()
        self._config = started.directory / "order.json"
        self._config.write_text(json.dumps(CONFIG))
        (started.directory / "shop.py").write_text(SERVICE)
        self.over = False
        self._ends = 0.0
        self.ends: Counter[str] = Counter()
        self.killed: Counter[str] = Counter()
        self.runs: dict[str, str] = {}

    def workflows(self, number: int) -> Daemon:
        """Start a workflow service."""
        daemon = self._started.start(
            "pycomnet-workflow",
            *("--config", str(self._config), "--nameserver", self._nameserver),
            *("--name", f"{NAME}/{number}", "--ttl", "2", "--wait", *self._store),
        )
        daemon.wait_for("registered ")
        return daemon

    def shop(self) -> Daemon:
        """Start the service that is called."""
        daemon = self._started.service(self._nameserver, "--ttl", "2", module="shop")
        daemon.wait_for("registered ")
        return daemon

    async def orders(self, w: Any, number: int) -> None:
        """Start runs one after the other, until the kills are over, and wait for each."""
        count = 0
        while not self.over:
            id = f"c{number}-{count}"
            count += 1
            self.runs[id] = "not started"
            await self.again(w.start, "order", id, id)
            self.runs[id] = "started"
            self.runs[id] = await self.again(self.end, w, id)
            self.ends[self.runs[id]] += 1

    async def again(self, ask: Any, *args: Any) -> Any:
        """Ask until there is an answer.

        :raises UnknownRun: a run that was started is not there.
        """
        while True:
            try:
                return await ask(*args)
            except UnknownRun:
                raise
            except PycomnetError:
                await deferLater(self._reactor, 0.2)

    async def end(self, w: Any, id: str) -> str:
        """How a run ends."""
        try:
            result = await w.result(id, 60)
        except RunFailed as problem:
            return str(problem.error.get("code"))
        assert result == f"shipped {id}"
        return "done"

    async def run(self) -> None:
        """Kill, restart, and check."""
        args = self._args
        shop = await deferToThread(self.shop)
        services = [await deferToThread(self.workflows, n) for n in range(args.services)]
        context = Context(self._reactor, nameserver=self._nameserver, timeout=60)
        async with context:
            names = [f"{NAME}/{number % args.services}" for number in range(args.clients)]
            clients = [
                defer.Deferred.fromCoroutine(self.orders(workflow(name, context=context), number))
                for number, name in enumerate(names)
            ]
            ended = defer.gatherResults(clients, consumeErrors=True)
            self._ends = self._reactor.seconds() + args.seconds
            kills = [
                defer.Deferred.fromCoroutine(one)
                for one in (self.kill_workflows(services, ended), self.kill_shop(shop, ended))
            ]
            await defer.gatherResults(kills)
            self.over = True
            try:
                await ended.addTimeout(LONGEST_END, self._reactor)
            except defer.FirstError as problem:
                problem.subFailure.raiseException()
            except defer.TimeoutError:
                left = {id: state for id, state in self.runs.items() if state.endswith("started")}
                raise SystemExit(f"{len(left)} runs don't end: {left}") from None
        self.check()

    async def next_kill(self, ended: defer.Deferred[Any], times: float = 1.0) -> bool:
        """Wait until the next kill; whether there is to be one.

        :param times: how much rarer it is than others.
        """
        await deferLater(self._reactor, self._random.uniform(0.2, 2.0) * times)
        # Not if a run is lost, or time is up.
        return not ended.called and self._reactor.seconds() < self._ends

    async def kill_workflows(self, services: list[Daemon], ended: defer.Deferred[Any]) -> None:
        """Kill workflow services, and stop some for a while."""
        kills = ["workflow"] * self._args.kills + ["stop"] * self._args.stops
        self._random.shuffle(kills)
        for what in kills:
            if not await self.next_kill(ended):
                break
            number = self._random.randrange(len(services))
            if what == "stop":
                await self.stop(services[number])
            else:
                await self.kill(services[number])
                services[number] = await deferToThread(self.workflows, number)
            self.killed[what] += 1
            if self.killed.total() % 25 == 0:
                print(f"{dict(self.killed)}, runs: {dict(self.ends)}", flush=True)

    async def kill_shop(self, shop: Daemon, ended: defer.Deferred[Any]) -> None:
        """Kill the service that is called."""
        args = self._args
        for _ in range(args.service_kills):
            if not await self.next_kill(ended, max(1.0, args.kills / args.service_kills)):
                break
            await self.kill(shop)
            shop = await deferToThread(self.shop)
            self.killed["shop"] += 1

    async def kill(self, victim: Daemon) -> None:
        """Kill a service."""
        victim.signal(signal.SIGKILL)
        await victim.ended()
        victim.close()  # there are hundreds of them

    async def stop(self, victim: Daemon) -> None:
        """Stop a service for about as long as its lease: shorter, or longer."""
        victim.signal(signal.SIGSTOP)
        await deferLater(self._reactor, self._random.uniform(0.5, 2.5) * LEASE)
        victim.signal(signal.SIGCONT)

    def check(self) -> None:
        """Every run has ended, and no payment was made twice."""
        effects = Counter((self._started.directory / "effects").read_text().splitlines())
        once = ("pay", "mark")
        twice = [line for line, times in effects.items() if line.startswith(once) and times > 1]
        assert not twice, f"done twice: {twice}"
        for id, end in self.runs.items():
            assert end in ("done", "unknown"), (id, end)
            if end == "done":
                assert effects[f"pay {id}"] == 1, id
                assert effects[f"ship {id}"] >= 1, id
                assert not effects[f"refund {id}"], id
            else:
                assert effects[f"refund {id}"] >= 1, id
        killed = f"{self.killed['workflow']} kills of workflow services"
        print(f"{killed}, {self.killed['shop']} of the service that they call", end="")
        print(f", {self.killed['stop']} stops")
        marks = sum(1 for id in self.runs if effects[f"mark {id}"])
        print(f"{len(self.runs)} runs: {dict(self.ends)}; {marks} were marked")
        print("none was lost, none was paid or marked twice, all have ended")


async def main(reactor: Any) -> None:
    """Read the command line, and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--service-kills", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3600, help="no more kills after that")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    parser.add_argument("--store", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--services", type=int, help="that share the runs, on postgresql: 2")
    parser.add_argument("--stops", type=int, default=0, help="on postgresql: SIGSTOP for a while")
    args = parser.parse_args()
    if args.store == "sqlite" and (args.services or args.stops):
        parser.error("on sqlite there is one service, and nobody else has its runs")
    print(f"seed {args.seed}")
    with ExitStack() as cleanup:
        directory = cleanup.enter_context(tempfile.TemporaryDirectory())
        store: list[str] = []
        if args.store == "postgresql":
            server = cleanup.enter_context(postgresql(fsync="on"))
            store = ["--store", server.address(lease=LEASE)]
            args.services = args.services or 2
        args.services = args.services or 1
        started = ForkedDaemons(Path(directory))
        cleanup.callback(started.close)
        await Kills(reactor, started, args, store).run()


if __name__ == "__main__":
    react(main)
