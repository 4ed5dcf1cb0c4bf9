"""Admission of requests: the Host, the Origin, the bearer token, and tickets for WebSockets.

A page in a user's browser must not be able to use a server that runs code. So there are no cookies
and no CORS headers: a browser adds nothing by itself that authorises a request. A request that says
where it comes from (``Origin``, ``Sec-Fetch-Site``) must come from this server's own page. Its
``Host`` must be a name of this server: a page whose own name points to this server (DNS rebinding)
sends its own name.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Collection, Mapping
from typing import Any

import attrs
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from pycomnet.auth.tokens import BearerToken
from pycomnet.mediator.server.model import HttpError, IUser, User, UserLimits
from pycomnet.net.endpoints import describe_address
from pycomnet.text.logs import Logger

log = Logger()

#: Seconds that a ticket is valid. A client uses it at once.
TICKET_TIME = 30.0
#: The most unused tickets of one user.
MAX_TICKETS = 100
#: The names of a server that only clients on this machine can connect to.
LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:/\[\]@\s\x00-\x20\x7f-\U0010ffff]+)(:[0-9]{1,5})?")


def split_host(text: str) -> str | None:
    """The name in a Host header or after an origin's scheme, in lower case; None if not valid."""
    match = _HOST.fullmatch(text)
    return match[1].strip("[]").lower().rstrip(".") if match else None


@attrs.frozen
class Names:
    """The names that a server accepts in ``Host``.

    :ivar names: names, in lower case; ``*.example.com`` stands for the names one level below it.
    :ivar numbers: whether any IP address is accepted. DNS rebinding needs a name, so an address is
        safe.
    """

    names: Collection[str] = LOCAL_NAMES
    numbers: bool = False

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        if name in self.names or f"*.{name.partition('.')[2]}" in self.names:
            return True
        if self.numbers:
            try:
                ipaddress.ip_address(name)
            except ValueError:
                return False
            return True
        return False


@implementer(IRealm)
class Realm:
    """Makes the :class:`User` for an admitted token, with their limits.

    :param limits: for users without limits of their own.
    :param users: limits by name, from the sections of a tokens file.
    """

    def __init__(self, limits: UserLimits, users: Mapping[str, UserLimits] | None = None) -> None:
        self._limits = limits
        self._users = users or {}

    def requestAvatar(self, name: Any, mind: object, *interfaces: Any) -> Any:
        if IUser not in interfaces:
            raise NotImplementedError("only IUser")
        if not isinstance(name, bytes):  # anonymous: refused, even if a checker accepts it
            raise UnauthorizedLogin("a user needs a name")
        text = name.decode("utf-8", "replace")
        return IUser, User(text, self._users.get(text, self._limits)), lambda: None


@attrs.define
class Ticket:
    """Authorises its bearer to open one WebSocket.

    :ivar user: the user that it was made for.
    :ivar path: the WebSocket's path, relative to the server's root.
    :ivar expires: when the ticket expires.
    """

    user: User
    path: str
    expires: float


def _texts(request: Any, name: bytes) -> list[str]:
    """The values of a request's header. They may be any bytes."""
    found = request.requestHeaders.getRawHeaders(name, [])
    return [value.decode("latin-1") for value in found]


class Access:
    """Admits requests, or refuses them with a reason.

    :param portal: checks a :class:`~pycomnet.auth.tokens.BearerToken` and returns an
        :class:`IUser`.
    :param names: the server's names.
    :param origins: further origins whose pages may send requests, as ``https://host``.
    :param denied: called for each request that is refused.
    """

    def __init__(
        self,
        portal: Portal,
        reactor: IReactorTime,
        names: Names | None = None,
        origins: Collection[str] = (),
        denied: Any = lambda: None,
    ) -> None:
        self._portal = portal
        self._reactor = reactor
        self._names = names or Names()
        self._origins = frozenset(origins)
        self._denied = denied
        self._tickets: dict[str, Ticket] = {}

    def check_source(self, request: Any) -> None:
        """Check that a request is meant for this server, and does not come from another server's
        page.

        :raises HttpError: 400 if it has no valid ``Host``, else 403.
        """
        hosts = _texts(request, b"host")
        host = split_host(hosts[0]) if len(hosts) == 1 else None
        if host is None:
            self._denied()
            raise HttpError(400, "host", "a request needs one Host header, with a valid name")
        if host not in self._names:
            self._denied()
            raise HttpError(403, "host", "that is not a name of this server: see --host")
        for origin in _texts(request, b"origin"):
            if origin in self._origins:
                continue
            scheme, slashes, rest = origin.partition("://")
            if not slashes or scheme not in ("http", "https") or rest != hosts[0]:
                self._denied()
                raise HttpError(403, "origin", "pages of other servers may not use this one")
        for site in _texts(request, b"sec-fetch-site"):
            if site not in ("same-origin", "none") and not self._origins:
                self._denied()
                raise HttpError(403, "origin", "pages of other servers may not use this one")

    async def login(self, request: Any, ticket_for: str | None = None) -> IUser:
        """The user who sent a request.

        :param ticket_for: the path of the WebSocket, if a ticket is accepted for it.
        :raises HttpError: 400, 401 or 403.
        """
        self.check_source(request)
        if ticket_for is not None and b"ticket" in request.args:
            return self._use(request.args[b"ticket"][0], ticket_for)
        given = request.requestHeaders.getRawHeaders(b"authorization", [])
        kind, _, token = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        if kind.lower() != b"bearer" or not token.strip():
            self._denied()
            raise HttpError(401, "token", "a bearer token is needed")
        try:
            login = await self._portal.login(BearerToken(token.strip()), None, IUser)
        except UnauthorizedLogin:
            self._denied()
            log.warn("a wrong token from {peer}", peer=describe_address(request.getClientAddress()))
            raise HttpError(401, "token", "nobody has such a token") from None
        user: Any = login[1]
        return user  # type: ignore[no-any-return]

    def ticket(self, user: User, path: str) -> str:
        """Make a ticket for a WebSocket: a browser's can't send a token in a header, and a token in
        a URL may be logged.

        :param path: the WebSocket's path, relative to the server's root.
        :raises HttpError: 429 if the user has too many unused tickets.
        """
        now = self._reactor.seconds()
        self._tickets = {key: one for key, one in self._tickets.items() if one.expires > now}
        if sum(1 for one in self._tickets.values() if one.user.name == user.name) >= MAX_TICKETS:
            raise HttpError(429, "tickets", "too many unused tickets")
        name = secrets.token_urlsafe(32)
        self._tickets[name] = Ticket(user, path, now + TICKET_TIME)
        return name

    def withdraw(self, names: Collection[str]) -> None:
        """Forget the tickets of users whose tokens are withdrawn."""
        self._tickets = {
            key: one for key, one in self._tickets.items() if one.user.name not in names
        }

    def _use(self, name: bytes, path: str) -> IUser:
        # Not compared in constant time: a dict compares hashes first, and a ticket is random and
        # valid once and briefly, so that timing reveals nothing useful about other tickets.
        ticket = self._tickets.pop(name.decode("ascii", "replace"), None)
        if ticket is None or ticket.path != path or ticket.expires <= self._reactor.seconds():
            self._denied()
            raise HttpError(401, "ticket", "the ticket is not valid, or has expired")
        return ticket.user
