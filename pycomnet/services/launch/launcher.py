"""Runs services in this process: listens, registers and unregisters them."""

from __future__ import annotations

import contextlib
import secrets
import socket
from collections.abc import Callable, Iterable
from typing import Any

import attrs
from twisted.application import service
from twisted.internet import defer
from twisted.internet.interfaces import IReactorThreads
from twisted.python.failure import Failure

from pycomnet.deferred import deferred
from pycomnet.errors import (
    EndpointError,
    LaunchFailed,
    PycomnetError,
    ServiceNameTaken,
    message_of,
)
from pycomnet.net import endpoints
from pycomnet.net.addresslist import are_local_clients
from pycomnet.net.destinations import foreign_address
from pycomnet.net.reactors import EndpointReactor
from pycomnet.services.client.context import Context
from pycomnet.services.client.instances import ADDRESSES
from pycomnet.services.health import checks_of
from pycomnet.services.interface import Service
from pycomnet.services.launch.blocked import BlockWatch, codes
from pycomnet.services.launch.config import Entry, LaunchConfig
from pycomnet.services.launch.health import HealthChecks
from pycomnet.services.launch.loading import load
from pycomnet.services.launch.registration import (
    RENEWALS,
    NameserverProxy,
    Policy,
    Registration,
    ServiceOffer,
)
from pycomnet.services.server.accessgate import AccessGate
from pycomnet.services.server.server import ServiceServer
from pycomnet.services.threads import MethodThreads, in_thread
from pycomnet.text.logs import Logger

#: Seconds that running calls have to end at a clean stop.
CLOSE_TIMEOUT = 5.0
#: ... and those that were begun late in a long drain.
AFTER_DRAIN = 1.0
#: Checks that block at a time: one that hangs keeps its thread.
MOST_CHECKS = 16
#: Random bytes in a generated name, and how many names are tried if one is taken.
NAME_BYTES = 4
NAME_TRIES = 3


@attrs.frozen
class Loaded:
    """A service, and its entry in the configuration."""

    entry: Entry
    service: Service

    @property
    def full_name(self) -> str:
        """Its module and class, as they can be named."""
        cls = type(self.service)
        return f"{cls.__module__}:{cls.__qualname__}"


def load_all(entries: Iterable[Entry]) -> list[Loaded]:
    """Import the modules and make their services.

    :raises ServiceNotLoaded: one can't be; two offer the same interface.
    """
    loaded = [
        Loaded(entry, made) for entry in entries for made in load(entry.module, entry.options)
    ]
    seen: dict[str, Loaded] = {}
    for one in loaded:
        for name in one.service.interfaces:
            other = seen.setdefault(name, one)
            if other is not one:
                if other.full_name == one.full_name:
                    raise LaunchFailed(f"{one.full_name} is to be run twice: name it once")
                raise LaunchFailed(
                    f"{other.full_name} and {one.full_name} both offer {name!r}: name the one that "
                    f"is to run as MODULE:CLASS, or run them in a process each"
                )
    return loaded


def generated_name(services: Iterable[Loaded]) -> str:
    """Generate a name for services without one: their module's name and a random part."""
    first = next(iter(services)).entry.module.partition(":")[0].rpartition(".")[2]
    return f"{first}-{secrets.token_hex(NAME_BYTES)}"


def advertised(address: str, advertise: str | None) -> str:
    """The address to register.

    :param address: what is listened on, as clients of this machine would connect to it.
    :param advertise: the whole address that others use instead, where a port of 0 stands for the
        one that is listened on, or only its host.
    :raises EndpointError: it is neither, or nobody could connect there.
    """
    if advertise is None:
        return address
    listened = endpoints.parse(address)
    if ":" in advertise and not endpoints.is_number(advertise):
        wanted = endpoints.parse(advertise)
        if wanted.args[1:2] == ("0",) and listened.kind != "unix":
            wanted = attrs.evolve(wanted, args=(wanted.args[0], *listened.args[1:]))
    elif listened.kind == "unix":
        raise EndpointError(f"{advertise!r} can't stand for a host in {address!r}")
    else:
        wanted = attrs.evolve(listened, args=(advertise, *listened.args[1:]))
    endpoints.check_client(str(wanted))
    if foreign_address(str(wanted)) != str(wanted):
        raise EndpointError(
            f"'{wanted}': clients take no options from a record, as files and the name to verify "
            "are for them to say (trust_roots=, --trust-roots): advertise the host and port alone"
        )
    return str(wanted)


