"""Publish and subscribe while processes are killed and connections are cut, at random.

    python benchmarks/pubsub_faults.py --seconds 600 --kills 50
    python benchmarks/pubsub_faults.py --seconds 20 --seed 7

Two publishers run under a launcher: one that remembers its last events, and one with a store. What
they offer goes through a proxy that cuts connections, and holds them up. Subscribers record what
they get; one of them is a process that is killed as well. At the end the histories are checked:
nothing is lost without a gap, the order of each publisher is kept, what was confirmed comes, and
nothing comes twice to a living subscriber that acknowledges. The status is 1 when something was
wrong. pycomnet/test/ext/pubsub/histories.py has the checker; its tests run it over random histories
without processes.
"""

from __future__ import annotations

import argparse
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from ending import react  # noqa: E402

from pycomnet.errors import PycomnetError  # noqa: E402
from pycomnet.test.ext.pubsub.histories import (  # noqa: E402
    Entry,
    Handed,
    Seen,
    entry_of,
    faults_of,
    faults_of_group,
)

MODULE = """
import os
import time
from pycomnet.ext.pubsub import publisher

@publisher("faults.counted", history=500)
def counted():
    number = 0
    while True:
        number += 1
        yield [str(os.getpid()), number, bytes(200)]
        time.sleep(0.002)

@publisher("faults.kept", history=10_000_000, store={path!r}, may_publish=True)
class kept:
    "Keeps what it is given."
"""
TAKER = """
import pycomnet
pycomnet.configure(nameserver={nameserver!r})
from pycomnet.ext.pubsub import subscriber

with open({path!r}, "a", buffering=1) as file:
    for value in subscriber("faults.kept", name="taker", acknowledged=True):
        file.write(f"{{value[1]}}\\n")
"""
TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile="]
#: Seconds that something may take before the run gives up.
PATIENCE = 120.0
#: Seconds that an event may be on its way: connections are held for up to one.
UNDERWAY = 3.0
#: Clients that have numbers published.
PRODUCERS = 4


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Run:
    """A run: its processes, its proxies, and what was recorded."""

    def __init__(self, reactor: Any, directory: Path, seed: int) -> None:
        self.reactor = reactor
        self.directory = directory
        self.numbers = random.Random(seed)
        self.nameserver = f"unix:{directory / 'names'}"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.ports = {name: (free_port(), free_port()) for name in ("counted", "kept")}
        self.pipes: list[Any] = []
        self.kills = self.cuts = 0
        #: histories of subscribers: what it is -> whether gaps are allowed, entries
        self.histories: dict[str, tuple[bool, list[Entry]]] = {}
        self.handed: list[Handed] = []
        #: the values that a subscriber got of the one with a store
        self.kept: set[int] = set()
        self.number = 0
        self.confirmed: list[int] = []
        self.taken = directory / "taken"
        self.stopping = False

    # -- processes -------------------------------------------------------------------------------

    def start(self, name: str, *command: str) -> None:
        """Start a process, or start it again."""
        log = open(self.directory / f"{name}.log", "ab")  # noqa: SIM115
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.processes[name] = subprocess.Popen(
            command, cwd=self.directory, stdout=log, stderr=log, env=env
        )
        log.close()

    def start_publisher(self, name: str) -> None:
        port, proxied = self.ports[name]
        self.start(
            name,
            *(*TWISTD, "pycomnet-service", "--nameserver", self.nameserver, "--name", name),
            *("--listen", f"tcp:{port}:interface=127.0.0.1", "--wait", "--ttl", "2"),
            *("--advertise", f"tcp:127.0.0.1:{proxied}", f"faulty:{name}"),
        )

    def start_taker(self) -> None:
        source = TAKER.format(nameserver=self.nameserver, path=str(self.taken))
        self.start("taker", sys.executable, "-c", source)

    def kill(self, name: str) -> None:
        """Kill a process, so that it can't clean up."""
        process = self.processes[name]
        process.kill()
        process.wait()
        self.kills += 1

    def begin(self) -> None:
        """Start the nameserver and the publishers."""
        (self.directory / "kept").mkdir(mode=0o700)
        source = MODULE.format(path=str(self.directory / "kept" / "events.db"))
        (self.directory / "faulty.py").write_text(source)
        options = ("--listen", self.nameserver, "--store", "memory:")
        self.start("nameserver", *TWISTD, "pycomnet-nameserver", *options)
        for name, (port, proxied) in self.ports.items():
            self.start_publisher(name)
            self.reactor.listenTCP(proxied, pipe_factory(self, port), interface="127.0.0.1")

    def end(self) -> None:
        """End everything."""
        for process in self.processes.values():
            process.kill()
            process.wait()

    # -- faults ----------------------------------------------------------------------------------

    async def disturb(self, seconds: float, least: int) -> None:
        """Kill and cut at random: for so many seconds, and at least so many kills."""
        end = time.monotonic() + seconds
        while time.monotonic() < end or self.kills < least:
            await self.sleep(self.numbers.uniform(0.2, 2.0))
            what = self.numbers.choice(["counted", "kept", "taker", "cut", "cut", "hold"])
            if what == "cut":
                self.cuts += 1
                for pipe in list(self.pipes):
                    if self.numbers.random() < 0.5:
                        pipe.transport.abortConnection()
            elif what == "hold":
                held = [pipe for pipe in self.pipes if self.numbers.random() < 0.5]
                for pipe in held:
                    pipe.transport.pauseProducing()
                await self.sleep(self.numbers.uniform(0.1, 1.0))
                for pipe in held:
                    if pipe in self.pipes:
                        pipe.transport.resumeProducing()
            else:
                self.kill(what)
                await self.sleep(self.numbers.uniform(0.0, 1.0))
                if what == "taker":
                    self.start_taker()
                else:
                    self.start_publisher(what)

    async def sleep(self, seconds: float) -> None:
        from twisted.internet.task import deferLater

        await deferLater(self.reactor, seconds)

    # -- subscribers and clients -----------------------------------------------------------------

    async def record(self, context: Any, name: str, **options: Any) -> None:
        """Record what a subscriber gets. One with a small bound is slow at times."""
        from pycomnet.ext.pubsub import Event, subscriber

        kept = options.pop("interface") == "faults.kept"
        interface = "faults.kept" if kept else "faults.counted"
        slow = "bound" in options
        entries: list[Entry] = []
        self.histories[name] = not kept, entries
        client = subscriber(interface, context=context, **options)
        while True:
            for item in await client.receive_many(events=True):
                if kept and isinstance(item, Event):
                    # Its value is missing where the publisher was killed before it was stored.
                    entries.append(Seen(item.publisher, "kept", item.sequence))
                    self.kept.add(item.value[1])
                else:
                    entries.append(entry_of(item))
            if slow and not self.stopping:
                await self.sleep(self.numbers.choice([0, 0, 0, 0.5]))

    async def work(self, context: Any, name: str) -> None:
        """Be a member of a group that acknowledges most of what it gets, some of it late."""
        from pycomnet.ext.pubsub import Event, subscriber

        client = subscriber("faults.kept", context=context, name="workers", acknowledged=True)
        async for event in client.events():
            if not isinstance(event, Event):
                raise AssertionError(f"a group with a store was told of {event}")
            note = Handed(name, event.value[1], taken=time.monotonic())
            self.handed.append(note)
            if self.numbers.random() < 0.05:
                await self.sleep(0.05)
            done = event.acknowledge()
            done.addCallbacks(lambda _, note=note: self.noted(note), lambda _: None)

    def noted(self, note: Handed) -> None:
        """An acknowledgement was confirmed."""
        note.confirmed = True
        note.noted = time.monotonic()

    async def produce(self, context: Any) -> None:
        """Have numbers published, and note which were confirmed."""
        service = await context.locate("faults.kept")
        while not self.stopping or not self.confirmed:  # on a busy machine, none so far
            self.number += 1
            number = self.number
            try:
                await service.invoke("publish", {"value": ["kept", number]}, timeout=10)
            except PycomnetError:
                await self.sleep(0.05)
                continue  # perhaps it is there, perhaps not
            self.confirmed.append(number)


