"""TLS ports: what is no TLS, what stops half-way, and who shows what they should not."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
import trustme
from OpenSSL import SSL

import pycomnet
from pycomnet.services.client.context import NAMESERVER
from pycomnet.test.adversary.kit import (
    ALL,
    CALC,
    IMPATIENCE,
    MB,
    Victim,
    closing,
    ended_by_peer,
    hello_of,
    in_thread,
    ready,
    start,
)
from pycomnet.test.processes import children, processor_time, resident
from pycomnet.test.system.daemons import daemons

AUTHORITY, OTHER = trustme.CA(), trustme.CA()
#: Handshakes that are begun and left.
HALF = 200


@attrs.frozen
class Files:
    """Where the certificates are."""

    directory: Path

    def __getitem__(self, name: str) -> str:
        return str(self.directory / name)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Certificates of the right authority and of another."""
    directory = tmp_path_factory.mktemp("tls")
    for name, leaf in (
        ("server.pem", AUTHORITY.issue_cert("127.0.0.1", "localhost")),
        ("alice.pem", AUTHORITY.issue_cert("alice@example.org", common_name="alice")),
        ("mallory.pem", OTHER.issue_cert("alice@example.org", common_name="alice")),
    ):
        leaf.private_key_and_cert_chain_pem.write_to_path(str(directory / name))
    AUTHORITY.cert_pem.write_to_path(str(directory / "ca.pem"))
    return Files(directory)


@pytest.fixture(scope="module")
def secure(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Victim]]:
    """All five with TLS, and asking for certificates."""
    certificate = f"privateKey={files['server.pem']}:certKey={files['server.pem']}"
    listen = f"tls:0:interface=127.0.0.1:{certificate}:clientCAs={files['ca.pem']}"
    with daemons(tmp_path_factory.mktemp("s")) as running:
        started = [start(running, kind, listen=listen) for kind in ALL]
        found = {}
        for victim in started:
            if victim.kind == "http-exec":
                where = victim.daemon.wait_for(r"reach it with https=([^/\s]+)")[1]
                victim = attrs.evolve(victim, where=where)
            else:
                victim = ready(victim)
            found[victim.kind] = victim
        yield found


async def serves(victim: Victim, files: Files) -> None:
    """See that it does for a client with a certificate what it is for."""
    from twisted.internet import reactor

    own = f":trustRoots={files['ca.pem']}:certificate={files['alice.pem']}"
    if victim.kind in ("nameserver", "service"):
        async with pycomnet.Context(reactor, timeout=IMPATIENCE) as context:
            name = NAMESERVER if victim.kind == "nameserver" else CALC
            found = await context.connect(f"tls:127.0.0.1:{victim.port}{own}", name)
            if victim.kind == "nameserver":
                await found.invoke("stat")
            else:
                assert await found.invoke("add", {"a": 1, "b": 2}) == 3
        return
    async with pycomnet.Group(reactor) as group:
        keys = f"//ca={files['ca.pem']}//cert={files['alice.pem']}//token_file={victim.token_file}"
        if victim.kind == "factory":
            where = f"tls:127.0.0.1:{victim.port}{own}"
            group.setlocalfactory(endpoint=where, token_file=str(victim.token_file))
            gateway = await group.makegateway("popen")
        elif victim.kind == "gateway":
            gateway = await group.makegateway(f"socket=tls:127.0.0.1:{victim.port}{keys}")
        else:
            gateway = await group.makegateway(f"https=127.0.0.1:{victim.port}{keys}")
        assert await gateway.remote_exec("channel.send(6 * 7)").receive() == 42


def plain(victim: Victim) -> socket.socket:
    """A connection that says nothing yet."""
    return socket.create_connection(("127.0.0.1", victim.port), IMPATIENCE)


def client(files: Files, certificate: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=files["ca.pem"])
    if certificate is not None:
        context.load_cert_chain(files[certificate])
    return context


def talked(victim: Victim, context: ssl.SSLContext, data: bytes) -> bytes:
    """All that it answers to bytes within TLS; none when it did not let the client in."""
    try:
        with context.wrap_socket(plain(victim), server_hostname="127.0.0.1") as inner:
            inner.sendall(data)
            came = b""
            while piece := inner.recv(1 << 16):
                came += piece
            return came
    except (ssl.SSLError, ConnectionError):
        return b""


