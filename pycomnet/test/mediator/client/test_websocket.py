"""The client's end of a WebSocket, with wsproto as the server."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer, error
from wsproto.events import Ping

from pycomnet.mediator.client.websocket import POST_FROM
from pycomnet.mediator.server import sockets
from pycomnet.mediator.server.sockets import Socket
from pycomnet.test.mediator.kit import JSONResponse, LinkCase, StreamCase

#: Bytes of pongs that may wait, here.
MAX_UNREAD = 1 << 16


class LinkTests(LinkCase):
    """A link to a server that is let in."""

    def setUp(self) -> None:
        self.patch(sockets, "MAX_UNREAD", MAX_UNREAD)
        self.make_link()
        self.say({"received": 0})

    def ping(self, times: int) -> int:
        """The server pings; bytes that it sent."""
        data = self.server.send(Ping(bytes(100))) * times
        self.wire.dataReceived(data)
        return len(data)

    def test_pings_are_answered(self) -> None:
        """Pings are answered, however many, as long as the server takes the answers."""
        sent = self.ping(2 * MAX_UNREAD // 100)
        self.assertGreaterEqual(len(self.transport.take()), sent)
        self.assertFalse(self.transport.disconnected)

    def test_unread_pongs_are_bounded(self) -> None:
        """From a server that pings and does not read, a bounded number is taken."""
        producer: Any = self.transport.producer
        producer.pauseProducing()
        self.ping(MAX_UNREAD // 200)
        self.assertFalse(self.transport.disconnected)
        self.ping(MAX_UNREAD // 100)
        self.assertTrue(self.transport.disconnected)

    def test_server_that_reads_again_may_ping_again(self) -> None:
        """When it reads again it may ping again, and gets what has waited."""
        producer: Any = self.transport.producer
        for _ in range(4):
            producer.pauseProducing()
            self.ping(MAX_UNREAD // 200)
            producer.resumeProducing()
        self.assertFalse(self.transport.disconnected)
        producer.pauseProducing()
        self.transport.take()
        self.stream.write(b"input")
        self.assertEqual(self.transport.take(), b"")
        producer.resumeProducing()
        self.assertNotEqual(self.transport.take(), b"")

    def test_no_kind_of_websocket_replaces_the_bound(self) -> None:
        """No kind of WebSocket replaces what counts that."""

        def kinds(of: type[Any]) -> list[type[Any]]:
            found: list[type[Any]] = of.__subclasses__()
            return found + [kind for one in found for kind in kinds(one)]

        self.assertGreaterEqual(len(kinds(Socket)), 3)
        for kind in kinds(Socket):
            for name in ("pauseProducing", "resumeProducing", "stopProducing"):
                self.assertNotIn(name, vars(kind), kind)

    def test_post_without_a_mediators_response_ends_the_websocket(self) -> None:
        """A proxy may respond, or the number may be wrong: a new WebSocket begins where it is."""
        for value in ({}, {"received": POST_FROM + 1}, {"received": -1}):
            with self.subTest(value):
                self.setUp()
                self.stream.write(bytes(POST_FROM))
                self.client.requests[0].callback(JSONResponse(value))
                self.assertTrue(self.transport.disconnected)
                self.assertEqual(self.stream.out.base, 0)


class UnopenedTests(StreamCase):
    """A server to which no WebSocket can be opened, and that answers other requests."""

    def endpointForURI(self, uri: object) -> Any:
        """Where the server is: here."""
        return self

    def connect(self, factory: object) -> defer.Deferred[Any]:
        """No connection is taken."""
        return defer.fail(error.ConnectionRefusedError())

    def test_transport_is_over_when_its_time_is(self) -> None:
        """The answers to other requests do not make the transport wait for ever."""
        self.make_stream(websocket=True)
        client: Any = self.client
        client.endpoints = self
        over = self.stream.when_over()
        self.stream.start()
        for second in range(60):
            self.assertNoResult(over)
            for answer in client.answers:
                if not answer.called:
                    answer.callback({"ticket": f"number {second}"})
            self.clock.advance(1)
        self.assertGreater(len(client.answers), 10)
        status, reason = self.successResultOf(over)
        self.assertIsNone(status)
        self.assertRegex(reason, "no WebSocket to http://server lasted for 60 s: .*refused")
