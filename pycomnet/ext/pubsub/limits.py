"""A publisher's settings and limits."""

from __future__ import annotations

from typing import Any

import attrs

from pycomnet.ext.pubsub.history import KeptEvents, kept
from pycomnet.ext.pubsub.permissions import Grant, grants
from pycomnet.ext.pubsub.subscriberqueue import Policy
from pycomnet.ranges import check_fields, real


@attrs.frozen(kw_only=True)
class TopicLimits:
    """A publisher's limits on its subscribers, and on the events that it keeps.

    :ivar subscriptions: subscriptions at a time, of all clients. A subscription counts once for
        each eight parts of its patterns.
    :ivar per_connection: subscriptions of one connection.
    :ivar groups: groups at a time.
    :ivar groups_per_user: groups of one user at a time, and durable groups of one user in the
        store. All clients without a login count as one user.
    :ivar bound: the largest bound that a subscriber may request, in bytes. A batch of 64 KiB, or
        one longer event, is in transit and does not count.
    :ivar waiting: bytes that may wait for all subscribers, counted in the same way. An event counts
        for each subscriber that it waits for, though it is in memory once.
    :ivar event: bytes of one event.
    :ivar blocked: how many events may wait to be published while a subscriber blocks.
    :ivar prefetch: unacknowledged events of a member of a group.
    :ivar history: bytes of the history in memory.
    :ivar keys: how many events are retained.
    :ivar retained: bytes of the retained events.
    """

    subscriptions: int = 100_000
    per_connection: int = 1000
    groups: int = 1000
    groups_per_user: int = 100
    bound: int = 64 << 20
    waiting: int = 1 << 30
    event: int = 32 << 20
    blocked: int = 1000
    prefetch: int = 10_000
    history: int = 64 << 20
    keys: int = 10_000
    retained: int = 64 << 20

    def __attrs_post_init__(self) -> None:
        check_fields(self)


def _blocking(value: bool | float | None) -> float | bool:
    if isinstance(value, bool) or value is None:
        return bool(value)
    return real("block", value, above=True)


def _timeout(value: float | None) -> float | None:
    return None if value is None else real("ack_timeout", value, above=True)


def _may_subscribe(value: Any) -> tuple[Grant, ...]:
    return grants("may_subscribe", value)


def _may_publish(value: Any) -> tuple[Grant, ...]:
    return grants("may_publish", value)


@attrs.frozen(kw_only=True)
class TopicSettings:
    """The settings of a publisher.

    :ivar retain: keep the last event of each subject and key, for later subscribers.
    :ivar history: how much is kept for subscribers that come back: a number of events, or a time
        such as ``"5m"``. By default nothing; with a store, everything in the store.
    :ivar block: whether subscribers may choose the policy ``block``; or the most seconds for which
        a subscription may make the publisher wait. After that time the subscription is ended.
    :ivar may_subscribe: which users may subscribe to which subjects; by default everybody whose
        calls of ``subscribe`` the access rules allow.
    :ivar may_publish: which clients may publish; by default none.
    :ivar ack_timeout: seconds for a member of a group to acknowledge the event that it has had for
        longest. After that time all its events go to others. A member may request less. By default
        there is no limit: only a lost member's events go to others.
    :ivar store: the path of a file in which the history is kept, or a store.
    """

    retain: bool = False
    history: KeptEvents = attrs.field(default=None, converter=kept)
    block: float | bool = attrs.field(default=False, converter=_blocking)
    may_subscribe: tuple[Grant, ...] = attrs.field(default=True, converter=_may_subscribe)
    may_publish: tuple[Grant, ...] = attrs.field(default=False, converter=_may_publish)
    ack_timeout: float | None = attrs.field(default=None, converter=_timeout)
    store: Any = None
    limits: TopicLimits = attrs.Factory(TopicLimits)

    def __attrs_post_init__(self) -> None:
        if self.store is not None and not self.history:
            object.__setattr__(self, "history", KeptEvents())

    @property
    def policies(self) -> list[str]:
        """The policies that subscribers may choose."""
        return [one.value for one in Policy if one is not Policy.BLOCK or self.block]
