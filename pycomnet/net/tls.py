"""TLS for endpoint strings: listeners with their keys, and clients that verify the server."""

from __future__ import annotations

import functools
import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from OpenSSL import SSL, crypto
from service_identity import VerificationError
from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity
from service_identity.pyopenssl import extract_patterns
from twisted.internet import ssl
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import VerifyError
from twisted.internet.interfaces import (
    IDelayedCall,
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
    IReactorTime,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import connectionDone
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from pycomnet.errors import CertificateRefused, EndpointError, PeerSilent
from pycomnet.net.endpoints import BACKLOG, Endpoint, is_number, number, seconds
from pycomnet.net.hostname import NamedEndpoint
from pycomnet.net.reactors import EndpointReactor
from pycomnet.text.logs import Logger

#: Seconds within which a server has to answer the beginning of a handshake, unless the endpoint
#: string has ``timeout=``: time for thousands of clients that reconnect at once. A peer that needs
#: longer is stopped, or speaks no TLS.
SILENCE = 15.0
#: The options of a TLS listener, beside its port and interface.
_TLS_LISTENER = frozenset(
    {"port", "interface", "backlog", "privateKey", "certKey", "extraCertChain", "clientCAs"}
)
#: The options of a TLS client; ``ssl:`` and ``tls:`` have different names for the same.
_TLS_CLIENT = frozenset(
    {"host", "port", "timeout", "bindAddress", "hostname", "trustRoots", "certificate"}
    | {"privateKey"}
)
_OTHER_NAMES = {"caCertsDir": "trustRoots", "certKey": "certificate"}


def listener(
    reactor: EndpointReactor, description: str, args: tuple[str, ...], options: dict[str, str]
) -> IStreamServerEndpoint:
    """The server endpoint with TLS; see :func:`pycomnet.net.endpoints.server_endpoint`."""
    options = Endpoint("tls", args, options).named("port")
    _check_names(description, options, _TLS_LISTENER, args[1:])
    plain = TCP4ServerEndpoint(
        reactor,
        number(description, options.get("port", ""), "port"),
        number(description, options.get("backlog", str(BACKLOG)), "backlog"),
        options.get("interface", ""),
    )
    return _Listener(reactor, plain, _FromFiles(description, options))


@implementer(IStreamServerEndpoint)
class _Listener:
    """Listens with TLS.

    It does the same as Twisted's own, but it uses only the given reactor: Twisted's has timers on
    the global one.
    """

    def __init__(
        self, reactor: EndpointReactor, plain: IStreamServerEndpoint, creator: _FromFiles
    ) -> None:
        self._reactor = reactor
        self._plain = plain
        self._creator = creator

    def listen(self, factory: Any) -> Any:
        return self._plain.listen(
            TLSMemoryBIOFactory(self._creator, False, factory, clock=self._reactor)
        )


@implementer(IOpenSSLServerConnectionCreator)
class _FromFiles:
    """Makes a listener's TLS connections, with the current content of its files.

    Renewal programs replace certificates while daemons run. So each handshake checks the files,
    which costs little compared with the handshake. If they can't be used, because only one of them
    has been written yet, say, the previous content is used.

    :raises EndpointError: the files can't be used at the start.
    """

    log = Logger()

    def __init__(self, description: str, options: dict[str, str]) -> None:
        self._description = description
        self._options = options
        names = ("privateKey", "certKey", "extraCertChain", "clientCAs")
        self._paths = [options[name] for name in names if name in options]
        self._seen = self._look()
        self._context = _listener_options(description, options).getContext()

    def _look(self) -> list[Any]:
        """The files' metadata, which change when a file is replaced or written."""
        found: list[Any] = []
        for path in self._paths:
            try:
                names = [path, *sorted(os.listdir(path))] if os.path.isdir(path) else [path]
                for name in names:
                    status = os.stat(name if name == path else os.path.join(path, name))
                    found.append((name, status.st_ino, status.st_size, status.st_mtime_ns))
            except OSError:
                found.append((path, "missing"))
        return found

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        seen = self._look()
        if seen != self._seen:
            self._seen = seen
            try:
                self._context = _listener_options(self._description, self._options).getContext()
            except EndpointError as problem:
                self.log.warn("TLS goes on with the certificate it had: {problem}", problem=problem)
            else:
                self.log.info("TLS has a new certificate: {listen}", listen=self._description)
        return SSL.Connection(self._context, None)


def _listener_options(description: str, options: dict[str, str]) -> Any:
    key = options.get("privateKey") or options.get("certKey")
    if key is None:
        raise EndpointError(f"{description!r}: TLS needs privateKey=FILE and certKey=FILE")
    own, chain = _load_own(description, key, options.get("certKey", key))
    chain = [*_certificates(description, options.get("extraCertChain")), *chain]
    authorities = _certificates(description, options.get("clientCAs"))
    return ssl.CertificateOptions(
        privateKey=own.privateKey.original,
        certificate=own.original,
        extraCertChain=[certificate.original for certificate in chain],
        trustRoot=ssl.trustRootFromCertificates(authorities) if authorities else None,
    )


def _load_own(description: str, key: str, certificate: str) -> tuple[Any, list[Any]]:
    """Load this end's certificate.

    :param key: the file with its private key.
    :param certificate: the file with its certificate and, after that, its chain.
    :returns: the certificate with its key, and the chain.
    """
    key_pem, certificate_pem = _read(description, key), _read(description, certificate)
    if b"ENCRYPTED" in key_pem:
        # OpenSSL would ask for its passphrase on the terminal, which nobody may watch.
        raise EndpointError(
            f"{description!r}: the private key in {key} has a passphrase, which nobody can be "
            f"asked for: write it without one, to a file that only its owner reads (openssl pkey)"
        )
    if b"PRIVATE KEY-----" not in key_pem:
        raise EndpointError(f"{description!r}: there is no private key in {key}")
    found = _load_certificates(description, certificate, certificate_pem)
    if not found:
        raise EndpointError(f"{description!r}: there is no certificate in {certificate}")
    try:
        private = ssl.KeyPair.load(key_pem, crypto.FILETYPE_PEM)
    except crypto.Error:
        raise EndpointError(f"{description!r}: the private key in {key} can't be read") from None
    try:
        # The certificates after the first in its file are its chain.
        return ssl.PrivateCertificate.fromCertificateAndKeyPair(found[0], private), found[1:]
    except VerifyError:
        raise EndpointError(
            f"{description!r}: the private key in {key} is not that of the certificate in "
            f"{certificate}"
        ) from None


def client_options(description: str, options: dict[str, str]) -> dict[str, str]:
    """A client's options by the names that ``tls:`` has for them.

    :raises EndpointError: one is there by both of its names.
    """
    found: dict[str, str] = {}
    for name, value in options.items():
        name = _OTHER_NAMES.get(name, name)
        if name in found:
            raise EndpointError(f"{description!r}: it has {name}= twice: leave out one")
        found[name] = value
    return found


def connector(
    reactor: EndpointReactor, description: str, args: tuple[str, ...], options: dict[str, str]
) -> IStreamClientEndpoint:
    options = client_options(description, options)
    options = Endpoint("tls", args, options).named("host", "port")
    _check_names(description, options, _TLS_CLIENT, args[2:])
    host = options.get("host", "")
    if not (options.get("hostname") or host):
        raise EndpointError(f"{description!r}: expected tls:HOST:PORT")
    creator = client_creator(description, options)
    port = number(description, options.get("port", ""), "port")
    bind = (options["bindAddress"], 0) if "bindAddress" in options else None
    wrapped = NamedEndpoint(reactor, host, port, seconds(description, options), bind)
    return _Connector(reactor, wrapped, creator, seconds(description, options, SILENCE))


@implementer(IStreamClientEndpoint)
class _Connector:
    """Connects with TLS, as ``wrapClientTLS`` does, with a bound on the other end's silence.

    :param silence: that bound, in seconds.
    """

    def __init__(
        self, reactor: EndpointReactor, plain: IStreamClientEndpoint, creator: Any, silence: float
    ) -> None:
        self._reactor = reactor
        self._plain = plain
        self._creator = creator
        self._silence = silence

    def connect(self, factory: Any) -> Any:
        wrapping: Any = TLSMemoryBIOFactory(self._creator, True, factory, clock=self._reactor)
        wrapping.protocol = functools.partial(_TimedHandshake, self._reactor, self._silence)
        connecting: Any = self._plain.connect(wrapping)
        return connecting.addCallback(lambda tls: tls.wrappedProtocol)


class _TimedHandshake(BufferingTLSTransport):
    """A client's TLS connection whose server has to begin the handshake within some seconds.

    A server that speaks another protocol may take the beginning of a handshake for the beginning of
    something else, and wait for the rest. Then each end would wait for the other.

    :param silence: these seconds.
    """

    def __init__(self, reactor: IReactorTime, silence: float, factory: Any, wrapped: Any) -> None:
        super().__init__(factory, wrapped)
        self._reactor = reactor
        self._silence = silence
        self._waiting: IDelayedCall | None = None

    def makeConnection(self, transport: Any) -> None:
        self._waiting = self._reactor.callLater(self._silence, self._give_up)
        super().makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:
        self._stop_waiting()
        super().dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._stop_waiting()
        super().connectionLost(reason)

    def _stop_waiting(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.cancel()

    def _give_up(self) -> None:
        self._waiting = None
        why = f"no answer to a TLS handshake in {self._silence:g} seconds: it may speak no TLS"
        self.failVerification(Failure(PeerSilent(why)))


def client_creator(description: str, options: dict[str, str]) -> Any:
    """What makes a client's TLS connections; it verifies the server's certificate.

    :param description: what errors name.
    :param options: of :func:`pycomnet.net.endpoints.client_endpoint`: ``hostname`` or ``host`` is
        the name that the certificate has to have.
    :raises EndpointError: its files can't be read.
    """
    name = options.get("hostname") or options["host"]
    authorities = _certificates(description, options.get("trustRoots"))
    own, more = None, {}
    if "certificate" in options:
        shown = options["certificate"]
        own, chain = _load_own(description, options.get("privateKey", shown), shown)
        if chain:
            more["extraCertChain"] = [certificate.original for certificate in chain]
    elif "privateKey" in options:
        raise EndpointError(f"{description!r}: privateKey= goes with certificate=FILE")
    creator = ssl.optionsForClientTLS(
        name,
        trustRoot=ssl.trustRootFromCertificates(authorities) if authorities else None,
        clientCertificate=own,
        extraCertificateOptions=more,
    )
    return _ExplainingCreator(creator, name)


@implementer(IOpenSSLClientConnectionCreator)
class _ExplainingCreator:
    """Makes a client's TLS connections with ``creator``, and explains a refused certificate."""

    def __init__(self, creator: Any, name: str) -> None:
        self._creator = creator
        self._name = name

    def clientConnectionForTLS(self, protocol: Any) -> Any:
        connection = self._creator.clientConnectionForTLS(protocol)
        flags = SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT
        connection.set_verify(flags, _verifier(protocol, self._name))
        return connection


#: OpenSSL's X509_V_ERR numbers -> explanations for the user who has to act.
_REFUSALS = {
    9: "it is not valid yet",
    10: "it has expired",
    18: "it is self-signed, and not among the certificates that are trusted",
    19: "its chain ends in a self-signed certificate that is not among those that are trusted",
    20: "it is from an authority that is not among those that are trusted",
    21: "it is from an authority that is not among those that are trusted",
    23: "it was revoked",
    26: "it is not meant for a server",
}


def _verifier(protocol: Any, name: str) -> Callable[..., bool]:
    """OpenSSL's verification callback: the chain's dates and signatures, and the name."""
    # OpenSSL keeps the callback; that must not refer to the protocol, which keeps OpenSSL's
    # connection.
    reference = weakref.ref(protocol)
    service = IPAddress_ID(name) if is_number(name) else DNS_ID(_ascii(name))

    def refuse(why: str) -> bool:
        tls = reference()
        if tls is not None:
            tls.failVerification(Failure(CertificateRefused(f"{name}'s certificate: {why}")))
        return False

    def verify(_: object, certificate: Any, number: int, depth: int, ok: int) -> bool:
        try:
            if not ok:
                return refuse(_REFUSALS.get(number, f"refused by OpenSSL, error {number}"))
            if depth == 0:
                patterns = extract_patterns(certificate)
                try:
                    verify_service_identity(patterns, [service], [])
                except VerificationError:
                    names = ", ".join(_pattern(pattern) for pattern in patterns) or "no name"
                    return refuse(f"it is for another name: {names}")
            return True
        except Exception as problem:  # OpenSSL would swallow an exception from here
            return refuse(f"it can't be checked: {problem}")

    return verify


def _pattern(pattern: Any) -> str:
    value = pattern.pattern
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)


def _ascii(name: str) -> str:
    if name.isascii():
        return name
    try:
        import idna

        return idna.encode(name, uts46=True).decode("ascii")
    except (ImportError, ValueError):
        return name.encode("idna").decode("ascii")


def _check_names(
    description: str, options: dict[str, str], known: frozenset[str], more: tuple[str, ...]
) -> None:
    unknown = [*sorted(set(options) - known), *more]
    if unknown:
        raise EndpointError(
            f"{description!r}: there is no {unknown[0]!r} for TLS, but {', '.join(sorted(known))}"
        )


def _read(description: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as problem:
        raise EndpointError(f"{description!r}: {problem}") from None


def _certificates(description: str, path: str | None) -> list[Any]:
    """The certificates in a file, or in a directory's files ``*.pem`` and ``*.crt``."""
    if path is None:
        return []
    files = [path]
    if Path(path).is_dir():
        files = [str(name) for name in sorted(Path(path).iterdir()) if name.suffix in _PEM]
    found = [
        one
        for name in files
        for one in _load_certificates(description, name, _read(description, name))
    ]
    if not found:
        raise EndpointError(f"{description!r}: there are no certificates in {path}")
    return found


_PEM = (".pem", ".crt")
_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"


def _load_certificates(description: str, path: str, pem: bytes) -> list[Any]:
    found = []
    for part in pem.split(_BEGIN)[1:]:
        body, end, _ = part.partition(_END)
        if not end:
            continue
        try:
            found.append(ssl.Certificate.loadPEM(_BEGIN + body + end + b"\n"))
        except crypto.Error:
            raise EndpointError(
                f"{description!r}: certificate {len(found) + 1} in {path} can't be read"
            ) from None
    return found
