"""Batches: calls of one service that go in one write."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from types import TracebackType
from typing import Any

from twisted.internet import defer
from twisted.python.failure import Failure

from pycomnet.ext.proxy.link import Link
from pycomnet.ext.proxy.methods import CallOptions, ProxyMethod
from pycomnet.ext.proxy.signatures import is_attribute
from pycomnet.services.client.remoteservice import RemoteService

#: The most calls that are sent before their results have come; a longer batch goes in parts.
MOST_AT_ONCE = 10_000


class BatchedCall:
    """A call in a batch. It has a result once the batch is done."""

    def __init__(self, method: ProxyMethod, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.method = method
        self.args = args
        self.kwargs = kwargs
        self.outcome: Any = None
        self.is_done = False

    def __repr__(self) -> str:
        state = "done" if self.is_done else "not sent yet"
        return f"<call of {self.method!r}, {state}>"

    def take(self, outcome: Any) -> None:
        """It has ended, with a result or a Failure."""
        self.outcome = outcome
        self.is_done = True

    def result(self) -> Any:
        """The call's result; raises its error.

        :raises RuntimeError: the batch has not been sent.
        """
        if not self.is_done:
            raise RuntimeError("a batch is sent at the end of its with block: take results there")
        if isinstance(self.outcome, Failure):
            self.outcome.raiseException()
        return self.outcome

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
        return self[name]

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
        method.check(args, kwargs)
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
        ready: list[tuple[str, Any]] = []
        service: RemoteService | None = None
        timeout = self._options.timeout
        for call in self._calls:
            service, value, left = await call.method.prepared(call.args, call.kwargs)
            call.method.check_single()
            timeout = timeout if ready else left  # the first one may have waited
            ready.append((call.method.__name__, value))
        for start in range(0, len(ready), MOST_AT_ONCE):
            assert service is not None
            part = ready[start : start + MOST_AT_ONCE]
            sent = await service.invoke_together(part, timeout)
            for call, waiting in zip(self._calls[start:], sent, strict=False):
                waiting.addBoth(call.take)
            await _all(sent)
        for call in self._calls:
            call.result()


def _all(calls: list[defer.Deferred[Any]]) -> defer.Deferred[Any]:
    """Fires when all have fired. Cancelling it cancels them."""
    return defer.DeferredList(calls)


def send_batch(batch: CallBatch) -> defer.Deferred[None]:
    """Send what a batch has collected, and wait until all of it is done.

    :returns: fires when each call has a result; fails with the first error. Cancelling it cancels
        the calls.
    """
    return defer.Deferred.fromCoroutine(batch._send())  # noqa: SLF001 - see CallBatch


__all__ = ["CallBatch", "BatchMethod", "BatchedCall", "send_batch"]
