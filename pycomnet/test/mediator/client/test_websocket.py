"""The client's end of a WebSocket, with wsproto as the server."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from twisted.internet import defer
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.websocket import WebSocketClientEndpoint
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Ping, Request

from pycomnet.mediator.client.stream import HTTPTransport
from pycomnet.mediator.client.websocket import WebSocketLink
from pycomnet.mediator.queues import OutgoingQueue
from pycomnet.mediator.server.sockets import MAX_UNREAD, Socket
from pycomnet.test.kit import MemoryTransport


class Here:
    """What connects to a server in memory."""

    def __init__(self, link: WebSocketLink) -> None:
        self.link = link
        self.transport = MemoryTransport()

    def endpointForURI(self, uri: Any) -> Here:
        return self

    def buildProtocol(self, url: str) -> WebSocketLink:
        return self.link

    def connect(self, factory: Any) -> defer.Deferred[Any]:
        """The connection is there at once."""
        self.wire = factory.buildProtocol(None)
        self.wire.makeConnection(self.transport)
        return defer.succeed(self.wire)


class LinkTests(SynchronousTestCase):
    """A link to a server that is let in."""

    def setUp(self) -> None:
        clock = Clock()
        self.out = OutgoingQueue(1 << 20)
        stream = SimpleNamespace(reactor=clock, out=self.out, input_ended=False)
        self.link = WebSocketLink(cast(HTTPTransport, stream))
        self.here = Here(self.link)
        endpoint = WebSocketClientEndpoint(cast(Any, self.here), "ws://localhost/exec/1/ws")
        connecting = defer.Deferred.fromCoroutine(endpoint.connect(cast(Any, self.here)))
        self.server = WSConnection(ConnectionType.SERVER)
        self.server.receive_data(self.here.transport.take())
        self.assertIsInstance(next(iter(self.server.events())), Request)
        self.here.wire.dataReceived(self.server.send(AcceptConnection()))
        self.assertIs(self.successResultOf(connecting), self.link)

    def ping(self, times: int) -> int:
        """The server pings; bytes that it sent."""
        data = self.server.send(Ping(bytes(100))) * times
        self.here.wire.dataReceived(data)
        return len(data)

    def test_answers(self) -> None:
        """Pings are answered, however many, as long as the server takes the answers."""
        sent = self.ping(2 * MAX_UNREAD // 100)
        self.assertGreaterEqual(len(self.here.transport.take()), sent)
        self.assertFalse(self.here.transport.disconnected)

    def test_unread_answers(self) -> None:
        """From a server that pings and does not read, a bounded number is taken."""
        producer: Any = self.here.transport.producer
        producer.pauseProducing()
        self.ping(MAX_UNREAD // 200)
        self.assertFalse(self.here.transport.disconnected)
        self.ping(MAX_UNREAD // 100)
        self.assertTrue(self.here.transport.disconnected)

    def test_reads_again(self) -> None:
        """When it reads again it may ping again, and gets what has waited."""
        producer: Any = self.here.transport.producer
        for _ in range(4):
            producer.pauseProducing()
            self.ping(MAX_UNREAD // 200)
            producer.resumeProducing()
        self.assertFalse(self.here.transport.disconnected)
        producer.pauseProducing()
        self.here.transport.take()
        self.out.append(b"input")
        self.link.wake()
        self.assertEqual(self.here.transport.take(), b"")
        producer.resumeProducing()
        self.assertNotEqual(self.here.transport.take(), b"")

    def test_one_bound(self) -> None:
        """No kind of WebSocket replaces what counts that."""

        def kinds(of: type[Any]) -> list[type[Any]]:
            found: list[type[Any]] = of.__subclasses__()
            return found + [kind for one in found for kind in kinds(one)]

        self.assertGreaterEqual(len(kinds(Socket)), 3)
        for kind in kinds(Socket):
            for name in ("pauseProducing", "resumeProducing", "stopProducing"):
                self.assertNotIn(name, vars(kind), kind)
