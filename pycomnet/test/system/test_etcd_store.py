"""The store on etcd, on real members."""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import defer, task
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from pycomnet.errors import StoreConflict, StoreCutOff, StoreFailed, StoreUncertain
from pycomnet.etcd import EtcdClient, EtcdNoSpace, prefix
from pycomnet.nameserver.migration import StoreContents
from pycomnet.nameserver.records import Delete, Put
from pycomnet.nameserver.stores import make_store
from pycomnet.nameserver.stores.etcd.store import BEAT, CUT_OFF
from pycomnet.services.client.context import Context
from pycomnet.test.nameserver.conformance import StoreConformance
from pycomnet.test.nameserver.kit import record
from pycomnet.test.needs import missing, needs
from pycomnet.test.properties import LONG
from pycomnet.test.system.daemons import PATIENCE, Daemon, Daemons, daemons
from pycomnet.test.system.etcdfaults import FAULTS, run_fault
from pycomnet.test.system.etcdnetwork import has_network_namespaces
from pycomnet.test.system.etcdruns import READY
from pycomnet.test.system.etcds import EtcdMembers
from pycomnet.test.system.histories import Operation, Restored, lost, missed, violations
from pycomnet.test.system.nameserverload import Follower

pytestmark = needs("etcd")

#: Its disk is memory, where there is one: the tests are not about disks.
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


@pytest.fixture(scope="module")
def members() -> Iterator[EtcdMembers]:
    directory = Path(tempfile.mkdtemp(prefix="pycomnet-etcd-", dir=MEMORY))
    running = EtcdMembers(directory)
    try:
        running.start()
        yield running
    finally:
        running.stop()
        shutil.rmtree(directory, ignore_errors=True)


def conformance(name: str, urls: str) -> Any:
    """What every store does, on a prefix of the test's own. Neither trial nor pytest finds it."""

    class EtcdConformance(StoreConformance, TestCase):
        in_order = False
        many = 300

        def make_store(self) -> Any:
            from twisted.internet import reactor

            return make_store(f"etcd:{urls}//prefix=/{name}/", reactor)  # type: ignore[arg-type]

    return EtcdConformance(name)


TESTS = [name for name in dir(StoreConformance) if name.startswith("test_")]


@pytest.mark.parametrize("name", TESTS)
@pytest_twisted.ensureDeferred
async def test_store_on_real_members_conforms(members: EtcdMembers, name: str) -> None:
    """The suite that every store passes."""
    case = conformance(name, members.urls)
    try:
        await defer.maybeDeferred(getattr(case, name))
    finally:
        for function, args, named in reversed(case._cleanups):
            await defer.maybeDeferred(function, *args, **named)


@pytest_twisted.ensureDeferred
async def test_lease_of_another_prefix_is_not_shared(members: EtcdMembers) -> None:
    """Where a number is used already, real members say so by the error that the store expects."""
    from twisted.internet import reactor

    first, second = (
        make_store(f"etcd:{members.urls}//prefix=/leases-{number}/", reactor)  # type: ignore[arg-type]
        for number in (1, 2)
    )
    for store in (first, second):
        await store.open(StoreContents())
    try:
        one, other, moved = record("s"), record("s"), record("t")
        await first.commit(Put(one))
        other.lease = moved.lease = one.lease
        await second.commit(Put(other))
        assert other.lease != one.lease
        with pytest.raises(StoreFailed, match="import into another cluster"):
            await second.commit(Put(moved, keeps_lease=True))
        await second.commit(Delete("s", other.fence))
        await defer.maybeDeferred(first.renew, one)
    finally:
        for store in (first, second):
            await store.close()


@pytest_twisted.ensureDeferred
async def test_older_data_is_found_and_fences_grow(tmp_path: Path) -> None:
    """A member that comes back with older data is found, under the same id, though others have
    written so much in it that no revision goes back."""
    from twisted.internet import reactor

    running = EtcdMembers(Path(tempfile.mkdtemp(prefix="pycomnet-etcd-", dir=MEMORY)))
    member = running.members[0]
    data, saved = member.directory, tmp_path / "saved"
    store = make_store(f"etcd:{running.urls}", reactor)  # type: ignore[arg-type]
    client = EtcdClient([f"tcp:{member.url[7:]}"], reactor)  # type: ignore[arg-type]
    contents = StoreContents()
    try:
        running.start()
        await store.open(contents)
        await store.commit(Put(record("kept", ttl=600.0)))
        member.kill()
        shutil.copytree(data, saved)
        running.start()
        last = 0
        for number in range(10):
            await until_committed(store, contents, "lost", f"tcp:h:{number}")
            last = contents.fence_of("lost") or 0
        first = await latest_beat(store)
        while await latest_beat(store) < first + 2:
            await task.deferLater(reactor, 0.05)  # type: ignore[arg-type]
        member.kill()
        shutil.rmtree(data)
        shutil.copytree(saved, data)
        running.start()
        await client.connect()
        for number in range(100):
            await client.put(b"/other", b"%d" % number)
        deadline = time.monotonic() + PATIENCE
        while set(contents.records) != {"kept"}:
            assert time.monotonic() < deadline, contents.records
            await task.deferLater(reactor, 0.05)  # type: ignore[arg-type]
        await until_committed(store, contents, "lost", "tcp:h:99")
        assert (contents.fence_of("lost") or 0) > last
    finally:
        await client.close()
        await store.close()
        running.stop()
        shutil.rmtree(data.parent, ignore_errors=True)


