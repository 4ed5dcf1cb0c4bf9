"""Both ends of the HTTP interface in memory: a site whose subprocesses are the test's, a client."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

from twisted.cred.portal import Portal
from twisted.internet import defer
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseDone
from twisted.web.websocket import WebSocketClientEndpoint
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, Request, TextMessage

from pycomnet.auth.tokens import TokenChecker, new_token
from pycomnet.mediator.client.httptransport import HTTPTransport
from pycomnet.mediator.client.requests import MediatorClient, Server
from pycomnet.mediator.client.websocket import WebSocketLink
from pycomnet.mediator.frames import HEADER
from pycomnet.mediator.server.access import Access, Realm
from pycomnet.mediator.server.model import UserLimits
from pycomnet.mediator.server.resources import destination, root
from pycomnet.mediator.server.site import Site
from pycomnet.test.kit import MemoryTransport
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


class RecordingClient:
    """Has no server: requests wait, and are recorded."""

    server = cast(Server, SimpleNamespace(url="http://server"))

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.answers: list[defer.Deferred[Any]] = []
        self.requests: list[defer.Deferred[Any]] = []
        self.starting: defer.Deferred[dict[str, Any]] = defer.Deferred()
        self.closing: defer.Deferred[None] | None = None

    def start(self, spec: object, id: str) -> defer.Deferred[dict[str, Any]]:
        return self.starting

    def close(self) -> defer.Deferred[None]:
        self.closing = defer.Deferred()
        return self.closing

    def ask(self, method: str, path: str, *args: Any, **query: Any) -> defer.Deferred[Any]:
        self.asked.append((method, query))
        self.answers.append(defer.Deferred())
        return self.answers[-1]

    def request(self, method: str, path: str, *args: Any, **query: Any) -> defer.Deferred[Any]:
        self.requests.append(defer.Deferred())
        return self.requests[-1]


class RecordingProtocol:
    """Knows how its connection ended."""

    def __init__(self) -> None:
        self.lost: list[type[BaseException]] = []

    def makeConnection(self, transport: object) -> None:
        """It is connected."""

    def dataReceived(self, data: bytes) -> None:
        """Nobody looks at it."""

    def connectionLost(self, reason: Failure) -> None:
        assert reason.type is not None
        self.lost.append(reason.type)


class StreamCase(SynchronousTestCase):
    """A transport over HTTP without a server."""

    def make_stream(self, **about: object) -> None:
        """Make it.

        :param about: what the server has said of the far side.
        """
        self.clock = Clock()
        self.client = RecordingClient()
        self.protocol = RecordingProtocol()
        self.stream = HTTPTransport(
            cast(MediatorClient, self.client),
            {"pid": "1", **about},
            "yes",
            lambda text: None,
            self.clock,
        )
        self.stream.connect(self.protocol)


class JSONResponse:
    """An answer with status 200 that says this."""

    code = 200
    length = 1

    def __init__(self, value: dict[str, Any]) -> None:
        self._data = json.dumps(value).encode()

    def deliverBody(self, protocol: Any) -> None:
        """All of it is there."""
        protocol.dataReceived(self._data)
        protocol.connectionLost(Failure(ResponseDone()))


class LinkCase(StreamCase):
    """A WebSocket of a transport over HTTP in memory, with wsproto as its server.

    :ivar wire: the client's protocol.
    :ivar transport: what the client writes to.
    """

    def endpointForURI(self, uri: Any) -> Any:
        """Where any server is: here."""
        return self

    def buildProtocol(self, url: str) -> WebSocketLink:
        """What Twisted connects."""
        return self.link

    def connect(self, factory: Any) -> defer.Deferred[Any]:
        """The connection is there at once."""
        self.wire = factory.buildProtocol(None)
        self.wire.makeConnection(self.transport)
        return defer.succeed(self.wire)

    def make_link(self) -> None:
        """A link to a server that lets it in, and has said nothing yet."""
        self.make_stream()
        self.link = WebSocketLink(self.stream)
        self.transport = MemoryTransport()
        endpoint = WebSocketClientEndpoint(cast(Any, self), "ws://localhost/exec/1/ws")
        connecting = defer.Deferred.fromCoroutine(endpoint.connect(cast(Any, self)))
        self.server = WSConnection(ConnectionType.SERVER)
        self.server.receive_data(self.transport.take())
        self.assertIsInstance(next(iter(self.server.events())), Request)
        self.wire.dataReceived(self.server.send(AcceptConnection()))
        self.assertIs(self.successResultOf(connecting), self.link)

    def say(self, value: dict[str, Any]) -> None:
        """The server says this."""
        self.wire.dataReceived(self.server.send(TextMessage(json.dumps(value))))

    def heard(self) -> tuple[list[dict[str, Any]], list[tuple[int, int, int]]]:
        """What the server was told since the last time, and the number, offset and size of what
        was sent."""
        told, frames = [], []
        self.server.receive_data(self.transport.take())
        for event in self.server.events():
            if isinstance(event, TextMessage):
                told.append(json.loads(event.data))
            elif isinstance(event, BytesMessage):
                number, offset = HEADER.unpack_from(event.data)
                frames.append((number, offset, len(event.data) - HEADER.size))
        return told, frames
