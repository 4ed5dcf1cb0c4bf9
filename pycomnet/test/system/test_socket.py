"""``twistd pycomnet-gateway``: who may come in, what they get, and that nothing of it stays."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import trustme
from twisted.internet import defer

import pycomnet
from pycomnet.auth.tokens import new_token
from pycomnet.test.processes import children, still_there
from pycomnet.test.system.daemons import PATIENCE, Daemon, Daemons, daemons
from pycomnet.test.system.suites import run_endings, run_suite
from pycomnet.test.waiting import until
from pycomnet.wire.frames import GOAWAY
from pycomnet.wire.mux import EV_GOAWAY, Mux

NEAR_SIDE = str(Path(__file__).with_name("near_side.py"))


@pytest.fixture
def started(tmp_path_factory: Any) -> Iterator[Daemons]:
    """Daemons in a directory whose name is short enough for a socket's."""
    with daemons(tmp_path_factory.mktemp("s")) as running:
        yield running


def start(started: Daemons, *options: str, listen: str = "") -> tuple[Daemon, str]:
    """A service; the spec that its log says."""
    where = listen or "tcp:0:interface=127.0.0.1"
    token = () if "--tokens" in options or where.startswith("unix:") else ("--token-file", "token")
    daemon = started.start("pycomnet-gateway", "--listen", where, *token, *options)
    spec = daemon.wait_for(r"clients reach it with (\S+)")[1]
    return daemon, spec.replace("token_file=token", f"token_file={started.directory}/token")


def test_passes_the_suite(started: Daemons, tmp_path: Path) -> None:
    """The whole gateway suite, on a port."""
    _, spec = start(started)
    run_suite(spec, tmp_path)


def test_passes_the_suite_on_a_unix_socket(started: Daemons, tmp_path: Path) -> None:
    """On a unix socket: how gateways start and end. The bytes are carried as on a port."""
    _, spec = start(started, listen=f"unix:{started.directory}/sock")
    run_endings(spec, tmp_path)


def answer(address: tuple[str, int], data: bytes) -> list[tuple[Any, ...]]:
    """What the service answers to these bytes until it closes the connection, as events."""
    with socket.create_connection(address, PATIENCE) as connection:
        connection.sendall(data)
        came = b""
        while piece := connection.recv(65536):
            came += piece
    return [tuple(event) for event in Mux(True).receive_data(came)]


def test_strangers_are_told_why_and_no_more(started: Daemons) -> None:
    """Who gives no token, a wrong one, or something else than a hello is told so, and no more."""
    daemon, spec = start(started)
    address = ("127.0.0.1", int(spec.split("//")[0].rpartition(":")[2]))
    for data, code in (
        (Mux(True).data_to_send(), "credential"),
        (Mux(True, credential=b"x" * 43).data_to_send(), "credential"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "hello"),
        (bytes(100), "hello"),
    ):
        last = answer(address, data)[-1]
        assert (last[0], last[1]) == (EV_GOAWAY, code)
        assert not children(daemon.pid)
    assert GOAWAY == 9
    assert "x" * 43 not in daemon.said


@pytest_twisted.ensureDeferred
async def test_refused_or_missing_service_says_why(started: Daemons) -> None:
    """A gateway that may not come in says why; one whose service isn't there too."""
    from twisted.internet import reactor

    daemon, spec = start(started)
    where = spec.split("//")[0]
    async with pycomnet.Group(reactor) as group:
        for text, words in (
            (where, "a token is needed"),
            (f"{where}//token={'y' * 43}", "nobody here has such a token"),
            ("socket=127.0.0.1:1", "nothing listens there"),
            (f"{where}//token_file=/nowhere", "can't read it"),
            (f"{where}//ca=/nowhere", "has no TLS"),
        ):
            with pytest.raises(pycomnet.GatewayNotStarted, match=words) as caught:
                await group.makegateway(text)
            assert "y" * 43 not in str(caught.value)
        gateway = await group.makegateway(f"{spec}//id=there//chdir=/")
        assert await gateway.call("os:getcwd") == "/"
    assert daemon.process.poll() is None


