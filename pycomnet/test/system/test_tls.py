"""TLS on loopback: what is refused, by whom, and that the error says why."""

from __future__ import annotations

import datetime
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import trustme
from cryptography.hazmat.primitives import serialization
from OpenSSL import SSL
from twisted.internet.threads import deferToThread

import pycomnet
from pycomnet.errors import CertificateRefused, EndpointError, ServiceUnreachable
from pycomnet.net import endpoints
from pycomnet.services.client.context import NAMESERVER
from pycomnet.test.system.daemons import command, daemons

AUTHORITY, OTHER = trustme.CA(), trustme.CA()
LONG_AGO = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
LATER = datetime.datetime(2100, 1, 1, tzinfo=datetime.timezone.utc)
DAY = datetime.timedelta(days=1)
OPTIONS = ("--store", "memory:", "--max-per-client", "3")


@pycomnet.interface("org.example.who")
class Who(pycomnet.Service):
    """Says who calls."""

    @pycomnet.method()
    def who(self, request: Any) -> Any:
        return request.user and request.user.name

    @pycomnet.method()
    def echo(self, request: Any) -> Any:
        return (request.args, *(pycomnet.Binary(file.read()) for file in request.files))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with certificates, each with its key: what the tests' names say."""
    directory = tmp_path_factory.mktemp("tls")
    names = ("localhost", "127.0.0.1")
    for name, leaf in (
        ("good", AUTHORITY.issue_cert(*names)),
        ("named", AUTHORITY.issue_cert("localhost")),
        ("wrong", AUTHORITY.issue_cert("example.org")),
        (
            "expired",
            AUTHORITY.issue_cert(*names, not_before=LONG_AGO, not_after=LONG_AGO + DAY),
        ),
        ("early", AUTHORITY.issue_cert(*names, not_before=LATER, not_after=LATER + DAY)),
        ("stranger", OTHER.issue_cert(*names)),
        ("alice", AUTHORITY.issue_cert("alice@example.org", common_name="alice")),
        ("bob", AUTHORITY.issue_cert("bob@example.org")),
        ("mallory", OTHER.issue_cert("alice@example.org", common_name="alice")),
    ):
        leaf.private_key_and_cert_chain_pem.write_to_path(str(directory / f"{name}.pem"))
    AUTHORITY.cert_pem.write_to_path(str(directory / "ca.pem"))
    between = AUTHORITY.create_child_ca()
    for name, leaf in (
        ("deep", between.issue_cert(*names)),
        ("carol", between.issue_cert("carol@example.org", common_name="carol")),
    ):
        leaf.private_key_and_cert_chain_pem.write_to_path(str(directory / f"{name}.pem"))
    key = AUTHORITY.issue_cert(*names)
    key.cert_chain_pems[0].write_to_path(str(directory / "apart.crt"))
    key.private_key_pem.write_to_path(str(directory / "apart.key"))
    locked = serialization.load_pem_private_key(key.private_key_pem.bytes(), None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"a passphrase"),
    )
    (directory / "locked.key").write_bytes(locked)
    (directory / "rubbish").write_text("rubbish\n")
    (directory / "broken.crt").write_text(
        "-----BEGIN CERTIFICATE-----\nrubbish\n-----END CERTIFICATE-----\n"
    )
    (directory / "broken.key").write_text(
        "-----BEGIN PRIVATE KEY-----\nrubbish\n-----END PRIVATE KEY-----\n"
    )
    (directory / "self.pem").write_bytes(
        OTHER.private_key_pem.bytes() + b"\n" + OTHER.cert_pem.bytes()
    )
    (directory / "roots").mkdir()
    AUTHORITY.cert_pem.write_to_path(str(directory / "roots" / "ca.pem"))
    return directory


class Served:
    """A server with a certificate, and a context to call it with."""

    def __init__(self, files: Path) -> None:
        from twisted.internet import reactor

        self.files = files
        self.server = pycomnet.ServiceServer(reactor)
        self.context = pycomnet.Context(reactor, timeout=120)

    async def listen(self, certificate: str, more: str = "", kind: str = "tls") -> str:
        """The address of a new listener."""
        if not self.server.services:
            await self.server.add(Who())
        key = self.files / f"{certificate}.pem"
        return await self.server.listen(f"{kind}:0:interface=127.0.0.1:privateKey={key}{more}")

    async def connect(self, address: str, more: str = "", roots: str = "ca.pem") -> Any:
        """A connected service."""
        address += f":trustRoots={self.files / roots}{more}"
        return await self.context.connect(address)

    def show(self, certificate: str) -> str:
        """What makes a client show a certificate."""
        return f":certificate={self.files / certificate}.pem"


