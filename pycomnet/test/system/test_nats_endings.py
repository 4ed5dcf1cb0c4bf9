"""Clients and publishers that end while their NATS server is killed, stopped, or gone."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import defer

from pycomnet.nats import NatsClosed, connect
from pycomnet.test.needs import needs
from pycomnet.test.system.daemons import PATIENCE, daemons
from pycomnet.test.system.natsserver import PROGRAM, NatsServerProcess
from pycomnet.test.system.test_nats import within

pytestmark = needs(PROGRAM)

#: Publishes as fast as it can, through NATS.
FLOOD = """
from pycomnet.ext.pubsub import publisher

@publisher("org.example.flood", via={via!r}, {options})
def flood():
    while True:
        yield bytes(10_000)
"""


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_a_drain_ends_though_the_server_is_gone(
    own_nats: NatsServerProcess, how: str
) -> None:
    """In the middle of it, with messages that wait both ways; who waits for one is told."""
    from twisted.internet import reactor

    client = await connect(own_nats.address, reactor, ping=0.5)
    subscriptions = [client.subscribe(f"a.{number}") for number in range(50)]
    waiting = subscriptions[-1].receive()
    for number in range(5000):
        client.publish(f"a.{number % 49}", bytes(1000))
    draining = client.drain()
    getattr(own_nats, how)()
    await within(draining)
    assert client.is_over and client.connection is None
    with pytest.raises(NatsClosed):
        await within(waiting)
    with pytest.raises(NatsClosed):
        client.publish("a.b", b"")
    own_nats.process.send_signal(signal.SIGCONT)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("options", ["", "history=1000"])
@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_a_publisher_ends_though_its_server_is_gone(
    own_nats: NatsServerProcess, tmp_path: Path, how: str, options: str
) -> None:
    """While it publishes more than the server takes; it is told to end, and does."""
    from twisted.internet.threads import deferToThread

    with daemons(tmp_path) as started:
        nameserver = started.nameserver()
        source = FLOOD.format(via=own_nats.address, options=options)
        (tmp_path / "flooding.py").write_text(source)
        daemon = started.start("pycomnet-service", "--nameserver", nameserver, "flooding")
        await daemon.seen("registered")
        getattr(own_nats, how)()
        daemon.signal(signal.SIGTERM)
        await within(deferToThread(daemon.wait, PATIENCE))
        assert "all services have ended" in daemon.said
        assert "Unhandled" not in daemon.said and "Traceback" not in daemon.said, daemon.said
        own_nats.process.send_signal(signal.SIGCONT)


@pytest_twisted.ensureDeferred
async def test_who_waits_for_the_server_is_told_when_the_client_is_closed(
    own_nats: NatsServerProcess,
) -> None:
    """Room to write, an answer, a ping: none waits for ever."""
    from twisted.internet import reactor

    client = await connect(own_nats.address, reactor, buffer=1 << 16)
    own_nats.stop()
    waiting: list[defer.Deferred[Any]] = [client.request("$JS.API.INFO"), client.flush()]
    while not client.is_congested:
        client.publish("a", bytes(10_000))
    waiting.append(client.when_writable())
    client.connection.abort()  # type: ignore[union-attr]
    await within(client.close())
    for one in waiting:
        with pytest.raises(NatsClosed):
            await within(one)
    own_nats.process.send_signal(signal.SIGCONT)
