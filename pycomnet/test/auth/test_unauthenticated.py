"""Unauthenticated connections: who goes when there are too many of them."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.auth import unauthenticated
from pycomnet.auth.unauthenticated import UnauthenticatedConnections, origin


class Transport(StringTransport):
    """A connection from somewhere, with a descriptor."""

    def __init__(self, host: str, number: int = 5) -> None:
        kind: Any = IPv6Address if ":" in host else IPv4Address
        super().__init__(peerAddress=kind("TCP", host, 1))
        self.number = number

    def fileno(self) -> int:
        """The descriptor's number."""
        return self.number


class UnauthenticatedTests(SynchronousTestCase):
    """Those of one daemon."""

    def setUp(self) -> None:
        self.unauthenticated = UnauthenticatedConnections(Clock(), 4)

    def arrive(self, *hosts: str, number: int = 5) -> list[Transport]:
        """Somebody connects from each of these."""
        found = [Transport(host, number) for host in hosts]
        for one in found:
            self.unauthenticated.arrived(one)
        return found

    def dropped(self, transports: list[Transport]) -> list[bool]:
        """Which of them were."""
        return [bool(one.disconnecting or one.disconnected) for one in transports]

    def test_oldest_stranger_goes_and_nobody_known(self) -> None:
        """The oldest goes, and nobody who has said who they are."""
        found = self.arrive(*["10.0.0.1"] * 4)
        self.unauthenticated.known(found[0])
        found += self.arrive("10.0.0.1", "10.0.0.1")
        self.assertEqual(self.dropped(found), [False, True, False, False, False, False])
        self.assertEqual((len(self.unauthenticated), self.unauthenticated.dropped), (4, 1))

    def test_origin_with_many_strangers_loses_its_own(self) -> None:
        """One who has many of them loses theirs, and not another's oldest."""
        other = self.arrive("10.0.0.2")
        found = self.arrive(*["10.0.0.1"] * 20)
        late = self.arrive("10.0.0.3")
        self.assertEqual(self.dropped(other + late), [False, False])
        self.assertEqual(sum(self.dropped(found)), 18)

    def test_oldest_of_all_goes_not_the_newcomer(self) -> None:
        """Where each is from somewhere else, the oldest of all goes: not the newcomer."""
        found = self.arrive(*(f"10.0.0.{number}" for number in range(6)))
        self.assertEqual(self.dropped(found), [True, True, False, False, False, False])

    def test_strangers_go_first_when_descriptors_run_out(self) -> None:
        self.patch(unauthenticated, "descriptor_limit", lambda: 100)
        found = self.arrive("10.0.0.1", "10.0.0.2") + self.arrive("10.0.0.3", number=90)
        self.assertEqual(self.dropped(found), [True, True, False])

    def test_nothing_is_kept_of_those_gone(self) -> None:
        """Nothing is kept of those that are gone, and to say so twice does no harm."""
        for one in self.arrive(*["10.0.0.1"] * 9):
            self.unauthenticated.known(one)
            self.unauthenticated.known(one)
        self.assertEqual(len(self.unauthenticated), 0)
        self.assertEqual(self.unauthenticated._by_origin, {})

    def test_ipv6_network_is_one_origin(self) -> None:
        """An IPv6 network is one: whoever has an address of it has all."""
        self.assertEqual(origin(Transport("2001:db8::1")), origin(Transport("2001:db8::ffff:2")))
        self.assertNotEqual(origin(Transport("2001:db8:0:1::1")), origin(Transport("2001:db8::1")))
        self.assertEqual(origin(Transport("10.0.0.1")), "10.0.0.1")

    def test_clients_of_a_listener_for_both_are_not_one_origin(self) -> None:
        """IPv4 addresses are mapped there, all into one network; the loopback address is in it."""
        several = ["::ffff:192.0.2.1", "::ffff:198.51.100.7", "::1", "::2"]
        self.assertEqual(len({origin(Transport(one)) for one in several}), 4)
        self.assertEqual(origin(Transport("::ffff:192.0.2.1")), "192.0.2.1")
