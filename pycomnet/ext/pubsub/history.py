"""The events that a publisher keeps: the last ones, and the last of each key."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from datetime import timedelta

import attrs

from pycomnet.ext.pubsub.events import EncodedEvent
from pycomnet.ext.pubsub.subjects import Patterns
from pycomnet.ranges import check_fields, real, whole

#: A time in words: its unit -> seconds.
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
#: How many events of histories are examined in one turn, for all subscriptions of a publisher.
BUDGET = 20_000
#: A list is cut when so many of its first entries are unused, and more than half of it.
_CUT = 1000


@attrs.frozen
class KeptEvents:
    """How many events a history keeps; both are limits.

    :ivar count: the most events.
    :ivar seconds: the age in seconds of the oldest event.
    """

    count: int | None = None
    seconds: float | None = None

    def __attrs_post_init__(self) -> None:
        check_fields(self)

    def __bool__(self) -> bool:
        return self.count != 0 and not (self.count is None and self.seconds is None)


def kept(value: int | str | timedelta | KeptEvents | None) -> KeptEvents:
    """Read how many events are to be kept: a number of events, or a time such as ``"5m"``.

    :raises NumberRefused: it is neither.
    """
    if isinstance(value, KeptEvents):
        return value
    if value is None:
        return KeptEvents(count=0)
    if isinstance(value, timedelta):
        return KeptEvents(seconds=real("history", value.total_seconds()))
    if isinstance(value, str):
        return KeptEvents(seconds=duration("history", value))
    return KeptEvents(
        count=whole("history", value, what="a number of events, or a time such as '5m',")
    )


def duration(name: str, text: str) -> float:
    """Read a time such as ``90``, ``90s``, ``5m``, ``2h`` or ``7d``; seconds.

    :raises NumberRefused: it is none.
    """
    unit = _UNITS.get(text[-1:])
    number = text if unit is None else text[:-1]
    return real(name, number, text=True, what="a time such as '5m', of seconds") * (unit or 1.0)


class History:
    """The last events of a publisher, in memory. Their numbers are consecutive.

    :param most: bytes that they may have together.
    """

    def __init__(self, keep: KeptEvents, most: int) -> None:
        self.keep = keep
        self.most = most
        self.size = 0
        #: how many events may still be examined in this turn: it bounds how long a turn takes
        self.budget = BUDGET
        #: the number of the last event, kept or not
        self.last = 0
        self._events: list[EncodedEvent] = []
        #: how many entries at the beginning of the list are not kept any more
        self._start = 0

    def __len__(self) -> int:
        return len(self._events) - self._start

    @property
    def first(self) -> int:
        """The number of the oldest kept event; one more than the last, if none is kept."""
        return self.last + 1 - len(self)

    def append(self, event: EncodedEvent) -> None:
        """An event is published."""
        self.last = event.sequence
        if not self.keep:
            return
        self._events.append(event)
        self.size += event.size
        self.trim(event.time)

    def trim(self, now: float) -> None:
        """Forget events beyond the limits.

        :param now: the current time, on the clock of the events' times.
        """
        keep, events = self.keep, self._events
        start, end = self._start, len(events)
        while start < end:
            oldest = events[start]
            if (
                self.size <= self.most
                and (keep.count is None or end - start <= keep.count)
                and (keep.seconds is None or now - oldest.time <= keep.seconds)
            ):
                break
            self.size -= oldest.size
            events[start] = None  # type: ignore[call-overload]
            start += 1
        self._start = start
        if start > _CUT and start > end // 2:
            del events[:start]
            self._start = 0

    def at(self, sequence: int) -> EncodedEvent:
        """The kept event with a number."""
        return self._events[sequence - self.first + self._start]

    def before(self, time: float) -> int:
        """The number of the last event that is older than a time."""
        low, high = self._start, len(self._events)
        while low < high:
            middle = (low + high) // 2
            if self._events[middle].time < time:
                low = middle + 1
            else:
                high = middle
        return self.first - 1 + low - self._start


class Retained:
    """The last event of each subject and key.

    :param count: how many are kept; the least recently published are forgotten.
    :param most: bytes that they may have together.
    """

    def __init__(self, count: int, most: int) -> None:
        self._count = count
        self._most = most
        self.size = 0
        self._events: OrderedDict[tuple[str, str | None], EncodedEvent] = OrderedDict()

    def __len__(self) -> int:
        return len(self._events)

    def put(self, event: EncodedEvent) -> None:
        """An event is published."""
        self.forget(event.subject, event.key)
        self._events[event.subject, event.key] = event
        self.size += event.size
        while len(self._events) > self._count or (self.size > self._most and len(self) > 1):
            _, oldest = self._events.popitem(last=False)
            self.size -= oldest.size

    def forget(self, subject: str, key: str | None) -> bool:
        """Forget the last event of a subject and key. Returns whether there was one."""
        event = self._events.pop((subject, key), None)
        if event is not None:
            self.size -= event.size
        return event is not None

    def matching(self, patterns: Patterns) -> Iterator[EncodedEvent]:
        """The matching events of a subscription, in the order in which they were published."""
        return (event for event in self._events.values() if patterns.match(event.subject))

    def between(self, patterns: Patterns, first: int, last: int) -> list[EncodedEvent]:
        """The matching events with numbers from ``first`` on, and below ``last``."""
        return [event for event in self.matching(patterns) if first <= event.sequence < last]
