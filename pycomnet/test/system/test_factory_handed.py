"""Gateways that linger, whose programs have them by pipes: killed at any byte, gone on with."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.task import deferLater

import pycomnet
from pycomnet.test.needs import REQUIRE_ALL
from pycomnet.test.processes import resident, still_there, stop, versioned_python
from pycomnet.test.system.daemons import Daemons, daemons
from pycomnet.test.system.nearby import PATIENCE, near
from pycomnet.test.system.test_factory import PROGRAM, complete, group_of, resumable, start
from pycomnet.test.system.test_factory_direct import (
    descriptors,
    echo,
    one_descriptor_left,
    settled,
)


@pytest.fixture
def started(tmp_path_factory: Any) -> Iterator[Daemons]:
    """Daemons in a directory whose name is short enough for a socket's."""
    with daemons(tmp_path_factory.mktemp("fh")) as running:
        yield running


def numbers(channel, size):
    """Far code: numbers without end, with bytes."""
    number = 0
    while True:
        channel.send([number, b"x" * (number * 97 % size)])
        number += 1


@pytest_twisted.ensureDeferred
async def test_gateway_is_left_once_for_all_who_leave_it(started: Daemons) -> None:
    """Each who waits for that is told, also if the first was cancelled; and it can be resumed."""
    _, address = start(started)
    group = group_of(address)
    gateway = await group.makegateway("popen//id=x//linger=60")
    first, *others = [gateway.leave() for _ in range(3)]
    first.addErrback(lambda failure: failure.trap(CancelledError))
    first.cancel()
    for other in others:
        await other
    await gateway.join()
    await resumable(group, "x")
    await (await group.makegateway("popen//id=x//resume=yes")).exit()
    await group.close()


@pytest_twisted.ensureDeferred
async def test_leaving_a_gateway_that_is_just_ending_fires(started: Daemons) -> None:
    """The connection is over, and how the far side ended isn't known yet."""
    daemon, address = start(started)
    group = group_of(address)
    gateway = await group.makegateway("popen//id=x//linger=60")
    connection = gateway.link.connection
    closed: Deferred[None] = Deferred()
    connection.when_closed.append(lambda _: closed.callback(None))
    stop(daemon.pid)
    try:
        connection.abort(pycomnet.ConnectionLost("a test"))
        await closed
        assert gateway.isalive(), "it is known why"
        left = gateway.leave()
    finally:
        os.kill(daemon.pid, signal.SIGCONT)
    await left
    await group.close()


@pytest_twisted.ensureDeferred
async def test_values_pass_while_the_factory_is_stopped_and_are_known_later(
    started: Daemons,
) -> None:
    """Round trips and output pass while the factory stands still; later it knows all of it."""
    daemon, address = start(started)
    group = group_of(address)
    gateway = await group.makegateway("popen//id=x//linger=60")
    channel = gateway.remote_exec(echo)
    stop(daemon.pid)
    try:
        for value in [*range(200), "x", os.urandom(50_000)]:
            await channel.send(value)
            assert await channel.receive() == value
    finally:
        daemon.signal(signal.SIGCONT)
    await channel.send("kept")
    assert await gateway.call("operator:add", 1, 2) == 3
    await gateway.leave()
    assert [(item.id, item.channels) for item in await group.resumable()] == [("x", 1)]
    gateway = await group.makegateway("popen//id=x//resume=yes")
    assert await gateway.resumed[channel.id].receive() == "kept"
    await gateway.exit()
    await group.close()


@pytest_twisted.ensureDeferred
async def test_more_than_the_journal_holds_passes_both_ways(started: Daemons) -> None:
    """Far more than the journal has room for passes, both ways, and takes the factory no memory."""
    daemon, address = start(started)
    group = group_of(address)
    gateway = await group.makegateway("popen//id=x//linger=60")
    channel = gateway.remote_exec(echo)
    for size in (1, 70_000, 3_000_000):
        value = os.urandom(size)
        await channel.send(value)
        assert await channel.receive() == value
    before = resident(daemon.pid)
    many = gateway.remote_exec("for n in range(30000): channel.send([n, 'value'])")
    assert [value[0] async for value in many] == list(range(30000))
    sizes = gateway.remote_exec("for n in range(50): channel.send(b'x' * 1000000)")
    assert sum([len(value) async for value in sizes]) == 50_000_000
    assert resident(daemon.pid) - before < 32 << 20
    await gateway.exit()
    await group.close()


