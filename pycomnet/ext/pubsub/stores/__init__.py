"""Where a durable history is kept: a seam, and its implementation in an SQLite file."""

from __future__ import annotations

from typing import Protocol

from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime

from pycomnet.ext.pubsub.events import EncodedEvent
from pycomnet.ext.pubsub.history import KeptEvents


class EventStore(Protocol):
    """Keeps a publisher's events, and the positions of groups, over restarts.

    :ivar epoch: the name of the count of events; the same each time.
    :ivar first: the number of the oldest event that is kept; one more than the last, if none is.
    :ivar last: the number of the last event, kept or not.
    """

    epoch: str
    first: int
    last: int

    @property
    def is_full(self) -> bool:
        """Whether so much waits to be written that nothing more may be appended."""

    def open(self, reactor: IReactorTime, keep: KeptEvents) -> defer.Deferred[None]:
        """Open it.

        :param keep: how much it keeps.
        :returns: fires when it is open; fails with :class:`~pycomnet.errors.StoreFailed`.
        """

    def append(self, event: EncodedEvent) -> defer.Deferred[None]:
        """Keep an event. The Deferreds fire in the order of the calls, once it is durable."""

    def read(self, cursor: int) -> defer.Deferred[list[EncodedEvent]]:
        """The events behind a number, some of them; in their order."""

    def recent(self, size: int) -> defer.Deferred[list[EncodedEvent]]:
        """The last events, in their order: about so many bytes of them."""

    def retained(self, count: int, size: int) -> defer.Deferred[list[EncodedEvent]]:
        """The last event of each subject and key, in their order: the last so many, of about so
        many bytes."""

    def before(self, time: float) -> defer.Deferred[int]:
        """The number of the last event that is older than a time."""

    def group(self, name: str) -> defer.Deferred[tuple[int, list[int]] | None]:
        """A group's position: up to which number all is acknowledged, and which are above that.

        None, if there is no such group.
        """

    def acknowledge(self, name: str, floor: int, above: list[int]) -> defer.Deferred[None]:
        """Keep a group's position; fires once it is durable.

        :param above: the numbers that are acknowledged now, above the floor.
        """

    def close(self) -> defer.Deferred[None]:
        """Close it, once all is written."""


__all__ = ["EventStore"]
