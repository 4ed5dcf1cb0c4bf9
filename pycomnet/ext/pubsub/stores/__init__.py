"""Stores of durable histories: the interface, and its implementation in an SQLite file."""

from __future__ import annotations

from typing import Protocol

import attrs
from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime

from pycomnet.ext.pubsub.events import EncodedEvent
from pycomnet.ext.pubsub.history import KeptEvents


@attrs.frozen
class StoredGroup:
    """A durable group, as a store keeps it.

    :ivar id: its number in the store, which is never used again.
    :ivar patterns: the patterns of its subjects.
    :ivar floor: all events up to this number are acknowledged.
    :ivar above: the numbers above the floor that are acknowledged.
    """

    id: int
    patterns: tuple[str, ...]
    floor: int
    above: tuple[int, ...] = ()


class EventStore(Protocol):
    """Keeps a publisher's events, and the positions of groups, over restarts.

    :ivar epoch: the identifier of the sequence of events; the same each time the store is opened.
    :ivar first: the number of the oldest event that is kept; one more than the last, if none is.
    :ivar last: the number of the last event, kept or not.
    """

    epoch: str
    first: int
    last: int

    @property
    def fullness(self) -> float:
        """What waits to be written, as a fraction of the limit. From 1 on, publishing fails."""

    def open(self, reactor: IReactorTime, keep: KeptEvents, keys: int) -> defer.Deferred[None]:
        """Open it.

        :param keep: how much it keeps.
        :param keys: for how many pairs of subject and key it also keeps the last event.
        :returns: fires when it is open; fails with :class:`~pycomnet.errors.StoreFailed`.
        """

    def append(self, event: EncodedEvent) -> defer.Deferred[None]:
        """Store an event. The Deferreds fire in the order of the calls, each once its event is
        durable."""

    def read(self, cursor: int) -> defer.Deferred[list[EncodedEvent]]:
        """The next events after a number, in their order: as many as the store reads at a time."""

    def recent(self, size: int) -> defer.Deferred[list[EncodedEvent]]:
        """The last events, in their order.

        :param size: about how many bytes of them.
        """

    def retained(self, size: int) -> defer.Deferred[list[EncodedEvent]]:
        """The last event of each subject and key, in their order.

        :param size: about how many bytes of them; the oldest are left out.
        """

    def before(self, time: float) -> defer.Deferred[int]:
        """The number of the last event that is older than a time."""

    def group(self, owner: str, name: str) -> defer.Deferred[StoredGroup | None]:
        """Find a user's group. Fires with None if there is none."""

    def add_group(
        self, owner: str, name: str, patterns: tuple[str, ...], floor: int, most: int
    ) -> defer.Deferred[StoredGroup]:
        """Create a group.

        :param most: how many groups the owner may have.
        :returns: fires once the group is durable; fails with :class:`~pycomnet.errors.Overloaded`
            if the owner has that many.
        """

    def forget_group(self, owner: str, name: str) -> defer.Deferred[bool]:
        """Forget a group and its position. Fires with whether there was one."""

    def acknowledge(self, id: int, floor: int, above: list[int]) -> defer.Deferred[None]:
        """Store a group's position; fires once it is durable.

        :param above: the newly acknowledged numbers above the floor.
        """

    def close(self) -> defer.Deferred[None]:
        """Close the store, once everything is written."""


__all__ = ["EventStore", "StoredGroup"]
