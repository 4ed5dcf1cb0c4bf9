"""Runs calls on any free one of several gateways."""

from __future__ import annotations

import contextlib
import functools
import itertools
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

import attrs
from twisted.internet import defer
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.python.failure import Failure

from pycomnet.deferred import OneShot, deferred, shielded
from pycomnet.errors import CodeNotSendable, GatewayDied, RemoteError
from pycomnet.gateways.gateway import Gateway
from pycomnet.gateways.pool.scheduler import REPLACEMENTS, NoGatewayLeft, WorkScheduler
from pycomnet.gateways.pool.workqueue import MAX_TRIES, Failed, Item, WorkQueue
from pycomnet.gateways.source import without_partial
from pycomnet.ranges import whole
from pycomnet.text.logs import Logger
from pycomnet.wire.codec import make_codec

log = Logger()
#: The most functions that a far side's loop keeps.
MAX_KNOWN = 256
#: The most calls of :meth:`GatewayPool.map` that are in progress at a time.
MAP_BUFFER = 2000


@attrs.define(eq=False, order=False)
class PoolCall(Item):
    """A submitted call.

    :ivar payload: its encoding for the far side's loop.
    :ivar function: the function.
    :ivar number: its place in the order; ``key`` is the function's number.
    :ivar taken: called when a gateway takes it; returns False if it was cancelled.
    :ivar done: called with the result's encoding, or with an error.
    """

    payload: bytes
    key: int
    function: Any
    taken: Callable[[], bool]
    done: Callable[[bytes | None, Exception | None], object]
    begun: bool = False

    def begin(self) -> bool:
        """A gateway takes it: the first time, ask whether it was cancelled."""
        if not self.begun:
            self.begun = True
            return self.taken()
        return True


class CallQueue(WorkQueue[PoolCall]):
    """Calls, in the order in which they were submitted."""

    def __init__(self, tries: int) -> None:
        super().__init__(tries)
        self.over: Exception | None = None

    def suited(self, items: list[PoolCall], known: set[int], gateway: Gateway) -> list[PoolCall]:
        """Those whose functions a gateway can run; the others fail with the reason."""
        refused: dict[int, CodeNotSendable] = {}
        for item in items:
            if item.key not in known and item.key not in refused:
                try:
                    gateway.request_for(item.function, awaits=True)
                except CodeNotSendable as problem:
                    refused[item.key] = problem
        if not refused:
            return items
        for item in items:
            if item.key in refused:
                self.outstanding -= 1
                item.done(None, refused[item.key])
        return [item for item in items if item.key not in refused]

    def message(self, items: Sequence[PoolCall], known: set[int], gateway: Gateway) -> list[Any]:
        """The message with the calls, and with the functions that are new to this loop."""
        forget = len(known) > MAX_KNOWN
        if forget:
            known.clear()
        functions = {}
        for item in items:
            if item.key not in known:
                known.add(item.key)
                functions[item.key] = gateway.request_for(item.function, awaits=True)
        return [[item.payload for item in items], functions, forget]

    def succeeded(self, item: PoolCall, value: bytes) -> None:
        """Give the submitter the outcome."""
        item.done(value, None)

    def failed(self, item: PoolCall, failed: Failed) -> None:
        """Give the submitter the outcome."""
        if failed.type:
            error: Exception = RemoteError(failed.type, failed.message, failed.traceback)
        elif self.over is not None:
            error = self.over
        else:
            error = GatewayDied(failed.message)
        item.done(None, error)


