"""Records in round-robin order: add, remove and next take constant time."""

from __future__ import annotations

from collections.abc import Iterator

from pycomnet.nameserver.records import Record

#: Up to this length, searching a ring is quicker than keeping each record's position.
SMALL = 16


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
        elif len(self.items) > SMALL:
            self._places = {item: place for place, item in enumerate(self.items)}

    def remove(self, record: Record) -> None:
        place = self.items.index(record) if self._places is None else self._places.pop(record)
        self.special -= record.standing is not None
        last = self.items.pop()
        if last is not record:
            self.items[place] = last
            if self._places is not None:
                self._places[last] = place

    def replace(self, old: Record, new: Record) -> None:
        """Put one record in another's place; the order stays."""
        place = self.items.index(old) if self._places is None else self._places.pop(old)
        self.items[place] = new
        self.special += (new.standing is not None) - (old.standing is not None)
        if self._places is not None:
            self._places[new] = place

    def next(
        self, now: float, tags: frozenset[str] = frozenset(), interface: str | None = None
    ) -> Record | None:
        """The next record in turn that lives and has these tags and this interface."""
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
