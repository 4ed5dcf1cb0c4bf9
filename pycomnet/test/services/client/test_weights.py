"""Clients spread their calls by the weights of the instances, and leave those that drain."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.errors import ServiceNotFound
from pycomnet.nameserver.server import make_server
from pycomnet.nameserver.service import NameService
from pycomnet.nameserver.stores.memory import MemoryStore
from pycomnet.services.client.context import NAMESERVER, Context
from pycomnet.services.client.instances import REFRESH
from pycomnet.services.client.weights import shares_of, weight_of
from pycomnet.services.interface import Service, interface, method
from pycomnet.services.server.server import ServiceServer
from pycomnet.test.services.network import Network

CALC = "org.example.calc"


@interface(CALC)
class Named(Service):
    """Says who it is."""

    def __init__(self, name: str) -> None:
        self.name = name

    @method("who")
    def who(self, request: Any) -> str:
        return self.name


class ShareTests(SynchronousTestCase):
    """Instances a, b and c, and who calls them."""

    def setUp(self) -> None:
        self.network = Network()
        self.network.advance(1000.0)
        self.names = NameService(
            MemoryStore(lambda: 100), self.network, seconds=self.network.seconds
        )
        server = make_server(self.network)
        self.successResultOf(server.add(self.names))
        self.address = self.successResultOf(server.listen("tcp:2012:interface=127.0.0.1"))
        self.owner = self.result(
            Context(self.network, nameserver=self.address).connect(self.address, NAMESERVER)
        )
        self.leases: dict[str, Any] = {}
        self.servers: dict[str, ServiceServer] = {}
        self.addCleanup(self.network.deliver)
        self.addCleanup(self.network.cut)

    def result(self, deferred: Any) -> Any:
        self.network.deliver()
        return self.successResultOf(deferred)

    def have(self, name: str, **args: Any) -> None:
        server = self.servers[name] = ServiceServer(self.network)
        self.successResultOf(server.add(Named(name)))
        port = 3000 + len(self.servers)
        address = self.successResultOf(server.listen(f"tcp:{port}:interface=127.0.0.1"))
        wanted = {"service": name, "interfaces": [CALC], "address": address, "ttl": 600.0, **args}
        given = self.result(self.owner.invoke("register", wanted))
        self.leases[name] = {"lease": given["lease"], "secret": given["secret"]}

    def adjust(self, name: str, **change: Any) -> None:
        self.result(self.owner.invoke("adjust", {**self.leases[name], **change}))

    def client(self, **options: Any) -> Any:
        context = Context(self.network, nameserver=self.address, random=Random(3), **options)
        return self.result(context.locate(CALC))

    def called(self, calc: Any, times: int) -> Counter[str]:
        return Counter(self.result(calc.invoke("who")) for _ in range(times))

    def looked(self, calc: Any) -> None:
        """Let the client ask the nameserver again."""
        self.network.advance(REFRESH + 1)
        self.result(calc.invoke("who"))

    def test_calls_are_in_proportion_to_the_weights(self) -> None:
        self.have("a", weight=300)
        self.have("b")
        self.have("c", weight=0)
        found = self.called(self.client(), 2000)
        self.assertApproximates(found["a"], 1500, 80)
        self.assertApproximates(found["b"], 500, 80)
        self.assertEqual(found["c"], 0)

    def test_equal_weights_are_in_turn(self) -> None:
        self.have("a", weight=7)
        self.have("b", weight=7)
        self.assertEqual(self.called(self.client(), 10), {"a": 5, "b": 5})

    def test_doubtful_only_when_there_is_no_other(self) -> None:
        for number in range(12):
            self.have(f"dead-{number}", ttl=30.0)
        self.network.advance(31.0)
        calc = self.client()
        self.assertEqual(len(self.called(calc, 12)), 12)
        self.have("live")
        self.looked(calc)
        self.assertEqual(self.called(calc, 10), {"live": 10})

    def test_weight_0_when_no_other_answers(self) -> None:
        self.have("a")
        self.have("b", weight=0)
        calc = self.client()
        self.assertEqual(self.called(calc, 5), {"a": 5})
        closing = self.servers["a"].close()
        self.network.deliver()
        self.network.wait(1.0)
        self.successResultOf(closing)
        self.assertEqual(self.called(calc, 5), {"b": 5})

    def test_new_weight_counts_once_the_client_asks_again(self) -> None:
        self.have("a")
        self.have("b")
        calc = self.client()
        self.assertEqual(self.called(calc, 10), {"a": 5, "b": 5})
        self.adjust("a", weight=0)
        self.looked(calc)
        self.assertEqual(self.called(calc, 10), {"b": 10})

    def test_leaves_what_drains_for_another(self) -> None:
        self.have("a")
        self.have("b")
        calc = self.client()
        self.called(calc, 4)
        self.adjust("a", draining=True)
        self.looked(calc)
        self.assertEqual(self.called(calc, 10), {"b": 10})

    def test_goes_on_where_there_is_no_other(self) -> None:
        self.have("a")
        calc = self.client()
        self.called(calc, 1)
        self.adjust("a", draining=True)
        self.looked(calc)
        self.assertEqual(self.called(calc, 3), {"a": 3})
        self.failure(Context(self.network, nameserver=self.address).locate(CALC))

    def test_goes_on_by_name_where_it_has_a_connection(self) -> None:
        self.have("a")
        context = Context(self.network, nameserver=self.address)
        calc = self.result(context.locate(CALC, "a"))
        self.called(calc, 1)
        self.adjust("a", draining=True)
        self.looked(calc)
        self.assertEqual(self.called(calc, 3), {"a": 3})
        self.failure(Context(self.network, nameserver=self.address).locate(CALC, "a"))

    def failure(self, deferred: Any) -> None:
        self.network.deliver()
        self.network.wait(1.0)
        self.failureResultOf(deferred, ServiceNotFound)

    def test_fewest_pending_for_its_weight(self) -> None:
        class Peer:
            def __init__(self, pending: int) -> None:
                self.pending = pending

        light, heavy = Peer(0), Peer(4)
        shares: Any = shares_of({light: 100, heavy: 400})  # type: ignore[dict-item]
        self.assertIs(shares.pick([light, heavy], Random(1), True), light)
        light.pending = 2
        self.assertIs(shares.pick([light, heavy], Random(1), True), heavy)

    def test_what_a_record_may_say(self) -> None:
        self.assertEqual(weight_of({}), 100)
        self.assertEqual(weight_of({"weight": 10**9}), 1000)
        self.assertEqual(weight_of({"weight": -3}), 0)
        self.assertEqual(weight_of({"weight": "many"}), 100)
        self.assertIsNone(weight_of({"failing": True}))
