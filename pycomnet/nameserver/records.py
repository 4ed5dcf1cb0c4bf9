"""A registration, and what happens to it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import attrs

from pycomnet.wire.codec import make_codec

if TYPE_CHECKING:
    from pycomnet.nameserver.registrants import Registrant
    from pycomnet.nameserver.standing import Standing

_codec = make_codec()
encode = _codec.encode
decode = _codec.decode

#: Why a registration ended: its owner unregistered it, or its lease ended.
UNREGISTERED = "unregistered"
EXPIRED = "expired"
#: For a watcher: the service is still registered, but no longer matches the watcher's query.
CHANGED = "changed"

#: Bytes that each interface and each tag of a record counts for, in addition to its characters.
NAME_COST = 64
#: Bytes of a secret's digest. The secret can't be computed from the digest in the store.
DIGEST = 16
#: ``Record.ends`` if the store ends leases.
NEVER = float("inf")
#: ``Record.ends`` of a record that changes another one's standing: its lease ends when that one's
#: did.
SAME = -2.0


def digest(secret: str) -> bytes:
    """The digest of a secret. A secret is long and random, so a quick hash is enough."""
    data = secret.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=DIGEST).digest()


@attrs.define(eq=False, weakref_slot=False)
class Record:
    """One service's registration.

    There may be a million of these objects, so they are small, and share equal parts
    (:meth:`Index.share`). Only the end of its lease changes: registering again makes a new record,
    and so does a new standing.

    :ivar service: its name; no two live records have the same.
    :ivar interfaces: what it offers.
    :ivar address: the endpoint string to connect to.
    :ivar metadata: an encoded map; empty for an empty map.
    :ivar tags: words by which it can be found.
    :ivar ttl: seconds that its lease lasts from each renewal.
    :ivar lease: the lease's number.
    :ivar secret: the digest of its owner's secret.
    :ivar fence: the revision in which it was registered; 0 until it is.
    :ivar ends: when the lease ends, by the clock of the directory that holds the record.
    :ivar client: the client that registered or renewed it since the nameserver was started.
    :ivar standing: its weight, draining and health; None for the usual values.
    :ivar doubtful: until when it is kept although its lease is over (see :class:`Expiry`); 0.0 if
        it was not doubtful since it was registered or renewed.
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
    standing: Standing | None = None
    doubtful: float = 0.0

    def __repr__(self) -> str:
        return f"<Record {self.service!r} at {self.address!r}, fence {self.fence}>"

    def as_map(self, now: float) -> dict[str, Any]:
        """The record as clients get it."""
        found = {
            "service": self.service,
            "interfaces": list(self.interfaces),
            "address": self.address,
            "metadata": decode(self.metadata) if self.metadata else {},
            "tags": list(self.tags),
            "fence": self.fence,
            "ttl": self.time_left(now),
        }
        if self.standing is not None:
            found.update(self.standing.as_map())
        if self.doubtful:
            found["doubtful"] = True
        return found

    def with_standing(self, standing: Standing | None) -> Record:
        """Make a record with another standing that replaces this one."""
        return attrs.evolve(self, standing=standing, fence=0, ends=SAME)

    def is_kept(self, now: float) -> bool:
        """Whether it is registered: its lease has not ended, or it is kept as doubtful."""
        return self.ends > now or self.doubtful > now

    @property
    def size(self) -> int:
        """About how many bytes its texts, and its entries in the index, take."""
        size = len(self.service) + len(self.address) + len(self.metadata)
        for name in self.interfaces:
            size += NAME_COST + len(name)
        for name in self.tags:
            size += NAME_COST + len(name)
        if self.standing is not None:
            size += NAME_COST + len(self.standing.said)
        return size

    def time_left(self, now: float) -> float:
        """Seconds until its lease ends; an upper bound of that, if the store ends leases."""
        if self.ends == NEVER:
            return self.ttl
        return max(0.0, round(self.ends - now, 3))


@attrs.frozen(eq=False)
class Put:
    """A request to a store: register a record.

    :ivar record: the record without its fence, which the store sets.
    :ivar replaces: the fence of the record that it replaces, or None if there must not be a record
        of that name.
    :ivar keeps_lease: whether the lease's number must not change, as the owner knows that number.
    """

    record: Record
    replaces: int | None = None
    keeps_lease: bool = False

    @property
    def service(self) -> str:
        return self.record.service


@attrs.frozen(eq=False)
class Delete:
    """A request to a store: remove a registration.

    :ivar replaces: the fence of the record to remove; another record of that name stays.
    :ivar why: :data:`UNREGISTERED` or :data:`EXPIRED`.
    """

    service: str
    replaces: int | None
    why: str = UNREGISTERED


@attrs.frozen(eq=False)
class Change:
    """A change that a store has committed.

    :ivar revision: its number, higher than those of all changes before.
    :ivar service: the name whose registration changed.
    :ivar record: what is registered now, or None.
    :ivar why: the reason, if nothing is.
    :ivar is_guess: whether the store does not know the reason, and has guessed it.
    """

    revision: int
    service: str
    record: Record | None = None
    why: str = ""
    is_guess: bool = False
