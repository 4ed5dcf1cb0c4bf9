"""How registrations are laid out in etcd: keys, values, and the bases of fences."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

import attrs

from pycomnet.etcd import KeyRange, KeyValue, prefix
from pycomnet.nameserver.records import Record, decode, encode
from pycomnet.nameserver.standing import standing_of
from pycomnet.wire.values import InvalidValue

#: The number of the values' format; values of another format are not read.
FORMAT = 1
#: Bytes of a nonce, which identifies a change.
NONCE = 12
#: The shortest lease that etcd grants, in seconds.
MIN_LEASE = 2


class ForeignValue(ValueError):
    """A value under the prefix that is not in this store's format."""


@attrs.frozen
class KeyLayout:
    """The keys under a prefix, such as ``b"/pycomnet/names/"``."""

    start: bytes

    @property
    def everything(self) -> KeyRange:
        """All keys."""
        return prefix(self.start)

    @property
    def records(self) -> KeyRange:
        """The keys of all registrations."""
        return prefix(self.start + b"s/")

    @property
    def nameservers(self) -> KeyRange:
        """The keys of all nameservers that run."""
        return prefix(self.start + b"n/")

    @property
    def why(self) -> bytes:
        """The key of the latest removal's reason."""
        return self.start + b"why"

    @property
    def base(self) -> bytes:
        """The key of the fences' base."""
        return self.start + b"base"

    @property
    def doubt(self) -> bytes:
        """The key of the note that most leases have ended at once."""
        return self.start + b"doubt"

    def record(self, service: str) -> bytes:
        """The key of a registration."""
        return self.start + b"s/" + service.encode("utf-8", "surrogatepass")

    def service(self, key: bytes) -> str | None:
        """The service whose registration has a key; None for other keys."""
        begin = len(self.start) + 2
        if key[len(self.start) : begin] != b"s/":
            return None
        try:
            return key[begin:].decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            return None

    def nameserver(self, identity: str) -> bytes:
        """The key of a nameserver."""
        return self.start + b"n/" + identity.encode()


def _fields(value: bytes, kinds: tuple[Any, ...], more: int = 0) -> list[Any]:
    """Decode a value, which is a list.

    :param kinds: the types of its elements, from the format's number on.
    :param more: how many further elements it may have.
    """
    try:
        found = decode(value)
    except (InvalidValue, ValueError) as problem:
        raise ForeignValue(str(problem)) from None
    size = len(kinds)
    if (
        not isinstance(found, list)
        or not size <= len(found) <= size + more
        or type(found[0]) is not int
        or found[0] != FORMAT
    ):
        raise ForeignValue(f"expected a list of {size}, of format {FORMAT}")
    if tuple(map(type, found)) != kinds:
        for field, kind in zip(found, kinds, strict=False):
            if type(field) is not kind and not (kind is float and type(field) is int):
                raise ForeignValue(f"expected {kind}, got {type(field).__name__}")
    return found


_RECORD = (int, bytes, int, list, str, bytes, list, float, bytes)
_NAMES = {str}


def record_value(record: Record, nonce: bytes, base: int) -> bytes:
    """The value of a registration."""
    value = [
        FORMAT,
        nonce,
        base,
        list(record.interfaces),
        record.address,
        record.metadata,
        list(record.tags),
        record.ttl,
        record.secret,
    ]
    if record.standing is not None:
        value.append(record.standing.as_list())
    return encode(value)


def read_record(service: str, kv: KeyValue) -> tuple[Record, bytes, int]:
    """A registration from etcd: the record with its fence, the nonce, and the fence's base.

    :raises ForeignValue: the value is no registration.
    """
    fields = _fields(kv.value, _RECORD, 1)
    standing = None
    if len(fields) > len(_RECORD):
        try:
            standing = standing_of(fields.pop())
        except ValueError as problem:
            raise ForeignValue(str(problem)) from None
    _, nonce, base, interfaces, address, metadata, tags, ttl, secret = fields
    if not interfaces or set(map(type, interfaces + tags)) != _NAMES:
        raise ForeignValue("expected names as interfaces and tags")
    record = Record(
        service,
        tuple(interfaces),
        address,
        metadata,
        tuple(tags),
        float(ttl),
        kv.lease,
        secret,
        base + kv.mod_revision,
        standing=standing,
    )
    return record, nonce, base


def why_value(service: str, why: str, nonce: bytes) -> bytes:
    """The value that says why a registration is removed."""
    return encode([FORMAT, service, why, nonce])


def read_why(value: bytes) -> tuple[str, str, bytes]:
    """The service, the reason and the nonce of a removal."""
    _, service, why, nonce = _fields(value, (int, str, str, bytes))
    return service, why, nonce


def doubt_value(since: int) -> bytes:
    """The value of the note that most leases have ended at once: after a revision of etcd's."""
    return encode([FORMAT, since])


def read_doubt(value: bytes) -> int:
    """The revision of etcd's after which these leases ended.

    :raises ForeignValue: it is none.
    """
    since: int = _fields(value, (int, int))[1]
    if since < 1:
        raise ForeignValue(f"expected a revision, got {since}")
    return since


def base_value(base: int, cluster: int) -> bytes:
    """The value of the fences' base.

    :param cluster: the id of the cluster that it is for; 64 bits.
    """
    return encode([FORMAT, base, f"{cluster:x}"])


@attrs.frozen
class Base:
    """The base that fences have now.

    :ivar number: is added to etcd's revisions.
    :ivar cluster: the id of the cluster that it was written in, in hexadecimal digits.
    :ivar revision: the ``mod_revision`` of its key; transactions compare it.
    """

    number: int
    cluster: str
    revision: int

    @classmethod
    def of(cls, kv: KeyValue) -> Base:
        """Read it from its key's value."""
        _, number, cluster = _fields(kv.value, (int, int, str))
        return cls(number, cluster, kv.mod_revision)


class Bases:
    """All bases that there have been, to turn a fence into etcd's revision."""

    def __init__(self) -> None:
        self._numbers: list[int] = []

    def add(self, number: int) -> None:
        """Add a base, unless it is known."""
        at = bisect_left(self._numbers, number)
        if self._numbers[at : at + 1] != [number]:
            self._numbers.insert(at, number)

    def revision(self, fence: int) -> int:
        """The ``mod_revision`` of the registration with a fence: its base is the latest below."""
        at = bisect_left(self._numbers, fence)
        return fence - self._numbers[at - 1] if at else 0


def lease_seconds(ttl: float) -> int:
    """The seconds of the lease for a ttl: whole, and at least etcd's minimum."""
    return max(MIN_LEASE, -int(-ttl // 1))
