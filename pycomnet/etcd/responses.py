"""Decodes etcd's replies into the values that the client's methods return.

Tags are written in octal: the last digit is the kind, 0 for numbers and 2 for bytes, and the others
are the field's number in etcd's ``rpc.proto`` and ``kv.proto``.
"""

from __future__ import annotations

import attrs

from pycomnet.etcd.errors import EtcdProtocolViolation
from pycomnet.etcd.protobuf import fields, long_varint, signed, text
from pycomnet.etcd.requests import MAX_DEPTH
from pycomnet.etcd.values import (
    DeleteResponse,
    KeyEvent,
    KeyValue,
    LeaseGrant,
    MemberAlarm,
    MemberInfo,
    MemberStatus,
    PutResponse,
    RangeResponse,
    Response,
    ResponseHeader,
    TimeToLive,
    TxnResponse,
)

_NO_HEADER = ResponseHeader()


#: The ids in a header, two varints of eight to ten bytes, are the same in all answers of a member:
#: the bytes -> the cluster's and the member's id; and the lengths of these bytes.
_ids: dict[bytes, tuple[int, int]] = {}
_id_sizes: list[int] = []
_SHORTEST_IDS, _LONGEST_IDS, _MOST_IDS = 18, 22, 64


def _header(data: bytes, at: int, end: int) -> ResponseHeader:
    cluster = member = revision = term = 0
    if end - at > _SHORTEST_IDS:  # those of a transaction's answers have no ids
        for size in _id_sizes:
            known = _ids.get(data[at : at + size])
            if known is not None and at + size < end:
                cluster, member = known
                at += size
                break
        else:
            _learn_ids(data, at, end)
    for tag, value, _ in fields(data, at, end):
        if tag == 0o30:
            revision = value
        elif tag == 0o40:
            term = value
        elif tag == 0o10:
            cluster = value
        elif tag == 0o20:
            member = value
    return ResponseHeader(cluster, member, signed(revision), term)


def _learn_ids(data: bytes, at: int, end: int) -> None:
    """Remember the ids of a header, if they are its first two fields and have the usual size."""
    try:
        first, split = long_varint(data, at + 2, data[at + 1])
        second, last = long_varint(data, split + 2, data[split + 1])
        is_usual = (data[at], data[split], data[last]) == (0o10, 0o20, 0o30)
        is_usual = is_usual and min(data[at + 1], data[split + 1]) > 127
    except (EtcdProtocolViolation, IndexError):
        return
    size = last - at
    if is_usual and last < end and _SHORTEST_IDS <= size <= _LONGEST_IDS:
        if len(_ids) >= _MOST_IDS:
            _ids.clear()
        if size not in _id_sizes:
            _id_sizes.append(size)
        _ids[data[at:last]] = (first, second)


def _key_value(data: bytes, at: int, end: int) -> KeyValue:
    # A nameserver reads a million of these at its start, so the fields are not listed first, as
    # ``fields`` does.
    key = value = b""
    created = changed = version = lease = 0
    start = at
    try:
        while at < end:
            tag, number = data[at], data[at + 1]
            at += 2
            if number > 127:
                byte = data[at]
                if byte < 128:
                    number += (byte << 7) - 128
                    at += 1
                else:
                    number, at = long_varint(data, at, number)
            if tag == 0o12:
                key = data[at : at + number]
                at += number
            elif tag == 0o20:
                created = number
            elif tag == 0o30:
                changed = number
            elif tag == 0o40:
                version = number
            elif tag == 0o52:
                value = data[at : at + number]
                at += number
            elif tag == 0o60:
                lease = number
            else:
                return _any_key_value(data, start, end)
    except (IndexError, EtcdProtocolViolation):
        return _any_key_value(data, start, end)  # it knows what is wrong, if anything is
    if at != end:
        return _any_key_value(data, start, end)
    if (created | changed | version | lease) >> 63:
        created, changed, version, lease = map(signed, (created, changed, version, lease))
    return KeyValue(key, value, created, changed, version, lease)


def _any_key_value(data: bytes, at: int, end: int) -> KeyValue:
    """Decode a KeyValue that is not valid or has fields that this client does not know."""
    key = value = b""
    numbers = dict.fromkeys((0o20, 0o30, 0o40, 0o60), 0)
    for tag, first, last in fields(data, at, end):
        if tag == 0o12:
            key = data[first:last]
        elif tag == 0o52:
            value = data[first:last]
        elif tag in numbers:
            numbers[tag] = signed(first)
    return KeyValue(key, value, *numbers.values())


