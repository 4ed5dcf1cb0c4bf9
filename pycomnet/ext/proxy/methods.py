"""A remote method as an object that is called as a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import Signature
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet import defer
from twisted.python.failure import Failure

from pycomnet.deferred import Condition, deferred
from pycomnet.errors import DeadlineExceeded, message_of
from pycomnet.ext.proxy.signatures import MethodSignature, described
from pycomnet.ranges import MAX_SECONDS
from pycomnet.services.client.callerrors import of_a_call
from pycomnet.services.client.remoteservice import DEFAULT, RemoteService, no_time
from pycomnet.services.client.remotestream import RemoteStream
from pycomnet.text.logs import Logger
from pycomnet.text.printable import visible_line

if TYPE_CHECKING:
    from pycomnet.ext.proxy.proxiedservice import ProxiedService

log = Logger()

#: Calls with ``oneway`` of one service whose replies have not come; then further ones wait.
MOST_ONEWAY = 1000


class _NotGiven:
    def __repr__(self) -> str:
        return "<the call's arguments>"


#: The default of the option ``args``.
NOT_GIVEN: Any = _NotGiven()


@attrs.frozen
class CallOptions:
    """What a call is made with, beside its arguments; as for :meth:`RemoteService.invoke`.

    :ivar args: the structured arguments as a whole, in place of those of the call.
    """

    timeout: float | None = DEFAULT
    binary: bool = False
    attachments: tuple[Any, ...] = ()
    args: Any = NOT_GIVEN

    @property
    def is_default(self) -> bool:
        """Whether all of them have their defaults."""
        return self.timeout is DEFAULT and self.is_short

    @property
    def is_short(self) -> bool:
        """Whether a call has neither blocks nor arguments as a whole."""
        return not self.binary and not self.attachments and self.args is NOT_GIVEN


class ProxyCall(defer.Deferred[Any]):
    """The result of a call of a method that may be a stream: a Deferred, and an async iterator.

    It fires with the result, or with the :class:`~pycomnet.RemoteStream` of a streaming method. The
    values of that can also be iterated over at once: ``async for value in proxy.ticks(): ...``
    """

    def __init__(self, cancel: Callable[[], None]) -> None:
        super().__init__(lambda _: cancel())
        self._stream: RemoteStream | None = None

    def _opened(self) -> defer.Deferred[RemoteStream]:
        waiting: defer.Deferred[RemoteStream] = defer.Deferred(lambda _: self.cancel())

        def tell(result: Any) -> Any:
            if isinstance(result, Failure):
                waiting.errback(result)
                return None
            if isinstance(result, RemoteStream):
                self._stream = result
                waiting.callback(result)
            else:
                kind = type(result).__name__
                error = TypeError(f"the method gives one value, a {kind}, and no stream: await it")
                waiting.errback(Failure(error))
            return result

        self.addBoth(tell)
        return waiting

    def receive(self) -> defer.Deferred[Any]:
        """A stream's next value, as :meth:`pycomnet.RemoteStream.receive`."""
        if self._stream is not None:
            return self._stream.receive()
        return self._opened().addCallback(lambda stream: stream.receive())

    def close(self) -> None:
        """End a stream, as :meth:`pycomnet.RemoteStream.close`."""
        if self._stream is not None:
            self._stream.close()
        elif self.called:
            self._opened().addCallbacks(lambda stream: stream.close(), lambda _: None)
        else:
            self.addErrback(_ignore_cancellation)
            self.cancel()

    def __aiter__(self) -> ProxyCall:
        return self

    async def __anext__(self) -> Any:
        if self._stream is None:
            await self._opened()
        assert self._stream is not None
        return await self._stream.__anext__()


def _ignore_cancellation(failure: Failure) -> None:
    failure.trap(defer.CancelledError)


class OnewayCalls:
    """The calls whose results nobody waits for: there is a limit on those under way."""

    def __init__(self) -> None:
        self._running = 0
        self._fewer = Condition()

    async def room(self) -> None:
        """Wait until one more may be made."""
        while self._running >= MOST_ONEWAY:
            await self._fewer.wait()

    def add(self, name: str, call: defer.Deferred[Any]) -> None:
        """One more is under way."""
        self._running += 1
        call.addBoth(self._ended, name)

    def _ended(self, result: object, name: str) -> None:
        if isinstance(result, Failure):
            assert result.value is not None
            why = visible_line(message_of(result.value))
            log.info("a oneway call of {method} failed: {error}", method=name, error=why)
        self._running -= 1
        self._fewer.notify_all()


