"""The nameserver without network, disk and clock: what is registered, and who owns it."""

from __future__ import annotations

import heapq
import hmac
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from zope.interface import implementer

from pycomnet.errors import LeaseLost, NotLeaseOwner, ServiceNameTaken, ServiceNotFound
from pycomnet.interfaces import INameFollower
from pycomnet.nameserver.changelog import LENGTH, ChangeLog, Step
from pycomnet.nameserver.endedleases import EndedLeases
from pycomnet.nameserver.index import Index
from pycomnet.nameserver.leases import GRAIN, Leases
from pycomnet.nameserver.queries import DirectoryPage, Query
from pycomnet.nameserver.records import (
    EXPIRED,
    NEVER,
    SAME,
    Change,
    Delete,
    Put,
    Record,
    digest,
)
from pycomnet.nameserver.registrants import Registrant
from pycomnet.nameserver.standing import Standing, after_operator, or_none

#: The most names that one call for a page examines: that takes less than a millisecond.
STRIDE = 2_000
#: If an interface has at most this many instances, a list examines these instead of all names.
FEW = 2_000
#: Seconds by which a store that ends leases itself may be late: its leases have whole seconds, and
#: it checks them at intervals. A client that waits for a name waits this much longer.
STORE_LATE = 2.0
#: How many instances are examined to explain why none is located.
SMALL = 16
#: An owner has missed a renewal if less than this fraction of its lease is left.
MISSED = 1 / 3


