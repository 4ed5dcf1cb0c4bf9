"""TLS of endpoint strings: how long a client waits for a server that says nothing."""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.errors import PeerSilent
from pycomnet.net import endpoints
from pycomnet.net.tls import SILENCE
from pycomnet.test.net.test_endpoints import FakeResolver


class Remembers(Protocol):
    """Remembers why its connection ended."""

    problem: Any = None

    def connectionLost(self, reason: Any = None) -> None:
        self.problem = reason.value


class SilenceTests(SynchronousTestCase):
    """A server that accepts the connection, and does not answer the handshake."""

    def connect(self, options: str = "") -> tuple[MemoryReactorClock, Any, Any]:
        """The reactor, its transport, and the client's protocol, once it is connected."""
        reactor: Any = MemoryReactorClock()
        reactor.nameResolver = FakeResolver("server.example", "192.0.2.1")
        endpoint = endpoints.client_endpoint(reactor, f"tls:server.example:443{options}")
        connecting: Any = endpoint.connect(Factory.forProtocol(Remembers))
        tls = reactor.tcpClients[-1][2].buildProtocol(None)
        transport = StringTransport()
        tls.makeConnection(transport)
        return reactor, tls, self.successResultOf(connecting)

    def ends_after(self, expected: float, options: str = "") -> None:
        reactor, tls, protocol = self.connect(options)
        transport = tls.transport
        reactor.advance(expected - 0.1)
        self.assertFalse(transport.disconnected)
        reactor.advance(0.2)
        self.assertTrue(transport.disconnected)
        tls.connectionLost(None)
        self.assertIsInstance(protocol.problem, PeerSilent)
        self.assertIn(f"in {expected:g} seconds", str(protocol.problem))
        self.assertEqual(reactor.getDelayedCalls(), [])

    def test_server_has_its_time_to_begin(self) -> None:
        """Without ``timeout=``."""
        self.ends_after(SILENCE)

    def test_timeout_of_the_address_is_that_time(self) -> None:
        """A longer one, and a shorter one."""
        self.ends_after(60, ":timeout=60")
        self.ends_after(2, ":timeout=2")
