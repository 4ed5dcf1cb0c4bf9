"""Far sides on an http mediator as the factory's: used, left, resumed, and ended with it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.task import deferLater

import pycomnet
from pycomnet.test.processes import still_there, stop
from pycomnet.test.system.daemons import Daemons, daemons
from pycomnet.test.system.mediators import Mediator
from pycomnet.test.system.nearby import PATIENCE, near
from pycomnet.test.system.test_factory import PROGRAM, group_of, resumable, start


@pytest.fixture
def started(tmp_path_factory: Any) -> Iterator[Daemons]:
    """Daemons in a directory whose name is short enough for a socket's."""
    with daemons(tmp_path_factory.mktemp("fh")) as running:
        yield running


@pytest.mark.parametrize("websocket", ["yes", "no"])
@pytest_twisted.ensureDeferred
async def test_http_gateway_is_left_and_resumed_with_its_values(
    started: Daemons, websocket: str
) -> None:
    """Values of all sizes, errors and output; left with what nobody has taken, and resumed."""
    mediator = Mediator(started)
    _, address = start(started)
    spec = mediator.spec(websocket=websocket)
    printed: list[str] = []
    from twisted.internet import reactor

    group = pycomnet.Group(reactor, output=lambda output: printed.append(output.text))
    group.setlocalfactory(endpoint=address)
    gateway = await group.makegateway(f"{spec}//id=far//linger=60")
    pid = gateway.info["pid"]
    blob = os.urandom(3_000_000)
    echo = gateway.remote_exec("for value in channel: channel.send(value)")
    echo.send(blob)
    assert await echo.receive() == blob
    with pytest.raises(pycomnet.RemoteError, match="division by zero"):
        await gateway.remote_exec("1 / 0").waitclose()
    await gateway.remote_exec("print('said')").waitclose()
    assert printed == ["said\n"]
    channel = gateway.remote_exec("for n in range(1000): channel.send(n)")
    assert [await channel.receive() for _ in range(10)] == list(range(10))
    id = channel.id
    await gateway.leave()
    [item] = await resumable(group, "far")
    assert item.spec.startswith(f"{mediator.where}//")
    await group.close()

    second = group_of(address)
    gateway = await second.makegateway(f"{spec}//id=far//resume=yes")
    assert gateway.info["pid"] == pid
    assert [value async for value in gateway.resumed[id]] == list(range(10, 1000))
    assert await gateway.call("operator:add", 1, 2) == 3
    await second.close()
    assert still_there([pid]) == []


@pytest_twisted.ensureDeferred
async def test_each_end_of_an_http_gateway_is_told(started: Daemons) -> None:
    """How its process ended, what is wrong with a token, and a mediator that is killed are told."""
    mediator = Mediator(started, "--linger", "1")
    _, address = start(started)
    async with group_of(address) as group:
        wrong = f"{mediator.where}//token={'x' * 43}"
        with pytest.raises(pycomnet.GatewayNotStarted, match="token") as caught:
            await group.makegateway(wrong)
        assert "x" * 43 not in str(caught.value)
        spec = mediator.spec()
        gateway = await group.makegateway(spec)
        channel = gateway.remote_exec("import os; os._exit(3)")
        with pytest.raises(pycomnet.GatewayDied, match="exited with status 3"):
            await channel.waitclose()
        gateway = await group.makegateway(spec)
        waiting = gateway.remote_exec("channel.receive()").waitclose()
        pid = gateway.info["pid"]
        mediator.daemon.signal(signal.SIGKILL)
        await mediator.daemon.ended()
        with pytest.raises(pycomnet.GatewayDied, match="was out of reach for"):
            await waiting
        assert still_there([pid]) == []


@pytest.mark.parametrize("kind", ["http", "fork=no"])
@pytest_twisted.ensureDeferred
async def test_via_gateways_without_a_supervisor_end_with_their_program(
    started: Daemons, kind: str
) -> None:
    """Gateways through one that no supervisor has started are this program's, and go with it."""
    _, address = start(started)
    spec = Mediator(started).spec() if kind == "http" else "popen//fork=no"
    async with group_of(address) as group:
        outer = await group.makegateway(f"{spec}//id=outer")
        inner = await group.makegateway("popen//via=outer//id=inner")
        innermost = await group.makegateway("popen//via=inner")
        blob = os.urandom(3_000_000)
        assert await innermost.call("builtins:bytes", blob) == blob
        pids = [gateway.info["pid"] for gateway in (outer, inner, innermost)]
        assert len(set(pids)) == 3
        with pytest.raises(pycomnet.SpecError, match="no fork server where outer is"):
            await group.makegateway("popen//via=outer//linger=5//id=x")
        await outer.exit()
        with pytest.raises(pycomnet.GatewayDied, match="outer"):
            await innermost.newchannel().receive()
        assert still_there(pids) == []


@pytest.mark.parametrize("websocket", ["yes", "no"])
@pytest_twisted.ensureDeferred
async def test_program_that_takes_nothing_stops_its_far_side_and_loses_nothing(
    started: Daemons, websocket: str
) -> None:
    """Its far side is stopped, in whatever is between; the next program gets all, in order."""
    from twisted.internet import reactor

    mediator = Mediator(started)
    daemon, address = start(started)
    spec = mediator.spec(websocket=websocket)
    path = f"{started.directory}/sent"
    with near(PROGRAM, address, "flood", f"{spec}//id=far//linger=60", path) as program:
        ids = program.line()
        stop(program.pid)
        counts: list[int] = []
        end = time.monotonic() + PATIENCE
        # Until it has sent something, and then nothing for some seconds.
        while not (len(counts) > 6 and counts[-1] and counts[-6:] == [counts[-1]] * 6):
            assert time.monotonic() < end
            await deferLater(reactor, 0.5)
            files = [f"{path}{number}" for number in range(4)]
            counts.append(sum(os.path.getsize(file) for file in files if os.path.exists(file)))
        assert 0 < counts[-1] < 400
        program.signal(signal.SIGKILL)
        program.ended()
    group = group_of(address)
    await resumable(group, "far")
    gateway = await group.makegateway(f"{spec}//id=far//resume=yes")
    for id in ids:
        assert [value[0] async for value in gateway.resumed[id]] == list(range(100))
    assert "Traceback" not in daemon.said
    await gateway.exit()
    await group.close()
