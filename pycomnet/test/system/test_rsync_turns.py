"""How often rsync waits for the other end: what it costs on a long line."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_twisted
from twisted.internet import defer

import pycomnet
from pycomnet.test.rsync.kit import tree_of, write
from pycomnet.test.system.daemons import daemons
from pycomnet.test.system.delaying import DelayProxy, all_wait
from pycomnet.test.waiting import until

NOON = 1700000000123456789


@contextlib.asynccontextmanager
async def line(directory: Path) -> AsyncIterator[tuple[DelayProxy, pycomnet.Gateway]]:
    """A gateway at the end of a long line, of a service that has not had another, and whose user
    has no code in his cache."""
    from twisted.internet import reactor

    with daemons(directory) as running:
        daemon = running.start(
            "pycomnet-gateway",
            *("--listen", "tcp:0:interface=127.0.0.1", "--token-file", "token"),
            XDG_CACHE_HOME=str(directory / "cache"),
        )
        spec = daemon.wait_for(r"clients reach it with (\S+)")[1]
        spec = spec.replace("token_file=token", f"token_file={running.directory}/token")
        port = spec.partition("//")[0].rpartition(":")[2]
        proxy = DelayProxy(int(port), lambda: all_wait(daemon.pid), reactor)
        listening = await proxy.listen()
        try:
            async with pycomnet.Group(reactor) as group:
                gateway = await group.makegateway(
                    spec.replace(f":{port}", f":{listening.getHost().port}", 1)
                )
                yield proxy, gateway
        finally:
            proxy.stop()
            await defer.maybeDeferred(listening.stopListening)


async def turns(
    proxy: DelayProxy, gateway: pycomnet.Gateway, source: Path, target: Path
) -> tuple[float, pycomnet.TargetResult]:
    """The round trips of a run, and its result."""
    await until(lambda: proxy.is_quiet, "what was sent before has arrived")
    proxy.start_again()
    sync = pycomnet.RSync(source)
    sync.add_target(gateway, target)
    result = await sync.send()
    result.raise_for_failures()
    return proxy.turns / 2, result.targets[0]


async def all_turns(directory: Path) -> tuple[float, float, float]:
    """The round trips of the first run, of one without changes, and of one with a changed file."""
    source, target = directory / "source", directory / "target"
    for number in range(600):
        write(str(source / f"{number % 7}" / f"{number}"), b"content", NOON)
    async with line(directory) as ends:
        first, result = await turns(*ends, source, target)
        assert len(result.sent) == 600
        assert tree_of(str(target)) == tree_of(str(source))
        nothing, result = await turns(*ends, source, target)
        assert (result.entries, result.sent) == (607, [])
        write(str(source / "3" / "3"), b"other content", NOON)
        changed, result = await turns(*ends, source, target)
        assert result.sent == ["3/3"]
    return first, nothing, changed


@pytest_twisted.ensureDeferred
async def test_round_trips_are_one_for_each_thing_that_is_asked(tmp_path: Path) -> None:
    """One for the modules, once; one to compare; one for the content of what differs."""
    assert await all_turns(tmp_path) == (3, 1, 2)
