"""The statistics of a publisher: events, subscribers, and waiting bytes."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReactorTime

if TYPE_CHECKING:
    from pycomnet.ext.pubsub.topic import Topic

#: Seconds over which the rate is measured, and for which a result is cached.
RATE_TIME, FRESH = 10.0, 1.0


class TopicStatistics:
    """Counts a topic's events, and computes its rate.

    :ivar dropped: events that were dropped for subscriptions that are over.
    :ivar delivered: events that were sent to these subscriptions.
    """

    def __init__(self, topic: Topic, reactor: IReactorTime) -> None:
        self.dropped = 0
        self.delivered = 0
        self._topic = topic
        self._reactor = reactor
        #: pairs of the reactor's time and the number of the last event then; the first pair is
        #: older than the period of the rate, or the beginning
        self._marks: deque[tuple[float, int]] = deque()
        self.begin(0)
        self._last: tuple[float, dict[str, Any]] | None = None

    def begin(self, last: int) -> None:
        """Set the number of events that were published before."""
        self._begun = self._reactor.seconds()
        self._marks.clear()
        self._marks.append((self._begun, last))

    def mark(self) -> None:
        """Note the number of events; it is called in each turn with events."""
        now = self._reactor.seconds()
        marks = self._marks
        mark = now, self._topic.history.last
        if len(marks) > 1 and now - marks[-2][0] < FRESH:
            marks[-1] = mark
        else:
            marks.append(mark)
            self._forget(now)

    def _forget(self, now: float) -> None:
        marks = self._marks
        while len(marks) > 1 and now - marks[1][0] >= RATE_TIME:
            marks.popleft()

    def as_map(self) -> dict[str, Any]:
        """The result of the method ``topic``. It examines each subscription, so it is computed once
        a second at most."""
        now = self._reactor.seconds()
        if self._last is None or now - self._last[0] >= FRESH:
            self._last = now, self._make(now)
        return self._last[1]

    def _make(self, now: float) -> dict[str, Any]:
        topic = self._topic
        self._forget(now)
        _, number = self._marks[0]
        seconds = min(RATE_TIME, now - self._begun)
        sinks = topic.sinks.values()
        dropped = sum(recipient.intake.dropped for recipient in topic.recipients)
        return {
            "epoch": topic.epoch,
            "sequence": topic.history.last,
            "subscriptions": len(sinks),
            "groups": len(topic.groups),
            "rate": (topic.history.last - number) / seconds if seconds > 0 else 0.0,
            "dropped": self.dropped + dropped,
            "delivered": self.delivered + sum(one.sent for one in sinks),
            "queued": topic.waiting.size,
            "lag": max((one.lag() for one in sinks), default=0),
            "history": len(topic.history),
            "retained": len(topic.retained),
            "policies": topic.settings.policies,
        }
