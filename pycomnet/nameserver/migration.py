"""Moves all registrations from one store to another, as lines of JSON."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet import defer
from zope.interface import implementer

from pycomnet.deferred import deferred
from pycomnet.errors import InvalidRegistration, StoreConflict
from pycomnet.interfaces import INameFollower
from pycomnet.nameserver.records import Change, Put, Record
from pycomnet.nameserver.standing import standing_of

if TYPE_CHECKING:
    from pycomnet.interfaces import INameStore

#: The version of the lines' format.
FORMAT = 1
#: How many registrations the store is asked to commit at a time.
AT_ONCE = 500
_KINDS: dict[str, Any] = {
    "service": str,
    "interfaces": list,
    "address": str,
    "metadata": str,
    "tags": list,
    "ttl": (int, float),
    "lease": int,
    "secret": str,
    "fence": int,
}


@implementer(INameFollower)
class StoreContents:
    """Collects everything that a store has.

    :ivar records: service -> its record.
    :ivar revision: the store's revision when it was opened.
    """

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.revision = 0

    def load(self, records: Iterable[tuple[Record, float]]) -> None:
        self.records.update((record.service, record) for record, _ in records)

    def loaded(self, revision: int) -> None:
        self.revision = revision

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


def first_line(revision: int) -> str:
    """Format the line before all records.

    :param revision: the store's. No fence that the store has given is higher, also of registrations
        that are gone.
    """
    return json.dumps({"format": FORMAT, "revision": revision})


def from_first_line(line: str) -> int:
    """Read the revision from the line before all records.

    :raises InvalidRegistration: the line is not valid.
    """
    found = _map_of(line)
    revision = found.get("revision")
    if not isinstance(revision, int) or isinstance(revision, bool):
        raise InvalidRegistration(
            f"expected the first line of an export, with its revision, got {line[:60]!r}"
        )
    return revision


def _map_of(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError as problem:
        raise InvalidRegistration(f"expected a line of JSON: {problem}") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise InvalidRegistration(f"expected a map of format {FORMAT}, got {line[:60]!r}")
    return found


def from_line(line: str) -> tuple[Record, int]:
    """Read a record from a line, and the fence that it had; its new store gives it another one.

    :raises InvalidRegistration: the line is not valid.
    """
    found = _map_of(line)
    for key, kind in _KINDS.items():
        if not isinstance(found.get(key), kind) or isinstance(found[key], bool):
            raise InvalidRegistration(f"{key}: expected {kind}, got {found.get(key)!r}")
    texts = (*found["interfaces"], *found["tags"])
    if not found["interfaces"] or not all(isinstance(text, str) for text in texts):
        raise InvalidRegistration("interfaces, tags: expected lists of str, and an interface")
    try:
        metadata = base64.b64decode(found["metadata"], validate=True)
        secret = base64.b64decode(found["secret"], validate=True)
    except binascii.Error as problem:
        raise InvalidRegistration(f"metadata, secret: expected base64: {problem}") from None
    try:
        standing = standing_of(found.get("standing"))
    except ValueError as problem:
        raise InvalidRegistration(f"standing: {problem}") from None
    record = Record(
        found["service"],
        tuple(found["interfaces"]),
        found["address"],
        metadata,
        tuple(found["tags"]),
        float(found["ttl"]),
        found["lease"],
        secret,
        standing=standing,
    )
    return record, found["fence"]


@deferred
async def export_records(store: INameStore) -> list[str]:
    """Export the store's revision, and all registrations in the order of their names.

    :param store: not open; it is closed afterwards.
    :returns: fires with the lines.
    """
    contents = StoreContents()
    try:
        await store.open(contents)
        records = [as_line(contents.records[name]) for name in sorted(contents.records)]
        return [first_line(contents.revision), *records]
    finally:
        await store.close()


@deferred
async def import_records(store: INameStore, lines: Iterable[str]) -> tuple[int, list[str]]:
    """Register exported records in a store, each with its lease and its owner's secret, so that the
    owners can continue to renew. Each lease begins again with its full length.

    :param store: not open; it is closed afterwards.
    :returns: fires with the number of registered records, and the names that were already taken.
        Fails with InvalidRegistration if a line is not valid, or if fences would become lower; then
        nothing was changed. Fails with StoreFailed if another prefix of the same etcd uses a lease;
        then the records before that one are registered.
    """
    wanted = [line for line in lines if line.strip()]
    if not wanted:
        raise InvalidRegistration("the input is empty: expected the output of an export")
    read = [from_line(line) for line in wanted[1:]]
    records = [record for record, _ in read]
    highest = max((fence for _, fence in read), default=0)
    highest = max(highest, from_first_line(wanted[0]))
    contents = StoreContents()
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
                if ok:
                    done += 1
                elif result.check(StoreConflict):
                    taken.append(record.service)
                else:
                    result.raiseException()
    finally:
        await store.close()
    return done, taken


__all__ = [
    "StoreContents",
    "as_line",
    "export_records",
    "first_line",
    "from_first_line",
    "from_line",
    "import_records",
]
