"""Moves all registrations from one store to another, as lines of JSON."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet import defer
from zope.interface import implementer

from pycomnet.deferred import deferred
from pycomnet.errors import InvalidRegistration, StoreConflict
from pycomnet.interfaces import INameFollower
from pycomnet.nameserver.records import DIGEST, Change, Put, Record, decode
from pycomnet.nameserver.requests import NameserverLimits, registration
from pycomnet.nameserver.standing import standing_of
from pycomnet.ranges import NumberRefused, whole

if TYPE_CHECKING:
    from pycomnet.interfaces import INameStore

#: The version of the lines' format.
FORMAT = 1
#: How many registrations the store is asked to commit at a time.
AT_ONCE = 500
#: A lease may be longer than this nameserver's longest, if the other one's is.
LIMITS = attrs.evolve(NameserverLimits(), max_ttl=1e9)
#: The highest lease and fence that a store can keep.
MOST = (1 << 63) - 1


@implementer(INameFollower)
class StoreContents:
    """Collects everything that a store has.

    :param opened: called once all is loaded.
    :ivar records: service -> its record.
    :ivar revision: the store's revision when it was opened.
    """

    def __init__(self, opened: Callable[[], object] | None = None) -> None:
        self._opened = opened
        self.records: dict[str, Record] = {}
        self.revision = 0

    def load(self, records: Iterable[tuple[Record, float]]) -> None:
        self.records.update((record.service, record) for record, _ in records)

    def loaded(self, revision: int) -> None:
        self.revision = revision
        if self._opened is not None:
            self._opened()

    def changed(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if change.record is None:
                self.records.pop(change.service, None)
            else:
                change.record.fence = change.record.fence or change.revision
                self.records[change.service] = change.record

    def reached(self, revision: int) -> None:
        pass

    def doubted(self, since: int | None) -> None:
        pass

    def has(self, record: Record) -> bool:
        """Whether a record of this name, lease and owner is there."""
        found = self.records.get(record.service)
        return found is not None and (found.lease, found.secret) == (record.lease, record.secret)

    def names(self) -> Iterator[str]:
        return iter(self.records)

    def fence_of(self, service: str) -> int | None:
        record = self.records.get(service)
        return None if record is None else record.fence

    def times_left(self) -> Iterator[tuple[str, float]]:
        for record in self.records.values():
            yield record.service, record.ttl


def as_line(record: Record) -> str:
    """Format a record as a line of JSON, with the digest of its secret, as in the store."""
    found = {
        "format": FORMAT,
        "service": record.service,
        "interfaces": list(record.interfaces),
        "address": record.address,
        "metadata": base64.b64encode(record.metadata).decode(),
        "tags": list(record.tags),
        "ttl": record.ttl,
        "lease": record.lease,
        "secret": base64.b64encode(record.secret).decode(),
        "fence": record.fence,
    }
    if record.standing is not None:
        found["standing"] = record.standing.as_list()
    return json.dumps(found)


def first_line(revision: int, registrations: int) -> str:
    """Format the line before all records.

    :param revision: the store's. No fence that the store has given is higher, also of registrations
        that are gone.
    :param registrations: how many lines follow.
    """
    return json.dumps({"format": FORMAT, "revision": revision, "registrations": registrations})


def from_first_line(line: str) -> tuple[int, int | None]:
    """Read the revision from the line before all records, and how many there are, if it says so.

    :raises InvalidRegistration: the line is not valid.
    """
    found = _map_of(line)
    revision, registrations = found.get("revision"), found.get("registrations")
    if type(revision) is not int or type(registrations) not in (int, type(None)):
        raise InvalidRegistration(
            f"expected the first line of an export, with its revision, got {line[:60]!r}"
        )
    return revision, registrations


def _map_of(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as problem:
        raise InvalidRegistration(f"expected a line of JSON: {problem}") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise InvalidRegistration(f"expected a map of format {FORMAT}, got {line[:60]!r}")
    return found


def from_line(line: str) -> tuple[Record, int]:
    """Read a record from a line, and the fence that it had; its new store gives it another one.

    :raises InvalidRegistration: the line is not valid.
    """
    found = _map_of(line)
    asked = {key: found.get(key) for key in ("service", "interfaces", "address", "tags", "ttl")}
    for key, value in asked.items():
        if value is None:
            raise InvalidRegistration(f"there is no {key!r}")
    metadata = _decoded(found, "metadata")
    try:
        asked["metadata"] = decode(metadata) if metadata else {}
    except ValueError as problem:
        raise InvalidRegistration(f"metadata: {problem}") from None
    try:
        lease = whole("lease", found.get("lease"), 1, MOST)
        fence = whole("fence", found.get("fence"), 0, MOST)
    except NumberRefused as problem:
        raise InvalidRegistration(str(problem)) from None
    record, _ = registration(asked, LIMITS, lease, "")
    record.secret = _decoded(found, "secret")
    if len(record.secret) != DIGEST:
        raise InvalidRegistration(f"secret: expected a digest of {DIGEST} bytes, in base64")
    try:
        record.standing = standing_of(found.get("standing"))
    except ValueError as problem:
        raise InvalidRegistration(f"standing: {problem}") from None
    return record, fence


def _decoded(found: dict[str, Any], key: str) -> bytes:
    given: Any = found.get(key)
    try:
        return base64.b64decode(given, validate=True)
    except (TypeError, ValueError):
        raise InvalidRegistration(f"{key}: expected base64, got {given!r:.60}") from None


@deferred
async def export_records(
    store: INameStore, opened: Callable[[], object] | None = None
) -> list[str]:
    """Export the store's revision, and all registrations in the order of their names.

    :param store: not open; it is closed afterwards.
    :param opened: called once the store is open.
    :returns: fires with the lines.
    """
    contents = StoreContents(opened)
    try:
        await store.open(contents)
        records = [as_line(contents.records[name]) for name in sorted(contents.records)]
        return [first_line(contents.revision, len(records)), *records]
    finally:
        await store.close()


@deferred
async def import_records(
    store: INameStore, lines: Iterable[str], opened: Callable[[], object] | None = None
) -> tuple[int, list[str]]:
    """Register exported records in a store, each with its lease and its owner's secret, so that the
    owners can continue to renew. Each lease begins again with its full length. A record that has
    the same lease and secret there already, from an import that was interrupted, is left alone.

    :param store: not open; it is closed afterwards.
    :param opened: called once the store is open.
    :returns: fires with the number of records that are registered now, and the names that others
        have there. Fails with InvalidRegistration if a line is not valid, if lines are missing, or
        if fences would become lower; then nothing was changed. Fails with StoreFailed if the store
        fails, or if another prefix of the same etcd uses a lease; then the records before that one
        are registered.
    """
    records, highest = _read(lines)
    contents = StoreContents(opened)
    done, taken = 0, []
    try:
        await store.open(contents)
        if highest > contents.revision:
            raise InvalidRegistration(
                f"the export has fences up to {highest}, and this store is at revision "
                f"{contents.revision}: its next fences would be lower. Import into a new store (a "
                "new file, an unused prefix)"
            )
        for start in range(0, len(records), AT_ONCE):
            some = records[start : start + AT_ONCE]
            asked = [store.commit(Put(record, keeps_lease=True)) for record in some]
            results: Any = await defer.DeferredList(asked, consumeErrors=True)
            for record, (ok, result) in zip(some, results, strict=True):
                if ok or contents.has(record):
                    done += 1
                elif result.check(StoreConflict):
                    taken.append(record.service)
                else:
                    result.raiseException()
    finally:
        await store.close()
    return done, taken


def _read(lines: Iterable[str]) -> tuple[list[Record], int]:
    """The records of all lines, and the highest fence that there was."""
    records: list[Record] = []
    seen: set[object] = set()
    highest: int | None = None
    expected: int | None = None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            if highest is None:
                highest, expected = from_first_line(line)
                continue
            record, fence = from_line(line)
            if record.service in seen or record.lease in seen:
                raise InvalidRegistration(f"{record.service!r} or its lease is there twice")
        except InvalidRegistration as problem:
            raise InvalidRegistration(f"line {number}: {problem}") from None
        seen.update((record.service, record.lease))
        records.append(record)
        highest = max(highest, fence)
    if highest is None:
        raise InvalidRegistration("there is no line: expected what an export has printed")
    if expected is not None and expected != len(records):
        raise InvalidRegistration(
            f"there are {len(records)} registrations, and the first line says {expected}: "
            "the file is not complete"
        )
    return records, highest