class Encoder:
    """Encodes calls and decodes their results. It may be used in any thread.

    :param gateways: each function has to be able to run on all of them.
    """

    def __init__(self, gateways: Iterable[Gateway]) -> None:
        # Weak references, so that a gateway that was lost and replaced is not kept alive.
        self._gateways = weakref.WeakSet(gateways)
        codec = make_codec()
        self._decode = codec.decode
        self._encode = codec.encode
        self._counter = itertools.count(1)
        self._keys: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._names: dict[str, int] = {}
        self._key_counter = itertools.count()

    def call(
        self,
        function: str | Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        taken: Callable[[], bool],
        done: Callable[[bytes | None, Exception | None], object],
    ) -> PoolCall:
        """Make a call, ready to be queued.

        :raises CodeNotSendable: the function can't run on its own.
        :raises ValueNotSendable: an argument can't be sent.
        """
        if isinstance(function, functools.partial):
            function, first, keywords = without_partial(function)
            args, kwargs = first + args, {**keywords, **kwargs}
        key = self._key(function)
        payload = self._encode([key, list(args), kwargs])
        return PoolCall(next(self._counter), len(payload), payload, key, function, taken, done)

    def value(self, payload: bytes | None, error: Exception | None) -> Any:
        """Decode the result given to :attr:`PoolCall.done`, or raise its error."""
        if error is not None:
            raise error
        assert payload is not None
        return self._decode(payload)

    def _key(self, function: str | Callable[..., Any]) -> int:
        known: Any = self._names if isinstance(function, str) else self._keys
        try:
            found: int = known[function]
        except (KeyError, TypeError):
            for gateway in tuple(self._gateways):
                gateway.request_for(function, awaits=True)  # raises if it can't be sent
            found = next(self._key_counter)
            with contextlib.suppress(TypeError):  # some callables are not hashable
                known[function] = found
        return found


