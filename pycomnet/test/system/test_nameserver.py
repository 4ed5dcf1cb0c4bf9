"""The nameserver as a process: killed under load, restarted, flooded, and fed with rubbish."""

from __future__ import annotations

import os
import random
import resource
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import defer
from twisted.internet.task import deferLater

import pycomnet
from pycomnet.errors import PycomnetError
from pycomnet.nameserver.follow import follow
from pycomnet.nameserver.records import encode
from pycomnet.services.client.context import NAMESERVER
from pycomnet.test.processes import processor_time, resident
from pycomnet.test.system.daemons import PATIENCE, Daemon, Daemons, daemons
from pycomnet.wire.frames import CLOSE, HEADER, HEADER_SIZE, OPEN
from pycomnet.wire.mux import Mux

#: How often it is killed, and the clients that register meanwhile.
KILLS = 60 if os.environ.get("PYCOMNET_TEST_LONG") else 6
CLIENTS = 8
#: Connections that do nothing: what the system lets a process have, but no more.
IDLE = 10_000
#: Descriptors that a process may usually have when it does not ask for more.
USUAL = 1024
#: Seconds of the daemon's processor time in which a call is answered while others misbehave.
SOON = 2.0
#: twistd ends itself by the signal that it was told to end by.
CLEAN = (0, -signal.SIGTERM)
STORE = ("--store", "sqlite:names")
READY = r"the nameserver is at (\S+)"


@pytest.fixture
def started(tmp_path_factory: Any) -> Iterator[Daemons]:
    """Daemons of a test, with a directory of their own."""
    with daemons(Path(tmp_path_factory.mktemp("n"))) as found:
        yield found


def start(started: Daemons, listen: str, store: str = "sqlite:names") -> tuple[Daemon, str]:
    """Start a nameserver and wait for it; it and its address."""
    daemon = started.start("pycomnet-nameserver", "--listen", listen, "--store", store)
    return daemon, daemon.wait_for(READY)[1]


def registration(service: str, **args: Any) -> dict[str, Any]:
    base = {"service": service, "interfaces": ["org.example.load"], "address": "tcp:h:1"}
    return {**base, "ttl": 600, **args}


class Load:
    """A client that registers, replaces and unregisters as fast as it is answered, and knows what
    was acknowledged.

    :ivar there: service -> the fence that was acknowledged.
    :ivar gone: services whose end was acknowledged.
    :ivar unknown: services of which the last that was asked was not answered.
    :ivar begun: fires when something was acknowledged.
    """

    def __init__(self, client: Any, name: str) -> None:
        self.there: dict[str, int] = {}
        self.gone: set[str] = set()
        self.unknown: set[str] = set()
        self.fences: list[int] = []
        self.begun: defer.Deferred[None] = defer.Deferred()
        self._client = client
        self._name = name
        self._random = random.Random(name)
        self._number = 0
        self._owners: dict[str, dict[str, Any]] = {}

    async def run(self) -> None:
        """Until the nameserver is gone."""
        while True:
            names = sorted(set(self.there) - self.unknown)
            again = self._random.choice(names) if names and self._random.random() < 0.3 else None
            try:
                if again is not None and self._random.random() < 0.5:
                    self.unknown.add(again)
                    await self._client.invoke("unregister", self._owners[again])
                    del self.there[again]
                    self.gone.add(again)
                else:
                    name = again or f"{self._name}-{self._number}"
                    self._number += 1
                    secret = f"the secret of {name}, which is long"
                    self.unknown.add(name)
                    held = await self._client.invoke("register", registration(name, secret=secret))
                    self._owners[name] = {"lease": held["lease"], "secret": secret}
                    self.there[name] = held["fence"]
                    self.fences.append(held["fence"])
                    if not self.begun.called:
                        self.begun.callback(None)
                self.unknown.discard(again or name)
            except PycomnetError:
                return


async def everything(client: Any) -> dict[str, int]:
    """All services there are, with their fences."""
    found: dict[str, int] = {}
    after = None
    while page := await client.invoke("list_services", {"after": after}, timeout=PATIENCE):
        found.update((one["service"], one["fence"]) for one in page)
        after = page[-1]["service"]
    return found