def all_advertised(addresses: list[str], advertise: str | None) -> list[str]:
    """The addresses to register: first those that others can reach.

    :param addresses: what is listened on.
    :param advertise: as :func:`advertised` takes it; a whole address stands for all of them.
    :raises EndpointError: as there.
    """
    addresses = sorted(addresses, key=endpoints.is_local_client)
    first = advertised(addresses[0], advertise)
    if advertise is None:
        return addresses
    if ":" in advertise and not endpoints.is_number(advertise):
        return [first]
    more = [one for one in addresses[1:] if endpoints.parse(one).kind != "unix"]
    return list(dict.fromkeys([first, *(advertised(one, advertise) for one in more)]))


def _numbers(host: str) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def launch(
    config: LaunchConfig,
    loaded: list[Loaded],
    reactor: EndpointReactor,
    failed: Callable[[PycomnetError], object],
    access: AccessGate | None = None,
    credentials: Any = None,
    trust_roots: str | None = None,
) -> Launcher:
    """A launcher that logs what blocks the reactor, after a third of a lease at most."""

    def methods() -> Any:
        return codes(made.server.functions())

    watch = BlockWatch(reactor, methods, config.ttl / RENEWALS)
    made = Launcher(
        config,
        loaded,
        reactor,
        failed,
        watch=watch,
        access=access,
        credentials=credentials,
        trust_roots=trust_roots,
    )
    return made