class GatewayPool:
    """Runs calls on any free one of several gateways.

    It takes work from a queue in chunks, whose size follows the time that items take, and sends
    each function's source once. A lost gateway is replaced, and other gateways run its calls again:
    so a call may run more than once, unless the pool is made with ``idempotent=False``.

    Use it with ``async with``, or call :meth:`shutdown`: it keeps the gateways alive, and uses one
    request of each. It does not end them.

    :param reactor: the reactor of the gateways.
    :param gateways: a group, or some gateways.
    :param jobs: how many calls each gateway runs at the same time, in threads.
    :param tries: how many gateways may be lost with a call before it fails with
        :class:`GatewayDied`. A call with which two were lost is then run alone on a gateway, so
        that no other call can be the cause. With less than three, each gateway has one call per
        job.
    :param idempotent: whether calls may be repeated; ``False`` is ``tries=1``.
    :param replace: how often each gateway is replaced. One that its owner ended is not.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        gateways: Iterable[Gateway],
        *,
        jobs: int = 1,
        tries: int = MAX_TRIES,
        idempotent: bool = True,
        replace: int = REPLACEMENTS,
    ) -> None:
        chosen = list(gateways)
        if not chosen:
            raise ValueError("a pool needs at least one gateway")
        for gateway in chosen:
            if not isinstance(gateway, Gateway):
                raise TypeError(
                    f"a pool is made of gateways, not {gateway!r}: make them with "
                    "group.makegateway(spec), or give it the group"
                )
        jobs, tries = whole("jobs", jobs, 1), whole("tries", tries, 1)
        replace = whole("replace", replace)
        self.encoder = Encoder(chosen)
        self._queue = queue = CallQueue(tries if idempotent else 1)
        self._scheduler: WorkScheduler[PoolCall] = WorkScheduler(
            queue, None, jobs, replace, _said, reactor, "call"
        )
        self._over: OneShot[None] = OneShot()
        self._over.follow(_run(self._scheduler, queue, chosen))
        # If it is dropped, submitted calls are still run, as in concurrent.futures.
        self._finalizer = weakref.finalize(
            self, IReactorFromThreads(reactor).callFromThread, _end, queue, self._scheduler
        )
        self._finalizer.atexit = False

    def submit(
        self, function: str | Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> defer.Deferred[Any]:
        """Let the next free gateway call a function.

        :param function: a function, whose source is sent, or ``"module:function"``; as for
            :meth:`Gateway.call`, a function of a module that was offered to the gateways is
            imported there. The result of an async function is awaited there. All gateways must be
            able to run it.
        :returns: fires with its result; fails with :class:`RemoteError` if it raised, with
            :class:`GatewayDied` if too many gateways were lost with it, with
            :class:`NoGatewayLeft`, :class:`CodeNotSendable` or :class:`ValueNotSendable`.
            Cancelling it withdraws the call if it has not begun; otherwise it drops the result.
        """
        wanted = True

        def cancel(_: object) -> None:
            nonlocal wanted
            wanted = False

        result: defer.Deferred[Any] = defer.Deferred(cancel)

        def done(payload: bytes | None, error: Exception | None) -> None:
            if not wanted:
                return
            try:
                value = self.encoder.value(payload, error)
            except Exception:
                result.errback(Failure())
            else:
                result.callback(value)

        try:
            self.add([self.encoder.call(function, args, kwargs, lambda: wanted, done)])
        except Exception as problem:
            return defer.fail(problem)
        return result

    async def map(
        self,
        function: str | Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        buffersize: int = MAP_BUFFER,
    ) -> AsyncIterator[Any]:
        """Call a function with the items of the iterables, like ``map``.

        :param buffersize: the most calls that are running, or whose results have not been taken.
        :returns: an async iterator of the results, in the order of the items. It raises the error
            of the first call that failed. When it is closed, calls that have not begun are
            withdrawn.
        :raises NumberRefused: ``buffersize`` is not a number from 1.
        """
        buffersize = whole("buffersize", buffersize, 1)
        results: deque[defer.Deferred[Any]] = deque()
        items = zip(*iterables, strict=False)
        try:
            while True:
                for args in itertools.islice(items, max(0, buffersize - len(results))):
                    results.append(self.submit(function, *args))
                if not results:
                    return
                yield await results.popleft()
        finally:
            for result in results:
                result.addErrback(lambda failure: None)
                result.cancel()

    def add(self, calls: Iterable[PoolCall]) -> None:
        """Queue calls.

        :raises NoGatewayLeft: no gateway can run them.
        :raises RuntimeError: it was shut down.
        """
        queue = self._queue
        if queue.over is not None:
            raise NoGatewayLeft(str(queue.over))
        if queue.ended:
            raise RuntimeError("the pool was shut down")
        for call in calls:
            queue.put(call)
        self._scheduler.changed.ring()

    def pending(self) -> list[PoolCall]:
        """The calls that no gateway has taken."""
        return self._queue.waiting_items()

    @shielded
    async def shutdown(self, *, cancel: bool = False) -> None:
        """Accept no more calls.

        :param cancel: withdraw calls that have not begun; their Deferreds fail with
            ``CancelledError``.
        :returns: fires when all submitted calls are done. Cancelling it changes nothing.
        """
        if cancel:
            waiting = [call for call in self.pending() if not call.begun]
            gone = set(waiting)
            self._queue.keep_only([call for call in self.pending() if call not in gone])
            for call in waiting:
                call.begun = True
                call.done(None, defer.CancelledError())
        _end(self._queue, self._scheduler)
        await self.when_over()

    def when_over(self) -> defer.Deferred[None]:
        """Fires when no more calls will be run. Cancelling it changes nothing."""
        return self._over.when_fired()

    async def __aenter__(self) -> GatewayPool:
        return self

    async def __aexit__(self, kind: Any, *exception: object) -> None:
        await self.shutdown(cancel=kind is not None)


def _said(message: str) -> None:
    log.warn("{message}", message=message)


def _end(queue: CallQueue, scheduler: WorkScheduler[PoolCall]) -> None:
    queue.end()
    scheduler.changed.ring()


@deferred
async def _run(
    scheduler: WorkScheduler[PoolCall], queue: CallQueue, gateways: list[Gateway]
) -> None:
    """Work until the queue is finished; if no gateway is left, fail all waiting calls."""
    try:
        await scheduler.work(gateways)
    except Exception as problem:
        queue.over = problem
        if not isinstance(problem, NoGatewayLeft):
            log.failure("the pool can't go on")
            queue.over = NoGatewayLeft(f"the pool can't go on: {type(problem).__name__}: {problem}")
        queue.give_up(Failed("", str(problem)))
