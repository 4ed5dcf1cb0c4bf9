"""Detects missing and repeated events of a publisher. No I/O and no clock."""

from __future__ import annotations

from typing import Any

from pycomnet.ext.pubsub.events import Gap

#: For so many subjects of a publisher, the number of the last event is kept.
MOST_SUBJECTS = 10_000
#: The result of :meth:`PublisherTrack.missing` for an event that has arrived before.
REPEATED = Gap(0, why="repeated")


class PublisherTrack:
    """The events of one publisher, as they arrive.

    For a subscriber to all subjects, the events' numbers are consecutive. For a subscriber to some
    subjects, each event has the number of the previous event with the same subject: if that one has
    not arrived, it was lost.

    :param is_certain: whether all events after the position are expected. Otherwise some of them,
        up to the first that arrives, may be from before the subscription, so the number of missing
        events is not known.
    :ivar position: the number of the last event; None before the first, if that is not known.
    """

    __slots__ = ("_base", "_is_certain", "_last", "position")

    def __init__(self, position: int | None = None, is_certain: bool = True) -> None:
        self.position = position
        self._is_certain = is_certain
        #: events up to this one are not expected
        self._base = position
        self._last: dict[str, int] = {}

    def missing(self, item: list[Any], previous: int | None, everything: bool) -> Gap | None:
        """Note an event that has arrived. Returns the gap before it, if any, or :data:`REPEATED`.

        :param previous: the number of the previous event with its subject; None if that is not
            known.
        :param everything: whether all subjects are subscribed to.
        """
        number, subject = item[0], item[1]
        position = self.position
        if position is None:
            self._begin(number, subject)
            return None
        if number <= position:
            return REPEATED
        self.position = number
        if everything:
            is_certain, self._is_certain = self._is_certain, True
            if number == position + 1:
                return None
            count = number - position - 1 if is_certain else None
            return Gap(count, position + 1, number - 1, why="lost")
        known = self._last.get(subject, self._base)
        self._note(subject, number)
        if previous is None or known is None or previous <= known:
            return None
        return Gap(None, known + 1, previous, why="lost")

    def skip(self, item: list[Any]) -> None:
        """Note an event that has arrived; events before it are not expected."""
        number, subject = item[0], item[1]
        if self.position is None or number > self.position:
            self.position = number
        if self._base is None:
            self._base = number - 1
        self._note(subject, number)

    def begins(self, position: int) -> None:
        """Expect all events after a position, which the publisher has reported."""
        if self.position is None:
            self.position = self._base = position
        elif self._base is None:
            self._base = position

    def change(self) -> None:
        """Note that the subjects have changed: until the publisher reports its position, events
        before the first one of each subject are not expected."""
        self._last.clear()
        self._base = None

    def _begin(self, number: int, subject: str) -> None:
        self.position = number
        self._base = number - 1
        self._note(subject, number)

    def _note(self, subject: str, number: int) -> None:
        last = self._last
        if len(last) >= MOST_SUBJECTS and subject not in last:
            last.clear()
            self._base = number
        last[subject] = number
