"""No room on the disk: for a nameserver's store, a publisher's, one of runs, and for a call's
attachments."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import defer

import pycomnet
from pycomnet.ext.pubsub import subscriber
from pycomnet.ext.workflow.errors import RunStoreFailed
from pycomnet.ext.workflow.stores import make_run_store
from pycomnet.services.client.context import NAMESERVER
from pycomnet.test.adversary.kit import BROKEN, MB, Victim, ready, start
from pycomnet.test.disks import small_disk
from pycomnet.test.ext.workflow.conformance import Follower, row
from pycomnet.test.system.daemons import Daemon, Daemons

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 and not os.environ.get("PYCOMNET_REQUIRE_ALL"),
    reason="only root can mount a small file system",
)

FILES = """
from typing import Any

import pycomnet


@pycomnet.interface("org.example.calc")
class Calc(pycomnet.Service):
    @pycomnet.method("add")
    def add(self, request: Any) -> Any:
        if request.files:
            return sum(len(file.read()) for file in request.files)
        return request.args["a"] + request.args["b"]
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a megabyte."""
    with small_disk(tmp_path, "1m") as path:
        yield path


def fill(disk: Path) -> Path:
    """Take all the room that is left; the file that has it."""
    path = disk / "full"
    with path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return path


def said(victim: Victim) -> str:
    found = victim.daemon.said
    assert not any(word in found for word in BROKEN), found[-4000:]
    return found


@pytest_twisted.ensureDeferred
async def test_registration_on_a_full_disk_is_refused(running: Daemons, disk: Path) -> None:
    """A registration that can't be kept is refused with the store's error, and changes nothing;
    reading goes on, and so does writing when there is room again."""
    from twisted.internet import reactor

    victim = ready(start(running, "nameserver", "--store", f"sqlite:{disk / 'names'}"))
    async with pycomnet.Context(reactor, timeout=120) as context:
        names = context.at(victim.where, NAMESERVER)

        async def register(service: str) -> None:
            args = {"service": service, "interfaces": ["x"], "address": "tcp:h:1", "ttl": 600}
            await names.invoke("register", {**args, "metadata": {"text": "x" * 3000}})

        await register("before")
        full = fill(disk)
        refused = 0
        for number in range(40):
            try:
                await register(f"s{number}")
            except pycomnet.PycomnetError as problem:
                assert "store" in str(problem) or "disk" in str(problem), problem
                refused += 1
        assert refused, "nothing was refused on a full disk"
        found = {one["service"] for one in await names.invoke("list_services", {"limit": 100})}
        assert "before" in found and len(found) == 41 - refused
        full.unlink()
        await register("after")
        await victim.serves()
    said(victim)


@pytest_twisted.ensureDeferred
async def test_blocks_over_the_disk_fail_their_call_alone(running: Daemons, disk: Path) -> None:
    """Blocks that are larger than the disk fail their call alone, and leave nothing there."""
    from twisted.internet import reactor

    (running.directory / "calc.py").write_text(FILES)
    victim = ready(start(running, "service", TMPDIR=str(disk)))
    async with pycomnet.Context(reactor, timeout=120) as context:
        calc = await context.connect(victim.where, "org.example.calc")
        small = [pycomnet.Binary(bytes(300_000))]
        # From its first temporary file on Python knows where those go.
        assert (await calc.invoke("add", {}, None, small, True))[0] == 300_000
        fill(disk)
        large = bytes(4 * MB)
        with pytest.raises(pycomnet.PycomnetError, match=r"can't be kept: .*No space left"):
            await calc.invoke("add", {}, None, [pycomnet.Binary(large)], True)
        assert await calc.invoke("add", {"a": 1, "b": 2}) == 3
        (disk / "full").unlink()
        assert os.listdir(disk) == []
        assert (await calc.invoke("add", {}, None, small, True))[0] == 300_000
    said(victim)


KEEPER = """
from pycomnet.ext.pubsub import publisher