@pytest.mark.parametrize("kind", ALL)
@pytest_twisted.ensureDeferred
async def test_plain_bytes_at_a_tls_port_get_no_answer(
    secure: dict[str, Victim], files: Files, kind: str
) -> None:
    """Plain bytes, rubbish and half of a handshake at a TLS port: nothing is answered in the clear,
    and it costs next to nothing."""
    victim = secure[kind]
    await serves(victim, files)
    before, used = resident(victim.pid), processor_time(victim.pid)
    hello = client_hello()

    def attack() -> None:
        for data in (
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            hello_of(victim),
            bytes(5000),
            b"\x16\x03\x01\xff\xff" + bytes(70_000),  # a record that is too long
            b"\x16\x03\x01\x40\x00" + b"\x01\xff\xff\xff" + bytes(1 << 14),
            b"\x15\x03\x01\x00\x02\x02\x28" * 100,  # alerts
            b"\x17\x03\x03\x00\x05hello",  # data before there are keys
            hello[:50] + os.urandom(len(hello) - 50),
            hello + os.urandom(1000),
            hello + hello * 20,
        ):
            one = plain(victim)
            with closing([one]):
                try:
                    one.sendall(data)
                    one.shutdown(socket.SHUT_WR)
                except OSError:
                    continue
                assert ended_by_peer(one), data[:20]

    await in_thread(attack)
    await serves(victim, files)
    assert resident(victim.pid) - before < 24 * MB
    assert processor_time(victim.pid) - used < 3
    assert "Traceback" not in victim.daemon.said, victim.daemon.said[-3000:]


def client_hello() -> bytes:
    """The first bytes of a handshake."""
    connection = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
    connection.set_connect_state()
    with pytest.raises(SSL.WantReadError):
        connection.do_handshake()
    return connection.bio_read(1 << 16)


@pytest.mark.parametrize("kind", ALL)
@pytest_twisted.ensureDeferred
async def test_stopped_handshakes_are_bounded_and_others_get_in(
    secure: dict[str, Victim], files: Files, kind: str
) -> None:
    """Two hundred that begin a handshake and say no more: others get in, and what each takes is
    bounded."""
    victim = secure[kind]
    await serves(victim, files)
    before = resident(victim.pid)
    hello = client_hello()
    sockets = [plain(victim) for _ in range(HALF)]
    with closing(sockets):
        for one in sockets:
            one.sendall(hello)
        await serves(victim, files)
        assert resident(victim.pid) - before < HALF * 200_000
    await serves(victim, files)


@pytest.mark.parametrize("kind", ALL)
@pytest_twisted.ensureDeferred
async def test_token_without_certificate_does_not_help(
    secure: dict[str, Victim], files: Files, kind: str
) -> None:
    """Without a certificate, and with one of another authority that has a good name in it, nothing
    is said and nothing is started, whatever else is known: a token does not help."""
    victim = secure[kind]
    request = (
        b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Authorization: Bearer " + victim.token + b"\r\n\r\n"
        if kind == "http-exec"
        else hello_of(victim)
    )
    there = children(victim.pid)
    for certificate in (None, "mallory.pem"):
        assert await in_thread(talked, victim, client(files, certificate), request) == b""
    assert children(victim.pid) <= there  # some of them may have ended
    await serves(victim, files)


@pytest.mark.parametrize("kind", ALL)
@pytest_twisted.ensureDeferred
async def test_renegotiation_is_not_obeyed(
    secure: dict[str, Victim], files: Files, kind: str
) -> None:
    """A client that asks for one handshake after the other on a connection is not obeyed."""
    victim = secure[kind]
    used = processor_time(victim.pid)

    def attack() -> int:
        context = SSL.Context(SSL.TLSv1_2_METHOD)
        context.use_privatekey_file(files["alice.pem"])
        context.use_certificate_file(files["alice.pem"])
        connection = SSL.Connection(context, plain(victim))
        connection.get_app_data()
        connection.setblocking(True)
        connection.set_connect_state()
        connection.do_handshake()
        done = 0
        try:
            for _ in range(20):
                if not connection.renegotiate():
                    break
                connection.do_handshake()
                done += 1
        except (SSL.Error, OSError):
            pass
        connection.close()
        return done

    done = await in_thread(attack)
    assert done == 0, f"{done} more handshakes were made"
    assert processor_time(victim.pid) - used < 3
    await serves(victim, files)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_broken_tls_versions_are_not_spoken(
    secure: dict[str, Victim], files: Files, version: Any
) -> None:
    """What has been broken for years is not spoken."""
    context = client(files, "alice.pem")
    context.minimum_version = context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")
    for victim in secure.values():
        with pytest.raises((ssl.SSLError, ConnectionError)):
            context.wrap_socket(plain(victim), server_hostname="127.0.0.1")