@pytest_twisted.async_yield_fixture
async def served(files: Path) -> Any:
    """A :class:`Served`."""
    made = Served(files)
    yield made
    await made.context.close()
    await made.server.close()


@pytest.mark.parametrize("kind", ["tls", "ssl"])
@pytest_twisted.ensureDeferred
async def test_good_certificate_is_accepted(served: Served, kind: str) -> None:
    """By ``tls:`` and ``ssl:``, with a file of authorities or a directory; also blocks."""
    address = await served.listen("good", kind=kind)
    for roots in ("ca.pem", "roots"):
        who = await served.connect(address, roots=roots)
        assert await who.invoke("who") is None
    data = bytes(range(256)) * 20_000
    value, (file,) = await who.invoke("echo", data, None, [pycomnet.Binary(data)], True)
    assert value == data
    assert file.read() == data
    with pytest.raises(CertificateRefused, match="authority that is not among"):
        await served.context.connect(address.replace("tls:", "ssl:"))  # the system's authorities


@pytest.mark.parametrize(
    ("certificate", "says"),
    [
        ("wrong", "another name: example.org"),
        ("named", "another name: localhost"),
        ("expired", "expired"),
        ("early", "not valid yet"),
        ("stranger", "authority that is not among"),
        ("self", "self-signed"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_bad_certificate_is_refused_with_the_reason(
    served: Served, certificate: str, says: str
) -> None:
    """What is wrong with a server's certificate is said, and there is no call."""
    address = await served.listen(certificate)
    with pytest.raises(CertificateRefused, match=says) as refused:
        await served.connect(address)
    assert str(refused.value).startswith("127.0.0.1's certificate")
    with pytest.raises(CertificateRefused, match=says):
        await served.context.at(f"{address}:trustRoots={served.files / 'ca.pem'}").invoke("who")


@pytest_twisted.ensureDeferred
async def test_hostname_option_names_the_certificate(served: Served) -> None:
    """``hostname=`` is for a certificate with another name than what is connected to."""
    address = await served.listen("named")
    who = await served.connect(address, ":hostname=localhost")
    assert await who.invoke("who") is None


@pytest_twisted.ensureDeferred
async def test_client_needs_a_good_certificate(served: Served) -> None:
    """Clients without a good certificate are not let in; the name of one is the user's."""
    address = await served.listen("good", f":clientCAs={served.files / 'ca.pem'}")
    for name, user in (("alice", "alice"), ("bob", "bob@example.org"), ("carol", "carol")):
        who = await served.connect(address, served.show(name))
        assert await who.invoke("who") == user
    for show in ("", served.show("mallory")):
        with pytest.raises((ServiceUnreachable, pycomnet.CallInterrupted)):
            who = await served.connect(address, show)
            await who.invoke("who", timeout=60)


def shown_at(address: str) -> int:
    """How many certificates a server shows; blocking."""
    with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), 60) as plain:
        connection = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), plain)
        plain.settimeout(None)
        connection.set_connect_state()
        connection.do_handshake()
        chain = connection.get_peer_cert_chain(as_cryptography=True)
        assert chain is not None
        return len(chain)


@pytest_twisted.ensureDeferred
async def test_intermediate_certificate_is_sent_once(served: Served) -> None:
    """What is issued by an authority in between comes with that one's certificate, each once."""
    address = await served.listen("deep")
    who = await served.connect(address)
    assert await who.invoke("who") is None
    assert await deferToThread(shown_at, address) == 2


@pytest.mark.parametrize(
    ("key", "certificate", "says"),
    [
        ("locked.key", "apart.crt", "locked.key has a passphrase"),
        ("wrong.pem", "apart.crt", "is not that of the certificate in"),
        ("rubbish", "apart.crt", "there is no private key in"),
        ("apart.crt", "apart.crt", "there is no private key in"),
        ("apart.key", "rubbish", "there is no certificate in"),
        ("apart.key", "apart.key", "there is no certificate in"),
        ("broken.key", "apart.crt", "broken.key can't be read"),
        ("apart.key", "broken.crt", "certificate 1 in .*broken.crt can't be read"),
        ("missing", "apart.crt", "No such file"),
    ],
)
def test_wrong_files_are_named_at_both_ends(
    files: Path, key: str, certificate: str, says: str
) -> None:
    """What is wrong with the files is said, at both ends, and nobody is asked for anything."""
    from twisted.internet import reactor

    options = f"privateKey={files / key}:"
    with pytest.raises(EndpointError, match=says):
        endpoints.server_endpoint(reactor, f"tls:0:{options}certKey={files / certificate}")
    with pytest.raises(EndpointError, match=says):
        endpoints.client_endpoint(reactor, f"tls:h:1:{options}certificate={files / certificate}")


