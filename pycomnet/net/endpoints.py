"""Endpoint strings: parses them, checks them, connects to them and listens on them.

An address is an endpoint string: ``tcp:HOST:PORT``, ``tls:HOST:PORT``, ``unix:PATH`` or any other
that Twisted or a plugin of it knows. ``HOST:PORT`` alone is ``tcp:``. With TLS, a client always
verifies the certificate's chain, dates and name. If it refuses the certificate, the connection
fails with :class:`~pycomnet.errors.CertificateRefused`, which says why.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import socket
import sys
from typing import Any, cast

import attrs
from twisted.internet import defer, error
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.endpoints import (
    clientFromString,
    quoteStringArgument,
    serverFromString,
)
from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint
from twisted.python.failure import Failure

from pycomnet.deferred import deferred
from pycomnet.errors import CertificateRefused, EndpointError
from pycomnet.net.hostname import NamedEndpoint
from pycomnet.net.private import narrow_umask
from pycomnet.net.reactors import EndpointReactor
from pycomnet.ranges import NumberRefused, real, whole

#: The longest path of a unix socket, in bytes: the room in the system's structure.
MAX_UNIX_PATH = 107 if sys.platform == "linux" else 103
#: The kinds that take ``privateKey=`` and ``certKey=`` when listening, and verify when connecting.
TLS = frozenset({"tls", "ssl"})
#: The most connections that wait to be accepted. Twisted's own 50 is too few when a thousand
#: clients reconnect to a restarted server: the system drops their packets, and they wait seconds.
BACKLOG = 1024
_BACKLOGGED = frozenset({"tcp", "tcp4", "tcp6", "unix"})
#: The kinds with a port: as a listener's first part, and a client's second.
_WITH_PORT = TLS | {"tcp", "tcp4", "tcp6"}
#: An IPv6 address as in URLs. Twisted's strings have it with backslashes: ``\\:\\:1``.
_BRACKETS = re.compile(r"(?:^|(?<=:))\[([0-9A-Fa-f:.]+(?:%[^\]:]+)?)\](?=:|$)")
#: How to give a client certificate: in an endpoint string, and in a gateway's spec.
ITS_OPTIONS = "certificate=FILE:privateKey=FILE, or cert=FILE//key=FILE"
#: Seconds for a connection to be made, and for the other end's hello, unless the string has
#: ``timeout=``.
CONNECT_TIMEOUT = 30.0


@attrs.frozen
class Endpoint:
    """The parts of an endpoint string.

    :ivar kind: the part before the first colon: ``tcp``, ``tls``, ``unix`` ...
    :ivar args: the parts without ``=``.
    :ivar options: the parts with ``=``.
    """

    kind: str
    args: tuple[str, ...]
    options: dict[str, str]

    def __str__(self) -> str:
        options = (f"{key}={quoteStringArgument(value)}" for key, value in self.options.items())
        args = (quoteStringArgument(arg).replace("=", "\\=") for arg in self.args)
        return ":".join([self.kind, *args, *options])

    def argument(self, index: int, name: str, default: str = "") -> str:
        """A part that may be given by its position or its name."""
        if index < len(self.args):
            return self.args[index]
        return self.options.get(name, default)

    def named(self, *names: str) -> dict[str, str]:
        """All parts by their names; parts without a name get these names, in this order.

        :raises EndpointError: a part came twice, so that two readers may use different values.
        """
        args = dict(zip(names, self.args, strict=False))
        twice = sorted(args.keys() & self.options.keys())
        if twice:
            raise EndpointError(f"'{self}': it has {twice[0]} twice: leave out one")
        return args | self.options


def parse(description: str) -> Endpoint:
    """Parse an endpoint string.

    :param description: as Twisted has them; ``HOST:PORT`` means ``tcp:HOST:PORT``, and an IPv6
        address may be in brackets.
    :raises EndpointError: it is not a valid endpoint string; the message has what was expected.
    """
    if not isinstance(description, str):
        raise EndpointError(f"an address is a str, not {type(description).__name__}")
    text = description.strip()
    if not text or not text.isprintable():
        raise EndpointError(f"{description!r} is no address: expected e.g. tcp:HOST:PORT")
    text = _BRACKETS.sub(lambda found: quoteStringArgument(found[1]), text)
    parts = [_unescape(part) for part in _split(text)]
    if len(parts) == 2 and parts[0][0] and parts[0][1] is None and parts[1][0].isdigit():
        kind = parts[0][0].lower()
        if kind not in TLS | {"tcp", "unix", "tcp6", "fd", "systemd"}:
            parts.insert(0, ("tcp", None))
    (kind, value), *rest = parts
    if value is not None or not kind or not rest:
        raise EndpointError(f"{description!r} is no address: expected e.g. tcp:HOST:PORT")
    args = tuple(name for name, value in rest if value is None)
    options: dict[str, str] = {}
    for name, value in rest:
        if value is not None:
            if name in options:
                raise EndpointError(f"{description!r}: it has {name}= twice: leave out one")
            options[name] = value
    return Endpoint(kind.lower(), args, options)


def clean(description: str) -> str:
    """The endpoint string in its canonical form, so that two of the same address are equal.

    :raises EndpointError: it is not a valid endpoint string.
    """
    return str(parse(description))


def _split(text: str) -> list[str]:
    """The parts between colons that have no backslash before them."""
    parts, current, escaped = [], "", False
    for character in text:
        if character == ":" and not escaped:
            parts.append(current)
            current = ""
            continue
        current += character
        escaped = character == "\\" and not escaped
    return [*parts, current]


def _unescape(part: str) -> tuple[str, str | None]:
    """A part without its backslashes: its name and its value, or itself and None."""
    out: list[str] = [""]
    characters = iter(part)
    for character in characters:
        if character == "\\":
            out[-1] += next(characters, "")
        elif character == "=" and len(out) == 1:
            out.append("")
        else:
            out[-1] += character
    return (out[0], out[1]) if len(out) == 2 else (out[0], None)


def is_tls(description: str) -> bool:
    """Whether an address uses TLS."""
    return parse(description).kind in TLS


def is_local(description: str) -> bool:
    """Whether only processes of this machine can reach a listener there.

    :param description: a listener's endpoint string, or a client's.
    """
    endpoint = parse(description)
    if endpoint.kind == "unix":
        return True
    if "interface" in endpoint.options:
        return is_loopback(endpoint.options["interface"])
    return len(endpoint.args) > 1 and is_loopback(endpoint.args[0])


#: Hosts that are this machine's own where they are connected to.
UNSPECIFIED = frozenset({"0.0.0.0", "::"})


def is_local_client(description: str) -> bool:
    """Whether an address to connect to leads to this machine only.

    :param description: a client's endpoint string.
    """
    endpoint = parse(description)
    if endpoint.kind == "unix":
        return True
    host = endpoint.argument(0, "host", "localhost").rstrip(".")
    return is_loopback(host) or host in UNSPECIFIED


def is_exposed(description: str) -> bool:
    """Whether others can read the bytes to an address: they leave the machine without TLS.

    :param description: a client's endpoint string.
    """
    return parse(description).kind not in TLS and not is_local_client(description)


def is_local_address(address: object) -> bool:
    """Whether a transport's address (of its peer, or its own) is on this machine only."""
    if isinstance(address, UNIXAddress):
        return True
    return isinstance(address, (IPv4Address, IPv6Address)) and is_loopback(address.host)


