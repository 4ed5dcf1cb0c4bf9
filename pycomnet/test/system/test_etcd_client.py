"""The etcd client with Debian's etcd: what members do that no test in memory would invent."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import trustme
from twisted.internet.defer import DeferredList, ensureDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol

import pycomnet
from pycomnet.etcd import (
    EtcdAuthFailed,
    EtcdClient,
    EtcdError,
    EtcdLeaseNotFound,
    EtcdNoSpace,
    EtcdPermissionDenied,
    EtcdRequestRefused,
    EtcdUnavailable,
    EtcdUncertain,
    KeyRange,
    PutRequest,
    RangeRequest,
    absent,
    prefix,
    unchanged,
)
from pycomnet.test.needs import needs
from pycomnet.test.processes import stop
from pycomnet.test.system.etcds import EtcdMember, EtcdMembers, free_ports
from pycomnet.test.waiting import until

pytestmark = needs("etcd")

#: The members' disk is memory, where there is one: the tests are not about disks.
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
KB = 1024
ROOT = Path(pycomnet.__file__).parent.parent


def endpoint(member: EtcdMember, kind: str = "tcp") -> str:
    """A member's endpoint string."""
    return f"{kind}:{member.url.partition('://')[2]}"


class Seen:
    """A watch's handler that keeps what it is told."""

    def __init__(self) -> None:
        self.found: list[Any] = []
        self.calls: list[list[int]] = []
        self.told: list[Any] = []

    @property
    def revisions(self) -> list[int]:
        """Of all events."""
        return [event.kv.mod_revision for event in self.found]

    async def begun(self) -> None:
        """Wait until etcd has begun the watch: it and a put are of two streams, and etcd may take
        either first."""
        await until(lambda: "created" in self.told, "that the watch has begun")

    def created(self, revision: int) -> None:
        self.told.append("created")

    def events(self, events: list[Any], revision: int) -> None:
        self.found += events
        self.calls.append([event.kv.mod_revision for event in events])

    def progress(self, revision: int) -> None:
        self.told.append(("progress", revision))

    def disconnected(self, reason: Exception) -> None:
        self.told.append("disconnected")

    def compacted(self, revision: int) -> None:
        self.told.append(("compacted", revision))

    def cancelled(self, reason: Exception) -> None:
        self.told.append(("cancelled", reason))


class Running:
    """Members, with the clients of a test, which are closed after it."""

    def __init__(self, members: EtcdMembers) -> None:
        self.members = members.members
        self.clients: list[EtcdClient] = []

    async def client(self, *endpoints: str, **options: Any) -> EtcdClient:
        """A connected client; of all members, if no other endpoints are given."""
        client = self.unconnected(*endpoints, **options)
        await client.connect()
        return client

    def unconnected(self, *endpoints: str, **options: Any) -> EtcdClient:
        """A client that is not connected."""
        from twisted.internet import reactor

        chosen = endpoints or tuple(map(endpoint, self.members))
        options = {"timeout": 60.0, **options}
        client = EtcdClient(chosen, reactor, **options)  # type: ignore[arg-type]
        self.clients.append(client)
        return client

    async def leader(self, client: EtcdClient) -> EtcdMember:
        """The member that is the leader."""
        for member in self.members:
            if member.process.poll() is None:
                status = await client.status(endpoint(member))
                if status.is_leader:
                    return member
        raise AssertionError("there is no leader")


def run_members(count: int, *arguments: str) -> Generator[EtcdMembers, None, None]:
    """Members in a directory of their own, with further arguments."""
    directory = Path(tempfile.mkdtemp(prefix="pycomnet-etcd-", dir=MEMORY))
    members = EtcdMembers(directory, count)
    for member in members.members:
        member.add_arguments(*arguments)
    try:
        members.start()
        yield members
    finally:
        members.stop()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def one_member() -> Iterator[EtcdMembers]:
    yield from run_members(1)


@pytest.fixture(scope="module")
def three_members() -> Iterator[EtcdMembers]:
    yield from run_members(3)


