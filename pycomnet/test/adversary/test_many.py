"""Connections by the thousand: what the system lets a process have, at most ten thousand."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator

import pytest
import pytest_twisted

from pycomnet.test.adversary.kit import (
    MB,
    Victim,
    closing,
    hello_of,
    in_thread,
    ready,
    start,
)
from pycomnet.test.processes import processor_time, resident
from pycomnet.test.system.daemons import Daemons
from pycomnet.test.system.test_nameserver import descriptors, idle_count


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """All descriptors that the system lets this process have."""
    with descriptors(resource.getrlimit(resource.RLIMIT_NOFILE)[1]):
        yield


def connect(victim: Victim, sockets: list[socket.socket], count: int) -> None:
    """Connect so often, and say hello; as often as it lets in."""
    hello = hello_of(victim)
    for _ in range(count):
        try:
            one = victim.connect()
            sockets.append(one)
            one.sendall(hello)
        except OSError:
            continue


@pytest_twisted.ensureDeferred
async def test_service_serves_beside_ten_thousand_idle(
    running: Daemons, many_descriptors: None
) -> None:
    """A service serves one more beside ten thousand that are idle, in 30 kB for each; the
    nameserver's are in its own tests."""
    victim = ready(start(running, "service"))
    await victim.serves()
    count = idle_count()
    before, used = resident(victim.pid), processor_time(victim.pid)
    sockets: list[socket.socket] = []
    with closing(sockets):
        while len(sockets) < count:
            await in_thread(connect, victim, sockets, 2500)
            await victim.serves()
        assert resident(victim.pid) - before < count * 30_000
        assert processor_time(victim.pid) - used < 60
    await victim.serves()


@pytest.mark.parametrize("kind", ["gateway", "factory", "http-exec"])
@pytest_twisted.ensureDeferred
async def test_connections_over_the_limit_cost_nothing_lasting(
    running: Daemons, many_descriptors: None, kind: str
) -> None:
    """What runs code lets in as many as it was told to: the others cost it nothing that lasts."""
    victim = ready(start(running, kind))
    await victim.serves()
    before = resident(victim.pid)
    sockets: list[socket.socket] = []
    with closing(sockets):
        for _ in range(2):
            await in_thread(lambda: [sockets.append(victim.connect()) for _ in range(500)])
    await victim.serves()
    assert resident(victim.pid) - before < 24 * MB
    assert "Traceback" not in victim.daemon.said