def is_loopback(host: str) -> bool:
    """Whether a host's name or IP address is of the loopback interface."""
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def describe_address(address: object) -> str:
    """A transport's address as an endpoint string, if it has that form."""
    if isinstance(address, (IPv4Address, IPv6Address)):
        return f"tcp:{quoteStringArgument(address.host)}:{address.port}"
    if isinstance(address, UNIXAddress):
        return f"unix:{quoteStringArgument(_path(address.name))}"
    return str(address)


def _path(name: bytes | str | None) -> str:
    return name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name or ""


def client_string(port: Any, description: str, host: str | None = None) -> str:
    """The endpoint string for clients of a listening port.

    :param port: an ``IListeningPort``.
    :param description: the endpoint string from which it was made.
    :param host: the name or IP address by which others reach this machine; by default the interface
        on which it listens or, if it listens on all, this machine's name.
    """
    address = port.getHost()
    if isinstance(address, UNIXAddress):
        return f"unix:{quoteStringArgument(_path(address.name))}"
    if not isinstance(address, (IPv4Address, IPv6Address)):
        raise EndpointError(f"there is no address to connect to {address}")
    kind = "tls" if parse(description).kind in TLS else "tcp"
    if host is None:
        host = address.host
        if ipaddress.ip_address(host).is_unspecified:
            host = socket.gethostname()
    return f"{kind}:{quoteStringArgument(host)}:{address.port}"