def _range(data: bytes, at: int, end: int) -> RangeResponse:
    header, kvs, more, count = _NO_HEADER, [], False, 0
    for tag, first, last in fields(data, at, end):
        if tag == 0o22:
            kvs.append(_key_value(data, first, last))
        elif tag == 0o12:
            header = _header(data, first, last)
        elif tag == 0o30:
            more = first != 0
        elif tag == 0o40:
            count = signed(first)
    return RangeResponse(header, kvs, more, count)


def _put(data: bytes, at: int, end: int) -> PutResponse:
    header, previous = _NO_HEADER, None
    for tag, first, last in fields(data, at, end):
        if tag == 0o12:
            header = _header(data, first, last)
        elif tag == 0o22:
            previous = _key_value(data, first, last)
    return PutResponse(header, previous)


def _delete(data: bytes, at: int, end: int) -> DeleteResponse:
    header, deleted, previous = _NO_HEADER, 0, []
    for tag, first, last in fields(data, at, end):
        if tag == 0o12:
            header = _header(data, first, last)
        elif tag == 0o20:
            deleted = signed(first)
        elif tag == 0o32:
            previous.append(_key_value(data, first, last))
    return DeleteResponse(header, deleted, previous)


def _txn(data: bytes, at: int, end: int, depth: int) -> TxnResponse:
    if depth > MAX_DEPTH:
        raise EtcdProtocolViolation(f"an answer is nested deeper than {MAX_DEPTH}")
    header, succeeded = _NO_HEADER, False
    found: list[Response] = []
    for tag, first, last in fields(data, at, end):
        if tag == 0o12:
            header = _header(data, first, last)
        elif tag == 0o20:
            succeeded = first != 0
        elif tag == 0o32:
            found.append(_operation(data, first, last, depth))
    return TxnResponse(header, succeeded, found)


def _operation(data: bytes, at: int, end: int, depth: int) -> Response:
    """Decode a ResponseOp."""
    found: Response | None = None
    for tag, first, last in fields(data, at, end):
        if tag == 0o12:
            found = _range(data, first, last)
        elif tag == 0o22:
            found = _put(data, first, last)
        elif tag == 0o32:
            found = _delete(data, first, last)
        elif tag == 0o42:
            found = _txn(data, first, last, depth + 1)
    if found is None:
        raise EtcdProtocolViolation("a transaction's answer has a result of no known kind")
    return found


def decode_range(data: bytes) -> RangeResponse:
    """Decode a RangeResponse."""
    return _range(data, 0, len(data))


def decode_put(data: bytes) -> PutResponse:
    """Decode a PutResponse."""
    return _put(data, 0, len(data))


def decode_delete(data: bytes) -> DeleteResponse:
    """Decode a DeleteRangeResponse."""
    return _delete(data, 0, len(data))


def decode_txn(data: bytes) -> TxnResponse:
    """Decode a TxnResponse."""
    return _txn(data, 0, len(data), 0)


def decode_header(data: bytes) -> ResponseHeader:
    """Decode a reply that has only a header: CompactionResponse, LeaseRevokeResponse."""
    for tag, first, last in fields(data, 0, len(data)):
        if tag == 0o12:
            return _header(data, first, last)
    return _NO_HEADER


def decode_grant(data: bytes) -> LeaseGrant:
    """Decode a LeaseGrantResponse."""
    lease = ttl = 0
    for tag, first, _ in fields(data, 0, len(data)):
        if tag == 0o20:
            lease = signed(first)
        elif tag == 0o30:
            ttl = signed(first)
    return LeaseGrant(decode_header(data), lease, ttl)


def decode_keepalive(data: bytes) -> tuple[int, int]:
    """Decode a LeaseKeepAliveResponse into the lease's id and its ttl in seconds."""
    lease = ttl = 0
    for tag, first, _ in fields(data, 0, len(data)):
        if tag == 0o20:
            lease = first
        elif tag == 0o30:
            ttl = first
    return signed(lease), signed(ttl)


