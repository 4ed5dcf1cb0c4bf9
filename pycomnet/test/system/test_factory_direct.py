"""Gateways of the factory that end with their program: it has their pipes, the factory the rest."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.endpoints import clientFromString, connectProtocol, serverFromString
from twisted.internet.protocol import Factory, Protocol

import pycomnet
from pycomnet.test.processes import resident, still_there, stop
from pycomnet.test.system.daemons import Daemons, daemons
from pycomnet.test.system.nearby import PATIENCE, near
from pycomnet.test.system.test_factory import PROGRAM, group_of, start
from pycomnet.test.waiting import until

#: Gateways that are made one after the other, or ten at a time, when none may leave anything.
MANY = 100


@pytest.fixture
def started(tmp_path_factory: Any) -> Iterator[Daemons]:
    """Daemons in a directory whose name is short enough for a socket's."""
    with daemons(tmp_path_factory.mktemp("fd")) as running:
        yield running


def echo(channel):
    """Far code: say what was said."""
    for value in channel:
        channel.send(value)


def descriptors(pid: int | str) -> set[str]:
    """What a process has open, by number and name."""
    found = set()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it has just been closed
            found.add(f"{each.name} {os.readlink(each)}")
    return found


async def settled(group: pycomnet.Group, pid: int | str, count: int) -> None:
    """Wait until a process has no more descriptors than this."""
    end = time.monotonic() + PATIENCE
    while True:
        await group.resumable()  # what was said to it before was dealt with
        if len(descriptors(pid)) <= count:
            return
        assert time.monotonic() < end, descriptors(pid)


@pytest_twisted.ensureDeferred
async def test_values_pass_while_the_factory_is_stopped(started: Daemons) -> None:
    """Values of all sizes and output pass while the factory stands still, and take it no memory."""
    daemon, address = start(started)
    printed: list[str] = []
    from twisted.internet import reactor

    group = pycomnet.Group(reactor, output=lambda output: printed.append(output.text))
    group.setlocalfactory(endpoint=address)
    gateway = await group.makegateway()
    assert await gateway.call("os:getcwd") == os.getcwd()
    before = resident(daemon.pid)
    stop(daemon.pid)
    try:
        channel = gateway.remote_exec(echo)
        for value in (1, "x", os.urandom(3_000_000)):
            await channel.send(value)
            assert await channel.receive() == value
        await gateway.remote_exec("print('said')").waitclose()
        assert printed == ["said\n"]
        sizes = gateway.remote_exec("for n in range(50): channel.send(b'x' * 2000000)")
        assert sum([len(value) async for value in sizes]) == 100_000_000
        with pytest.raises(pycomnet.RemoteError, match="division by zero"):
            await gateway.remote_exec("1 / 0").waitclose()
    finally:
        daemon.signal(signal.SIGCONT)
    # Python takes memory by the megabyte; the values were a hundred.
    assert resident(daemon.pid) - before < 8 << 20
    assert await gateway.exit() is None
    await group.close()


@pytest_twisted.ensureDeferred
async def test_ends_of_the_process_are_told_with_its_stderr(started: Daemons) -> None:
    """How it ends is told as ever: its status, a signal, what it wrote to its standard error."""
    _, address = start(started)
    said: list[str] = []
    from twisted.internet import reactor

    async with pycomnet.Group(reactor, output=lambda output: said.append(output.text)) as group:
        group.setlocalfactory(endpoint=address)
        gateway = await group.makegateway()
        source = "import os; os.write(2, b'last words\\n'); os._exit(3)"
        with pytest.raises(pycomnet.GatewayDied, match="exited with status 3") as caught:
            await gateway.remote_exec(source).waitclose()
        assert "last words" in str(caught.value)
        assert said == ["last words\n"]
        gateway = await group.makegateway()
        waiting = gateway.remote_exec("channel.receive()").waitclose()
        os.kill(gateway.info["pid"], signal.SIGKILL)
        with pytest.raises(pycomnet.GatewayDied, match="was killed by SIGKILL"):
            await waiting
        # What it said before it ended comes, though nobody has asked for it until then.
        gateway = await group.makegateway()
        source = "import os\nfor n in range(100): channel.send([n, b'x' * 1000])\nos._exit(0)"
        channel = gateway.remote_exec(source)
        with pytest.raises(pycomnet.GatewayDied, match="exited with status 0"):
            await gateway.newchannel().receive()
        assert [(await channel.receive())[0] for _ in range(100)] == list(range(100))
        # One that does not want to end is killed.
        gateway = await group.makegateway()
        channel = gateway.remote_exec(
            "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
            "channel.send(1)\nwhile True: time.sleep(100)"
        )
        assert await channel.receive() == 1
        await gateway.exit(0)
        assert still_there([gateway.info["pid"]]) == []


