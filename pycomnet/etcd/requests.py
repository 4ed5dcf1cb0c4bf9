"""Encodes the arguments of the client's methods as etcd's messages.

Field numbers are those of etcd's ``rpc.proto``.
"""

from __future__ import annotations

from pycomnet.etcd.protobuf import bytes_field, message_field, number_field, varint
from pycomnet.etcd.values import (
    Compare,
    CompareTarget,
    DeleteRequest,
    KeyRange,
    Operation,
    PutRequest,
    RangeRequest,
    TxnRequest,
)

#: How deep transactions may be nested; etcd itself has no use for more.
MAX_DEPTH = 16
#: Compare.range_end is field 64: its tag has two bytes.
_COMPARE_END = varint(64 << 3 | 2)


def encode_range(request: RangeRequest) -> bytes:
    """Encode a RangeRequest."""
    keys = request.keys
    return b"".join(
        (
            bytes_field(1, keys.key),
            bytes_field(2, keys.end),
            number_field(3, request.limit),
            number_field(4, request.revision),
            number_field(5, request.sort_order),
            number_field(6, request.sort_target),
            number_field(7, request.serializable),
            number_field(8, request.keys_only),
            number_field(9, request.count_only),
            number_field(10, request.min_mod_revision),
            number_field(11, request.max_mod_revision),
        )
    )


def encode_put(request: PutRequest) -> bytes:
    """Encode a PutRequest."""
    encoded = bytes_field(1, request.key) + bytes_field(2, request.value)
    if request.lease:
        encoded += number_field(3, request.lease)
    if request.previous or request.ignore_value or request.ignore_lease:
        encoded += number_field(4, request.previous)
        encoded += number_field(5, request.ignore_value)
        encoded += number_field(6, request.ignore_lease)
    return encoded


def encode_delete(request: DeleteRequest) -> bytes:
    """Encode a DeleteRangeRequest."""
    keys = request.keys
    encoded = bytes_field(1, keys.key) + bytes_field(2, keys.end)
    return encoded + number_field(3, request.previous)


def encode_compare(compare: Compare) -> bytes:
    """Encode a Compare."""
    operand = compare.operand
    encoded = (
        number_field(1, compare.relation)
        + number_field(2, compare.target)
        + bytes_field(3, compare.key)
    )
    # A member of a oneof is encoded even if it has its default: it determines what is compared.
    if isinstance(operand, bytes):
        if compare.target != CompareTarget.VALUE:
            raise TypeError(f"a compare of {compare.target.name} needs an int, not bytes")
        encoded += message_field(7, operand)
    else:
        if compare.target == CompareTarget.VALUE:
            raise TypeError(f"a compare of VALUE needs bytes, not {type(operand).__name__}")
        number = 8 if compare.target == CompareTarget.LEASE else 4 + compare.target
        encoded += varint(number << 3) + varint(operand)
    if compare.end:
        encoded += _COMPARE_END + varint(len(compare.end)) + compare.end
    return encoded


def encode_txn(request: TxnRequest, depth: int = 0) -> bytes:
    """Encode a TxnRequest."""
    if depth > MAX_DEPTH:
        raise ValueError(f"transactions are nested deeper than {MAX_DEPTH}")
    parts = [message_field(1, encode_compare(compare)) for compare in request.compares]
    parts += [message_field(2, _operation(one, depth)) for one in request.success]
    parts += [message_field(3, _operation(one, depth)) for one in request.failure]
    return b"".join(parts)


def _operation(operation: Operation, depth: int) -> bytes:
    """Encode a RequestOp."""
    if isinstance(operation, PutRequest):
        return message_field(2, encode_put(operation))
    if isinstance(operation, RangeRequest):
        return message_field(1, encode_range(operation))
    if isinstance(operation, DeleteRequest):
        return message_field(3, encode_delete(operation))
    if isinstance(operation, TxnRequest):
        return message_field(4, encode_txn(operation, depth + 1))
    raise TypeError(
        "a transaction has RangeRequest, PutRequest, DeleteRequest and TxnRequest, not"
        f" {type(operation).__name__}"
    )


def encode_watch(
    keys: KeyRange, start_revision: int, previous: bool, progress: bool, fragment: bool
) -> bytes:
    """Encode a WatchRequest that creates a watch."""
    create = (
        bytes_field(1, keys.key)
        + bytes_field(2, keys.end)
        + number_field(3, start_revision)
        + number_field(4, progress)
        + number_field(6, previous)
        + number_field(8, fragment)
    )
    return message_field(1, create)


#: A WatchRequest that asks for the progress.
WATCH_PROGRESS = message_field(3, b"")


def encode_numbers(*numbers: int) -> bytes:
    """Encode a message whose fields 1, 2, ... are these numbers: CompactionRequest,
    LeaseGrantRequest, LeaseRevokeRequest, LeaseKeepAliveRequest, LeaseTimeToLiveRequest,
    AlarmRequest.
    """
    return b"".join(number_field(index, value) for index, value in enumerate(numbers, 1))


def encode_authenticate(user: str, password: str) -> bytes:
    """Encode an AuthenticateRequest."""
    return bytes_field(1, user.encode()) + bytes_field(2, password.encode())
