"""Where a durable history is kept: a seam, and its implementation in an SQLite file."""

from __future__ import annotations

from typing import Protocol

import attrs
from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime

from pycomnet.ext.pubsub.events import EncodedEvent
from pycomnet.ext.pubsub.history import KeptEvents


@attrs.frozen
class StoredGroup:
    """A durable group, as a store has it.

    :ivar id: its number there, which no other group gets.
    :ivar patterns: the subjects that it is for.
    :ivar floor: up to this number all is acknowledged.
    :ivar above: what is acknowledged above that.
    """

    id: int
    patterns: tuple[str, ...]
    floor: int
    above: tuple[int, ...] = ()


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
    def fullness(self) -> float:
        """How much waits to be written, as a share of what may: from 1 on, nothing is appended."""

    def open(self, reactor: IReactorTime, keep: KeptEvents, keys: int) -> defer.Deferred[None]:
        """Open it.

        :param keep: how much it keeps.
        :param keys: of so many subjects and keys it keeps the last event as well.
        :returns: fires when it is open; fails with :class:`~pycomnet.errors.StoreFailed`.
        """

    def append(self, event: EncodedEvent) -> defer.Deferred[None]:
        """Keep an event. The Deferreds fire in the order of the calls, once it is durable."""

    def read(self, cursor: int) -> defer.Deferred[list[EncodedEvent]]:
        """The events behind a number, some of them; in their order."""

    def recent(self, size: int) -> defer.Deferred[list[EncodedEvent]]:
        """The last events, in their order: about so many bytes of them."""

    def retained(self, size: int) -> defer.Deferred[list[EncodedEvent]]:
        """The last event of each subject and key, in their order: the last ones, of about so many
        bytes."""

    def before(self, time: float) -> defer.Deferred[int]:
        """The number of the last event that is older than a time."""

    def group(self, owner: str, name: str) -> defer.Deferred[StoredGroup | None]:
        """A user's group, or None."""

    def add_group(
        self, owner: str, name: str, patterns: tuple[str, ...], floor: int, most: int
    ) -> defer.Deferred[StoredGroup]:
        """Make a group.

        :param most: how many the owner may have.
        :returns: fires once it is durable; fails with :class:`~pycomnet.errors.Overloaded` if it is
            one too many.
        """

    def forget_group(self, owner: str, name: str) -> defer.Deferred[bool]:
        """Forget a group and its position. Fires with whether there was one."""

    def acknowledge(self, id: int, floor: int, above: list[int]) -> defer.Deferred[None]:
        """Keep a group's position; fires once it is durable.

        :param above: the numbers that are acknowledged now, above the floor.
        """

    def close(self) -> defer.Deferred[None]:
        """Close it, once all is written."""


__all__ = ["EventStore", "StoredGroup"]
