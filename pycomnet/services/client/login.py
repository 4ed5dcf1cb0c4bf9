"""A client's login: its credentials, in one message after the hello, where nobody else reads it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet import defer
from twisted.internet.interfaces import ISSLTransport
from twisted.python.failure import Failure

from pycomnet.errors import (
    ConnectionLost,
    CredentialsNotSent,
    PycomnetError,
    ServiceError,
    ServiceUnreachable,
    Unauthenticated,
    from_map,
)
from pycomnet.net import endpoints
from pycomnet.wire.frames import ERROR, RESULT
from pycomnet.wire.hello import PLAIN
from pycomnet.wire.values import InvalidValue

if TYPE_CHECKING:
    from pycomnet.services.client.connection import ClientConnection

#: Seconds that a server has to reply to a login: it delays replies, and hundreds of others may wait
#: before. Calls have timeouts of their own.
LOGIN_TIMEOUT = 600.0


class AddressSource(Enum):
    """Who has named the address of a server."""

    #: The program, or whoever runs it: it is the server that they mean.
    PROGRAM = "program"
    #: The program, as its nameserver.
    NAMESERVER = "nameserver"
    #: A nameserver's record, or the caller of a service: it may be anybody's server.
    OTHERS = "others"


class CallerCredentials(Protocol):
    """Credentials of a client.

    :ivar kind: the kind that a server has to take: ``password``, ``token`` ...
    :ivar optional: whether a client that is refused with them goes on without a login.
    :ivar asks: whether others may be given the next time: somebody is asked, or a file is read.
    """

    kind: str

    @property
    def optional(self) -> bool: ...

    @property
    def asks(self) -> bool: ...

    def suits(self, address: str, given: bool = False) -> bool:
        """Whether they are for the server at an address.

        :param given: whether the program that has the credentials has named the server, too.
        """

    def address(self, address: str) -> str:
        """The address to connect to with them: with the certificate's files, for example."""

    def obstacle(self, transport: Any) -> str | None:
        """Why they can't be given over a transport, and what to do; None if they can."""

    def message(self, address: str) -> defer.Deferred[Sequence[str]]:
        """What is sent to an address: the kind, and what belongs to it."""

    def refused(self, address: str) -> None:
        """The server did not accept them: do not use what was remembered again."""


def as_credentials(given: Any) -> tuple[CallerCredentials, ...]:
    """A context's credentials: none, some, or several, of which the first that suits is used.

    :raises TypeError: that is something else.
    """
    if given is None:
        return ()
    found = tuple(given) if isinstance(given, (list, tuple)) else (given,)
    for one in found:
        if not isinstance(getattr(one, "kind", None), str):
            raise TypeError(
                "credentials: expected an object such as access.Password(user, password), not "
                f"{type(one).__name__}"
            )
    return found


def is_private(transport: Any) -> bool:
    """Whether nobody else can read what goes over a transport."""
    return ISSLTransport.providedBy(transport) or endpoints.is_local_address(transport.getPeer())


def _is_as_said(transport: Any, address: str) -> bool:
    """Whether an address is visibly one of this machine; TLS verifies where it leads."""
    if ISSLTransport.providedBy(transport) or endpoints.is_local_client(address):
        return True
    return not endpoints.is_local_address(transport.getPeer())


def address_with(credentials: Iterable[CallerCredentials], address: str, given: bool) -> str:
    """The address to connect to with credentials."""
    for one in credentials:
        if one.suits(address, given):
            address = one.address(address)
    return address


def choose(
    credentials: Iterable[CallerCredentials],
    kinds: object,
    transport: Any,
    address: str,
    given: bool,
) -> CallerCredentials | None:
    """Choose the credentials for a server; None if it takes none of them.

    :param kinds: those that its hello asks for.
    :raises CredentialsNotSent: it takes some that may not be sent over this transport.
    """
    if not isinstance(kinds, list):
        return None
    obstacle = None
    for one in credentials:
        if one.kind in kinds and one.suits(address, given):
            found = one.obstacle(transport)
            if found is None and not given and not _is_as_said(transport, address):
                found = (
                    "it leads to this machine without saying so, where others may have a server, "
                    "too. Name it yourself"
                )
            if found is None:
                return one
            obstacle = obstacle or found
    if obstacle is not None:
        raise CredentialsNotSent(f"{address}: {obstacle}")
    return None


