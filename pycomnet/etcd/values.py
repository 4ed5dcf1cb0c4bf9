"""The arguments and results of the client's methods: key ranges, operations, compares, replies.

The names and their meaning are those of etcd's ``rpc.proto`` and ``kv.proto``. Keys and values are
``bytes``; revisions, versions and leases are ``int``. Requests and replies, of which there may be
thousands a second, are not frozen: that takes three times as long to make.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TypeAlias

import attrs


@attrs.frozen
class KeyRange:
    """The keys from ``key`` up to, but not including, ``end``; only ``key`` if ``end`` is empty.

    An ``end`` of ``b"\\0"`` means all keys from ``key`` on.
    """

    key: bytes
    end: bytes = b""


def prefix(start: bytes) -> KeyRange:
    """The range of all keys that begin with these bytes; of all keys if ``start`` is empty."""
    kept = start.rstrip(b"\xff")
    if not kept:
        return KeyRange(start or b"\0", b"\0")
    return KeyRange(start, kept[:-1] + bytes([kept[-1] + 1]))


@attrs.define
class KeyValue:
    """A key's record.

    :ivar create_revision: the revision of its creation.
    :ivar mod_revision: the revision of its last change.
    :ivar version: 1 for a new key; each put adds 1.
    :ivar lease: the id of the lease that it is attached to, or 0.
    """

    key: bytes
    value: bytes = b""
    create_revision: int = 0
    mod_revision: int = 0
    version: int = 0
    lease: int = 0


@attrs.define
class KeyEvent:
    """A change of a key.

    :ivar deleted: whether the key was deleted, by a client or because its lease has ended.
    :ivar kv: the new record; for a deleted key, only ``key`` and ``mod_revision`` are set.
    :ivar previous: the record before the change, if it was requested and etcd still has it.
    """

    deleted: bool
    kv: KeyValue
    previous: KeyValue | None = None


@attrs.define
class ResponseHeader:
    """The header of a reply: the state of the member that has sent it.

    :ivar revision: the store's revision when the request was executed.
    """

    cluster_id: int = 0
    member_id: int = 0
    revision: int = 0
    raft_term: int = 0


@attrs.define
class RangeResponse:
    """The result of a range request.

    :ivar more: whether there are more records than the limit.
    :ivar count: the number of keys in the range, whatever the limit is.
    """

    header: ResponseHeader
    kvs: list[KeyValue]
    more: bool = False
    count: int = 0


@attrs.define
class PutResponse:
    header: ResponseHeader
    previous: KeyValue | None = None


@attrs.define
class DeleteResponse:
    header: ResponseHeader
    deleted: int = 0
    previous: list[KeyValue] = attrs.Factory(list)


@attrs.define
class TxnResponse:
    """The result of a transaction.

    :ivar succeeded: whether all compares were true.
    :ivar responses: the results of the executed operations, in their order.
    """

    header: ResponseHeader
    succeeded: bool
    responses: list[RangeResponse | PutResponse | DeleteResponse | TxnResponse]


class CompareTarget(IntEnum):
    """The attribute of a key that is compared."""

    VERSION = 0
    CREATE_REVISION = 1
    MOD_REVISION = 2
    VALUE = 3
    LEASE = 4


class CompareRelation(IntEnum):
    """The comparison operator: the key's attribute is ``EQUAL`` to the operand, ..."""

    EQUAL = 0
    GREATER = 1
    LESS = 2
    NOT_EQUAL = 3


@attrs.define
class Compare:
    """A condition of a transaction.

    A key that does not exist has version, revisions and lease 0, and an empty value.

    :ivar operand: an ``int``, or ``bytes`` for a value.
    :ivar end: if given, the condition has to be true for all keys from ``key`` up to ``end``.
    """

    key: bytes
    target: CompareTarget
    operand: int | bytes
    relation: CompareRelation = CompareRelation.EQUAL
    end: bytes = b""


def absent(key: bytes) -> Compare:
    """The condition that a key does not exist."""
    return Compare(key, CompareTarget.VERSION, 0)


