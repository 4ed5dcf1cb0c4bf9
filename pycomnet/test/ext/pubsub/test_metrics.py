"""The figures of topics, as Prometheus reads them."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from pycomnet.ext.pubsub.metrics import TopicMetrics
from pycomnet.services.interface import Service, interface
from pycomnet.test.ext.pubsub.kit import NAME, PublishCase


@interface("org.example.silent")
class Silent(Service):
    """A service that publishes nothing."""


class MetricsTests(PublishCase):
    """A publisher among other services."""

    settings = {"history": 5, "retain": True}

    def figures(self) -> dict[str, float]:
        """Name -> value; each is labelled with the interface."""
        text = TopicMetrics(lambda: [Silent(), self.service]).text().decode()
        found = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self.assertEqual(sample.labels, {"interface": NAME})
                found[sample.name.removeprefix("pycomnet_topic_")] = sample.value
        return found

    def test_each_figure_is_there(self) -> None:
        """Events, subscriptions, rate, lag, what was dropped and what waits."""
        quick = self.subscribe()
        stalled = self.connect().stream("subscribe", {"bound": 2000, "subjects": ["a"]})
        self.result(stalled.receive())
        sink = list(self.topic.sinks.values())[-1]
        sink.waiting = True  # as if its connection took nothing
        for number in range(20):
            self.publish(bytes(300), subject="a", key=str(number % 2))
        self.take(quick)
        self.network.wait(2)
        found = self.figures()
        self.assertEqual((found["events_total"], found["subscriptions"]), (20, 2))
        self.assertEqual((found["history"], found["retained"], found["groups"]), (5, 2, 0))
        self.assertEqual((found["delivered_total"], found["lag"]), (20, 3))
        self.assertEqual(found["dropped_total"], 17)
        self.assertEqual(found["queued_bytes"], self.topic.waiting.size)
        self.assertEqual(found["queued_bytes_limit"], 1 << 30)
        self.assertEqual(found["rate"], 10)  # twenty in two seconds

    def test_the_rate_is_that_of_the_last_ten_seconds(self) -> None:
        """However seldom somebody asks, and however long nothing was published before."""
        self.network.wait(3600, step=60)
        for _ in range(40):
            self.publish(1, 2)
            self.network.wait(0.5, step=0.5)
        rate = self.figures()["rate"]
        self.assertTrue(3.5 <= rate <= 4.5, rate)
        self.network.wait(15, step=5)
        self.assertEqual(self.figures()["rate"], 0)
