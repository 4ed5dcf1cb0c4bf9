"""Gateways over ssh, against a real sshd."""

from __future__ import annotations

import ast
import contextlib
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.internet import defer

import pycomnet
from pycomnet.test.processes import children, command_line, parent, still_there, stop
from pycomnet.test.system.daemons import COMMAND, PATIENCE, environment
from pycomnet.test.system.near_side import BEGIN, FAR_CODE
from pycomnet.test.system.nearby import ROOT, near, processes_end
from pycomnet.test.system.sshd import Sshd, python, sshd
from pycomnet.test.system.suites import run_suite
from pycomnet.test.waiting import wait_until

NEAR_SIDE = str(Path(__file__).with_name("near_side.py"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: Any) -> Iterator[Sshd]:
    """An sshd for all tests here."""
    with sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest_twisted.async_yield_fixture
async def group() -> AsyncIterator[Any]:
    """A group that keeps what is printed, as ``group.printed``."""
    from twisted.internet import reactor

    printed: list[pycomnet.Output] = []
    made: Any = pycomnet.Group(reactor, output=printed.append)
    made.printed = printed
    yield made
    await made.close()


def ssh_processes() -> set[int]:
    """The ssh clients that this process has started."""
    return {pid for pid in children(os.getpid()) if command_line(pid).startswith(b"ssh\0")}


async def refused(group: Any, spec: str, **options: Any) -> pycomnet.GatewayNotStarted:
    """The error that making this gateway ends with."""
    with pytest.raises(pycomnet.GatewayNotStarted) as caught:
        await group.makegateway(spec, **options)
    assert len(group) == 0
    return caught.value


@pytest_twisted.ensureDeferred
async def test_gateways_of_a_host_share_one_connection(server: Sshd, group: Any) -> None:
    """Further gateways at a host make no new connection, and all live apart."""
    gateways = [await group.makegateway(server.spec()) for _ in range(3)]
    assert len(ssh_processes()) == 1
    pids = [await gateway.call("os:getpid") for gateway in gateways]
    assert len(set(pids)) == 3
    await gateways[0].exit()
    assert await gateways[1].call("operator:add", 1, 2) == 3
    alone = await group.makegateway(server.spec() + "//fork=no")
    assert await alone.call("operator:add", 1, 2) == 3
    assert len(ssh_processes()) == 2
    await group.terminate()
    assert not ssh_processes()
    assert still_there(pids) == []


@pytest_twisted.ensureDeferred
async def test_ssh_arguments_and_spec_keys_are_used(server: Sshd, group: Any) -> None:
    """ssh's own arguments, split as a shell does; keys of the spec as with others."""
    directory = server.directory
    text = (
        f"127.0.0.1 -p {server.port} -i '{directory}/user' -F none "
        f"-o UserKnownHostsFile={directory}/known -o 'LogLevel ERROR'"
    )
    gateway = await group.makegateway(
        f"ssh={text}//python='{python()}' -X 'an option=x y'//chdir=/usr//env:PYCOMNET_A=a b"
    )
    source = "import os, sys; channel.send([sys._xoptions, os.getcwd(), os.environ['PYCOMNET_A']])"
    got = await gateway.remote_exec(source).receive()
    assert got == [{"an option": "x y"}, "/usr", "a b"]


@pytest_twisted.ensureDeferred
async def test_interpreter_variables_are_set_at_the_start(server: Sshd, group: Any) -> None:
    """Variables that an interpreter reads when it starts are there when it does."""
    one, two = [
        await group.makegateway(server.spec() + f"//env:PYTHONHASHSEED={seed}") for seed in (1, 2)
    ]
    assert await one.call("builtins:hash", "x") != await two.call("builtins:hash", "x")


@pytest_twisted.ensureDeferred
async def test_profiles_output_does_no_harm(server: Sshd, group: Any) -> None:
    """What a profile prints before us is no harm; without Python it is in the error."""
    gateway = await group.makegateway(server.spec("noisy"))
    assert await gateway.call("operator:add", 1, 2) == 3
    await gateway.exit()
    spec = f"ssh=noisy//ssh_config={server.config}//python=/no/such/python"
    error = await refused(group, spec)
    assert "had printed:\nWelcome to this machine" not in str(error)  # only its end is shown
    assert "before its hello it had printed:" in str(error)
    assert "from the profile" in error.stderr
    assert re.search("/no/such/python.*(not found|No such file)", error.stderr)
    assert error.exit_status == 127


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("unknown", "Host key verification failed"),
        ("stranger", "Permission denied"),
        ("closed", "Connection refused"),
        (
            "box -o LogLevel=INFO -o ProxyCommand=false",
            "closed by|Broken pipe",
        ),  # what it sees first
        ("box -o NoSuchOption=1", "Bad configuration option"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_ssh_errors_are_in_the_error_and_shown(
    server: Sshd, group: Any, host: str, words: str
) -> None:
    """What ssh says of why it fails is in the error, and shown."""
    error = await refused(group, server.spec(host))
    assert re.search(words, error.stderr)
    assert "ssh ended before it said hello: it exited with status 255" in str(error)
    assert error.exit_status == 255
    assert re.search(words, "".join(output.text for output in group.printed))


@pytest_twisted.ensureDeferred
async def test_missing_interpreter_is_named(server: Sshd, group: Any) -> None:
    """No interpreter there, and one that is none."""
    spec = f"ssh=box//ssh_config={server.config}//python="
    assert "/no/such" in (await refused(group, spec + "/no/such")).stderr
    error = await refused(group, spec + "/bin/echo")
    assert "before its hello it had printed:" in str(error)


@pytest_twisted.ensureDeferred
async def test_several_hosts_start_side_by_side_and_fail_together(server: Sshd, group: Any) -> None:
    """Several hosts side by side within a bound; those that fail are told of together."""
    specs = [server.spec("box -o ControlPath=none"), *[server.spec()] * 4, server.spec("closed")]
    told: list[Any] = []
    with pytest.raises(pycomnet.GatewaysNotStarted) as caught:
        await group.makegateways(specs, parallel=3, progress=told.append)
    error = caught.value
    assert [gateway is None for gateway in error.gateways] == [False] * 5 + [True]
    assert "1 of 6 gateways could not be started" in str(error)
    assert "Connection refused" in str(error)
    assert [progress.done for progress in told] == [1, 2, 3, 4, 5, 6]
    assert sum(progress.error is not None for progress in told) == 1
    assert await error.gateways[0].call("operator:add", 1, 2) == 3


def test_command_reports_failed_hosts_last(server: Sshd) -> None:
    """``--on 'ssh=host{1..10}'``: those that fail are reported together, last, the rest goes on."""
    spec = server.spec("host{1..10}")
    command = [*COMMAND, "run", "--on", spec, "-c", "print('here')"]
    ran = subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=PATIENCE
    )
    assert ran.returncode == 1
    there = [n for n in range(1, 11) if n not in (3, 7)]
    assert sorted(ran.stdout.splitlines()) == sorted(f"[gw{n - 1}] here" for n in there)
    first, _, last = ran.stderr.partition("pycomnet: 2 of 10 gateways could not be started:\n")
    assert "Connection refused" in first and "Host key verification failed" in first
    told = [line for line in last.splitlines() if line.startswith("  gateway ")]
    assert [line.split("//")[0] for line in told] == [
        "  gateway gw2 (ssh=host3",
        "  gateway gw6 (ssh=host7",
    ]


async def losses(
    gateways: list[Any], codes: list[str] | None = None
) -> tuple[list[int], list[Any]]:
    """The processes of gateways, and Deferreds that wait for something of each."""
    codes = codes or ["receive"] * len(gateways)
    channels = [
        gateway.remote_exec(BEGIN + FAR_CODE[code])
        for gateway, code in zip(gateways, codes, strict=True)
    ]
    pids = [pid for channel in channels for pid in await channel.receive()]
    # Some have run to their end, and their threads or children go on.
    return pids, [gateway.newchannel().receive() for gateway in gateways]


async def reasons(waiting: list[Any]) -> list[str]:
    """Why they all fail."""
    results = await defer.DeferredList(waiting, consumeErrors=True)
    assert all(result.check(pycomnet.GatewayDied) for _, result in cast(Any, results))
    return [str(result.value) for _, result in cast(Any, results)]


@pytest_twisted.ensureDeferred
async def test_silent_connection_is_given_up_by_both_ends(server: Sshd, group: Any) -> None:
    """The connection says nothing any more, and no end either: both ends give it up."""
    gateway = await group.makegateway(server.spec() + "//keepalive=2")
    pids, waiting = await losses([gateway])
    [client] = ssh_processes()
    try:
        with processes_end(pids):
            stop(client)
        [reason] = await reasons(waiting)
        assert "was silent for 4 seconds" in reason
    finally:
        os.kill(client, signal.SIGKILL)


@pytest_twisted.ensureDeferred
async def test_busy_worker_is_not_taken_for_silent(server: Sshd, group: Any) -> None:
    """A worker that computes, and one that trickles, are not taken for silent."""
    gateway = await group.makegateway(server.spec() + "//keepalive=2")
    source = "import time\nfor n in range(5):\n    time.sleep(1)\n    channel.send(n)"
    channel = gateway.remote_exec(source)
    assert [value async for value in channel] == list(range(5))


def test_killed_near_side_takes_own_connections_along(server: Sshd) -> None:
    """The near side is killed with -9: connections of their own end with it, too."""
    spec = server.spec("shared") + "//fork=no"
    codes = ("swallow", "c_call", "stubborn")
    with near(NEAR_SIDE, "wait", *codes, PYCOMNET_TEST_SPEC=spec) as one, processes_end(one.line()):
        one.signal(signal.SIGKILL)


@pytest_twisted.ensureDeferred
async def test_broken_hop_is_named(server: Sshd, group: Any) -> None:
    """``ssh=inner//via=bastion``: a hop that breaks is named, and so is one that can't be made."""
    await group.makegateway(server.spec() + "//id=bastion")
    inner = await group.makegateway(server.spec() + "//via=bastion//id=inner")
    beside = await group.makegateway("popen//via=inner//id=beside")
    assert len(ssh_processes()) == 1
    with pytest.raises(pycomnet.GatewayNotStarted, match="ssh exited with status 255") as caught:
        await group.makegateway(server.spec("unknown") + "//via=bastion")
    assert "Host key verification failed" in str(caught.value)
    pids, waiting = await losses([inner, beside])
    hop = hop_of(server)
    os.kill(hop, signal.SIGKILL)
    for reason in await reasons(waiting):
        assert "the route to it is gone: " in reason
        assert "ssh was killed by signal 9" in reason
    assert still_there(pids) == []
    assert await group["bastion"].call("operator:add", 1, 2) == 3


@pytest_twisted.ensureDeferred
async def test_silent_hop_is_given_up_by_both_ends(server: Sshd, group: Any) -> None:
    """A connection further on says nothing any more: both of its ends give it up."""
    await group.makegateway(server.spec() + "//id=bastion")
    inner = await group.makegateway(server.spec() + "//via=bastion//keepalive=2")
    pids, waiting = await losses([inner], ["swallow"])
    with processes_end(pids):
        stop(hop_of(server))
    [reason] = await reasons(waiting)
    assert "ssh: it was silent for 6 seconds" in reason
    assert await group["bastion"].call("operator:add", 1, 2) == 3


def hop_of(server: Sshd) -> int:
    """The ssh client of this sshd that a supervisor has started; those of other tests are others'.

    One that was killed a moment ago may still be there.
    """

    def hops() -> list[int]:
        found = []
        for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
            words = command_line(pid)
            if words.startswith(b"ssh\0-T\0") and server.config.encode() in words:
                with contextlib.suppress(OSError):  # it has ended
                    found += [pid] * (b"base64" in command_line(parent(pid)))
        return found if len(found) == 1 else []

    [hop] = wait_until(hops, "there is one hop")
    return hop


def test_howtos_programs_do_what_they_say(server: Sshd, tmp_path: Path) -> None:
    """The programs of docs/howto/ssh.rst do what they say."""
    text = (ROOT / "docs" / "howto" / "ssh.rst").read_text()
    programs = re.findall(r"^\.\. code-block:: python\n\n((?:   .*\n|\n)+)", text, re.M)
    assert len(programs) == 3
    for number, program in enumerate(programs):
        script = tmp_path / f"program{number}.py"
        script.write_text(
            textwrap.dedent(program).replace("ssh=build.example", server.spec("shared"))
        )
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        argv = [sys.executable, str(script)]
        ran = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=PATIENCE)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert ran.stdout, program
        assert not ran.stderr, ran.stderr


