"""The factory service as a process: programs are killed, and others go on; nothing is left."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

import pycomnet
from pycomnet.test.processes import children, command_line, resident, still_there, stop
from pycomnet.test.system.daemons import Daemon, Daemons, daemons, environment
from pycomnet.test.system.nearby import PATIENCE, ROOT, near, processes_end
from pycomnet.test.system.sshd import sshd
from pycomnet.test.system.suites import run_suite
from pycomnet.test.system.test_endings_everywhere import WAYS
from pycomnet.test.system.test_socket import answer
from pycomnet.test.waiting import until
from pycomnet.wire.mux import Mux

PROGRAM = str(Path(__file__).with_name("factory_program.py"))
NEAR_SIDE = str(Path(__file__).with_name("near_side.py"))


@pytest.fixture
def started(tmp_path_factory: Any) -> Iterator[Daemons]:
    """Daemons in a directory whose name is short enough for a socket's."""
    with daemons(tmp_path_factory.mktemp("f")) as running:
        yield running


def start(started: Daemons, *options: str) -> tuple[Daemon, str]:
    """A factory on a unix socket; its address."""
    address = f"unix:{started.directory}/sock"
    daemon = started.start("pycomnet-factory", "--listen", address, *options)
    daemon.wait_for("listening on")
    return daemon, address


def group_of(address: str, **options: Any) -> pycomnet.Group:
    """A group whose factory is there."""
    from twisted.internet import reactor

    group = pycomnet.Group(reactor)
    group.setlocalfactory(endpoint=address, **options)
    return group


async def resumable(group: pycomnet.Group, *ids: str) -> list[Any]:
    """What can be resumed, once it is this."""
    end = time.monotonic() + PATIENCE
    while True:
        found = await group.resumable()
        if [item.id for item in found] == list(ids):
            return found
        assert time.monotonic() < end, found


def complete(text: str) -> list[int]:
    """The numbers in what a killed program has printed; the last line may be cut off."""
    return [int(line) for line in text.split("\n")[:-1]]


def test_passes_the_suite(started: Daemons, tmp_path: Path) -> None:
    """The whole gateway suite."""
    _, address = start(started)
    run_suite("popen", tmp_path, env={"PYCOMNET_TEST_FACTORY": address})


def test_program_killed_in_mid_stream_loses_nothing(started: Daemons) -> None:
    """A program is killed with -9 while it takes and sends; the next one misses nothing."""
    _, address = start(started)
    with near(PROGRAM, address, "stream", "popen//id=build//linger=60") as program:
        pid = program.line()
        seen = [program.line() for _ in range(300)]
        program.signal(signal.SIGKILL)
        _, rest, _ = program.ended()
    seen += complete(rest)
    assert seen == list(range(len(seen)))
    with near(PROGRAM, address, "resume", "popen//id=build//resume=yes") as program:
        assert program.line() == pid
        again = [program.line() for _ in range(500)]
        assert again == list(range(again[0], again[0] + 500))
        # Nothing is missing, as it prints what it took before it says so; what it took in its last
        # turn may come twice.
        assert len(seen) - 3 <= again[0] <= len(seen), (again[0], len(seen))
        assert program.process.stdout is not None
        last = again[-1]
        while True:
            value = program.line()
            if isinstance(value, list):
                break
            assert value == last + 1
            last = value
        # What the first had sent and what the second has, each once, in order.
        came = value
        assert len(came) >= len(seen) + 499 - 3
        assert came[-500:] == again
        assert came[:-500] == list(range(len(came) - 500))
        assert program.ended()[0] == 0
    assert still_there([pid]) == []


