"""What peers have a daemon hold: within a bound, at the cost of whoever holds most."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import defer

import pycomnet
from pycomnet.channels.connection import Connection
from pycomnet.channels.memory import CONNECTION_MEMORY, SERVER_MEMORY
from pycomnet.net.endpoints import client_endpoint
from pycomnet.test.processes import resident
from pycomnet.test.system.daemons import Daemons, daemons
from pycomnet.test.waiting import until

#: The channels of the attack, and what each has.
CHANNELS, SIZE = 600, 1_000_000
#: What counting by the megabyte, and the frames under way, may add to the bound.
SLACK = 48 << 20


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Daemons]:
    """Daemons that end with the test."""
    with daemons(tmp_path) as started:
        yield started


async def connected(address: str) -> Connection:
    """A peer that speaks the protocol, and uses it badly."""
    from twisted.internet import reactor
    from twisted.internet.endpoints import connectProtocol

    connection = Connection(reactor)
    await connectProtocol(client_endpoint(reactor, address), connection)
    await connection.when_ready()
    return connection


async def flood(connection: Connection, channels: int = CHANNELS) -> list[Any]:
    """Open channels that nobody takes, and fill each; those channels."""
    piece = bytes(SIZE)
    cores, sends = [], []
    for _ in range(channels):
        core = connection.open("channel", raw=True)
        sends.append(core.send(piece))
        cores.append(core)
    await defer.DeferredList(sends, consumeErrors=True)  # some are refused
    # The answer to a ping comes behind all that is written now.
    with contextlib.suppress(pycomnet.ConnectionLost):
        await connection.ping()
    return cores


@pytest_twisted.ensureDeferred
async def test_flooded_channels_cost_their_bound_alone(running: Daemons) -> None:
    """Six hundred megabytes on channels that nobody takes cost a nameserver its bound, and no
    more, and no time to others; nothing of it stays.
    """
    from twisted.internet import reactor

    address = running.nameserver()
    pid = running.started[0].pid
    context = pycomnet.Context(reactor, nameserver=address)
    names = await context.connect(address)
    await names.invoke("stat")
    before = resident(pid)
    attacker = await connected(address)
    cores = await flood(attacker)
    peak = resident(pid) - before
    assert peak < CONNECTION_MEMORY + SLACK, peak
    stat = await names.invoke("stat", timeout=60)
    memory = stat["memory"]
    assert 0 < memory["held"] <= CONNECTION_MEMORY + (2 << 20), memory
    assert memory["largest"] == memory["held"]
    assert memory["refused"] > 0
    assert memory["most"] == SERVER_MEMORY
    lost = [core for core in cores if core.over is not None]
    assert lost, "no channel was refused"
    assert lost[0].over.code == "memory", lost[0].over
    attacker.abort(pycomnet.ConnectionLost("enough"))
    await until(lambda: resident(pid) - before < 16 << 20, "it is given back")
    stat = await names.invoke("stat")
    assert stat["memory"]["held"] == 0
    await context.close()


@pytest_twisted.ensureDeferred
async def test_all_connections_together_have_a_bound(running: Daemons) -> None:
    """All connections together have a bound, and those who hold less lose nothing."""
    from twisted.internet import reactor

    address = running.nameserver()
    pid = running.started[0].pid
    context = pycomnet.Context(reactor, nameserver=address)
    names = await context.connect(address)
    before = resident(pid)
    modest = await connected(address)
    small = modest.open("channel", raw=True)
    await small.send(bytes(100_000))
    attackers = await defer.gatherResults(
        [defer.ensureDeferred(connected(address)) for _ in range(12)]
    )
    await defer.gatherResults([defer.ensureDeferred(flood(each, 60)) for each in attackers])
    assert resident(pid) - before < SERVER_MEMORY + SLACK
    assert (await names.invoke("stat", timeout=60))["memory"]["held"] <= SERVER_MEMORY + (16 << 20)
    await modest.ping()
    assert small.over is None and modest.lost is None
    for each in [*attackers, modest]:
        each.abort(pycomnet.ConnectionLost("enough"))
    await until(lambda: resident(pid) - before < 32 << 20, "it is given back")
    await context.close()