async def latest_beat(store: Any) -> int:
    """The number of the nameserver's latest sign of life; -1 while it is not listed, as after a
    pause of this machine that its lease did not outlive."""
    nameservers = (await store.cluster())["nameservers"]
    return nameservers[0]["beat"] if nameservers else -1


async def until_committed(store: Any, contents: StoreContents, name: str, address: str) -> None:
    """Register a name, as soon as etcd takes it."""
    from twisted.internet import reactor

    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            wanted = record(name, address=address, ttl=600.0)
            await store.commit(Put(wanted, contents.fence_of(name)))
            return
        except (StoreFailed, StoreConflict, StoreUncertain):
            await task.deferLater(reactor, 0.05)  # type: ignore[arg-type]
    raise AssertionError(f"{name} can't be registered")


def test_checker_sees_what_can_not_have_been() -> None:
    """The checker finds two owners, a fence that falls, a lease or record that was lost, and a
    registration that a watcher was not told of."""

    def one(client: str, kind: str, begin: float, end: float, **more: Any) -> Operation:
        return Operation(client, kind, "s", begin, end, **{"outcome": "ok", "ttl": 4.0, **more})

    first = one("a", "register", 0.0, 1.0, fence=5)
    assert violations([first, one("b", "register", 4.5, 5.0, fence=6)]) == []
    ended, next_one = one("a", "unregister", 2.0, 2.1), one("b", "register", 2.2, 2.3, fence=6)
    assert violations([first, ended, next_one]) == []
    (two,) = violations([first, one("b", "register", 2.0, 3.0, fence=6)])
    assert "two owners" in two
    (fence,) = violations([first, one("b", "register", 5.0, 6.0, fence=5)])
    assert "did not grow" in fence
    (renewal,) = violations([first, one("a", "renew", 2.0, 2.1, outcome="lease-lost")])
    assert "in time" in renewal
    assert violations([first, one("a", "renew", 4.0, 4.1, outcome="lease-lost")]) == []
    # Etcd was put back to the time 0.5, and so the name was free for another at 2.5.
    second, back = one("b", "register", 2.5, 3.0, fence=6), Restored(0.5, 2.4)
    assert violations([first, second]) and violations([first, second], back) == []
    assert lost([first], 2.0, {}, back) == []
    assert lost([first], 2.0, {"s": 5}) == []
    assert lost([first], 2.0, {}) and lost([first], 4.5, {}) == []
    assert missed([first], {5}, -1.0) == missed([first], set(), 0.5) == []
    (untold,) = missed([first, one("a", "renew", 2.0, 2.1)], {4}, -1.0)
    assert "not told" in untold


#: Faults that are always tried; PYCOMNET_TEST_LONG asks for those, too, that take over ten seconds.
SHORT = ("leader-killed", *(("leader-in-minority", "snapshot-restored") if LONG else ()))


@pytest.mark.parametrize("name", SHORT)
@pytest_twisted.ensureDeferred
async def test_fault_under_load_loses_nothing(name: str) -> None:
    """Once and for a moment; benchmarks/etcd_faults.py does all of them, for long."""
    from twisted.internet import reactor

    if FAULTS[name].has_network and not has_network_namespaces():
        missing("network namespaces can't be made")
    run, _ = await run_fault(reactor, name, times=1, seconds=1.0, between=0.5, memory=MEMORY)
    assert run.problems == []
    assert run.operations > 20
    assert run.watched > 0 or name == "snapshot-restored"


@pytest.fixture
def started(tmp_path_factory: Any) -> Iterator[Daemons]:
    """Daemons of a test, with a directory of their own."""
    with daemons(Path(tmp_path_factory.mktemp("e"))) as found:
        yield found


