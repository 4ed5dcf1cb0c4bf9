"""What the proxies of one service share: the service, and its description of itself."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from twisted.internet import defer

from pycomnet.deferred import OneShot, deferred
from pycomnet.errors import ServiceError
from pycomnet.ext.proxy.descriptions import KnownInterface, keep_interface, known_interface
from pycomnet.ext.proxy.differences import differences
from pycomnet.ext.proxy.errors import InterfaceDiffers
from pycomnet.ext.proxy.methods import OnewayCalls
from pycomnet.ext.proxy.signatures import InterfaceSignature
from pycomnet.services.client.reference import ServiceReference
from pycomnet.services.client.remoteservice import RemoteService

#: Codes of the errors of a service that describes itself to nobody, or not to this client. Its
#: methods are then called unchecked.
UNDESCRIBED = frozenset({"method", "forbidden"})
#: Seconds for which a description is taken for right if a call does not fit it. After that it is
#: asked for again first: the service may have been replaced by a newer one.
FRESH = 1.0


#: (interface, method) -> what calls it.
Callers = Mapping[tuple[str | None, str], Callable[..., defer.Deferred[Any]]]


class ProxiedService:
    """A service for its proxies.

    :param service: the service; or a Deferred of it, or a function that makes it on first use.
    :param expected: the class that the client was written for, or None.
    :param callers: for :meth:`results`.
    :param reference: refers to the service that it will be, if ``service`` is a function.
    :ivar service: the service, once it is known.
    :ivar description: how it describes itself, once it has.
    :ivar oneway: the calls whose results nobody waits for.
    """

    def __init__(
        self,
        service: RemoteService | defer.Deferred[RemoteService] | Callable[[], RemoteService],
        expected: type | None = None,
        callers: Callers | None = None,
        reference: ServiceReference | None = None,
    ) -> None:
        self.service: RemoteService | None = None
        self._reference = reference
        self._callers = callers or {}
        self.expected = expected
        self.description: InterfaceSignature | None = None
        self._described_at = 0.0
        #: the only interface at its address, if none is named
        self._only: str | None = None
        self._make: Callable[[], RemoteService] | None = None
        self._reached: OneShot[RemoteService] = OneShot()
        self._describing: OneShot[InterfaceSignature] | None = None
        self._asking: defer.Deferred[Any] | None = None
        self._key: Hashable = None
        self.oneway = OnewayCalls()
        #: methods of proxies, each by its own id. A plain dict, as other threads may make proxies
        #: at any time.
        self._notified: dict[int, weakref.WeakMethod[Callable[[], None]]] = {}
        if isinstance(service, RemoteService):
            self._take_service(service)
        elif isinstance(service, defer.Deferred):
            service.addCallback(self._take_service)
            self._reached.follow(service)
        else:
            self._make = service

    def __repr__(self) -> str:
        where = self.reference
        if where is None:
            return "a service that is not known yet"
        at = f"at {where.address}" if where.address else f"by {where.nameserver}"
        named = f" {where.service}" if where.service else ""
        interface = self.interface or "the only interface"
        return f"{interface}{named} {at}"

    def _take_service(self, service: Any) -> RemoteService:
        if not isinstance(service, RemoteService):
            raise TypeError(f"a proxy is for a service, not {type(service).__name__}")
        self.service = service
        known = known_interface(service.context, service.reference)
        if known is not None and (
            self.expected is None or not differences(self.expected, known.signature)
        ):
            self._take(known)
        return service

    def _take(self, known: KnownInterface) -> None:
        self.description, self._described_at = known.signature, known.at
        if self.interface is None:
            self._only = known.signature.name

    def call_when_described(self, notify: Callable[[], None]) -> None:
        """Call a proxy's bound method at each new description, as long as the proxy lives."""
        notified = self._notified
        method = weakref.WeakMethod(notify, lambda gone: notified.pop(id(gone), None))
        notified[id(method)] = method

    @property
    def interface(self) -> str | None:
        """The interface's name, if it is known."""
        where = self.reference
        if where is not None and where.interface is not None:
            return where.interface
        return self._only

    @property
    def key(self) -> Hashable:
        """Identifies the service: all of one service have the same, from its first use on."""
        if self._key is None:
            self._key = self.reference or id(self)
        return self._key

    @property
    def reference(self) -> ServiceReference | None:
        """What the service is, apart from this process; None while it is not known."""
        return self._reference if self.service is None else self.service.reference

    def reach(self) -> defer.Deferred[RemoteService]:
        """The service: fires with it, or fails as the Deferred that it was made with."""
        if self.service is None and self._make is not None:
            try:
                self._take_service(self._make())
            except Exception:
                return defer.fail()
            self._make = None
        if self.service is not None:
            return defer.succeed(self.service)
        return self._reached.when_fired()

    def describe(self, may_be_old: bool = True) -> defer.Deferred[InterfaceSignature]:
        """The service's description of itself. Calls that need it share one request.

        :param may_be_old: an earlier description will do, however old it is.
        :returns: fires with it; fails as a call does, or with :class:`InterfaceDiffers`. Cancelling
            it cancels the request if nobody else waits for it.
        """
        known = self.description
        if known is not None and (may_be_old or not known.methods or self._is_fresh()):
            return defer.succeed(known)
        if self._describing is not None:
            return self._describing.when_fired()
        describing = self._describing = OneShot(self._give_up)
        waiting = describing.when_fired()
        asking = self._asking = self._ask()
        asking.addBoth(self._asked)
        describing.follow(asking)
        return waiting

    def _is_fresh(self) -> bool:
        assert self.service is not None
        return self.service.context.reactor.seconds() - self._described_at < FRESH

    def _give_up(self) -> None:
        if self._asking is not None:
            self._asking.cancel()

    def _asked(self, result: Any) -> Any:
        self._asking = self._describing = None
        return result

    @deferred
    async def _ask(self) -> InterfaceSignature:
        service = await self.reach()
        name = service.interface
        try:
            said = await service.introspect()
        except ServiceError as problem:
            if problem.code not in UNDESCRIBED:
                raise
            said = {}
        said = said if isinstance(said, dict) else {}
        if name is None and len(said) == 1:
            name = self._only = next(iter(said))  # errors name it
        found = InterfaceSignature.from_map(name or "", said.get(name) if name else None)
        described = KnownInterface(found, service.context.reactor.seconds())
        if found.methods:
            keep_interface(service.context, service.reference, described)
        if self.expected is not None:
            self._compare(self.expected, found)
        self._take(described)
        for method in list(self._notified.values()):
            notify = method()
            if notify is not None:
                notify()
        return found

    def _compare(self, expected: type, found: InterfaceSignature) -> None:
        differing = differences(expected, found)
        if differing:
            lines = "".join(f"\n  {each}" for each in differing)
            raise InterfaceDiffers(
                f"{self} differs from {expected.__qualname__}:{lines}", differing
            )

    def results(self, method: str) -> Callable[..., defer.Deferred[Any]] | None:
        """What calls a method whose result is not simply the service's; None for most methods.

        It is called with the service, the structured arguments and the timeout.
        """
        return self._callers.get((self.interface, method))
