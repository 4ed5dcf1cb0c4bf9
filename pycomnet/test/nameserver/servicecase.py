"""A nameserver on a network in memory, and its clients."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet import defer
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.errors import (
    ServiceNotFound,
)
from pycomnet.nameserver.records import Put
from pycomnet.nameserver.requests import NameserverLimits
from pycomnet.nameserver.server import make_server
from pycomnet.nameserver.service import NameService
from pycomnet.nameserver.stores.memory import MemoryStore
from pycomnet.services.client.context import NAMESERVER, Context
from pycomnet.test.nameserver.kit import record
from pycomnet.test.services.network import Network

CALC = "org.example.calc"
OWN_SECRET = "sixteen characters"


class NameserverCase(SynchronousTestCase):
    """A nameserver, and a client of it.

    :cvar limits: what its clients may do.
    """

    limits = NameserverLimits()
    options: dict[str, Any] = {}

    def make_store(self) -> Any:
        return MemoryStore(lambda: 100)

    def setUp(self) -> None:
        self.network = Network()
        self.network.advance(1000.0)
        self.store = self.make_store()
        self.leases = iter(range(1, 1_000_000))
        self.secrets = (f"secret-number-{number:06}" for number in range(1_000_000))
        self.names = NameService(
            self.store,
            self.network,
            self.limits,
            seconds=self.network.seconds,
            random_lease=lambda: next(self.leases),
            random_secret=lambda: next(self.secrets),
            version="1.2",
            **self.options,
        )
        self.server = make_server(self.network)
        self.addCleanup(self.network.deliver)
        self.addCleanup(self.network.cut)
        self.successResultOf(self.server.add(self.names))
        self.address = self.successResultOf(self.server.listen("tcp:2012:interface=127.0.0.1"))
        self.client = self.connect()

    def connect(self) -> Any:
        """Another client, with a connection of its own."""
        context = Context(self.network, nameserver=self.address)
        return self.result(context.connect(self.address, NAMESERVER))

    def result(self, deferred: defer.Deferred[Any]) -> Any:
        self.network.deliver()
        return self.successResultOf(deferred)

    def failure(self, deferred: defer.Deferred[Any], kind: type[Exception]) -> Any:
        self.network.deliver()
        return self.failureResultOf(deferred, kind).value

    def invoke(self, method: str, client: Any = None, **args: Any) -> Any:
        """Call it; what it gives."""
        return self.result((client or self.client).invoke(method, args))

    def refused(self, kind: type[Exception], method: str, client: Any = None, **args: Any) -> Any:
        """Call it; the error."""
        return self.failure((client or self.client).invoke(method, args), kind)

    def registered(self, service: str = "a", **args: Any) -> Any:
        """Register; the answer."""
        return self.invoke("register", **self.registration(service, **args))

    def registration(self, service: str = "a", **args: Any) -> dict[str, Any]:
        return {"service": service, "interfaces": [CALC], "address": "tcp:127.0.0.1:1", **args}

    def fill(self, names: Iterable[str], **options: Any) -> None:
        """Have the store commit registrations, without the way through the network."""
        for name in names:
            self.store.commit(Put(record(name, CALC, **options)))

    def located(self) -> str:
        """The service that offers the interface, or nothing."""
        found = self.client.invoke("locate", {"interface": CALC})
        found.addCallbacks(lambda one: one["service"], lambda f: f.trap(ServiceNotFound) and "")
        name: str = self.result(found)
        return name


class Stream:
    """A watch's events, as they have come."""

    def __init__(self, case: NameserverCase, client: Any = None, **args: Any) -> None:
        self.case = case
        self.stream = (client or case.client).stream("watch", args)
        self.events: list[dict[str, Any]] = []
        self.problem: Exception | None = None
        self._next()

    def _next(self) -> None:
        self.stream.receive().addCallbacks(self._came, self._ended)

    def _came(self, event: dict[str, Any]) -> None:
        self.events.append(event)
        self._next()

    def _ended(self, failure: Any) -> None:
        self.problem = failure.value

    def take(self) -> list[tuple[str, str]]:
        """The events since the last time: what, and of which service."""
        self.case.network.deliver()
        events, self.events = self.events, []
        self.last = events[-1] if events else None
        return [
            (event["event"], event.get("service") or event.get("record", {}).get("service", ""))
            for event in events
        ]
