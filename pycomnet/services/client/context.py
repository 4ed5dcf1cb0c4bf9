"""The context of calls: the connections they share, the nameserver, and their deadline."""

from __future__ import annotations

import os
import secrets
from random import Random
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet import defer, task

from pycomnet import forks
from pycomnet.deferred import deferred
from pycomnet.errors import DeadlineExceeded, InvalidArguments, PycomnetError
from pycomnet.far.live import Live
from pycomnet.net import endpoints
from pycomnet.net.addresslist import clean_addresses, split_addresses
from pycomnet.net.destinations import leads_to
from pycomnet.net.reactors import EndpointReactor
from pycomnet.ranges import optional_real, real, whole
from pycomnet.services.binary import BlockLimits
from pycomnet.services.client.callerrors import of_a_call
from pycomnet.services.client.failover import FailoverAddresses
from pycomnet.services.client.instances import AddressRoute, Instances, NamedRoute
from pycomnet.services.client.locatecache import LocateCache
from pycomnet.services.client.login import AddressSource, as_credentials
from pycomnet.services.client.pool import Pool, PooledServer
from pycomnet.services.client.reference import ServiceReference
from pycomnet.services.client.remoteservice import RemoteService
from pycomnet.services.deadlines import Deadlines
from pycomnet.wire.frames import MAX_VALUE
from pycomnet.wire.mux import Limits

if TYPE_CHECKING:
    from pycomnet.services.client.login import CallerCredentials

#: The most bytes, and the most elements, keys and values, of one value from a server; as for
#: gateways.
VALUE, ITEMS = 1 << 30, 1 << 22
#: The lowest settings of these limits. With them, a value in one frame is never too long, and a
#: value of a kilobyte never has too many items.
LEAST_VALUE, LEAST_ITEMS = 65536, 1024
#: Default timeout of a call, in seconds.
TIMEOUT = 30.0
#: Seconds that a server may leave pings unanswered while calls wait for it: within that time, and
#: within a method that blocks the reactor for less, nothing is lost.
SILENCE = 15.0
#: Seconds for which a nameserver's last answer is used while none can be reached.
KEEP_LOCATED = 300.0
#: The interface of nameservers.
NAMESERVER = "org.pycom.nameserver"


