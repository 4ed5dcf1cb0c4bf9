"""The live records, by name, lease, interface and tag."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from random import Random
from typing import Any

from sortedcontainers import SortedList

from pycomnet.nameserver.records import Record
from pycomnet.nameserver.roundrobin import Ring
from pycomnet.nameserver.weightedchoice import choose

#: What the index has for an interface or a tag: the record itself if there is only one, as usual.
Entry = Record | Ring
#: The most tags, metadata and ttls that are remembered, so that records share equal ones.
POOL = 10_000


class Index:
    """Finds records by name, lease, interface and tag, each in constant time.

    :ivar names: service name -> record.
    :ivar leases: lease -> record.
    :ivar size: bytes of all records, as :attr:`Record.size` counts.
    :ivar draining: how many records drain.
    :ivar failing: how many records have a failing health check.

    :param random: chooses among records with weights.
    """

    def __init__(self, random: Callable[[], float] | None = None) -> None:
        self.draining = self.failing = 0
        self._random = random or Random().random
        self.names: dict[str, Record] = {}
        self.leases: dict[int, Record] = {}
        self.size = 0
        self._interfaces: dict[str, Entry] = {}
        self._tags: dict[str, Entry] = {}
        self._pool: dict[Any, Any] = {}
        self._unsorted: list[str] = []
        #: the names in order, for pages and prefixes
        self._order: Any = SortedList()

    def __len__(self) -> int:
        return len(self.names)

    @property
    def interfaces(self) -> int:
        """How many interfaces have a record."""
        return len(self._interfaces)

    @property
    def tags(self) -> int:
        """How many tags have a record."""
        return len(self._tags)

    def fill(self, records: Iterable[Record]) -> None:
        """Add many records with new names; call :meth:`sort` after the last of them."""
        names = self._unsorted
        for record in records:
            self._insert(record)
            names.append(record.service)

    def sort(self) -> None:
        """Sort the names that were added by :meth:`fill`."""
        self._order.update(self._unsorted)
        self._unsorted.clear()

    def put(self, record: Record) -> Record | None:
        """Add a record; returns the record of the same name that it replaces, or None."""
        old = self.names.get(record.service)
        if old is None:
            self._insert(record)
            self._order.add(record.service)
            return None
        self.size += record.size - old.size
        self._count(old, -1)
        self._count(record, 1)
        record.service = old.service  # the same string object that the sorted list has
        self.names[record.service] = record
        self.leases.pop(old.lease, None)
        self.leases[record.lease] = record
        _move(self._interfaces, old, record, old.interfaces, record.interfaces)
        _move(self._tags, old, record, old.tags, record.tags)
        return old

    def remove(self, service: str) -> Record | None:
        """Remove a record; returns it."""
        record = self.names.pop(service, None)
        if record is not None:
            del self.leases[record.lease]
            self.size -= record.size
            self._count(record, -1)
            self._order.remove(service)
            for name in record.interfaces:
                _remove(self._interfaces, name, record)
            for name in record.tags:
                _remove(self._tags, name, record)
        return record

    def _insert(self, record: Record) -> None:
        self.share(record)
        self.size += record.size
        if record.standing is not None:
            self._count(record, 1)
        self.names[record.service] = record
        self.leases[record.lease] = record
        for name in record.interfaces:
            _add(self._interfaces, name, record)
        for name in record.tags:
            _add(self._tags, name, record)

    def _count(self, record: Record, by: int) -> None:
        standing = record.standing
        if standing is not None:
            self.draining += by * standing.is_draining
            self.failing += by * standing.failing

    def share(self, record: Record) -> None:
        """Let a record share equal parts with others: the instances of an interface have the same
        interfaces, and many services have the same tags, metadata and ttl. It saves a quarter of a
        record's memory."""
        entry = self._interfaces.get(record.interfaces[0])
        if entry is not None:
            other = entry.items[-1] if isinstance(entry, Ring) else entry
            if other.interfaces == record.interfaces:
                record.interfaces = other.interfaces
        pool = self._pool
        if len(pool) > POOL:
            pool.clear()  # frequent values are soon there again
        record.tags = pool.setdefault(record.tags, record.tags)
        record.metadata = pool.setdefault(record.metadata, record.metadata)
        record.ttl = pool.setdefault(record.ttl, record.ttl)

    # -- lookups ---------------------------------------------------------------------------------

    def next(self, interface: str, tags: frozenset[str], now: float) -> Record | None:
        """The next live record, in round-robin order, with this interface and all these tags."""
        fewest = _many(self._interfaces.get(interface))
        for tag in tags:
            # Search the shortest list.
            some = _many(self._tags.get(tag))
            if len(some) < len(fewest):
                fewest = some
        if isinstance(fewest, Ring):
            wanted = interface if tags else None
            if not fewest.special:
                return fewest.next(now, tags, wanted)
            return choose(fewest.items, self._random, now, tags, wanted)
        for record in fewest:
            if (
                record.ends > now
                and (record.standing is None or record.standing.share is not None)
                and interface in record.interfaces
                and tags.issubset(record.tags)
            ):
                return record
        return None

    def next_doubtful(self, interface: str, tags: frozenset[str], now: float) -> Record | None:
        """A doubtful record at random; the weights are ignored."""
        entry = _many(self._interfaces.get(interface))
        some = entry.items if isinstance(entry, Ring) else entry
        first = int(self._random() * len(some))
        for record in chain(islice(some, first, None), islice(some, first)):
            if (
                record.doubtful > now
                and (record.standing is None or record.standing.share is not None)
                and tags.issubset(record.tags)
            ):
                return record
        return None

    def instances(self, interface: str) -> Ring | tuple[Record, ...]:
        """The records that have this interface, live or not."""
        return _many(self._interfaces.get(interface))

    def sample(self, most: int) -> Iterator[Record]:
        """All records; or at most this many, at even distances in the order of their names."""
        have = len(self.names)
        if have <= most:
            return iter(self.names.values())
        return (self.names[self._order[place * have // most]] for place in range(most))

    def after(self, name: str, inclusive: bool = False) -> Iterator[str]:
        """The names that sort after one, in order. The index may not change during the
        iteration."""
        found: Iterator[str] = self._order.irange(minimum=name, inclusive=(inclusive, False))
        return found


def _many(entry: Entry | None) -> Ring | tuple[Record, ...]:
    if entry is None:
        return ()
    return entry if isinstance(entry, Ring) else (entry,)


def _add(entries: dict[str, Entry], name: str, record: Record) -> None:
    entry = entries.get(name)
    if entry is None:
        entries[name] = record
    elif isinstance(entry, Ring):
        entry.add(record)
    else:
        entries[name] = Ring(entry, record)


def _remove(entries: dict[str, Entry], name: str, record: Record) -> None:
    entry = entries[name]
    if isinstance(entry, Ring) and len(entry) > 1:
        entry.remove(record)
    else:
        del entries[name]


def _replace(entries: dict[str, Entry], name: str, old: Record, new: Record) -> None:
    entry = entries[name]
    if isinstance(entry, Ring):
        entry.replace(old, new)
    else:
        entries[name] = new


def _move(
    entries: dict[str, Entry],
    old: Record,
    new: Record,
    old_names: tuple[str, ...],
    new_names: tuple[str, ...],
) -> None:
    """Have a record take another's place under each name."""
    for name in old_names:
        if name in new_names:
            _replace(entries, name, old, new)
        else:
            _remove(entries, name, old)
    for name in new_names:
        if name not in old_names:
            _add(entries, name, new)