@pytest.mark.parametrize("how", ["end", "leave"])
@pytest_twisted.ensureDeferred
async def test_left_gateway_keeps_its_channels_and_their_values(started: Daemons, how: str) -> None:
    """A program that ends, or leaves its gateway, leaves its channels and what they carry."""
    _, address = start(started)
    with near(PROGRAM, address, how, "popen//id=build//linger=60") as program:
        pid, channel_id, _ = program.line()
        if how == "leave":
            assert program.line() == ["build"]
        else:
            assert program.ended()[0] == 0
        group = group_of(address)
        [found] = await resumable(group, "build")
        assert (found.alive, found.channels) == (True, 1)
        assert 0 < found.left <= 60 and "popen" in found.spec
        for text, words in (
            ("popen//id=other//resume=yes", "no gateway 'other' to resume; there are: build"),
            ("ssh=host//id=build//resume=yes", "another one: popen"),
            ("popen//id=build//linger=5", "has a gateway 'build' already"),
        ):
            with pytest.raises(pycomnet.GatewayNotStarted, match=words):
                await group.makegateway(text)
        gateway = await group.makegateway("popen//id=build//resume=yes")
        assert gateway.info["pid"] == pid
        assert await gateway.resumed[channel_id].receive() == "kept"
        assert await gateway.call("operator:add", 1, 2) == 3
        assert await group.resumable() == []
        second = group_of(address)
        with pytest.raises(pycomnet.GatewayNotStarted, match="in use by another program"):
            await second.makegateway("popen//id=build//resume=yes")
        await second.close()
        await group.close()
    assert still_there([pid]) == []


def send_and_note(channel, path):
    """Far code: send what is more than may be kept, and note how much of it was sent."""
    import os

    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    channel.receive()
    for number in range(200):
        channel.send([number, b"x" * 100000])
        os.write(fd, b"x")
    os.close(fd)


@pytest_twisted.ensureDeferred
async def test_far_side_without_a_program_waits_at_the_bound(started: Daemons) -> None:
    """While nobody is there, code that sends without end waits; nothing of it is lost."""
    daemon, address = start(started, "--kept", "1")
    group = group_of(address)
    gateway = await group.makegateway("popen//id=build//linger=60")
    noted = started.directory / "noted"
    noted.touch()
    channel = gateway.remote_exec(send_and_note, path=str(noted))
    await channel.send("go")
    id = channel.id
    await gateway.leave()
    before = resident(daemon.pid)
    # It has begun, and is soon where its window ends.
    await until(lambda: noted.stat().st_size >= 8, "the far side sends")
    gateway = await group.makegateway("popen//id=build//resume=yes")
    for _ in range(10):
        await gateway.ping()
    # A window is a megabyte; what has come is not taken, and gives no credit.
    assert noted.stat().st_size <= 10
    assert resident(daemon.pid) - before < 16 << 20
    channel = gateway.resumed[id]
    assert [number async for number, _ in channel] == list(range(200))
    await group.close()


@pytest_twisted.ensureDeferred
async def test_gateway_that_nobody_resumes_in_time_is_ended(started: Daemons) -> None:
    """When nobody comes in time it is ended; one that does not linger is ended at once."""
    _, address = start(started)
    group = group_of(address)
    # It may be over before one can ask for the brief one: the other shows that such are told of.
    for id, linger in (("long", 600), ("brief", 0.5)):
        gateway = await group.makegateway(f"popen//id={id}//linger={linger}")
        pid = gateway.info["pid"]
        await gateway.leave()
        assert "long" in [item.id for item in await group.resumable()]
    await resumable(group, "long")
    assert still_there([pid]) == []
    await (await group.makegateway("popen//id=long//resume=yes")).exit()
    with pytest.raises(pycomnet.PycomnetError, match="does not linger"):
        await (await group.makegateway()).leave()
    with pytest.raises(pycomnet.GatewayNotStarted, match="linger needs an id"):
        await group.makegateway("popen//linger=5")
    await group.close()
    alone = pycomnet.Group(group._reactor)
    with pytest.raises(pycomnet.SpecError, match="only a factory keeps gateways"):
        await alone.makegateway("popen//linger=5//id=x")
    await alone.close()


