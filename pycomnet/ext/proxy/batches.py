"""Batches: calls of one service that go in one write."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import Any

from twisted.internet import defer
from twisted.python.failure import Failure

from pycomnet.ext.proxy.link import Link
from pycomnet.ext.proxy.methods import NOT_GIVEN, CallOptions, ProxyMethod
from pycomnet.ext.proxy.signatures import is_attribute
from pycomnet.services.client.pending import PendingCall
from pycomnet.services.client.remoteservice import DEFAULT

#: The most calls that are sent before their results have come; a longer batch goes in parts.
MOST_AT_ONCE = 10_000


class BatchedCall:
    """A call in a batch. It has a result once the batch is done."""

    __slots__ = ("_args", "_ended", "_kwargs", "_method", "_outcome", "_value")

    def __init__(self, method: ProxyMethod, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._method = method
        self._args = args
        self._kwargs = kwargs
        #: the structured arguments, once they are known to be right
        self._value = method.bound(args, kwargs)
        self._outcome: Any = NOT_GIVEN
        #: called when it has ended
        self._ended: Callable[[], None] | None = None

    def __repr__(self) -> str:
        state = "not done" if self._outcome is NOT_GIVEN else "done"
        return f"<call of {self._method!r}, {state}>"

    async def prepare(self, ended: Callable[[], None]) -> tuple[str, Any, BatchedCall]:
        """What is sent for it.

        :param ended: called when it has ended.
        :raises TypeError: the arguments do not fit, or the method gives a stream.
        """
        self._ended = ended
        if self._value is NOT_GIVEN:
            _, self._value, _ = await self._method.prepared(self._args, self._kwargs)
            self._method.check_single()
        return self._method.__name__, self._value, self

    def callback(self, result: Any) -> None:
        """The result has come."""
        self._outcome = result
        ended, self._ended = self._ended, None
        if ended is not None:
            ended()

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


class BatchMethod:
    """A method in a batch: a call of it is collected."""

    def __init__(self, batch: CallBatch, method: ProxyMethod) -> None:
        self._batch = batch
        self._method = method

    def __repr__(self) -> str:
        return f"<in a batch: {self._method!r}>"

    def __call__(self, /, *args: Any, **kwargs: Any) -> BatchedCall:
        """Add a call.

        :raises TypeError: the arguments do not fit what is known of the method.
        """
        return self._batch._add(self._method, args, kwargs)  # noqa: SLF001 - see CallBatch


class CallBatch:
    """Calls that are collected in a ``with`` block and sent at its end, in one write.

    Leaving the block waits until all are done. If one has failed, the block raises the first error;
    each :class:`BatchedCall` has its own. If the block itself raises, nothing is sent. Iterate over
    the batch for its calls. All go to the same instance of the service.

    It has no public attributes of its own, as these are the service's methods.
    """

    def __init__(self, link: Link, options: CallOptions) -> None:
        if not options.is_short:
            raise TypeError("a batch has no blocks of binary data, and no args for all its calls")
        self._link = link
        self._options = options
        self._calls: list[BatchedCall] = []
        self._sent = False

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
        return BatchMethod(self, ProxyMethod(self._link, name, self._options))

    def __iter__(self) -> Iterator[BatchedCall]:
        return iter(self._calls)

    def __len__(self) -> int:
        return len(self._calls)

    def _add(
        self, method: ProxyMethod, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> BatchedCall:
        if self._sent:
            raise RuntimeError("the batch has been sent: make another one")
        call = BatchedCall(method, args, kwargs)
        self._calls.append(call)
        return call

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
        self._sent = True
        service = await self._link.reach()
        clock = service.context.reactor
        began = clock.seconds()
        ending = _Countdown()
        ready = [await call.prepare(ending.one) for call in self._calls]
        timeout = self._options.timeout
        if timeout is not DEFAULT and timeout is not None:
            timeout -= clock.seconds() - began
        for start in range(0, len(ready), MOST_AT_ONCE):
            part = ready[start : start + MOST_AT_ONCE]
            ended = ending.of(len(part))
            ending.running = await service.invoke_together(part, timeout)
            await ended
        for call in self._calls:
            call.result()


class _Countdown:
    """Waits for the ends of some calls.

    :ivar running: the calls, once they are sent.
    """

    def __init__(self) -> None:
        self.running: list[PendingCall] = []
        self._left = 0
        self._ended: defer.Deferred[None] = defer.Deferred()

    def of(self, count: int) -> defer.Deferred[None]:
        """Fires when so many have ended. Cancelling it cancels those that have not."""
        self._left = count
        self._ended = defer.Deferred(self._cancel)
        return self._ended

    def one(self) -> None:
        """One has ended."""
        self._left -= 1
        if not self._left and not self._ended.called:
            self._ended.callback(None)

    def _cancel(self, _: object) -> None:
        for call in self.running:
            call.cancel()


def send_batch(batch: CallBatch) -> defer.Deferred[None]:
    """Send what a batch has collected, and wait until all of it is done.

    :returns: fires when each call has a result; fails with the first error. Cancelling it cancels
        the calls.
    """
    return defer.Deferred.fromCoroutine(batch._send())  # noqa: SLF001 - see CallBatch


__all__ = ["CallBatch", "BatchMethod", "BatchedCall", "send_batch"]