@pytest_twisted.async_yield_fixture
async def one(one_member: EtcdMembers) -> Any:
    """One member."""
    running = Running(one_member)
    yield running
    for client in running.clients:
        await client.close()


@pytest_twisted.async_yield_fixture
async def three(three_members: EtcdMembers) -> Any:
    """Three members; those that a test has ended or stopped run again after it."""
    running = Running(three_members)
    yield running
    for client in running.clients:
        await client.close()
    for member in running.members:
        if member.process.poll() is not None:
            member.start()
        member.send(signal.SIGCONT)
    three_members.wait()


@pytest_twisted.ensureDeferred
async def test_keys_transactions_and_leases(one: Running) -> None:
    """What the client reads is what etcd did."""
    client = await one.client()
    put = await client.put(b"kv/a", b"1")
    kv = await client.get(b"kv/a")
    assert kv is not None
    assert (kv.value, kv.mod_revision, kv.version) == (b"1", put.header.revision, 1)
    lease = await client.grant(60)
    assert lease.ttl == 60
    done = await client.txn(
        [unchanged(b"kv/a", kv.mod_revision), absent(b"kv/b")],
        [PutRequest(b"kv/a", b"2", previous=True), PutRequest(b"kv/b", b"3", lease.id)],
        [RangeRequest(KeyRange(b"kv/a"))],
    )
    assert done.succeeded
    replaced: Any = done.responses[0]
    assert replaced.previous.value == b"1"
    again = await client.txn([absent(b"kv/b")], [], [RangeRequest(KeyRange(b"kv/b"))])
    assert not again.succeeded
    found: Any = again.responses[0]
    assert found.kvs[0].lease == lease.id
    both = await client.range(RangeRequest(prefix(b"kv/"), limit=1))
    assert (both.count, both.more, len(both.kvs)) == (2, True, 1)
    old = await client.range(RangeRequest(KeyRange(b"kv/a"), revision=kv.mod_revision))
    assert old.kvs == [kv]
    assert await client.keepalive(lease.id) == 60
    left = await client.time_to_live(lease.id, keys=True)
    assert (left.granted, left.keys) == (60, [b"kv/b"])
    assert lease.id in await client.leases()
    await client.revoke(lease.id)
    assert await client.get(b"kv/b") is None
    with pytest.raises(EtcdLeaseNotFound):
        await client.keepalive(lease.id)
    assert (await client.time_to_live(lease.id)).ttl == -1
    deleted = await client.delete(prefix(b"kv/"), previous=True)
    assert [one.value for one in deleted.previous] == [b"2"]
    assert [member.name for member in await client.member_list()] == ["m0"]
    status = await client.status()
    assert status.is_leader
    assert await client.alarms() == []


@pytest_twisted.ensureDeferred
async def test_many_requests_at_once_and_many_renewals(one: Running) -> None:
    """Each gets its own answer."""
    client = await one.client()
    puts = [client.put(b"many/%d" % number, b"%d" % number) for number in range(500)]
    await DeferredList(puts, fireOnOneErrback=True)
    gets = await DeferredList([client.get(b"many/%d" % number) for number in range(500)])
    assert [kv and kv.value for _, kv in gets] == [b"%d" % number for number in range(500)]
    leases = [lease for _, lease in await DeferredList([client.grant(90) for _ in range(100)])]
    for _ in range(3):
        renewed = await DeferredList([client.keepalive(lease.id) for lease in leases])
        assert [ttl for _, ttl in renewed] == [90] * 100


@pytest_twisted.ensureDeferred
async def test_a_value_over_the_limits_is_refused(one: Running) -> None:
    """Over etcd's, and over gRPC's; the connection goes on."""
    client = await one.client()
    for size in (1700 * KB, 5000 * KB):
        with pytest.raises(EtcdRequestRefused):
            await client.put(b"large", b"x" * size)
    with pytest.raises(EtcdRequestRefused):
        await client.txn((), [PutRequest(b"twice", b"1"), PutRequest(b"twice", b"2")])
    with pytest.raises(EtcdRequestRefused):
        await client.txn((), [PutRequest(b"%d" % number, b"") for number in range(129)])
    await client.put(b"large", b"x" * (1000 * KB))
    kv = await client.get(b"large")
    assert kv is not None
    assert len(kv.value) == 1000 * KB