@pytest_twisted.ensureDeferred
async def test_far_side_ends_with_its_killed_program(started: Daemons) -> None:
    """With its program it is gone, and there is room for the next one's."""
    _, address = start(started, "--gateways", "1")
    with near(PROGRAM, address, "call", "popen") as program:
        pid = program.line()
        group = group_of(address)
        with pytest.raises(pycomnet.GatewayNotStarted, match="1 gateways, its limit"):
            await group.makegateway()
        program.signal(signal.SIGKILL)
        program.ended()
        assert still_there([pid]) == []
        end = time.monotonic() + PATIENCE
        while True:
            try:
                await group.makegateway()
                break
            except pycomnet.GatewayNotStarted as problem:
                assert "its limit" in str(problem)
                assert time.monotonic() < end
        with pytest.raises(pycomnet.GatewayNotStarted, match="no gateway 'x' to resume"):
            await group.makegateway("popen//id=x//resume=yes")
        await group.close()


@pytest_twisted.ensureDeferred
async def test_ending_factory_has_programs_end_their_far_sides(started: Daemons) -> None:
    """When it is told to end it has its programs say goodbye, and says so; it isn't waited for."""
    daemon, address = start(started)
    group = group_of(address)
    gateway = await group.makegateway()
    left = started.directory / "left"
    source = (
        "import atexit; atexit.register(lambda: open(left, 'w').close())\n"
        "channel.send(1); channel.receive()"
    )
    channel = gateway.remote_exec(source, left=str(left))
    assert await channel.receive() == 1
    waiting = channel.waitclose()
    daemon.signal(signal.SIGTERM)
    with pytest.raises(pycomnet.ConnectionLost):
        await waiting
    await daemon.ended()
    assert still_there([gateway.info["pid"]]) == []
    assert left.exists(), "it was killed"
    await group.close()


