"""Connecting by name, in virtual time."""

from __future__ import annotations

import sys
from typing import Any
from unittest import mock

from twisted.internet import defer, error
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.net import endpoints
from pycomnet.net.hostname import ATTEMPT_DELAY, NamedEndpoint
from twisted import internet

ADDRESSES = [
    IPv6Address("TCP", "::1", 80),
    IPv4Address("TCP", "127.0.0.1", 80),
    IPv4Address("TCP", "127.0.0.2", 80),
]


class Resolver:
    """Finds what it is given."""

    def __init__(self, addresses: list[Any]) -> None:
        self.addresses = addresses
        self.asked: list[str] = []

    def resolveHostName(self, receiver: Any, name: str, portNumber: int = 0) -> None:
        self.asked.append(name)
        receiver.resolutionBegan(None)
        for address in self.addresses:
            receiver.addressResolved(address)
        receiver.resolutionComplete()


class NamedEndpointTests(SynchronousTestCase):
    """The order of attempts, and what becomes of them."""

    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        resolver: Any = Resolver(ADDRESSES)
        self.resolver: Resolver = resolver
        self.reactor.nameResolver = resolver

    def connect(self, host: str = "localhost") -> defer.Deferred[Any]:
        """Begin to connect."""
        endpoint = NamedEndpoint(self.reactor, host, 80, 30, shuffle=list.reverse)
        return endpoint.connect(Factory.forProtocol(Protocol))

    def tried(self) -> list[str]:
        """The addresses to which there were attempts."""
        return [call[0] for call in self.reactor.tcpClients]

    def refuse(self, number: int, problem: Exception | None = None) -> None:
        """An attempt fails."""
        failure = Failure(problem or error.ConnectionRefusedError())
        self.reactor.tcpClients[number][2].clientConnectionFailed(None, failure)

    def succeed(self, number: int) -> Any:
        """An attempt succeeds."""
        return self.reactor.tcpClients[number][2].buildProtocol(None)

    def test_first_address_that_answers_is_taken(self) -> None:
        """The first address that answers is it, and nothing goes on."""
        waiting = self.connect()
        self.assertEqual(self.tried(), ["::1"])
        protocol: Any = self.succeed(0)
        protocol.makeConnection(mock.Mock())
        self.assertIs(self.successResultOf(waiting), protocol._wrappedProtocol)
        self.reactor.advance(ATTEMPT_DELAY)
        self.assertEqual(self.tried(), ["::1"])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_cancelled_before_the_name_is_found(self) -> None:
        """A connect that is cancelled while its name is looked up ends there: the resolver, which
        answers later, gets no error, and nothing is tried."""
        receivers: list[Any] = []
        self.patch(
            self.resolver, "resolveHostName", lambda receiver, *a, **k: receivers.append(receiver)
        )
        waiting = self.connect()
        waiting.cancel()
        self.failureResultOf(waiting, defer.CancelledError)
        receivers[0].addressResolved(ADDRESSES[0])
        receivers[0].resolutionComplete()
        self.assertEqual(self.tried(), [])

    def test_next_address_is_tried_when_one_refuses(self) -> None:
        """When one refuses, the next is tried at once: ``localhost`` is ``::1`` first."""
        waiting = self.connect()
        self.refuse(0)
        self.assertEqual(self.tried(), ["::1", "127.0.0.1"])
        self.succeed(1).makeConnection(mock.Mock())
        self.successResultOf(waiting)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_next_address_is_tried_beside_a_silent_one(self) -> None:
        """When one says nothing, the next is tried beside it; that may still win."""
        waiting = self.connect()
        self.reactor.advance(ATTEMPT_DELAY)
        self.assertEqual(self.tried(), ["::1", "127.0.0.1"])
        self.succeed(0).makeConnection(mock.Mock())
        self.successResultOf(waiting)
        self.assertTrue(self.reactor.connectors[1].stoppedConnecting)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_last_failure_is_told_when_all_have_failed(self) -> None:
        """When none answers, the last failure is told, once all have failed."""
        waiting = self.connect()
        self.reactor.advance(ATTEMPT_DELAY)
        self.reactor.advance(ATTEMPT_DELAY)
        self.reactor.advance(ATTEMPT_DELAY)
        self.assertEqual(self.tried(), ["::1", "127.0.0.1", "127.0.0.2"])
        self.refuse(2)
        self.refuse(0, error.NoRouteError())
        self.assertNoResult(waiting)
        self.refuse(1, error.TimeoutError())
        self.failureResultOf(waiting, error.TimeoutError)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_clients_are_spread_over_the_addresses(self) -> None:
        """Clients that connect to a name begin with different addresses, of the kind that the
        resolver puts first, and each tries all."""
        some = [IPv6Address("TCP", f"fd00::{number}", 80) for number in range(1, 4)]
        for others, firsts in (
            ([], {"127.0.0.1", "127.0.0.2"}),
            (some, {one.host for one in some}),
        ):
            self.resolver.addresses = [*others, *ADDRESSES[1:]]
            begun: set[str] = set()
            for _ in range(200):
                self.reactor.tcpClients.clear()
                endpoint = endpoints.client_endpoint(self.reactor, "tcp:names.example:80")
                waiting = endpoint.connect(Factory.forProtocol(Protocol))
                begun.add(self.tried()[0])
                for number in range(len(self.resolver.addresses)):
                    self.refuse(number)
                self.failureResultOf(waiting, error.ConnectionRefusedError)
                every = [one.host for one in self.resolver.addresses]
                self.assertEqual(sorted(self.tried()), sorted(every))
                self.assertLessEqual(set(self.tried()[: len(others)]), firsts)
            self.assertEqual(begun, firsts)

    def test_cancel_ends_all_attempts(self) -> None:
        """Cancelling ends all attempts."""
        waiting = self.connect()
        self.reactor.advance(ATTEMPT_DELAY)
        waiting.cancel()
        self.failureResultOf(waiting, error.ConnectingCancelledError)
        self.assertTrue(all(one.stoppedConnecting for one in self.reactor.connectors))
        self.reactor.advance(ATTEMPT_DELAY)
        self.assertEqual(self.tried(), ["::1", "127.0.0.1"])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_host_without_addresses_is_a_lookup_error(self) -> None:
        """No address, none of TCP, and what is no name: all fail the same way."""
        for addresses in ([], [UNIXAddress("/tmp/x")]):
            self.resolver.addresses = addresses
            failed = self.failureResultOf(self.connect("nowhere.example"), error.DNSLookupError)
            self.assertIn("nowhere.example", str(failed.value))
        for host in ("a..b", "x" * 64, "\udc80"):
            self.failureResultOf(self.connect(host), error.DNSLookupError)
        self.assertEqual(self.resolver.asked, ["nowhere.example"] * 2)

    def test_other_scripts_name_is_looked_up_in_ascii(self) -> None:
        """A name in another script is looked up as what it is in ASCII."""
        self.connect("bücher.example")
        self.assertEqual(self.resolver.asked, ["xn--bcher-kva.example"])

    def test_global_reactor_is_not_imported(self) -> None:
        """The global reactor is not imported, which would install one."""
        endpoint = endpoints.client_endpoint(self.reactor, "tcp:localhost:80")
        with (
            mock.patch.dict(vars(internet)),
            mock.patch.dict(sys.modules, {"twisted.internet.reactor": None}),
        ):
            vars(internet).pop("reactor", None)
            waiting = endpoint.connect(Factory.forProtocol(Protocol))
        self.assertEqual(self.tried(), ["::1"])
        self.succeed(0).makeConnection(mock.Mock())
        self.successResultOf(waiting)
