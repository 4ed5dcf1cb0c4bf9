"""The socket transport's addresses, and what a service answers to strangers, on a test's clock."""

from __future__ import annotations

from typing import Any

from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.auth.admission import HELLO_TIMEOUT
from pycomnet.errors import EndpointError, PycomnetError
from pycomnet.gateways.socketservice import GatewayService, SocketClient, SocketServiceConfiguration
from pycomnet.gateways.spec import Spec
from pycomnet.gateways.transports.socket import address
from pycomnet.wire.mux import EV_GOAWAY, Mux


class Addresses(SynchronousTestCase):
    """What a spec connects to."""

    def test_address_is_an_endpoint_or_host_and_port(self) -> None:
        """An endpoint string, or a host and port."""
        self.assertEqual(address(Spec.parse("socket=host:1")), "tcp:host:1")
        self.assertEqual(address(Spec.parse("socket=unix:/run/x")), "unix:/run/x")

    def test_certificates_become_the_endpoints(self) -> None:
        spec = Spec.parse("socket=tls:host:1//ca=a//cert=b//key=c")
        self.assertEqual(address(spec), "tls:host:1:trustRoots=a:certificate=b:privateKey=c")
        with self.assertRaisesRegex(PycomnetError, "has no TLS"):
            address(Spec.parse("socket=host:1//ca=a"))
        with self.assertRaises(EndpointError):
            address(Spec.parse("socket=nonsense"))


class Strangers(SynchronousTestCase):
    """Whoever does not say who they are gets nothing, and is not kept."""

    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        configuration = SocketServiceConfiguration(token_file=self.mktemp(), clients=2)
        self.failures: list[Exception] = []
        self.service = GatewayService(configuration, self.reactor, self.failures.append)

    def connect(self) -> tuple[SocketClient, StringTransport]:
        """Somebody connects."""
        client, transport = SocketClient(self.service), StringTransport()
        client.makeConnection(transport)
        return client, transport

    def answer(self, transport: StringTransport) -> list[Any]:
        """What the service has said."""
        return [tuple(event) for event in Mux(True).receive_data(transport.value())]

    def test_silent_stranger_is_dropped_after_a_time(self) -> None:
        """Who says nothing, or only a part of a hello, is dropped after a time."""
        for data in (b"", Mux(True).data_to_send()[:20]):
            client, transport = self.connect()
            client.dataReceived(data)
            self.reactor.advance(HELLO_TIMEOUT - 1)
            self.assertFalse(transport.disconnected or transport.disconnecting)
            self.reactor.advance(2)
            self.assertTrue(transport.disconnecting or transport.disconnected)
            self.assertEqual(transport.value(), b"")
            client.connectionLost()
        self.assertEqual(self.service.clients, {})
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_stranger_without_token_is_told_and_dropped(self) -> None:
        """Who gives no token is told so; nothing is started, and what follows is not looked at."""
        client, transport = self.connect()
        for byte in Mux(True).data_to_send():
            client.dataReceived(bytes([byte]))
        client.dataReceived(b"more")
        self.assertEqual(self.answer(transport)[-1][:2], (EV_GOAWAY, "credential"))
        self.assertTrue(transport.disconnecting)
        self.assertIsNone(client.process)
        client.connectionLost()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_strangers_are_bounded_in_number(self) -> None:
        """There can't be any number of them."""
        self.service.unauthenticated.most = 4
        connected = [self.connect()[1] for _ in range(5)]
        dropped = [one.disconnecting or one.disconnected for one in connected]
        self.assertEqual(dropped, [True] + [False] * 4)

    def test_garbage_is_refused_at_once(self) -> None:
        """What is no hello is found out at once."""
        client, transport = self.connect()
        client.dataReceived(b"GET /")
        self.assertEqual(self.answer(transport)[-1][:2], (EV_GOAWAY, "hello"))
        client.connectionLost()

    def test_failure_to_listen_is_told_to_the_owner(self) -> None:
        """That it can't listen is told to whoever runs it."""
        service = GatewayService(
            SocketServiceConfiguration(listen="unix:/proc/nowhere/x"),
            self.reactor,
            self.failures.append,
        )
        service.startService()
        self.assertEqual(len(self.failures), 1)
        self.assertIsInstance(self.failures[0], PycomnetError)