def start(started: Daemons, store: str, *more: str) -> Daemon:
    """Start a nameserver on a store."""
    listen = ("--listen", "tcp:0:interface=127.0.0.1")
    return started.start("pycomnet-nameserver", *listen, "--store", store, *more)


async def until(condition: Any) -> None:
    """Wait until something holds."""
    from twisted.internet import reactor

    begun = time.monotonic()
    while not await condition():
        assert time.monotonic() - begun < PATIENCE
        await task.deferLater(reactor, 0.05)  # type: ignore[arg-type]


async def asked(nameserver: Any) -> dict[str, Any]:
    """What the cluster shows of the nameserver that is asked."""
    mine = (await nameserver.invoke("stat"))["id"]
    found: list[dict[str, Any]] = (await nameserver.invoke("cluster"))["nameservers"]
    return next(one for one in found if one["id"] == mine)


@pytest_twisted.ensureDeferred
async def test_nameserver_killed_is_replaced_by_the_other(
    members: EtcdMembers, started: Daemons
) -> None:
    """When a nameserver is killed, clients and watchers go on at the other one: what was registered
    at the dead one is there, and watchers get no second snapshot."""
    from twisted.internet import reactor

    store = f"etcd:{members.urls}//prefix=/killed/"
    both = [start(started, store) for _ in range(2)]
    addresses = [(await one.seen(READY))[1] for one in both]
    context = Context(reactor, nameserver=",".join(addresses))  # type: ignore[arg-type]
    follower = Follower(reactor, ",".join(addresses))
    try:
        nameserver = await context.nameserver()
        wanted = {"interfaces": ["x"], "address": "tcp:127.0.0.1:1"}
        first = await nameserver.invoke("register", {"service": "a", **wanted})
        follower.start()

        async def knows() -> bool:
            return set(follower.services) == {"a"}

        await until(knows)
        # The one that is asked.
        pid = (await asked(nameserver))["pid"]
        (used,) = (one for one in both if one.pid == pid)
        used.signal(signal.SIGKILL)
        await used.ended()
        found = await nameserver.invoke("locate", {"service": "a"})
        assert found["fence"] == first["fence"] and "stale" not in found
        await nameserver.invoke("renew", {"lease": first["lease"], "secret": first["secret"]})
        second = await nameserver.invoke("register", {"service": "b", **wanted})
        assert second["fence"] > first["fence"]

        async def seen() -> bool:
            return set(follower.services) == {"a", "b"}

        await until(seen)
        assert follower.snapshots == 1
    finally:
        await follower.close()
        await context.close()


@pytest_twisted.ensureDeferred
async def test_most_leases_that_end_at_once_are_doubted_by_all_nameservers(
    members: EtcdMembers, started: Daemons
) -> None:
    """Who is cut off is kept as doubtful by both nameservers, and by one that is started after
    that, until it registers again."""
    from twisted.internet import reactor

    store = f"etcd:{members.urls}//prefix=/doubted/"
    begun = time.monotonic()
    daemons = [start(started, store) for _ in range(2)]
    addresses = [(await one.seen(READY))[1] for one in daemons]
    # They are doubtful for as long as their leases were: another one has to start in that time.
    ttl = max(15.0, 3 * (time.monotonic() - begun))
    contexts = [Context(reactor, nameserver=one) for one in addresses]  # type: ignore[arg-type]
    names = {f"s{number:02}" for number in range(20)}
    wanted = {"interfaces": ["x"], "address": "tcp:127.0.0.1:1", "secret": "a secret of sixteen"}
    try:
        first, second = [await one.nameserver() for one in contexts]
        await first.invoke("register", {"service": "live", "ttl": 600.0, **wanted})
        registering = [
            first.invoke("register", {"service": name, "ttl": ttl, **wanted}) for name in names
        ]
        await defer.gatherResults(registering)

        async def doubtful(nameserver: Any) -> set[str]:
            found = await nameserver.invoke("list_services")
            return {one["service"] for one in found if one.get("doubtful")}

        for nameserver, daemon in zip((first, second), daemons, strict=True):

            async def are_all_doubted(nameserver: Any = nameserver) -> bool:
                return await doubtful(nameserver) == names

            await until(are_all_doubted)
            await daemon.seen("over half of all leases have ended within one ttl")
            assert (await nameserver.invoke("stat"))["doubtful"] == len(names)
            assert (await nameserver.invoke("locate", {"service": "s07"}))["doubtful"] is True
            assert (await nameserver.invoke("locate", {"interface": "x"}))["service"] == "live"
        third = start(started, store)
        contexts.append(
            Context(reactor, nameserver=(await third.seen(READY))[1])  # type: ignore[arg-type]
        )
        assert await doubtful(await contexts[-1].nameserver()) == names
        for name in names:
            await second.invoke("register", {"service": name, "ttl": 600.0, **wanted})
        for daemon in (*daemons, third):
            await daemon.seen("of 20 that were, 20 were registered again")
    finally:
        for context in contexts:
            await context.close()


