"""The server: services in it, listeners, and the calls that run."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet import defer
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater

from pycomnet.auth.unauthenticated import UnauthenticatedConnections
from pycomnet.channels.memory import MemoryAccount
from pycomnet.deferred import Condition, deferred
from pycomnet.errors import (
    CallInterrupted,
    PycomnetError,
    Unauthenticated,
)
from pycomnet.far.live import Live
from pycomnet.net import endpoints
from pycomnet.net.reactors import EndpointReactor
from pycomnet.services.client.context import Context
from pycomnet.services.interface import INTROSPECTION, Service, describe, interface, method
from pycomnet.services.server.accessgate import AccessGate, find_rule
from pycomnet.services.server.batchturns import BatchTurns
from pycomnet.services.server.boundmethod import BoundMethod
from pycomnet.services.server.calls import ServerCalls
from pycomnet.services.server.connection import ServerConnection
from pycomnet.services.server.limits import ServerLimits
from pycomnet.services.server.oncememory import OnceMemory
from pycomnet.services.server.request import Request
from pycomnet.services.server.sessions import ClientSession, Sessions
from pycomnet.text.logs import Logger
from pycomnet.wire.mux import Limits

log = Logger()

#: Seconds without a call after which a server that drains is at its end.
QUIET = 0.25


@interface(INTROSPECTION)
class _Introspection(Service):
    """What runs here."""

    def __init__(self, server: ServiceServer) -> None:
        self._server = server

    @method("introspect", idempotent=True)
    def introspect(self, request: Any) -> dict[str, Any]:
        """The interfaces of all services, their methods, and the documentation of each."""
        return describe(*self._server.services, caller=request.connection.caller)

    @method("stat", idempotent=True)
    def stat(self, request: Any) -> dict[str, Any]:
        """How the server is: its clients, what it does for them, and what it holds in memory.

        Where there are access rules, that is for users, and for who is on this machine.
        """
        connection = request.connection
        if connection.caller is not None and not (connection.logins or connection.is_local):
            raise Unauthenticated("stat is for users of this server", "missing")
        return self._server.stat()


class ServiceServer(ServerCalls, Live):
    """Serves services to callers.

    :param reactor: what it listens with.
    :param context: the context for calls of its services; by default one without a nameserver.
    :param limits: limits on its clients.
    :param tracebacks: whether callers get the tracebacks of errors in methods; by default, callers
        on this machine do.
    :param threads: a thread pool for methods with ``thread=True``; by default one of its own, whose
        threads don't keep the process from ending.
    :param access: who may call what: a :class:`pycomnet.ext.access.AccessControl`. By default
        there is one as soon as a service has a rule.
    """

    reactor: EndpointReactor

    def __init__(
        self,
        reactor: EndpointReactor,
        *,
        context: Context | None = None,
        limits: ServerLimits | None = None,
        tracebacks: bool | None = None,
        threads: Any = None,
        access: AccessGate | None = None,
    ) -> None:
        super().__init__(reactor, limits or ServerLimits(), threads)
        self.services: list[Service] = []
        self.connections: set[ServerConnection] = set()
        self.unauthenticated = UnauthenticatedConnections(reactor)
        self.memory = MemoryAccount(reactor, self.limits.channel_memory, self.limits.memory)
        self._own_context = context is None
        self._context = context
        self._tracebacks = tracebacks
        self._stateful: set[str] = set()
        #: the interfaces of services that are being added
        self._adding: set[str] = set()
        self._sessions = Sessions(self.limits.sessions, reactor)
        self._hello: dict[str, Any] | None = None
        self._ports: list[Any] = []
        #: notified when no connection is left
        self._all_gone = Condition()
        self._wire_limits = Limits(
            channels=self.limits.channels, value=self.limits.request, items=self.limits.items
        )
        self.batches = BatchTurns(reactor)
        #: what is kept for repetitions, once there is a method with ``once``
        self.once: OnceMemory | None = None
        self.gate: AccessGate | None = None
        if access is not None:
            self._set_gate(access)
        self._bind(_Introspection(self))

    @property
    def context(self) -> Context:
        """What its services call others with."""
        if self._context is None:
            self._context = Context(self.reactor)
        return self._context

    # -- services and listeners ------------------------------------------------------------------

    @deferred
    async def add(self, service: Service) -> None:
        """Add a service.

        :returns: fires when its ``started`` has; at once if that does not wait. Cancelling it
            cancels that, and the service is not added.
        :raises PycomnetError: it has no interface, or one that another service here has.
        """
        if not service.interfaces:
            raise PycomnetError(f"{type(service).__qualname__} has no interface: use @interface")
        for name in service.interfaces:
            if name in self.methods or name in self._adding:
                raise PycomnetError(f"there is a service with the interface {name!r} here already")
        self._adding.update(service.interfaces)
        try:
            self._guard(service)
            started = service.started(self)
            if inspect.isawaitable(started):
                await started
        finally:
            self._adding.difference_update(service.interfaces)
        self._bind(service)
        self.services.append(service)
        self._hello = None

    def _set_gate(self, gate: AccessGate) -> None:
        self.gate = gate
        self._hello = None
        gate.attach(self)
        for one in self.services:
            gate.add(one)
        for connection in list(self.connections):
            connection.ask_gate()

    def _guard(self, service: Service) -> None:
        """Have access control know the rules of a service that is added."""
        if self.gate is None:
            rule = find_rule(service)
            if rule is None:
                return
            self._set_gate(rule.make_gate(self))
        assert self.gate is not None
        self.gate.add(service)

    def _bind(self, service: Service) -> None:
        for name, declared in service.interfaces.items():
            bound = {}
            for called, found in declared.methods.items():
                function = getattr(service, found.attribute)
                if found.once:
                    self.once = self.once or OnceMemory(self)
                    function = self.once.bind(found, function, self._threads.run)
                    found = attrs.evolve(found, thread=False)
                direct = not (found.thread or found.stream)
                bound[called] = BoundMethod(found, function, direct, found.args is not None)
            self.methods[name] = bound
            if declared.stateful:
                self._stateful.add(name)

    def functions(self) -> dict[str, dict[str, Callable[[Request], Any]]]:
        """What is called for each method: interface -> name -> function."""
        return {
            interface: {name: bound.function for name, bound in methods.items()}
            for interface, methods in list(self.methods.items())
        }

    def hello(self) -> dict[str, Any]:
        """The application's part of this server's hello."""
        if self._hello is None:
            interfaces = self.announced(None if self.gate is None else self.gate.sees)
            self._hello = {
                "services": interfaces,
                "request": self.limits.request,
                "batch": self.limits.most_batched,
                "run": self.limits.longest_run,
            }
            if self.gate is not None:
                self._hello["login"] = self.gate.kinds()
            if len(repr(self._hello)) > 50_000:  # the size of a hello is limited
                short = {name: {"stateful": one["stateful"]} for name, one in interfaces.items()}
                self._hello["services"] = short if len(repr(short)) < 50_000 else {}
        if self.once is not None:
            self._hello["once"] = self.once.name
        return self._hello

    def announced(self, sees: Callable[[str, str], bool] | None) -> dict[str, Any]:
        """The interfaces, as the hello has them.

        :param sees: whether the client may know of a method of an interface; None: of all.
        """
        found = {}
        for service in self.services:
            for name, declared in service.interfaces.items():
                if sees is None or any(sees(name, method) for method in declared.methods):
                    found[name] = declared.announce(sees)
        return found

    @deferred
    async def listen(self, description: str, host: str | None = None) -> str:
        """Listen for clients.

        :param description: a listener's endpoint string; see
            :func:`pycomnet.net.endpoints.server_endpoint`.
        :param host: the name or number that clients reach this machine by.
        :returns: fires with the address to connect to. Fails with
            :class:`~pycomnet.errors.EndpointError`: for an address that is in use, say. Cancelling
            it leaves nothing listening.
        """
        if self.leaving:
            raise PycomnetError("the server is closed")
        if self.gate is not None:
            self.gate.check_names()
        port = await endpoints.listen(self.reactor, description, _ServerFactory(self))
        self._ports.append(port)
        return endpoints.client_string(port, description, host)

    def connected(self) -> ServerConnection | None:
        """The server's end for a new client; None when there are too many."""
        if len(self.connections) >= self.limits.connections or self.leaving:
            return None
        connection = ServerConnection(self, self._wire_limits, self.limits.keepalive)
        self.connections.add(connection)
        return connection

    def stat(self) -> dict[str, Any]:
        """How it is: clients, calls, and memory, in bytes."""
        waiting = self.unauthenticated
        return {
            "connections": len(self.connections),
            "unauthenticated": {"now": len(waiting), "dropped": waiting.dropped},
            "calls": {"running": self.running, "waiting": len(self._queue)},
            "requests": {"held": self.held.size, "most": self.held.most},
            "memory": self.memory.as_map(),
        }

    def disconnected(self, connection: ServerConnection) -> None:
        """A client's connection is over."""
        self.connections.discard(connection)
        if self.gate is not None:
            self.gate.disconnected(connection)
        if not self.connections:
            self._all_gone.notify_all()

    @deferred
    async def drain(self, timeout: float) -> None:
        """Let callers go to other instances: calls are still taken, and their answers say so.

        :param timeout: seconds that it takes at most.
        :returns: fires when no call runs, no request has come in part, and no call has come for
            :data:`QUIET` seconds; at once if there is no client. Cancelling it ends that.
        """
        self.draining = self.ending = True
        ends = self.reactor.seconds() + timeout
        self._began = self.reactor.seconds()
        while self.connections and not self.leaving:
            now = self.reactor.seconds()
            # Subscriptions stay open until the server closes.
            if any(not call.fed for call in self._active) or any(
                connection.long for connection in self.connections
            ):
                self._began = now
            if now >= ends or now - self._began >= QUIET:
                return
            await deferLater(self.reactor, min(QUIET, ends - now))

    @deferred
    async def close(self, timeout: float = 5.0) -> None:
        """Stop: take no more calls, let those that run finish, and end.

        :param timeout: seconds that the calls have; then they are cancelled.
        :returns: fires when nothing listens and runs any more. Cancelling it cancels the calls.
        """
        self.leaving = self.ending = True
        self.draining = False
        ports, self._ports = self._ports, []
        for port in ports:
            await port.stopListening()
        self.end_feeds(_interrupted("the server ended while the stream went on"))
        if self._active:
            with contextlib.suppress(defer.TimeoutError, defer.CancelledError):
                await self._idle.wait().addTimeout(timeout, self.reactor)
        for call in list(self._active):
            call.cancel(_interrupted("the server ended while the call was under way"))
        if self.connections:
            gone = self._all_gone.wait()
            for connection in list(self.connections):
                connection.goodbye()
            await gone
        for service in reversed(self.services):
            try:
                stopped = service.stopped()
                if inspect.isawaitable(stopped):
                    await stopped
            except (Exception, SystemExit, KeyboardInterrupt):
                log.failure("{service} did not stop well", service=type(service).__qualname__)
        for name, seconds in self._threads.still_running():
            log.warn(
                "{method} still runs in its thread, after {seconds:.1f} s: it is left there",
                method=name,
                seconds=seconds,
            )
        self._threads.close()
        self._deadlines.close()
        self.batches.close()
        self._sessions.close()
        if self.gate is not None:
            self.gate.close()
        self.memory.stop()
        if self._own_context and self._context is not None:
            await self._context.close()

    def make_room(self) -> None:
        """Refuse incomplete requests of the clients that hold most, until there is room."""
        while self.held.is_full() and self.held.partial:
            largest = max(self.connections, key=lambda one: one.partial)
            if not largest.long:
                return
            largest.drop_newest()

    def shows_tracebacks(self, connection: ServerConnection) -> bool:
        """Whether a client may see tracebacks."""
        return connection.is_local if self._tracebacks is None else self._tracebacks

    def session(self, connection: ServerConnection, interface: str, logins: Any) -> ClientSession:
        """A client's session with an interface.

        :param logins: the client's, when the call began.
        """
        if interface not in self._stateful:
            raise PycomnetError(f"{interface} is not stateful: it has no sessions")
        gate = self.gate
        identity = None if gate is None or logins is None else gate.identity(logins)
        return self._sessions.get((interface, connection.client, connection.user, identity))


def _interrupted(text: str) -> CallInterrupted:
    """The error of a call whose method has begun."""
    problem = CallInterrupted(text)
    problem.of_call = False  # the caller's own call is interrupted, not one that the method made
    return problem


class _ServerFactory(Factory):
    noisy = False

    def __init__(self, server: ServiceServer) -> None:
        self.server = server

    def buildProtocol(self, address: Any) -> ServerConnection | None:
        return self.server.connected()
