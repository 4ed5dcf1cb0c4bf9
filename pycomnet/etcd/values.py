"""What the client's methods take and return: keys' ranges, operations, compares and answers.

The names and their meaning are those of etcd's ``rpc.proto`` and ``kv.proto``. Keys and values are
``bytes``; revisions, versions and leases are ``int``.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TypeAlias

import attrs


@attrs.frozen
class KeyRange:
    """The keys from ``key`` to before ``end``; only ``key`` if ``end`` is empty.

    An ``end`` of ``b"\\0"`` means all keys from ``key`` on.
    """

    key: bytes
    end: bytes = b""


def prefix(start: bytes) -> KeyRange:
    """All keys that begin with these bytes; all keys if ``start`` is empty."""
    kept = start.rstrip(b"\xff")
    if not kept:
        return KeyRange(start or b"\0", b"\0")
    return KeyRange(start, kept[:-1] + bytes([kept[-1] + 1]))


@attrs.define  # not frozen: that takes three times as long to make
class KeyValue:
    """A key's record.

    :ivar create_revision: of its creation.
    :ivar mod_revision: of its last change.
    :ivar version: 1 for a new key; each put adds 1.
    :ivar lease: the lease that it ends with, or 0.
    """

    key: bytes
    value: bytes = b""
    create_revision: int = 0
    mod_revision: int = 0
    version: int = 0
    lease: int = 0


@attrs.frozen
class KeyEvent:
    """A change of a key.

    :ivar deleted: whether the key was deleted: by a client, or by the end of its lease.
    :ivar kv: the new record; of a deleted key only ``key`` and ``mod_revision``.
    :ivar previous: the record before, if the watch asked for it and etcd still has it.
    """

    deleted: bool
    kv: KeyValue
    previous: KeyValue | None = None


@attrs.frozen
class AnswerHeader:
    """The header of an answer: the state of the member that sent it.

    :ivar revision: the store's revision when the request was executed.
    """

    cluster_id: int = 0
    member_id: int = 0
    revision: int = 0
    raft_term: int = 0


@attrs.frozen
class RangeAnswer:
    """:ivar more: whether the limit left records out.
    :ivar count: the number of keys in the range, whatever the limit.
    """

    header: AnswerHeader
    kvs: list[KeyValue]
    more: bool = False
    count: int = 0


@attrs.frozen
class PutAnswer:
    header: AnswerHeader
    previous: KeyValue | None = None


@attrs.frozen
class DeleteAnswer:
    header: AnswerHeader
    deleted: int = 0
    previous: list[KeyValue] = attrs.Factory(list)


@attrs.frozen
class TxnAnswer:
    """:ivar succeeded: whether all compares held.
    :ivar answers: of the operations that were executed, in their order.
    """

    header: AnswerHeader
    succeeded: bool
    answers: list[RangeAnswer | PutAnswer | DeleteAnswer | TxnAnswer]


class CompareTarget(IntEnum):
    """What a compare looks at."""

    VERSION = 0
    CREATE_REVISION = 1
    MOD_REVISION = 2
    VALUE = 3
    LEASE = 4


class CompareRelation(IntEnum):
    """How a compare compares: the key's is ``EQUAL`` to the given one, ``GREATER`` than it ..."""

    EQUAL = 0
    GREATER = 1
    LESS = 2
    NOT_EQUAL = 3


@attrs.frozen
class Compare:
    """A condition of a transaction.

    A key that does not exist has version, revisions and lease 0, and an empty value.

    :ivar operand: an ``int``, or ``bytes`` for a value.
    :ivar end: if given, all keys from ``key`` to before ``end`` have to meet it.
    """

    key: bytes
    target: CompareTarget
    operand: int | bytes
    relation: CompareRelation = CompareRelation.EQUAL
    end: bytes = b""


def absent(key: bytes) -> Compare:
    """The key does not exist."""
    return Compare(key, CompareTarget.VERSION, 0)


