"""Gateways through a mediator: as popen ones, over a WebSocket and requests, through proxies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import trustme
from twisted.internet import defer, task
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.protocols import portforward

import pycomnet
from pycomnet.mediator.client import posting
from pycomnet.mediator.client.posting import MAX_DROPS
from pycomnet.test.processes import resident, still_there
from pycomnet.test.system.cutting import carry_through_cuts
from pycomnet.test.system.daemons import PATIENCE, Daemons, daemons, environment
from pycomnet.test.system.mediators import Mediator, nginx, reserved_port
from pycomnet.test.system.suites import run_suite


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Daemons]:
    """Daemons that end with the test."""
    with daemons(tmp_path) as started:
        yield started


@pytest.fixture
def mediator(running: Daemons) -> Mediator:
    """A server."""
    return Mediator(running)


async def link_of(gateway: pycomnet.Gateway) -> Any:
    """What carries a gateway now."""
    return gateway.link.transport._stream._link  # type: ignore[attr-defined]


def echo(channel):
    """Far code: send back what comes."""
    for value in channel:
        channel.send(value)


def pids():
    """Far code: the processes of a far side."""
    import os

    return os.getpid(), os.getppid()


async def check(gateway: pycomnet.Gateway, size: int = 3_000_000) -> None:
    """Small and large values go to and fro."""
    channel = gateway.remote_exec(echo)
    data = os.urandom(size)
    for value in (1, "x", data, {"a": [1, 2]}):
        await channel.send(value)
        assert await channel.receive() == value
    channel.close()


@pytest.mark.parametrize("websocket", ["yes", "no"])
def test_passes_the_suite(mediator: Mediator, tmp_path: Path, websocket: str) -> None:
    """The whole gateway suite, over a WebSocket and over requests alone."""
    run_suite(mediator.spec(websocket=websocket), tmp_path, jobs=2)


@pytest.mark.parametrize("websocket", ["yes", "no"])
@pytest_twisted.ensureDeferred
async def test_everything_arrives_once_through_cuts(mediator: Mediator, websocket: str) -> None:
    """Connections that are cut at any byte: all arrives, once; nothing of them is left."""
    from twisted.internet import reactor

    options = f"token_file={mediator.token_file}//websocket={websocket}"
    carried = await carry_through_cuts(
        reactor, mediator.port, mediator.pid, options, blocks=160, size=1 << 16, cuts=60
    )
    assert carried.cuts >= 60
    assert carried.blocks >= 160
    assert carried.grown < 32 << 20
    listed = mediator.curl("/").json
    assert listed["processes"] == []


@pytest_twisted.ensureDeferred
async def test_wish_works_with_await(mediator: Mediator) -> None:
    """The example of the wish, with ``await``."""
    from twisted.internet import reactor

    async with pycomnet.Group(reactor) as group:
        gw = await group.makegateway(mediator.spec())

        def fun(channel):
            return channel.send(channel.receive() + 1)

        ch = gw.remote_exec(fun)
        ch.send(1)
        assert await ch.receive() == 2


def test_wish_works_with_the_blocking_api(mediator: Mediator, tmp_path: Path) -> None:
    """The example as it stands, through the blocking API."""
    script = tmp_path / "wish.py"
    script.write_text(
        "import pycomnet.blocking\n"
        "group = pycomnet.blocking.Group()\n"
        f"gw = group.makegateway({mediator.spec()!r})\n"
        "def fun(channel):\n"
        "    return channel.send(channel.receive()+1)\n"
        "ch = gw.remote_exec(fun)\n"
        "ch.send(1)\n"
        "x = ch.receive()\n"
        "assert x == 2\n"
        "print('as wished')\n"
    )
    ran = subprocess.run(
        [sys.executable, str(script)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (ran.returncode, ran.stdout) == (0, "as wished\n"), ran.stderr
    mediator.daemon.wait_for("ended .* of default")


@pytest_twisted.ensureDeferred
async def test_gateways_work_through_nginx(
    mediator: Mediator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through a real nginx: as it is by itself, buffering all, and as the howto has it."""
    from twisted.internet import reactor

    with reserved_port() as port, nginx(tmp_path, mediator.port, port):
        async with pycomnet.Group(reactor) as group:
            where = f"http=127.0.0.1:{port}"
            token = f"//token_file={mediator.token_file}"
            gateway = await group.makegateway(f"{where}/code{token}")
            await check(gateway)
            link = await link_of(gateway)
            assert type(link).__name__ == "Posting"
            assert (link._up, link._down) == (False, False), "it noticed no buffering"
            gateway = await group.makegateway(f"{where}/live{token}")
            assert type(await link_of(gateway)).__name__ == "WebSocketLink"
            await check(gateway)
            # A machine that is only slow must not be taken for a proxy that buffers.
            monkeypatch.setattr(posting, "PROBE_TIMEOUT", float(PATIENCE))
            monkeypatch.setattr(posting, "TRIAL", 1.0)
            gateway = await group.makegateway(f"{where}/live{token}//websocket=no")
            await check(gateway)
            link = await link_of(gateway)
            end = time.monotonic() + PATIENCE
            while link._up is None and time.monotonic() < end:  # it tries that for a while
                await gateway.call("operator:add", 1, 2)
            assert (link._up, link._down) == (True, True), "it does not stream"
            # What the proxy answers by itself says nothing of the far side.
            await gateway.call("operator:add", 1, 2)


