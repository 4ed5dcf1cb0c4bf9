"""A registration, and what happens to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from pycomnet.wire.codec import make_codec

if TYPE_CHECKING:
    from pycomnet.nameserver.clients import Registrant

_codec = make_codec()
encode = _codec.encode
decode = _codec.decode

#: Why a registration ended: its owner said so, or its lease was over.
UNREGISTERED = "unregistered"
EXPIRED = "expired"
#: For a watcher: it is there, but no longer what the watcher asked for.
CHANGED = "changed"

#: Bytes that each name of an interface and each tag of a record is taken for, beside its letters.
NAME_COST = 64
#: ``Record.ends`` where the store ends leases.
NEVER = float("inf")


@attrs.define(eq=False, weakref_slot=False)
class Record:
    """One service's registration.

    There may be a million of these, so it holds no more than it must; what is equal in several is
    shared (:meth:`Index.share`). Nothing of it changes but the end of its lease: what its owner
    registers anew is a new record.

    :ivar service: its name; no two live records have the same.
    :ivar interfaces: what it offers.
    :ivar address: the endpoint string to connect to.
    :ivar metadata: the encoding of a map, or nothing for an empty one.
    :ivar tags: words to find it by.
    :ivar ttl: seconds that its lease lasts from when it is renewed.
    :ivar lease: the lease's number.
    :ivar secret: the digest of its owner's secret.
    :ivar fence: the revision in which it was registered; 0 until it is.
    :ivar ends: when the lease ends, by the clock of who holds the record.
    :ivar client: who registered or renewed it here, since the nameserver was started.
    """

    service: str
    interfaces: tuple[str, ...]
    address: str
    metadata: bytes
    tags: tuple[str, ...]
    ttl: float
    lease: int
    secret: bytes
    fence: int = 0
    ends: float = 0.0
    client: Registrant | None = None

    def __repr__(self) -> str:
        return f"<Record {self.service!r} at {self.address!r}, fence {self.fence}>"

    def as_map(self, now: float) -> dict[str, Any]:
        """What others are told of it."""
        return {
            "service": self.service,
            "interfaces": list(self.interfaces),
            "address": self.address,
            "metadata": decode(self.metadata) if self.metadata else {},
            "tags": list(self.tags),
            "fence": self.fence,
            "ttl": self.time_left(now),
        }

    @property
    def size(self) -> int:
        """What its texts count in bytes, more or less, and what finding it by them takes."""
        names = self.interfaces + self.tags
        size = len(self.service) + len(self.address) + len(self.metadata) + NAME_COST * len(names)
        return size + sum(map(len, names))

    def time_left(self, now: float) -> float:
        """Seconds until its lease ends; where the store ends it, that may be as late as this."""
        if self.ends == NEVER:
            return self.ttl
        return max(0.0, round(self.ends - now, 3))


@attrs.define(eq=False)  # not frozen: that takes three times as long to make
class Put:
    """A registration that a store is asked to keep.

    :ivar record: without its fence, which the store gives it.
    :ivar replaces: the fence of the record that it takes the place of, or None when there must be
        none of that name.
    """

    record: Record
    replaces: int | None = None

    @property
    def service(self) -> str:
        return self.record.service


@attrs.define(eq=False)  # not frozen: that takes three times as long to make
class Delete:
    """A registration that a store is asked to remove.

    :ivar replaces: the fence of the record that is meant: another of that name stays.
    :ivar why: :data:`UNREGISTERED` or :data:`EXPIRED`.
    """

    service: str
    replaces: int | None
    why: str = UNREGISTERED


@attrs.define(eq=False)  # not frozen: that takes three times as long to make
class Change:
    """What a store has committed.

    :ivar revision: its number: each change has a higher one than all before it.
    :ivar service: whose registration changed.
    :ivar record: what is registered now, or None.
    :ivar why: why nothing is.
    """

    revision: int
    service: str
    record: Record | None = None
    why: str = ""
