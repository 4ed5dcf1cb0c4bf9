"""Credentials with which a client authenticates: ``Context(credentials=...)``."""

from __future__ import annotations

import inspect
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

import attrs
from twisted.internet import defer
from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import ISSLTransport

from pycomnet.auth.tokens import check_token_syntax, load_token
from pycomnet.deferred import deferred
from pycomnet.errors import AccessConfigError, EndpointError, TokenError
from pycomnet.net import endpoints
from pycomnet.net.destinations import destination, destination_pattern
from pycomnet.services.client.login import is_private

#: A text, or a function that asks for it: it returns the text, or a Deferred or awaitable of it.
Asked: TypeAlias = "str | Callable[..., str | Awaitable[str]]"

NOT_PRIVATE = (
    "these credentials are sent over TLS, over a unix socket or on this machine only, as others "
    "could read them elsewhere. Connect to a tls: address"
)


class Credentials:
    """The base of a client's credentials.

    :cvar kind: as in the message (docs/protocol.rst, "Credentials").
    """

    kind = ""

    @property
    def optional(self) -> bool:
        """Whether a client that is refused with them goes on without a login."""
        return False

    @property
    def asks(self) -> bool:
        """Whether the next login may use another text, as a function asks for it."""
        return False

    def suits(self, address: str, given: bool = False) -> bool:
        """Whether the credentials are for the server at an address.

        :param given: whether the program itself has named the server. Credentials that are proofs
            only to the server itself are for any server.
        """
        return True

    def address(self, address: str) -> str:
        """The address to connect to with these credentials."""
        return address

    def obstacle(self, transport: Any) -> str | None:
        """The reason why they can't be sent over a transport; None if they can."""
        return None if is_private(transport) else NOT_PRIVATE

    def message(self, address: str) -> defer.Deferred[Sequence[str]]:
        """The message for an address. Cancelling it stops asking."""
        return defer.succeed([self.kind])

    def refused(self, address: str) -> None:
        """They were not accepted."""


@attrs.define(eq=False)
class Password(Credentials):
    """A user's name and password.

    They are for the servers whose addresses the program names. See :class:`AtAddress` for others.

    :ivar user: the name.
    :ivar password: the password; or a function that asks for it, once, when a server first needs
        it, and again after a refusal. A function that takes an argument gets the server's address,
        to show it, and is called for each server.
    """

    kind = "password"
    user: str
    password: Asked = attrs.field(repr=False)
    #: address -> the text for it; "" for all, if the function does not show the address
    _asked: dict[str, str] = attrs.field(init=False, factory=dict, repr=False)

    @property
    def asks(self) -> bool:
        return callable(self.password)

    def suits(self, address: str, given: bool = False) -> bool:
        return given or _takes_address(self.password)

    @deferred
    async def message(self, address: str) -> Sequence[str]:
        key = address if _takes_address(self.password) else ""
        if key not in self._asked:
            self._asked[key] = await _ask(self.password, "the password", address)
        return [self.kind, self.user, self._asked[key]]

    def refused(self, address: str) -> None:
        self._asked.pop(address, None)
        self._asked.pop("", None)


@attrs.define(eq=False)
class Token(Credentials):
    """A bearer token, or a JSON Web Token.

    It is for the servers whose addresses the program names. See :class:`AtAddress` for others.

    :ivar token: the token; or a function that returns a current one, called each time that a token
        is needed.
    """

    kind = "token"
    token: Asked = attrs.field(repr=False)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Token:
        """The token of a file that only its owner can read. It is read at each login.

        :raises TokenError: there is no such file, others may read it, or it does not contain a
            token.
        """
        load_token(path)
        return cls(lambda: load_token(path))

    @property
    def asks(self) -> bool:
        return callable(self.token)

    def suits(self, address: str, given: bool = False) -> bool:
        return given

    @deferred
    async def message(self, address: str) -> Sequence[str]:
        token = await _ask(self.token, "the token", address)
        try:
            return [self.kind, check_token_syntax(token, "token")]
        except TokenError as problem:
            raise AccessConfigError(str(problem)) from None


