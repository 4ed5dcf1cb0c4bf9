"""Workflow services that share runs in a PostgreSQL database, as processes: kills, a stop that is
longer than the lease, and what a server may do."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import defer
from twisted.internet.threads import deferToThread

from pycomnet.ext.workflow import RunCancelled, workflow
from pycomnet.ext.workflow.errors import RunStoreFailed
from pycomnet.services.client.context import Context
from pycomnet.test.needs import needs
from pycomnet.test.postgresql import PostgreSQL, postgresql
from pycomnet.test.system.daemons import PATIENCE, Daemon, Daemons, daemons
from pycomnet.test.waiting import until

pytestmark = needs("initdb")

NAMES = ("/demo/workflow/1", "/demo/workflow/2")
#: Seconds of a lease that has to end within a test, and of one that must not.
LEASE = 4.0
LONG_LEASE = 600.0

SHOP = """
import os, pathlib, pycomnet
from twisted.internet import defer

@pycomnet.interface("demo.shop")
class Shop(pycomnet.Service):
    def __init__(self):
        self.waiting = []
        self.is_open = False

    def note(self, *words):
        with open(pathlib.Path(__file__).parent / "effects", "a") as file:
            file.write(" ".join(map(str, words)) + "\\n")

    @pycomnet.method(once=True)
    def pay(self, request):
        self.note("pay", request.args)
        if self.is_open:
            return request.args
        done = defer.Deferred()
        self.waiting.append((done, request.args))
        return done

    @pycomnet.method()
    def ship(self, request):
        self.note("ship", request.args)
        return f"shipped {request.args}"

    @pycomnet.method()
    def release(self, request):
        self.is_open = True
        for done, args in self.waiting:
            done.callback(args)
        self.waiting.clear()
"""
TASKS = {
    "tasks": {
        "order": [
            {"interface": "demo.shop", "method": "pay", "timeout": 100},
            {"interface": "demo.shop", "method": "ship"},
        ],
        "letter": [{"signal": "go"}, {"interface": "demo.shop", "method": "ship"}],
    }
}


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    """A server that these tests stop and start."""
    with postgresql() as found:
        yield found


class Place:
    """Two workflow services, which share a database, and a shop.

    :ivar effects: what the shop has done.
    """

    def __init__(self, started: Daemons, server: PostgreSQL, lease: float) -> None:
        self.started = started
        self.server = server
        self.store = server.address(lease=lease)
        self.nameserver = started.nameserver()
        (started.directory / "shop.py").write_text(SHOP)
        self.config = started.directory / "tasks.json"
        self.config.write_text(json.dumps(TASKS))
        self.effects_file = started.directory / "effects"
        started.service(self.nameserver, module="shop").wait_for("demo.shop")
        self.first, self.second = map(self.begin, NAMES)

    def begin(self, name: str) -> Daemon:
        """Start a workflow service."""
        daemon = self.started.start(
            "pycomnet-workflow",
            *("--config", str(self.config), "--nameserver", self.nameserver),
            *("--name", name, "--ttl", "2", "--wait", "--store", self.store),
        )
        daemon.wait_for("registered ")
        return daemon

    def context(self) -> Context:
        """A context for the test's calls."""
        from twisted.internet import reactor

        return Context(reactor, nameserver=self.nameserver, timeout=PATIENCE)  # type: ignore[arg-type]

    def effects(self) -> Counter[str]:
        """What the shop has done, and how often."""
        if not self.effects_file.exists():
            return Counter()
        return Counter(self.effects_file.read_text().splitlines())


@pytest.fixture
def place(tmp_path_factory: Any, server: PostgreSQL) -> Iterator[Place]:
    """Two services of a test's own."""
    with daemons(Path(tmp_path_factory.mktemp("w"))) as started:
        yield Place(started, server, LEASE)


@pytest.fixture
def patient_place(tmp_path_factory: Any, server: PostgreSQL) -> Iterator[Place]:
    """Two services that keep their leases, however busy the machine is."""
    with daemons(Path(tmp_path_factory.mktemp("w"))) as started:
        yield Place(started, server, LONG_LEASE)


async def release(calls: Context) -> None:
    """Have the shop take payments."""
    shop = await calls.locate("demo.shop")
    await shop.invoke("release")


@pytest_twisted.ensureDeferred
async def test_runs_of_a_killed_service_go_on_at_another(place: Place) -> None:
    """One of two services is killed in the midst of runs. Within the time of a lease they go on at
    the other; nothing is done twice."""
    async with place.context() as calls:
        first, second = (workflow(name, context=calls) for name in NAMES)
        for id in ("a", "b"):
            await first.start("order", id, id)
        await until(lambda: place.effects().total() == 2, "both are being paid")
        begun = time.monotonic()
        place.first.signal(signal.SIGKILL)
        await place.second.seen("services have ended: their runs are free")
        assert time.monotonic() - begun < 2 * LEASE  # as much again for a busy machine
        results = [second.result(id, PATIENCE) for id in ("a", "b")]
        await release(calls)
        assert await defer.gatherResults(results) == ["shipped a", "shipped b"]
    assert place.effects() == Counter(["pay a", "pay b", "ship a", "ship b"])


