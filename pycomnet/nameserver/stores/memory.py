"""A store without a file: registrations are lost when the nameserver stops."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from pycomnet.errors import StoreFailed
from pycomnet.interfaces import INameStore
from pycomnet.nameserver.records import Delete, Put, Record
from pycomnet.nameserver.stores.local import Decisions, Revisions, first_revision


@implementer(INameStore)
class MemoryStore:
    """Keeps registrations in the nameserver's memory only.

    :param revisions: makes the first revision.
    """

    name = "memory:"
    ends_leases = False

    def __init__(self, revisions: Revisions = first_revision) -> None:
        self._revisions = revisions
        self._decisions: Decisions | None = None

    def open(self, follower: Any) -> defer.Deferred[None]:
        self._decisions = Decisions(follower, self._revisions())
        follower.loaded(self._decisions.revision)
        return defer.succeed(None)

    def commit(self, change: Put | Delete) -> defer.Deferred[int]:
        if self._decisions is None:
            return defer.fail(StoreFailed("the store is closed"))
        asked = self._decisions.ask(change)
        self._decisions.committed([asked])
        return asked.deferred

    def renew(self, record: Record) -> None:
        return None

    def leave(self) -> None:
        return None

    def close(self) -> defer.Deferred[None]:
        self._decisions = None
        return defer.succeed(None)


def make(rest: str, reactor: IReactorTime) -> INameStore:
    """The store that ``memory:`` names."""
    if rest:
        raise StoreFailed(f"expected memory: with nothing after the colon, got {rest!r}")
    return MemoryStore()
