"""How often rsync waits for the other end: what it costs on a long line."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_twisted
from twisted.internet import defer, task

import pycomnet
from pycomnet.test.rsync.kit import tree_of, write
from pycomnet.test.system.daemons import daemons
from pycomnet.test.system.delaying import DelayProxy

NOON = 1700000000123456789
#: Seconds each way.
DELAY = 1.0


@pytest_twisted.async_yield_fixture
async def line(tmp_path_factory: Any) -> AsyncIterator[tuple[DelayProxy, pycomnet.Gateway]]:
    """A gateway at the end of a long line."""
    from twisted.internet import reactor

    with daemons(tmp_path_factory.mktemp("s")) as running:
        daemon = running.start(
            "pycomnet-gateway", "--listen", "tcp:0:interface=127.0.0.1", "--token-file", "token"
        )
        spec = daemon.wait_for(r"clients reach it with (\S+)")[1]
        spec = spec.replace("token_file=token", f"token_file={running.directory}/token")
        port = spec.partition("//")[0].rpartition(":")[2]
        proxy = DelayProxy(int(port), DELAY, reactor)
        listening = await proxy.listen()
        async with pycomnet.Group(reactor) as group:
            gateway = await group.makegateway(
                spec.replace(f":{port}", f":{listening.getHost().port}", 1)
            )
            yield proxy, gateway
        await defer.maybeDeferred(listening.stopListening)


async def turns(
    proxy: DelayProxy, gateway: pycomnet.Gateway, source: Path, target: Path
) -> tuple[float, pycomnet.TargetResult]:
    """The round trips of a run, and its result."""
    from twisted.internet import reactor

    await task.deferLater(reactor, 3 * DELAY)  # what was sent before has arrived
    proxy.start_again()
    sync = pycomnet.RSync(source)
    sync.add_target(gateway, target)
    result = await sync.send()
    result.raise_for_failures()
    return proxy.turns / 2, result.targets[0]


@pytest_twisted.ensureDeferred
async def test_round_trips(line: tuple[DelayProxy, pycomnet.Gateway], tmp_path: Path) -> None:
    """One for the modules, once; one to compare; one for the content of what differs."""
    source, target = tmp_path / "source", tmp_path / "target"
    for number in range(600):
        write(str(source / f"{number % 7}" / f"{number}"), b"content", NOON)
    first, result = await turns(*line, source, target)
    assert len(result.sent) == 600
    assert tree_of(str(target)) == tree_of(str(source))
    nothing, result = await turns(*line, source, target)
    assert (result.entries, result.sent) == (607, [])
    write(str(source / "3" / "3"), b"other content", NOON)
    changed, result = await turns(*line, source, target)
    assert result.sent == ["3/3"]
    assert (first, nothing, changed) == (3, 1, 2)