@pytest_twisted.ensureDeferred
async def test_far_side_that_died_meanwhile_delivers_its_values_and_end(started: Daemons) -> None:
    """A far side that ended meanwhile: what it had sent comes, and then how it ended."""
    _, address = start(started)
    group = group_of(address)
    gateway = await group.makegateway("popen//id=x//linger=60")
    go = started.directory / "go"
    channel = gateway.remote_exec(
        "import os, time\nwhile not os.path.exists(go): time.sleep(0.01)\n"
        "channel.send('last'); os._exit(3)",
        go=str(go),
    )
    id, pid = channel.id, gateway.info["pid"]
    await gateway.leave()
    go.touch()
    assert still_there([pid]) == []
    end = time.monotonic() + PATIENCE
    while (await resumable(group, "x"))[0].alive:
        assert time.monotonic() < end
    gateway = await group.makegateway("popen//id=x//resume=yes")
    assert await gateway.resumed[id].receive() == "last"
    with pytest.raises(pycomnet.GatewayDied, match="exited with status 3"):
        await gateway.resumed[id].receive()
    assert await group.resumable() == []
    await group.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest_twisted.ensureDeferred
async def test_ended_service_leaves_nothing_and_the_next_one_serves(
    started: Daemons, number: int
) -> None:
    """The service is ended, or killed: nothing of it is left, its programs are told, and the next
    one on the same socket serves them."""
    daemon, address = start(started)
    group = group_of(address)
    gateway = await group.makegateway("popen//id=build//linger=60")
    waiting = gateway.remote_exec("channel.receive()").waitclose()
    os.environ["PYCOMNET_TEST_FACTORY"] = address
    try:
        with near(NEAR_SIDE, "wait", *WAYS) as program:
            pids = [*program.line(), gateway.info["pid"]]
            with processes_end(pids):
                daemon.signal(number)
                with pytest.raises(pycomnet.ConnectionLost):
                    await waiting
            assert await daemon.ended() == -number
    finally:
        del os.environ["PYCOMNET_TEST_FACTORY"]
    with pytest.raises(pycomnet.GatewayNotStarted, match="is `twistd pycomnet-factory` running"):
        await group.makegateway()
    with pytest.raises(pycomnet.FactoryUnreachable):
        await group.resumable()
    start(started)
    again = await group.makegateway()
    assert await again.call("operator:add", 1, 2) == 3
    await group.close()


@pytest_twisted.ensureDeferred
async def test_port_requires_a_token_and_socket_this_user(started: Daemons) -> None:
    """On a port a token is needed; strangers get no gateway, and on the socket only this user."""
    token = started.directory / "token"
    options = ("--port", "0", "--token-file", str(token))
    daemon, address = start(started, *options)
    assert stat.S_IMODE(Path(address[5:]).stat().st_mode) == 0o600
    port = int(daemon.wait_for(r"listening on tcp:127.0.0.1:(\d+)")[1])
    from twisted.internet import reactor

    async with pycomnet.Group(reactor) as group:
        for given, words in (({}, "a token is needed"), ({"token": "z" * 43}, "nobody here has")):
            group.setlocalfactory(port=port, **given)
            with pytest.raises(pycomnet.GatewayNotStarted, match=words):
                await group.makegateway()
        group.setlocalfactory(port=port, token_file=token)
        gateway = await group.makegateway()
        assert await gateway.call("os:getcwd") == os.getcwd()
    last = answer(("127.0.0.1", port), Mux(True).data_to_send())[-1]
    assert last[1] == "credential"


@pytest_twisted.ensureDeferred
async def test_programs_are_bounded_and_stalled_ones_given_up(started: Daemons) -> None:
    """More programs than are allowed are refused; one that stands still is given up after a time,
    and what it had lingers for another."""
    # Longer than a program that runs is silent, on a busy machine too.
    _, address = start(started, "--programs", "1", "--keepalive", "2")
    with near(PROGRAM, address, "stream", "popen//id=build//linger=60") as program:
        pid = program.line()
        assert program.line() == 0
        group = group_of(address)
        with pytest.raises(pycomnet.GatewayNotStarted, match="1 programs are connected already"):
            await group.makegateway()
        stop(program.pid)
        end = time.monotonic() + PATIENCE
        while True:
            try:
                gateway = await group.makegateway("popen//id=build//resume=yes")
                break
            except pycomnet.GatewayNotStarted as problem:
                assert time.monotonic() < end, str(problem)
        assert gateway.info["pid"] == pid
        [channel] = gateway.resumed.values()
        numbers = [(await channel.receive())[0] for _ in range(100)]
        assert numbers == list(range(numbers[0], numbers[0] + 100))
        await group.close()
        assert await group.resumable() == []
        await group.close()
        program.signal(signal.SIGCONT)
        assert "silent" in program.ended()[2] or program.ended()[0] != 0


