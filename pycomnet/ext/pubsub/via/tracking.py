"""Which events of a publisher have come, and which are missing: no I/O and no clock."""

from __future__ import annotations

from typing import Any

from pycomnet.ext.pubsub.events import Gap

#: For so many subjects of a publisher it is known which event came last.
MOST_SUBJECTS = 10_000
#: What :meth:`PublisherTrack.missing` returns for an event that has come before.
REPEATED = Gap(0, why="repeated")


class PublisherTrack:
    """The events of one publisher, as they come.

    Who subscribes to everything gets numbers without holes. Who does not knows from each event
    which was the one before with its subject.

    :param is_certain: whether all that follows the position is expected; else some of it, up to
        the first that comes, may be from before the subscription, so nobody knows how many are
        missing.
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
        """An event has come: what is missing before it.

        :param previous: the number of the one before with its subject; None if nobody knows.
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
        """An event has come before which others are not expected."""
        number, subject = item[0], item[1]
        if self.position is None or number > self.position:
            self.position = number
        if self._base is None:
            self._base = number - 1
        self._note(subject, number)

    def begins(self, position: int) -> None:
        """The publisher says where it is: what follows is expected."""
        if self.position is None:
            self.position = self._base = position
        elif self._base is None:
            self._base = position

    def change(self) -> None:
        """Other subjects are subscribed to: the first event of each is as it comes, until the
        publisher says where it is."""
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


__all__ = ["REPEATED", "PublisherTrack"]