class Launcher(service.Service):
    """The services of one process, from start to stop, as a service of a Twisted application.

    They run before they are registered, and are unregistered before they end. Each name is one
    registration, with all the interfaces of the services of that name.

    :param loaded: the services, as :func:`load_all` makes them.
    :param failed: called at most once, with the error that keeps them from running; also later, if
        another service has taken the name in the meantime.
    :param policy: seconds between tries; for tests.
    :param nameserver: the nameserver's proxy; for tests.
    :param watch: logs what blocks the reactor; started and stopped with the launcher.
    :param resolve: looks up a host's IP addresses, in a thread; for tests.
    :param access: who may call what; by default it goes by the services' rules, if they have any.
    :param credentials: what the nameserver gets, and services that these services call.
    :param trust_roots: the authorities of their certificates; by default the system's.
    :ivar addresses: the addresses that it listens on.
    :ivar registrations: one for each name.
    """

    log = Logger()

    def __init__(
        self,
        config: LaunchConfig,
        loaded: list[Loaded],
        reactor: EndpointReactor,
        failed: Callable[[PycomnetError], object],
        policy: Policy | None = None,
        nameserver: NameserverProxy | None = None,
        resolve: Callable[[str], list[str]] = _numbers,
        watch: BlockWatch | None = None,
        access: AccessGate | None = None,
        credentials: Any = None,
        trust_roots: str | None = None,
    ) -> None:
        #: the context in which the services call other services; it has the nameserver
        self.context = Context(
            reactor,
            nameserver=config.nameserver,
            credentials=credentials,
            nameserver_credentials=credentials,
            trust_roots=trust_roots,
        )
        self.server = ServiceServer(reactor, context=self.context, access=access)
        self.addresses: list[str] = []
        self.registrations: list[Registration] = []
        self._config = config
        self._loaded = loaded
        self._reactor = reactor
        self._failed = failed
        self._policy = policy
        self._nameserver = nameserver
        self._resolve = resolve
        self._watch = watch
        self._listening: defer.Deferred[None] | None = None
        self._starting: defer.Deferred[None] | None = None
        self._draining: defer.Deferred[None] | None = None
        self._closing: defer.Deferred[None] | None = None
        self._is_hurried = False
        self._checks: list[HealthChecks] = []
        self._threads = MethodThreads(reactor, MOST_CHECKS)

    # -- what Twisted's application calls --------------------------------------------------------

    def privilegedStartService(self) -> None:
        """Listen, while this process may have root's rights.

        :raises PycomnetError: it is already known that this is impossible.
        """
        self._listening = listening = defer.Deferred.fromCoroutine(self._listen())
        if listening.called and isinstance(listening.result, Failure):
            failure = listening.result
            listening.addErrback(lambda _: None)
            failure.raiseException()

    def startService(self) -> None:
        """Listen, unless that is done, and register."""
        super().startService()
        if self._listening is None:
            self.privilegedStartService()
        if self._watch is not None:
            self._watch.start()
        self._starting = defer.Deferred.fromCoroutine(self._start())
        self._starting.addErrback(self._give_up)

    @deferred
    async def stopService(self) -> None:
        """Drain, take the services out of the nameserver, let calls end, and close.

        Draining, they are listed and not located, and still take calls; see
        :meth:`ServiceServer.drain`. :meth:`hurry` ends that.

        :returns: fires when all is closed, after some seconds at most. It does not fail.
        """
        super().stopService()
        if self._watch is not None:
            self._watch.stop()
        if self._starting is not None:
            self._starting.cancel()
        for checks in self._checks:
            checks.stop()
        begun = self._reactor.seconds()
        if self._config.drain and not self._is_hurried:
            self._draining = defer.Deferred.fromCoroutine(self._drain())
            with contextlib.suppress(defer.CancelledError):
                await self._draining
        stopping = [registration.stop() for registration in self.registrations]
        await defer.DeferredList(stopping, consumeErrors=True)
        # What was begun while it drained has a moment, too.
        left = max(AFTER_DRAIN, CLOSE_TIMEOUT - (self._reactor.seconds() - begun))
        closing = self.server.close(0.0 if self._is_hurried else left)
        self._closing = closing
        await closing
        await self.context.close()
        self._threads.close()
        self.log.info("all services have ended")

    async def _drain(self) -> None:
        telling = [one.adjust(draining=True) for one in self.registrations if one.lease is not None]
        ends = self._reactor.seconds() + self._config.drain
        if telling:
            self.log.info("draining, for {seconds:g} s at most", seconds=self._config.drain)
            await defer.DeferredList(telling, consumeErrors=True)
        if self._is_hurried:
            return
        await self.server.drain(max(0.0, ends - self._reactor.seconds()))

    def hurry(self) -> None:
        """End at once: do not wait for calls any longer, once it is to stop."""
        self._is_hurried = True
        for waiting in (self._draining, self._closing):
            if waiting is not None and not waiting.called:
                waiting.cancel()

    # -- starting --------------------------------------------------------------------------------

    async def _listen(self) -> None:
        for one in self._loaded:
            await self.server.add(one.service)
        self._check_exposure()
        for description in self._config.listen:
            self.addresses.append(await self.server.listen(description))
        offered = self.addresses
        if self._config.nameserver is None:  # nobody else says what others connect to
            offered = all_advertised(offered, self._config.advertise)
        for one in self._loaded:
            self.log.info(
                "{module} offers {interfaces} at {addresses}",
                module=type(one.service).__qualname__,
                interfaces=", ".join(one.service.interfaces),
                addresses=", ".join(offered),
            )

    def _check_exposure(self) -> None:
        """Refuse to let everybody call what has no rule.

        :raises LaunchFailed: other machines could, and that was not asked for.
        """
        readable = self._config.readable
        if not readable or self._config.insecure:
            return
        gate = self.server.gate
        unruled = [name for one in self._loaded for name in one.service.interfaces]
        if gate is not None:
            unruled = gate.unruled()
        if unruled:
            raise LaunchFailed(
                f"{readable[0]!r} can be reached from other machines, without TLS, and "
                f"{unruled[0]} has no access rule: everybody there could call it. Give it a rule "
                "(pycomnet.ext.access) and listen with TLS, listen on "
                "tcp:PORT:interface=127.0.0.1 or unix:PATH, or say --insecure"
            )
        self.log.warn(
            "nobody can log in over {address} from other machines: credentials are sent over TLS",
            address=readable[0],
        )

    async def _start(self) -> None:
        if self._listening is not None:
            await self._listening
        if self._config.nameserver is None:
            self.log.info("not registered anywhere: there is no nameserver")
            return
        addresses = all_advertised(self.addresses, self._config.advertise)
        self._warn_if_unreachable(addresses)
        self.log.info("the nameserver is {address}", address=self._config.nameserver)
        nameserver = self._nameserver or await self.context.nameserver()
        # All at the same time: a service that waits for a taken name does not delay the others.
        registering = [
            defer.Deferred.fromCoroutine(self._register(name, members, addresses, nameserver))
            for name, members in self._by_name().items()
        ]
        try:
            await defer.gatherResults(registering, consumeErrors=True)
        except defer.FirstError as first:
            problem: Any = first.subFailure.value
            raise problem from None

    def _warn_if_unreachable(self, addresses: list[str]) -> None:
        """Log a warning if clients on other machines can't use what is registered."""
        assert self._config.nameserver is not None
        reach = [one for one in addresses if not endpoints.is_local_client(one)]
        if not reach:
            text = "only programs on this machine can reach {address}"
            if are_local_clients(self._config.nameserver):
                self.log.info(text, address=", ".join(addresses))
            else:
                text += ", and the nameserver is elsewhere: say --listen tcp:PORT, or --advertise"
                self.log.warn(text, address=", ".join(addresses))
        elif self._config.advertise is None:
            host = endpoints.parse(reach[0]).argument(0, "host")
            if host == socket.gethostname():  # the address to listen on names no interface
                looking = in_thread(IReactorThreads(self._reactor), self._resolve, host)
                looking.addBoth(self._warn_of_name, host)

    def _warn_of_name(self, found: Any, host: str) -> None:
        numbers = found if isinstance(found, list) else []
        if all(endpoints.is_loopback(one) for one in numbers):
            self.log.warn(
                "{host} is registered as this machine's name, and {what}: others may not reach it; "
                "say --advertise HOST",
                host=host,
                what=f"here it means {', '.join(numbers)}" if numbers else "it can't be resolved",
            )

    def _by_name(self) -> dict[str | None, list[Loaded]]:
        """The services by the name that they are registered as; None is for a generated one."""
        found: dict[str | None, list[Loaded]] = {}
        for one in self._loaded:
            found.setdefault(one.entry.name or self._config.name, []).append(one)
        return found

    async def _first_checks(
        self, name: str | None, members: list[Loaded], tell: Callable[[bool, str], object]
    ) -> HealthChecks | None:
        """The services' own checks, once each was called; None if there is none."""
        found = [each for one in members for each in checks_of(one.service)]
        if not found:
            return None
        shown = name or members[0].full_name
        checks = HealthChecks(shown, found, tell, self._reactor, self._threads)
        self._checks.append(checks)
        await checks.first()
        if checks.failing:
            self.log.warn("the check of {name} fails: {said}", name=shown, said=checks.said or "-")
        return checks

    async def _register(
        self,
        name: str | None,
        members: list[Loaded],
        addresses: list[str],
        nameserver: NameserverProxy,
    ) -> None:
        registration: Registration | None = None

        def tell(failing: bool, said: str) -> None:
            if registration is not None:
                registration.adjust(failing=failing, said=said)

        checks = await self._first_checks(name, members, tell)
        for left in reversed(range(NAME_TRIES)):
            offer = ServiceOffer(
                service=name or generated_name(members),
                interfaces=tuple(name for one in members for name in one.service.interfaces),
                address=addresses[0],
                tags=tuple(dict.fromkeys(tag for one in members for tag in one.entry.tags)),
                metadata={
                    **({ADDRESSES: addresses} if len(addresses) > 1 else {}),
                    **{key: value for one in members for key, value in one.entry.metadata.items()},
                },
                weight=next(
                    (one.entry.weight for one in members if one.entry.weight is not None), None
                ),
            )
            registration = Registration(
                offer,
                nameserver,
                self._reactor,
                wait=self._config.wait,
                patience=self._config.patience,
                ttl=self._config.ttl,
                policy=self._policy,
            )
            if checks is not None:
                registration.say(failing=checks.failing, said=checks.said)
            self.registrations.append(registration)
            registration.failed.addCallback(self._lost)
            try:
                await registration.start()
            except ServiceNameTaken:
                if name is not None or not left:
                    raise
                self.registrations.remove(registration)
            else:
                if checks is not None:
                    checks.start()
                return

    # -- failing ---------------------------------------------------------------------------------

    def _give_up(self, failure: Failure) -> None:
        if failure.check(defer.CancelledError) and not self.running:
            return
        problem: Any = failure.value
        if not isinstance(problem, PycomnetError):
            self.log.failure("the launcher failed", failure)
            problem = LaunchFailed(message_of(problem))
        self._failed(problem)

    def _lost(self, problem: PycomnetError) -> None:
        self._failed(LaunchFailed(f"the registration is lost: {problem}"))