@publisher("org.example.kept", store={path!r}, may_publish=True)
class Kept:
    pass
"""


@pytest_twisted.ensureDeferred
async def test_publisher_whose_store_is_full_ends_with_the_reason(
    running: Daemons, disk: Path
) -> None:
    """Whoever publishes, and whoever is subscribed, is told so; what was confirmed is there when it
    is started again, as far as the disk has room, and nothing else is."""
    from twisted.internet import reactor

    name = "org.example.kept"
    (running.directory / "kept.py").write_text(KEEPER.format(path=str(disk / "events.db")))

    def begin() -> tuple[Daemon, str]:
        args = ("--nameserver", "none", "--listen", "tcp:0:interface=127.0.0.1", "kept")
        daemon = running.start("pycomnet-service", *args)
        return daemon, daemon.wait_for(rf"offers {name} at (\S+)")[1]

    daemon, address = begin()
    confirmed: list[int] = []
    async with pycomnet.Context(reactor, timeout=120) as context:
        service = await context.connect(address, name)
        one = subscriber(name, context=context, address=address)
        await one.when_subscribed()
        with pytest.raises(pycomnet.PycomnetError, match=r"full|No space") as refused:
            for number in range(1000):
                await service.invoke("publish", {"value": [number, bytes(20_000)]})
                confirmed.append(number)
        assert 5 < len(confirmed) < 60
        got = []
        with pytest.raises(pycomnet.PycomnetError) as told:
            while True:
                got.append((await one.receive())[0])
        assert got == confirmed
        assert str(told.value) == str(refused.value)
        with pytest.raises(pycomnet.PycomnetError, match="has ended"):
            await service.invoke("publish", {"value": 1})
    daemon.signal()
    daemon.wait()
    assert not any(word in daemon.said for word in BROKEN), daemon.said[-4000:]
    assert "an event can't be stored, and the publisher ends: " in daemon.said
    daemon, address = begin()
    async with pycomnet.Context(reactor, timeout=120) as context:
        late = subscriber(name, context=context, address=address, last=1000)
        again = [(await late.receive())[0] for _ in confirmed]
        assert again == confirmed
        await late.close()
    assert not any(word in daemon.said for word in BROKEN), daemon.said[-4000:]


@pytest_twisted.ensureDeferred
async def test_runs_in_one_transaction_on_a_full_disk(
    disk: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Runs of many sizes are created in batches, until the disk has no room: what was confirmed is
    kept, once, and what failed is not there, also not after a restart; with room all goes on."""
    from twisted.internet import reactor

    name = f"sqlite:{disk / 'runs.sqlite'}"
    store = make_run_store(name, reactor)  # type: ignore[arg-type]
    await store.open(Follower())
    confirmed: set[str] = set()
    failed: set[str] = set()
    try:
        for batch in range(20):
            rows = [
                row(f"{batch}-{size}", data=os.urandom(size)) for size in (10, 40_000, 200, 3_000)
            ]
            creating = map(store.create, rows)
            results: Any = await defer.DeferredList(creating, consumeErrors=True)
            for one, (ok, result) in zip(rows, results, strict=True):
                (confirmed if ok else failed).add(one.id)
                assert ok or result.check(RunStoreFailed)
        assert confirmed
        assert failed
        assert {id for id in confirmed | failed if await store.get(id)} == confirmed
    finally:
        await store.close()
    with small_disk(tmp_path_factory.mktemp("larger"), "8m") as larger:
        for path in disk.iterdir():
            (larger / path.name).write_bytes(path.read_bytes())
            (larger / path.name).chmod(0o600)
        store = make_run_store(f"sqlite:{larger / 'runs.sqlite'}", reactor)  # type: ignore[arg-type]
        await store.open(Follower())
        try:
            assert {id for id in confirmed | failed if await store.get(id)} == confirmed
            for id in failed:
                assert (await store.create(row(id)))[1] is not None
        finally:
            await store.close()