@pytest.mark.parametrize("answered", [True, False])
@pytest_twisted.ensureDeferred
async def test_service_that_was_stopped_commits_nothing_late(place: Place, answered: bool) -> None:
    """One of two services is stopped for longer than its lease, and its runs are the other's. When
    it goes on, with the answers of its calls or while they are under way, it commits nothing,
    makes no further call, and takes nothing from the other's. Then it works as before."""
    async with place.context() as calls:
        first, second = (workflow(name, context=calls) for name in NAMES)
        for id in ("a", "b"):
            await first.start("order", id, id)
        await until(lambda: place.effects().total() == 2, "both are being paid")
        place.first.signal(signal.SIGSTOP)
        shipped = ["shipped a", "shipped b"]
        try:
            await place.second.seen("services have ended: their runs are free")
            results = defer.gatherResults([second.result(id, PATIENCE) for id in ("a", "b")])
            if answered:
                await release(calls)
                assert await results == shipped
        finally:
            place.first.signal(signal.SIGCONT)
        await place.first.seen("the lease at .* has ended")
        if not answered:
            await release(calls)
            assert await results == shipped
        again = workflow(NAMES[0], context=calls)
        assert await again.invoke("order", "c", PATIENCE, id="c") == "shipped c"
    effects = [f"{what} {id}" for what in ("pay", "ship") for id in "abc"]
    assert place.effects() == Counter(effects)


@pytest_twisted.ensureDeferred
async def test_run_is_steered_from_any_service(place: Place) -> None:
    """Whichever service has a run, the other shows, signals, suspends and cancels it, and waits for
    its end."""
    async with place.context() as calls:
        first, second = (workflow(name, context=calls) for name in NAMES)
        await first.start("letter", None, "signalled")
        waiting = second.result("signalled", PATIENCE)
        await second.signal("signalled", "go", 5)
        assert await waiting == "shipped 5"
        await first.start("order", "x", "cancelled")
        await until(lambda: place.effects()["pay x"] == 1, "it is being paid")
        assert (await second.start("order", "x", "cancelled"))["id"] == "cancelled"
        assert {one["id"] for one in await second.list()} == {"signalled", "cancelled"}
        await second.suspend("cancelled")
        await second.resume("cancelled")
        waiting = second.result("cancelled", PATIENCE)
        await second.cancel("cancelled")
        with pytest.raises(RunCancelled):
            await waiting
        assert (await first.show("cancelled"))["state"] == "cancelled"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
@pytest_twisted.ensureDeferred
async def test_server_that_is_restarted_under_load(patient_place: Place, how: int) -> None:
    """The database is stopped, or crashes, and begins again while runs are started and stepped.
    Each run ends, and each is paid and shipped once."""
    from twisted.internet import reactor
    from twisted.internet.task import deferLater

    place = patient_place
    over = False
    ids: list[str] = []

    async def order(w: Any, number: int) -> None:
        count = 0
        while not over:
            id = f"c{number}-{count}"
            count += 1
            ids.append(id)
            while True:
                try:
                    assert await w.invoke("order", id, PATIENCE, id=id) == f"shipped {id}"
                    break
                except RunStoreFailed:
                    # It was not kept, or nobody knows: the same id is the same run.
                    await deferLater(reactor, 0.1)  # type: ignore[arg-type]

    async with place.context() as calls:
        await release(calls)
        clients = [
            defer.Deferred.fromCoroutine(order(workflow(name, context=calls), number))
            for number, name in enumerate(NAMES * 4)
        ]
        ended = defer.gatherResults(clients, consumeErrors=True)
        try:
            await until(lambda: len(ids) > 40 or ended.called, "there is load")
            await deferToThread(place.server.stop, how)
            await place.first.seen("can't use postgresql")
            await place.second.seen("can't use postgresql")
            await deferToThread(place.server.start)
            before = len(ids)
            await until(lambda: len(ids) > before + 40 or ended.called, "there is load again")
        finally:
            over = True
            if place.server.is_down:
                await deferToThread(place.server.start)
        await ended
    effects = place.effects()
    assert effects == Counter([f"{what} {id}" for what in ("pay", "ship") for id in ids])


def test_database_that_is_not_there(place: Place) -> None:
    """A daemon whose database is not there ends, and says why."""
    store = f"postgresql://x@127.0.0.1:{place.server.port}/none?connect_timeout=5"
    for address, said in (
        (store, "password"),
        ("postgresql://x@127.0.0.1:1/none", "refused"),
        ("postgresql:none", "expected postgresql://"),
    ):
        daemon = place.started.start(
            *("pycomnet-workflow", "--config", str(place.config), "--store", address),
            *("--nameserver", place.nameserver),
        )
        daemon.wait_for(said)
        assert daemon.wait() == 1