@implementer(INameFollower)
class Directory:
    """What is registered.

    It follows a store: nothing is registered here before the store has committed it. Changes that
    other nameservers commit to the same store come the same way. The directory proposes changes to
    the store (:meth:`proposal`, :meth:`removal`, :meth:`due`), and answers queries.

    :param seconds: the clock by which leases end; callers take ``now`` from the same clock.
    :param ends_leases: whether leases end by this clock; False when the store ends them.
    :param log_length: how many changes are kept for watchers.
    :param random: returns random floats, to choose among services with weights.
    :param guarded: with a store that ends leases: whether registrations may be kept as doubtful
        when most leases end. With other stores :class:`Expiry` decides that.
    :ivar ended: the leases that the store has ended recently; None if it ends no leases.
    :ivar log: the last changes.
    :ivar doubtful: how many registrations are kept although their lease is over.
    :ivar healed: how many doubtful ones were renewed or registered again in time.
    """

    def __init__(
        self,
        seconds: Callable[[], float],
        ends_leases: bool = True,
        log_length: int = LENGTH,
        random: Callable[[], float] | None = None,
        guarded: bool = True,
    ) -> None:
        self.log = ChangeLog(length=log_length)
        self.doubtful = self.healed = 0
        self._seconds = seconds
        self._ends_leases = ends_leases
        self.ended = None if ends_leases else EndedLeases(random)
        self._guarded = guarded
        self._index = Index(random)
        self._leases = Leases()
        self._listeners: dict[Callable[[], None], None] = {}
        #: functions that are called when the log reaches a revision
        self._reaching: dict[Callable[[], None], None] = {}

    def __len__(self) -> int:
        return len(self._index) + (0 if self.ended is None else len(self.ended.doubtful))

    @property
    def interfaces(self) -> int:
        """How many interfaces there are."""
        return self._index.interfaces

    @property
    def draining(self) -> int:
        """How many services take no new callers."""
        return self._index.draining

    @property
    def failing(self) -> int:
        """How many services have a failing health check."""
        return self._index.failing

    @property
    def size(self) -> int:
        """About how many bytes all registrations have."""
        return self._index.size + (0 if self.ended is None else self.ended.doubtful.size)

    # -- following the store ---------------------------------------------------------------------

    def load(self, records: Iterable[tuple[Record, float]]) -> None:
        """Add records from the store, each with the seconds that are left of its lease."""
        now = self._seconds()

        def filled() -> Iterator[Record]:
            for record, left in records:
                if self._ends_leases:
                    record.ends = now + left
                    self._leases.add(record)
                else:
                    record.ends = NEVER
                yield record

        self._index.fill(filled())

    def loaded(self, revision: int) -> None:
        """Finish loading: all records of the store were added, as of a revision."""
        self._index.sort()
        self.log.restart(revision)

    def changed(self, changes: Sequence[Change]) -> None:
        """Apply changes that the store has committed, in the order of their revisions."""
        now = self._seconds()
        for change in changes:
            record = change.record
            if record is not None:
                # A group's records have fences of their own, below the group's revision.
                record.fence = record.fence or change.revision
                keeps, record.ends = record.ends == SAME, now + record.ttl
                old = self._index.put(record)
                if not self._ends_leases:
                    record.ends = NEVER
                elif keeps and old is not None:
                    record.ends, record.doubtful = old.ends, old.doubtful
                    self.doubtful += record.doubtful > 0
                if self._ends_leases:
                    self._leases.add(record)
                if record.client is not None:
                    record.client.registered += 1
            else:
                old = self._index.remove(change.service)
            client = None if old is None else old.client
            if old is not None:
                if old.doubtful and self.ended is None:
                    self.doubtful -= 1
                    self.healed += record is not None and not record.doubtful
                self._leases.drop(old)
                if old.client is not None:
                    old.client.registered -= 1
                    old.client = None  # the log refers to the record for longer
            if self.ended is not None:
                self._follow_ends(self.ended, change, old, client, now)
            self.log.add(Step(change.revision, change.service, old, record, change.why))
        for listener in [*self._listeners, *self._reaching]:
            listener()

    def _follow_ends(
        self,
        ended: EndedLeases,
        change: Change,
        old: Record | None,
        client: Registrant | None,
        now: float,
    ) -> None:
        if change.record is not None:
            self.healed += ended.forget(change.service) is not None
        elif old is not None and change.why == EXPIRED and not change.is_guess and self._guarded:
            ended.add(old, change.revision, client, now)
        self.doubtful = len(ended.doubtful)

    def doubted(self, since: int | None) -> None:
        """Begin or end to keep registrations as doubtful, as most leases have ended at once.

        :param since: keep those that ended after this revision, and those that end from now on.
            None: keep no further ones.
        """
        ended = self.ended
        if ended is None or not self._guarded:
            return
        if since is None:
            ended.end()
        else:
            ended.begin(since)
        self.doubtful = len(ended.doubtful)
        for listener in list(self._listeners):
            listener()

    def reached(self, revision: int) -> None:
        """Note that the store has reported all changes up to a revision."""
        self.log.reach(revision)
        for listener in list(self._reaching):
            listener()

    def fence_of(self, service: str) -> int | None:
        """The fence of a name's record, also if its lease is over; None if there is no record."""
        record = self._index.names.get(service)
        return None if record is None else record.fence

    def size_of(self, service: str) -> int:
        """The size of a name's record, also if its lease is over; 0 if there is no record."""
        record = self._index.names.get(service) or self._apart(service)
        return 0 if record is None else record.size

    def _apart(self, service: str) -> Record | None:
        """A doubtful record whose lease the store has ended."""
        return None if self.ended is None else self.ended.doubtful.names.get(service)

    def names(self) -> Iterator[str]:
        """All names with a record, also if its lease is over; nothing may change meanwhile."""
        return iter(self._index.names)

    def times_left(self) -> Iterator[tuple[str, float]]:
        """Each name, and the seconds that are left of its lease."""
        now = self._seconds()
        for record in self._index.names.values():
            yield record.service, record.time_left(now)

    def listen(self, listener: Callable[[], None], reached: bool = False) -> None:
        """Call a function after each group of changes.

        :param reached: call it also when the log reaches a revision without a change.
        """
        (self._reaching if reached else self._listeners)[listener] = None

    def unlisten(self, listener: Callable[[], None]) -> None:
        """Undo :meth:`listen`."""
        self._listeners.pop(listener, None)
        self._reaching.pop(listener, None)

    # -- owners ----------------------------------------------------------------------------------

    def proposal(self, record: Record, now: float) -> Put:
        """The change that registers a record, for the store.

        :param record: the record, with the digest of its owner's secret. If that owner already has
            the name, the lease keeps its number.
        :raises ServiceNameTaken: another owner has the name.
        """
        held = self._index.names.get(record.service)
        if held is None:
            ended = self._apart(record.service)
            if ended is not None and hmac.compare_digest(ended.secret, record.secret):
                record.standing = after_operator(record.standing, ended.standing)
            return Put(record)
        if hmac.compare_digest(held.secret, record.secret):
            if held.is_kept(now):
                record.lease = held.lease
            record.standing = after_operator(record.standing, held.standing)
        elif held.ends > now:
            raise self.taken(held, now)
        return Put(record, held.fence)

    def is_own(self, record: Record) -> bool:
        """Whether the owner or client of a new record has that name already, maybe as doubtful."""
        held = self._index.names.get(record.service)
        client = None if held is None else held.client
        if held is None and self.ended is not None:
            held, client = self._apart(record.service), self.ended.client_of(record.service)
        if held is None:
            return False
        is_clients = client is not None and client is record.client
        return is_clients or hmac.compare_digest(held.secret, record.secret)

    def taken(self, held: Record, now: float) -> ServiceNameTaken:
        """The error for a client that wants a name which another owner has."""
        left = held.time_left(now)
        if held.ends == NEVER:
            left += STORE_LATE
        return ServiceNameTaken(
            f"{held.service!r} is registered for {held.address} until its lease ends in "
            f"{left:.1f} s, unless its owner renews it",
            service=held.service,
            address=held.address,
            interfaces=list(held.interfaces),
            ttl=left,
        )

    def find(self, service: str, now: float) -> Record | None:
        """The live record of a name."""
        record = self._index.names.get(service)
        return record if record is not None and record.is_kept(now) else None

    def owned(self, lease: int, secret: str, now: float) -> Record:
        """The live record of a lease, for its owner.

        :raises LeaseLost: the lease is over, or never was.
        :raises NotLeaseOwner: it is not the lease's secret.
        """
        record = self._index.leases.get(lease)
        if record is None or (record.ends <= now and record.doubtful <= now):
            raise LeaseLost(f"lease {lease} is over: register again")
        if not hmac.compare_digest(record.secret, digest(secret)):
            raise NotLeaseOwner(f"that is not the secret of lease {lease}")
        return record

    def renew(self, lease: int, secret: str, now: float) -> Record:
        """Renew a lease: it lasts its full length from now. Raises the errors of :meth:`owned`."""
        record = self.owned(lease, secret, now)
        if self._ends_leases:
            record.ends = now + record.ttl
            if record.doubtful:
                record.doubtful = 0.0
                self.doubtful -= 1
                self.healed += 1
        return record

    def restanding(self, held: Record, standing: Standing | None) -> Put:
        """The change for the store that gives a live record another standing."""
        return Put(held.with_standing(standing and or_none(standing)), held.fence, keeps_lease=True)

    def live(self, service: str, now: float) -> Record:
        """The live record of a name.

        :raises ServiceNotFound: it isn't registered.
        """
        record = self.find(service, now)
        if record is None:
            raise ServiceNotFound(f"no service {service!r} is registered")
        return record

    def removal(self, lease: int, secret: str, now: float) -> Delete:
        """The change for the store that removes a record. Raises the errors of :meth:`owned`."""
        record = self.owned(lease, secret, now)
        return Delete(record.service, record.fence)

    def removal_of(self, service: str, now: float) -> Delete:
        """The change for the store that removes a name, whoever owns it.

        :raises ServiceNotFound: it isn't registered.
        """
        return Delete(service, self.live(service, now).fence)

    # -- time ------------------------------------------------------------------------------------

    def sweep(self, now: float) -> None:
        """Forget leases that the store has ended more than one ttl ago."""
        if self.ended is not None:
            self.ended.sweep(now)
            self.doubtful = len(self.ended.doubtful)

    def next_time(self) -> float | None:
        """When the next lease may end, or None while there is none."""
        return self._leases.next_time()

    def due(self, now: float, limit: float = STRIDE) -> list[Record]:
        """Take out records whose lease has ended, for the store to remove. Queries ignore them
        already. If the store can't remove one, pass it to :meth:`put_off`.
        """
        return self._leases.due(now, limit)

    def put_off(self, record: Record, now: float, delay: float) -> None:
        """Make a record due again later; its lease stays over."""
        if self._index.names.get(record.service) is record:
            ends, record.ends = record.ends, now + delay - GRAIN
            self._leases.add(record)
            record.ends = ends

    def ending(self) -> float:
        """The fraction of leases of which less than a third is left; of many, a sample is taken."""
        now = self._seconds()
        looked = list(self._index.sample(STRIDE))
        ending = sum(record.ends - now < record.ttl * MISSED for record in looked)
        return ending / max(1, len(looked))

    def doubt(self, record: Record, now: float) -> None:
        """Keep a record whose lease is over for one more ttl. It counts for its client still."""
        if self._index.names.get(record.service) is record and not record.doubtful:
            record.doubtful = now + record.ttl
            self.doubtful += 1
            self._leases.add(record)

    # -- queries ---------------------------------------------------------------------------------

    def locate(
        self, interface: str | None, service: str | None, tags: frozenset[str], now: float
    ) -> Record | None:
        """Find a live record; if several match, they take turns. A doubtful record is returned only
        if no other matches."""
        if service is None:
            if interface is None:
                return None
            found = self._index.next(interface, tags, now)
            if found is None and self.doubtful:
                index = self._index if self.ended is None else self.ended.doubtful
                found = index.next_doubtful(interface, tags, now)
            return found
        record = self._index.names.get(service)
        if record is None and self.doubtful:
            record = self._apart(service)
        if (
            record is not None
            and (record.ends > now or record.doubtful > now)
            and (record.standing is None or record.standing.share is not None)
            and (interface is None or interface in record.interfaces)
            and tags.issubset(record.tags)
        ):
            return record
        return None

    def apart(self, interface: str | None, service: str | None, now: float) -> list[str]:
        """Names of the first few matching services that are registered and take no callers."""
        if service is not None:
            held = self._index.names.get(service)
            some: Iterable[Record] = () if held is None else (held,)
        else:
            some = islice(self._index.instances(interface or ""), SMALL)
        return [one.service for one in some if one.is_kept(now) and one.standing is not None]

    def page(
        self, query: Query, after: str, limit: int, now: float, stride: int = STRIDE
    ) -> DirectoryPage:
        """Some of the live records that match, in the order of their names.

        :param after: the name after which the page begins; empty for the first page.
        :param limit: the most records.
        :param stride: the most names that are examined: a page may be empty and not the last.
        """
        return _page(self._index, query, after, limit, now, stride)

    def listing(self, query: Query, after: str, limit: int, now: float) -> DirectoryPage:
        """As :meth:`page`, for lists: with the doubtful records whose leases the store has ended.
        Watchers don't get these, as their ends were reported."""
        page = self.page(query, after, limit, now)
        if self.ended is None or not self.ended.doubtful.names:
            return page
        others = _page(self.ended.doubtful, query, after, limit, now, STRIDE)
        # Each of the two pages is complete up to its own end.
        ends = [one.after for one in (page, others) if one.after is not None]
        last = min(ends) if ends else None
        found = sorted(page.records + others.records, key=_name)
        if last is not None:
            found = [one for one in found if one.service <= last]
        if len(found) > limit:
            found = found[:limit]
            last = found[-1].service
        return DirectoryPage(found, last)


def _page(
    index: Index, query: Query, after: str, limit: int, now: float, stride: int
) -> DirectoryPage:
    names = index.names
    if query.name is not None:
        record = names.get(query.name) if query.name > after else None
        found = [] if record is None else [record]
        return DirectoryPage(
            [one for one in found if one.is_kept(now) and query.matches(one)], None
        )
    if query.only_interface is not None:
        some = index.instances(query.only_interface)
        if len(some) <= FEW:
            found = [
                one
                for one in some
                if one.service > after and one.is_kept(now) and query.matches(one)
            ]
            first = heapq.nsmallest(limit, found, key=_name)
            return DirectoryPage(first, first[-1].service if len(first) < len(found) else None)
    found = []
    begin, inclusive = (query.prefix, True) if query.prefix > after else (after, False)
    name = after
    for name in index.after(begin, inclusive):
        if not name.startswith(query.prefix):
            return DirectoryPage(found, None)
        record = names[name]
        if record.is_kept(now) and query.matches(record):
            found.append(record)
            if len(found) >= limit:
                return DirectoryPage(found, name)
        stride -= 1
        if stride <= 0:
            return DirectoryPage(found, name)
    return DirectoryPage(found, None)


def _name(record: Record) -> str:
    return record.service