def withheld(credentials: Iterable[CallerCredentials], kinds: object, address: str) -> str:
    """Why a server was given no credentials although there are some of a kind that it takes."""
    mine = isinstance(kinds, list) and [one for one in credentials if one.kind in kinds]
    if not mine or not any(one.suits(address, True) for one in mine):
        return ""
    # Whoever has named it may hope that somebody pastes this.
    shell, text = "'" + address.replace("'", "'\"'\"'") + "'", json.dumps(address)
    return (
        f"{address} got no credentials: a nameserver's record, or a caller, has named it, and may "
        f"name anybody's server. State that they are for it: PYCOMNET_CREDENTIALS_FOR={shell} "
        f"in the environment, address = {text} in the credentials file, or "
        f"access.AtAddress({text}, credentials) in a program; * may stand for a part"
    )


async def log_in(
    connection: ClientConnection, credentials: CallerCredentials, address: str
) -> dict[str, Any]:
    """Send credentials; returns the server's reply, a map.

    :raises Unauthenticated: they were not accepted.
    :raises ServiceUnreachable: the connection broke.
    """
    message = list(await credentials.message(address))
    waiting = PendingLogin(connection, PLAIN.encode(message)).deferred
    waiting.addTimeout(LOGIN_TIMEOUT, connection.reactor)
    try:
        reply = await waiting
    except defer.TimeoutError:
        raise ServiceUnreachable(f"{address}: it does not answer the login") from None
    except Unauthenticated as problem:
        if problem.reason == "refused":
            credentials.refused(address)
        raise
    except ConnectionLost as lost:
        raise ServiceUnreachable(f"can't log in at {address}: {lost.reason}") from None
    return reply


class PendingLogin:
    """A login that was sent, and waits for its reply.

    :ivar deferred: fires with the reply, a map.
    """

    def __init__(self, connection: ClientConnection, payload: bytes) -> None:
        self._connection = connection
        self.deferred: defer.Deferred[dict[str, Any]] = defer.Deferred(self._cancelled)
        self._id: int | None = connection.call("login", payload, self)
        connection.flush_soon()

    def _cancelled(self, _: object) -> None:
        if self._id is not None and self._connection.lost is None:
            self._connection.mux.cancel_call(self._id)
            self._connection.flush_soon()

    def _fail(self, problem: Exception) -> None:
        if not self.deferred.called:
            self.deferred.errback(Failure(problem))

    def replied(self, payload: bytes | memoryview) -> None:
        """The server has accepted them."""
        self._id = None
        try:
            reply = PLAIN.decode(bytes(payload))
            if not isinstance(reply, dict) or not isinstance(reply.get("services"), dict):
                raise InvalidValue("expected a map with the services")
        except InvalidValue as problem:
            self._fail(self._connection.violated("value", f"the reply to a login: {problem}"))
            return
        if not self.deferred.called:
            self.deferred.callback(reply)

    def arrived(self, payload: bytes | memoryview, cost: int) -> None:
        """The reply, if it is too long for the frame that closes the channel."""
        mux = self._connection.mux
        if cost and self._id in mux.streams:
            mux.consumed(mux.streams[self._id], cost)
        self.replied(payload)

    def run_arrived(self, payloads: list[bytes], cost: int) -> None:
        """Several values: a reply is one."""
        self._fail(self._connection.violated("channel", "a login has one reply"))

    def ended(self) -> None:
        """The server ends its half only by closing."""

    def closed(self, kind: int, payload: bytes) -> None:
        self._id = None
        if kind == RESULT:
            self.replied(payload)
            return
        problem: PycomnetError = ServiceError("the server closed the login without a reply")
        if kind == ERROR:
            try:
                problem = from_map(PLAIN.decode(payload))
            except InvalidValue as invalid:
                problem = self._connection.violated("value", str(invalid))
        self._fail(problem)

    def connection_lost(self, lost: ConnectionLost) -> None:
        self._fail(lost)
