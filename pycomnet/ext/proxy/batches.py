"""Batches: calls of one service that go in one request."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from types import TracebackType
from typing import Any

from twisted.internet import defer
from twisted.python.failure import Failure

from pycomnet.errors import CallSkipped
from pycomnet.ext.proxy.link import Link
from pycomnet.ext.proxy.methods import NOT_GIVEN, CallOptions, ProxyMethod
from pycomnet.ext.proxy.signatures import MethodSignature, is_attribute
from pycomnet.services.client.remoteservice import DEFAULT

#: The most calls that are sent before their results have come; a longer batch goes in parts.
MOST_AT_ONCE = 10_000


#: A call's arguments as they were given: by position and by name.
Given = tuple[tuple[Any, ...], dict[str, Any]]


class BatchedCall:
    """A call in a batch. It has a result once the batch is done."""

    __slots__ = ("_given", "_method", "_outcome", "value")

    def __init__(self, method: ProxyMethod, value: Any, given: Given | None = None) -> None:
        self._method = method
        #: the structured arguments, once they are known to be right; until then what was given
        self.value = value
        self._given = given
        self._outcome: Any = NOT_GIVEN

    def __repr__(self) -> str:
        state = "not done" if self._outcome is NOT_GIVEN else "done"
        return f"<call of {self._method!r}, {state}>"

    @property
    def name(self) -> str:
        """The method's name."""
        return self._method.__name__

    @property
    def is_ready(self) -> bool:
        """Whether the structured arguments are known."""
        return self._given is None

    @property
    def has_failed(self) -> bool:
        """Whether it has an error."""
        return isinstance(self._outcome, Failure)

    async def prepare(self) -> None:
        """Find the structured arguments.

        :raises TypeError: the arguments do not fit, or the method gives a stream.
        """
        if self._given is not None:
            _, self.value, _ = await self._method.prepared(*self._given)
            self._method.check_single()
            self._given = None

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
        if isinstance(outcome, Failure):
            outcome.raiseException()
        return outcome

    def __await__(self) -> Generator[Any, Any, Any]:
        yield from ()
        return self.result()


class CollectedCalls(list[BatchedCall]):
    """The calls of a batch.

    :ivar sent: whether no more are taken.
    """

    sent = False


class BatchMethod:
    """A method in a batch: a call of it is collected."""

    __slots__ = ("_calls", "_known", "_method")

    def __init__(self, calls: CollectedCalls, method: ProxyMethod) -> None:
        self._calls = calls
        self._method = method
        #: what the service says of it, once that is known
        self._known: MethodSignature | None = None

    def __repr__(self) -> str:
        return f"<in a batch: {self._method!r}>"

    def __call__(self, /, *args: Any, **kwargs: Any) -> BatchedCall:
        """Add a call.

        :raises TypeError: the arguments do not fit what is known of the method.
        """
        if self._calls.sent:
            raise RuntimeError("the batch has been sent: make another one")
        known = self._known
        if known is not None:
            call = BatchedCall(self._method, known.bind(args, kwargs))
        else:
            method = self._method
            value = method.bound(args, kwargs)
            self._known = method.description
            call = BatchedCall(method, value, (args, kwargs) if value is NOT_GIVEN else None)
        self._calls.append(call)
        return call


class CallBatch:
    """Calls that are collected in a ``with`` block and sent at its end, in one request.

    Leaving the block waits until all are done. If one has failed, the block raises the first error;
    each :class:`BatchedCall` has its own. With ``stop_at_error``, each begins when the one before
    it is done, and none after one that fails: those have the error :class:`pycomnet.CallSkipped`.
    If the block itself raises, nothing is sent. Iterate over the batch for its calls. All go to the
    same instance of the service.

    It has no public attributes of its own, as these are the service's methods.
    """

    def __init__(self, link: Link, options: CallOptions, stop_at_error: bool = False) -> None:
        if not options.is_short:
            raise TypeError("a batch has no blocks of binary data, and no args for all its calls")
        self._link = link
        self._options = options
        self._calls = CollectedCalls()
        self._stop_at_error = stop_at_error

    def __repr__(self) -> str:
        return f"<CallBatch of {len(self._calls)} calls, {self._link!r}>"

    def __getattr__(self, name: str) -> BatchMethod:
        if not is_attribute(name):
            raise AttributeError(f"a batch has no attribute {name!r}")
        method = self.__dict__[name] = self[name]
        return method

    def __getitem__(self, name: str) -> BatchMethod:
        if not isinstance(name, str):
            raise TypeError(f"a method's name is a str, not {type(name).__name__}")
        return BatchMethod(self._calls, ProxyMethod(self._link, name, self._options))

    def __iter__(self) -> Iterator[BatchedCall]:
        return iter(self._calls)

    def __len__(self) -> int:
        return len(self._calls)

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
        calls = self._calls
        calls.sent = True
        service = await self._link.reach()
        clock = service.context.reactor
        began = clock.seconds()
        for call in calls:
            if not call.is_ready:
                await call.prepare()
        timeout = self._options.timeout
        if timeout is not DEFAULT and timeout is not None:
            timeout -= clock.seconds() - began
        for start in range(0, len(calls), MOST_AT_ONCE):
            part = [(one.name, one.value, one) for one in calls[start : start + MOST_AT_ONCE]]
            await service.invoke_together(part, timeout, self._stop_at_error)
            if self._stop_at_error and any(one.has_failed for _, _, one in part):
                for call in calls[start + MOST_AT_ONCE :]:
                    call.errback(Failure(CallSkipped("a call before it in the batch has failed")))
                break
        for call in calls:
            call.result()


def send_batch(batch: CallBatch) -> defer.Deferred[None]:
    """Send what a batch has collected, and wait until all of it is done.

    :returns: fires when each call has a result; fails with the first error. Cancelling it cancels
        the calls.
    """
    return defer.Deferred.fromCoroutine(batch._send())  # noqa: SLF001 - see CallBatch


__all__ = ["CallBatch", "BatchMethod", "BatchedCall", "send_batch"]
