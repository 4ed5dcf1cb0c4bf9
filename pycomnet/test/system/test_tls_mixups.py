"""TLS to servers without it, and the reverse: an error at once that says what may be wrong."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import pytest_twisted
import trustme

import pycomnet
from pycomnet.etcd import EtcdClient
from pycomnet.etcd.errors import EtcdUnavailable
from pycomnet.nats import NatsUnreachable, connect
from pycomnet.net import tls
from pycomnet.test.needs import needs
from pycomnet.test.system.daemons import PATIENCE, Daemons, daemons
from pycomnet.test.system.etcds import EtcdMembers
from pycomnet.test.system.mediators import LOOPBACK, Mediator

TOKEN = "x" * 43


@attrs.frozen
class Servers:
    """One mediator and one socket service with TLS, and one of each without.

    :ivar ca: the file with the authority.
    """

    ca: Path
    plain: Mediator
    secure: Mediator
    plain_socket: str
    secure_socket: str


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Servers for all tests."""
    directory = tmp_path_factory.mktemp("mixups")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    own = directory / "own.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(own))
    listen = f"tls:0:interface=127.0.0.1:privateKey={own}"

    for name in ("plain", "secure"):
        (directory / name).mkdir()

    def socket_service(running: Daemons, listen: str) -> str:
        daemon = running.start("pycomnet-gateway", "--listen", listen, "--token-file", "token")
        found = daemon.wait_for(r"socket=(?:tcp|tls):[^:]+:(\d+)")
        return str(found[1])

    with daemons(directory / "plain") as one, daemons(directory / "secure") as two:
        yield Servers(
            directory / "ca.pem",
            Mediator(one),
            Mediator(two, listen=listen),
            socket_service(one, LOOPBACK),
            socket_service(two, listen),
        )


@pytest_twisted.ensureDeferred
async def test_gateways_error_names_the_other_kind_of_address(servers: Servers) -> None:
    """``https=`` to a mediator without TLS, ``http=`` to one with it; likewise ``socket=``."""
    from twisted.internet import reactor

    ca = f"//ca={servers.ca}"
    async with pycomnet.Group(reactor) as group:
        for address, words in (
            (f"https=localhost:{servers.plain.port}{ca}", "wrong version number.*want http="),
            (
                f"https=localhost:{servers.plain.port}{ca}//websocket=no",
                "wrong version number.*want http=",
            ),
            (f"http=localhost:{servers.secure.port}", "want https="),
            (f"http=localhost:{servers.secure.port}//websocket=no", "want https="),
            (f"https=localhost:{servers.plain_socket}{ca}", "want http="),
            (f"http=localhost:{servers.plain_socket}", "closed|does not speak HTTP"),
            (f"socket=tls:localhost:{servers.plain_socket}{ca}", "want a tcp: address"),
            (f"socket=tcp:localhost:{servers.secure_socket}", "want a tls: address"),
        ):
            with pytest.raises(pycomnet.GatewayNotStarted, match=words):
                await group.makegateway(f"{address}//token={TOKEN}", timeout=PATIENCE)


@pytest_twisted.ensureDeferred
async def test_services_error_names_the_other_kind_of_address(servers: Servers) -> None:
    """A client of services, at a mediator without TLS and at one with it."""
    from twisted.internet import reactor

    context = pycomnet.Context(reactor, timeout=PATIENCE)
    for address, words in (
        (f"tls:localhost:{servers.plain.port}:trustRoots={servers.ca}", "want a tcp: address"),
        (f"tcp:localhost:{servers.plain.port}", "can't connect"),
        (f"tcp:localhost:{servers.secure.port}", "want a tls: address"),
    ):
        with pytest.raises(pycomnet.ServiceUnreachable, match=words):
            await context.connect(address)
    await context.close()


@pytest_twisted.ensureDeferred
async def test_server_that_never_answers_a_handshake_is_given_up(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that listens and says nothing: each client with TLS fails, and says what may be wrong."""
    from twisted.internet import reactor

    monkeypatch.setattr(tls, "SILENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0), backlog=50) as silent:
        port = silent.getsockname()[1]
        address = f"tls:localhost:{port}:trustRoots={servers.ca}"
        words = "handshake in 0.5 seconds: it may speak no TLS"
        async with pycomnet.Group(reactor) as group:
            for where in (f"https=localhost:{port}", f"socket=tls:localhost:{port}"):
                spec = f"{where}//ca={servers.ca}//token={TOKEN}"
                with pytest.raises(pycomnet.GatewayNotStarted, match=words):
                    await group.makegateway(spec, timeout=PATIENCE)
        context = pycomnet.Context(reactor, timeout=PATIENCE)
        with pytest.raises(pycomnet.ServiceUnreachable, match=words):
            await context.connect(address)
        await context.close()
        client = EtcdClient([address], reactor, timeout=3.0)
        with pytest.raises(EtcdUnavailable, match=words):
            await client.connect()
        await client.close()
        # NATS begins TLS when the server has said that it has it.
        with pytest.raises(NatsUnreachable, match="it does not answer"):
            await connect(
                f"tls://localhost:{port}", reactor, trust_roots=str(servers.ca), connect_timeout=0.5
            )


@needs("etcd")
@pytest_twisted.ensureDeferred
async def test_etcd_without_tls_may_speak_none(servers: Servers, tmp_path: Path) -> None:
    """etcd drops a TLS handshake."""
    from twisted.internet import reactor

    members = EtcdMembers(tmp_path)
    (member,) = members.members
    member.start()
    try:
        port = member.url.rpartition(":")[2]
        address = f"tls:localhost:{port}:trustRoots={servers.ca}"
        client = EtcdClient([address], reactor, timeout=3.0)
        with pytest.raises(EtcdUnavailable, match="it may speak no TLS"):
            await client.connect()
        await client.close()
    finally:
        member.kill()