@pytest_twisted.ensureDeferred
async def test_a_watch_has_much_in_fragments(one: Running) -> None:
    """12 MB at once: all events, each once, those of a revision in one call."""
    client = await one.client()
    first = 0
    for number in range(10):
        puts = [PutRequest(b"wide/%d" % part, bytes([number]) * (240 * KB)) for part in range(5)]
        done = await client.txn((), puts)
        first = first or done.header.revision
    seen = Seen()
    watch = client.watch(prefix(b"wide/"), seen, start_revision=first)
    await until(lambda: len(seen.found) == 50, "all events")
    assert seen.revisions == [first + number // 5 for number in range(50)]
    assert all(len(calls) % 5 == 0 for calls in seen.calls)
    assert watch.next_revision == first + 10
    watch.request_progress()
    await until(lambda: ("progress", first + 9) in seen.told, "the progress")


@pytest_twisted.ensureDeferred
async def test_a_watch_after_a_compaction(one: Running) -> None:
    """It is told the oldest revision that is there, and a new one begins from a range."""
    client = await one.client()
    first = (await client.put(b"old/a", b"1")).header.revision
    last = (await client.put(b"old/a", b"2")).header.revision
    await client.compact(last)
    seen = Seen()
    client.watch(prefix(b"old/"), seen, start_revision=first)
    await until(lambda: ("compacted", last) in seen.told, "the compaction")
    assert seen.found == []
    late = Seen()
    client.watch(prefix(b"old/"), late, start_revision=last)
    await until(lambda: late.revisions == [last], "what is still there")


@pytest_twisted.ensureDeferred
async def test_the_howtos_program_runs(one: Running, tmp_path: Path) -> None:
    """It says what it should."""
    text = (ROOT / "docs" / "howto" / "etcd.rst").read_text()
    block = re.search(r":caption: jobs\.py\n\n((?:   .*\n|\n)+)", text)
    assert block is not None
    (tmp_path / "jobs.py").write_text(textwrap.dedent(block[1]))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(tmp_path / "jobs.py"), endpoint(one.members[0])]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert done.stderr == ""
    assert sorted(done.stdout.splitlines()) == [
        "deleted jobs/1",
        "mine",
        "put jobs/1",
        "renewed for 10 seconds",
        "taken",
        "watching",
    ]


class Cutting(Protocol):
    """Passes bytes on to a member, and back until it is told not to.

    :cvar cuts: whether what the member sends is lost.
    """

    cuts = False
    other: Any = None

    def connectionMade(self) -> None:
        self.kept = b""
        if isinstance(self.factory, CuttingFactory):
            self.factory.connect(self)

    def join(self, other: Cutting) -> None:
        """The connection to the member is there."""
        self.other, other.other = other, self
        other.transport.write(self.kept)  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        if self.other is None:
            self.kept += data
        elif not Cutting.cuts or isinstance(self.factory, CuttingFactory):
            self.other.transport.write(data)

    def cut(self) -> None:
        """End both connections at once."""
        self.other.transport.abortConnection()
        self.transport.abortConnection()  # type: ignore[union-attr]

    def connectionLost(self, reason: Any = None) -> None:
        if self.other is not None:
            self.other.transport.loseConnection()


class CuttingFactory(Factory):
    """Accepts connections for a member."""

    protocol = Cutting

    def __init__(self, port: int) -> None:
        self.port = port
        self.incoming: list[Cutting] = []

    def connect(self, incoming: Cutting) -> None:
        """Connect to the member."""
        from twisted.internet import reactor

        self.incoming.append(incoming)
        member = TCP4ClientEndpoint(reactor, "127.0.0.1", self.port)  # type: ignore[arg-type]
        connecting: Any = member.connect(Factory.forProtocol(Cutting))
        connecting.addCallback(incoming.join)


