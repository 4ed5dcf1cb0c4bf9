"""Gateways through gateways, by ``via`` and by hand, and fork servers on this machine."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.internet import defer

import pycomnet
from pycomnet.test.needs import require
from pycomnet.test.processes import parent, still_there, stop
from pycomnet.test.system.near_side import START
from pycomnet.test.system.nearby import near
from pycomnet.test.system.slow_ssh import install
from pycomnet.wire.frames import WIDE_WINDOW

NEAR_SIDE = str(Path(__file__).with_name("near_side.py"))
#: The far side's own word for what it was sent.
MAKER = "from _pycomnet.far.gateways import gatewaymaker; gatewaymaker(channel)"


@pytest_twisted.async_yield_fixture
async def group() -> AsyncIterator[Any]:
    """A group."""
    from twisted.internet import reactor

    made = pycomnet.Group(reactor, output=lambda output: None)
    yield made
    await made.close()


async def chain(group: Any, *specs: str) -> list[Any]:
    """Gateways, each from the one before it."""
    made: list[Any] = []
    for spec in specs:
        via = made[-1].id if made else None
        made.append(await group.makegateway(spec, via=via))
    return made


async def waits(gateways: list[Any]) -> tuple[list[int], list[Any]]:
    """The processes of gateways, and Deferreds that wait for something of each."""
    source = "import os; channel.send(os.getpid()); channel.receive()"
    channels = [gateway.remote_exec(source) for gateway in gateways]
    pids = [await channel.receive() for channel in channels]
    return pids, [channel.receive() for channel in channels]


async def reasons(waiting: list[Any]) -> list[str]:
    """Why they all fail."""
    results = await defer.DeferredList(waiting, consumeErrors=True)
    assert all(result.check(pycomnet.GatewayDied) for _, result in cast(Any, results))
    return [str(result.value) for _, result in cast(Any, results)]


#: Each hop a supervisor of its own: the interpreter's name differs.
DEEP = ["popen//fork=yes"] + [f"popen//python={sys.executable} -X hop={n}" for n in range(3)]


@pytest.mark.parametrize("specs", [["popen"] * 4, DEEP, ["popen//fork=no", *DEEP[1:], "popen"]])
@pytest_twisted.ensureDeferred
async def test_four_hops_carry_everything_and_end_together(group: Any, specs: list[str]) -> None:
    """Through four: values, output's end and errors; who is ended takes those behind it along."""
    made = await chain(group, *specs)
    for gateway in made:
        channel = gateway.remote_exec("for value in channel: channel.send(value)")
        blob = os.urandom(3_000_000)
        channel.send(blob)
        assert await channel.receive() == blob
        channel.send_end()
        with pytest.raises(pycomnet.RemoteError, match="division by zero"):
            await gateway.remote_exec("1 / 0").waitclose()
    pids, waiting = await waits(made)
    assert len(set(pids)) == len(made)
    await made[-1].exit()
    assert still_there(pids[-1:]) == []
    for gateway in made[:-1]:
        assert await gateway.call("operator:add", 1, 2) == 3
    await made[1].exit()
    told = await reasons(waiting[2:-1])
    assert f"the gateway {made[1].id}, through which it was reached, is gone" in told[0]
    assert still_there(pids[1:]) == []
    assert await made[0].call("operator:add", 1, 2) == 3


@pytest_twisted.ensureDeferred
async def test_killed_worker_in_between_takes_those_behind_along(group: Any) -> None:
    """An intermediate's worker dies: everything behind it goes, and says so."""
    made = await chain(group, *DEEP)
    pids, waiting = await waits(made)
    os.kill(pids[1], signal.SIGKILL)
    told = await reasons(waiting[1:])
    assert "its process is gone: it was killed by SIGKILL" in told[0]
    assert f"the gateway {made[1].id}, through which it was reached, is gone" in told[1]
    assert f"{made[1].id}, through which it was reached, is gone: it was killed" in told[2]
    assert still_there(pids[1:]) == []
    assert await made[0].call("operator:add", 1, 2) == 3


@pytest_twisted.ensureDeferred
async def test_killed_fork_server_in_between_takes_those_behind_along(group: Any) -> None:
    """An intermediate fork server dies: so does all that is there and behind it."""
    made = await chain(group, *DEEP)
    pids, waiting = await waits(made)
    # The worker's parent watches it alone; that one's parent is the fork server.
    os.kill(parent(parent(pids[1])), signal.SIGKILL)
    told = await reasons(waiting[1:])
    for reason in told:
        assert "the route to it is gone" in reason
    assert "was killed by signal 9" in told[0]
    assert still_there(pids[1:]) == []
    assert await made[0].call("operator:add", 1, 2) == 3


