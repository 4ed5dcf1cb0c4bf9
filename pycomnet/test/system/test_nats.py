"""The client of NATS, and publish and subscribe through it, with Debian's nats-server."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import defer
from twisted.internet.task import deferLater
from twisted.internet.utils import getProcessOutputAndValue

from pycomnet import Binary
from pycomnet.errors import ChannelClosed, PeerSilent
from pycomnet.ext.pubsub import Gap, publisher, subscriber
from pycomnet.nats import (
    JetStream,
    JetStreamError,
    NatsAuthFailed,
    NatsClient,
    NatsPermissionDenied,
    NatsSettings,
    connect,
)
from pycomnet.services.server.server import ServiceServer
from pycomnet.test.needs import needs
from pycomnet.test.system.daemons import PATIENCE, daemons, environment
from pycomnet.test.system.natsserver import PROGRAM, NatsServerProcess, nats_server

pytestmark = needs(PROGRAM)


def within(waiting: defer.Deferred[Any]) -> defer.Deferred[Any]:
    """Wait, and not for ever."""
    from twisted.internet import reactor

    return waiting.addTimeout(PATIENCE, reactor)  # type: ignore[arg-type]


class Publishing:
    """A publisher in this process."""

    def __init__(self, name: str, via: Any, **settings: Any) -> None:
        @publisher(name, via=via, **settings)
        class Events:
            """Publishes what the test says."""

        self.service: Any = Events()

    async def __aenter__(self) -> Any:
        from twisted.internet import reactor

        self.server = ServiceServer(reactor)
        await self.server.add(self.service)
        return self.service.topic

    async def __aexit__(self, *exception: object) -> None:
        await self.server.close()


async def take(one: Any, count: int) -> list[Any]:
    """The next values."""
    return [await within(one.receive()) for _ in range(count)]


async def retry(reactor: Any, client: NatsClient, count: int) -> None:
    """Wait until a client has connected again."""
    for _ in range(PATIENCE * 20):
        if client.is_connected and client.reconnects >= count:
            return
        await deferLater(reactor, 0.05)
    raise AssertionError(f"not connected again: {client.reconnects}")


@pytest_twisted.ensureDeferred
async def test_a_server_that_is_killed_is_found_again(own_nats: NatsServerProcess) -> None:
    """Subscriptions go on, and what was published meanwhile is sent."""
    from twisted.internet import reactor

    client = await connect(own_nats.address, reactor)
    subscription = client.subscribe("a.>")
    own_nats.kill()
    while client.is_connected:
        await deferLater(reactor, 0.01)
    client.publish("a.b", b"meanwhile", headers={"X": "1"})
    own_nats.start()
    message = await within(subscription.receive())
    assert (message.payload, message.headers) == (b"meanwhile", {"X": "1"})
    await client.drain()


@pytest_twisted.ensureDeferred
async def test_a_server_that_hangs_is_left(
    own_nats: NatsServerProcess, nats: NatsServerProcess
) -> None:
    """It answers no pings: the next one is used."""
    from twisted.internet import reactor

    client = await connect([own_nats.address, nats.address], reactor, ping=0.2)
    connection = client.connection
    assert connection is not None
    own_nats.stop()
    assert isinstance(await within(connection.lost.when_fired()), PeerSilent)
    await retry(reactor, client, 1)
    assert client.connection is not None and str(client.connection.server) == nats.address
    await client.close()


@pytest_twisted.ensureDeferred
async def test_who_may_not_is_told(tmp_path: Path) -> None:
    """A wrong password, a subject that is not allowed; the right ones count."""
    from twisted.internet import reactor

    config = tmp_path / "nats.conf"
    config.write_text(
        "authorization: {users: [{user: me, password: right, permissions: "
        '{subscribe: ["a.>", "_INBOX.>"], publish: "a.>"}}]}'
    )
    with nats_server(tmp_path, "-c", str(config)) as guarded:
        with pytest.raises(NatsAuthFailed, match="Authorization Violation"):
            await connect(guarded.address, reactor, user="me", password="wrong")
        with pytest.raises(NatsAuthFailed):
            await connect(guarded.address, reactor)
        client = await connect(guarded.address.replace("//", "//me:right@"), reactor)
        refused = client.subscribe("b.>")
        with pytest.raises(NatsPermissionDenied):
            await within(refused.receive())
        allowed = client.subscribe("a.>")
        client.publish("a.b", b"x")
        assert (await within(allowed.receive())).payload == b"x"
        await client.close()


@pytest_twisted.ensureDeferred
async def test_events_go_through_core_nats(nats: NatsServerProcess, context: Any) -> None:
    """Values, blocks, subjects; a long event; the end."""
    name = "org.example.core"
    async with Publishing(name, nats.address) as topic:
        one = subscriber(name, context=context, via=nats.address)
        some = subscriber(name, ["eu.*"], context=context, via=nats.address)
        await within(one.when_subscribed())
        await within(some.when_subscribed())
        for number in range(100):
            await topic.publish(number, subject="eu.x" if number % 2 else "us.x")
        await topic.publish(("long", Binary(bytes(900_000))))
        assert await take(one, 100) == list(range(100))
        event = await within(one.receive_event())
        assert (event.value, len(event.files[0][1])) == ("long", 900_000)
        assert await take(some, 50) == list(range(1, 100, 2))
        topic.end()
        with pytest.raises(ChannelClosed):
            await within(one.receive())
        await some.close()


@pytest_twisted.ensureDeferred
async def test_a_cut_connection_loses_nothing_without_a_gap(
    own_nats: NatsServerProcess, context: Any
) -> None:
    """The server is killed while events flow: each comes, or is in a gap at its place."""
    from twisted.internet import reactor

    name = "org.example.cut"
    async with Publishing(name, own_nats.address) as topic:
        one = subscriber(name, context=context, via=own_nats.address)
        await within(one.when_subscribed())
        collecting = defer.Deferred.fromCoroutine(collect(one))
        for round_ in range(3):
            for number in range(200):
                await topic.publish(number)
            if round_ < 2:
                own_nats.kill()
                own_nats.start()
                await retry(reactor, topic.publisher.client, round_ + 1)
        while not collecting.called:
            await topic.publish("end")
            await deferLater(reactor, 0.05)
        expected = 1
        for value in await collecting:
            if isinstance(value, Gap):
                assert value.first == expected
                expected = value.last or 0
            else:
                assert value.sequence == expected
            expected += 1
        assert expected > 600
        await one.close()


async def collect(one: Any) -> list[Any]:
    """All events and gaps up to the first ``end``."""
    found: list[Any] = []
    while not found or isinstance(found[-1], Gap) or found[-1].value != "end":
        found.append(await within(one.receive_event()))
    return found


@pytest_twisted.ensureDeferred
async def test_jetstream_keeps_the_history(nats: NatsServerProcess, context: Any) -> None:
    """For those who come late, also after the publisher has ended; and across its restart."""
    name = "org.example.history"
    options: dict[str, Any] = {"context": context, "via": nats.address}
    async with Publishing(name, nats.address, history=5) as topic:
        for number in range(10):
            await topic.publish(number, subject=f"n.{number % 2}")
        late = subscriber(name, last=3, **options)
        assert await take(late, 3) == [7, 8, 9]
        everything = subscriber(name, since="1h", **options)
        assert await take(everything, 5) == [5, 6, 7, 8, 9]
        odd = subscriber(name, ["n.1"], since="1h", **options)
        assert await take(odd, 3) == [5, 7, 9]
    async with Publishing(name, nats.address, history=5) as topic:
        await topic.publish("again")
        for one in (late, everything):
            assert await take(one, 1) == ["again"]
        topic.end()
        with pytest.raises(ChannelClosed):
            await within(late.receive())
    for one in (everything, odd):
        await one.close()


@pytest_twisted.ensureDeferred
async def test_the_command_shows_events_of_nats(nats: NatsServerProcess) -> None:
    """``pycomnet sub --via`` needs no nameserver; it gets the subjects that it asks for."""
    name = "org.example.shown"
    async with Publishing(name, nats.address, history=10) as topic:
        for number in range(4):
            await topic.publish(number, subject="eu.x" if number % 2 else "us.x")
        args = ["-m", "pycomnet", "sub", "--via", nats.address, name, "eu.*"]
        args += ["--last", "4", "--count", "2", "--nameserver", "tcp:127.0.0.1:1"]
        out, err, status = await within(
            getProcessOutputAndValue(sys.executable, args, environment())
        )
        assert (out, status) == (b"1\n3\n", 0), (out, err)


@pytest_twisted.ensureDeferred
async def test_retained_events_come_first(nats: NatsServerProcess, context: Any) -> None:
    """The last of each subject and key, and then what is published."""
    name = "org.example.retained"
    async with Publishing(name, nats.address, retain=True) as topic:
        for number in range(10):
            await topic.publish(number, key="AB"[number % 2])
        one = subscriber(name, context=context, via=nats.address)
        assert await take(one, 2) == [8, 9]
        await topic.publish(10, key="A")
        assert await take(one, 1) == [10]
        await one.close()


@pytest_twisted.ensureDeferred
async def test_a_subscriber_goes_on_where_it_was(own_nats: NatsServerProcess, context: Any) -> None:
    """The server is killed and comes back: with JetStream nothing is missing, and in order."""
    name = "org.example.returns"
    async with Publishing(name, own_nats.address, history=10_000) as topic:
        one = subscriber(name, context=context, via=own_nats.address)
        await within(one.when_subscribed())
        storing = [topic.publish(number) for number in range(300)]
        assert await take(one, 100) == list(range(100))
        own_nats.kill()
        storing += [topic.publish(number) for number in range(300, 400)]
        own_nats.start()
        await within(defer.gatherResults(storing))
        assert await take(one, 300) == list(range(100, 400))
        await one.close()


@pytest_twisted.ensureDeferred
async def test_acknowledged_events_are_not_given_again(
    nats: NatsServerProcess, context: Any
) -> None:
    """A subscriber with a name goes on where it acknowledged; what it had comes again."""
    name = "org.example.named"
    options: dict[str, Any] = {
        "context": context,
        "via": nats.address,
        "name": "billing",
        "acknowledged": True,
    }
    async with Publishing(name, nats.address, history=1000) as topic:
        for number in range(10):
            await topic.publish(number)
        first = subscriber(name, since="1h", **options)
        events = [await within(first.receive_event()) for _ in range(5)]
        assert [event.value for event in events] == [0, 1, 2, 3, 4]
        for event in events[:3]:
            await within(event.acknowledge())
        await first.close()
        second = subscriber(name, **options)
        assert sorted(await take(second, 7)) == [3, 4, 5, 6, 7, 8, 9]
        await second.acknowledge_last()
        topic.end()
        with pytest.raises(ChannelClosed):
            await within(second.receive())


DEMO = """
import itertools, time
from pycomnet.ext.pubsub import publisher

