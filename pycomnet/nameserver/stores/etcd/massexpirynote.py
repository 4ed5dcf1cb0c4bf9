"""The note, for all nameservers, that most leases have ended at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycomnet.errors import StoreFailed
from pycomnet.etcd import (
    EtcdClient,
    EtcdCompacted,
    EtcdError,
    EtcdUncertain,
    KeyRange,
    PutRequest,
    unchanged,
)
from pycomnet.nameserver.stores.etcd.keys import (
    ForeignValue,
    KeyLayout,
    doubt_value,
    lease_seconds,
    read_doubt,
)
from pycomnet.nameserver.stores.etcd.pages import read_all
from pycomnet.text.logs import Logger

if TYPE_CHECKING:
    from pycomnet.nameserver.stores.etcd.pages import Decode, T

log = Logger()

#: Seconds for one request to etcd.
REQUEST = 2.5


async def write_note(client: EtcdClient, layout: KeyLayout, since: int, seconds: float) -> None:
    """Write the note, unless there is one. It has a lease of its own.

    :param since: etcd's revision after which the first of these leases ended.
    :raises StoreFailed: it may not have been written.
    """
    lease = 0
    try:
        lease = (await client.grant(lease_seconds(seconds), timeout=REQUEST)).id
        written = await client.txn(
            [unchanged(layout.doubt, 0)],
            [PutRequest(layout.doubt, doubt_value(max(1, since)), lease)],
            timeout=REQUEST,
        )
    except EtcdError as problem:
        if lease and not isinstance(problem, EtcdUncertain):
            _end(client, lease)
        raise StoreFailed(f"etcd: {problem}") from problem
    if not written.succeeded:
        _end(client, lease)


def _end(client: EtcdClient, lease: int) -> None:
    # If that fails, the lease expires.
    client.revoke(lease, timeout=REQUEST).addErrback(lambda failure: failure.trap(EtcdError))


def note_of(value: bytes) -> int | None:
    """The revision in a note; None if the note is not valid."""
    try:
        return read_doubt(value)
    except ForeignValue as problem:
        log.error("the note of ended leases in etcd is not valid: {problem}", problem=problem)
        return None


async def read_note(client: EtcdClient, layout: KeyLayout) -> tuple[int | None, int]:
    """The revision in the note, or None, and etcd's latest revision."""
    answer = await client.range(KeyRange(layout.doubt))
    return (note_of(answer.kvs[0].value) if answer.kvs else None), answer.header.revision


async def read_before(
    client: EtcdClient,
    layout: KeyLayout,
    decode: Decode[T],
    since: int | None,
    latest: int,
    most: int,
) -> tuple[int, list[T]]:
    """Read all records as they were before most leases ended, if etcd still has that; else as they
    were when the note was read. The watch brings what has happened since.

    :param since: etcd's revision before most leases ended; None: they did not.
    :param latest: etcd's revision when the note was read.
    :param most: the most records of a page.
    :returns: the revision, and the records.
    """
    if since is not None:
        try:
            return await read_all(client, layout.records, decode, since, most)
        except EtcdCompacted:
            log.warn("etcd no longer has what there was before most leases ended")
    # At that revision: a note that is written or deleted after it is reported by the watch.
    return await read_all(client, layout.records, decode, latest, most)