def server_endpoint(reactor: EndpointReactor, description: str) -> IStreamServerEndpoint:
    """The server endpoint of an address.

    :param description: ``tcp:PORT:interface=...``, ``unix:PATH``, or any of Twisted's. For TLS,
        ``tls:PORT:privateKey=FILE:certKey=FILE`` (or ``ssl:``), with ``interface=``,
        ``extraCertChain=FILE`` and ``clientCAs=FILE or DIRECTORY``: then only clients with a
        certificate of one of these authorities are accepted.
    :raises EndpointError: it can't be parsed, or its files can't be read.
    """
    endpoint = parse(description)
    endpoint.named("address" if endpoint.kind == "unix" else "port")
    if endpoint.kind not in TLS:
        if endpoint.kind == "unix":
            _check_unix_path(description, endpoint.argument(0, "address", ""))
        if endpoint.kind in _WITH_PORT:
            number(description, endpoint.argument(0, "port"), "port")
        if endpoint.kind in _BACKLOGGED:
            endpoint.options.setdefault("backlog", str(BACKLOG))
        try:
            return cast(IStreamServerEndpoint, serverFromString(reactor, str(endpoint)))
        except (ValueError, TypeError, KeyError) as problem:
            raise EndpointError(f"can't listen on {description!r}: {problem}") from None
    from pycomnet.net import tls

    return tls.listener(reactor, description, endpoint.args, endpoint.options)


@deferred
async def listen(reactor: EndpointReactor, description: str, factory: Any) -> Any:
    """Listen on an address.

    :param description: as for :func:`server_endpoint`.
    :param factory: makes the protocols.
    :returns: fires with the port. Fails with :class:`~pycomnet.errors.EndpointError` if it can't
        listen: the address is in use, say. Cancelling it leaves nothing listening.
    """
    endpoint = server_endpoint(reactor, description)
    try:
        if parse(description).kind == "unix":
            # Twisted creates the socket with the umask's mode, and then sets its mode.
            with narrow_umask():
                listening = endpoint.listen(factory)
            return await listening
        return await endpoint.listen(factory)
    except (error.CannotListenError, OSError) as problem:
        reason = getattr(problem, "socketError", problem)
        why = getattr(reason, "strerror", None) or str(reason)
        parsed = parse(description)
        if parsed.kind == "unix" and isinstance(reason, FileNotFoundError):
            why = f"there is no directory {os.path.dirname(parsed.argument(0, 'address'))}"
        raise EndpointError(f"can't listen on {description}: {why}") from problem


def check_client(description: str) -> None:
    """Check that a client could connect to an address, perhaps from another machine.

    :param description: a client's endpoint string. Files that it names need not exist.
    :raises EndpointError: no client could.
    """
    endpoint = parse(description)
    if endpoint.kind in _WITH_PORT:
        host = endpoint.argument(0, "host")
        if not host or host.split() != [host]:
            raise EndpointError(f"{description!r}: expected a host, got {host!r}")
        if not number(description, endpoint.argument(1, "port"), "port"):
            raise EndpointError(f"{description!r}: nobody can connect to port 0")
    elif endpoint.kind == "unix":
        if not endpoint.argument(0, "path"):
            raise EndpointError(f"{description!r}: expected unix:PATH")
        _check_unix_path(description, endpoint.argument(0, "path"))


def _check_unix_path(description: str, path: str) -> None:
    size = len(os.fsencode(path))
    if size > MAX_UNIX_PATH:
        raise EndpointError(
            f"{description!r}: the path of a unix socket has at most {MAX_UNIX_PATH} bytes, and"
            f" this one has {size}"
        )