@pytest_twisted.ensureDeferred
async def test_gateways_work_through_nginx_with_tls(mediator: Mediator, tmp_path: Path) -> None:
    """An nginx that has the certificate: checked, over a WebSocket, streaming and buffered."""
    from twisted.internet import reactor

    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    issued = authority.issue_cert("localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    with reserved_port() as port, nginx(tmp_path, mediator.port, port, tmp_path / "server.pem"):
        async with pycomnet.Group(reactor) as group:
            options = f"//token_file={mediator.token_file}//ca={tmp_path}/ca.pem"
            for path, websocket, link in (
                ("live", "auto", "WebSocketLink"),
                ("live", "no", "Posting"),
                ("code", "auto", "Posting"),
            ):
                where = f"https=localhost:{port}/{path}{options}//websocket={websocket}"
                gateway = await group.makegateway(where)
                await check(gateway)
                assert type(await link_of(gateway)).__name__ == link
            with pytest.raises(pycomnet.GatewayNotStarted, match="certificate"):
                await group.makegateway(f"https=127.0.0.1:{port}/live{options}")
            without = f"https=localhost:{port}/live//token_file={mediator.token_file}"
            with pytest.raises(pycomnet.GatewayNotStarted, match="certificate"):
                await group.makegateway(without)


class Faulty(portforward.ProxyServer):
    """A proxy's connection; once it is told to, it answers requests by itself."""

    factory: Any

    def connectionMade(self) -> None:
        self.factory.connections.add(self)
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        if self.factory.methods and data.startswith(self.factory.methods):
            self.factory.answered += 1
            head = b"HTTP/1.1 %d Wrong\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            self.transport.write(head % self.factory.status)
            self.transport.unregisterProducer()
            self.transport.loseConnection()
        else:
            super().dataReceived(data)


class FaultyProxy(portforward.ProxyFactory):
    """A proxy that fails, in all or in some requests.

    :ivar answered: how many it has answered by itself.
    """

    protocol = Faulty
    noisy = False

    def __init__(self, port: int) -> None:
        super().__init__("127.0.0.1", port)
        self.connections: set[Any] = set()
        self.methods: tuple[bytes, ...] = ()
        self.status = 0
        self.answered = 0

    def fail(self, methods: tuple[bytes, ...], status: int) -> None:
        """Answer these so from now on; what is under way is dropped."""
        self.methods, self.status = methods, status
        for one in self.connections:
            if one.transport.connected:
                one.transport.abortConnection()


@asynccontextmanager
async def through(
    proxy: FaultyProxy | CuttingProxy, mediator: Mediator
) -> AsyncIterator[tuple[pycomnet.Group, str]]:
    """A group, and the spec that leads through a proxy in this process to the mediator."""
    from twisted.internet import reactor

    endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
    listening = await endpoint.listen(proxy)
    group = pycomnet.Group(reactor)
    try:
        yield group, f"http=127.0.0.1:{listening.getHost().port}//token_file={mediator.token_file}"
    finally:
        await group.close()
        await defer.maybeDeferred(listening.stopListening)


@pytest.mark.parametrize(
    ("methods", "status"), [((b"POST", b"GET"), 502), ((b"POST",), 504), ((b"GET",), 500)]
)
@pytest_twisted.ensureDeferred
async def test_faulty_proxy_is_borne_for_the_linger_time(
    mediator: Mediator, methods: tuple[bytes, ...], status: int
) -> None:
    """A proxy that fails for ever, in all or one thing, is borne for so long; then it is said."""
    from twisted.internet import reactor

    proxy = FaultyProxy(mediator.port)
    async with through(proxy, mediator) as (group, where):
        gateway = await group.makegateway(f"{where}//linger=3//websocket=no")
        channel = gateway.remote_exec(echo)
        await channel.send(1)
        assert await channel.receive() == 1
        proxy.fail(methods, status)
        waiting = channel.receive()
        channel.send(2)
        words = rf"out of reach for \d+ s: .*HTTP status {status}.*; tried \d+ times"
        with pytest.raises(pycomnet.GatewayDied, match=words):
            await waiting.addTimeout(PATIENCE, reactor)


@pytest.mark.parametrize("websocket", ["yes", "no"])
@pytest_twisted.ensureDeferred
async def test_unauthorized_is_not_retried(mediator: Mediator, websocket: str) -> None:
    """A 401 ends it at once, at the start and later: the token does not get better by that."""
    from twisted.internet import reactor

    options = f"//linger=600//websocket={websocket}"
    proxy = FaultyProxy(mediator.port)
    async with through(proxy, mediator) as (group, where):
        try:
            gateway = await group.makegateway(where + options)
            waiting = gateway.remote_exec(echo).receive()
            proxy.fail((b"POST", b"GET", b"DELETE"), 401)
            with pytest.raises(pycomnet.GatewayDied, match="HTTP status 401"):
                await waiting.addTimeout(PATIENCE, reactor)
            # One for each thing that went on by itself: both streams, and what is written.
            assert 1 <= proxy.answered <= 4
        finally:
            proxy.methods = ()
    proxy = FaultyProxy(mediator.port)
    async with through(proxy, mediator) as (group, where):
        proxy.fail((b"POST", b"GET", b"DELETE"), 401)
        with pytest.raises(pycomnet.GatewayNotStarted, match="HTTP status 401"):
            await group.makegateway(where + options)
        assert proxy.answered == 1


class CutFromServer(portforward.ProxyClient):
    """The proxy's connection to the server: it is cut behind what comes first of some answers."""

    peer: Any
    transport: Any

    def dataReceived(self, data: bytes) -> None:
        self.peer.transport.write(data)
        if self.peer.cut_at and self.peer.cut_at in data:
            self.peer.factory.cuts += 1
            self.peer.transport.unregisterProducer()
            self.peer.transport.loseConnection()
            self.transport.abortConnection()


class CutFromServerFactory(portforward.ProxyClientFactory):
    protocol = CutFromServer


class Cutting(portforward.ProxyServer):
    """A proxy's connection that lets a long answer begin, and then cuts it."""

    clientProtocolFactory = CutFromServerFactory
    factory: Any
    transport: Any
    cut_at = b""

    def dataReceived(self, data: bytes) -> None:
        if data.startswith(b"GET"):
            # The WebSocket's first message; or what all answers of another kind have.
            cut_at = b'"received"' if self.factory.cuts_sockets else b""
            self.cut_at = cut_at if b"/ws?" in data else self.factory.cut_answers_at
        super().dataReceived(data)

    def connectionMade(self) -> None:
        self.factory.connections.add(self)
        super().connectionMade()


class CuttingProxy(portforward.ProxyFactory):
    """A proxy that lets WebSockets, and perhaps other answers, begin, and cuts each.

    :ivar cuts: how many it has cut.
    """

    protocol = Cutting
    noisy = False

    def __init__(self, port: int, cut_answers_at: bytes = b"") -> None:
        super().__init__("127.0.0.1", port)
        self.cut_answers_at = cut_answers_at
        self.cuts_sockets = True
        self.cuts = 0
        self.connections: set[Any] = set()

    def cut_from_now_on(self) -> None:
        """Cut what there is, and each WebSocket that there will be."""
        self.cuts_sockets = True
        for one in self.connections:
            if one.transport.connected:
                one.transport.abortConnection()


@pytest.mark.parametrize(
    ("options", "cut_answers_at"),
    [
        ("", b""),  # without the WebSocket it works
        ("//websocket=no", b"chunked"),  # with answers that are complete it does
        ("", b"chunked"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_way_that_is_always_cut_is_given_up_for_another(
    mediator: Mediator, options: str, cut_answers_at: bytes
) -> None:
    """A way that is let through and then cut, each time, is given up for another."""
    from twisted.internet import reactor

    proxy = CuttingProxy(mediator.port, cut_answers_at)
    async with through(proxy, mediator) as (group, where):
        gateway = await group.makegateway(f"{where}{options}", timeout=PATIENCE)
        channel = gateway.remote_exec(echo)
        for value in range(3):
            channel.send(value)
            assert await channel.receive().addTimeout(PATIENCE, reactor) == value
        ways = 1 + (not options and bool(cut_answers_at))
        assert MAX_DROPS <= proxy.cuts <= 4 * ways * MAX_DROPS


@pytest_twisted.ensureDeferred
async def test_only_way_always_cut_is_borne_for_the_linger_time(mediator: Mediator) -> None:
    """Where there is no other way it is borne for as long as no connection at all would be."""
    from twisted.internet import reactor

    proxy = CuttingProxy(mediator.port)
    async with through(proxy, mediator) as (group, where):
        proxy.cuts_sockets = False
        gateway = await group.makegateway(f"{where}//websocket=yes//linger=6", timeout=PATIENCE)
        channel = gateway.remote_exec(echo)
        channel.send(1)
        assert await channel.receive() == 1
        waiting = channel.receive()
        proxy.cut_from_now_on()
        words = r"no WebSocket to http://.* lasted for \d+ s: it was closed: .*; tried \d+ times"
        with pytest.raises(pycomnet.GatewayDied, match=words):
            await waiting.addTimeout(PATIENCE, reactor)
        assert 2 < proxy.cuts < 40


@pytest_twisted.ensureDeferred
async def test_gateway_waits_for_a_restarted_nginx(mediator: Mediator, tmp_path: Path) -> None:
    """While there is no proxy things wait; they go on with the next."""
    from twisted.internet import reactor

    directory = tmp_path / "first"
    directory.mkdir()
    with reserved_port() as port:
        with nginx(directory, mediator.port, port):
            group = pycomnet.Group(reactor)
            spec = f"http=127.0.0.1:{port}/live//token_file={mediator.token_file}"
            gateway = await group.makegateway(spec)
            channel = gateway.remote_exec(echo)
            await channel.send(1)
            assert await channel.receive() == 1
        channel.send(2)
        waiting = channel.receive()
        await task.deferLater(reactor, 0.3)  # so that it is tried in vain, too
        assert not waiting.called
        config = directory / "nginx" / "nginx.conf"
        process = subprocess.Popen(
            ["nginx", "-p", str(directory), "-c", str(config), "-e", "stderr"]
        )
        try:
            assert await waiting == 2
            await group.close()
        finally:
            process.terminate()
            process.wait(PATIENCE)


@pytest_twisted.ensureDeferred
async def test_certificates_name_and_authority_are_checked(
    running: Daemons, tmp_path: Path
) -> None:
    """With TLS: the name and the authority are checked."""
    from twisted.internet import reactor

    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    server = authority.issue_cert("localhost")
    server.private_key_pem.write_to_path(tmp_path / "key.pem")
    server.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    listen = f"tls:0:interface=127.0.0.1:privateKey={tmp_path}/key.pem:certKey={tmp_path}/cert.pem"
    mediator = Mediator(running, listen=listen)
    token = f"//token_file={mediator.token_file}"
    async with pycomnet.Group(reactor) as group:
        for websocket in ("yes", "no"):
            options = f"{token}//ca={tmp_path}/ca.pem//websocket={websocket}"
            gateway = await group.makegateway(f"https=localhost:{mediator.port}{options}")
            await check(gateway)
        for where, options in (
            (f"https=127.0.0.1:{mediator.port}", f"//ca={tmp_path}/ca.pem"),  # another name
            (f"https=localhost:{mediator.port}", ""),  # an authority that nobody knows
        ):
            with pytest.raises(pycomnet.GatewayNotStarted, match="certificate"):
                await group.makegateway(f"{where}{token}{options}")


@pytest_twisted.ensureDeferred
async def test_unreachable_or_refusing_mediator_is_said_at_once(
    mediator: Mediator, tmp_path: Path
) -> None:
    """What can't be reached, or does not let one in, is said at once."""
    from twisted.internet import reactor

    wrong = tmp_path / "wrong"
    wrong.write_text("a" * 40)
    wrong.chmod(0o600)
    async with pycomnet.Group(reactor) as group:
        for spec, words in (
            (f"{mediator.where}//token_file={wrong}", "nobody has such a token"),
            (f"{mediator.where}//token_file={tmp_path}/none", "No such file"),
            (mediator.where, "a token is needed"),
            (f"http=127.0.0.1:1//token_file={mediator.token_file}", "refused"),
            (f"{mediator.where}/nowhere//token_file={mediator.token_file}", "nothing here"),
            (mediator.spec(python="/no/such/python"), "No such file"),
            (mediator.spec(python="/bin/false"), "exited with status 1"),
            (mediator.spec(ca="/x"), "for https"),
        ):
            with pytest.raises(pycomnet.GatewayNotStarted, match=words) as caught:
                await group.makegateway(spec, timeout=PATIENCE)
            assert "a" * 40 not in str(caught.value)
            assert mediator.token not in str(caught.value)
    assert mediator.token not in mediator.daemon.said


@pytest_twisted.ensureDeferred
async def test_killed_server_leaves_no_process_and_clients_learn_why(running: Daemons) -> None:
    """No process outlives a server that is killed; clients learn why, in the time they gave."""
    from twisted.internet import reactor

    mediator = Mediator(running)
    async with pycomnet.Group(reactor) as group:
        gateways = [
            await group.makegateway(mediator.spec(websocket=websocket, linger=3))
            for websocket in ("yes", "no")
        ]
        processes = [pid for gateway in gateways for pid in await gateway.call(pids)]
        waiting = [gateway.remote_exec("channel.receive()").receive() for gateway in gateways]
        mediator.daemon.signal(signal.SIGKILL)
        for one in waiting:
            with pytest.raises(pycomnet.GatewayDied, match=r"out of reach for \d+ s: .*refused"):
                await one
        assert still_there(processes) == []


@pytest_twisted.ensureDeferred
async def test_killed_clients_far_side_ends_after_lingering(running: Daemons) -> None:
    """A client that is gone has its far side ended once it has been away for too long."""
    mediator = Mediator(running, "--linger", "2")
    code = (
        "import os, signal, sys, pycomnet.blocking\n"
        "group = pycomnet.blocking.Group()\n"
        "gw = group.makegateway(sys.argv[1])\n"
        "print(gw.call('os:getpid'), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    argv = [sys.executable, "-c", code, mediator.spec()]
    ran = subprocess.run(argv, env=environment(), capture_output=True, text=True, timeout=PATIENCE)
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    await mediator.daemon.seen("ended .*: nobody was connected to it")
    assert still_there([int(ran.stdout)]) == []


def produce(channel, megabytes):
    """Far code: send a lot, without being asked for it."""
    for number in range(megabytes):
        channel.send(bytes([number % 256]) * (1 << 20))


@pytest_twisted.ensureDeferred
async def test_unread_output_is_bounded_and_arrives_whole(mediator: Mediator) -> None:
    """What nobody reads is kept up to a bound, the producer waits, and all of it arrives."""
    # On the wire itself: 100 MB to standard output, without anybody who reads.
    python = (
        f"{sys.executable} -c 'import os\nfor n in range(100): os.write(1, bytes([n])*1000000)'"
    )
    started = mediator.curl("/popen", "-d", json.dumps({"python": python}))
    assert started.status == 201, started.body
    pid = started.json["pid"]
    before = resident(mediator.pid)
    queued = 0
    while queued < 4 << 20:
        queued = mediator.curl(f"/exec/{pid}/status").json["stdout"]["queued"]
    assert resident(mediator.pid) - before < 16 << 20
    got = await _read_all(mediator, pid)
    assert got == b"".join(bytes([n]) * 1_000_000 for n in range(100))
    assert resident(mediator.pid) - before < 32 << 20


async def _read_all(mediator: Mediator, pid: str) -> bytes:
    from twisted.internet.threads import deferToThread

    parts: list[bytes] = []
    offset = 0
    while True:
        answer = await deferToThread(mediator.curl, f"/exec/{pid}?offset={offset}&max=1000000")
        if answer.status == 410:
            return b"".join(parts)
        assert answer.status == 200, answer.body
        assert int(answer.headers["x-pycomnet-offset"]) == offset
        parts.append(answer.body)
        offset += len(answer.body)


@pytest_twisted.ensureDeferred
async def test_far_code_waits_for_a_slow_receiver_through_http(mediator: Mediator) -> None:
    """Far code that produces much waits for who takes it, through all that is in between."""
    from twisted.internet import reactor

    async with pycomnet.Group(reactor) as group:
        for websocket in ("yes", "no"):
            gateway = await group.makegateway(mediator.spec(websocket=websocket))
            before = resident(mediator.pid)
            channel = gateway.remote_exec(produce, megabytes=60)
            await gateway.ping()
            for _ in range(20):
                await gateway.ping()
            assert resident(mediator.pid) - before < 16 << 20
            number = 0
            async for block in channel:
                assert block == bytes([number % 256]) * (1 << 20)
                number += 1
            assert number == 60


@pytest_twisted.ensureDeferred
async def test_many_gateways_echo_through_one_server(mediator: Mediator) -> None:
    """Many gateways at once through one server, each echoing."""
    from twisted.internet import reactor

    before = resident(mediator.pid)
    async with pycomnet.Group(reactor) as group:
        spec = mediator.spec()
        gateways = await defer.gatherResults([group.makegateway(spec) for _ in range(24)])
        channels = [gateway.remote_exec(echo) for gateway in gateways]
        for value in range(20):
            for channel in channels:
                channel.send(value)
            got = await defer.gatherResults([channel.receive() for channel in channels])
            assert got == [value] * len(channels)
        assert (resident(mediator.pid) - before) / len(gateways) < 1 << 20
    assert mediator.curl("/").json["processes"] == []


@pytest_twisted.ensureDeferred
async def test_tours_http_part_works_and_leaves_nothing() -> None:
    """What the demo shows of HTTP is so, and nothing is left of it."""
    from twisted.internet import reactor

    from pycomnet.cli import tour, tourdaemons

    started = tourdaemons.Daemons()
    try:
        spec = await started.start_mediator(reactor)
        async with pycomnet.Group(reactor) as group:
            assert await tour.through_http(group, spec) == 2
    finally:
        await started.close()
    assert not started.directory.exists()
    assert [one.poll() is not None for one in started._processes] == [True]
