"""A program whose reactor is loaded without TLS, and which uses TLS then. Run by test_twisted."""

import os
import sys
import tempfile
from typing import Any

from pycomnet.blocking import Group
from pycomnet.blocking.waiting import running_reactor, wait_for


def loaded() -> set[str]:
    """Which of the libraries are loaded."""
    return {"OpenSSL", "cryptography", "service_identity"} & set(sys.modules)


with Group() as group:
    pid = group.makegateway("popen").call("os:getpid")
assert pid != os.getpid()
assert not loaded(), loaded()

import trustme  # noqa: E402 - it loads them
from twisted.internet import interfaces, posixbase, tcp  # noqa: E402
from twisted.internet.defer import Deferred  # noqa: E402
from twisted.internet.protocol import Factory, Protocol  # noqa: E402

assert interfaces.IReactorSSL.providedBy(running_reactor())
assert interfaces.ITLSTransport.implementedBy(tcp.Client)
assert posixbase.tls is not None
assert posixbase.ssl is not None
assert isinstance(posixbase.tls.TLSMemoryBIOProtocol, type)

from twisted.internet import endpoints, ssl  # noqa: E402
from twisted.protocols import tls  # noqa: E402

assert posixbase.tls.TLSMemoryBIOFactory is not tls.TLSMemoryBIOFactory  # that of the stand-in
assert posixbase.ssl.Certificate is ssl.Certificate
assert sys.modules["twisted.internet.ssl"] is ssl

authority = trustme.CA()
server = authority.issue_cert("localhost")
pem = b"".join([server.private_key_pem.bytes(), *(each.bytes() for each in server.cert_chain_pems)])
trusted = ssl.trustRootFromCertificates([ssl.Certificate.loadPEM(authority.cert_pem.bytes())])
options: Any = ssl.optionsForClientTLS("localhost", trusted)
certificate = ssl.PrivateCertificate.loadPEM(pem)


class Echo(Protocol):
    """Sends back what comes."""

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        """It has come."""
        self.transport.write(data)


class StartingEcho(Echo):
    """Starts TLS when the client says so."""

    def dataReceived(self, data: bytes) -> None:
        """It has come."""
        super().dataReceived(data)
        if data == b"start":
            self.transport.startTLS(certificate.options())


class Client(Protocol):
    """Sends a word over TLS; fires with what comes back."""

    transport: Any

    def __init__(self, starts: bool = False) -> None:
        self.starts = starts
        self.came: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:
        """It is connected."""
        self.transport.write(b"start" if self.starts else b"word")

    def dataReceived(self, data: bytes) -> None:
        """It has come back."""
        if data == b"start":
            self.transport.startTLS(options)
            self.transport.write(b"word")
            return
        self.came.callback(data)
        self.transport.loseConnection()


async def by_reactor(reactor: Any) -> bytes:
    """``listenSSL`` and ``connectSSL``."""
    port = reactor.listenSSL(
        0, Factory.forProtocol(Echo), certificate.options(), interface="127.0.0.1"
    )
    client = Client()
    factory: Any = Factory.forProtocol(lambda: client)
    factory.doStart = factory.doStop = factory.startedConnecting = lambda *_: None
    factory.clientConnectionLost = factory.clientConnectionFailed = lambda *_: None
    reactor.connectSSL("127.0.0.1", port.getHost().port, factory, options)
    came = await client.came
    await port.stopListening()
    return came


async def by_starting(reactor: Any) -> bytes:
    """``startTLS`` on a TCP connection."""
    port = reactor.listenTCP(0, Factory.forProtocol(StartingEcho), interface="127.0.0.1")
    client = Client(starts=True)
    await endpoints.connectProtocol(
        endpoints.TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port), client
    )
    came = await client.came
    await port.stopListening()
    return came


async def by_endpoint(reactor: Any) -> bytes:
    """An endpoint of a description."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(pem)
        file.flush()
        at = f"ssl:0:interface=127.0.0.1:privateKey={file.name}:certKey={file.name}"
        listening = endpoints.serverFromString(reactor, at)
        port = await listening.listen(Factory.forProtocol(Echo))
    client = Client()
    plain = endpoints.TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
    await endpoints.connectProtocol(endpoints.wrapClientTLS(options, plain), client)
    came = await client.came
    await port.stopListening()
    return came


for way in (by_reactor, by_starting, by_endpoint):
    came = wait_for(
        lambda: Deferred.fromCoroutine(way(running_reactor())),  # noqa: B023 - called at once
        60,
        way.__name__,
    )
    assert came == b"word", (way, came)
print("TLS works")