def unchanged(key: bytes, mod_revision: int) -> Compare:
    """The key's last change is that of this revision; 0: it does not exist."""
    return Compare(key, CompareTarget.MOD_REVISION, mod_revision)


class SortTarget(IntEnum):
    """By what a range is sorted."""

    KEY = 0
    VERSION = 1
    CREATE_REVISION = 2
    MOD_REVISION = 3
    VALUE = 4


class SortOrder(IntEnum):
    """How a range is sorted; ``NONE`` is by key."""

    NONE = 0
    ASCEND = 1
    DESCEND = 2


@attrs.frozen
class RangeRequest:
    """Read a range of keys.

    :ivar limit: the most records; 0: all.
    :ivar revision: as of when; 0: now.
    :ivar serializable: the member answers from its own copy, which may be old. Otherwise the answer
        is linearizable: it has all that was acknowledged before the request.
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


@attrs.frozen
class PutRequest:
    """Write a record; ``previous``: return what it replaces."""

    key: bytes
    value: bytes
    lease: int = 0
    previous: bool = False
    ignore_value: bool = False
    ignore_lease: bool = False


@attrs.frozen
class DeleteRequest:
    """Delete a range of keys; ``previous``: return what they were."""

    keys: KeyRange
    previous: bool = False


@attrs.frozen
class TxnRequest:
    """Execute ``success`` if all compares hold, and ``failure`` otherwise, at one revision.

    etcd accepts 128 operations in each part (``--max-txn-ops``), and no key twice among the puts.
    """

    compares: tuple[Compare, ...] = ()
    success: tuple[Operation, ...] = ()
    failure: tuple[Operation, ...] = ()


Operation: TypeAlias = RangeRequest | PutRequest | DeleteRequest | TxnRequest
Answer: TypeAlias = RangeAnswer | PutAnswer | DeleteAnswer | TxnAnswer


@attrs.frozen
class LeaseGrant:
    """:ivar ttl: in whole seconds, as etcd chose it: it may be more than was asked for."""

    header: AnswerHeader
    id: int
    ttl: int


@attrs.frozen
class TimeToLive:
    """:ivar ttl: the seconds that remain; -1: there is no such lease.
    :ivar granted: the seconds that each keepalive gives.
    """

    header: AnswerHeader
    id: int
    ttl: int
    granted: int
    keys: list[bytes]


@attrs.frozen
class MemberInfo:
    """A member of the cluster, as the cluster knows it."""

    id: int
    name: str
    peer_urls: list[str]
    client_urls: list[str]
    is_learner: bool = False


@attrs.frozen
class MemberStatus:
    """:ivar leader: the id of the member that this one takes for the leader; 0: it has none.
    :ivar db_size: of the database's file, in bytes; ``db_size_in_use`` without free pages.
    :ivar errors: of the member, as text: its alarms.
    """

    header: AnswerHeader
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
        """Whether the member takes itself for the leader."""
        return self.leader != 0 and self.leader == self.header.member_id


class AlarmType(IntEnum):
    """What an alarm is about."""

    NONE = 0
    NOSPACE = 1
    CORRUPT = 2


@attrs.frozen
class MemberAlarm:
    """:ivar kind: its number: one of :class:`AlarmType`, or one of a later etcd."""

    member_id: int
    kind: int


__all__ = [
    "MemberAlarm",
    "AlarmType",
    "Answer",
    "Compare",
    "DeleteRequest",
    "DeleteAnswer",
    "KeyEvent",
    "LeaseGrant",
    "AnswerHeader",
    "KeyRange",
    "KeyValue",
    "MemberInfo",
    "MemberStatus",
    "Operation",
    "PutRequest",
    "PutAnswer",
    "RangeRequest",
    "RangeAnswer",
    "CompareRelation",
    "SortOrder",
    "SortTarget",
    "CompareTarget",
    "TimeToLive",
    "TxnRequest",
    "TxnAnswer",
    "absent",
    "prefix",
    "unchanged",
]
