"""The queue of one subscription or group: its bound, its policy, and the gaps where it dropped
events."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from enum import Enum

import attrs

from pycomnet.ext.pubsub.events import EncodedEvent, gap
from pycomnet.ext.pubsub.history import History
from pycomnet.ext.pubsub.subjects import Patterns

#: The most events of the history that are examined before other work of the reactor runs.
SCAN = 5_000
#: Bytes that may wait for each subscription, however many wait for all subscriptions together. A
#: subscription that holds no more than this never loses events for the others.
ALWAYS = 1 << 16
#: The smallest bound of a subscription, and the default, in bytes.
LEAST_BOUND, BOUND = 1024, 1 << 20


class Policy(str, Enum):
    """What happens when a subscription's bound is reached."""

    DROP_OLDEST = "drop_oldest"
    DROP_NEWEST = "drop_newest"
    LATEST = "latest"
    DISCONNECT = "disconnect"
    BLOCK = "block"


@attrs.define
class WaitingBytes:
    """Counts the bytes that wait for all subscriptions of a publisher.

    An event that waits for several subscriptions is in memory once, but counts for each. If too
    many bytes wait, the subscriptions with the most lose some: see ``Topic.relieve``.
    """

    most: int
    size: int = 0


#: Why events are missing: the bound was reached, or the history does not reach back that far.
BOUND_REACHED, FORGOTTEN = "bound", "history"


class Missed:
    """Events that are missing at one place of a queue; its subscriber gets a gap there.

    :ivar count: how many; None if that is not known.
    """

    __slots__ = ("count", "first", "key", "last", "why")

    def __init__(
        self,
        count: int | None,
        first: int,
        last: int,
        key: str | None = None,
        why: str = BOUND_REACHED,
    ) -> None:
        self.why = why
        self.count = count
        self.first = first
        self.last = last
        self.key = key

    def add(self, event: EncodedEvent) -> None:
        """Add one missing event, after the others."""
        self.count = (self.count or 0) + 1
        self.last = event.sequence

    @property
    def payload(self) -> bytes:
        """The encoded notice."""
        return gap(self.count, self.first, self.last, self.key, self.why)


class Notice:
    """A notice at its place among the events."""

    __slots__ = ("payload",)

    def __init__(self, payload: bytes) -> None:
        self.payload = payload


Item = EncodedEvent | Missed | Notice


Conflated = OrderedDict[tuple[str, str | None], tuple[EncodedEvent, Missed | None]]
#: Shared empty values, which are never changed: for queues without the policy ``latest``, and for
#: those that skip no numbers.
NONE: Conflated = OrderedDict()
NOTHING: AbstractSet[int] = frozenset()


