"""A watch: first a snapshot of what is registered, then the changes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from pycomnet.errors import RevisionTooOld
from pycomnet.nameserver.changelog import Step
from pycomnet.nameserver.directory import Directory
from pycomnet.nameserver.queries import Query
from pycomnet.nameserver.records import CHANGED, Record

#: The kinds of a watcher's events.
PUT = "put"
DELETE = "delete"
END_OF_SNAPSHOT = "end-of-snapshot"
PROGRESS = "progress"


class Watch:
    """A watcher's position in the changes. It keeps nothing else: the directory and its log have
    the events that the watcher was not sent yet, however slow it is.

    The snapshot is sent in pages, while changes go on. It has the records of the revision in which
    it began. Later changes follow before the end mark. So at the mark the watcher knows exactly
    what is registered in the mark's revision.

    :param query: selects the records that are reported.
    :param revision: continue after this one; None begins with a snapshot.
    :raises RevisionTooOld: the log does not have the changes after this revision.
    """

    def __init__(self, directory: Directory, query: Query, revision: int | None = None) -> None:
        self._directory = directory
        self._query = query
        self._revision = directory.log.last if revision is None else revision
        #: how many changes of the next group were already taken
        self._taken = 0
        #: the name after which the snapshot continues, or None when it is complete
        self._after: str | None = "" if revision is None else None
        #: the revision at which the snapshot ends, or None
        self._mark: int | None = None
        #: changes in a row that did not match its query
        self._silent = 0
        self._check()

    def _check(self) -> None:
        log = self._directory.log
        if not log.knows(self._revision):
            raise RevisionTooOld(
                f"can't go on from revision {self._revision}: changes are known from {log.first} "
                f"to {log.last}; begin with a snapshot",
                revision=self._revision,
                oldest=log.first,
            )

    @property
    def caught_up(self) -> bool:
        """Whether all events were taken."""
        return (
            self._after is None
            and self._mark is None
            and self._revision == self._directory.log.last
        )

    def take(self, limit: int, now: float) -> Iterator[dict[str, Any]]:
        """The next events.

        :param limit: the most events, not counting marks.
        :returns: the events; possibly none, although it has not caught up. The map of a record is
            made when its event is taken from the iterator, so a slow watcher holds one such map.
        :raises RevisionTooOld: it was so slow that changes were lost.
        """
        self._check()
        log = self._directory.log
        if self._after is not None:
            page = self._directory.page(self._query, self._after, limit, now)
            self._after = page.after
            if page.after is None:
                self._mark = log.last
            revision = self._revision
            return (
                _put(record.fence, record, now)
                for record in page.records
                if record.fence <= revision
            )
        events: list[tuple[int, Record] | dict[str, Any]] = []
        found = log.after(self._revision, limit + 1, self._taken)
        steps, told = found[:limit], self._revision
        for step, following in zip_longest(steps, found[1:]):
            if following is None or following.revision != step.revision:
                told, self._taken = step.revision, 0
            else:
                # More changes of this group follow. A watcher that continues after this event's
                # revision gets the whole group again.
                self._taken += 1
            event = self._event(step, told)
            if event is not None:
                events.append(event)
        # Without changes, the log has reached a revision in which nothing has changed here.
        self._revision = told if steps else log.last
        if self._mark is not None and self._revision >= self._mark:
            self._mark = None
            events.append({"event": END_OF_SNAPSHOT, "revision": self._revision})
        self._silent = 0 if events else self._silent + len(steps)
        if self._silent * 4 > log.length:
            # Otherwise the watcher's last revision would become too old to continue from.
            self._silent = 0
            events.append({"event": PROGRESS, "revision": self._revision})
        return (_put(*event, now) if isinstance(event, tuple) else event for event in events)

    def _event(self, step: Step, revision: int) -> tuple[int, Record] | dict[str, Any] | None:
        if step.new is not None and self._query.matches(step.new):
            return revision, step.new
        if step.old is not None and self._query.matches(step.old):
            why = step.why if step.new is None else CHANGED
            return {
                "event": DELETE,
                "revision": revision,
                "service": step.service,
                "why": why,
            }
        return None


def _put(revision: int, record: Record, now: float) -> dict[str, Any]:
    return {"event": PUT, "revision": revision, "record": record.as_map(now)}
