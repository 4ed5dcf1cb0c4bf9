"""Subscriptions that block their publisher, and the events that wait until they have room."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from pycomnet.errors import Overloaded
from pycomnet.ext.pubsub.errors import PublisherGone, SlowSubscriber

if TYPE_CHECKING:
    from pycomnet.ext.pubsub.subscriptions import Subscription

#: Publishes a value, with its key and its subject.
Publish = Callable[[Any, str | None, str], defer.Deferred[None]]


class BackPressure:
    """The events of a publisher that wait while a subscription with the policy ``block`` is full.

    :param publish: publishes an event.
    :param most: how many events may wait.
    :ivar seconds: how long a subscription may block; True for no limit.
    """

    def __init__(
        self, publish: Publish, most: int, seconds: float | bool, reactor: IReactorTime
    ) -> None:
        self._publish = publish
        self._most = most
        self.seconds = seconds
        self._reactor = reactor
        #: the subscriptions that are full, with their timers
        self._blockers: dict[Subscription, Any] = {}
        #: value, key, subject, and the caller's Deferred
        self._held: deque[tuple[Any, str | None, str, defer.Deferred[None]]] = deque()

    def __bool__(self) -> bool:
        """Whether an event has to wait."""
        return bool(self._blockers or self._held)

    @property
    def has_room(self) -> bool:
        """Whether half of the room for events that wait is free."""
        return len(self._held) < self._most / 2

    def hold(self, value: Any, key: str | None, subject: str) -> defer.Deferred[None]:
        """Publish an event when nothing blocks any more.

        :raises Overloaded: too many wait.
        """
        if len(self._held) >= self._most:
            raise Overloaded(
                f"{len(self._held)} events wait for a subscriber that blocks: wait for what "
                "publish() returns"
            )
        waiting: defer.Deferred[None] = defer.Deferred()
        self._held.append((value, key, subject, waiting))
        return waiting

    def blocked(self, subscription: Subscription) -> None:
        """A subscription has reached its bound: nothing is published until it has room."""
        if subscription in self._blockers:
            return
        timer = None
        if self.seconds is not True:
            timer = self._reactor.callLater(self.seconds, self._too_long, subscription)
        self._blockers[subscription] = timer

    def _too_long(self, subscription: Subscription) -> None:
        self._blockers[subscription] = None
        subscription.close(
            SlowSubscriber(
                f"this subscriber has blocked the publisher for {self.seconds:g} seconds"
            )
        )

    def unblocked(self, subscription: Subscription) -> None:
        """The subscription has room again, or is gone."""
        if subscription not in self._blockers:
            return
        timer = self._blockers.pop(subscription)
        if timer is not None:
            timer.cancel()
        while self._held and not self._blockers:
            value, key, subject, waiting = self._held.popleft()
            if waiting.called:
                continue  # cancelled
            try:
                published = self._publish(value, key, subject)
            except Exception:
                waiting.errback(Failure())
            else:
                published.addCallbacks(waiting.callback, waiting.errback)

    def end(self, interface: str) -> None:
        """Fail the events that wait: the publisher has ended."""
        held, self._held = self._held, deque()
        for *_, waiting in held:
            if not waiting.called:
                waiting.errback(PublisherGone(f"{interface} has ended"))

    def close(self) -> None:
        """Cancel all timers."""
        timers = list(self._blockers.values())
        self._blockers.clear()
        for timer in timers:
            if timer is not None and timer.active():
                timer.cancel()