def decode_time_to_live(data: bytes) -> TimeToLive:
    """Decode a LeaseTimeToLiveResponse."""
    lease = ttl = granted = 0
    keys = []
    for tag, first, last in fields(data, 0, len(data)):
        if tag == 0o20:
            lease = signed(first)
        elif tag == 0o30:
            ttl = signed(first)
        elif tag == 0o40:
            granted = signed(first)
        elif tag == 0o52:
            keys.append(data[first:last])
    return TimeToLive(decode_header(data), lease, ttl, granted, keys)


def decode_leases(data: bytes) -> list[int]:
    """Decode a LeaseLeasesResponse into the leases' ids."""
    found = []
    for tag, at, end in fields(data, 0, len(data)):
        if tag == 0o22:
            found += [signed(value) for one, value, _ in fields(data, at, end) if one == 0o10]
    return found


def decode_members(data: bytes) -> list[MemberInfo]:
    """Decode a MemberListResponse."""
    return [
        _member(data, first, last) for tag, first, last in fields(data, 0, len(data)) if tag == 0o22
    ]


def _member(data: bytes, at: int, end: int) -> MemberInfo:
    ident, name, is_learner = 0, "", False
    peers, clients = [], []
    for tag, first, last in fields(data, at, end):
        if tag == 0o10:
            ident = first
        elif tag == 0o22:
            name = text(data, first, last)
        elif tag == 0o32:
            peers.append(text(data, first, last))
        elif tag == 0o42:
            clients.append(text(data, first, last))
        elif tag == 0o50:
            is_learner = first != 0
    return MemberInfo(ident, name, peers, clients, is_learner)


def decode_status(data: bytes) -> MemberStatus:
    """Decode a StatusResponse."""
    version, errors = "", []
    numbers = dict.fromkeys((0o30, 0o40, 0o50, 0o60, 0o70, 0o110, 0o120), 0)
    for tag, first, last in fields(data, 0, len(data)):
        if tag in numbers:
            numbers[tag] = first
        elif tag == 0o22:
            version = text(data, first, last)
        elif tag == 0o102:
            errors.append(text(data, first, last))
    return MemberStatus(
        header=decode_header(data),
        version=version,
        db_size=signed(numbers[0o30]),
        leader=numbers[0o40],
        raft_index=numbers[0o50],
        raft_term=numbers[0o60],
        raft_applied_index=numbers[0o70],
        errors=errors,
        db_size_in_use=signed(numbers[0o110]),
        is_learner=numbers[0o120] != 0,
    )


def decode_alarms(data: bytes) -> list[MemberAlarm]:
    """Decode an AlarmResponse."""
    found = []
    for tag, at, end in fields(data, 0, len(data)):
        if tag == 0o22:
            alarm = dict.fromkeys((0o10, 0o20), 0)
            alarm.update((one, value) for one, value, _ in fields(data, at, end))
            found.append(MemberAlarm(alarm[0o10], alarm[0o20]))
    return found


def decode_token(data: bytes) -> str:
    """Decode an AuthenticateResponse into its token."""
    for tag, first, last in fields(data, 0, len(data)):
        if tag == 0o22:
            return text(data, first, last)
    return ""


@attrs.define
class WatchResponse:
    """A WatchResponse."""

    revision: int
    created: bool
    cancelled: bool
    compact_revision: int
    cancel_reason: str
    fragment: bool
    events: list[KeyEvent]


def decode_watch(data: bytes) -> WatchResponse:
    """Decode a WatchResponse."""
    revision, reason, events = 0, "", []
    numbers = dict.fromkeys((0o30, 0o40, 0o50, 0o70), 0)
    for tag, first, last in fields(data, 0, len(data)):
        if tag == 0o132:
            events.append(_event(data, first, last))
        elif tag == 0o12:
            revision = _header(data, first, last).revision
        elif tag in numbers:
            numbers[tag] = first
        elif tag == 0o62:
            reason = text(data, first, last)
    return WatchResponse(
        revision=revision,
        created=numbers[0o30] != 0,
        cancelled=numbers[0o40] != 0,
        compact_revision=signed(numbers[0o50]),
        cancel_reason=reason,
        fragment=numbers[0o70] != 0,
        events=events,
    )


def _event(data: bytes, at: int, end: int) -> KeyEvent:
    kind, kv, previous = 0, KeyValue(b""), None
    for tag, first, last in fields(data, at, end):
        if tag == 0o22:
            kv = _key_value(data, first, last)
        elif tag == 0o10:
            kind = first
        elif tag == 0o32:
            previous = _key_value(data, first, last)
    return KeyEvent(kind == 1, kv, previous)
