"""A server's site in memory: requests are written to it, and its subprocesses are the test's."""

from __future__ import annotations

import json
from typing import Any

from twisted.cred.portal import Portal
from twisted.internet.address import IPv4Address
from twisted.internet.testing import StringTransport

from pycomnet.auth.tokens import TokenChecker, new_token
from pycomnet.mediator.server.access import Access, Realm
from pycomnet.mediator.server.model import UserLimits
from pycomnet.mediator.server.resources import destination, root
from pycomnet.mediator.server.site import Site
from pycomnet.test.mediator.server.test_session import MediatorCase

LOCAL = IPv4Address("TCP", "127.0.0.1", 2013)


class Connection:
    """A client's connection to a site.

    :ivar transport: the server's end of it.
    """

    def __init__(self, site: Site) -> None:
        self.channel: Any = site.buildProtocol(LOCAL)
        transport: Any = StringTransport(LOCAL, LOCAL)
        transport.setTcpNoDelay = lambda on: None
        self.transport = transport
        self.channel.makeConnection(self.transport)

    def send(self, data: bytes) -> None:
        """Have these bytes arrive."""
        self.channel.dataReceived(data)

    def take(self) -> bytes:
        """What the server has written since the last time."""
        data: bytes = self.transport.value()
        self.transport.clear()
        return data

    def answer(self) -> tuple[int, dict[str, Any]]:
        """The answer that it has written: the status, and what its JSON says."""
        head, _, body = self.take().partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(body) if body.startswith(b"{") else {}


class SiteCase(MediatorCase):
    """A site whose requests and subprocesses are the test's."""

    limits = UserLimits(processes=2, queue=1 << 16, request=1000, linger=60, idle_timeout=0)

    def setUp(self) -> None:
        super().setUp()
        self.token = new_token()
        portal = Portal(Realm(self.limits), [TokenChecker.of_one(self.token)])
        self.access = Access(portal, self.clock)
        self.site = Site(
            root(self.mediator, self.access),
            self.access,
            destination(self.mediator, self.access),
            self.clock,
        )

    def connect(self) -> Connection:
        """A new connection."""
        return Connection(self.site)

    def head(self, method: str, path: str, *lines: str) -> bytes:
        """The head of a request."""
        first = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1:2013"]
        both = [*first, f"Authorization: Bearer {self.token}", *lines]
        return "\r\n".join([*both, "", ""]).encode()

    def popen(self) -> tuple[str, Any]:
        """Start a subprocess; its path, and it."""
        connection = self.connect()
        connection.send(self.head("POST", "/popen", "Content-Length: 2") + b"{}")
        status, about = connection.answer()
        self.assertEqual(status, 201)
        return f"/exec/{about['pid']}", self.children[-1]
