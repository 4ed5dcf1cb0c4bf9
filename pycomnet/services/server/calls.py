"""The calls that a server runs: finding the method, running it, and returning its result."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Collection, Iterable
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from pycomnet.deferred import Condition
from pycomnet.errors import (
    DeadlineExceeded,
    InvalidArguments,
    Overloaded,
    PycomnetError,
    ServerLeaving,
    Unauthenticated,
    UnknownInterface,
    UnknownMethod,
)
from pycomnet.services.binary import Binary
from pycomnet.services.blocks import IncomingBlocks
from pycomnet.services.deadlines import Deadlines
from pycomnet.services.interface import Service
from pycomnet.services.server.boundmethod import BoundMethod, wrong_way
from pycomnet.services.server.limits import PEEK, HeldBytes, ServerLimits
from pycomnet.services.server.request import KeyedRequest, Request, ServerCall
from pycomnet.services.server.streaming import FeedCalls, InThread, StreamFeed, send_all
from pycomnet.services.server.tasks import CANCELLED, Tasks
from pycomnet.services.threads import MethodThreads
from pycomnet.wire.values import InvalidValue, TooManyItems, ValueNotReceivable, read_texts

if TYPE_CHECKING:
    from pycomnet.services.server.connection import ServerConnection


class ServerCalls(FeedCalls):
    """The calls of a server, and what they share.

    :ivar methods: interface -> name -> method.
    :ivar running: how many calls run that did not return at once.
    :ivar leaving: whether no more are taken.
    :ivar draining: whether callers are told to go to another instance, if there is one.
    :ivar ending: whether it is one of both.
    """

    services: list[Service]

    def __init__(self, reactor: IReactorTime, limits: ServerLimits, threads: Any) -> None:
        self.reactor = reactor
        self.limits = limits
        self.methods: dict[str, dict[str, BoundMethod]] = {}
        self.running = 0
        self.leaving = self.draining = self.ending = False
        #: when the last call began while it was draining
        self._began = 0.0
        self.held = HeldBytes(limits.held)
        self.tasks = Tasks(reactor)
        self._threads = MethodThreads(reactor, limits.threads, threads)
        self._deadlines = Deadlines(reactor)
        self._active: set[ServerCall] = set()
        self._queue: deque[tuple[ServerCall, BoundMethod, list[Any] | bytes]] = deque()
        self._dequeuing = False
        #: notified when no call is left
        self._idle = Condition()

    def begin(self, call: ServerCall, payload: bytes) -> None:
        """A call has arrived: run it, queue it, or refuse it."""
        connection = call.connection
        size = len(payload)
        held = self.held
        if held.size + size > held.most:
            held.size += size
            self.make_room()  # of those who have sent a part, and keep it
            held.size -= size
            if held.size + size > held.most:
                connection.refuse(call, held.no_room(size))
                return
        if (size > PEEK or connection.caller is not None) and not self._is_wanted(call, payload):
            return
        try:
            asked = connection.decode(payload)
        except Exception as problem:
            self._not_found(call, payload, problem)
            return
        self.start(call, payload, asked)

    def make_room(self) -> None:
        """Refuse incomplete requests if more is held than is allowed."""

    def may_continue(self, call: ServerCall, beginning: bytes) -> Exception | None:
        """Why the rest of a long request is not wanted, by how it begins; None if it is."""
        try:
            interface, name = read_texts(beginning, 2)
        except InvalidValue:
            return PycomnetError("not a valid request")
        return call.refusal(interface, name, len(beginning), True)

    def _is_wanted(self, call: ServerCall, payload: bytes) -> bool:
        """Whether a request may be decoded. If not, it is refused by its beginning alone.

        That is asked for long requests, and for all of a connection that may not call everything.
        """
        connection = call.connection
        try:
            interface, name = read_texts(payload, 2)
        except InvalidValue as problem:
            connection.violated("value", f"not a valid request: {problem}")
            return False
        refused = call.refusal(interface, name, len(payload))
        if refused is not None:
            connection.refuse(call, refused)
        return refused is None

    def refusal(
        self, call: ServerCall, interface: str, name: str, size: int, again: bool = False
    ) -> Exception | None:
        """Why a method may not be called now, or None. The arguments have not been decoded.

        Each long request passes this, each call of a batch, and each call of a client that may not
        call everything.

        :param call: the call; or the batch in which it is.
        :param size: bytes of the request.
        :param again: whether this is asked a second time, or will be.
        """
        caller = call.connection.caller
        if caller is not None:
            refused = caller.refusal(interface, name, size, again)
            if refused is not None:
                return refused
        bound = self.methods.get(interface, {}).get(name)
        if bound is None:
            return self._unknown(call.connection, interface, name)
        if call.streaming is not bound.method.stream:
            return wrong_way(interface, name, bound)
        if self.leaving:
            return ServerLeaving("the server is about to end")
        if self.running >= self.limits.running and len(self._queue) >= self.limits.queued:
            return self._overloaded()
        return None

    def _unknown(self, connection: ServerConnection, interface: str, name: str) -> Exception:
        methods: Iterable[str] | None = self.methods.get(interface)
        known = [name for one in self.services for name in one.interfaces]
        caller = connection.caller
        if caller is not None:
            known = [
                one for one in known if any(caller.sees(one, name) for name in self.methods[one])
            ]
            if methods is not None:
                methods = [one for one in methods if caller.sees(interface, one)]
        if methods is None:
            text = f"there is no interface {interface!r} here; there are: {', '.join(known)}"
            return UnknownInterface(text if known else f"{text}none")
        return UnknownMethod(f"{interface} has no method {name!r}; it has: {', '.join(methods)}")

    def _overloaded(self) -> Overloaded:
        return Overloaded(f"{self.running} calls run here and {len(self._queue)} wait")

    def start(self, call: ServerCall, payload: bytes, asked: Any) -> None:
        """Run a call whose request has been decoded, queue it, or refuse it."""
        connection = call.connection
        size = len(payload)
        try:
            interface, name, _, seconds = asked[:4]
            function = self.methods[interface][name]
            late = seconds is not None and not seconds > 0  # written so that NaN is late, too
            if seconds is not None:
                call.expires = self.reactor.seconds() + seconds
                call.seconds = seconds
        except Exception as problem:
            self._not_found(call, payload, problem)
            return
        if late:
            connection.refuse(call, DeadlineExceeded("its deadline had passed when it came"))
            return
        if self.ending:
            if self.leaving:
                connection.refuse(call, ServerLeaving("the server is about to end"))
                return
            self._began = self.reactor.seconds()
        call.called, call.logins = (interface, name), connection.logins
        if self.running >= self.limits.running:
            self._enqueue(call, function, asked, payload)
            return
        call.size = size
        self._dispatch(call, function, asked)

    def _let_go(self, call: ServerCall) -> None:
        """Release what is held of a call's request."""
        if call.held or call.blocks:
            self._hold(call, -call.held - call.blocks)
            call.held = call.blocks = 0

    def _hold(self, call: ServerCall, size: int) -> None:
        """Count ``size`` more bytes (fewer, if negative) of a call's request as held."""
        self.held.size += size
        call.connection.requests += size

    def _hold_block(self, call: ServerCall, size: int) -> None:
        """Count bytes of a call's blocks in memory as held, as :meth:`_hold` does.

        :raises Overloaded: that is more than all calls together may hold.
        """
        if call.over:
            return
        if size > 0 and self.held.size + size > self.held.most:
            raise self.held.no_room(size)
        call.blocks += size
        self._hold(call, size)

    def _not_found(self, call: ServerCall, payload: bytes, problem: Exception) -> None:
        connection = call.connection
        try:
            asked = connection.decode(payload)
            interface, name, _, seconds = asked[:4]
            if not (isinstance(interface, str) and isinstance(name, str)):
                raise ValueError("an interface and a method are str")
            if not (seconds is None or isinstance(seconds, (int, float))):
                raise ValueError("a deadline is a number of seconds")
        except TooManyItems as many:
            connection.refuse(call, InvalidArguments(f"the arguments: {many}"))
        except InvalidValue as invalid:
            connection.violated("value", str(invalid))
        except ValueNotReceivable as unknown:
            connection.refuse(call, InvalidArguments(str(unknown)))
        except (ValueError, TypeError, KeyError) as wrong:
            connection.refuse(call, PycomnetError(f"not a valid request: {wrong}"))
        else:
            if name in self.methods.get(interface, ()):
                connection.refuse(call, problem)
            else:
                connection.refuse(call, self._unknown(connection, interface, name))

    def withdraw(self, connections: Collection[ServerConnection]) -> None:
        """The logins of clients have changed: end the streams and waiting calls that only former
        logins allowed. Other running calls go on until they end.
        """
        for call in list(self._active):
            connection = call.connection
            caller = connection.caller
            if connection not in connections or call.called is None or caller is None:
                continue
            if call.begun and not call.streaming:
                continue
            why = caller.outlived(call.logins, *call.called)
            if why is None:
                call.logins = connection.logins
                continue
            if call.begun and isinstance(why, Unauthenticated):
                why.reason = "ended"  # so that the client does not call the method again
            if call.running is not None:
                call.cancel(why)
            else:
                connection.refuse(call, why)
                self.forget(call)

    def _still_refused(self, call: ServerCall) -> Exception | None:
        """Why a call that has waited may not run any more; None if it may."""
        caller = call.connection.caller
        if caller is None or call.called is None:
            return None
        return caller.refusal(*call.called, call.size, True)

    def _enqueue(
        self, call: ServerCall, function: BoundMethod, asked: list[Any], payload: bytes
    ) -> None:
        if len(self._queue) >= self.limits.queued:
            call.connection.refuse(call, self._overloaded())
            return
        size = len(payload)
        self.keep(call, size)
        if call.expires is not None:
            call.bucket = self._deadlines.add(call, call.seconds, call.expires)
        # A long request waits encoded: decoded, it may take many times the memory.
        self._queue.append((call, function, asked if size <= PEEK else payload))

    def keep(self, call: ServerCall, size: int) -> None:
        """Count a call among those that are not over, and its request's bytes as held."""
        self._active.add(call)
        call.size = call.held = size
        self._hold(call, size)

    def _run(self, call: ServerCall, bound: BoundMethod, request: Request) -> None:
        result: Any
        if call.streaming is not bound.method.stream:
            refused = wrong_way(request.interface, request.method, bound)
            call.connection.refuse(call, refused)
            return
        try:
            bound.method.check(request.args)
            if bound.method.thread:
                result = self._in_thread(call, bound, request)
            else:
                call.begun = True
                result = bound.function(request)
            if call.streaming and isinstance(result, StreamFeed):
                self._feed(call, result)
                return
            if call.streaming:
                result = send_all(call, result, self._thread_of(bound, request))
        except BaseException as problem:
            self._failed(call, problem, None)
            return
        self.settle(call, result)

    def settle(self, call: ServerCall, result: Any) -> None:
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

    def _wait_for(self, call: ServerCall, coroutine: Any) -> None:
        self._wait(call, self.tasks.start(coroutine))

    def _wait(self, call: ServerCall, result: defer.Deferred[Any]) -> None:
        """Answer a call when a Deferred has fired."""
        self.running += 1
        self._active.add(call)
        if not call.held:
            call.held = call.size
            self._hold(call, call.size)
        call.running = result
        if call.expires is not None and not result.called and call.bucket is None:
            call.bucket = self._deadlines.add(call, call.seconds, call.expires)
        result.addCallbacks(
            self._succeeded, self._raised, callbackArgs=(call,), errbackArgs=(call,)
        )

    def _succeeded(self, value: Any, call: ServerCall) -> None:
        if call.streaming:
            call.connection.end(call)
        elif type(value) is tuple and value and type(value[-1]) is Binary:
            self.running -= 1
            self._wait_for(call, self._send_blocks(call, value))
            return
        else:
            call.connection.answer(call, [value])
        self._finished(call)

    def _raised(self, failure: Failure, call: ServerCall) -> None:
        problem = failure.value
        assert problem is not None
        if call.interrupt is not None and (isinstance(problem, CANCELLED) or not call.begun):
            problem = call.interrupt
        self._failed(call, problem, failure)
        self._finished(call)

    def _failed(self, call: ServerCall, problem: BaseException, failure: Failure | None) -> None:
        if not call.over:
            call.connection.refuse(call, problem, failure)

    def _finished(self, call: ServerCall) -> None:
        self.running -= 1
        call.running = None
        self.forget(call)
        # A method that returns at once gets here again from within the loop, which must not nest.
        if not self._dequeuing:
            self._dequeuing = True
            try:
                while self._queue and self.running < self.limits.running:
                    self._run_waiting(*self._queue.popleft())
            finally:
                self._dequeuing = False
        self._tell_idle()

    def _run_waiting(self, call: ServerCall, bound: BoundMethod, asked: list[Any] | bytes) -> None:
        """Start a call that has waited."""
        self._let_go(call)
        if call.over:
            return
        self._active.discard(call)
        refused = self._still_refused(call)
        if refused is not None:
            call.connection.refuse(call, refused)
            call.put_away()
            return
        if isinstance(asked, bytes):
            try:
                asked = call.connection.decode(asked)
            except Exception as problem:  # the code of a registered type can raise
                call.connection.refuse(call, problem)
                call.put_away()
                return
        self._dispatch(call, bound, asked)
        if call.over:
            call.put_away()

    def _dispatch(self, call: ServerCall, bound: BoundMethod, asked: Any) -> None:
        interface, name, args = asked[:3]
        if len(asked) > 5:
            request: Request = KeyedRequest(
                call.connection, interface, name, args, call.expires, asked[5]
            )
        else:
            request = Request(call.connection, interface, name, args, call.expires)
        if len(asked) > 4 and asked[4] and not call.streaming:
            self._wait_for(call, self._receive(call, bound, request, asked[4]))
        else:
            self._run(call, bound, request)

    def forget(self, call: ServerCall) -> None:
        """A call has ended."""
        call.put_away()
        self._let_go(call)
        self._active.discard(call)
        self._tell_idle()

    def _tell_idle(self) -> None:
        if self.leaving and not self._active:
            self._idle.notify_all()

    def too_late(self, call: ServerCall) -> None:
        """A call's deadline has passed."""
        problem = DeadlineExceeded("its deadline passed at the server")
        if call.running is None:
            call.connection.refuse(call, problem)
            self.forget(call)
        else:
            call.cancel(problem)

    def _in_thread(
        self, call: ServerCall, bound: BoundMethod, request: Request
    ) -> defer.Deferred[Any]:
        """Run a method in a thread. It can't be interrupted there, and counts until it has
        ended."""

        def run() -> Any:
            if call.over or call.interrupt is not None:
                return None
            call.begun = True
            return bound.function(request)

        return self._threads.run(f"{request.interface}.{request.method}", run)

    def _thread_of(self, bound: BoundMethod, request: Request) -> InThread | None:
        """What runs a stream's iterator, if that may block."""
        if not bound.method.thread:
            return None
        return partial(self._threads.run, f"{request.interface}.{request.method}")

    # -- blocks of binary data -------------------------------------------------------------------

    async def _receive(
        self, call: ServerCall, bound: BoundMethod, request: Request, described: Any
    ) -> Any:
        """Receive a call's blocks, then run its method."""
        hold = partial(self._hold_block, call)
        incoming = IncomingBlocks(call.connection, described, self.limits.blocks, hold)
        most = bound.method.attachments
        if most is not None and len(described) > most:
            incoming.close()
            text = f"{len(described)} blocks of binary data, {request.method} takes {most}"
            raise InvalidArguments(text)
        request.files.extend(await incoming.receive())
        call.release = request.close_files
        refused = self._still_refused(call)
        if refused is not None:
            raise refused
        bound.method.check(request.args)
        if bound.method.thread:
            return await self._in_thread(call, bound, request)
        call.begun = True
        result = bound.function(request)
        return await result if inspect.isawaitable(result) else result

    async def _send_blocks(self, call: ServerCall, result: tuple[Any, ...]) -> Any:
        """Send a result, then the blocks that it comes with."""
        first = next(n for n, part in enumerate(result) if type(part) is Binary)
        value = result[0] if first == 1 else None if first == 0 else result[:first]
        outgoing = call.connection.answer_with_blocks(call, value, result[first:])
        if outgoing is not None:
            await outgoing.send()
