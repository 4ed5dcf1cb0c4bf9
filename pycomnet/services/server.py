"""The server: services in it, listeners, and the calls that run."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable
from functools import partial
from types import CoroutineType
from typing import Any

import attrs
from twisted.internet import defer
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from pycomnet import endpoints
from pycomnet.deferred import deferred
from pycomnet.errors import (
    CallInterrupted,
    DeadlineExceeded,
    InvalidArguments,
    Overloaded,
    PycomnetError,
    ServerLeaving,
    UnknownInterface,
    UnknownMethod,
)
from pycomnet.services.binary import Binary
from pycomnet.services.blocks import Incoming
from pycomnet.services.context import Context
from pycomnet.services.deadlines import Deadlines
from pycomnet.services.interface import INTROSPECTION, Method, Service, describe, interface, method
from pycomnet.services.request import Call, Request
from pycomnet.services.serverlimits import Held, ServerLimits
from pycomnet.services.serverside import ServerConnection
from pycomnet.services.sessions import Session, Sessions
from pycomnet.services.streaming import InThread, send_all
from pycomnet.services.tasks import CANCELLED, Tasks
from pycomnet.services.threads import MethodThreads
from pycomnet.wire.mux import Limits
from pycomnet.wire.values import InvalidValue

log = Logger()


@interface(INTROSPECTION)
class _Introspection(Service):
    """What runs here."""

    def __init__(self, server: ServiceServer) -> None:
        self._server = server

    @method("introspect", idempotent=True)
    def introspect(self, request: Any) -> dict[str, Any]:
        """The interfaces of all services, their methods, and what is written on each."""
        return describe(*self._server.services)


@attrs.define
class _Bound:
    """A method of a service that was added.

    :ivar direct: whether it is called at once and may return its result, no stream.
    :ivar checked: whether its arguments are compared with what it declares.
    """

    method: Method
    function: Callable[[Request], Any]
    direct: bool
    checked: bool


class ServiceServer:
    """Services, and what listens for calls of their methods.

    :param reactor: what it listens with.
    :param context: what its services call others with; by default one without a nameserver.
    :param limits: what clients are allowed.
    :param tracebacks: whether callers get the traceback of what a method raises; by default those
        on this machine do.
    :param threads: a thread pool for methods with ``thread=True``; by default one of its own, whose
        threads don't keep the process from ending.
    """

    def __init__(
        self,
        reactor: Any,
        *,
        context: Context | None = None,
        limits: ServerLimits | None = None,
        tracebacks: bool | None = None,
        threads: Any = None,
    ) -> None:
        self.reactor = reactor
        self.limits = limits or ServerLimits()
        self.services: list[Service] = []
        self.connections: set[ServerConnection] = set()
        self._own_context = context is None
        self._context = context
        self._tracebacks = tracebacks
        #: interface -> name -> method
        self.methods: dict[str, dict[str, _Bound]] = {}
        self._stateful: set[str] = set()
        self._sessions = Sessions(self.limits.sessions, reactor)
        self._hello: dict[str, Any] | None = None
        self._ports: list[Any] = []
        self._deadlines = Deadlines(reactor)
        self.tasks = Tasks(reactor)
        self._threads = MethodThreads(reactor, self.limits.threads, threads)
        #: how many calls run that did not return at once
        self.running = 0
        self.held = Held(self.limits.held)
        self._active: set[Call] = set()
        self._queue: deque[tuple[Call, list[Any]]] = deque()
        #: whether it takes no more calls
        self.leaving = False
        #: fire when no call is left, and no connection
        self._idle: defer.Deferred[None] | None = None
        self._emptied: defer.Deferred[None] | None = None
        self._wire_limits = Limits(channels=self.limits.channels, value=self.limits.request)
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
            if name in self.methods:
                raise PycomnetError(f"there is a service with the interface {name!r} here already")
        started = service.started(self)
        if inspect.isawaitable(started):
            await started
        self._bind(service)
        self.services.append(service)
        self._hello = None

    def _bind(self, service: Service) -> None:
        for name, declared in service.interfaces.items():
            bound = {}
            for called, found in declared.methods.items():
                function = getattr(service, found.attribute)
                direct = not (found.thread or found.stream)
                bound[called] = _Bound(found, function, direct, found.args is not None)
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
        """What a connection's hello says of this end."""
        if self._hello is None:
            interfaces = {
                name: declared.announce()
                for service in self.services
                for name, declared in service.interfaces.items()
            }
            self._hello = {"services": interfaces, "request": self.limits.request}
            if len(repr(self._hello)) > 50_000:  # a hello has a limit
                short = {name: {"stateful": one["stateful"]} for name, one in interfaces.items()}
                self._hello["services"] = short if len(repr(short)) < 50_000 else {}
        return self._hello

    @deferred
    async def listen(self, description: str, host: str | None = None) -> str:
        """Listen for clients.

        :param description: a listener's endpoint string; see
            :func:`pycomnet.endpoints.server_endpoint`.
        :param host: the name or number that clients reach this machine by.
        :returns: fires with the address to connect to. Fails with
            :class:`~pycomnet.errors.EndpointError`: for an address that is in use, say. Cancelling
            it leaves nothing listening.
        """
        if self.leaving:
            raise PycomnetError("the server is closed")
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

    def disconnected(self, connection: ServerConnection) -> None:
        """A client's connection is over."""
        self.connections.discard(connection)
        if self._emptied is not None and not self.connections:
            self._emptied.callback(None)
            self._emptied = None

    @deferred
    async def close(self, timeout: float = 5.0) -> None:
        """Stop: take no more calls, let those that run finish, and end.

        :param timeout: seconds that the calls have; then they are cancelled.
        :returns: fires when nothing listens and runs any more. Cancelling it cancels the calls.
        """
        self.leaving = True
        ports, self._ports = self._ports, []
        for port in ports:
            await port.stopListening()
        if self._active:
            self._idle = defer.Deferred()
            self._idle.addTimeout(timeout, self.reactor)
            try:
                await self._idle
            except (defer.TimeoutError, defer.CancelledError):
                pass
            finally:
                self._idle = None
        for call in list(self._active):
            call.cancel(CallInterrupted("the server ended while the call was under way"))
        if self.connections:
            self._emptied = defer.Deferred()
            for connection in list(self.connections):
                connection.goodbye()
            await self._emptied
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
        self._sessions.close()
        if self._own_context and self._context is not None:
            await self._context.close()

    def shows_tracebacks(self, connection: ServerConnection) -> bool:
        """Whether a client may see tracebacks."""
        return connection.is_local if self._tracebacks is None else self._tracebacks

    def session(self, connection: ServerConnection, interface: str) -> Session:
        """A client's session with an interface."""
        if interface not in self._stateful:
            raise PycomnetError(f"{interface} is not stateful: it has no sessions")
        return self._sessions.get((interface, connection.client, connection.user))

    # -- calls -----------------------------------------------------------------------------------

    def begin(self, call: Call, payload: bytes) -> None:
        """A call has come: run it, have it wait, or refuse it."""
        connection = call.connection
        size = len(payload)
        held = self.held
        if held.size + size > held.most:
            connection.refuse(call, held.no_room(size))
            return
        try:
            asked = connection.decode(payload)
        except Exception as problem:
            self._not_found(call, payload, problem)
            return
        self.start(call, payload, asked)

    def start(self, call: Call, payload: bytes, asked: Any) -> None:
        """Run a call whose request has been decoded, have it wait, or refuse it."""
        connection = call.connection
        size = len(payload)
        try:
            interface, name, args, seconds = asked[:4]
            function = self.methods[interface][name]
            if seconds is not None:
                if not seconds > 0:  # nor is NaN
                    raise DeadlineExceeded("its deadline had passed when it came")
                call.expires = self.reactor.seconds() + seconds
                call.seconds = seconds
        except Exception as problem:
            self._not_found(call, payload, problem)
            return
        if self.leaving:
            connection.refuse(call, ServerLeaving("the server is about to end"))
            return
        if self.running >= self.limits.running:
            self._enqueue(call, function, asked, size)
            return
        call.size = size
        request = Request(connection, interface, name, args, call.expires)
        if len(asked) > 4 and asked[4] and not call.streaming:
            self._wait_for(call, self._receive(call, function, request, asked[4]))
        else:
            self._run(call, function, request)

    def _let_go(self, call: Call) -> None:
        """A call's request is not held any more."""
        self.held.size -= call.held
        call.held = 0

    def _not_found(self, call: Call, payload: bytes, problem: Exception) -> None:
        connection = call.connection
        try:
            asked = connection.decode(payload)
            interface, name, _, seconds = asked[:4]
            if not (isinstance(interface, str) and isinstance(name, str)):
                raise ValueError("an interface and a method are str")
            if not (seconds is None or isinstance(seconds, (int, float))):
                raise ValueError("a deadline is a number of seconds")
        except InvalidValue as invalid:
            connection.violated("value", str(invalid))
        except (ValueError, TypeError, KeyError) as wrong:
            connection.refuse(call, PycomnetError(f"that is no request: {wrong}"))
        else:
            methods = self.methods.get(interface)
            if methods is None:
                known = ", ".join(name for one in self.services for name in one.interfaces)
                text = f"there is no interface {interface!r} here; there are: {known or 'none'}"
                connection.refuse(call, UnknownInterface(text))
            elif name not in methods:
                text = f"{interface} has no method {name!r}; it has: {', '.join(methods)}"
                connection.refuse(call, UnknownMethod(text))
            else:
                connection.refuse(call, problem)

    def _enqueue(self, call: Call, function: _Bound, asked: list[Any], size: int) -> None:
        if len(self._queue) >= self.limits.queued:
            text = f"{self.running} calls run here and {len(self._queue)} wait"
            call.connection.refuse(call, Overloaded(text))
            return
        self._active.add(call)
        call.size = call.held = size
        self.held.size += size
        if call.expires is not None:
            call.bucket = self._deadlines.add(call, call.seconds, call.expires)
        self._queue.append((call, [function, *asked]))

    def _run(self, call: Call, bound: _Bound, request: Request) -> None:
        result: Any
        if call.streaming is not bound.method.stream:
            how = "stream" if bound.method.stream else "invoke"
            text = f"{request.interface}: {request.method} is called with {how}()"
            call.connection.refuse(call, UnknownMethod(text))
            return
        try:
            bound.method.check(request.args)
            if bound.method.thread:
                result = self._in_thread(call, bound, request)
            else:
                result = bound.function(request)
            if call.streaming:
                result = send_all(call, result, self._thread_of(bound, request))
        except BaseException as problem:
            self._failed(call, problem, None)
            return
        self.settle(call, result)

    def settle(self, call: Call, result: Any) -> None:
        """Answer a call with what its method has returned."""
        try:
            kind = type(result)
            if kind is CoroutineType:
                waiting: Any = self.tasks.start(result)
            else:
                waiting = self.tasks.deferred(result)
                if waiting is None:
                    if kind is tuple and result and type(result[-1]) is Binary:
                        self._wait_for(call, self._send_blocks(call, result))
                    else:
                        call.connection.answer(call, [result])
                    return
        except BaseException as problem:
            self._failed(call, problem, None)
            return
        self._wait(call, waiting)

    def _wait_for(self, call: Call, coroutine: Any) -> None:
        self._wait(call, self.tasks.start(coroutine))

    def _wait(self, call: Call, result: defer.Deferred[Any]) -> None:
        """Answer a call when a Deferred has fired."""
        self.running += 1
        self._active.add(call)
        if not call.held:
            call.held = call.size
            self.held.size += call.size
        call.running = result
        if call.expires is not None and not result.called and call.bucket is None:
            call.bucket = self._deadlines.add(call, call.seconds, call.expires)
        result.addCallbacks(
            self._succeeded, self._raised, callbackArgs=(call,), errbackArgs=(call,)
        )

    def _succeeded(self, value: Any, call: Call) -> None:
        if call.streaming:
            call.connection.end(call)
        elif type(value) is tuple and value and type(value[-1]) is Binary:
            self.running -= 1
            self._wait_for(call, self._send_blocks(call, value))
            return
        else:
            call.connection.answer(call, [value])
        self._finished(call)

    def _raised(self, failure: Failure, call: Call) -> None:
        problem = failure.value
        assert problem is not None
        if call.interrupt is not None and isinstance(problem, CANCELLED):
            problem = call.interrupt
        self._failed(call, problem, failure)
        self._finished(call)

    def _failed(self, call: Call, problem: BaseException, failure: Failure | None) -> None:
        if not call.over:
            call.connection.refuse(call, problem, failure)

    def _finished(self, call: Call) -> None:
        self.running -= 1
        call.running = None
        self.forget(call)
        while self._queue and self.running < self.limits.running:
            waiting, (function, interface, name, args, _, *blocks) = self._queue.popleft()
            self._let_go(waiting)
            if waiting.over:
                continue
            self._active.discard(waiting)
            request = Request(waiting.connection, interface, name, args, waiting.expires)
            if blocks and blocks[0]:
                self._wait_for(waiting, self._receive(waiting, function, request, blocks[0]))
            else:
                self._run(waiting, function, request)
                if waiting.over:
                    waiting.put_away()
        self._tell_idle()

    def forget(self, call: Call) -> None:
        """A call is over."""
        call.put_away()
        self._let_go(call)
        self._active.discard(call)
        self._tell_idle()

    def _tell_idle(self) -> None:
        if self._idle is not None and not self._active and not self._idle.called:
            self._idle.callback(None)

    def too_late(self, call: Call) -> None:
        """A call's deadline has passed."""
        problem = DeadlineExceeded("its deadline passed at the server")
        if call.running is None:
            call.connection.refuse(call, problem)
            self.forget(call)
        else:
            call.cancel(problem)

    def _in_thread(self, call: Call, bound: _Bound, request: Request) -> defer.Deferred[Any]:
        """Run a method in a thread. It can't be interrupted there, and counts on."""
        name = f"{request.interface}.{request.method}"
        return self._threads.run(name, lambda: None if call.over else bound.function(request))

    def _thread_of(self, bound: _Bound, request: Request) -> InThread | None:
        """What runs a stream's iterator, if that may block."""
        if not bound.method.thread:
            return None
        return partial(self._threads.run, f"{request.interface}.{request.method}")

    # -- blocks of binary data -------------------------------------------------------------------

    async def _receive(self, call: Call, bound: _Bound, request: Request, described: Any) -> Any:
        """Receive a call's blocks, then run its method."""
        incoming = Incoming(call.connection, described, self.limits.blocks)
        most = bound.method.attachments
        if most is not None and len(described) > most:
            incoming.close()
            text = f"{len(described)} blocks of binary data, {request.method} takes {most}"
            raise InvalidArguments(text)
        request.files = await incoming.receive()
        call.release = request.close_files
        bound.method.check(request.args)
        if bound.method.thread:
            return await self._in_thread(call, bound, request)
        result = bound.function(request)
        return await result if inspect.isawaitable(result) else result

    async def _send_blocks(self, call: Call, result: tuple[Any, ...]) -> Any:
        """Send a result, then the blocks that it comes with."""
        first = next(n for n, part in enumerate(result) if type(part) is Binary)
        value = result[0] if first == 1 else None if first == 0 else result[:first]
        outgoing = call.connection.answer_with_blocks(call, value, result[first:])
        if outgoing is not None:
            await outgoing.send()


class _ServerFactory(Factory):
    noisy = False

    def __init__(self, server: ServiceServer) -> None:
        self.server = server

    def buildProtocol(self, address: Any) -> ServerConnection | None:
        return self.server.connected()


__all__ = ["ServerLimits", "ServiceServer"]