@pytest_twisted.ensureDeferred
async def test_killed_local_fork_server_is_replaced(group: Any) -> None:
    """The supervisor of this machine dies: all its gateways do, and new ones get a new one."""
    made = [await group.makegateway("popen//fork=yes") for _ in range(2)]
    pids, waiting = await waits(made)
    os.kill(parent(parent(pids[0])), signal.SIGKILL)
    for reason in await reasons(waiting):
        assert "its fork server is gone: it was killed by SIGKILL" in reason
    assert still_there(pids) == []
    again = await group.makegateway("popen")
    assert await again.call("operator:add", 1, 2) == 3


@pytest_twisted.ensureDeferred
async def test_stopped_fork_server_is_not_waited_for(
    group: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A supervisor that does not answer is not waited for at the end."""
    monkeypatch.setattr("pycomnet.gateways.transportend.EXIT_TIMEOUT", 0.5)
    monkeypatch.setattr("pycomnet.gateways.transports.forked.KILL_TIMEOUT", 0.5)
    gateway = await group.makegateway("popen//fork=yes")
    pids, waiting = await waits([gateway])
    supervisor = parent(parent(pids[0]))
    stop(supervisor)
    waiting[0].addErrback(lambda failure: None)
    await group.terminate(timeout=0.5)
    assert still_there([*pids, supervisor]) == []


@pytest_twisted.ensureDeferred
async def test_sender_waits_through_hops_and_nothing_is_lost(group: Any) -> None:
    """Through hops a sender waits when nobody takes what it sends, both ways; nothing is lost."""
    *_, far = await chain(group, *DEEP[:3])
    source = "for n in range(400): channel.send(b'x' * 100000); sent.send(n)"
    sent = far.newchannel()
    counted: list[int] = []
    sent.setcallback(counted.append)
    channel = far.remote_exec(source, sent=sent)
    quiet = -1
    while quiet != len(counted):
        quiet = len(counted)
        for _ in range(20):
            await far.ping()
    most = WIDE_WINDOW // 100000 + 20  # the window of the channel itself
    assert len(counted) < most
    assert sum([len(value) async for value in channel]) == 40_000_000
    go = far.newchannel()
    channel = far.remote_exec("go.receive(); channel.send(sum(len(x) for x in channel))", go=go)
    sends = [channel.send(b"x" * 100000) for _ in range(400)]
    for _ in range(20):
        await far.ping()
    assert sum(send.called for send in sends) < most
    await go.send(1)
    channel.send_end()
    assert await channel.receive() == 40_000_000


@pytest_twisted.ensureDeferred
async def test_missing_gateway_or_interpreter_is_named(group: Any) -> None:
    """A gateway that there isn't, an interpreter that there isn't."""
    with pytest.raises(pycomnet.GatewayNotStarted, match="there is no gateway 'nobody'"):
        await group.makegateway("popen//via=nobody")
    await group.makegateway("popen//id=first")
    for keys in ("", "//fork=no"):
        with pytest.raises(pycomnet.GatewayNotStarted, match="can't start '/no/such'"):
            await group.makegateway(f"popen//via=first//python=/no/such{keys}")
    with pytest.raises(pycomnet.GatewayNotStarted, match="no/such/directory"):
        await group.makegateway("popen//via=first//chdir=/no/such/directory")
    assert await group["first"].call("operator:add", 1, 2) == 3


@pytest.mark.parametrize(("python", "name"), [("pypy3", "pypy"), ("jython", "jython")])
@pytest_twisted.ensureDeferred
async def test_other_python_behind_a_hop_works(group: Any, python: str, name: str) -> None:
    """Other Pythons are sent the same, and tracebacks have the source of that, too."""
    require(python)
    await group.makegateway("popen//id=outer")
    gateway = await group.makegateway(f"popen//via=outer//python={python}", timeout=START)
    assert gateway.info["implementation"] == name
    assert await gateway.call("operator:add", 1, 2) == 3
    with pytest.raises(pycomnet.RemoteError) as caught:
        await gateway.remote_exec("channel.send(object())").waitclose()
    assert "_pycomnet/far/channel.py" in caught.value.formatted
    assert "payload = self.link.encode(value)" in caught.value.formatted
    pid = await gateway.remote_exec("import os; channel.send(os.getpid())").receive()
    await gateway.exit()
    assert still_there([pid]) == []


@pytest_twisted.ensureDeferred
async def test_gateways_made_by_far_code_work(group: Any) -> None:
    """Code in a worker makes gateways and forwards them through its channel."""
    outer = await group.makegateway("popen//id=outer")
    maker = outer.remote_exec(MAKER)
    await maker.send("popen//env:PYCOMNET_A=1")
    inner = await pycomnet.ChannelGateway(await maker.receive(), id="inner")
    assert group["inner"] is inner
    assert "channel=outer:" in repr(inner)
    assert await inner.call("os:getenv", "PYCOMNET_A") == "1"
    deeper = inner.remote_exec(MAKER)
    await deeper.send(f"popen//python={sys.executable}")
    innermost = await pycomnet.ChannelGateway(await deeper.receive())
    beside = await group.makegateway("popen//via=inner")
    made = [outer, inner, innermost, beside]
    blob = os.urandom(3_000_000)
    assert await beside.call("builtins:bytes", blob) == blob
    pids, waiting = await waits(made)
    assert len(set(pids)) == 4
    await innermost.exit()
    assert still_there(pids[2:3]) == []
    assert await inner.call("operator:add", 1, 2) == 3
    os.kill(pids[0], signal.SIGKILL)
    told = await reasons([waiting[0], waiting[1], waiting[3]])
    assert "the channel of gateway outer that carried it is gone: gateway outer: its" in told[1]
    assert "the gateway inner, through which it was reached, is gone" in told[2]
    assert still_there(pids) == []


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("popen//pyton=x", "no key 'pyton'"),
        ("http=x", "popen or ssh=... can be made here"),
        ("popen//python=/no/such", "can't start '/no/such'"),
        ("popen//python=/bin/echo", "it had printed:"),
        ("popen//chdir=/no/such", "exited|ended with status 2"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_failed_gateway_of_far_code_leaves_its_maker(
    group: Any, spec: str, words: str
) -> None:
    """What goes wrong with one is the error of its gateway; the maker goes on."""
    outer = await group.makegateway("popen")
    maker = outer.remote_exec(MAKER)
    await maker.send(spec)
    with pytest.raises(pycomnet.GatewayNotStarted, match=words):
        await pycomnet.ChannelGateway(await maker.receive())
    await maker.send("popen")
    inner = await pycomnet.ChannelGateway(await maker.receive())
    assert await inner.call("operator:add", 1, 2) == 3


@pytest_twisted.ensureDeferred
async def test_channel_gateway_needs_a_raw_channel(group: Any) -> None:
    """A gateway operates on a raw channel."""
    outer = await group.makegateway("popen")
    with pytest.raises(pycomnet.PycomnetError, match="raw"):
        await pycomnet.ChannelGateway(outer.newchannel())


BLOCKING = """
from pycomnet.blocking import ChannelGateway, Group

if __name__ == "__main__":
    with Group() as group:
        maker = group.makegateway("popen").remote_exec({maker!r})
        maker.send("popen")
        inner = ChannelGateway(maker.receive(), id="inner")
        assert inner.call("operator:add", 1, 2) == 3
        told = []
        made = group.makegateways(["popen", "popen//via=inner"], progress=told.append)
        assert [gateway.call("operator:add", 1, 2) for gateway in made] == [3, 3]
        print("done")
"""


def test_channel_gateway_works_with_the_blocking_api(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(BLOCKING.format(maker=MAKER))
    with near(str(script)) as program:
        status, out, err = program.ended()
    assert (status, out) == (0, "done\n"), err


@pytest_twisted.ensureDeferred
async def test_tree_of_27_slow_hosts_answers_and_ends(
    group: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three levels of simulated hosts, three wide and 25 ms apart: each leaf answers, all end."""
    install(tmp_path, 25)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    python = f"//python={sys.executable}"
    specs = []
    leaves: dict[str, str] = {}
    for a in range(3):
        specs.append(f"ssh=a{a}//id=a{a}{python}")
        for b in range(3):
            specs.append(f"ssh=b{a}{b}//id=b{a}{b}//via=a{a}{python}")
            for c in range(3):
                leaves[f"c{a}{b}{c}"] = f"b{a}{b}"
                specs.append(f"ssh=c{a}{b}{c}//id=c{a}{b}{c}//via=b{a}{b}{python}")
    made = await group.makegateways(specs, parallel=len(specs))
    assert [gateway.id for gateway in made] == [spec.split("//")[1][3:] for spec in specs]
    pids = await defer.gatherResults([group[leaf].call("os:getpid") for leaf in leaves])
    assert len(set(pids)) == len(leaves) == 27
    assert min([await group[leaf].ping() for leaf in list(leaves)[:3]]) >= 0.15
    # Without one of the hosts in between, those behind it are gone, and say so.
    await group["b00"].exit()
    lost = await reasons([group[leaf].call("os:getpid") for leaf in ("c000", "c001", "c002")])
    assert all("b00" in reason for reason in lost), lost
    assert await group["c010"].call("os:getpid") == pids[3]
    await group.terminate()
    assert still_there(pids) == []
