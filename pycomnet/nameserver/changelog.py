"""The last changes, by revision, so that a watcher can go on after a lost connection."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from operator import attrgetter

import attrs

from pycomnet.nameserver.records import Record

#: Changes that are kept by default.
LENGTH = 65_536


@attrs.define(eq=False)  # not frozen: that takes three times as long to make
class Step:
    """A change, with what it changed.

    :ivar old: what was registered before, or None.
    :ivar new: what is registered now, or None.
    :ivar why: why nothing is.
    """

    revision: int
    service: str
    old: Record | None
    new: Record | None
    why: str = ""


class ChangeLog:
    """The last changes, in order. Revisions grow, but not by one; those of a group are equal.

    :param start: the revision before the first change.
    :param length: how many changes are kept.
    :ivar length: how many changes are kept.
    :ivar first: the oldest revision that a watcher can go on from.
    :ivar last: the latest revision.
    """

    def __init__(self, start: int = 0, length: int = LENGTH) -> None:
        self.first = start
        self.last = start
        self.length = length
        self._steps: list[Step] = []
        self._begin = 0  # where in the list the log begins: it is cut rarely, not for each change

    def __len__(self) -> int:
        return len(self._steps) - self._begin

    def restart(self, revision: int) -> None:
        """Begin anew: no watcher can go on from an earlier revision."""
        self.first = self.last = revision
        self._steps, self._begin = [], 0

    def reach(self, revision: int) -> None:
        """Nothing else has changed up to a revision."""
        self.last = max(self.last, revision)

    def add(self, step: Step) -> None:
        """Add a change, of a revision above all before it, or of the group of the last one."""
        self._steps.append(step)
        self.last = step.revision
        if len(self) > self.length:
            self.first = self._steps[self._begin].revision
            self._begin += 1
            if self._begin > self.length // 4 + 16:
                del self._steps[: self._begin]
                self._begin = 0

    def knows(self, revision: int) -> bool:
        """Whether it has all changes after a revision."""
        return self.first <= revision <= self.last

    def after(self, revision: int, limit: int, skip: int = 0) -> Sequence[Step]:
        """The changes after a revision that it knows, the earliest first.

        :param limit: the most changes; they may end within a group of one revision.
        :param skip: how many to leave out: those of a group that were taken before.
        """
        if revision == self.last:
            return ()
        steps = self._steps
        at = bisect_right(steps, revision, lo=self._begin, key=attrgetter("revision")) + skip
        return steps[at : at + limit]
