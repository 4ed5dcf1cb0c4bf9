"""A site beside a daemon's connections."""

from __future__ import annotations

import io
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, FileBodyProducer, HTTPConnectionPool, readBody
from twisted.web.iweb import UNKNOWN_LENGTH
from twisted.web.resource import Resource
from twisted.web.static import Data

from pycomnet.errors import PycomnetError
from pycomnet.net import endpoints
from pycomnet.net.siteservice import SiteService

PAGE = b"what is there"


class Length(Resource):
    """Says how long a request's body is."""

    isLeaf = True

    def render_POST(self, request: Any) -> bytes:
        return b"%d" % len(request.content.read())


class SiteServiceTests(TestCase):
    """It listens as long as it runs."""

    timeout = 120

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.failures: list[PycomnetError] = []

    def make(self, listen: str = "tcp:0:interface=127.0.0.1") -> SiteService:
        root = Resource()
        root.putChild(b"page", Data(PAGE, "text/plain"))
        root.putChild(b"length", Length())
        site = SiteService(root, listen, self.failures.append, self.reactor)
        self.addCleanup(site.stopService)
        return site

    async def test_answers_until_it_is_stopped(self) -> None:
        """A page is there, by the address that it gives, and nobody listens once it has stopped."""
        site = self.make()
        site.startService()
        _, host, port = site.address().split(":")
        agent = Agent(self.reactor, pool=HTTPConnectionPool(self.reactor, persistent=False))
        response = await agent.request(b"GET", f"http://{host}:{port}/page".encode())
        self.assertEqual(await readBody(response), PAGE)
        await site.stopService()
        again = self.make(f"tcp:{port}:interface=127.0.0.1")
        again.startService()
        self.assertEqual(self.failures, [])

    async def test_client_with_tls_is_answered_at_once(self) -> None:
        """Its user is told that this port speaks no TLS."""
        site = self.make()
        site.startService()
        lost: Deferred[str] = Deferred()

        class Client(Protocol):
            def connectionLost(self, reason: Failure = connectionDone) -> None:
                lost.callback(endpoints.explain(reason))

        address = site.address().replace("tcp:", "tls:")
        endpoint = endpoints.client_endpoint(self.reactor, address)
        await endpoint.connect(Factory.forProtocol(Client))
        self.assertIn("may speak no TLS", await lost)

    async def test_answer_to_another_protocol_is_whole(self) -> None:
        """It has the length that it says, and the connection ends."""
        site = self.make()
        site.startService()
        lost: Deferred[bytes] = Deferred()

        class Client(Protocol):
            received = b""

            def connectionMade(self) -> None:
                transport: Any = self.transport
                transport.write(b"\x16\x03\x01")

            def dataReceived(self, data: bytes) -> None:
                self.received += data

            def connectionLost(self, reason: Failure = connectionDone) -> None:
                lost.callback(self.received)

        endpoint = endpoints.client_endpoint(self.reactor, site.address())
        await endpoint.connect(Factory.forProtocol(Client))
        head, _, body = (await lost).partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 400 "))
        self.assertIn(b"content-length: %d" % len(body), head.splitlines())

    async def test_bodies_are_not_kept(self) -> None:
        """A body fills neither memory nor the disk, whether its length is said before or not."""
        site = self.make()
        site.startService()
        _, host, port = site.address().split(":")
        agent = Agent(self.reactor, pool=HTTPConnectionPool(self.reactor, persistent=False))
        for length in (300_000, UNKNOWN_LENGTH):
            body = FileBodyProducer(io.BytesIO(bytes(300_000)))
            body.length = length
            url = f"http://{host}:{port}/length".encode()
            response = await agent.request(b"POST", url, bodyProducer=body)
            self.assertEqual(await readBody(response), b"0")
        response = await agent.request(b"POST", url.replace(b"length", b"page"))
        self.assertEqual(response.code, 405)

    async def test_address_that_is_taken_is_told(self) -> None:
        """Who started it is told that its address is taken, and by which address."""
        site = self.make()
        site.startService()
        taken = site.port.getHost().port
        self.make(f"tcp:{taken}:interface=127.0.0.1").startService()
        [failure] = self.failures
        self.assertIn(str(taken), str(failure))
