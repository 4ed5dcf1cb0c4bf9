"""What a client gives to prove who it is: ``Context(credentials=...)``."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

import attrs
from twisted.internet import defer
from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import ISSLTransport

from pycomnet.auth.tokens import check_token, load_token
from pycomnet.deferred import deferred
from pycomnet.errors import AccessConfigError, TokenError
from pycomnet.net import endpoints
from pycomnet.services.client.login import is_private

#: A text, or a function that asks for it: it returns the text, or a Deferred or awaitable of it.
Asked: TypeAlias = "str | Callable[[], str | Awaitable[str]]"

NOT_PRIVATE = (
    "these credentials are sent over TLS, over a unix socket or on this machine only, as others "
    "could read them elsewhere. Connect to a tls: address"
)


class Credentials:
    """The base of a client's credentials.

    :cvar kind: as in the message (docs/protocol.rst, "Credentials").
    """

    kind = ""

    def suits(self, address: str) -> bool:
        """Whether they are for the server at an address."""
        return True

    def address(self, address: str) -> str:
        """The address to connect to with them."""
        return address

    def obstacle(self, transport: Any) -> str | None:
        """Why they can't be given over a transport; None if they can."""
        return None if is_private(transport) else NOT_PRIVATE

    def message(self) -> defer.Deferred[Sequence[str]]:
        """What is sent. Cancelling it stops asking."""
        return defer.succeed([self.kind])

    def refused(self) -> None:
        """They were not accepted."""


@attrs.define(eq=False)
class Password(Credentials):
    """A user's name and password.

    :ivar user: the name.
    :ivar password: the password; or a function that asks for it, once, when a server first wants
        it. It is asked again after a refusal.
    """

    kind = "password"
    user: str
    password: Asked = attrs.field(repr=False)
    _asked: str | None = attrs.field(init=False, default=None, repr=False)

    @deferred
    async def message(self) -> Sequence[str]:
        if self._asked is None:
            self._asked = await _ask(self.password, "the password")
        return [self.kind, self.user, self._asked]

    def refused(self) -> None:
        self._asked = None


@attrs.define(eq=False)
class Token(Credentials):
    """A bearer token, or a JSON Web Token.

    :ivar token: the token; or a function that gets a current one, each time that one is needed.
    """

    kind = "token"
    token: Asked = attrs.field(repr=False)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Token:
        """The token of a file that only its owner can read. It is read at each login.

        :raises TokenError: there is no such file, others may read it, or what it has is no token.
        """
        load_token(path)
        return cls(lambda: load_token(path))

    @deferred
    async def message(self) -> Sequence[str]:
        token = await _ask(self.token, "the token")
        try:
            return [self.kind, check_token(token, "token")]
        except TokenError as problem:
            raise AccessConfigError(str(problem)) from None


async def _ask(value: Asked, what: str) -> str:
    found: Any = value
    if callable(value):
        found = value()
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
    """

    kind = "certificate"
    certificate: str | None = None
    private_key: str | None = None

    def __attrs_post_init__(self) -> None:
        if (self.certificate is None) != (self.private_key is None):
            raise AccessConfigError("a client certificate has two files: give both, or none")

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
    """The user that this process runs as, which the system tells the server of a unix socket."""

    kind = "peer"

    def obstacle(self, transport: Any) -> str | None:
        if isinstance(transport.getPeer(), UNIXAddress):
            return None
        return "the system tells a process's user over a unix socket only: connect to unix:PATH"


class AtAddress(Credentials):
    """Credentials for some servers only.

    :param pattern: of addresses, with a shell's wildcards: ``tls:*.example.org:*``. The address is
        compared without its options.
    """

    def __init__(self, pattern: str, credentials: Credentials) -> None:
        self.pattern = pattern
        self.credentials = credentials
        self.kind = credentials.kind

    def __repr__(self) -> str:
        return f"AtAddress({self.pattern!r}, {self.credentials!r})"

    def suits(self, address: str) -> bool:
        endpoint = attrs.evolve(endpoints.parse(address), options={})
        return fnmatchcase(str(endpoint), self.pattern) and self.credentials.suits(address)

    def address(self, address: str) -> str:
        return self.credentials.address(address)

    def obstacle(self, transport: Any) -> str | None:
        return self.credentials.obstacle(transport)

    def message(self) -> defer.Deferred[Sequence[str]]:
        return self.credentials.message()

    def refused(self) -> None:
        self.credentials.refused()


__all__ = [
    "AtAddress",
    "ClientCertificate",
    "Credentials",
    "Password",
    "PeerUser",
    "Token",
]