@pytest_twisted.ensureDeferred
async def test_killed_nameserver_has_all_it_acknowledged(started: Daemons) -> None:
    """Killed at any moment, it has everything that it acknowledged, and fences only grow. Clients
    go on with the nameserver that comes back, without a restart of anything."""
    from twisted.internet import reactor

    delays = random.Random(7)
    # A port could be taken by somebody else while there is no nameserver.
    listen = f"unix:{started.directory / 's'}"
    daemon, address = start(started, listen)
    highest, total = 0, 0
    async with pycomnet.Context(reactor, nameserver=address, timeout=PATIENCE) as context:
        # Each client with a connection of its own; these live as long as the test.
        others = [pycomnet.Context(reactor, timeout=PATIENCE) for _ in range(CLIENTS)]
        clients = [other.at(address, NAMESERVER) for other in others]
        for kill in range(KILLS):
            loads = [Load(client, f"k{kill}-c{n}") for n, client in enumerate(clients)]
            running = [defer.ensureDeferred(load.run()) for load in loads]
            await defer.gatherResults([load.begun for load in loads]).addTimeout(PATIENCE, reactor)
            await deferLater(reactor, delays.random() * 0.4)
            daemon.signal(signal.SIGKILL)
            await defer.gatherResults(running)
            await daemon.ended()
            daemon = started.start("pycomnet-nameserver", "--listen", listen, *STORE)
            await daemon.seen(READY)
            found = await everything(await context.nameserver())
            for load in loads:
                total += len(load.fences)
                assert load.fences == sorted(load.fences)
                for name, fence in load.there.items():
                    if name not in load.unknown:
                        assert found.get(name) == fence, (kill, name)
                assert not (load.gone - load.unknown - set(load.there)) & set(found)
            acknowledged = max(max(load.fences, default=0) for load in loads)
            assert acknowledged > highest, "nothing was registered"
            highest = max(acknowledged, *found.values())
        held = await clients[0].invoke("register", registration("last"))
        assert held["fence"] > highest
        for other in others:
            await other.close()
    assert total > 10 * KILLS


@pytest_twisted.ensureDeferred
async def test_restarted_nameserver_keeps_leases_and_followers(started: Daemons) -> None:
    """Stopped and started it has what it had, with the time that was left, and ends no lease early
    or late; who follows it goes on. The short one may end before it is there again."""
    from twisted.internet import reactor

    daemon, address = start(started, f"unix:{started.directory / 's'}")
    events: list[tuple[str, str]] = []
    seen: defer.Deferred[None] = defer.Deferred()

    async def collect(nameserver: Any) -> None:
        async for event in follow(nameserver, reactor):
            name = event.get("service") or event.get("record", {}).get("service", "")
            events.append((event["event"], name))
            if events[-1] == ("delete", "short"):
                seen.callback(None)

    async with pycomnet.Context(reactor, nameserver=address, timeout=PATIENCE) as context:
        names = await context.nameserver()
        following = defer.ensureDeferred(collect(names))
        following.addErrback(lambda failure: failure.trap(defer.CancelledError))
        held = await names.invoke("register", registration("long", metadata={"v": [1]}))
        begun = time.monotonic()
        await names.invoke("register", registration("short", ttl=3))
        before = {one["service"]: one for one in await names.invoke("list_services")}
        await deferLater(reactor, 0.5)
        daemon.signal(signal.SIGTERM)
        assert await daemon.ended() in CLEAN, daemon.said
        daemon, _ = start(started, address)
        after = {one["service"]: one for one in await names.invoke("list_services")}
        assert "long" in after and set(after) <= set(before)
        for name, one in after.items():
            assert 0 < one.pop("ttl") <= before[name].pop("ttl") - 0.4
            assert one == before[name]
        await names.invoke("renew", {"lease": held["lease"], "secret": held["secret"]})
        await seen.addTimeout(PATIENCE, reactor)
        assert time.monotonic() - begun >= 3.0
        assert events.count(("put", "long")) == 1, events
        taken = await names.invoke("register", registration("short", address="tcp:h:2"))
        assert taken["fence"] > before["short"]["fence"]
        following.cancel()
    daemon.signal(signal.SIGTERM)
    assert await daemon.ended() in CLEAN, daemon.said


@pytest_twisted.ensureDeferred
async def test_what_keeps_it_from_starting_is_one_line(started: Daemons) -> None:
    """What keeps it from running is said in a line, with status 1."""
    _, address = start(started, "tcp:0:interface=127.0.0.1", "memory:")
    listen = f"tcp:{address.rpartition(':')[2]}:interface=127.0.0.1"
    for name, mode in (("text", 0o600), ("open", 0o644)):
        (started.directory / name).write_text("this is a text file\n" * 100)
        (started.directory / name).chmod(mode)
    anywhere = "tcp:0:interface=127.0.0.1"
    args = (("memory:", listen), ("sqlite:text", anywhere), ("sqlite:open", anywhere))
    refused = [
        started.start("pycomnet-nameserver", "--listen", listen, "--store", store)
        for store, listen in args
    ]
    for daemon, expected in zip(
        refused, ("in use", "no nameserver's", "chmod 600 open"), strict=True
    ):
        assert await daemon.ended() == 1, daemon.said
        lines = [line for line in daemon.lines if line.startswith("pycomnet-nameserver: ")]
        assert len(lines) == 1 and expected in lines[0], daemon.said
        assert "Traceback" not in daemon.said