@pytest_twisted.ensureDeferred
async def test_gateways_leave_no_descriptors_in_the_factory(started: Daemons) -> None:
    """A hundred gateways leave none in the factory, nor here; and one that is there has few."""
    daemon, address = start(started)
    group = group_of(address)
    await (await group.makegateway()).exit()
    ours, theirs = descriptors("self"), len(descriptors(daemon.pid))
    for _ in range(MANY // 10):
        gateways = await group.makegateways(["popen"] * 10)
        assert await gateways[0].call("operator:add", 1, 2) == 3
        # Of each the standard error, and what tells of its fork server's end: not its two pipes.
        await settled(group, daemon.pid, theirs + 10 * 2)
        await group.terminate()
    await settled(group, daemon.pid, theirs)
    await until(
        lambda: not [each for each in descriptors("self") - ours if "socket" not in each],
        "this process has no more descriptors than before",
    )
    await group.close()


@pytest_twisted.ensureDeferred
async def test_gateway_given_up_at_any_moment_leaves_nothing(started: Daemons) -> None:
    """One that its program gives up, at whatever moment, is gone; no descriptor is left of it."""
    daemon, address = start(started)
    group = group_of(address)
    began = time.monotonic()
    await (await group.makegateway()).exit()
    first = await group.makegateway()
    took = min(time.monotonic() - began, 0.5)
    theirs, ours = len(descriptors(daemon.pid)), len(descriptors("self"))
    for number in range(20):
        with contextlib.suppress(pycomnet.GatewayNotStarted):
            gateway = await group.makegateway(timeout=took * number / 20)
            await gateway.exit()
    await settled(group, daemon.pid, theirs)
    assert await first.call("operator:add", 1, 2) == 3
    await settled(group, "self", ours)
    await group.close()


@contextlib.contextmanager
def one_descriptor_left() -> Iterator[None]:
    """This process has a number for one more descriptor."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest_twisted.ensureDeferred
async def test_program_without_free_descriptors_is_relayed(started: Daemons) -> None:
    """A program that has no number for a pipe has a gateway that passes through the factory."""
    daemon, address = start(started)
    group = group_of(address)
    await (await group.makegateway()).exit()
    theirs = len(descriptors(daemon.pid))
    with one_descriptor_left():
        gateway = await group.makegateway()
        assert await gateway.call("operator:add", 1, 2) == 3
        await gateway.exit()
    await settled(group, daemon.pid, theirs)
    await group.close()


@pytest_twisted.ensureDeferred
async def test_program_behind_a_socket_proxy_is_relayed(started: Daemons) -> None:
    """So has one whose UNIX socket leads to a proxy, which carries bytes and no descriptors."""
    from twisted.internet import reactor

    _, address = start(started)
    where = str(started.directory / "proxy")

    class Out(Protocol):
        def __init__(self, into: Any) -> None:
            self.into = into

        def dataReceived(self, data: bytes) -> None:
            self.into.transport.write(data)

        def connectionLost(self, reason: object = None) -> None:
            self.into.transport.loseConnection()

    class In(Protocol):
        def connectionMade(self) -> None:
            self.out = connectProtocol(clientFromString(reactor, address), Out(self))

        def dataReceived(self, data: bytes) -> None:
            self.out.addCallback(lambda out: (out.transport.write(data), out)[1])

        def connectionLost(self, reason: object = None) -> None:
            self.out.addCallback(lambda out: out.transport.loseConnection())

    port = await serverFromString(reactor, f"unix:{where}").listen(Factory.forProtocol(In))
    group = group_of(f"unix:{where}")
    for number in range(3):
        gateway = await group.makegateway()
        assert await gateway.call("operator:add", number, 2) == number + 2
    pid = gateway.info["pid"]
    await group.close()
    assert still_there([pid]) == []
    await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_program_on_a_port_is_relayed_and_nothing_kept(started: Daemons) -> None:
    """Over TCP all passes through the factory, which keeps nothing of what was delivered."""
    token = started.directory / "token"
    daemon, _ = start(started, "--port", "0", "--token-file", str(token))
    port = int(daemon.wait_for(r"listening on tcp:127.0.0.1:(\d+)")[1])
    from twisted.internet import reactor

    async with pycomnet.Group(reactor) as group:
        group.setlocalfactory(port=port, token_file=token)
        gateway = await group.makegateway()
        channel = gateway.remote_exec(echo)
        for value in (1, "x", os.urandom(3_000_000)):
            await channel.send(value)
            assert await channel.receive() == value
        before = resident(daemon.pid)
        sizes = gateway.remote_exec("for n in range(500): channel.send(b'x' * 200000)")
        assert sum([len(value) async for value in sizes]) == 100_000_000
        calls = [await gateway.call("operator:add", n, 1) for n in range(300)]
        assert calls == list(range(1, 301))
        assert resident(daemon.pid) - before < 32 << 20
        waiting = gateway.remote_exec("import os; os._exit(4)").waitclose()
        with pytest.raises(pycomnet.GatewayDied, match="exited with status 4"):
            await waiting
