"""Registrations whose leases a shared store has ended recently; some are kept as doubtful."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from pycomnet.nameserver.index import Index
from pycomnet.nameserver.leases import Leases
from pycomnet.nameserver.records import Record
from pycomnet.nameserver.registrants import Registrant

#: If more than this fraction of all leases ends, of at least this many leases, it is doubted that
#: the services are dead.
MOST = 0.5
FEWEST = 10
#: The most records that are forgotten at a time.
STRIDE = 10_000


@attrs.define(eq=False)
class _Ended:
    record: Record
    revision: int
    client: Registrant | None
    held: bool = False


class EndedLeases:
    """Registrations whose leases the store has ended. Each is remembered for one ttl.

    They are not registered any more: another owner may register the name. While the nameservers
    doubt the ends (:meth:`begin` to :meth:`end`), these records are *doubtful*: they are in an
    index of their own, and count for the clients that have registered them.

    Everything here is determined by the store's changes, in their order. So all nameservers that
    share the store keep the same records.

    :ivar doubtful: the doubtful records.
    :ivar count: how many leases have ended in all.
    :ivar is_doubted: whether registrations that end now are kept as doubtful.
    """

    def __init__(self, random: Callable[[], float] | None = None) -> None:
        self.doubtful = Index(random)
        self.count = 0
        self.is_doubted = False
        self._recent: dict[str, _Ended] = {}
        self._times = Leases()

    def add(self, record: Record, revision: int, client: Registrant | None, now: float) -> None:
        """Remember a record whose lease has ended.

        :param revision: the store's revision in which it has ended.
        """
        self.count += 1
        record.ends, record.doubtful = 0.0, now + record.ttl
        ended = self._recent[record.service] = _Ended(record, revision, client)
        self._times.add(record)
        if self.is_doubted:
            self._hold(ended)

    def forget(self, service: str) -> Record | None:
        """Forget a record: its name is registered again, or its ttl is over. Returns the record if
        it was doubtful."""
        ended = self._recent.pop(service, None)
        if ended is None:
            return None
        self._times.drop(ended.record)
        if not ended.held:
            return None
        self.doubtful.remove(service)
        if ended.client is not None:
            ended.client.registered -= 1
        return ended.record

    def begin(self, since: int) -> None:
        """Keep as doubtful the leases that ended after a revision, and those that end from now
        on."""
        self.is_doubted = True
        found = [one for one in self._recent.values() if one.revision > since and not one.held]
        self.doubtful.fill(one.record for one in found)
        self.doubtful.sort()  # once for all: inserting each in order takes much longer
        for ended in found:
            self._count(ended)

    def end(self) -> None:
        """Keep no further leases as doubtful. Doubtful records stay until their ttl is over."""
        self.is_doubted = False

    def client_of(self, service: str) -> Registrant | None:
        """The client that a doubtful registration is counted for."""
        ended = self._recent.get(service)
        return ended.client if ended is not None and ended.held else None

    def _hold(self, ended: _Ended) -> None:
        self.doubtful.put(ended.record)
        self._count(ended)

    def _count(self, ended: _Ended) -> None:
        ended.held = True
        if ended.client is not None:
            ended.client.registered += 1

    def sweep(self, now: float) -> None:
        """Forget some of the records whose ttl is over."""
        for record in self._times.due(now, STRIDE):
            self.forget(record.service)

    def next_time(self) -> float | None:
        """When to sweep next; None if there is no record."""
        return self._times.next_time() if self._recent else None

    def are_most(self, live: int) -> bool:
        """Whether most leases have ended within one ttl.

        :param live: how many registrations are live.
        """
        ended = len(self._recent)
        return live + ended >= FEWEST and ended > MOST * (live + ended)

    @property
    def since(self) -> int:
        """The revision before that in which the first remembered lease ended."""
        return min(ended.revision for ended in self._recent.values()) - 1

    @property
    def longest(self) -> float:
        """The longest ttl of the remembered records."""
        return max(ended.record.ttl for ended in self._recent.values())