@pytest_twisted.ensureDeferred
async def test_nameserver_waits_for_etcd_and_says_when_it_is_cut_off(started: Daemons) -> None:
    """It starts before etcd; while etcd is frozen it refuses changes and marks what it finds; it
    recovers by itself."""
    from twisted.internet import reactor

    directory = Path(tempfile.mkdtemp(prefix="pycomnet-etcd-", dir=MEMORY))
    alone = EtcdMembers(directory)
    daemon = start(started, f"etcd:{alone.urls}")
    context: Any = None
    try:
        await daemon.seen("can't read from etcd")
        await deferToThread(alone.start)
        context = Context(reactor, nameserver=(await daemon.seen(READY))[1])  # type: ignore[arg-type]
        nameserver = await context.nameserver()
        wanted = {"interfaces": ["x"], "address": "tcp:127.0.0.1:1", "ttl": 600.0}
        await nameserver.invoke("register", {"service": "a", **wanted})
        alone.members[0].send(signal.SIGSTOP)

        async def stale() -> bool:
            return "stale" in await nameserver.invoke("locate", {"service": "a"})

        await until(stale)
        with pytest.raises(StoreCutOff):
            await nameserver.invoke("register", {"service": "b", **wanted})
        alone.members[0].send(signal.SIGCONT)

        async def fresh() -> bool:
            return not await stale()

        await until(fresh)
        await nameserver.invoke("register", {"service": "b", **wanted})
        found = await nameserver.invoke("cluster")
        assert [one["name"] for one in found["members"]] == ["m0"]
        assert found["nameservers"][0]["addresses"] == [context.nameserver_address]
    finally:
        alone.stop()
        if context is not None:
            await context.close()
        shutil.rmtree(directory, ignore_errors=True)


@pytest_twisted.ensureDeferred
async def test_full_database_stops_registrations_only(started: Daemons) -> None:
    """While etcd's database is full, registering is refused by name, and renewing and locating go
    on as before, though the nameserver's own signs of life are refused, too."""
    from twisted.internet import reactor

    directory = Path(tempfile.mkdtemp(prefix="pycomnet-etcd-", dir=MEMORY))
    alone = EtcdMembers(directory)
    (member,) = alone.members
    member.add_arguments("--quota-backend-bytes", str(4 << 20))
    client = EtcdClient([f"tcp:{member.url[7:]}"], reactor)  # type: ignore[arg-type]
    context: Any = None
    try:
        await deferToThread(alone.start)
        daemon = start(started, f"etcd:{alone.urls}")
        context = Context(reactor, nameserver=(await daemon.seen(READY))[1])  # type: ignore[arg-type]
        nameserver = await context.nameserver()
        wanted = {"interfaces": ["x"], "address": "tcp:127.0.0.1:1", "ttl": 600.0}
        held = await nameserver.invoke("register", {"service": "a", **wanted})
        await client.connect()
        with pytest.raises(EtcdNoSpace):
            # etcd looks at the size as it was at its last commit, ten times a second.
            for number in range(1_000):
                await client.put(b"big/%d" % number, bytes(1_000_000))
        full = time.monotonic()
        while time.monotonic() < full + CUT_OFF + 2 * BEAT:
            found = await nameserver.invoke("locate", {"service": "a"})
            assert "stale" not in found
            owner = {"lease": held["lease"], "secret": held["secret"]}
            assert (await nameserver.invoke("renew", owner))["ttl"] == 600.0
            with pytest.raises(StoreFailed, match="database is full"):
                await nameserver.invoke("register", {"service": "b", **wanted})
            await task.deferLater(reactor, 0.5)  # type: ignore[arg-type]
        await client.delete(prefix(b"big/"))
        await client.compact((await client.range(prefix(b"big/"))).header.revision, physical=True)
        await deferToThread(alone.control, "defrag")
        for alarm in await client.alarms():
            await client.disarm(alarm)
        await nameserver.invoke("register", {"service": "b", **wanted})
    finally:
        await client.close()
        if context is not None:
            await context.close()
        alone.stop()
        shutil.rmtree(directory, ignore_errors=True)
