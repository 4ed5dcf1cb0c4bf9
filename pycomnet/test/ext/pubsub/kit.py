"""A publisher and subscribers on a network in memory."""

from __future__ import annotations

from typing import Any

from pycomnet.ext.pubsub import publisher, subscriber
from pycomnet.services.client.context import Context
from pycomnet.services.server.server import ServiceServer
from pycomnet.test.services.network import ServiceCase

NAME = "org.example.events"


def make(**settings: Any) -> Any:
    """A class of publishers with these settings, which publish what the test says."""

    @publisher(NAME, **settings)
    class Events:
        """Publishes what the test says."""

    return Events


class PublishCase(ServiceCase):
    """A test with a publisher, :attr:`topic`, and subscribers to it."""

    settings: dict[str, Any] = {}

    def setUp(self) -> None:
        super().setUp()
        self.service = make(**self.settings)()
        self.result(self.server.add(self.service))
        self.topic = self.service.topic

    def subscribe(self, *subjects: str, context: Context | None = None, **options: Any) -> Any:
        """A subscriber whose subscription counts."""
        made = subscriber(
            NAME,
            subjects or None,
            context=context or self.context,
            address=self.address,
            **options,
        )
        self.addCleanup(made.close)
        self.result(made.when_subscribed())
        return made

    def publish(self, *values: Any, **how: Any) -> None:
        """Publish values."""
        for value in values:
            self.successResultOf(self.topic.publish(value, **how))
        self.network.deliver()

    def take(self, subscribed: Any, events: bool = False) -> list[Any]:
        """All that has come by now."""
        found: list[Any] = []
        while True:
            self.network.deliver()
            receiving = subscribed.receive_many(1000, events)
            self.network.deliver()
            if not receiving.called:
                receiving.cancel()
                self.failureResultOf(receiving)
                return found
            found += self.successResultOf(receiving)

    def other_context(self) -> Context:
        """Another client."""
        made = Context(self.network)
        self.addCleanup(made.close)
        return made

    def restart(self, **settings: Any) -> None:
        """Crash the server, and start another at the same address."""
        for port in list(self.network.ports.values()):
            port.stopListening()
        self.network.cut()
        self.server = ServiceServer(self.network, threads=self.network)
        self.service = make(**{**self.settings, **settings})()
        self.result(self.server.add(self.service))
        self.topic = self.service.topic
        self.result(self.server.listen(self.address.replace(":127.0.0.1", "", 1)))