@pytest.mark.parametrize("size", [40, 3000, 60_000])
@pytest_twisted.ensureDeferred
async def test_values_of_a_killed_far_side_come_whole_and_then_its_end(
    started: Daemons, size: int
) -> None:
    """One that is killed while it writes: all that it had sent comes, whole, and how it ended."""
    _, address = start(started)
    group = group_of(address)
    for count in (1, 50, 300):
        gateway = await group.makegateway(f"popen//id=x{count}//linger=60")
        channel = gateway.remote_exec(numbers, size=size)
        seen = [(await channel.receive())[0] for _ in range(count)]
        os.kill(gateway.info["pid"], signal.SIGKILL)
        with pytest.raises(pycomnet.GatewayDied, match="was killed by SIGKILL"):
            while True:
                seen.append((await channel.receive())[0])
        assert seen == list(range(len(seen)))
    gateway = await group.makegateway("popen//id=x//linger=60")
    source = "import os\nfor n in range(3000): channel.send(n)\nos._exit(3)"
    channel = gateway.remote_exec(source)
    seen = []
    with pytest.raises(pycomnet.GatewayDied, match="exited with status 3"):
        while True:
            seen.append(await channel.receive())
    assert seen == list(range(3000))
    await group.close()


@pytest_twisted.ensureDeferred
async def test_values_survive_many_killed_programs(started: Daemons) -> None:
    """Programs are killed in the midst of taking much, one after the other: nothing is missing."""
    _, address = start(started)
    group = group_of(address)
    gateway = await group.makegateway("popen//id=build//linger=60")
    channel = gateway.remote_exec(numbers, size=60_000)
    id, pid = channel.id, gateway.info["pid"]
    await gateway.leave()
    due = 0
    for turn in range(6):
        with near(PROGRAM, address, "take", "popen//id=build//resume=yes") as program:
            assert program.line() == pid
            seen = [program.line() for _ in range(1 + turn * 13)]
            program.signal(signal.SIGKILL)
            _, rest, _ = program.ended()
        seen += complete(rest)
        # Nothing is missing, as it prints what it took before it says so; what it took in its last
        # turn may come twice.
        assert due - 3 <= seen[0] <= due, (seen[0], due)
        assert seen == list(range(seen[0], seen[0] + len(seen)))
        due = seen[-1] + 1
    await resumable(group, "build")
    gateway = await group.makegateway("popen//id=build//resume=yes")
    first, _ = await gateway.resumed[id].receive()
    assert due - 3 <= first <= due, (first, due)
    await gateway.exit(0)
    await group.close()


@pytest_twisted.ensureDeferred
async def test_values_survive_when_far_side_and_program_are_killed(started: Daemons) -> None:
    """A far side is killed, and then its program, which has not taken what the far side sent."""
    _, address = start(started)
    group = group_of(address)
    with near(PROGRAM, address, "idle", "popen//id=build//linger=60") as program:
        # A hundred values were sent when it says this, and it takes none of them.
        pid, id = program.line()
        stop(program.pid)
        os.kill(pid, signal.SIGKILL)
        assert still_there([pid]) == []
        program.signal(signal.SIGKILL)
        program.ended()
    [left] = await resumable(group, "build")
    end = time.monotonic() + PATIENCE
    while left.alive:
        assert time.monotonic() < end
        [left] = await resumable(group, "build")
    gateway = await group.makegateway("popen//id=build//resume=yes")
    channel = gateway.resumed[id]
    seen = []
    with pytest.raises(pycomnet.GatewayDied, match="was killed by SIGKILL"):
        while True:
            seen.append((await channel.receive())[0])
    assert len(seen) >= 100
    assert seen == list(range(len(seen)))
    await group.close()


