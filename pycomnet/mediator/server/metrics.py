"""The mediator's counters, in the format of Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

if TYPE_CHECKING:
    from pycomnet.mediator.server.model import End
    from pycomnet.mediator.server.session import MediatorSession
    from pycomnet.mediator.server.subprocesses import Mediator

#: The reasons that have a label of their own; any other is ``other``.
REASONS = {
    "exited": "exited",
    "nobody was connected to it": "linger",
    "it was idle": "idle",
    "its client ended it": "client",
    "the server was stopped": "stopped",
    "the token of its user was withdrawn": "withdrawn",
}


class Metrics:
    """Counters and gauges of one mediator. They contain no users or PIDs."""

    def __init__(self, mediator: Mediator) -> None:
        self._mediator = mediator
        self.registry = CollectorRegistry()
        self.started = self._counter("processes_started", "Subprocesses that were started.")
        self.failed = self._counter("processes_failed", "Subprocesses that could not be started.")
        self.refused = self._counter("processes_refused", "Starts that a limit forbade.")
        self.unauthorized = self._counter(
            "unauthorized", "Requests refused by token, Host or Origin."
        )
        self.ends = Counter(
            "pycomnet_mediator_processes_ended",
            "Subprocesses that have ended, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self.requests = Counter(
            "pycomnet_mediator_requests",
            "Requests that were answered, by status.",
            ["status"],
            registry=self.registry,
        )
        self._gone = {"in": 0, "out": 0}
        self.registry.register(self)

    def _counter(self, name: str, words: str) -> Counter:
        return Counter(f"pycomnet_mediator_{name}", words, registry=self.registry)

    def end(self, end: End) -> None:
        """Count a subprocess that has ended."""
        self.ends.labels(REASONS.get(end.reason, "other")).inc()

    def forget(self, session: MediatorSession) -> None:
        """Keep the byte counts of a session that is dropped."""
        self._gone["in"] += session.stdin.received
        self._gone["out"] += sum(queue.end for queue in session.streams.values())

    def collect(self) -> Iterator[Any]:
        """The current values; called by the registry."""
        sessions = list(self._mediator.sessions.values())
        queues = [queue for session in sessions for queue in session.streams.values()]
        yield GaugeMetricFamily(
            "pycomnet_mediator_processes",
            "Subprocesses that run.",
            len(self._mediator.running()),
        )
        yield GaugeMetricFamily(
            "pycomnet_mediator_queued_bytes",
            "Output that no client has confirmed.",
            sum(map(len, queues)),
        )
        yield GaugeMetricFamily(
            "pycomnet_mediator_queued_bytes_limit",
            "Output that all current subprocesses together may have queued.",
            sum(queue.limit for queue in queues),
        )
        unauthenticated = self._mediator.unauthenticated
        yield GaugeMetricFamily(
            "pycomnet_mediator_unauthenticated",
            "Unauthenticated connections.",
            0 if unauthenticated is None else len(unauthenticated),
        )
        yield CounterMetricFamily(
            "pycomnet_mediator_unauthenticated_dropped",
            "Unauthenticated connections dropped because there were too many.",
            0 if unauthenticated is None else unauthenticated.dropped,
        )
        moved = CounterMetricFamily(
            "pycomnet_mediator_bytes", "Bytes to and from subprocesses.", labels=["direction"]
        )
        bytes_in = self._gone["in"] + sum(session.stdin.received for session in sessions)
        bytes_out = self._gone["out"] + sum(queue.end for queue in queues)
        moved.add_metric(["in"], bytes_in)
        moved.add_metric(["out"], bytes_out)
        yield moved

    def text(self) -> bytes:
        """All metrics in the format of Prometheus."""
        return generate_latest(self.registry)
