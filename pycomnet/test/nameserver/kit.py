"""Records for tests, and a directory on a memory store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from twisted.internet import defer
from twisted.internet.task import Clock
from zope.interface import implementer

from pycomnet.interfaces import INameFollower
from pycomnet.nameserver.directory import Directory
from pycomnet.nameserver.records import Change, Record, digest, encode
from pycomnet.nameserver.stores.memory import MemoryStore

SECRET = "a secret of sixteen"


class Leases:
    """Lease numbers, each another."""

    last = 0

    @classmethod
    def next(cls) -> int:
        cls.last += 1
        return cls.last


def record(
    service: str = "a",
    *interfaces: str,
    address: str = "tcp:127.0.0.1:1",
    metadata: dict[str, Any] | None = None,
    tags: tuple[str, ...] = (),
    ttl: float = 30.0,
    secret: str = SECRET,
) -> Record:
    """A record that is not registered yet."""
    return Record(
        service,
        interfaces or ("org.example.calc",),
        address,
        encode(metadata) if metadata else b"",
        tags,
        ttl,
        Leases.next(),
        digest(secret),
    )


class Registry:
    """A directory with a store, on a clock that the test turns.

    :ivar steps: the directory's changes.
    """

    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        self.clock.advance(1000.0)
        self.directory = Directory(self.clock.seconds, **options)
        self.store = MemoryStore(lambda: 100)
        self.store.open(self.directory)

    @property
    def now(self) -> float:
        return self.clock.seconds()

    def register(self, *args: Any, **options: Any) -> Record:
        """Register; the record as it is registered."""
        wanted = record(*args, **options)
        self._done(self.store.commit(self.directory.proposal(wanted, self.now)))
        found = self.directory.find(wanted.service, self.now)
        assert found is wanted
        return found

    def unregister(self, held: Record, secret: str = SECRET) -> None:
        self._done(self.store.commit(self.directory.removal(held.lease, secret, self.now)))

    def _done(self, deferred: defer.Deferred[int]) -> int:
        results: list[Any] = []
        deferred.addBoth(results.append)
        assert isinstance(results[0], int), results
        return results[0]


@implementer(INameFollower)
class Follower:
    """What follows a store and remembers all that it was told."""

    def __init__(self) -> None:
        self.records: dict[str, tuple[Record, float]] = {}
        self.changes: list[Change] = []
        self.revision: int | None = None
        self.left: dict[str, float] = {}
        self.doubts: list[int | None] = []

    def load(self, records: Any) -> None:
        for one, left in records:
            assert one.service not in self.records
            assert self.revision is None, "loaded before"
            self.records[one.service] = one, left

    def loaded(self, revision: int) -> None:
        assert self.revision is None
        self.revision = revision

    def changed(self, changes: Any) -> None:
        for change in changes:
            assert self.revision is not None, "changed before it was loaded"
            grouped = bool(changes) and change is not changes[0]
            assert change.revision > self.revision or (grouped and change.revision == self.revision)
            self.revision = change.revision
            self.changes.append(change)
            if change.record is None:
                del self.records[change.service]
            else:
                change.record.fence = change.record.fence or change.revision
                self.records[change.service] = change.record, change.record.ttl

    def reached(self, revision: int) -> None:
        assert self.revision is not None
        self.revision = max(self.revision, revision)

    def doubted(self, since: int | None) -> None:
        self.doubts.append(since)

    def names(self) -> Iterator[str]:
        return iter(self.records)

    def fence_of(self, service: str) -> int | None:
        return self.records[service][0].fence if service in self.records else None

    def times_left(self) -> Iterator[tuple[str, float]]:
        for service, (_, left) in self.records.items():
            yield service, self.left.get(service, left)
