"""Batches: calls of one service that go in one request."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import Any

from twisted.internet import defer
from twisted.python.failure import Failure

from pycomnet.errors import CallSkipped
from pycomnet.ext.proxy.methods import NOT_GIVEN, CallOptions, ProxyMethod
from pycomnet.ext.proxy.proxiedservice import ProxiedService
from pycomnet.ext.proxy.signatures import MethodSignature, is_attribute, namer
from pycomnet.services.client.callgroup import SKIPPED
from pycomnet.services.client.remoteservice import DEFAULT

#: The most calls that are sent before their results have come; a longer batch goes in parts.
MOST_AT_ONCE = 10_000


class BatchedCall:
    """A call in a batch. It has a result once the batch is done."""

    __slots__ = ("_method", "_outcome")

    def __init__(self, method: ProxyMethod) -> None:
        self._method = method
        self._outcome: Any = NOT_GIVEN

    def __repr__(self) -> str:
        state = "not done" if self._outcome is NOT_GIVEN else "done"
        return f"<call of {self._method!r}, {state}>"

    def callback(self, result: Any) -> None:
        """The result has come."""
        self._outcome = result

    #: It has failed; its result is a Failure then.
    errback = callback

    def result(self) -> Any:
        """The call's result; raises its error.

        :raises RuntimeError: the batch has not been sent.
        """
        outcome = self._outcome
        if outcome is NOT_GIVEN:
            raise RuntimeError("a batch is sent at the end of its with block: take results there")
        if type(outcome) is Failure:
            outcome.raiseException()
        return outcome

    def __await__(self) -> Generator[Any, Any, Any]:
        yield from ()
        return self.result()


class CollectedCalls:
    """The calls of a batch.

    :ivar calls: the method, the structured arguments and the call, of each.
    :ivar unknown: of the calls whose methods were not known, by their places: the method, and the
        arguments as they were given.
    :ivar sent: whether no more are taken.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any, BatchedCall]] = []
        self.unknown: dict[int, tuple[ProxyMethod, tuple[Any, ...], dict[str, Any]]] = {}
        self.sent = False

    async def prepare(self) -> None:
        """Find the structured arguments of the calls whose methods were not known.

        :raises TypeError: some do not fit, or a method gives a stream.
        """
        while self.unknown:
            place, (method, args, kwargs) = next(iter(self.unknown.items()))
            _, value, _ = await method.prepared(args, kwargs)
            method.check_single()
            name, _, call = self.calls[place]
            self.calls[place] = (name, value, call)
            del self.unknown[place]


def batch_method(collected: CollectedCalls, method: ProxyMethod) -> Callable[..., BatchedCall]:
    """A method in a batch: a function that collects a call of it.

    It is a function, as Python calls an object with ``__call__`` at twice the cost: a fifth of the
    row "1,000 such calls in a batch".
    """
    name = method.__name__
    # The service's description of it, once that is known, and what the fast path needs.
    known: MethodSignature | None = None
    required: frozenset[str] = frozenset()
    count = -1
    named = namer(())

    def add(*args: Any, **kwargs: Any) -> BatchedCall:
        """Add a call.

        :raises TypeError: the arguments do not fit what is known of the method.
        """
        nonlocal known, required, count, named
        if collected.sent:
            raise RuntimeError("the batch has been sent: make another one")
        value: Any
        if known is None:
            value = method.bound(args, kwargs)
            known = method.description
            if value is NOT_GIVEN:
                collected.unknown[len(collected.calls)] = method, args, kwargs
            elif known is not None:
                required = known.required
                if required <= set(known.positional) == known.every:
                    count, named = len(known.positional), namer(known.positional)
        elif len(args) == count and not kwargs:
            value = named(args)
        elif kwargs.keys() == required and not args:
            value = kwargs
        else:
            value = known.bind(args, kwargs)
        call = BatchedCall(method)
        collected.calls.append((name, value, call))
        return call

    add.__name__ = add.__qualname__ = name
    return add


class CallBatch:
    """Calls that are collected in a ``with`` block and sent at its end, in one request.

    Leaving the block waits until all are done. If one has failed, the block raises the first error;
    each :class:`BatchedCall` has its own. With ``stop_at_error``, each begins when the one before
    it is done, and none after one that fails: those have the error :class:`pycomnet.CallSkipped`.
    If the block itself raises, nothing is sent. Iterate over the batch for its calls. All go to the
    same instance of the service.

    It has no public attributes of its own, as these are the service's methods.
    """

    def __init__(
        self, proxied: ProxiedService, options: CallOptions, stop_at_error: bool = False
    ) -> None:
        if not options.is_short:
            raise TypeError("a batch has no blocks of binary data, and no args for all its calls")
        self._proxied = proxied
        self._options = options
        self._collected = CollectedCalls()
        self._stop_at_error = stop_at_error

    def __repr__(self) -> str:
        return f"<CallBatch of {len(self)} calls, {self._proxied!r}>"

    def __getattr__(self, name: str) -> Callable[..., BatchedCall]:
        if not is_attribute(name):
            raise AttributeError(f"a batch has no attribute {name!r}")
        method = self.__dict__[name] = self[name]
        return method

    def __getitem__(self, name: str) -> Callable[..., BatchedCall]:
        if not isinstance(name, str):
            raise TypeError(f"a method's name is a str, not {type(name).__name__}")
        return batch_method(self._collected, ProxyMethod(self._proxied, name, self._options))

    def __iter__(self) -> Iterator[BatchedCall]:
        return (call for _, _, call in self._collected.calls)

    def __len__(self) -> int:
        return len(self._collected.calls)

    async def __aenter__(self) -> CallBatch:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            await self._send()

    async def _send(self) -> None:
        collected = self._collected
        collected.sent = True
        service = await self._proxied.reach()
        clock = service.context.reactor
        began = clock.seconds()
        await collected.prepare()
        timeout = self._options.timeout
        if timeout is not DEFAULT and timeout is not None:
            timeout -= clock.seconds() - began
        calls = collected.calls
        failed = False
        for start in range(0, len(calls), MOST_AT_ONCE):
            part = calls[start : start + MOST_AT_ONCE]
            if await service.invoke_together(part, timeout, self._stop_at_error):
                continue
            failed = True
            if self._stop_at_error:
                for _, _, call in calls[start + MOST_AT_ONCE :]:
                    call.errback(Failure(CallSkipped(SKIPPED)))
                break
        if failed:
            for _, _, call in calls:
                call.result()


def send_batch(batch: CallBatch) -> defer.Deferred[None]:
    """Send what a batch has collected, and wait until all of it is done.

    :returns: fires when each call has a result; fails with the first error. Cancelling it cancels
        the calls.
    """
    return defer.Deferred.fromCoroutine(batch._send())  # noqa: SLF001 - see CallBatch
