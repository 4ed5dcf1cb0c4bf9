"""Keeps a service registered: renews its lease, and registers again when the lease was lost."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import attrs
from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from pycomnet.deferred import deferred
from pycomnet.errors import (
    CertificateRefused,
    EndpointError,
    InvalidRegistration,
    LeaseLost,
    NameserverError,
    NameserverUnreachable,
    NotLeaseOwner,
    PycomnetError,
    ServiceNameTaken,
    ServiceUnreachable,
    StoreUncertain,
)
from pycomnet.far.live import Live
from pycomnet.net.backoff import retry_policy
from pycomnet.ranges import real
from pycomnet.text.logs import Logger
from pycomnet.wire.values import ValueNotSendable

#: Renewals within the time of a lease: two of them may be lost.
RENEWALS = 3
#: Seconds that one request to the nameserver may take.
CALL_TIMEOUT = 5.0
#: Seconds between tries while the nameserver does not answer: at first, and at most. When a
#: nameserver comes back, its services try again within the latter time, spread over it.
FIRST_DELAY, MOST_DELAY = 0.5, 5.0
#: Seconds added to the wait for a lease's end: clocks differ, and its removal takes a moment.
AFTER_LEASE = 0.5
#: Seconds that unregistering may take. Without it, the lease ends by itself.
UNREGISTER_TIMEOUT = 2.0
#: Errors that trying again does not solve.
HOPELESS = (InvalidRegistration, CertificateRefused, EndpointError, ValueNotSendable)

Policy = Callable[[int], float]


class NameserverProxy(Protocol):
    """A proxy of the nameserver."""

    def invoke(
        self, method: str, args: Any = None, timeout: float | None = None
    ) -> defer.Deferred[Any]:
        """Call a method."""


@attrs.frozen
class ServiceOffer:
    """What is registered.

    :ivar service: its name.
    :ivar interfaces: what it offers.
    :ivar address: where, an endpoint string.
    """

    service: str
    interfaces: tuple[str, ...]
    address: str
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = attrs.field(factory=dict)
    weight: int | None = None


@attrs.frozen
class Lease:
    """The lease of a registration.

    :ivar fence: the fencing token.
    :ivar ttl: seconds that it lasts unless it is renewed.
    """

    lease: int
    secret: str = attrs.field(repr=False)
    fence: int
    ttl: float


class Registration(Live):
    """One service's registration, from :meth:`start` to :meth:`stop`.

    If the nameserver goes and comes back, with or without its records, the lease is renewed, or the
    service registered again, as soon as possible. A registration whose reply was lost is recognised
    by its secret.

    :param nameserver: a proxy that connects by itself, again and again.
    :param wait: wait without limit for the nameserver, and for a name that another service has.
    :param patience: otherwise, seconds to wait for the nameserver.
    :param ttl: seconds of the lease; the nameserver may grant fewer.
    :ivar lease: the current lease; None before, after, and while the nameserver has lost it.
    :ivar failed: fires with the error when it is not registered any more and can't be again.
    """

    log = Logger()

    def __init__(
        self,
        offer: ServiceOffer,
        nameserver: NameserverProxy,
        reactor: IReactorTime,
        wait: bool = False,
        patience: float = 10.0,
        ttl: float = 15.0,
        policy: Policy | None = None,
    ) -> None:
        self.offer = offer
        self.lease: Lease | None = None
        self.failed: defer.Deferred[PycomnetError] = defer.Deferred()
        self._nameserver = nameserver
        self._reactor = reactor
        self._wait = wait
        self._patience = real("patience", patience)
        self._ttl = real("ttl", ttl, above=True)
        self._policy = policy or retry_policy(FIRST_DELAY, MOST_DELAY)
        self._secret = secrets.token_urlsafe(24)
        #: whether the nameserver may have registered it although no answer has arrived
        self._unanswered = False
        #: its standing: what it reports about itself beside the offer
        self._standing: dict[str, Any] = {} if offer.weight is None else {"weight": offer.weight}
        #: the part of it that the nameserver does not have yet
        self._untold: dict[str, Any] = {}
        self._starting: defer.Deferred[Lease] | None = None
        self._keeping: defer.Deferred[None] | None = None

    # -- for the launcher ------------------------------------------------------------------------

    def start(self) -> defer.Deferred[Lease]:
        """Register, and keep the lease renewed.

        :returns: fires when it is registered; fails with :class:`ServiceNameTaken`,
            :class:`NameserverUnreachable`, or the nameserver's refusal (for example, that it is
            full), if that lasts for longer than it waits. Cancelling it gives up.
        """
        self._starting = defer.Deferred.fromCoroutine(self._first())
        return self._starting

    def say(self, **standing: Any) -> None:
        """Have it registered with this standing, once it is."""
        self._standing.update(standing)

    @deferred
    async def adjust(self, **standing: Any) -> bool:
        """Change how it is located: ``weight``, ``draining``, ``failing`` and ``said``.

        Where it is not registered now, it is registered so once it is again. What the nameserver
        was not told is told again with the next renewal.

        :returns: fires with whether the nameserver has it. It does not fail.
        """
        self.say(**standing)
        self._untold.update(standing)
        lease = self.lease
        if lease is None:
            return False
        try:
            told = dict(self._untold)
            given = await self._invoke("adjust", {**self._owner(lease), **told}, UNREGISTER_TIMEOUT)
            fence = given["fence"]
        except defer.CancelledError:
            raise
        except Exception as problem:
            self.log.warn(
                "the nameserver was not told that {service!r} is {standing}: {problem}",
                service=self.offer.service,
                standing=standing,
                problem=problem,
            )
            return False
        self._untold = {
            name: value for name, value in self._untold.items() if told.get(name) != value
        }
        if self.lease is lease:
            self.lease = attrs.evolve(lease, fence=fence)
        return True

    @deferred
    async def stop(self) -> bool:
        """Stop renewing, and unregister.

        :returns: fires with whether the nameserver removed the record. It does not fail: without
            an answer in :data:`UNREGISTER_TIMEOUT` seconds, the record goes when the lease ends.
        """
        for running in (self._starting, self._keeping):
            if running is not None and not running.called:
                running.addErrback(lambda _: None)
                running.cancel()
        lease, self.lease = self.lease, None
        if lease is None and not self._unanswered:
            return False
        try:
            if lease is None:
                # The nameserver may have the record. If asked again, it answers with the lease.
                lease = await self._ask(UNREGISTER_TIMEOUT)
            await self._invoke("unregister", self._owner(lease), UNREGISTER_TIMEOUT)
        except Exception as problem:
            self.log.warn(
                "{service!r} can't be unregistered: {problem}; its lease ends in {ttl:g} s at most",
                service=self.offer.service,
                problem=problem,
                ttl=self._ttl if lease is None else lease.ttl,
            )
            return False
        self.log.info("unregistered {service!r}", service=self.offer.service)
        return True

    # -- at work ---------------------------------------------------------------------------------

    def _invoke(self, method: str, args: Any, timeout: float = CALL_TIMEOUT) -> Any:
        return self._nameserver.invoke(method, args, timeout=timeout)

    def _owner(self, lease: Lease) -> dict[str, Any]:
        return {"lease": lease.lease, "secret": lease.secret}

    async def _ask(self, timeout: float = CALL_TIMEOUT) -> Lease:
        """Ask the nameserver, once, to register the service."""
        offer = self.offer
        request = {
            "service": offer.service,
            "interfaces": list(offer.interfaces),
            "address": offer.address,
            "ttl": self._ttl,
            "metadata": dict(offer.metadata),
            "tags": list(offer.tags),
            # The same each time, so that the record is ours even if an answer was lost.
            "secret": self._secret,
            # Only what is not as usual: a nameserver of before knows nothing of it.
            **{
                name: value
                for name, value in self._standing.items()
                if value is not False and value != ""
            },
        }
        before, self._unanswered = self._unanswered, True
        try:
            given = await self._invoke("register", request, timeout)
        except (ServiceUnreachable, ValueNotSendable):  # the request was not sent
            self._unanswered = before
            raise
        except StoreUncertain:
            raise  # the nameserver has not learned whether it is registered
        except NameserverError:
            self._unanswered = False
            raise
        self._unanswered = False
        return Lease(given["lease"], given["secret"], given["fence"], float(given["ttl"]))

    async def _register(self) -> Lease:
        offer = self.offer
        said = dict(self._standing)
        lease = await self._ask()
        self.lease = lease
        self._untold = {
            name: value for name, value in self._standing.items() if said.get(name) != value
        }
        self.log.info(
            "registered {service!r} at {address}: {interfaces} (lease {lease}, fence {fence}, "
            "{ttl:g} s)",
            service=offer.service,
            address=offer.address,
            interfaces=", ".join(offer.interfaces),
            lease=lease.lease,
            fence=lease.fence,
            ttl=lease.ttl,
        )
        return lease

    async def _first(self) -> Lease:
        lease = await self._insist(None if self._wait else self._patience)
        self._keeping = defer.Deferred.fromCoroutine(self._keep(lease))
        self._keeping.addErrback(self._give_up)
        return lease

    async def _insist(self, patience: float | None) -> Lease:
        """Register, and try again after each error that may pass.

        :param patience: how many seconds to try; None for ever.
        """
        begun = self._reactor.seconds()
        attempt = 0
        waited = False
        while True:
            try:
                return await self._register()
            except HOPELESS:
                raise
            except ServiceNameTaken as taken:
                # Taken at our own address: the former service there has ended, and its lease will.
                # If that lease is renewed, another service runs there, for example behind the same
                # --advertise.
                if patience is not None and (waited or taken.address != self.offer.address):
                    raise
                waited = True
                delay = taken.ttl + AFTER_LEASE
                self._say("waiting for the name {service!r}", taken, delay)
            except Exception as problem:
                delay = self._policy(attempt)
                attempt += 1
                if patience is not None:
                    left = begun + patience - self._reactor.seconds()
                    if left <= 0 and isinstance(problem, NameserverError):
                        raise  # the nameserver answers, with this refusal
                    if left <= 0:
                        raise NameserverUnreachable(
                            f"no answer from the nameserver in {patience:g} seconds: {problem}"
                        ) from problem
                    delay = min(delay, left)
                self._say("can't register {service!r}", problem, delay)
            await deferLater(self._reactor, delay)

    def _say(self, what: str, problem: Exception, delay: float) -> None:
        self.log.warn(
            what + ": {problem}; trying again in {delay:.1f} s",
            service=self.offer.service,
            problem=problem,
            delay=delay,
        )

    async def _keep(self, lease: Lease) -> None:
        """Renew the lease for ever; register again when it is lost."""
        attempt = 0
        delay = lease.ttl / RENEWALS
        while True:
            await deferLater(self._reactor, delay)
            try:
                within = min(CALL_TIMEOUT, lease.ttl / RENEWALS)
                await self._invoke("renew", self._owner(lease), within)
            except (LeaseLost, NotLeaseOwner) as lost:
                self.lease = None
                self.log.warn(
                    "the nameserver has lost {service!r} ({lost}): registering it again",
                    service=self.offer.service,
                    lost=lost,
                )
                # It was registered before, so it waits for the nameserver however long that takes.
                lease = await self._insist(None if self._wait else float("inf"))
                attempt, delay = 0, lease.ttl / RENEWALS
            except Exception as problem:
                delay = min(self._policy(attempt), lease.ttl / RENEWALS)
                attempt += 1
                self._say("can't renew the lease of {service!r}", problem, delay)
            else:
                if attempt:
                    self.log.info("{service!r} is renewed again", service=self.offer.service)
                attempt, delay = 0, lease.ttl / RENEWALS
                if self._untold:
                    await self.adjust()

    def _give_up(self, failure: Failure) -> None:
        if failure.check(defer.CancelledError):
            return
        self.lease = None
        problem = failure.value
        if not isinstance(problem, PycomnetError):
            self.log.failure("can't keep the registration", failure)
            problem = PycomnetError(str(problem))
        self.failed.callback(problem)