@pytest_twisted.ensureDeferred
async def test_an_answer_that_is_lost_leaves_a_write_uncertain(one: Running) -> None:
    """It was executed; the client does not say that it failed, and does not repeat it."""
    from twisted.internet import reactor

    direct = await one.client()
    port = int(one.members[0].url.rpartition(":")[2])
    factory = CuttingFactory(port)
    listening = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
    try:
        client = await one.client(f"tcp:127.0.0.1:{listening.getHost().port}")
        await client.put(b"cut", b"before")
        seen = Seen()
        direct.watch(b"cut", seen)
        await seen.begun()
        Cutting.cuts = True
        writing = client.put(b"cut", b"executed")
        await until(lambda: seen.found, "the event")
        (connection,) = factory.incoming
        connection.cut()
        with pytest.raises(EtcdUncertain):
            await writing
        Cutting.cuts = False
        kv = await direct.get(b"cut")
        assert kv is not None
        assert (kv.value, kv.version) == (b"executed", 2)
        kv = await client.get(b"cut")
        assert kv is not None
        assert kv.version == 2
    finally:
        Cutting.cuts = False
        await listening.stopListening()


@pytest_twisted.ensureDeferred
async def test_no_space() -> None:
    """Writes are refused by name, deletes are not; after the alarm is off all is as before."""
    with contextlib.closing(run_members(1, "--quota-backend-bytes", str(400 * KB))) as starting:
        running = Running(next(starting))
        client = await running.client()
        with pytest.raises(EtcdNoSpace):
            # etcd looks at the size as it was at its last commit, ten times a second.
            for number in range(2_000):
                await client.put(b"%d" % number, b"x" * (50 * KB))
        (alarm,) = await client.alarms()
        assert alarm.kind == 1
        assert any("NOSPACE" in text for text in (await client.status()).errors)
        deleted = await client.delete(prefix(b""))
        assert deleted.deleted > 0
        with pytest.raises(EtcdNoSpace):
            await client.put(b"a", b"b")
        await client.disarm(alarm)
        assert await client.alarms() == []
        await client.close()


def control(member: EtcdMember, *arguments: str) -> None:
    """Call etcdctl."""
    command = ["etcdctl", "--endpoints", member.url, *arguments]
    done = subprocess.run(command, capture_output=True, timeout=60, text=True)
    assert done.returncode == 0, done.stderr


@pytest_twisted.ensureDeferred
async def test_tokens_are_renewed() -> None:
    """A token that a member forgets is replaced under requests, watches and renewals."""
    with contextlib.closing(run_members(1, "--bcrypt-cost", "4")) as starting:
        running = Running(next(starting))
        member = running.members[0]
        for line in (
            "user add root:secret",
            "user grant-role root root",
            "role add few",
            "role grant-permission few readwrite few/ --prefix=true",
            "user add poor:less",
            "user grant-role poor few",
            "auth enable",
        ):
            control(member, *line.split())
        client = await running.client(user="root", password="secret")
        poor = await running.client(user="poor", password="less")
        seen, denied = Seen(), Seen()
        client.watch(b"few/a", seen)
        await seen.begun()
        await client.put(b"few/a", b"1")
        await poor.put(b"few/a", b"2")
        with pytest.raises(EtcdPermissionDenied):
            await poor.put(b"other", b"1")
        poor.watch(b"other", denied)
        await until(lambda: denied.told, "an answer")
        assert isinstance(denied.told[0][1], EtcdPermissionDenied)
        with pytest.raises(EtcdAuthFailed):
            await running.client(user="root", password="wrong")
        nobody = await running.client()
        with pytest.raises(EtcdAuthFailed):
            await nobody.get(b"few/a")
        lease = await client.grant(60)
        # Tokens are in a member's memory only: a new start forgets them all.
        member.kill()
        member.start()
        await client.get(b"few/a")
        await client.put(b"few/a", b"3", lease=lease.id)
        await until(lambda: len(seen.found) == 3, "all changes")
        assert await client.keepalive(lease.id) == 60
        # Each change of users makes all tokens old.
        control(member, "--user", "root:secret", "user", "add", "other:x")
        kv = await poor.get(b"few/a")
        assert kv is not None
        assert kv.value == b"3"
        for one in running.clients:
            await one.close()