def pipe_factory(run: Run, port: int) -> Any:
    """A proxy whose connections can be cut and held."""
    from twisted.protocols import portforward

    class Pipe(portforward.ProxyServer):  # type: ignore[misc]
        def connectionMade(self) -> None:
            run.pipes.append(self)
            super().connectionMade()

        def connectionLost(self, reason: Any) -> None:
            if self in run.pipes:
                run.pipes.remove(self)
            super().connectionLost(reason)

    factory = portforward.ProxyFactory("127.0.0.1", port)
    factory.protocol = Pipe
    factory.noisy = False
    return factory


async def main(reactor: Any, options: argparse.Namespace) -> int:
    """Run it; return the exit status."""
    from twisted.internet import defer

    import pycomnet

    with tempfile.TemporaryDirectory(prefix="pycomnet-faults-") as directory, ExitStack() as stack:
        run = Run(reactor, Path(directory), options.seed)
        stack.callback(run.end)
        run.begin()
        begun = time.monotonic()
        problems: list[str] = []
        running: list[Any] = []

        def start(coroutine: Any) -> Any:
            made = defer.Deferred.fromCoroutine(coroutine)
            made.addErrback(
                lambda failure: (
                    None
                    if failure.check(defer.CancelledError)
                    else problems.append(failure.getTraceback())
                )
            )
            running.append(made)
            return made

        def context() -> Any:
            return pycomnet.Context(reactor, nameserver=run.nameserver, timeout=PATIENCE)

        first = context()
        while True:
            try:
                await first.locate("faults.kept")
                await first.locate("faults.counted")
                break
            except PycomnetError:
                await run.sleep(0.1)
                assert time.monotonic() < begun + PATIENCE, "the publishers do not start"
        run.start_taker()  # it ends if there is no nameserver yet
        start(run.record(context(), "all of counted", interface="faults.counted"))
        start(run.record(context(), "slowly", interface="faults.counted", bound=8192))
        start(
            run.record(
                context(),
                "the oldest",
                interface="faults.counted",
                bound=8192,
                policy="drop_newest",
            )
        )
        start(run.record(context(), "all of kept", interface="faults.kept"))
        members = [f"member {number}" for number in range(3)]
        for name in members:
            start(run.work(context(), name))
        service = await first.locate("faults.kept")
        while (await service.invoke("topic"))["subscriptions"] < len(members) + 2:
            # Until all count: what is published from then on comes.
            await run.sleep(0.1)
            assert time.monotonic() < begun + 2 * PATIENCE, "the subscribers do not start"
        producing = [start(run.produce(context())) for _ in range(PRODUCERS)]
        await run.sleep(1)
        await run.disturb(options.seconds, options.kills)
        run.stopping = True
        print(f"{run.kills} kills, {run.cuts} cuts: now all that was confirmed is to come")
        await defer.gatherResults(producing)
        # All that was confirmed is to come, now that nothing is disturbed any more.
        last = run.confirmed[-1]
        confirmed = set(run.confirmed)
        end = time.monotonic() + PATIENCE

        def came() -> bool:
            return (
                {one.number for one in run.handed} >= confirmed
                and run.kept >= confirmed
                and run.taken.exists()
                and str(last) in run.taken.read_text().split()
            )

        while time.monotonic() < end and not came() and not problems:
            await run.sleep(0.5)
        for one in running:
            one.cancel()
        run.end()
        problems += check(run, members)
        for problem in problems[:50]:
            print(problem)
        events = sum(len(entries) for _, entries in run.histories.values())
        print(
            f"{time.monotonic() - begun:.0f} s, seed {options.seed}: {run.kills} kills, {run.cuts} "
            f"cuts; {len(run.confirmed)} events confirmed, {events + len(run.handed)} recorded: "
            f"{len(problems)} problems"
        )
        if problems:
            for path in Path(directory).glob("*.log"):
                print(f"--- {path.name}\n{path.read_text()[-2000:]}")
        return 1 if problems else 0


def check(run: Run, members: list[str]) -> list[str]:
    """What is wrong with what was recorded."""
    found = [
        f"{name}: {fault}"
        for name, (gaps_allowed, entries) in run.histories.items()
        for fault in faults_of(entries, gaps_allowed)
    ]
    confirmed = set(run.confirmed)
    lost = confirmed - run.kept
    if lost:
        found.append(f"all of kept: {len(lost)} confirmed events are lost: {sorted(lost)[:10]}")
    group = faults_of_group(run.handed, confirmed, members, UNDERWAY)
    found += [f"workers: {fault}" for fault in group]
    taken = [int(line) for line in run.taken.read_text().split()] if run.taken.exists() else []
    lost = confirmed - set(taken)
    if lost:
        found.append(f"taker: {len(lost)} confirmed events are lost: {sorted(lost)[:10]}")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--kills", type=int, default=0, help="go on until there were so many")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    given = parser.parse_args()

    from twisted.internet import epollreactor

    epollreactor.install()
    react(lambda reactor: main(reactor, given))