@pytest_twisted.ensureDeferred
async def test_gateways_are_bounded_and_idle_ones_ended(started: Daemons) -> None:
    """More gateways than are allowed are refused; one where nothing is done is ended."""
    _, address = start(started, "--gateways", "1", "--idle-timeout", "2")
    group = group_of(address)
    gateway = await group.makegateway()
    busy = gateway.remote_exec("import time; time.sleep(2.5)")
    with pytest.raises(pycomnet.GatewayNotStarted, match="1 gateways, its limit"):
        await group.makegateway()
    await busy.waitclose()
    with pytest.raises(pycomnet.GatewayDied, match="nothing was done there for 2 seconds"):
        await gateway.newchannel().waitclose()
    await gateway.join()
    await group.close()


@pytest_twisted.ensureDeferred
async def test_gateways_of_a_program_are_bounded_until_others_resume_them(started: Daemons) -> None:
    """A program that has as many as one may have is refused another, and no other program is: also
    when it has left them, until another goes on with one."""
    _, address = start(started, "--each", "2")
    one, other = group_of(address), group_of(address)
    left = await one.makegateway("popen//id=a//linger=60")
    ended = await one.makegateway()
    with pytest.raises(pycomnet.GatewayNotStarted, match="has 2 gateways in the factory, the lim"):
        await one.makegateway()
    await left.leave()
    await resumable(other, "a")
    with pytest.raises(pycomnet.GatewayNotStarted, match="the limit for one program"):
        await one.makegateway()
    again = await one.makegateway("popen//id=a//resume=yes")
    await again.leave()
    await resumable(other, "a")
    await other.makegateway("popen//id=a//resume=yes")
    await one.makegateway()
    await other.makegateway()
    with pytest.raises(pycomnet.GatewayNotStarted, match="the limit for one program"):
        await other.makegateway()
    await ended.exit()
    await one.makegateway()
    await other.close()
    await one.close()


@pytest_twisted.ensureDeferred
async def test_terminated_group_has_closed_its_connection(started: Daemons) -> None:
    """A group that has ended leaves no connection that is still being closed."""
    _, address = start(started)
    async with group_of(address) as group:
        await group.makegateway("popen")
        connection: Any = group._factory._connection  # type: ignore[union-attr]
        await group.terminate()
        assert connection.lost is not None
        # It can be used again.
        gateway = await group.makegateway("popen")
        assert await gateway.call("operator:add", 1, 2) == 3


@pytest_twisted.ensureDeferred
async def test_via_gateways_are_the_factorys_and_end_with_each_other(started: Daemons) -> None:
    """Gateways through each other are the factory's, too, and end with each other."""
    _, address = start(started)
    async with group_of(address) as group:
        outer = await group.makegateway("popen//id=outer")
        inner = await group.makegateway("popen//via=outer")
        assert await inner.call("operator:add", 1, 2) == 3
        pids = [gateway.info["pid"] for gateway in (outer, inner)]
        with pytest.raises(pycomnet.GatewayNotStarted, match="no gateway 'nobody'"):
            await group.makegateway("popen//via=nobody")
        await outer.exit()
        with pytest.raises(pycomnet.GatewayDied, match="outer"):
            await inner.newchannel().receive()
        assert still_there(pids) == []


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--listen", "tcp:0", "has no TLS"),
        ("--keepalive", "no", "--keepalive: expected a number of seconds from 0.1"),
        ("--each", "0", "--each: expected a whole number from 1"),
    ],
)
def test_impossible_options_are_refused_at_the_start(
    started: Daemons, option: str, value: str, says: str
) -> None:
    """What makes no sense is said, and nothing is started."""
    daemon = started.start("pycomnet-factory", option, value)
    assert daemon.wait() == 1
    assert says in daemon.said