@pytest_twisted.ensureDeferred
async def test_tls(tmp_path: Path) -> None:
    """With an authority of its own, and a client certificate; anything else is refused."""
    with certified(tmp_path) as members:
        running = Running(members)
        (member,) = members.members
        at = f"{endpoint(member, 'tls')}:trustRoots={tmp_path / 'ca.pem'}"
        client = await running.client(f"{at}:certificate={tmp_path / 'me.pem'}")
        seen = Seen()
        client.watch(b"a", seen)
        await seen.begun()
        await client.put(b"a", b"x" * 500 * KB)
        kv = await client.get(b"a")
        assert kv is not None
        assert len(kv.value) == 500 * KB
        await until(lambda: seen.found, "the event")
        trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
        wrong = {
            at.replace("ca.pem", "other.pem"): "authority",
            at: "certificate",
            endpoint(member): "lost",
        }
        clients = [running.unconnected(one, timeout=3.0) for one in wrong]
        ends: Any = await DeferredList([one.connect() for one in clients], consumeErrors=True)
        for (has_succeeded, failure), why in zip(ends, wrong.values(), strict=True):
            assert not has_succeeded
            assert isinstance(failure.value, EtcdUnavailable)
            assert why in str(failure.value)
        for one in running.clients:
            await one.close()


@pytest_twisted.ensureDeferred
async def test_certificates_are_replaced(tmp_path: Path) -> None:
    """The files of all certificates are replaced by those of another authority, and the member is
    restarted: a client that runs, its watch and its lease go on with the new files."""
    with certified(tmp_path) as members:
        running = Running(members)
        (member,) = members.members
        files = f"trustRoots={tmp_path / 'ca.pem'}:certificate={tmp_path / 'me.pem'}"
        client = await running.client(f"{endpoint(member, 'tls')}:{files}")
        seen = Seen()
        client.watch(b"a", seen)
        await seen.begun()
        lease = await client.grant(60)
        write_certificates(tmp_path)
        # The connection stays as it is.
        await client.put(b"a", b"1", lease=lease.id)
        member.kill()
        await until(lambda: "disconnected" in seen.told, "the loss of the connection")
        member.start()
        await client.put(b"a", b"2", lease=lease.id)
        await until(lambda: len(seen.found) == 2, "both events")
        assert await client.keepalive(lease.id) == 60
        await client.close()


def write_certificates(directory: Path) -> None:
    """Make an authority, and certificates of a member and of a client, as files."""
    authority = trustme.CA()
    server, client = authority.issue_cert("127.0.0.1"), authority.issue_cert("me@x")
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    server.private_key_pem.write_to_path(str(directory / "key.pem"))
    server.cert_chain_pems[0].write_to_path(str(directory / "cert.pem"))
    client.private_key_and_cert_chain_pem.write_to_path(str(directory / "me.pem"))


@contextlib.contextmanager
def certified(files: Path) -> Iterator[EtcdMembers]:
    """A member that admits clients with a certificate only.

    :param files: a directory for the certificates.
    """
    write_certificates(files)
    directory = Path(tempfile.mkdtemp(prefix="pycomnet-etcd-", dir=MEMORY))
    members = EtcdMembers(directory)
    (health,) = free_ports(1)
    members.members[0].use_tls(
        health,
        *("--cert-file", str(files / "cert.pem"), "--key-file", str(files / "key.pem")),
        *("--client-cert-auth", "--trusted-ca-file", str(files / "ca.pem")),
    )
    try:
        members.start()
        yield members
    finally:
        members.stop()
        shutil.rmtree(directory, ignore_errors=True)


