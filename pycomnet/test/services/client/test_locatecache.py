"""Services are found by the nameserver's last answer while the nameserver is gone."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.errors import ServiceNotFound, ServiceUnreachable
from pycomnet.nameserver.server import make_server
from pycomnet.nameserver.service import NameService
from pycomnet.nameserver.stores.memory import MemoryStore
from pycomnet.services.client.context import NAMESERVER, Context
from pycomnet.services.client.locatecache import MOST_ANSWERS, KnownInstances, LocateCache
from pycomnet.services.interface import Service, interface, method
from pycomnet.services.server.server import ServiceServer
from pycomnet.test.services.network import Network

CALC = "org.example.calc"


@interface(CALC)
class Calc(Service):
    """Something to call."""

    @method("two")
    def two(self, request: Any) -> int:
        return 2


class LastAnswerTests(SynchronousTestCase):
    """A nameserver that goes."""

    def setUp(self) -> None:
        self.network = Network()
        self.network.advance(1000.0)
        self.names = NameService(
            MemoryStore(lambda: 100), self.network, seconds=self.network.seconds
        )
        self.server = make_server(self.network)
        self.successResultOf(self.server.add(self.names))
        listen = "tcp:2012:interface=127.0.0.1"
        self.address = self.successResultOf(self.server.listen(listen))
        services = ServiceServer(self.network)
        self.successResultOf(services.add(Calc()))
        calc = self.successResultOf(services.listen("tcp:2013:interface=127.0.0.1"))
        self.owner = Context(self.network, nameserver=self.address)
        nameserver = self.result(self.owner.connect(self.address, NAMESERVER))
        wanted = {"service": "calc", "interfaces": [CALC], "address": calc, "ttl": 600.0}
        self.held = self.result(nameserver.invoke("register", wanted))
        self.context = Context(self.network, nameserver=self.address, keep_located=60.0)
        self.addCleanup(self.network.deliver)
        self.addCleanup(self.network.cut)

    def result(self, deferred: Any) -> Any:
        self.network.deliver()
        return self.successResultOf(deferred)

    def lose_nameserver(self) -> None:
        """It ends, as if it was killed."""
        for port in list(self.server._ports):
            port.stopListening()
        self.network.cut()

    def later(self, deferred: Any, seconds: float = 5.0) -> Any:
        """Let time pass."""
        self.network.wait(seconds)
        return deferred

    def test_last_answer_is_used_and_marked(self) -> None:
        """The service is found and called, and says how old that is."""
        calc = self.result(self.context.locate(CALC))
        self.assertEqual(calc.stale, 0.0)
        self.lose_nameserver()
        again = self.successResultOf(self.later(self.context.locate(CALC)))
        self.assertGreater(again.stale, 0.0)
        self.assertEqual(self.result(again.invoke("two")), 2)
        named = self.later(self.context.locate(CALC, "calc"))
        self.failureResultOf(named, ServiceUnreachable)  # that was never asked for

    def test_old_answer_is_not_used(self) -> None:
        """After the time that the context says, it is not found any more."""
        self.result(self.context.locate(CALC))
        self.lose_nameserver()
        self.network.advance(61.0)
        self.failureResultOf(self.later(self.context.locate(CALC)), ServiceUnreachable)

    def test_none_is_kept_if_none_is_wanted(self) -> None:
        """With 0 the nameserver has to be there."""
        context = Context(self.network, nameserver=self.address, keep_located=0)
        self.result(context.locate(CALC))
        self.lose_nameserver()
        self.failureResultOf(self.later(context.locate(CALC)), ServiceUnreachable)

    def test_what_the_nameserver_has_no_more_is_forgotten(self) -> None:
        """An answer that there is none is an answer."""
        self.result(self.context.locate(CALC))
        nameserver = self.result(self.context.nameserver())
        owner = {"lease": self.held["lease"], "secret": self.held["secret"]}
        self.result(nameserver.invoke("unregister", owner))
        gone = self.context.locate(CALC)
        self.network.deliver()
        self.failureResultOf(gone, ServiceNotFound)
        self.lose_nameserver()
        self.failureResultOf(self.later(self.context.locate(CALC)), ServiceUnreachable)

    def test_answers_are_bounded(self) -> None:
        """The latest are kept, and not more than some."""
        answers = LocateCache(10.0)
        for number in range(MOST_ANSWERS + 5):
            answers.put(("n", str(number), None), KnownInstances((("tcp:a:1",),), 0.0))
        self.assertEqual(len(answers), MOST_ANSWERS)
        self.assertIsNone(answers.get(("n", "0", None), 1.0))
        self.assertIsNotNone(answers.get(("n", "5", None), 1.0))