@publisher("demo.through.nats", via={via!r})
def pub_demo():
    for number in itertools.count():
        yield number
        time.sleep(0.01)
"""
CLIENT = """
from pycomnet.ext.pubsub import subscriber

client = subscriber("demo.through.nats", via={via!r})
print(client[:10])
"""


def test_the_first_example_runs_through_nats(nats: NatsServerProcess, tmp_path: Path) -> None:
    """A launcher runs a generator that sleeps; a script without a reactor prints ten numbers."""
    with daemons(tmp_path) as started:
        nameserver = started.nameserver()
        (tmp_path / "through.py").write_text(DEMO.format(via=nats.address))
        daemon = started.start("pycomnet-service", "--nameserver", nameserver, "through")
        daemon.wait_for("registered")
        ran = subprocess.run(
            [sys.executable, "-c", CLIENT.format(via=nats.address)],
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert not ran.returncode, ran.stderr
        numbers = eval(ran.stdout)
        assert numbers == list(range(numbers[0], numbers[0] + 10))
        daemon.signal(signal.SIGTERM)
        daemon.wait_for("all services have ended")
        daemon.wait()


WORKER = """
import sys
import pycomnet
from pycomnet.ext.pubsub import subscriber
from pycomnet.nats import NatsSettings

via = NatsSettings(servers=sys.argv[1], ack_wait=1.0)
client = subscriber(sys.argv[2], via=via, group="workers", since="1h", prefetch=3)
print(client.get(60), flush=True)
sys.stdin.read()
"""


@pytest_twisted.ensureDeferred
async def test_what_a_killed_member_had_goes_to_another(
    nats: NatsServerProcess, context: Any
) -> None:
    """After the time that the server waits for an acknowledgement."""
    from twisted.internet.threads import deferToThread

    name = "org.example.workers"
    via = NatsSettings(servers=nats.address, ack_wait=1.0)
    async with Publishing(name, via, history=1000) as topic:
        for number in range(6):
            await topic.publish(number)
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER, nats.address, name],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            assert process.stdout is not None
            line = await within(deferToThread(process.stdout.readline))
            assert line == b"0\n"
        finally:
            process.kill()
            with contextlib.suppress(OSError):
                os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            process.communicate()
        other = subscriber(name, context=context, via=via, group="workers", since="1h")
        assert sorted(await take(other, 6)) == [0, 1, 2, 3, 4, 5]
        await other.close()


@pytest_twisted.ensureDeferred
async def test_what_a_member_that_hangs_has_goes_to_another(
    nats: NatsServerProcess, context: Any
) -> None:
    """With ``ack_timeout`` it does not say any more that it works; the other sees that the events
    were handed out before."""
    name = "org.example.hanging"
    options: dict[str, Any] = {
        "via": nats.address,
        "group": "hanging",
        "since": "1h",
        "ack_timeout": 0.5,
    }
    async with Publishing(name, NatsSettings(servers=nats.address), history=1000) as topic:
        for number in range(4):
            await topic.publish(number)
        hangs = subscriber(name, context=context, prefetch=2, **options)
        first = await within(hangs.receive_event())
        other = subscriber(name, context=context, **options)
        deliveries: dict[int, int] = {}
        while len(deliveries) < 4:
            event = await within(other.receive_event())
            deliveries[event.value] = event.deliveries
            await within(event.acknowledge())
        assert first.deliveries == 1
        assert deliveries[first.value] > 1
        assert deliveries[3] == 1
        await other.close()
        await hangs.close()


@pytest_twisted.ensureDeferred
async def test_a_server_without_jetstream_says_so(tmp_path: Path, context: Any) -> None:
    """A publisher that wants a history does not start; the plain kind goes on without."""
    from twisted.internet import reactor

    config = tmp_path / "nats.conf"
    config.write_text("accounts: {A: {users: [{user: a, password: b}]}}\nno_auth_user: a\n")
    with nats_server(tmp_path, "-c", str(config)) as plain:
        client = await connect(plain.address, reactor)
        with pytest.raises(JetStreamError):
            await JetStream(client).stream_info("x")
        await client.close()
        with pytest.raises(Exception, match="JetStream"):
            async with Publishing("org.example.none", plain.address, history=10):
                pass
        async with Publishing("org.example.none", plain.address) as topic:
            one = subscriber("org.example.none", context=context, via=plain.address)
            await within(one.when_subscribed())
            await topic.publish(1)
            assert await take(one, 1) == [1]
            await one.close()


@pytest_twisted.ensureDeferred
async def test_a_stalled_subscriber_hurts_itself_alone(
    nats: NatsServerProcess, context: Any
) -> None:
    """Its bound holds, it is told what is missing, and the other has all."""
    name = "org.example.stalled"
    async with Publishing(name, nats.address) as topic:
        slow = subscriber(name, context=context, via=nats.address, bound=100_000)
        fast = subscriber(name, context=context, via=nats.address)
        await within(slow.when_subscribed())
        await within(fast.when_subscribed())
        got: list[Any] = []
        for number in range(2000):
            await topic.publish((number, bytes(1000)))
            if number % 100 == 99:
                while len(got) <= number:
                    got += await within(fast.receive_many())
        assert [value[0] for value in got] == list(range(2000))
        seen = 0
        found: list[Any] = []
        while seen < 2000:
            values = await within(slow.receive_many())
            found += values
            seen += sum((one.count or 0) if isinstance(one, Gap) else 1 for one in values)
        assert seen == 2000
        assert sum(1 for one in found if not isinstance(one, Gap)) < 400
        await slow.close()
        await fast.close()
