"""Reaching an instance of a service, before a call that has to know which one it is."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.nameserver.server import make_server
from pycomnet.nameserver.service import NameService
from pycomnet.nameserver.stores.memory import MemoryStore
from pycomnet.services.client.context import NAMESERVER, Context
from pycomnet.services.server.server import ServiceServer
from pycomnet.test.services.client.test_locatecache import CALC, Calc
from pycomnet.test.services.network import Network


class ReachTests(SynchronousTestCase):
    """Two instances of a service."""

    def setUp(self) -> None:
        self.network = Network()
        self.network.advance(1000.0)
        self.addCleanup(self.network.deliver)
        self.addCleanup(self.network.cut)
        names = NameService(MemoryStore(lambda: 100), self.network, seconds=self.network.seconds)
        server = make_server(self.network)
        self.successResultOf(server.add(names))
        nameserver = self.successResultOf(server.listen("tcp:2012:interface=127.0.0.1"))
        self.context = Context(self.network, nameserver=nameserver)
        owner = self.result(self.context.connect(nameserver, NAMESERVER))
        self.addresses = set()
        for number in (1, 2):
            calc = ServiceServer(self.network)
            self.successResultOf(calc.add(Calc()))
            listen = f"tcp:{3000 + number}:interface=127.0.0.1"
            address = self.successResultOf(calc.listen(listen))
            self.addresses.add(address)
            wanted = {"service": f"calc{number}", "interfaces": [CALC], "address": address}
            self.result(owner.invoke("register", {**wanted, "ttl": 600.0}))

    def result(self, deferred: Any) -> Any:
        self.network.deliver()
        return self.successResultOf(deferred)

    def test_each_instance_has_its_turn(self) -> None:
        """Also before they are connected, and when both are: no instance is left out."""
        calc = self.result(self.context.locate(CALC))
        reached = []
        for _ in range(6):
            reaching = defer.Deferred.fromCoroutine(calc.reach(None))
            peer, connection = self.result(reaching)
            self.assertIs(peer.connection, connection)
            reached.append(peer.address)
        self.assertEqual(set(reached[:2]), self.addresses)
        self.assertEqual(reached, reached[:2] * 3)
        # What is connected is there at once.
        self.successResultOf(defer.Deferred.fromCoroutine(calc.reach(None)))