class SubscriberQueue:
    """The events that a subscription has not been sent yet, in their order.

    First come retained events, then the matching events of the history after :attr:`cursor`: these
    take no memory here. Once the history is read to its end, published events are queued, up to
    the bound.

    :param bound: bytes that may be queued. One event may always be queued.
    :param waiting: counts the bytes that are queued here and elsewhere.
    :ivar cursor: the number up to which the history was read; None when all of it was read.
    :ivar lacking: the history in memory does not reach back to the cursor, but the store's may.
    :ivar dropped: how many events were dropped.
    """

    __slots__ = (
        "_conflated",
        "_front",
        "_history",
        "backlog",
        "bound",
        "cursor",
        "dropped",
        "lacking",
        "patterns",
        "policy",
        "preloaded",
        "queue",
        "reading",
        "size",
        "skip",
        "waiting",
    )

    def __init__(
        self,
        patterns: Patterns,
        policy: Policy,
        bound: int,
        history: History,
        waiting: WaitingBytes,
    ) -> None:
        self.patterns = patterns
        self.policy = policy
        self.bound = bound
        self.size = 0
        #: bytes of the backlog
        self.preloaded = 0
        self.dropped = 0
        self.cursor: int | None = None
        self.lacking = False
        #: whether the store is being read
        self.reading = False
        #: events that come first; they are also in memory elsewhere
        self.backlog: deque[Item] | tuple[()] = ()
        #: numbers of events of the history that do not match
        self.skip: AbstractSet[int] = NOTHING
        self._history = history
        self.waiting = waiting
        #: published events that wait, with :class:`Notice` and :class:`Missed` among them
        self.queue: deque[Item] = deque()
        #: the events that are missing before the first of the queue
        self._front: Missed | None = None
        #: with the policy ``latest``: the last event of each subject and key, and what it replaced
        self._conflated: Conflated = NONE
        if policy is Policy.LATEST:
            self._conflated = OrderedDict()

    def __len__(self) -> int:
        """About how many events are queued."""
        return len(self.queue) + len(self._conflated) + len(self.backlog)

    # -- what comes ------------------------------------------------------------------------------

    def offer(self, event: EncodedEvent) -> bool:
        """Queue a published event that matches, or drop one by the policy.

        :returns: False if the bound is reached and the policy does not drop events.
        """
        if self.cursor is not None:
            return True  # it will be read from the history
        size = event.size
        policy = self.policy
        if policy is Policy.LATEST:
            self._conflate(event)
            return True
        if policy is Policy.DROP_NEWEST and self.queue and self.size + size > self.bound:
            self._drop_newest(event)
            return True
        self.queue.append(event)
        self.size += size
        self.waiting.size += size
        if self.size > self.bound:
            if policy is Policy.DROP_OLDEST:
                self._drop_oldest(self.bound)
            elif len(self.queue) > 1:
                return False
        return True

    def offer_all(self, events: list[EncodedEvent], size: int) -> bool:
        """Queue several published events that match; see :meth:`offer`.

        :param size: their bytes.
        :returns: as :meth:`offer`.
        """
        if self.policy in (Policy.LATEST, Policy.DROP_NEWEST) or self.cursor is not None:
            return all([self.offer(event) for event in events])
        self.queue.extend(events)
        self._count(size)
        if self.size > self.bound:
            if self.policy is Policy.DROP_OLDEST:
                self._drop_oldest(self.bound)
            elif len(self.queue) > 1:
                return False
        return True

    def tell(self, payload: bytes) -> None:
        """Put a notice at the end of the queue."""
        # With `latest` the events are not in this queue: the notice comes before all of them.
        if self.queue and isinstance(self.queue[-1], Notice):
            self.queue[-1] = Notice(payload)  # of several in a row, the last is enough
        else:
            self.queue.append(Notice(payload))

    def _count(self, size: int) -> None:
        self.size += size
        self.waiting.size += size

    @property
    def held(self) -> int:
        """Bytes that wait here."""
        return self.size + self.preloaded

    def shrink(self) -> bool:
        """Drop about half of the queued events. Returns whether any were dropped."""
        before = self.size
        bound = max(ALWAYS, before // 2)
        self._drop_oldest(bound)
        self._drop_conflated(bound)
        return self.size < before

    def _drop_oldest(self, bound: int) -> None:
        queue, front = self.queue, self._front
        size = before = self.size
        told: Notice | None = None
        while len(queue) > 1 and size > bound:
            oldest = queue.popleft()
            if isinstance(oldest, EncodedEvent):
                size -= oldest.size
                self.dropped += 1
                count, first, last = 1, oldest.sequence, oldest.sequence
            elif isinstance(oldest, Missed):  # these were dropped before
                count, first, last = oldest.count or 0, oldest.first, oldest.last
            else:
                told = oldest
                continue
            if front is None:
                self._front = front = Missed(count, first, last)
            else:
                front.count = (front.count or 0) + count
                front.last = last
        if told is not None:
            queue.appendleft(told)
        self._count(size - before)

    def _drop_newest(self, event: EncodedEvent) -> None:
        self.dropped += 1
        last = self.queue[-1]
        if type(last) is not Missed:
            last = Missed(0, event.sequence, event.sequence)
            self.queue.append(last)
        last.add(event)

    def _conflate(self, event: EncodedEvent) -> None:
        conflated = self._conflated
        name = event.subject, event.key
        before = conflated.pop(name, None)
        missed = None
        if before is not None:
            old, missed = before
            self._count(-old.size)
            self.dropped += 1
            if missed is None:
                missed = Missed(0, old.sequence, old.sequence, event.key)
            missed.add(old)
        conflated[name] = event, missed
        self._count(event.size)
        self._drop_conflated(self.bound)

    def _drop_conflated(self, bound: int) -> None:
        conflated = self._conflated
        while len(conflated) > 1 and self.size > bound:
            _, (oldest, missed) = conflated.popitem(last=False)
            self._count(-oldest.size)
            self.dropped += 1
            count, begin = 1, oldest.sequence
            if missed is not None:
                count, begin = 1 + (missed.count or 0), missed.first
            if self._front is None:
                self._front = Missed(0, begin, begin)
            self._front.count = (self._front.count or 0) + count
            self._front.first = min(self._front.first, begin)
            self._front.last = max(self._front.last, oldest.sequence)

    # -- what goes -------------------------------------------------------------------------------

    def take(self, limit: int) -> list[Item]:
        """Take the next items, about ``limit`` bytes of them; at least one item, if there is
        any."""
        items: list[Item] = []
        size = 0
        backlog = self.backlog
        while backlog and size < limit:
            assert isinstance(backlog, deque)
            item = backlog.popleft()
            items.append(item)
            if type(item) is EncodedEvent:
                size += item.size
        self.waiting.size -= size
        self.preloaded -= size
        if self.cursor is not None and size < limit and not self.reading:
            size += self._replay(items, limit - size)
        if self.cursor is not None or size >= limit:
            return items
        if self._front is not None:
            items.append(self._front)
            self._front = None
        queue = self.queue
        taken = 0
        limit -= size
        while queue and taken < limit:
            item = queue.popleft()
            items.append(item)
            if type(item) is EncodedEvent:
                taken += item.size
        conflated = self._conflated
        while conflated and taken < limit:
            _, (event, missed) = conflated.popitem(last=False)
            if missed is not None:
                items.append(missed)
            items.append(event)
            taken += event.size
        self.size -= taken
        self.waiting.size -= taken
        return items

    def take_notice(self) -> Notice | None:
        """Take the next item, if it is a notice."""
        if self.backlog or self.cursor is not None or self._front is not None:
            return None
        queue = self.queue
        first = queue[0] if queue else None
        if type(first) is not Notice:
            return None
        queue.popleft()
        return first

    def _replay(self, items: list[Item], limit: int) -> int:
        """Take from the history. Returns the bytes that were taken."""
        history, patterns, skip = self._history, self.patterns, self.skip
        cursor = self.cursor
        assert cursor is not None
        taken = 0
        self.lacking = False
        looks = max(0, min(SCAN, history.budget)) // patterns.cost
        begin, end = cursor, False
        for _ in range(looks):
            if cursor >= history.last:
                end = True
                break
            if taken >= limit:
                break
            if cursor + 1 < history.first:
                self.lacking = True
                break
            cursor += 1
            event = history.at(cursor)
            if patterns.match(event.subject) and cursor not in skip:
                items.append(event)
                taken += event.size
        history.budget -= (cursor - begin + 1) * patterns.cost
        self.cursor = None if end else cursor
        if end:
            self.skip = NOTHING
        return taken

    def lost(self, first: int) -> None:
        """Add a gap: the history has forgotten the events after the cursor.

        :param first: the number of the oldest event that it still has.
        """
        assert self.cursor is not None
        begin = self.cursor + 1
        count = first - begin if self.patterns.all and not self.skip else None
        self._before().append(Missed(count, begin, first - 1, why=FORGOTTEN))
        self.cursor = first - 1
        self.lacking = False

    def has_more(self) -> bool:
        """Whether an item can be taken, or the history may have one."""
        return bool(
            self.queue
            or self._conflated
            or self.backlog
            or self._front is not None
            or self.cursor is not None
        )

    def _before(self) -> deque[Item]:
        """The backlog, which is made when it is first needed: most subscriptions never need one."""
        if not isinstance(self.backlog, deque):
            self.backlog = deque()
        return self.backlog

    def untold(self) -> int | None:
        """The lowest number of a dropped event whose gap was not sent yet; None if there is none.
        Only with the policy ``latest``."""
        firsts = (missed.first for _, missed in self._conflated.values() if missed is not None)
        return min(firsts, default=None)

    def preload(self, events: Iterable[EncodedEvent]) -> None:
        """Put events before those of the history and the published ones."""
        backlog = self._before()
        size = 0
        for event in events:
            backlog.append(event)
            size += event.size
        self.preloaded += size
        self.waiting.size += size

    def put_back(self, events: Iterable[EncodedEvent]) -> None:
        """Put events back, before all others."""
        for event in reversed(list(events)):
            self._before().appendleft(event)
            self.preloaded += event.size
            self.waiting.size += event.size

    def rewind(self, cursor: int) -> None:
        """Remove the queued events: they will be read from the history, after ``cursor``."""
        self._count(-self.size)
        # The history has no notices: these stay, and come after the events of the history.
        self.queue = deque(item for item in self.queue if type(item) is Notice)
        if self._conflated:
            self._conflated.clear()
        self.cursor = cursor

    def clear(self) -> None:
        """Remove all items."""
        self.rewind(0)
        self.queue.clear()
        self.forget_preloaded()
        self.cursor = None

    def forget_preloaded(self) -> None:
        """Remove the events that were to come first."""
        self.waiting.size -= self.preloaded
        self.preloaded = 0
        self.backlog = ()