@pytest_twisted.ensureDeferred
async def test_own_user_needs_no_token_on_a_unix_socket(started: Daemons) -> None:
    """On a unix socket this user needs no token, and no other user gets there."""
    from twisted.internet import reactor

    path = started.directory / "sock"
    daemon, spec = start(started, listen=f"unix:{path}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    async with pycomnet.Group(reactor) as group:
        one = await group.makegateway(spec)
        two = await group.makegateway(f"popen//via={one.id}")
        three = await group.makegateway(f"{spec}//python={sys.executable} -S")
        pids = {gateway.info["pid"] for gateway in (one, two, three)}
        assert len(pids) == 3
        # All of a group's gateways share one connection, and one supervisor.
        assert len(children(daemon.pid)) == 1
        assert await two.call("operator:add", 1, 2) == 3
        assert await three.call("sys:exc_info") == (None, None, None)
        await two.exit()
        assert await one.ping() > 0
    assert still_there(pids) == []


@pytest_twisted.ensureDeferred
async def test_withdrawn_token_ends_what_it_started(started: Daemons) -> None:
    """Without a restart: its gateways end, also a busy one, and no new ones are started. Those of
    another token go on.
    """
    from twisted.internet import reactor

    tokens = started.directory / "tokens.ini"
    made = {name: new_token() for name in ("alice", "bob")}

    def write(*names: str) -> None:
        new = started.directory / "new"
        new.write_text("".join(f"[{name}]\ntoken = {made[name]}\n" for name in names))
        new.chmod(0o600)
        new.replace(tokens)

    write("alice", "bob")
    daemon, spec = start(started, "--tokens", str(tokens))
    where = spec.split("//")[0]
    async with pycomnet.Group(reactor) as alices, pycomnet.Group(reactor) as bobs:
        alice = await alices.makegateway(f"{where}//token={made['alice']}")
        bob = await bobs.makegateway(f"{where}//token={made['bob']}")
        busy = alice.call("time:sleep", 1000)
        pid = alice.info["pid"]
        assert len(children(daemon.pid)) == 2
        write("bob")
        with pytest.raises(pycomnet.PycomnetError):
            await busy
        with pytest.raises(pycomnet.GatewayNotStarted, match="nobody here has such a token"):
            await alices.makegateway(f"{where}//token={made['alice']}")
        await until(lambda: not still_there({pid}, 0), "the process of alice has ended")
        await until(lambda: len(children(daemon.pid)) == 1, "so has its supervisor")
        assert await bob.call("operator:add", 1, 2) == 3
        write("bob", "alice")
        again = await alices.makegateway(f"{where}//token={made['alice']}")
        assert await again.call("operator:add", 1, 2) == 3
    assert not any(token in daemon.said for token in made.values())


#: As another user, connects to a unix socket, says what it is given in hex, and prints the answer.
OTHER_USER = """
import os, socket, sys
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
with socket.socket(socket.AF_UNIX) as peer:
    peer.settimeout(30)
    peer.connect(sys.argv[1])
    peer.sendall(bytes.fromhex(sys.argv[2]))
    came = b""
    while piece := peer.recv(65536):
        came += piece
print(came.hex())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
@pytest.mark.parametrize("name", ["pycomnet-gateway", "pycomnet-factory"])
def test_another_user_on_a_unix_socket_is_refused(name: str) -> None:
    """Another user who can reach the socket, as its mode allows it, is refused by who they are."""
    with tempfile.TemporaryDirectory() as made, daemons(Path(made)) as running:
        os.chmod(made, 0o755)
        path = f"{made}/sock"
        daemon = running.start(name, "--listen", f"unix:{path}:mode=666")
        daemon.wait_for("listening")
        argv = [sys.executable, "-c", OTHER_USER, path, Mux(True).data_to_send().hex()]
        ran = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE)
        assert ran.returncode == 0, ran.stderr
        last = [tuple(event) for event in Mux(True).receive_data(bytes.fromhex(ran.stdout))][-1]
        assert (last[0], last[1]) == (EV_GOAWAY, "credential"), last
        assert "a token is needed" in last[2]
        assert not children(daemon.pid)


@pytest_twisted.ensureDeferred
async def test_client_certificate_is_enough_over_tls(started: Daemons) -> None:
    """Over TLS, a certificate of the right authority is enough, and its absence is refused."""
    from twisted.internet import reactor

    there = started.directory
    authority = trustme.CA()
    authority.cert_pem.write_to_path(there / "ca.pem")
    server, client = authority.issue_cert("localhost"), authority.issue_cert("alice")
    server.private_key_pem.write_to_path(there / "server.key")
    server.cert_chain_pems[0].write_to_path(there / "server.pem")
    client.private_key_pem.write_to_path(there / "client.key")
    client.cert_chain_pems[0].write_to_path(there / "client.pem")
    listen = (
        f"tls:0:interface=127.0.0.1:privateKey={there}/server.key:certKey={there}/server.pem"
        f":clientCAs={there}/ca.pem"
    )
    daemon = started.start("pycomnet-gateway", "--listen", listen)
    found = daemon.wait_for(r"socket=tls:[^:]*:(\d+)")
    where = f"socket=tls:localhost:{found[1]}"
    async with pycomnet.Group(reactor) as group:
        own = f"{where}//ca={there}/ca.pem//cert={there}/client.pem//key={there}/client.key"
        gateway = await group.makegateway(own)
        blob = os.urandom(3_000_000)
        channel = gateway.remote_exec("channel.send(channel.receive())")
        channel.send(blob)
        assert await channel.receive() == blob
        await daemon.seen("alice is here")
        with pytest.raises(pycomnet.GatewayNotStarted, match="certificate"):
            await group.makegateway(f"{where}//ca={there}/ca.pem")
        with pytest.raises(pycomnet.GatewayNotStarted, match="not among those that are trusted"):
            await group.makegateway(where)


@pytest_twisted.ensureDeferred
async def test_clients_and_workers_over_the_limits_are_refused(started: Daemons) -> None:
    """More programs, or more workers, than are allowed are refused; those that are there go on."""
    from twisted.internet import reactor

    daemon, spec = start(started, "--clients", "1", "--workers", "2")
    group, other = pycomnet.Group(reactor), pycomnet.Group(reactor)
    async with group, other:
        one, two = await defer.gatherResults([group.makegateway(spec) for _ in range(2)])
        with pytest.raises(pycomnet.GatewayNotStarted, match="no more than 2 processes"):
            await group.makegateway(spec)
        with pytest.raises(pycomnet.GatewayNotStarted, match="1 programs, its limit"):
            await other.makegateway(spec)
        await two.exit()
        again = await group.makegateway(spec)
        assert await one.ping() > 0 and await again.ping() > 0
    await daemon.seen("is gone")


def test_listening_to_others_without_tls_is_refused(started: Daemons) -> None:
    """To listen where others can reach it, without TLS, has to be asked for."""
    for options, words in (
        (("--listen", "tcp:0"), "has no TLS"),
        (("--clients", "0"), "--clients: expected a whole number from 1"),
        (("--tokens", "nowhere"), "can't read it"),
    ):
        daemon = started.start("pycomnet-gateway", *options)
        assert daemon.wait() == 1
        assert words in " ".join(daemon.said.split())