def _takes_address(value: Any) -> bool:
    """Whether a function that asks shows the server's address: whether it needs one argument.

    An argument with a default does not count: it may serve to bind a value.
    """
    if not callable(value):
        return False
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return False
    places = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [one for one in parameters if one.default is one.empty and one.kind in places]
    return len(needed) == 1


async def _ask(value: Asked, what: str, address: str) -> str:
    found: Any = value
    if callable(value):
        found = value(address) if _takes_address(value) else value()
        if not isinstance(found, str):
            found = await found
    if not isinstance(found, str):
        raise AccessConfigError(f"{what}: expected a str, not {type(found).__name__}")
    return found


@attrs.define(eq=False)
class ClientCertificate(Credentials):
    """The client's TLS certificate: the one of the address, or of these files.

    :ivar certificate: a PEM file with the certificate and its chain; None: the address has
        ``certificate=FILE:privateKey=FILE``.
    :ivar private_key: a PEM file with the key.
    :ivar if_known: whether a client whom the server does not know goes on without a login; else it
        fails.
    """

    kind = "certificate"
    certificate: str | None = None
    private_key: str | None = None
    if_known: bool = False

    def __attrs_post_init__(self) -> None:
        if (self.certificate is None) != (self.private_key is None):
            raise AccessConfigError("a client certificate has two files: give both, or none")

    @property
    def optional(self) -> bool:
        return self.if_known

    def suits(self, address: str, given: bool = False) -> bool:
        if self.certificate is None and self.if_known:
            return "certificate" in endpoints.parse(address).options
        return super().suits(address, given)

    def address(self, address: str) -> str:
        endpoint = endpoints.parse(address)
        if endpoint.kind not in endpoints.TLS or self.certificate is None:
            return address
        if "certificate" in endpoint.options:
            return address
        assert self.private_key is not None
        files = {"certificate": self.certificate, "privateKey": self.private_key}
        return str(attrs.evolve(endpoint, options={**endpoint.options, **files}))

    def obstacle(self, transport: Any) -> str | None:
        if ISSLTransport.providedBy(transport):
            return None
        return "a client certificate is shown over TLS only: connect to a tls: address"


@attrs.define(eq=False)
class PeerUser(Credentials):
    """The user that this process runs as, which the system reports to the server of a unix socket.

    :ivar if_known: whether a client whom the server does not know goes on without a login; else it
        fails.
    """

    kind = "peer"
    if_known: bool = False

    @property
    def optional(self) -> bool:
        return self.if_known

    def obstacle(self, transport: Any) -> str | None:
        if isinstance(transport.getPeer(), UNIXAddress):
            return None
        return "the system tells a process's user over a unix socket only: connect to unix:PATH"


class AtAddress(Credentials):
    """Credentials for some servers only, whether or not the program itself has named the server.

    :param pattern: of addresses, with a shell's wildcards: ``tls:*.example.org:*``. It is compared
        with the host and the port that an address leads to, and with the name that the server's
        certificate must have. An address from another source than the program does not match if it
        has options that the pattern does not have: it would be verified in another way.
    :raises AccessConfigError: it is not a valid pattern.
    """

    def __init__(self, pattern: str, credentials: Credentials) -> None:
        try:
            self._destination = destination_pattern(pattern)
        except EndpointError as problem:
            raise AccessConfigError(f"a pattern of addresses: {problem}") from None
        self.pattern = pattern
        self.credentials = credentials
        self.kind = credentials.kind

    def __repr__(self) -> str:
        return f"AtAddress({self.pattern!r}, {self.credentials!r})"

    @property
    def optional(self) -> bool:
        return self.credentials.optional

    @property
    def asks(self) -> bool:
        return self.credentials.asks

    def suits(self, address: str, given: bool = False) -> bool:
        try:
            found = destination(address)
        except EndpointError:
            return False
        return found.fits(self._destination, given) and self.credentials.suits(address, True)

    def address(self, address: str) -> str:
        return self.credentials.address(address)

    def obstacle(self, transport: Any) -> str | None:
        return self.credentials.obstacle(transport)

    def message(self, address: str) -> defer.Deferred[Sequence[str]]:
        return self.credentials.message(address)

    def refused(self, address: str) -> None:
        self.credentials.refused(address)
