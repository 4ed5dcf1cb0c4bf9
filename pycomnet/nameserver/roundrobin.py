"""Records in round-robin order: add, remove and next take constant time."""

from __future__ import annotations

from collections.abc import Iterator

from pycomnet.nameserver.records import Record

#: In a ring of this length or less, the records' places are noted when a record is removed for the
#: first time, which takes some milliseconds. In a longer one they are noted at once.
SHORT = 20_000


class Ring:
    """The records of one interface or tag.

    :ivar items: the records. Removing one puts the last in its place.
    :ivar special: how many have a standing of their own.
    """

    __slots__ = ("_next", "_places", "items", "special")

    def __init__(self, first: Record, second: Record) -> None:
        self.items = [first, second]
        self.special = (first.standing is not None) + (second.standing is not None)
        self._places: dict[Record, int] | None = None
        self._next = 0

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.items)

    def add(self, record: Record) -> None:
        self.items.append(record)
        self.special += record.standing is not None
        if self._places is not None:
            self._places[record] = len(self.items) - 1
        elif len(self.items) > SHORT:
            self._note_places()

    def _note_places(self) -> dict[Record, int]:
        self._places = dict(zip(self.items, range(len(self.items)), strict=True))
        return self._places

    def _taken_out(self, record: Record) -> int:
        """Find the place of a record, and forget it."""
        places = self._note_places() if self._places is None else self._places
        return places.pop(record)

    def remove(self, record: Record) -> None:
        place = self._taken_out(record)
        self.special -= record.standing is not None
        last = self.items.pop()
        if last is not record:
            self.items[place] = last
            if self._places is not None:
                self._places[last] = place

    def replace(self, old: Record, new: Record) -> None:
        """Put one record in another's place; the order stays."""
        place = self._taken_out(old)
        self.items[place] = new
        self.special += (new.standing is not None) - (old.standing is not None)
        if self._places is not None:
            self._places[new] = place

    def next(
        self, now: float, tags: frozenset[str] = frozenset(), interface: str | None = None
    ) -> Record | None:
        """The next live record in turn that has these tags and this interface."""
        items = self.items
        size = len(items)
        first = self._next if self._next < size else 0
        for place in range(first, first + size):
            if place >= size:
                place -= size
            record = items[place]
            if (
                record.ends > now
                and (not tags or tags.issubset(record.tags))
                and (interface is None or interface in record.interfaces)
            ):
                self._next = place + 1
                return record
        return None