class Context(Live):
    """Calls services: it has one connection for each address, and knows the nameserver.

    :param reactor: what it connects with.
    :param nameserver: a nameserver's address, an endpoint string; or several with commas between
        them, of nameservers on one store. One of them is asked until it fails, then another.
    :param timeout: the default timeout of a call in seconds; None for none.
    :param balance: how calls are spread over the instances of a service: ``"round_robin"``, or
        ``"least_pending"`` for the one with the fewest calls of this context under way.
    :param keepalive: seconds of silence after which a server is asked whether it is still there.
    :param silence: seconds that a server may leave pings unanswered while calls wait for it; then
        its connection is given up. Other instances get the calls after two seconds of
        that. None never asks.
    :param random: decides with which of several instances this context begins.
    :param blocks: limits on the binary data that comes with results.
    :param max_value: bytes of one value that a server may send, 65536 at least. A longer value ends
        the connection.
    :param max_items: elements, keys and values of one value, at all depths, 1024 at least. A value
        with more ends the connection.
    :param credentials: who this client is, for servers that ask: one of
        :class:`pycomnet.ext.access.Password`, ``Token``, ``ClientCertificate`` and ``PeerUser``, or
        a list, of which the first is given that a server takes. Passwords and tokens are for the
        servers that the program names by their addresses; those that a nameserver has found get
        the ones of :class:`pycomnet.ext.access.AtAddress` that are for them.
    :param nameserver_credentials: ... and those that are for the nameserver; by default those of
        ``credentials`` that are for its address by a pattern, or that are no secret.
    :param trust_roots: a file or a directory with the certificates of authorities, for TLS
        addresses that have no ``trustRoots=`` themselves; by default the system's. Those that a
        nameserver has found never have them.
    :param keep_located: seconds for which ``locate`` uses a nameserver's last answer while none can
        be reached; then the service's ``stale`` is the age of that answer. 0 for none.
    """

    def __init__(
        self,
        reactor: EndpointReactor,
        *,
        nameserver: str | None = None,
        timeout: float | None = TIMEOUT,
        balance: str = "round_robin",
        keepalive: float | None = 30.0,
        silence: float | None = SILENCE,
        random: Random | None = None,
        blocks: BlockLimits | None = None,
        max_value: int = VALUE,
        max_items: int = ITEMS,
        credentials: Any = None,
        nameserver_credentials: Any = None,
        trust_roots: str | os.PathLike[str] | None = None,
        keep_located: float = KEEP_LOCATED,
    ) -> None:
        if balance not in ("round_robin", "least_pending"):
            raise ValueError(f"balance: round_robin or least_pending, not {balance!r}")
        self.reactor = reactor
        self.nameserver_address = None if nameserver is None else clean_addresses(nameserver)
        self.timeout = optional_real("timeout", timeout)
        self.least_pending = balance == "least_pending"
        self.keepalive = optional_real("keepalive", keepalive)
        self.silence = optional_real("silence", silence)
        self.random = random or Random()
        self.credentials = as_credentials(credentials)
        self._for_nameserver = as_credentials(nameserver_credentials)
        self._trust_roots = None if trust_roots is None else os.fspath(trust_roots)
        #: who names the addresses that it is asked to connect to
        self.source = AddressSource.PROGRAM
        self.blocks = blocks or BlockLimits()
        self.limits = Limits(
            value=whole("max_value", max_value, LEAST_VALUE, MAX_VALUE),
            items=whole("max_items", max_items, LEAST_ITEMS, MAX_VALUE),
        )
        #: the reactor's time at which all calls of this context time out; None for never
        self.expires: float | None = None
        #: identifies this client to stateful services; a secret
        self.client_id = secrets.token_bytes(16)
        #: keeps the route to the nameserver, if it has several addresses
        self._several: FailoverAddresses | None = None
        self.deadlines = Deadlines(reactor)
        #: what nameservers have answered last
        self.located = LocateCache(real("keep_located", keep_located))
        self.pool = Pool(self)
        forks.watch(self.pool)

    def __repr__(self) -> str:
        return f"<Context, nameserver {self.nameserver_address}, {len(self.pool.peers)} addresses>"

    # -- finding services ------------------------------------------------------------------------

    @deferred
    async def connect(
        self, address: str, interface: str | None = None, *, timeout: float | None = None
    ) -> RemoteService:
        """A service at an address.

        :param address: an endpoint string.
        :param interface: which of its interfaces; it may be left out if it has only one.
        :param timeout: seconds for the connection; the default is the timeout of a call.
        :returns: fires with it, once there is a connection. Fails with
            :class:`~pycomnet.errors.ServiceUnreachable`, ``CertificateRefused``, ``EndpointError``
            or ``UnknownInterface``. Cancelling it gives up.
        """
        timeout = optional_real("timeout", timeout)
        service = self.at(address, interface)
        waiting = self.peer(address).connect()
        left = self.limit(self.timeout if timeout is None else timeout)
        if left is not None:
            waiting.addTimeout(left, self.reactor)
        try:
            await waiting
        except defer.TimeoutError:
            what = self.peer(address).lacking
            raise of_a_call(DeadlineExceeded(f"{what} in {left:g} seconds")) from None
        return service

    def at(self, address: str, interface: str | None = None) -> RemoteService:
        """A service at an address, as from :meth:`connect`, but not connected yet."""
        return RemoteService(self, AddressRoute(self.peer(address)), interface)

    @deferred
    async def locate(self, interface: str, service: str | None = None) -> RemoteService:
        """Any instance of a service that the nameserver knows.

        :param interface: the interface's name.
        :param service: the service's name, to find only this service.
        :returns: fires with it; its calls find the service again when it restarts, at whatever
            address. Fails with :class:`~pycomnet.errors.ServiceNotFound`, or
            ``ServiceUnreachable`` if the nameserver can't be reached and there is no answer of it
            from before (``keep_located``). Cancelling it gives up.
        """
        if not isinstance(interface, str) or not interface:
            raise InvalidArguments(
                f"locate: expected an interface's name, such as 'org.example.calc', "
                f"not {interface!r}"
            )
        if interface == NAMESERVER and service is None:
            return await self.nameserver()
        route = NamedRoute(self, interface, service)
        await route.look()
        return RemoteService(self, route, interface)

    @deferred
    async def nameserver(self) -> RemoteService:
        """The nameserver. Fails with :class:`PycomnetError` if the context has no address."""
        if self.nameserver_address is None:
            raise PycomnetError("this context has no nameserver: give its address as nameserver=")
        return RemoteService(self, self._nameserver_route(self.nameserver_address), NAMESERVER)

    def _nameserver_route(self, address: str) -> Instances:
        source = AddressSource.NAMESERVER if self._for_nameserver else AddressSource.OTHERS
        peers = [self.peer(one, source) for one in split_addresses(address)]
        if len(peers) == 1:
            return AddressRoute(peers[0])
        # All that ask it go to the same one of them. The pool has the route as long as anybody
        # uses it, and the context that of its own nameserver.
        key = address, source
        route = self.pool.several.get(key)
        if route is None:
            route = FailoverAddresses(peers, self.reactor, self.random)
            self.pool.several[key] = self._several = route
        return route

    def peer(self, address: str, source: AddressSource | None = None) -> PooledServer:
        """The peer of an address. It is made if there is none.

        :param source: who has named it; by default whoever uses this context.
        """
        return self.pool.peer(address, source or self.source)

    # -- who calls, and who is trusted -----------------------------------------------------------

    @property
    def has_credentials(self) -> bool:
        """Whether there are any credentials."""
        return bool(self.credentials or self._for_nameserver)

    @property
    def nameserver_credentials(self) -> tuple[CallerCredentials, ...]:
        """Those that may be for the nameserver."""
        return self._for_nameserver

    @property
    def nameserver_identity(self) -> tuple[Any, ...]:
        """Contexts that share connections ask the same nameserver, as the same user, if this is
        equal."""
        given = tuple(map(id, self._for_nameserver))
        return self.nameserver_address, self.source, given

    def with_trust(self, address: str) -> str:
        """An address, with the authorities that this context trusts if it has none itself."""
        if self._trust_roots is None or not endpoints.is_tls(address):
            return address
        endpoint = endpoints.parse(address)
        if {"trustRoots", "caCertsDir"} & endpoint.options.keys():
            return address
        options = {**endpoint.options, "trustRoots": self._trust_roots}
        return str(attrs.evolve(endpoint, options=options))

    def refers_to(self, reference: ServiceReference) -> RemoteService:
        """The service that a reference refers to, not connected yet.

        :raises EndpointError: its address is not a valid endpoint string.
        """
        interface = reference.interface
        # Others may have written it: credentials are for its addresses by a pattern only.
        others = self.for_request(None)
        if reference.address is not None:
            return others.at(reference.address, interface)
        assert interface is not None and reference.nameserver is not None
        context = others.asking(reference.nameserver)
        return RemoteService(context, NamedRoute(context, interface, reference.service), interface)

    def asking(self, nameserver: str) -> Context:
        """This context, with another nameserver; it shares the connections.

        What the context has for its own nameserver is for no other.
        """
        nameserver = clean_addresses(nameserver)
        own = [] if self.nameserver_address is None else split_addresses(self.nameserver_address)
        if all(any(leads_to(one, each) for each in own) for one in split_addresses(nameserver)):
            return self
        return self._copy(nameserver_address=nameserver, _for_nameserver=())

    # -- time ------------------------------------------------------------------------------------

    def until(self, expires: float | None) -> Context:
        """This context, with a time at which all its calls time out."""
        if expires is None:
            return self
        return self._copy(expires=expires if self.expires is None else min(expires, self.expires))

    def without_deadline(self) -> Context:
        """This context, for what goes on after a request is over: its calls have no deadline."""
        return self if self.expires is None else self._copy(expires=None)

    def for_request(self, expires: float | None) -> Context:
        """This context for a method of a service: until its deadline, and the addresses may be its
        caller's.
        """
        if not self.has_credentials:
            return self.until(expires)
        return self._copy(source=AddressSource.OTHERS).until(expires)

    def _copy(self, **changes: Any) -> Context:
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, **changes)
        return other

    def limit(self, timeout: float | None) -> float | None:
        """Cap a timeout at this context's deadline."""
        if self.expires is None:
            return timeout
        left: float = max(0.0, self.expires - self.reactor.seconds())
        return left if timeout is None else min(left, timeout)

    def left(self, expires: float | None) -> float | None:
        """The seconds until a time of the reactor's clock.

        :raises DeadlineExceeded: it has passed.
        """
        if expires is None and self.expires is None:
            return None
        now = self.reactor.seconds()
        left = self.limit(None if expires is None else expires - now)
        if left is not None and left <= 0:
            raise of_a_call(DeadlineExceeded("the call's deadline has passed before it was sent"))
        return left

    def sleep(self, seconds: float) -> defer.Deferred[None]:
        """Fires after ``seconds``. Cancelling it cancels the delayed call."""
        waiting: defer.Deferred[None] = task.deferLater(self.reactor, seconds)
        return waiting

    @deferred
    async def close(self) -> None:
        """End all connections; calls that are under way are interrupted.

        :returns: fires when they are over. Cancelling it changes nothing.
        """
        await self.pool.close()
        self.deadlines.close()

    async def __aenter__(self) -> Context:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()
