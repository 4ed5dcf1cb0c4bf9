"""The recipients of a publisher's events, which are subscriptions and groups, by subject."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Generic, Protocol, TypeVar

from pycomnet.ext.pubsub.events import EncodedEvent, batch
from pycomnet.ext.pubsub.subjects import SubjectIndex

#: The most subjects whose recipients are cached, and the most entries of these tuples together.
MOST_SUBJECTS, MOST_PLACES = 10_000, 1_000_000


class Recipient(Protocol):
    """A subscription or a group."""

    def room(self) -> int:
        """How many bytes of events may be offered together; 0 or less for one event at a time."""

    def offer_run(self, run: EventRun[Any], sends: bool, more: int) -> None:
        """Offer the events of a run, all of which match.

        :param sends: whether they are to be sent now, if nothing is queued before them. Otherwise
            they are queued, unless they exceed what the recipient sends at a time.
        :param more: bytes of the next event, which counts for that limit as well.
        """


T = TypeVar("T", bound=Recipient)


class Recipients(Generic[T]):
    """Subscriptions and groups, found by the subjects of events.

    :ivar wanting: subject -> its recipients, for the subjects that were looked up. Equal tuples are
        the same object.
    """

    def __init__(self) -> None:
        self.wanting: dict[str, tuple[T, ...]] = {}
        self._all: dict[T, None] = {}
        self._index: SubjectIndex[T] = SubjectIndex()
        #: the tuples of ``wanting``, each once, and their total length
        self._tuples: dict[tuple[T, ...], tuple[T, ...]] = {}
        self._places = 0

    def __iter__(self) -> Iterator[T]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def add(self, recipient: T, patterns: Iterable[str]) -> None:
        """Add a recipient."""
        self._all[recipient] = None
        self._index.add(patterns, recipient)
        self._forget()

    def remove(self, recipient: T, patterns: Iterable[str]) -> None:
        """Remove a recipient."""
        self._all.pop(recipient, None)
        self._index.remove(patterns, recipient)
        self._forget()

    def find(self, subject: str) -> tuple[T, ...]:
        """Look up the recipients of a subject, each once, and cache them."""
        found = self._index.find(subject)
        if len(self.wanting) >= MOST_SUBJECTS or self._places + len(found) > MOST_PLACES:
            self._forget()
        known = self._tuples.get(found)
        if known is None:
            self._tuples[found] = known = found
            self._places += len(found)
        self.wanting[subject] = known
        return known

    def _forget(self) -> None:
        self.wanting.clear()
        self._tuples.clear()
        self._places = 0


class EventRun(Generic[T]):
    """Events of one reactor turn that follow each other and have the same recipients. The rows
    "128 B, one to one" and "one to 100" need it.

    :param recipients: the subscriptions and groups whose patterns match the events.
    :param members: those of them that get the events from the run. The others still read the
        history, which has the events as well; the run ends when one of them has read all of it.
    :param room: the bytes after which the events are given to the members.
    :ivar rows: the arguments of :class:`EncodedEvent`, as most recipients need only the payloads.
    :ivar size: the bytes of the events.
    """

    __slots__ = ("_batch", "_events", "members", "room", "rows", "size", "recipients")

    def __init__(self, recipients: tuple[T, ...], members: tuple[T, ...], room: int) -> None:
        self.recipients = recipients
        self.members = members
        self.room = room
        self.rows: list[tuple[int, str, str | None, float, bytes]] = []
        self.size = 0
        self._batch: bytes | None = None
        self._events: list[EncodedEvent] | None = None

    def events(self) -> list[EncodedEvent]:
        """The events; the same objects for all members."""
        if self._events is None:
            self._events = [EncodedEvent(*row) for row in self.rows]
        return self._events

    def batch(self) -> bytes:
        """The batch of these events: the same bytes for all members."""
        if self._batch is None:
            rows = self.rows
            self._batch = batch(rows[-1][0], [row[4] for row in rows])
        return self._batch
