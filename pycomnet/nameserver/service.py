"""The nameserver as a service: ``org.pycom.nameserver``."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from typing import TYPE_CHECKING, Any

from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime

from pycomnet.errors import (
    LeaseLost,
    NameserverFull,
    NotLeaseOwner,
    ServiceNotFound,
    StoreConflict,
    StoreFailed,
    TooManyRegistrations,
)
from pycomnet.interfaces import ISharedNameStore
from pycomnet.nameserver.directory import Directory
from pycomnet.nameserver.expiry import Expiry
from pycomnet.nameserver.freshness import MAX_STALE, SharedStoreView, StoreView
from pycomnet.nameserver.records import Record
from pycomnet.nameserver.registrants import Clients, Registrant
from pycomnet.nameserver.registrationchanges import ATTEMPTS, RegistrationChanges
from pycomnet.nameserver.requests import (
    WILD,
    Arguments,
    NameserverLimits,
    query,
    registration,
)
from pycomnet.nameserver.sharedexpiry import SharedExpiry
from pycomnet.nameserver.watches import Watches
from pycomnet.services.client.context import NAMESERVER
from pycomnet.services.interface import interface, method
from pycomnet.text.logs import Logger

if TYPE_CHECKING:
    from pycomnet.interfaces import INameStore
    from pycomnet.services.server.request import Request

log = Logger()

#: The most lists at a time that examine all names; further ones wait.
SCANS = 2
#: About how many bytes of addresses and metadata one page of ``list_services`` has.
PAGE_BYTES = 1 << 20
NO_TAGS: frozenset[str] = frozenset()
#: The most registrations of one connection that wait for the store at a time. Further ones wait in
#: a queue, so that a flood from one client does not delay the others.
TURNS = 64
#: Bits of a lease's number: as many as a number in JSON can have without loss.
LEASE_BITS = 53


@interface(NAMESERVER)
class NameService(RegistrationChanges):
    """Who offers which interface, and where.

    A service registers, and keeps its registration by renewing its lease with a secret that only it
    has. If it stops renewing, the registration is removed when the lease ends.

    :param store: keeps the registrations; it is opened when the service is added to a server.
    :param reactor: for delayed calls.
    :param limits: the limits of requests.
    :param seconds: the clock by which leases end: not a wall clock, which may be set.
    :param random_lease: makes a lease's number.
    :param random_secret: makes a secret.
    :param version: the version that ``stat`` shows.
    :param operators: names in certificates whose holders may remove what others registered.
    :param may_register: raises an error if a client may not register a name with interfaces, or
        keep it.
    :param max_stale: seconds for which it answers while it is cut off from its shared store.
    :param guard: whether registrations are kept when most leases end at once: see :class:`Expiry`.
    :param log_length: how many changes are kept for watchers; by default as :class:`ChangeLog`.
    """

    def __init__(
        self,
        store: INameStore,
        reactor: IReactorTime,
        limits: NameserverLimits | None = None,
        seconds: Callable[[], float] = time.monotonic,
        random_lease: Callable[[], int] = lambda: secrets.randbits(LEASE_BITS),
        random_secret: Callable[[], str] = lambda: secrets.token_urlsafe(16),
        version: str = "",
        operators: Collection[str] = (),
        may_register: Callable[[Request, str, Collection[str]], None] | None = None,
        max_stale: float = MAX_STALE,
        guard: bool = True,
        **options: Any,
    ) -> None:
        self.limits = limits or NameserverLimits()
        self.directory = Directory(seconds, not store.ends_leases, guarded=guard, **options)
        self._store = store
        self._reactor = reactor
        self._seconds = seconds
        self._random_lease = random_lease
        self._random_secret = random_secret
        self._version = version
        self._operators = frozenset(operators)
        self._may_register = may_register
        self._server: Any = None
        self._begun = 0.0
        self._counts: Counter[str] = Counter()
        shared = ISharedNameStore(store, None)
        self._expiry = (
            Expiry(self.directory, store, reactor, seconds, guard)
            if shared is None
            else SharedExpiry(self.directory, shared, reactor, seconds, guard)
        )
        self._view = StoreView() if shared is None else SharedStoreView(shared, max_stale)
        self._watches = Watches(self.directory, self.limits, reactor, seconds, self._view)
        self._turns: dict[Any, defer.DeferredSemaphore] = {}
        self._clients = Clients()
        self._scans = defer.DeferredSemaphore(SCANS)

    # -- beginning and end -----------------------------------------------------------------------

    async def _open(self) -> None:
        await self._store.open(self.directory)
        self._begun = self._seconds()
        self.directory.listen(self._expiry.schedule)
        self._watches.start()
        self._expiry.schedule()
        log.info(
            "{count} registrations in {store}", count=len(self.directory), store=self._store.name
        )

    def started(self, server: Any) -> defer.Deferred[None]:
        """Open the store and load all of it. The server serves nothing before that is done."""
        self._server = server
        return defer.Deferred.fromCoroutine(self._open())

    def listens(self, addresses: list[str]) -> None:
        """Tell other nameservers on the store the addresses of this one."""
        self._view.tell({"version": self._version, "addresses": list(addresses)})

    def leave(self) -> None:
        """End all watches, as the server is about to stop; they would not end by themselves."""
        self._store.leave()
        self._watches.leave()

    def stopped(self) -> defer.Deferred[None]:
        """Close the store, once all pending changes are committed."""
        self.leave()
        self.directory.unlisten(self._expiry.schedule)
        self._expiry.stop()
        return self._store.close()

    # -- owners ----------------------------------------------------------------------------------

    @method(
        args={
            "service": "str",
            "interfaces": "list",
            "address": "str",
            "ttl": "float?",
            "metadata": "dict?",
            "tags": "list?",
            "secret": "str?",
            "weight": "int?",
            "draining": "bool?",
            "failing": "bool?",
            "said": "str?",
        },
        results={"lease": "int", "secret": "str", "fence": "int", "ttl": "float"},
    )
    def register(self, request: Request) -> Any:
        """Register a service under a name that no other service has.

        The registration ends with its lease, after ttl seconds: renew it before that, with the
        lease and the secret. The fence is higher than that of any registration before.

        A service may choose the secret itself, of 16 characters or more. Registering again with
        the same secret replaces the registration and keeps the lease. So a service can repeat the
        request when the reply was lost.

        If several services have an interface, each is located in proportion to its weight: 0 to
        1000, by default 100. A service of weight 0 is located only if there is no other. A service
        that is draining, or whose check is failing, is listed and not located. See adjust.
        """
        record, secret = registration(
            request.args, self.limits, self._random_lease(), self._random_secret()
        )
        if self._may_register is not None:
            self._may_register(request, record.service, record.interfaces)
        return self._register(request, record, secret)

    async def _register(self, request: Request, record: Record, secret: str) -> dict[str, Any]:
        connection = request.connection
        turns = self._turns.get(connection)
        if turns is None:
            turns = self._turns[connection] = defer.DeferredSemaphore(TURNS)
        await turns.acquire()
        try:
            fence = await self._commit(record, self._clients.of(request))
        finally:
            turns.release()
            if turns.tokens == TURNS:
                self._turns.pop(connection, None)
        self._counts["registered"] += 1
        return {"lease": record.lease, "secret": secret, "fence": fence, "ttl": record.ttl}

    async def _commit(self, record: Record, client: Registrant) -> int:
        directory = self.directory
        record.client = client
        for _ in range(ATTEMPTS):
            put = await self._view.proposed(
                record.service, lambda: directory.proposal(record, self._seconds())
            )
            self._check_room(record, client)
            client.asked += 1
            try:
                return await self._store.commit(put)
            except StoreConflict:
                # Another client was faster: the name may be taken now. The next attempt has another
                # lease: if the name had this one before, its end may still arrive.
                record.lease = self._random_lease()
            finally:
                client.asked -= 1
        raise StoreFailed(f"{record.service!r} is registered by too many at the same time")

    def _check_room(self, record: Record, client: Registrant) -> None:
        directory = self.directory
        have, before = len(directory), directory.size_of(record.service)
        if not before and have >= self.limits.services:
            raise NameserverFull(f"there are {have} registrations, which is the limit")
        most = self.limits.client_services
        if client.registered + client.asked >= most and not directory.is_own(record):
            raise TooManyRegistrations(
                f"this client has {client.registered} registrations; the limit is {most}: end "
                f"some, or ask the nameserver's administrator for more (--max-per-client)"
            )
        more = record.size - before
        if more > 0 and directory.size + more > self.limits.bytes:
            raise NameserverFull(
                f"the {have} registrations have {directory.size} bytes; the limit is "
                f"{self.limits.bytes}"
            )

    @method(
        args={"lease": "int", "secret": "str"},
        results={"ttl": "float", "fence": "int"},
        idempotent=True,
    )
    def renew(self, request: Request) -> Any:
        """Renew a lease: it lasts its full time from now on.

        If it is already over, this fails: register again.
        """
        taken = Arguments("renew", request.args, self.limits)
        owner = taken.lease()
        now = self._seconds()
        try:
            if self._may_register is not None:
                owned = self.directory.owned(*owner, now)
                self._may_register(request, owned.service, owned.interfaces)
            record = self.directory.renew(*owner, now)
        except (LeaseLost, NotLeaseOwner):
            if not self._view.is_shared:
                raise
            return self._renew_late(request, owner)
        if record.client is None:
            # It was registered before this nameserver was started, or at another one. Its client is
            # known from now on; that client's limit is not applied to it.
            record.client = client = self._clients.of(request)
            client.registered += 1
        self._counts["renewed"] += 1
        answer = {"ttl": record.ttl, "fence": record.fence}
        renewed = self._store.renew(record)
        return answer if renewed is None else renewed.addCallback(lambda _: answer)

    async def _renew_late(self, request: Request, owner: tuple[int, str]) -> Any:
        """Renew a lease that this nameserver's memory does not have: the memory may be behind."""
        await self._view.owned(owner[0], lambda: self.directory.owned(*owner, self._seconds()))
        renewed = self.renew(request)
        return await renewed if isinstance(renewed, defer.Deferred) else renewed

    @method(args={"lease": "int", "secret": "str"}, results={"service": "str"})
    async def unregister(self, request: Request) -> dict[str, Any]:
        """End a lease at once, which frees the name."""
        lease, secret = Arguments("unregister", request.args, self.limits).lease()
        for _ in range(ATTEMPTS):
            removal = await self._view.owned(
                lease, lambda: self.directory.removal(lease, secret, self._seconds())
            )
            try:
                await self._store.commit(removal)
            except StoreConflict:
                continue  # its owner has changed it meanwhile, or it is gone
            self._counts["unregistered"] += 1
            return {"service": removal.service}
        raise StoreFailed("the registration is being changed too often")

    # -- queries ---------------------------------------------------------------------------------

    @method(
        args={"interface": "str?", "service": "str?", "tags": "list?"},
        results="a record: service, interfaces, address, metadata, tags, fence and ttl",
        idempotent=True,
    )
    def locate(self, request: Request) -> dict[str, Any]:
        """One registration with this interface, or of this service, and with all these tags.

        If several match, each is returned in turn. The ttl is what its lease has left.
        """
        now = self._seconds()
        args = request.args
        self._counts["located"] += 1
        if args and len(args) == 1 and "interface" in args:
            # The usual request: the row "locate the only one". A name that is found is valid, and
            # needs no check.
            record = self.directory.locate(args["interface"], None, NO_TAGS, now)
            if record is not None:
                return self._view.aged(record.as_map(now))
        return self._view.aged(self._locate(args, now).as_map(now))

    def _locate(self, args: Any, now: float) -> Record:
        taken = Arguments("locate", args, self.limits)
        name = taken.optional("interface")
        service = taken.optional("service")
        tags = frozenset(taken.texts("tags", self.limits.tags, wild=True))
        if name is None and service is None:
            raise taken.refused("interface", "one, or a service")
        record = self.directory.locate(name, service, tags, now)
        if record is None:
            self._view.staleness()  # raises an error if the memory is too old to say so
            self._counts["not found"] += 1
            raise ServiceNotFound(_not_found(name, service, tags) + self._apart(name, service))
        return record

    def _apart(self, interface: str | None, service: str | None) -> str:
        """The end of an error's message if a matching service takes no callers."""
        apart = self.directory.apart(interface, service, self._seconds())
        if not apart:
            return ""
        return f"; {apart[0]!r} takes no callers: it is draining or failing"

    @method(
        args={
            "service": "str?",
            "interface": "str?",
            "tags": "list?",
            "limit": "int?",
            "after": "str?",
        },
        results="a list of records, as locate gives them, in the order of their names",
        idempotent=True,
    )
    async def list_services(self, request: Request) -> list[dict[str, Any]]:
        """List the registrations whose name and interface match and that have all these tags.

        A service or interface is a name or a pattern: org.example.* is a prefix, and there are ?,
        * and [...]. The list has up to limit registrations, at most 1000. For the next page, give
        the last one's name as after (an empty one is the beginning); an empty list is the end.
        """
        taken = Arguments("list_services", request.args, self.limits)
        wanted = query(taken, self.limits)
        limit = taken.whole("limit", self.limits.page, 1, self.limits.page)
        after = taken.begin("after")
        assert limit is not None
        self._view.staleness()
        self._counts["listed"] += 1
        page = self.directory.listing(wanted, after, limit, self._seconds())
        found = page.records
        size = sum(map(_size, found))
        if page.after is not None and len(found) < limit:
            await self._scans.acquire()
            try:
                while page.after is not None and len(found) < limit and size < PAGE_BYTES:
                    await self._watches.breathe()
                    page = self.directory.listing(
                        wanted, page.after, limit - len(found), self._seconds()
                    )
                    found += page.records
                    size += sum(map(_size, page.records))
            finally:
                self._scans.release()
        while size > PAGE_BYTES and len(found) > 1:
            size -= _size(found.pop())
        now = self._seconds()
        return [self._view.aged(record.as_map(now)) for record in found]

    @method(
        stream=True,
        args={"service": "str?", "interface": "str?", "tags": "list?", "revision": "int?"},
        results="maps with event (put, delete, end-of-snapshot or progress) and revision; put has "
        "a record, delete a service and why",
    )
    async def watch(self, request: Request) -> AsyncIterator[dict[str, Any]]:
        """What is registered, and then what changes.

        First there is a put for each registration that matches, as for list_services, and the
        end-of-snapshot. Then there is an event for each change. To continue later without a
        snapshot, pass the revision of the last event. If that is too old, or if the watcher is too
        slow, the watch fails: then start without a revision. A nameserver that is cut off from its
        shared store ends its watches: continue at another one.
        """
        taken = Arguments("watch", request.args, self.limits)
        wanted = query(taken, self.limits)
        revision = taken.whole("revision", None, 0, (1 << 63) - 1)
        async for event in self._watches.events(request.connection, wanted, revision):
            yield event

    @method(
        results="a map of counts, revisions, the uptime, the version and the store",
        idempotent=True,
    )
    def stat(self, request: Request) -> dict[str, Any]:
        """Count what is registered, and the requests since the nameserver was started."""
        directory = self.directory
        self._counts["expired"] = self._expiry.count
        return {
            "version": self._version,
            "uptime": round(self._seconds() - self._begun, 3),
            "store": self._store.name,
            "services": len(directory),
            "bytes": directory.size,
            "interfaces": directory.interfaces,
            "draining": directory.draining,
            "failing": directory.failing,
            "doubtful": directory.doubtful,
            "watches": self._watches.count,
            "connections": len(self._server.connections),
            "memory": self._server.memory.as_map(),
            "revision": directory.log.last,
            "oldest_revision": directory.log.first,
            **self._view.freshness(),
            "counts": {name: self._counts[name] for name in COUNTS},
        }

    @method(
        results="a map of nameservers and members, lists of maps; empty without a shared store",
        idempotent=True,
    )
    def cluster(self, request: Request) -> Any:
        """List the nameservers that share this one's store, and the store's own members."""
        return self._view.cluster()


#: What ``stat`` counts.
COUNTS = ("registered", "renewed", "unregistered", "expired", "located", "not found", "listed")


def _size(record: Record) -> int:
    return len(record.address) + len(record.metadata) + 200


def _not_found(name: str | None, service: str | None, tags: frozenset[str]) -> str:
    parts = []
    if service is not None:
        parts.append(f"of the name {service!r}")
    if name is not None:
        parts.append(f"with the interface {name!r}")
    if tags:
        parts.append(f"with the tags {', '.join(sorted(tags))}")
    text = f"no service {' '.join(parts)} is registered"
    if any(not WILD.isdisjoint(one) for one in (name or "", service or "")):
        text += "; locate takes no patterns, list_services does"
    return text