def client_endpoint(reactor: EndpointReactor, description: str) -> IStreamClientEndpoint:
    """The client endpoint of an address.

    :param description: ``tcp:HOST:PORT``, ``unix:PATH``, or any of Twisted's. For TLS,
        ``tls:HOST:PORT`` (or ``ssl:``), with ``trustRoots=FILE or DIRECTORY`` (default: the
        system's), ``hostname=`` if the certificate has another name than HOST, and
        ``certificate=FILE:privateKey=FILE`` for a listener that requires one. The server's
        certificate is always verified. ``timeout=`` is the seconds for making the connection
        (default: 30) and, after that, for the server to answer the beginning of the TLS handshake
        (default: 15).
    :raises EndpointError: it can't be parsed, or its files can't be read.
    """
    endpoint = parse(description)
    endpoint.named(*(("path",) if endpoint.kind == "unix" else ("host", "port")))
    if endpoint.kind in TLS:
        from pycomnet.net import tls

        return tls.connector(reactor, description, endpoint.args, endpoint.options)
    if endpoint.kind == "unix":
        # Otherwise Twisted would raise a TypeError in the reactor.
        _check_unix_path(description, endpoint.argument(0, "path", ""))
    if endpoint.kind == "tcp":
        host = endpoint.argument(0, "host", "localhost")
        port = number(description, endpoint.argument(1, "port"), "port")
        if not set(endpoint.options) - {"host", "port", "timeout"} and not is_number(host):
            return NamedEndpoint(reactor, host, port, seconds(description, endpoint.options))
    try:
        return cast(IStreamClientEndpoint, clientFromString(reactor, str(endpoint)))
    except (ValueError, TypeError, KeyError) as problem:
        raise EndpointError(
            f"can't connect to {description!r}: {problem}: expected e.g. tcp:HOST:PORT"
        ) from None


def peer_name(transport: Any) -> str | None:
    """The name in a client's certificate, once the handshake is done.

    :param transport: a connection's.
    :returns: its subject's common name, else its first alternative name; None without TLS or
        without a certificate.
    """
    certificate = getattr(transport, "getPeerCertificate", lambda: None)()
    if certificate is None:
        return None
    from cryptography import x509

    parsed = certificate.to_cryptography()
    for attribute in parsed.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME):
        return str(attribute.value)
    try:
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
    return next((str(name.value) for name in names), None)


def explain(failure: Failure | BaseException, plain: str = "a tcp: address") -> str:
    """Why a connection could not be made, or ended, and what to do about it, as text.

    :param plain: the text that asks for a connection without TLS.
    """
    problem = failure.value if isinstance(failure, Failure) else failure
    if isinstance(problem, CertificateRefused):
        return str(problem)
    if isinstance(problem, error.ConnectionRefusedError):
        return "nothing listens there (connection refused)"
    if isinstance(problem, (error.TimeoutError, error.TCPTimedOutError, defer.TimeoutError)):
        return "it does not answer (timed out)"
    if isinstance(problem, error.DNSLookupError):
        return "its name can't be resolved"
    if isinstance(problem, error.ConnectError) and problem.osError == errno.ENOENT:
        return "nothing listens there (there is no such socket)"
    if isinstance(problem, error.ConnectError) and problem.osError == errno.EACCES:
        return "this user may not connect to that socket (permission denied)"
    text = str(problem)
    if problem is not None and type(problem).__module__.startswith("OpenSSL"):
        reasons = [str(item[-1]) for item in problem.args[0]] if problem.args else []
        text = "TLS: " + ("; ".join(reasons) or type(problem).__name__)
        if "certificate required" in text:
            text = f"it asks for a client certificate ({ITS_OPTIONS})"
        elif "bad certificate" in text:
            text += f": it asks for another client certificate, or for one ({ITS_OPTIONS})"
        elif "unknown ca" in text:
            text += ": it does not trust the authority of this client certificate"
        elif "wrong version number" in text or "unexpected eof" in text:
            text += f": it may speak no TLS, and want {plain}"
    return text or type(problem).__name__


def explain_silence(description: str, why: str) -> str:
    """Why a connection ended before the other end had said anything, with what may be wrong.

    :param why: the known reason, as text.
    """
    hint = silence_hint(description)
    return f"{why.rstrip('.')} before it said hello: {hint}" if hint else why


def silence_hint(description: str) -> str:
    """What may be wrong if a connection ends before the other end has said anything, or ""."""
    if parse(description).kind in _WITH_PORT - TLS:
        return "it may want a tls: address, or is another program"
    return ""


def number(description: str, text: str, what: str) -> int:
    """Parse a port or another small number in an endpoint string."""
    try:
        return whole(what, text, 0, 65535, text=True)
    except NumberRefused:
        raise EndpointError(
            f"{description!r}: expected a number of at most 65535 for the {what}, got {text!r}"
        ) from None


def seconds(description: str, options: dict[str, str], default: float = CONNECT_TIMEOUT) -> float:
    """Parse an endpoint string's ``timeout=``: seconds for each step of making a connection.

    :param default: what it is if the string does not have it.
    """
    try:
        return real("timeout", options.get("timeout", default), above=True, text=True)
    except NumberRefused as problem:
        raise EndpointError(f"{description!r}: {problem}") from None


def is_number(host: str) -> bool:
    """Whether a host is an IP address and not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
