"""The statistics of topics, in the format of Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from pycomnet.ext.pubsub.topic import Topic
from pycomnet.services.interface import Service

#: The metrics: the name after ``pycomnet_topic_``, the key in the result of the method ``topic``,
#: and the description.
COUNTERS = (
    ("events", "sequence", "Events that were published."),
    ("delivered", "delivered", "Events that were sent, to each subscription."),
    ("dropped", "dropped", "Events that were dropped for subscriptions that were too slow."),
)
GAUGES = (
    ("rate", "rate", "Events a second, over the last ten seconds."),
    ("subscriptions", "subscriptions", "Subscriptions, and members of groups."),
    ("groups", "groups", "Groups."),
    ("lag", "lag", "The events that wait for the subscription for which most do."),
    ("queued_bytes", "queued", "Bytes of events that wait, for all subscriptions together."),
    ("history", "history", "Events of the history in memory."),
    ("retained", "retained", "Events that are retained."),
)


def topics_of(services: Iterable[Service]) -> Iterator[Topic]:
    """The topics of those services that publish."""
    for service in services:
        topic = getattr(service, "topic", None)
        if isinstance(topic, Topic):
            yield topic


class TopicMetrics:
    """The metrics of some topics, with their interface as a label. No user is named in them.

    The values are those of the method ``topic``, which are computed once a second at most.

    :param services: called at each request; returns the services whose topics are included.
    """

    def __init__(self, services: Callable[[], Iterable[Service]]) -> None:
        self._services = services
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def collect(self) -> Iterator[Any]:
        """The current values; called by the registry."""
        found = [(topic.interface, topic) for topic in topics_of(self._services())]
        figures = [(interface, topic.statistics.as_map()) for interface, topic in found]
        for kind, metrics in ((CounterMetricFamily, COUNTERS), (GaugeMetricFamily, GAUGES)):
            for name, key, words in metrics:
                family = kind(f"pycomnet_topic_{name}", words, labels=["interface"])
                for interface, values in figures:
                    family.add_metric([interface], values[key])
                yield family
        limit = GaugeMetricFamily(
            "pycomnet_topic_queued_bytes_limit", "Bytes that may wait.", labels=["interface"]
        )
        for interface, topic in found:
            limit.add_metric([interface], topic.settings.limits.waiting)
        yield limit

    def text(self) -> bytes:
        """All metrics in the format of Prometheus."""
        return generate_latest(self.registry)
