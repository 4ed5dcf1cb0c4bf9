"""A client's settings: the servers' addresses, credentials, and limits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote, urlsplit

import attrs
from twisted.internet.endpoints import quoteStringArgument

from pycomnet.errors import EndpointError
from pycomnet.nats.errors import NatsAddressError
from pycomnet.net.endpoints import is_loopback
from pycomnet.ranges import check_fields

PORT = 4222
_SCHEMES = ("nats", "tls")
#: The most servers that are learned from other servers.
MOST_LEARNED = 64


@attrs.frozen
class NatsServer:
    """A server's address.

    :ivar tls: whether a connection must use TLS.
    :ivar name: the name that its certificate must have.
    :ivar user: the user before the ``@`` of the address; ``password`` likewise. A user without a
        password is a token.
    :ivar learned: whether another server has announced it.
    """

    host: str
    port: int
    tls: bool
    name: str
    user: str | None = attrs.field(default=None, repr=False)
    password: str | None = attrs.field(default=None, repr=False)
    learned: bool = False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'tls' if self.tls else 'nats'}://{host}:{self.port}"

    @property
    def endpoint(self) -> str:
        """The address as an endpoint string, without TLS: that begins later."""
        return f"tcp:{quoteStringArgument(self.host)}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether nobody else can read a connection to it."""
        return is_loopback(self.host)


def read_server(text: str, hidden: bool = False) -> NatsServer:
    """Read a server's address: ``nats://USER:PASSWORD@HOST:PORT``, ``tls://...``, ``HOST:PORT``.

    :param hidden: whether the error must not quote the text, as it may have a part of a password.
    :raises NatsAddressError: the address is not valid.
    """
    expected = "expected nats://HOST:PORT or tls://HOST:PORT"
    hidden = hidden or "@" in text
    if hidden:
        # A password with a slash ends where a port or a path would begin.
        wrong = f"{expected}; a password has %2F for /, %23 for #, %3F for ?, %2C for a comma"
    else:
        wrong = f"{expected}, not {text!r}"
    try:
        parts = urlsplit(text if "://" in text else f"nats://{text}")
        host, port = parts.hostname, parts.port
    except ValueError as problem:
        why = "" if hidden else f": {problem}"
        raise NatsAddressError(wrong + why) from None
    rest = parts.path.strip("/") or parts.query or parts.fragment
    if parts.scheme not in _SCHEMES or not host or rest or not host.isprintable() or " " in host:
        raise NatsAddressError(wrong)
    user = None if parts.username is None else unquote(parts.username)
    password = None if parts.password is None else unquote(parts.password)
    tls = parts.scheme == "tls"
    return NatsServer(host, PORT if port is None else port, tls, host, user, password)


def read_servers(servers: str | Iterable[str]) -> tuple[NatsServer, ...]:
    """Read addresses with commas between them, or a list of addresses.

    :raises NatsAddressError: an address is not valid, or there is none.
    """
    given = servers.split(",") if isinstance(servers, str) else list(servers)
    hidden = isinstance(servers, str) and "@" in servers
    found = tuple(read_server(one.strip(), hidden) for one in given if one.strip())
    if not found:
        raise NatsAddressError("expected the addresses of NATS servers: nats://HOST:PORT,...")
    return found