@pytest_twisted.ensureDeferred
async def test_stopped_program_is_given_up_and_harms_nobody_later(started: Daemons) -> None:
    """A program that is stopped is given up: the far side, which could not write to it any more,
    goes on, and the next program misses nothing. If the first one goes on later it harms nobody."""
    _, address = start(started, "--keepalive", "3")
    group = group_of(address)
    with near(PROGRAM, address, "idle", "popen//id=build//linger=60") as program:
        pid, id = program.line()
        stop(program.pid)
        await resumable(group, "build")
        gateway = await group.makegateway("popen//id=build//resume=yes")
        assert gateway.info["pid"] == pid
        assert await gateway.call("operator:add", 1, 2) == 3
        channel = gateway.resumed[id]
        seen = [(await channel.receive())[0] for _ in range(5000)]
        program.signal(signal.SIGCONT)
        seen += [value[0] async for value in channel]
        assert seen == list(range(10000))
        assert await gateway.call("operator:add", 1, 2) == 3
    await gateway.exit()
    assert still_there([pid]) == []
    await group.close()


@pytest_twisted.ensureDeferred
async def test_one_of_two_waiting_programs_gets_the_gateway(started: Daemons) -> None:
    """Two programs ask for one that is still another's, as it is stopped: one of them gets it."""
    _, address = start(started)
    group = group_of(address)
    gateway = await group.makegateway("popen//id=x//linger=60")
    pid = gateway.info["pid"]
    stop(pid)
    await gateway.leave()
    others = [group_of(address) for _ in range(2)]
    asking = [other.makegateway("popen//id=x//resume=yes") for other in others]
    for other in others:
        await other.resumable()
    os.kill(pid, signal.SIGCONT)
    found: list[tuple[bool, Any]] = await DeferredList(asking, consumeErrors=True)
    assert sorted(worked for worked, _ in found) == [False, True]
    [failure] = [result for worked, result in found if not worked]
    assert "in use by another program" in str(failure.value)
    [gateway] = [result for worked, result in found if worked]
    assert await gateway.call("operator:add", 1, 2) == 3
    for each in (group, *others):
        await each.close()


@pytest_twisted.ensureDeferred
async def test_stopped_far_side_is_waited_for_and_still_ended_in_time(started: Daemons) -> None:
    """While a far side stands still the next program waits for it; it is ended when its time is
    over all the same."""
    from twisted.internet import reactor

    _, address = start(started)
    group, other = group_of(address), group_of(address)
    gateway = await group.makegateway("popen//id=x//linger=60")
    pid = gateway.info["pid"]
    channel = gateway.remote_exec(echo)
    stop(pid)
    await channel.send("said")
    await gateway.leave()
    waiting = other.makegateway("popen//id=x//resume=yes")
    await other.resumable()
    assert not waiting.called
    os.kill(pid, signal.SIGCONT)
    gateway = await waiting
    assert await gateway.resumed[channel.id].receive() == "said"
    await gateway.leave()
    gateway = await group.makegateway("popen//id=x//resume=yes//linger=0.5")
    stop(pid)
    await gateway.leave()
    await deferLater(reactor, 0.5)
    os.kill(pid, signal.SIGCONT)
    assert still_there([pid]) == []
    await group.close()
    await other.close()


@pytest_twisted.ensureDeferred
async def test_leaving_and_resuming_leaves_no_descriptors(started: Daemons) -> None:
    """Being left and gone on with leaves no descriptor behind in any of the three."""
    daemon, address = start(started)
    group = group_of(address)
    gateway = await group.makegateway("popen//id=x//linger=60")
    pid = gateway.info["pid"]
    processes = (daemon.pid, pid, "self")
    for turn in range(12):
        await gateway.leave()
        gateway = await group.makegateway("popen//id=x//resume=yes")
        assert await gateway.call("operator:add", turn, 1) == turn + 1
        if turn == 1:
            before = [len(descriptors(each)) for each in processes]
    for each, most in zip(processes, before, strict=True):
        await settled(group, each, most)
    await gateway.exit()
    await group.close()