class Load:
    """Writes without a pause, each to a key of its own, and what became of each.

    :ivar acknowledged: the keys that etcd has acknowledged.
    :ivar uncertain: those of which it is not known.
    """

    def __init__(self, client: EtcdClient, name: bytes) -> None:
        self.client = client
        self.name = name
        self.acknowledged: list[bytes] = []
        self.uncertain: list[bytes] = []
        self.goes_on = True
        self.running = [ensureDeferred(self.write(worker)) for worker in range(4)]

    async def write(self, worker: int) -> None:
        number = 0
        while self.goes_on:
            number += 1
            key = b"%s/%d/%d" % (self.name, worker, number)
            try:
                await self.client.txn([absent(key)], [PutRequest(key, b"1")])
            except EtcdUncertain:
                self.uncertain.append(key)
            else:
                self.acknowledged.append(key)

    async def more(self, count: int) -> None:
        """Wait until so many more are acknowledged."""
        wanted = len(self.acknowledged) + count
        await until(lambda: len(self.acknowledged) >= wanted, f"{count} more writes")

    async def end(self) -> set[bytes]:
        """End it. Returns the keys that are there."""
        self.goes_on = False
        await DeferredList(self.running, fireOnOneErrback=True)
        found = await self.client.range(RangeRequest(prefix(self.name + b"/"), keys_only=True))
        return {kv.key for kv in found.kvs}


@pytest_twisted.ensureDeferred
async def test_a_leader_is_killed_under_load(three: Running) -> None:
    """Writes go on, nothing that was acknowledged is lost, a watch has all, leases live."""
    client = await three.client()
    seen = Seen()
    client.watch(prefix(b"killed/"), seen)
    await seen.begun()
    lease = await client.grant(60)
    assert await client.keepalive(lease.id) == 60
    load = Load(client, b"killed")
    await load.more(50)
    leader = await three.leader(client)
    leader.kill()
    await load.more(50)
    assert await client.keepalive(lease.id) == 60
    there = await load.end()
    assert there >= set(load.acknowledged)
    assert there <= {*load.acknowledged, *load.uncertain}
    # No more than what was in progress then.
    assert len(load.uncertain) <= 4
    await until(lambda: len(seen.found) == len(there), "all events")
    assert {event.kv.key for event in seen.found} == there
    assert seen.revisions == sorted(seen.revisions)


@pytest_twisted.ensureDeferred
async def test_a_leader_is_frozen_under_load(three: Running) -> None:
    """Its connections stay; the client leaves it all the same."""
    client = await three.client()
    seen = Seen()
    client.watch(prefix(b"frozen/"), seen)
    await seen.begun()
    load = Load(client, b"frozen")
    await load.more(20)
    leader = await three.leader(client)
    stop(leader.process.pid)
    await load.more(50)
    there = await load.end()
    assert there >= set(load.acknowledged)
    await until(lambda: len(seen.found) == len(there), "all events")
    leader.send(signal.SIGCONT)


@pytest_twisted.ensureDeferred
async def test_without_a_quorum(three: Running) -> None:
    """A watch is told, writes fail by name, and all go on by themselves when it is back."""
    client = await three.client()
    seen = Seen()
    client.watch(b"alone", seen)
    await seen.begun()
    await client.put(b"alone", b"1")
    # The one that stays may be the one that did not confirm it: this read waits until it has it.
    await (await three.client(endpoint(three.members[0]))).get(b"alone")
    others = three.members[1:]
    for member in others:
        member.kill()
    with pytest.raises(EtcdError) as caught:
        await client.put(b"alone", b"2", timeout=3)
    assert isinstance(caught.value, (EtcdUnavailable, EtcdUncertain))
    kv = await client.get(b"alone", serializable=True)
    assert kv is not None
    await until(lambda: "disconnected" in seen.told, "that there is no leader")
    with pytest.raises(EtcdUnavailable):
        await client.put(b"alone", b"3", timeout=2)
    others[0].start()
    await client.put(b"alone", b"4")
    await until(lambda: seen.found and seen.found[-1].kv.value == b"4", "the change")
    assert seen.revisions == sorted(set(seen.revisions))