class Rubbish:
    """Sockets that misbehave. They are this process's own, without a reactor.

    :param address: the nameserver's.
    """

    def __init__(self, address: str) -> None:
        host, port = address.split(":")[1:]
        self._where = host, int(port)
        self.sockets: list[socket.socket] = []

    def connect(self, data: bytes = b"") -> socket.socket:
        one = socket.create_connection(self._where, PATIENCE)
        self.sockets.append(one)
        if data:
            one.sendall(data)
        return one

    def flood(self, count: int) -> Future[int]:
        """Ask so much at once on a connection, in threads; how often it was answered."""
        one = self.connect()
        one.settimeout(PATIENCE)
        mux = Mux(initiator=True)
        asked = mux.data_to_send()
        while mux.peer is None:
            one.sendall(asked)
            asked = b""
            mux.receive_data(one.recv(65536))
        args = {"interface": "org.example.load"}
        first = encode([NAMESERVER, "locate", args, None])
        payload = b"\x0a\x06invoke" + first  # FIRST and END, the purpose, the request
        data = b"".join(
            HEADER.pack(len(payload), OPEN, 2 * number + 1) + payload for number in range(count)
        )

        def read() -> int:
            rest, answers = b"", 0
            while answers < count:
                rest += one.recv(1 << 20)
                at = 0
                while len(rest) - at >= HEADER_SIZE:
                    length, kind, _ = HEADER.unpack_from(rest, at)
                    if len(rest) - at < HEADER_SIZE + length:
                        break
                    answers += kind == CLOSE
                    at += HEADER_SIZE + length
                rest = rest[at:]
            return answers

        pool = ThreadPoolExecutor(2)
        pool.submit(one.sendall, data)
        reading = pool.submit(read)
        pool.shutdown(wait=False)
        return reading

    def close(self) -> None:
        for one in self.sockets:
            one.close()


@contextmanager
def descriptors(soft: int) -> Iterator[None]:
    """Let this process, and those that it starts, have so many descriptors meanwhile."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def idle_count() -> int:
    """How many idle connections both processes can have."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return IDLE if limit == resource.RLIM_INFINITY else min(IDLE, limit - 200)


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """All descriptors that the system lets this process have."""
    with descriptors(resource.getrlimit(resource.RLIMIT_NOFILE)[1]):
        yield


@pytest_twisted.ensureDeferred
async def test_hostile_clients_neither_slow_nor_grow_it(
    started: Daemons, many_descriptors: None
) -> None:
    """Idle connections by the thousand, rubbish and floods: the others are served as before, and
    it does not grow."""
    from twisted.internet import reactor

    with descriptors(USUAL):
        daemon, address = start(started, "tcp:0:interface=127.0.0.1")
    rubbish = Rubbish(address)
    noise = random.Random(1)
    async with (
        pycomnet.Context(reactor, nameserver=address, timeout=PATIENCE) as context,
        pycomnet.Context(reactor, timeout=PATIENCE) as flooder,
    ):
        names = await context.nameserver()
        held = await names.invoke("register", registration("a"))
        owner = {"lease": held["lease"], "secret": held["secret"]}

        async def others_are_served() -> None:
            for method, args in (
                ("locate", {"interface": "org.example.load", "service": "a"}),
                ("renew", owner),
                ("register", registration("b", secret="a secret of my own")),
            ):
                before = processor_time(daemon.pid)
                await names.invoke(method, args, timeout=PATIENCE)
                # Not by the clock: other processes may have the processors meanwhile.
                assert processor_time(daemon.pid) - before < SOON

        try:
            count = idle_count()
            before = resident(daemon.pid)
            hello = Mux(initiator=True).data_to_send()
            for _ in range(count // 250):
                for _ in range(250):
                    rubbish.connect(hello)
                await others_are_served()
            # It may not have accepted the last ones yet.
            while (await names.invoke("stat"))["connections"] < count:
                await deferLater(reactor, 0.05)
            assert resident(daemon.pid) - before < count * 30_000
            for _ in range(50):
                rubbish.connect(noise.randbytes(noise.randrange(1, 5000)))
                rubbish.connect(hello[:-20] + noise.randbytes(200))
                rubbish.connect(b"GET / HTTP/1.0\r\n\r\n")
            await others_are_served()
            flood = flooder.at(address, NAMESERVER)
            await flood.invoke("stat")
            asked = [
                flood.invoke("register", registration(f"flood-{number}")) for number in range(2000)
            ] + [flood.invoke("list_services", {"service": "*no*"}) for _ in range(1000)]
            for one in asked:
                one.addErrback(lambda _: None)
            for _ in range(5):
                await others_are_served()
            await defer.gatherResults(asked)
            assert (await names.invoke("stat"))["services"] == 2002
            flooding = rubbish.flood(50_000)
            rounds = 0
            while not flooding.done() or rounds < 3:
                await others_are_served()
                rounds += 1
            assert flooding.result() == 50_000
        finally:
            rubbish.close()
        while (await names.invoke("stat"))["connections"] > 2:
            await deferLater(reactor, 0.05)
    assert "Traceback" not in daemon.said, daemon.said
