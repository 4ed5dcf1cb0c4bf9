"""The queue of a subscriber's events from NATS, with a bound and a policy. No I/O and no clock."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Any

from pycomnet.ext.pubsub.events import OVERHEAD, Gap
from pycomnet.ext.pubsub.subscriberqueue import Policy

#: The most publishers whose gaps are kept, and the most waiting items that are not events.
MOST_SOURCES, MOST_TOLD = 1000, 16


class WaitingEvent:
    """An event or a notice that waits.

    :ivar source: the publisher that it is from.
    :ivar item: the event as an array; or a :class:`Gap`, a notice or an error.
    :ivar size: the bytes that it counts for.
    :ivar missed: the gap before it.
    """

    __slots__ = ("item", "missed", "size", "source")

    def __init__(self, source: Any, item: Any, size: int, missed: Gap | None = None) -> None:
        self.source = source
        self.item = item
        self.size = size
        self.missed = missed


class EventQueue:
    """The events that a subscriber has not taken yet.

    :param policy: what happens when the bound is reached.
    :param bound: bytes that may wait; one event always may.
    :ivar size: bytes that wait.
    """

    def __init__(self, policy: Policy, bound: int) -> None:
        self.policy = policy
        self.bound = bound
        self.size = 0
        self._queue: deque[WaitingEvent] = deque()
        self._latest: OrderedDict[tuple[Any, str, str | None], WaitingEvent] = OrderedDict()
        #: the events that were dropped after the last waiting one, for each source
        self._behind: dict[Any, Gap] = {}
        #: ... and before the first
        self._before: dict[Any, Gap] = {}
        #: how many waiting items are not events
        self._told = 0

    def __len__(self) -> int:
        return len(self._queue) + len(self._latest)

    def put(self, source: Any, item: list[Any], size: int, missed: Gap | None) -> bool:
        """Queue an event, or drop one by the policy. Returns False if the policy disconnects."""
        size += OVERHEAD
        if self.policy is Policy.LATEST:
            self._replace(source, item, size, missed)
            return True
        if self._behind:
            missed = _both(self._behind.pop(source, None), missed)
        if self.size + size > self.bound and self._queue:
            if self.policy is Policy.DISCONNECT:
                return False
            if self.policy is Policy.DROP_NEWEST:
                self._note(self._behind, source, _dropped(item, missed))
                return True
            if self.policy is Policy.DROP_OLDEST:
                self._drop_oldest(size)
        self._queue.append(WaitingEvent(source, item, size, missed))
        self.size += size
        return True

    def _drop_oldest(self, size: int) -> None:
        queue = self._queue
        told: list[WaitingEvent] = []
        while queue and self.size + size > self.bound:
            oldest = queue.popleft()
            if type(oldest.item) is not list or oldest.item[0] is None:
                told.append(oldest)  # not an event: it is kept
                continue
            self.size -= oldest.size
            self._note(self._before, oldest.source, _dropped(oldest.item, oldest.missed))
        queue.extendleft(reversed(told))

    def _note(self, gaps: dict[Any, Gap], source: Any, gap: Gap) -> None:
        """Add missing events of a source to its gap."""
        gaps[source] = _sum(gaps.get(source), gap)
        if len(gaps) > MOST_SOURCES:
            del gaps[next(iter(gaps))]

    def _replace(self, source: Any, item: list[Any], size: int, missed: Gap | None) -> None:
        latest = self._latest
        place = (source, item[1], item[2])
        before = latest.pop(place, None)
        if before is not None:
            self.size -= before.size
            gap = _dropped(before.item, before.missed, item[2])
            missed = gap if missed is None else _sum(gap, missed)
        latest[place] = WaitingEvent(source, item, size, missed)
        self.size += size
        while self.size > self.bound and len(latest) > 1:
            _, oldest = latest.popitem(last=False)
            self.size -= oldest.size
            self._note(self._before, oldest.source, _dropped(oldest.item, oldest.missed))

    def tell(self, source: Any, item: Any) -> None:
        """Queue an item that is not an event. It is dropped if :data:`MOST_TOLD` of them wait."""
        if self._told < MOST_TOLD:
            self._told += 1
            self._queue.append(WaitingEvent(source, item, 0))

    def take(self, size: int) -> tuple[Any, list[Any]] | None:
        """Take waiting items of one publisher.

        :param size: about how many bytes.
        :returns: the publisher and its items; None if nothing waits.
        """
        queue: Any = self._queue
        if not queue and self._latest:
            queue = self._queue = deque(self._latest.values())
            self._latest = OrderedDict()
        if not queue:
            return None
        source = queue[0].source
        found: list[Any] = []
        before = self._before.pop(source, None) if self._before else None
        if before is not None:
            found.append(before)
        taken = 0
        while queue and queue[0].source is source and taken < size:
            one = queue.popleft()
            taken += one.size
            self._told -= not one.size
            if one.missed is not None:
                found.append(one.missed)
            found.append(one.item)
        self.size -= taken
        if not queue and not self._latest and self._behind:
            gap = self._behind.pop(source, None)
            if gap is not None:
                found.append(gap)
        return source, found

    def clear(self) -> None:
        """Remove all items."""
        self._queue.clear()
        self._latest.clear()
        self._behind.clear()
        self._before.clear()
        self.size = self._told = 0


def _dropped(item: list[Any], missed: Gap | None, key: str | None = None) -> Gap:
    """The gap for a dropped event, with the gap before it."""
    one = Gap(1, item[0], item[0], key)
    return one if missed is None else _sum(missed, one)


def _sum(first: Gap | None, second: Gap) -> Gap:
    """Join two gaps, the second after the first."""
    if first is None:
        return second
    unknown = first.count is None or second.count is None
    count = None if unknown else (first.count or 0) + (second.count or 0)
    why = first.why if first.why == second.why else "lost"
    return Gap(count, first.first, second.last, second.key or first.key, why)


def _both(first: Gap | None, second: Gap | None) -> Gap | None:
    if second is None:
        return first
    return _sum(first, second)
