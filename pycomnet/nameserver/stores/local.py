"""Accepts or refuses changes, for the stores that a single nameserver uses alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs
from twisted.internet import defer

from pycomnet.errors import StoreConflict, StoreFailed
from pycomnet.nameserver.records import Change, Delete, Put

if TYPE_CHECKING:
    from pycomnet.interfaces import INameFollower


def first_revision() -> int:
    """The first revision of a new store: the microseconds since 1970.

    So it is higher than any revision of a lost store that this one replaces, unless that store had
    more than a million changes a second, or the clock was set back. It stays below 2**53 until the
    year 2255.
    """
    return time.time_ns() // 1000


@attrs.frozen(eq=False)
class QueuedChange:
    """A change that was requested.

    :ivar change: the accepted change, or None if it was refused.
    :ivar deferred: fires with the result.
    """

    change: Change | None
    deferred: defer.Deferred[int]


class Decisions:
    """Accepts or refuses changes, in the order in which they are requested.

    A change is judged by the state after all changes that were accepted before, committed or not.
    So if an accepted change can't be committed, all waiting changes fail with it.

    :param follower: knows what is committed.
    :ivar revision: the latest revision of an accepted change.
    """

    def __init__(self, follower: INameFollower, revision: int) -> None:
        self.revision = revision
        self._follower = follower
        #: service -> its fence after all accepted changes that are not committed; None if it is
        #: gone
        self._fences: dict[str, int | None] = {}

    def ask(self, change: Put | Delete) -> QueuedChange:
        """Accept or refuse a change."""
        service = change.service
        fence = self._fences[service] if service in self._fences else self._fence_of(service)
        if fence != change.replaces or (fence is None and isinstance(change, Delete)):
            return QueuedChange(None, defer.Deferred())
        self.revision += 1
        if isinstance(change, Put):
            self._fences[service] = self.revision
            accepted = Change(self.revision, service, change.record)
        else:
            self._fences[service] = None
            accepted = Change(self.revision, service, None, change.why)
        return QueuedChange(accepted, defer.Deferred())

    def _fence_of(self, service: str) -> int | None:
        fence: int | None = self._follower.fence_of(service)
        return fence

    def committed(self, batch: list[QueuedChange]) -> None:
        """Tell the follower of a committed batch, then fire its Deferreds."""
        changes = [asked.change for asked in batch if asked.change is not None]
        if changes:
            self._follower.changed(changes)
        for change in changes:
            fence = change.revision if change.record is not None else None
            if self._fences.get(change.service, -1) == fence:
                del self._fences[change.service]
        for asked in batch:
            if asked.change is not None:
                asked.deferred.callback(asked.change.revision)
            else:
                asked.deferred.errback(StoreConflict("another registration is there"))

    def failed(self, batch: list[QueuedChange], problem: StoreFailed) -> None:
        """Fail the Deferreds of a batch: none of its changes was committed."""
        self._fences.clear()
        for asked in batch:
            asked.deferred.errback(problem)


#: Where a store's first revision comes from.
Revisions = Callable[[], int]