class SignatureOf:
    """The attribute ``__signature__`` of objects that are called as functions.

    Neither their class has one, nor do they while it is not known.
    """

    def __init__(self, signature: Callable[[Any], Signature | None]) -> None:
        self._signature = signature

    def __get__(self, instance: Any, owner: type) -> Signature:
        found = None if instance is None else self._signature(instance)
        if found is None:
            raise AttributeError("__signature__")
        return found


class ProxyMethod:
    """A method of a service. Call it with the method's arguments.

    ``inspect.signature``, ``help`` and ``repr`` show the service's description, once that is
    known: after the first call through the proxy.
    """

    def __init__(self, proxied: ProxiedService, name: str, options: CallOptions) -> None:
        self._proxied = proxied
        self._options = options
        self.__name__ = name
        #: what a call needs that is bound in ``__call__``, which gains a fifth of a call through a
        #: proxy; until the method is described there is none
        self._signature: MethodSignature | None = None
        self._every: frozenset[str] = frozenset()
        self._required: frozenset[str] = frozenset()
        self._invoke: Callable[..., defer.Deferred[Any]] | None = None

    def __repr__(self) -> str:
        known = self._signature
        shown = visible_line(self.__name__) if known is None else described(known)
        return f"<method {shown} of {self._proxied!r}>"

    @property
    def signature(self) -> Signature | None:
        """Its signature, once the service has described it."""
        return None if self._signature is None else self._signature.signature

    __signature__ = SignatureOf(lambda method: method.signature)

    @property
    def is_known(self) -> bool:
        """Whether the service has described it."""
        return self._signature is not None

    @property
    def description(self) -> MethodSignature | None:
        """The service's description of it, once it has come."""
        return self._signature

    @property
    def is_stream(self) -> bool:
        """Whether it gives one value after the other, as far as is known."""
        return self._signature is not None and self._signature.stream

    def describe(self, known: MethodSignature, service: RemoteService) -> None:
        """Take the service's description of it."""
        self._signature = known
        self.__doc__ = known.doc or None
        self._every, self._required = known.every, known.required
        usual = known.declared is not None and not known.stream and self._options.is_default
        usual = usual and self._proxied.results(known.name) is None
        self._invoke = service.invoke if usual else None

    def __call__(self, /, *args: Any, **kwargs: Any) -> defer.Deferred[Any]:
        """Call the method.

        :returns: a Deferred of its result, as from :meth:`RemoteService.invoke`; for a stream a
            :class:`ProxyCall`. Fails with TypeError if the arguments do not fit the method's
            signature; then nothing was sent.
        """
        invoke = self._invoke
        if invoke is not None and not args and self._required <= kwargs.keys() <= self._every:
            return invoke(self.__name__, kwargs)
        return self._call(args, kwargs)

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> defer.Deferred[Any]:
        """A call that is not of the usual kind."""
        if self._signature is None:
            self._take_description()
        service = self._proxied.service
        known = self._signature
        if known is not None and service is not None:
            try:
                value = self._bind(known, args, kwargs)
            except TypeError:
                pass  # it may be right for what the service is now
            else:
                if not known.stream:
                    return self._send(service, value, self._options.timeout)
                stream = ProxyCall(lambda: None)
                try:
                    stream.callback(self._open(service, value, self._options.timeout))
                except Exception:
                    stream.errback(Failure())
                return stream
        running: defer.Deferred[Any] = defer.Deferred.fromCoroutine(self._call_later(args, kwargs))
        call = ProxyCall(running.cancel)
        running.chainDeferred(call)
        return call

    def _take_description(self) -> None:
        """Take the description that has come meanwhile."""
        description, service = self._proxied.description, self._proxied.service
        if description is not None and service is not None:
            known = description.methods.get(self.__name__)
            if known is not None:
                self.describe(known, service)

    async def _call_later(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        service, value, left = await self.prepared(args, kwargs)
        if self.is_stream:
            return self._open(service, value, left)
        return await self._send(service, value, left)

    def bound(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The structured arguments of a call of a batch; :data:`NOT_GIVEN` if it is not known yet
        whether these are right.

        :raises TypeError: they do not fit what is known of the method.
        """
        known = self._signature
        if known is None:
            self._take_description()
            known = self._signature
            if known is None:
                return NOT_GIVEN
        if known.stream:
            self.check_single()
        return self._bind(known, args, kwargs)

    def check_single(self) -> None:
        """Check that it gives one value, as far as is known.

        :raises TypeError: it gives a stream.
        """
        if self.is_stream:
            raise TypeError(f"{self.__name__}() gives a stream: iterate over what a call returns")

    async def prepared(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[RemoteService, Any, float | None]:
        """What a call needs, without a request to the service if its description is there.

        :returns: the service, the structured arguments, and the seconds that the call has.
        :raises TypeError: the arguments do not fit.
        """
        if self._signature is None:
            self._take_description()
        known, service = self._signature, self._proxied.service
        if known is not None and service is not None:
            try:
                return service, self._bind(known, args, kwargs), self._options.timeout
            except TypeError:
                pass  # it may fit what the service is now
        service, left = await self._described()
        return service, self.bind(args, kwargs), left

    async def _described(self) -> tuple[RemoteService, float | None]:
        """Have the service describe the method, if it was not just now.

        :returns: the service, and the seconds that the call has left.
        """
        service = await self._proxied.reach()
        clock = service.context.reactor
        began = clock.seconds()
        timeout = self._options.timeout
        limited = timeout is not DEFAULT and timeout is not None
        if limited and not 0 < timeout <= MAX_SECONDS:  # type: ignore[operator]
            raise no_time(visible_line(self.__name__), timeout)  # type: ignore[arg-type]
        describing = self._proxied.describe(may_be_old=False)
        if limited:
            describing.addTimeout(timeout, clock)  # type: ignore[arg-type]
        try:
            await describing
        except defer.TimeoutError:
            name = visible_line(self.__name__)
            text = f"{name}: the service did not describe itself before the call's deadline"
            raise of_a_call(DeadlineExceeded(text)) from None
        self._signature = self._invoke = None
        self._take_description()
        if limited:
            return service, timeout - (clock.seconds() - began)  # type: ignore[operator]
        return service, timeout

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The structured arguments of a call.

        What the service does not describe is sent as it is; the service may know it all the same.

        :raises TypeError: they do not fit what is known of the method.
        """
        known = self._signature
        if known is None:
            known = MethodSignature.from_map(self.__name__, None)
        return self._bind(known, args, kwargs)

    def _bind(self, known: MethodSignature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        options = self._options
        if known.stream and (options.binary or options.attachments):
            raise TypeError(f"{self.__name__}() gives a stream, which has no blocks of binary data")
        most = known.attachments
        if most is not None and len(options.attachments) > most:
            given = len(options.attachments)
            raise TypeError(f"{self.__name__}() takes {most} attachments but {given} were given")
        if options.args is not NOT_GIVEN:
            if args or kwargs:
                raise TypeError(f"{self.__name__}() has its arguments from with_(args=...) already")
            return options.args
        return known.bind(args, kwargs)

    def _open(self, service: RemoteService, value: Any, timeout: float | None) -> RemoteStream:
        return service.stream(self.__name__, value, None if timeout is DEFAULT else timeout)

    def _send(
        self, service: RemoteService, value: Any, timeout: float | None
    ) -> defer.Deferred[Any]:
        options = self._options
        if options.is_short:
            found = self._proxied.results(self.__name__)
            if found is not None:
                return found(service, value, timeout)
            return service.invoke(self.__name__, value, timeout)
        attachments: Sequence[Any] = options.attachments
        return service.invoke(self.__name__, value, timeout, attachments, options.binary)

    @deferred
    async def oneway(self, /, *args: Any, **kwargs: Any) -> None:
        """Call the method, and wait neither for its result nor for its error, which is logged.

        :returns: fires when the call is checked and on its way: at once, unless
            :data:`MOST_ONEWAY` such calls of this service have no reply yet. Fails with TypeError
            if the arguments do not fit. Cancelling it before that calls nothing.
        """
        service, value, left = await self.prepared(args, kwargs)
        self.check_single()
        await self._proxied.oneway.room()
        self._proxied.oneway.add(self.__name__, self._send(service, value, left))