@pytest.fixture
def nameservers(files: Path, tmp_path: Path) -> Iterator[Any]:
    """Starts nameservers as processes: the certificate they show -> where they listen."""
    with daemons(tmp_path) as started:

        def start(certificate: str, more: str = "", *options: str) -> str:
            """The address, with the authority to trust."""
            listen = f"ssl:0:interface=127.0.0.1:privateKey={files / certificate}.pem{more}"
            found = started.start("pycomnet-nameserver", *OPTIONS, *options, "--listen", listen)
            address = found.wait_for(r"the nameserver is at (\S+)")[1]
            return f"{address.replace('tls:', 'ssl:')}:trustRoots={files / 'ca.pem'}"

        yield start


@pytest.mark.parametrize(
    ("certificate", "says"),
    [
        ("good", ""),
        ("wrong", "127.0.0.1's certificate: it is for another name: example.org"),
        ("expired", "127.0.0.1's certificate: it has expired"),
        ("self", "127.0.0.1's certificate: it is self-signed"),
    ],
)
def test_nameserver_shows_each_kind_of_certificate(
    nameservers: Any, certificate: str, says: str
) -> None:
    """A nameserver of its own process, asked by the command line, with each kind of certificate."""
    ran = command("ns", "--nameserver", nameservers(certificate), "--timeout", "30", "list")
    if says:
        assert (ran.returncode, ran.stdout) == (1, "")
        assert says in ran.stderr
    else:
        assert (ran.returncode, ran.stderr) == (0, "pycomnet: no service is registered\n")


@pytest_twisted.ensureDeferred
async def test_nameserver_counts_by_certificate(nameservers: Any, served: Served) -> None:
    """It lets in clients with a certificate of its authority alone, and counts by whose it is: two
    connections of alice's are one client, and bob is another."""
    from twisted.internet import reactor

    more = f":clientCAs={served.files / 'ca.pem'}"
    address = nameservers("good", more)
    for show in ("", served.show("mallory")):
        with pytest.raises((ServiceUnreachable, pycomnet.CallInterrupted)):
            stranger = await served.context.connect(address + show, NAMESERVER)
            await stranger.invoke("stat", timeout=60)
    for name, most in (("alice", 3), ("bob", 3)):
        places = address + served.show(name)
        async with pycomnet.Context(reactor, timeout=120) as one, pycomnet.Context(reactor) as two:
            names = [one.at(places, NAMESERVER), two.at(places, NAMESERVER)]
            for number in range(most + 1):
                args = {"service": f"{name}-{number}", "interfaces": ["x"], "address": "tcp:h:1"}
                asked = names[number % 2].invoke("register", args, timeout=60)
                if number < most:
                    await asked
                    continue
                with pytest.raises(pycomnet.TooManyRegistrations, match="the limit is 3"):
                    await asked


@pytest_twisted.ensureDeferred
async def test_operators_certificate_alone_removes_others_names(
    nameservers: Any, served: Served
) -> None:
    """Who has a certificate of a name that was given with --operator removes what others have
    registered; bob's is as good, and of no operator."""
    from twisted.internet import reactor

    more = f":clientCAs={served.files / 'ca.pem'}"
    address = nameservers("good", more, "--operator", "nobody", "--operator", "alice")

    def remove(name: str) -> Any:
        where = address + served.show(name)
        return deferToThread(command, "ns", "--nameserver", where, "--timeout", "30", "remove", "x")

    async with pycomnet.Context(reactor, timeout=120) as context:
        names = context.at(address + served.show("carol"), NAMESERVER)
        record = {"service": "x", "interfaces": ["x"], "address": "tcp:h:1", "ttl": 600}
        await names.invoke("register", record)
        ran = await remove("bob")
        assert (ran.returncode, ran.stdout) == (1, "")
        assert "only an operator" in ran.stderr
        assert [one["service"] for one in await names.invoke("list_services")] == ["x"]
        ran = await remove("alice")
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
        assert not await names.invoke("list_services")


@pytest_twisted.ensureDeferred
async def test_tls_to_plain_and_back_is_an_error(served: Served) -> None:
    """TLS to what does not speak it, and the other way round, is an error."""
    await served.listen("good")
    plain = await served.server.listen("tcp:0:interface=127.0.0.1")
    with pytest.raises(ServiceUnreachable, match="TLS"):
        await served.connect(plain.replace("tcp:", "tls:"))
    secret = await served.listen("good")
    with pytest.raises(pycomnet.PycomnetError):
        await served.context.connect(secret.replace("tls:", "tcp:"), timeout=60)
