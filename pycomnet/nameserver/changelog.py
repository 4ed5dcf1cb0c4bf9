"""The last changes, by revision, so that a watcher can continue after a lost connection."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from operator import attrgetter

import attrs

from pycomnet.nameserver.records import Record

#: Changes that are kept by default.
LENGTH = 65_536


@attrs.frozen(eq=False)
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
    """The last changes, in order. Revisions increase, by more than one at times. Changes that the
    store has committed as a group have the same revision.

    :param start: the revision before the first change.
    :param length: how many changes are kept.
    :ivar length: how many changes are kept.
    :ivar first: the oldest revision that a watcher can continue from.
    :ivar last: the latest revision.
    """

    def __init__(self, start: int = 0, length: int = LENGTH) -> None:
        self.first = start
        self.last = start
        self.length = length
        self._steps: list[Step] = []
        self._begin = 0  # where in the list the log begins: old steps are deleted many at a time

    def __len__(self) -> int:
        return len(self._steps) - self._begin

    def restart(self, revision: int) -> None:
        """Clear the log: no watcher can continue from an earlier revision."""
        self.first = self.last = revision
        self._steps, self._begin = [], 0

    def reach(self, revision: int) -> None:
        """Note that nothing else has changed up to a revision."""
        self.last = max(self.last, revision)

    def add(self, step: Step) -> None:
        """Add a change. Its revision is higher than all before, or that of the last change."""
        self._steps.append(step)
        self.last = step.revision
        if len(self) > self.length:
            self.first = self._steps[self._begin].revision
            self._begin += 1
            if self._begin > self.length // 4 + 16:
                del self._steps[: self._begin]
                self._begin = 0

    def knows(self, revision: int) -> bool:
        """Whether the log has all changes after a revision."""
        return self.first <= revision <= self.last

    def after(self, revision: int, limit: int, skip: int = 0) -> Sequence[Step]:
        """The changes after a revision, the earliest first; :meth:`knows` must be true for it.

        :param limit: the most changes; the result may end within a group of one revision.
        :param skip: how many changes of the next group were taken before.
        """
        if revision == self.last:
            return ()
        steps = self._steps
        at = bisect_right(steps, revision, lo=self._begin, key=attrgetter("revision")) + skip
        return steps[at : at + limit]