def test_hierarchy_howto_works_with_hosts(server: Sshd, tmp_path: Path) -> None:
    """docs/howto/hierarchy.rst with the specs that it has for hosts: ``ssh=inner//via=bastion``."""
    text = (ROOT / "docs" / "examples" / "hierarchy.py").read_text()
    for name in ("popen//id=bastion", "popen//via=bastion//id=inner"):
        assert text.count(f'"{name}"') == 1
        text = text.replace(f'"{name}"', repr(server.spec() + name.removeprefix("popen")))
    script = tmp_path / "hierarchy.py"
    script.write_text(text)
    argv = [sys.executable, str(script)]
    ran = subprocess.run(argv, env=environment(), capture_output=True, text=True, timeout=PATIENCE)
    assert ran.returncode == 0, ran.stderr
    assert not ran.stderr
    said = [line.split(" ", 1) for line in ran.stdout.splitlines()]
    assert [id for id, _ in said] == ["bastion", "inner", "gw0"]
    pids = {ast.literal_eval(pids)[0] for _, pids in said}
    assert len(pids) == 3
    assert still_there(pids) == []


def test_passes_the_suite(server: Sshd, tmp_path: Path) -> None:
    """The whole gateway suite."""
    run_suite(server.spec("shared"), tmp_path)