def unchanged(key: bytes, mod_revision: int) -> Compare:
    """The condition that a key was last changed in this revision; 0: that it does not exist."""
    return Compare(key, CompareTarget.MOD_REVISION, mod_revision)


class SortTarget(IntEnum):
    """The attribute by which a range is sorted."""

    KEY = 0
    VERSION = 1
    CREATE_REVISION = 2
    MOD_REVISION = 3
    VALUE = 4


class SortOrder(IntEnum):
    """The order in which a range is sorted; ``NONE``: by key."""

    NONE = 0
    ASCEND = 1
    DESCEND = 2


@attrs.define
class RangeRequest:
    """Read a range of keys.

    :ivar limit: the maximum number of records; 0: all.
    :ivar revision: the revision to read; 0: the latest.
    :ivar serializable: the member replies from its own copy, which may lag. Otherwise the read is
        linearizable: it sees all changes that were acknowledged before the request.
    """

    keys: KeyRange
    limit: int = 0
    revision: int = 0
    serializable: bool = False
    keys_only: bool = False
    count_only: bool = False
    sort_order: SortOrder = SortOrder.NONE
    sort_target: SortTarget = SortTarget.KEY
    min_mod_revision: int = 0
    max_mod_revision: int = 0


@attrs.define
class PutRequest:
    """Write a record; ``previous``: also return the record that it replaces."""

    key: bytes
    value: bytes
    lease: int = 0
    previous: bool = False
    ignore_value: bool = False
    ignore_lease: bool = False


@attrs.define
class DeleteRequest:
    """Delete a range of keys; ``previous``: also return their records."""

    keys: KeyRange
    previous: bool = False


@attrs.define
class TxnRequest:
    """Execute ``success`` if all compares are true, else ``failure``, atomically.

    etcd accepts 128 operations in each list (``--max-txn-ops``), and no two puts of one key.
    """

    compares: tuple[Compare, ...] = ()
    success: tuple[Operation, ...] = ()
    failure: tuple[Operation, ...] = ()


Operation: TypeAlias = RangeRequest | PutRequest | DeleteRequest | TxnRequest
Response: TypeAlias = RangeResponse | PutResponse | DeleteResponse | TxnResponse


@attrs.define
class LeaseGrant:
    """A granted lease.

    :ivar ttl: whole seconds; etcd may grant more than was requested.
    """

    header: ResponseHeader
    id: int
    ttl: int


@attrs.frozen
class TimeToLive:
    """The time that a lease has left.

    :ivar ttl: the seconds left; -1: there is no such lease.
    :ivar granted: the seconds that the lease lasts after each renewal.
    """

    header: ResponseHeader
    id: int
    ttl: int
    granted: int
    keys: list[bytes]


@attrs.frozen
class MemberInfo:
    """A member in the cluster's list of members."""

    id: int
    name: str
    peer_urls: list[str]
    client_urls: list[str]
    is_learner: bool = False


@attrs.frozen
class MemberStatus:
    """The status of a member.

    :ivar leader: the id of the leader, as this member knows it; 0: it knows none.
    :ivar db_size: the size of the database file in bytes; ``db_size_in_use``: without free pages.
    :ivar errors: the member's alarms, as text.
    """

    header: ResponseHeader
    version: str
    db_size: int
    leader: int
    raft_index: int
    raft_term: int
    raft_applied_index: int
    errors: list[str]
    db_size_in_use: int
    is_learner: bool = False

    @property
    def is_leader(self) -> bool:
        """Whether the member is the leader, by its own knowledge."""
        return self.leader != 0 and self.leader == self.header.member_id


class AlarmType(IntEnum):
    """The cause of an alarm."""

    NONE = 0
    NOSPACE = 1
    CORRUPT = 2


@attrs.frozen
class MemberAlarm:
    """An active alarm.

    :ivar kind: a number of :class:`AlarmType`, or one of a later version of etcd.
    """

    member_id: int
    kind: int
