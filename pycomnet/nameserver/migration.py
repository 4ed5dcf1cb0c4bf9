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

#: The number of the lines' form.
FORMAT = 1
#: Registrations that are asked for at a time.
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
    """All that a store has.

    :ivar records: service -> its record.
    :ivar revision: the store's when it was opened.
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
    """A record as a line of JSON. Of the secret it has the digest, as the store does."""
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
    """The line before all records.

    :param revision: the store's: at least every fence that it has given, also those of
        registrations that are gone.
    """
    return json.dumps({"format": FORMAT, "revision": revision})


def from_first_line(line: str) -> int:
    """The revision of the line before all records.

    :raises InvalidRegistration: it is none.
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
    """The record of a line, and the fence that it had: a store gives it another.

    :raises InvalidRegistration: it is none.
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
    """The store's revision, and all registrations, a line each, in the order of their names.

    :param store: not open; it is closed afterwards.
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
    """Register all of them in a store, each with its lease and its owner's secret: so the owners go
    on renewing. Each lease begins anew, with its whole length.

    :param store: not open; it is closed afterwards.
    :returns: fires with how many are registered now, and the names that others have there. Fails
        with InvalidRegistration if a line is none, or if fences would fall; then nothing was done.
        Fails with StoreFailed if another prefix of that etcd uses a lease; then those before it are
        registered.
    """
    wanted = [line for line in lines if line.strip()]
    if not wanted:
        raise InvalidRegistration("there is no line: expected what an export has printed")
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
                f"there are fences of up to {highest}, and this store is at {contents.revision}: "
                "fences would fall. Import into a new store (a new file, an unused prefix)"
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