@pytest_twisted.ensureDeferred
async def test_program_without_free_descriptors_is_relayed(started: Daemons) -> None:
    """A program that has no number for the pipes has it through the factory."""
    daemon, address = start(started)
    group = group_of(address)
    await (await group.makegateway()).exit()
    theirs = len(descriptors(daemon.pid))
    with one_descriptor_left():
        gateway = await group.makegateway("popen//id=x//linger=60")
        assert await gateway.call("operator:add", 1, 2) == 3
        await gateway.leave()
        gateway = await group.makegateway("popen//id=x//resume=yes")
        assert await gateway.call("operator:add", 1, 2) == 3
        await gateway.exit()
    await settled(group, daemon.pid, theirs)
    await group.close()


@pytest.mark.parametrize("version", ["2.7", "3.6", "3.13", "pypy3"])
@pytest_twisted.ensureDeferred
async def test_each_python_version_lingers(started: Daemons, version: str) -> None:
    """Far sides of other versions; the oldest has no memory to share, so all passes through."""
    python = shutil.which("pypy3") if version == "pypy3" else versioned_python(version)
    if python is None:
        assert not os.environ.get(REQUIRE_ALL), f"no Python {version}"
        pytest.skip(f"no Python {version}")
    _, address = start(started)
    group = group_of(address)
    gateway = await group.makegateway("popen//id=x//linger=60", python=python)
    channel = gateway.remote_exec(echo)
    for value in range(50):
        await channel.send(value)
        assert await channel.receive() == value
    await channel.send("kept")
    await gateway.leave()
    gateway = await group.makegateway("popen//id=x//resume=yes", python=python)
    channel = gateway.resumed[channel.id]
    assert await channel.receive() == "kept"
    await channel.send("on")
    assert await channel.receive() == "on"
    await gateway.exit()
    await group.close()


@pytest_twisted.ensureDeferred
async def test_gateway_moves_between_pipes_and_a_port(started: Daemons) -> None:
    """One that was left by a program with pipes goes on with one on a port, and the other way."""
    token = started.directory / "token"
    daemon, address = start(started, "--port", "0", "--token-file", str(token))
    port = int(daemon.wait_for(r"listening on tcp:127.0.0.1:(\d+)")[1])
    from twisted.internet import reactor

    there = group_of(address)
    far = pycomnet.Group(reactor)
    far.setlocalfactory(port=port, token_file=token)
    gateway = await there.makegateway("popen//id=x//linger=60")
    channel = gateway.remote_exec(echo)
    for number, group in enumerate((far, there, far, there)):
        await channel.send(number)
        await gateway.leave()
        gateway = await group.makegateway("popen//id=x//resume=yes")
        channel = gateway.resumed[channel.id]
        assert await channel.receive() == number
    await gateway.exit()
    await far.close()
    await there.close()


@pytest_twisted.ensureDeferred
async def test_forked_child_holds_no_pipes_and_closed_pipes_are_told(started: Daemons) -> None:
    """A child that the code there forks has nothing of it; code that closes the pipes is told."""
    _, address = start(started)
    group = group_of(address)
    gateway = await group.makegateway("popen//id=x//linger=60")
    source = (
        "import os, time\nreader, writer = os.pipe()\npid = os.fork()\nif not pid:\n"
        "    os.close(reader)\n    os.close(writer)\n    time.sleep(1000)\n"
        "os.close(writer)\nos.read(reader, 1)  # its fork has returned\n"
        "channel.send([pid, channel.receive()])"
    )
    channel = gateway.remote_exec(source)
    await channel.send("x")
    child, _ = await channel.receive()
    pipes = [name for name in descriptors(child) if "pipe:" in name and int(name.split()[0]) > 2]
    assert len(pipes) <= 1  # the death pipe
    os.kill(child, signal.SIGKILL)
    gateway2 = await group.makegateway("popen//id=y//linger=60")
    closing = gateway2.remote_exec("import os; os.closerange(3, 200)")
    with pytest.raises(pycomnet.GatewayDied, match="closed the connection's descriptor"):
        await closing.waitclose()
    await gateway.exit()
    await group.close()
