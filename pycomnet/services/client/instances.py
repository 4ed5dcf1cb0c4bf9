"""Routing of calls: to one address, or to the instances that a nameserver knows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet import defer

from pycomnet.deferred import OneShot, deferred
from pycomnet.errors import (
    CallInterrupted,
    CredentialsNotSent,
    DeadlineExceeded,
    EndpointError,
    Forbidden,
    NameserverStale,
    Overloaded,
    ServerLeaving,
    ServiceNotFound,
    ServiceUnreachable,
    Unauthenticated,
)
from pycomnet.net import endpoints
from pycomnet.net.addresslist import are_local_clients
from pycomnet.net.destinations import foreign_address
from pycomnet.services.client.locatecache import KnownInstances
from pycomnet.services.client.login import AddressSource
from pycomnet.services.client.race import Race
from pycomnet.services.client.reference import ServiceReference
from pycomnet.services.client.weights import Shares, shares_of, weight_of

if TYPE_CHECKING:
    from pycomnet.services.client.connection import ClientConnection
    from pycomnet.services.client.context import Context
    from pycomnet.services.client.pool import PooledServer
    from pycomnet.services.client.remoteservice import RemoteService

#: Seconds after which the instances of an interface are looked up again, while it is called.
REFRESH = 10.0
#: Seconds that a nameserver has to answer; after that the known instances are tried again.
LOOK_TIMEOUT = 3.0
#: The most instances of an interface that a caller keeps: each may get a connection.
MOST_INSTANCES = 100_000
#: Errors of a query that no nameserver has answered.
NO_ANSWER = (
    CallInterrupted,
    DeadlineExceeded,
    NameserverStale,
    Overloaded,
    ServerLeaving,
    ServiceUnreachable,
)
#: How often one of the instances is asked for, by those who may not list them.
ASKED_FOR_ONE = 3
#: The key in a record's metadata for its addresses, if there are several: the first is one that
#: other machines can reach. And how many of them are used at most.
ADDRESSES = "addresses"
MOST_ADDRESSES = 8


class Instances:
    """Where the calls of a service go.

    :cvar interchangeable: whether an instance may ask its callers to call another one instead.
    :ivar stale: the age in seconds of the nameserver's answer that it uses, if that is old; else
        0.0.
    """

    interchangeable = False
    stale = 0.0
    _peers: Sequence[PooledServer] = ()

    def pick(self) -> PooledServer | None:
        """The instance for the next call, or None if no instance is known."""
        raise NotImplementedError

    def reach(
        self, first: PooledServer | None, left: float | None
    ) -> defer.Deferred[tuple[PooledServer, ClientConnection]]:
        """An instance and a connection to it; fails with :class:`ServiceUnreachable`.

        :param first: the instance that was picked.
        :param left: seconds until it fails; None for no limit.
        """
        raise NotImplementedError

    def has_other(self, peer: PooledServer, now: float) -> bool:
        """Whether there is another instance that is not set aside."""
        return any(one is not peer and one.aside_until <= now for one in self._peers)

    def may_return(self) -> bool:
        """Whether it is worth trying again if no instance could be reached."""
        raise NotImplementedError

    def reference(self, interface: str | None) -> ServiceReference:
        """A reference to the service, for other processes."""
        raise NotImplementedError


class AddressRoute(Instances):
    """One address.

    :param returns: whether calls wait for it to come back.
    """

    def __init__(self, peer: PooledServer, returns: bool = True) -> None:
        self._peer = peer
        self._returns = returns

    def __str__(self) -> str:
        return f"at {self._peer.address}"

    def pick(self) -> PooledServer | None:
        return self._peer

    @deferred
    async def reach(
        self, first: PooledServer | None = None, left: float | None = None
    ) -> tuple[PooledServer, ClientConnection]:
        return self._peer, await self._peer.connect()

    def may_return(self) -> bool:
        return self._returns and self._peer.known

    def reference(self, interface: str | None) -> ServiceReference:
        return ServiceReference(interface, address=self._peer.address)


class NamedRoute(Instances):
    """The instances that a nameserver has of an interface, or of one service by name.

    :param context: has the nameserver, the connections, and how calls are spread.
    """

    def __init__(self, context: Context, interface: str, service: str | None) -> None:
        self._context = context
        self._interface = interface
        self._service = service
        self._peers: list[PooledServer] = []
        #: how they share the calls, if their weights differ
        self._shares: Shares | None = None
        #: the peers that are not set aside; valid for this count of the pool's changes, until this
        #: time
        self._able: list[PooledServer] = []
        self._able_changes = -1
        self._able_until = float("-inf")
        #: starts at random, so that not all clients call the same instance first
        self._turn = context.random.randrange(1 << 30)
        self._looked = float("-inf")
        self._looking: OneShot[None] | None = None

    def __str__(self) -> str:
        named = f" {self._service}" if self._service else ""
        return f"{self._interface}{named} by {self._context.nameserver_address}"

    @property
    def known(self) -> Sequence[PooledServer]:
        """The instances that were found last."""
        return tuple(self._peers)

    def may_return(self) -> bool:
        return True

    def reference(self, interface: str | None) -> ServiceReference:
        nameserver = self._context.nameserver_address
        return ServiceReference(interface, nameserver=nameserver, service=self._service)

    def pick(self) -> PooledServer | None:
        peers = self._peers
        now = self._context.reactor.seconds()
        if now - self._looked > REFRESH and peers and self._looking is None:
            self._looked = now
            self.look().addErrback(lambda _: None)  # the known instances are used until they fail
        if len(peers) == 1:
            return peers[0]
        if not peers:
            return None
        if self._able_changes != self._context.pool.changes or now >= self._able_until:
            self._find_able(now)
        able = self._able
        self._turn += 1
        if self._shares is not None:
            return self._shares.pick(able, self._context.random, self._context.least_pending)
        if self._context.least_pending:
            least = min(peer.pending for peer in able)
            able = [peer for peer in able if peer.pending == least]
        return able[self._turn % len(able)]

    def _find_able(self, now: float) -> None:
        """Find the instances that are not set aside: not for each call, as there may be
        thousands."""
        peers = self._peers
        self._able = [peer for peer in peers if peer.aside_until <= now] or peers
        if self._shares is not None:
            self._able = self._shares.able(self._able)
        again = (peer.aside_until for peer in peers if peer.aside_until > now)
        self._able_until = min(again, default=float("inf"))
        self._able_changes = self._context.pool.changes

    def _set_peers(self, peers: list[PooledServer], shares: Shares | None = None) -> None:
        self._peers = peers
        self._shares = shares
        self._able_until = float("-inf")

    @deferred
    async def reach(
        self, first: PooledServer | None = None, left: float | None = None
    ) -> tuple[PooledServer, ClientConnection]:
        problem: ServiceUnreachable | None = None
        for again in (False, True):
            if again or not self._peers:
                await self._look_now()
            try:
                return await Race(self._context.reactor, self._in_order(first), left).run()
            except ServiceUnreachable as unreachable:
                problem = unreachable
            first = None
        raise problem or ServiceUnreachable(f"there is no {self}")

    def _in_order(self, first: PooledServer | None) -> Iterator[PooledServer]:
        """The instances as they are tried: whose turn it is, and who comes after that one; those
        that are set aside come last.
        """
        first = first or self.pick()
        if first is None:
            return
        yield first
        peers = self._peers
        # They may all have gone since the first was tried.
        start = peers.index(first) + 1 if first in peers else self._turn % max(1, len(peers))
        others = [one for one in (*peers[start:], *peers[:start]) if one is not first]
        now = self._context.reactor.seconds()
        shares = self._shares
        yield from sorted(
            others,
            key=lambda one: (shares is not None and shares.is_last(one), one.aside_until > now),
        )

    async def _look_now(self) -> None:
        try:
            await self.look()
        except ServiceNotFound as missing:
            self._set_peers([])
            raise ServiceUnreachable(str(missing)) from missing
        except DeadlineExceeded as late:
            # The query's deadline, not the call's: the call may have time for another query.
            text = f"{self}: the nameserver did not answer in {LOOK_TIMEOUT:g} seconds"
            raise ServiceUnreachable(text) from late

    def look(self) -> defer.Deferred[None]:
        """Query the nameserver. Calls that need it meanwhile share the query."""
        if self._looking is not None:
            return self._looking.when_fired()
        looking = self._looking = OneShot()
        waiting = looking.when_fired()
        looking.follow(self._look().addErrback(self._go_by_last).addBoth(self._looked_up))
        return waiting

    def _looked_up(self, result: Any) -> Any:
        self._looking = None
        return result

    @property
    def _key(self) -> tuple[str, str, str | None]:
        return str(self._context.nameserver_address), self._interface, self._service

    def _go_by_last(self, failure: Any) -> Any:
        """No nameserver has answered: use the last answer, if there is one."""
        context = self._context
        if failure.check(ServiceNotFound):
            failure.value.of_call = True
            context.located.forget(self._key)
        now = context.reactor.seconds()
        last = context.located.get(self._key, now)
        if last is None or not failure.check(*NO_ANSWER):
            return failure
        self.stale = max(now - last.time, 0.001)
        self._looked = now
        if not self._peers:
            self._set_peers([self._choose(list(one), {}) for one in last.instances])
        return None

    def _is_near(self) -> bool:
        """Whether the nameserver is on this machine."""
        here = self._context.nameserver_address
        return here is not None and are_local_clients(here)

    def _choose(self, addresses: list[str], known: dict[str, PooledServer]) -> PooledServer:
        """Choose one of an instance's addresses. If the nameserver is on this machine, a local
        address comes first, else another. An address that has just failed is not chosen, unless all
        have.
        """
        if len(addresses) > 1:
            near = self._is_near()
            addresses = sorted(addresses, key=lambda one: endpoints.is_local_client(one) != near)
        peers = [
            known.get(address) or self._context.peer(address, AddressSource.OTHERS)
            for address in addresses
        ]
        now = self._context.reactor.seconds()
        return next((peer for peer in peers if peer.aside_until <= now), peers[0])

    def _may_stay(self, peer: PooledServer) -> bool:
        """Whether this caller may go on calling an instance that takes no new callers: it has a
        connection to it."""
        return peer.connection is not None and peer in self._peers

    @deferred
    async def _look(self) -> None:
        nameserver = await self._context.nameserver()
        known = {peer.address: peer for peer in self._peers}
        found: dict[str, PooledServer] = {}
        instances: list[tuple[str, ...]] = []
        stale = 0.0
        elsewhere: list[str] = []
        apart: list[str] = []
        weights: dict[PooledServer, int | None] = {}
        near = self._is_near()
        async for record in self._records(nameserver):
            addresses = addresses_of(record)
            if not near:
                # A local address is one of the machine that the service is on. Here, something
                # else is there, which whoever has an account here may have chosen.
                elsewhere.extend(one for one in addresses if endpoints.is_local_client(one))
                addresses = [one for one in addresses if not endpoints.is_local_client(one)]
            if addresses:
                peer = self._choose(addresses, known)
                weight = weight_of(record)
                if weight is None and not self._may_stay(peer):
                    apart.append(peer.address)
                    continue
                weights[peer] = weight
                found[peer.address] = peer
                instances.append(tuple(addresses))
                stale = max(stale, _staleness(record))
            if len(found) >= MOST_INSTANCES:
                break
        if not found and apart:
            raise ServiceNotFound(f"{self}: {apart[0]} is there, and draining or failing")
        if not found and elsewhere:
            raise ServiceNotFound(
                f"{self}: it listens at {elsewhere[0]}, which only its own machine can reach: "
                "start it with an address that others can"
            )
        if not found:
            raise ServiceNotFound(f"there is no {self}")
        self._set_peers(list(found.values()), shares_of(weights))
        self._looked = now = self._context.reactor.seconds()
        self.stale = stale
        self._context.located.put(self._key, KnownInstances(tuple(instances), now - stale))

    async def _records(self, nameserver: RemoteService) -> AsyncIterator[Any]:
        """The nameserver's records of the instances."""
        wanted = {"interface": self._interface}
        if self._service is not None:
            asked = {**wanted, "service": self._service}
            try:
                yield await nameserver.invoke("locate", asked, LOOK_TIMEOUT)
            except ServiceNotFound:
                if not any(map(self._may_stay, self._peers)):
                    raise
                # Perhaps it drains: callers that have a connection go on until it ends.
                for record in await nameserver.invoke("list_services", asked, LOOK_TIMEOUT):
                    yield record
            return
        last = ""
        try:
            # Only an empty page is the end: any page may be short.
            while records := await nameserver.invoke("list_services", wanted, LOOK_TIMEOUT):
                for record in records:
                    yield record
                last, before = records[-1]["service"], last
                if last <= before:
                    break
                wanted = {**wanted, "after": last}
        except (CredentialsNotSent, Forbidden, Unauthenticated):
            # A caller that may not list may still locate one, and gets a random one each time.
            for _ in range(ASKED_FOR_ONE):
                yield await nameserver.invoke("locate", wanted, LOOK_TIMEOUT)


def _staleness(record: Any) -> float:
    stale = record.get("stale", 0.0)
    return stale if isinstance(stale, float) and stale > 0 else 0.0


def addresses_of(record: Any) -> list[str]:
    """The addresses of a nameserver's record; its own first. They determine where its server is,
    and not how it is verified: whoever connects determines that.
    """
    found: list[str] = []
    metadata = record.get("metadata")
    more = metadata.get(ADDRESSES) if isinstance(metadata, dict) else None
    more = more[:MOST_ADDRESSES] if isinstance(more, (list, tuple)) else ()
    for one in (record["address"], *more):
        try:
            address = foreign_address(one)
        except EndpointError:
            continue
        if address not in found:
            found.append(address)
    return found
