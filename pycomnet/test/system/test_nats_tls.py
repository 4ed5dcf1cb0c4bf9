"""TLS to Debian's nats-server: which certificate a server needs before it gets the password."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
import trustme

from pycomnet.nats import NatsUnreachable, connect
from pycomnet.test.needs import needs
from pycomnet.test.system.daemons import PATIENCE
from pycomnet.test.system.natsserver import PROGRAM, NatsServerProcess, nats_server
from pycomnet.test.waiting import until

pytestmark = needs(PROGRAM)


@pytest_twisted.ensureDeferred
async def test_tls_checks_the_server(tmp_path: Path) -> None:
    """The right authority and name; another authority; another name."""
    from twisted.internet import reactor

    authority = trustme.CA()
    own = authority.issue_cert("localhost")
    key, certificate, roots, others = (
        str(tmp_path / name) for name in ("key", "cert", "roots.pem", "others.pem")
    )
    own.private_key_pem.write_to_path(key)
    own.cert_chain_pems[0].write_to_path(certificate)
    authority.cert_pem.write_to_path(roots)
    trustme.CA().cert_pem.write_to_path(others)
    with nats_server(tmp_path, "--tls", "--tlscert", certificate, "--tlskey", key) as guarded:
        address = f"tls://localhost:{guarded.port}"
        client = await connect(address, reactor, trust_roots=roots)
        subscription = client.subscribe("a")
        client.publish("a", bytes(100_000))
        assert len((await subscription.receive().addTimeout(PATIENCE, reactor)).payload) == 100_000
        await client.close()
        with pytest.raises(NatsUnreachable, match="authority"):
            await connect(address, reactor, trust_roots=others)
        with pytest.raises(NatsUnreachable, match="another name"):
            await connect(guarded.address, reactor, trust_roots=roots)


@contextlib.contextmanager
def announcing_servers(directory: Path) -> Iterator[tuple[NatsServerProcess, NatsServerProcess]]:
    """Two servers with TLS and a password. The first has a certificate for ``localhost`` and
    127.0.0.1, and announces the second as ``localhost``; its certificate has that name alone."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(directory / "roots.pem"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        route = f"nats://127.0.0.1:{probe.getsockname()[1]}"
    started: list[NatsServerProcess] = []
    with contextlib.ExitStack() as stack:
        for names, cluster in (
            (["localhost", "127.0.0.1"], ["--cluster", route]),
            (["localhost"], ["--cluster", "nats://127.0.0.1:-1", "--routes", route]),
        ):
            own = authority.issue_cert(*names)
            files = [str(directory / f"{name}{len(started)}") for name in ("key", "cert", "log")]
            own.private_key_pem.write_to_path(files[0])
            own.cert_chain_pems[0].write_to_path(files[1])
            options = ["--tls", "--tlskey", files[0], "--tlscert", files[1], "-D", "-l", files[2]]
            options += ["--user", "me", "--pass", "secret", "--cluster_name", "c", *cluster]
            server = nats_server(directory, *options, jetstream=False, advertise="localhost")
            started.append(stack.enter_context(server))
        yield started[0], started[1]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("given", ["localhost", "127.0.0.1"])
async def test_what_was_announced_before_tls_needs_a_known_name(tmp_path: Path, given: str) -> None:
    """The server that has announced another one is killed: the other one gets the password only if
    its certificate has a name that the user has given."""
    from twisted.internet import reactor

    roots, log = str(tmp_path / "roots.pem"), tmp_path / "log1"
    with announcing_servers(tmp_path) as (first, second):

        def is_announced() -> bool:
            with socket.create_connection(("127.0.0.1", first.port)) as probe:
                info = probe.makefile("rb").readline().decode()
            return f"localhost:{second.port}" in info

        await until(is_announced, "the other one is announced")
        client = await connect(
            f"tls://{given}:{first.port}",
            reactor,
            user="me",
            password="secret",
            trust_roots=roots,
            longest_retry=0.2,
        )
        before = log.read_text()
        first.kill()
        if given == "localhost":
            await until(lambda: client.reconnects, "the other one is used")
            await client.flush().addTimeout(PATIENCE, reactor)
        else:
            await until(
                lambda: log.read_text()[len(before) :].count("TLS handshake error") > 2, "refused"
            )
            assert "TLS handshake complete" not in log.read_text()
            assert (client.is_connected, client.reconnects) == (False, 0)
        await client.close()