@attrs.frozen(kw_only=True)
class NatsSettings:
    """How a client reaches NATS.

    :ivar servers: addresses: ``"nats://a:4222,tls://b:4222"`` or a list.
    :ivar user: the user, with ``password``; they may also be in the addresses.
    :ivar token: a token instead of a user.
    :ivar nkey: the path of a file with the seed of an nkey (``SU...``).
    :ivar trust_roots: with TLS: a file or directory of certificates; by default the system's.
    :ivar certificate: with TLS: the path of the client's certificate, and
    :ivar private_key: ... of its key.
    :ivar name: the name under which the server lists this client.
    :ivar learn: whether servers that other servers announce are used as well.
    :ivar plain_credentials: whether passwords and tokens may be sent to other machines without TLS.
    :ivar first_retry: seconds until the servers are tried again, at first and
    :ivar longest_retry: ... at most.
    :ivar connect_timeout: seconds for a server to accept a client.
    :ivar ping: seconds between pings. A server that does not answer two pings is considered dead.
    :ivar buffer: bytes that may wait to be sent.
    :ivar message: the most bytes of a message that is received.
    :ivar replicas: how many servers keep a stream that this client creates.
    :ivar ack_wait: seconds after which an unacknowledged event of a group goes to another member.
    """

    servers: tuple[NatsServer, ...] = attrs.field(converter=read_servers)
    user: str | None = attrs.field(default=None, repr=False)
    password: str | None = attrs.field(default=None, repr=False)
    token: str | None = attrs.field(default=None, repr=False)
    nkey: str | None = None
    trust_roots: str | None = None
    certificate: str | None = None
    private_key: str | None = None
    name: str = "pycomnet"
    learn: bool = True
    plain_credentials: bool = False
    first_retry: float = 0.05
    longest_retry: float = 5.0
    connect_timeout: float = 10.0
    ping: float = 20.0
    buffer: int = 8 << 20
    message: int = 64 << 20
    replicas: int = 1
    ack_wait: float = 30.0

    def __attrs_post_init__(self) -> None:
        check_fields(self)
        if (self.password is None) is not (self.user is None):
            raise NatsAddressError("user= and password= go together; a token is token=")
        if sum(one is not None for one in (self.user, self.token, self.nkey)) > 1:
            raise NatsAddressError("give one of user= (with password=), token= and nkey=")
        if self.private_key is not None and self.certificate is None:
            raise NatsAddressError("private_key= goes with certificate=")

    def tls_options(self, server: NatsServer) -> dict[str, str]:
        """The options of an endpoint string with TLS to a server."""
        found = {"hostname": server.name}
        for name, value in (
            ("trustRoots", self.trust_roots),
            ("certificate", self.certificate),
            ("privateKey", self.private_key),
        ):
            if value is not None:
                found[name] = value
        return found

    def learned(self, address: Any, teller: NatsServer, is_proven: bool) -> NatsServer | None:
        """Make a server of an announced ``HOST:PORT``; None if that is not valid.

        The server gets the announcing server's TLS setting and credentials. With TLS, its
        certificate must have the announced host name if the announcement came with TLS, or if the
        host is in the domain of a server that the user has given. Otherwise, and for an IP address,
        the certificate must have the announcing server's name: an attacker may have altered an
        announcement that was sent without TLS, and may have a valid certificate of another host.

        :param is_proven: whether the announcement has come with TLS, from a server whose
            certificate was checked.
        """
        if not isinstance(address, str) or len(address) > 300 or "@" in address:
            return None
        try:
            found = read_server(address)
        except (NatsAddressError, EndpointError):
            return None
        by_number = found.host.replace(".", "").isdigit() or ":" in found.host
        is_own = not by_number and (is_proven or self._is_akin(found.host))
        return attrs.evolve(
            found,
            tls=teller.tls,
            name=found.host if is_own else teller.name,
            user=teller.user,
            password=teller.password,
            learned=True,
        )

    def _is_akin(self, host: str) -> bool:
        """Whether a host is one of the given hosts, or in the domain of one: ``b.nats.example`` is
        in that of ``a.nats.example``. Domains of one part, such as ``com``, don't count."""
        domain = host.partition(".")[2]
        names = [one.host for one in self.servers]
        return host in names or (
            "." in domain and domain in [name.partition(".")[2] for name in names]
        )


def read_via(via: Any) -> NatsSettings:
    """Read the value of ``via=``: addresses, or :class:`NatsSettings`.

    :raises NatsAddressError: the value is neither.
    """
    if isinstance(via, NatsSettings):
        return via
    if isinstance(via, str):
        return NatsSettings(servers=via)
    raise NatsAddressError(f"via: expected 'nats://HOST:PORT,...' or NatsSettings, not {via!r}")