def test_second_factory_on_a_socket_fails(started: Daemons) -> None:
    """A second factory on the same socket ends with an error."""
    _, address = start(started)
    second = started.start("pycomnet-factory", "--listen", address)
    assert second.wait() == 1
    assert "can't listen" in second.said
    with socket.socket(socket.AF_UNIX) as still:
        still.connect(address[5:])


def test_one_of_two_factories_gets_a_stale_socket(started: Daemons) -> None:
    """Of two that are started when one was killed, one has the socket, and the other says so."""
    killed, address = start(started)
    killed.signal(signal.SIGKILL)
    killed.wait()
    both = [started.start("pycomnet-factory", "--listen", address) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        waiting = {pool.submit(daemon.process.wait, PATIENCE): daemon for daemon in both}
        [ended] = wait(waiting, PATIENCE, FIRST_COMPLETED).done
        loser = waiting.pop(ended)
        [winner] = waiting.values()
        winner.wait_for("listening on")
        assert ended.result() == 1
        assert "can't listen" in loser.said
        with socket.socket(socket.AF_UNIX) as still:
            still.connect(address[5:])
        winner.signal()


@pytest_twisted.ensureDeferred
async def test_programs_share_an_ssh_connection_and_resume_over_it(
    started: Daemons, tmp_path: Path
) -> None:
    """The programs of a user share one ssh connection to a host, and go on with its gateways."""
    with sshd(started.directory) as server:
        daemon, address = start(started)
        one, two = group_of(address), group_of(address)
        first = await one.makegateway(f"{server.spec()}//id=build//linger=60")
        pid = first.info["pid"]
        connections = ssh_children(daemon.pid)
        assert len(connections) == 1
        channel = first.remote_exec("channel.send(1); channel.send(channel.receive())")
        assert await channel.receive() == 1
        await channel.send(2)
        second = await two.makegateway(server.spec())
        assert ssh_children(daemon.pid) == connections
        await first.leave()
        await one.close()
        again = await two.makegateway(f"{server.spec()}//id=build//resume=yes")
        assert again.info["pid"] == pid
        assert await again.resumed[channel.id].receive() == 2
        assert await second.call("operator:add", 1, 2) == 3
        await two.close()
        daemon.signal(signal.SIGTERM)
        await daemon.ended()
        assert still_there(connections) == []


@pytest_twisted.ensureDeferred
async def test_gateway_can_be_resumed_when_leave_fires(started: Daemons) -> None:
    """When ``leave`` fires, any other program can go on with the gateway."""
    _, address = start(started)
    groups = [group_of(address), group_of(address)]
    gateway = await groups[0].makegateway("popen//id=build//linger=60")
    pid = gateway.info["pid"]
    for turn in range(1, 40):
        await gateway.leave()
        gateway = await groups[turn % 2].makegateway("popen//id=build//resume=yes")
        assert gateway.info["pid"] == pid
    for group in groups:
        await group.close()


def ssh_children(pid: int) -> set[int]:
    """The ssh processes that a process has started."""
    return {child for child in children(pid) if command_line(child).startswith(b"ssh\0")}


def test_factory_howto_does_what_it_says(started: Daemons) -> None:
    """docs/howto/factory.rst does what it says, with the service where it is by itself."""
    there = str(started.directory)
    started.start("pycomnet-factory", XDG_RUNTIME_DIR=there).wait_for("listening on")
    text = (ROOT / "docs" / "howto" / "factory.rst").read_text()
    blocks = re.findall(r"\.\. code-block:: python\n\n((?:   .*\n|\n)+)", text)
    said = []
    for block in blocks:
        if "import" in block:
            script = started.directory / "page.py"
            script.write_text(textwrap.dedent(block))
            argv = [sys.executable, str(script)]
            ran = subprocess.run(
                argv,
                env=environment(XDG_RUNTIME_DIR=there),
                capture_output=True,
                text=True,
                timeout=PATIENCE,
            )
            assert ran.returncode == 0, ran.stderr
            said.append(ran.stdout)
    assert said[0] == "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]\n"
    assert said[1].split()[1:] == ["0", "1"]
    assert said[2].endswith("\n[2, 3, 4, 5, 6, 7, 8, 9]\n")
