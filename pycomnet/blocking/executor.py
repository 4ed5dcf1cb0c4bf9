"""A ``concurrent.futures`` executor over gateways, for :mod:`pycomnet.blocking`."""

from __future__ import annotations

import itertools
import queue
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import Any

from twisted.internet import defer

from pycomnet import forks
from pycomnet.blocking.reactorthread import thread as _reactor_thread
from pycomnet.blocking.waiting import running_reactor, stopped_error, wait_for
from pycomnet.blocking.wrapper import to_deferred_api
from pycomnet.gateways.pool.pool import Encoder, GatewayPool, PoolCall
from pycomnet.gateways.pool.scheduler import NoGatewayLeft

#: How many calls of ``map`` are submitted together.
BATCH = 500
#: The executors that there are: what they were given is handed over when the reactor has stopped.
_executors: weakref.WeakSet[GatewayExecutor] = weakref.WeakSet()
#: A future and its outcome.
_Outcome = tuple["Future[Any]", "bytes | None", "Exception | None"]


class GatewayExecutor(Executor):
    """A ``concurrent.futures.Executor`` whose workers are gateways.

    ``submit``, ``map``, ``as_completed``, ``wait`` and the ``with`` statement work as in the
    standard library; any free gateway takes the next call. Functions are sent as for
    :meth:`pycomnet.Gateway.call`: source text, or ``"module:function"``. An exception of one is a
    :class:`pycomnet.RemoteError` here. Functions given to ``add_done_callback`` run in a thread of
    the executor's own.

    :param gateways: a group, or some gateways; the executor does not end them.
    :param options: ``jobs``, ``tries``, ``idempotent`` and ``replace``, as for
        :class:`pycomnet.GatewayPool`.
    """

    def __init__(self, gateways: Iterable[Any], **options: Any) -> None:
        self._era = forks.era
        chosen = [to_deferred_api(gateway) for gateway in gateways]
        self._outcomes: queue.SimpleQueue[_Outcome | None] = queue.SimpleQueue()
        outcomes = self._outcomes

        def make() -> GatewayPool:
            pool = GatewayPool(running_reactor(), chosen, **options)
            # This also happens when the executor is dropped; the submitted calls are done first.
            pool.when_over().addBoth(lambda _: outcomes.put(None))
            return pool

        self._pool: GatewayPool = wait_for(make, None, "GatewayExecutor")
        self._encoder: Encoder = self._pool.encoder
        self._lock = threading.Lock()
        #: calls on their way to the reactor's thread
        self._submitted: deque[tuple[PoolCall, Future[Any]]] = deque()
        self._told = False
        self._shutdown = False
        #: whether calls that have not begun are cancelled, from now on
        self._cancels = threading.Event()
        self._thread = threading.Thread(
            target=_deliver, args=(self._outcomes, self._encoder), name="pycomnet executor"
        )
        self._thread.daemon = True
        self._thread.start()
        _executors.add(self)

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Let the next free gateway call a function.

        :raises CodeNotSendable: the function can't run on its own.
        :raises ValueNotSendable: an argument can't be sent.
        :raises RuntimeError: the executor was shut down.
        """
        made = self._make(fn, args, kwargs)
        self._submit([made])
        return made[1]

    def _make(
        self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[PoolCall, Future[Any]]:
        future: Future[Any] = Future()
        outcomes, cancels = self._outcomes, self._cancels

        def done(payload: bytes | None, error: Exception | None) -> None:
            outcomes.put((future, payload, error))

        def taken() -> bool:
            if cancels.is_set():
                future.cancel()
            return future.set_running_or_notify_cancel()

        return self._encoder.call(function, args, kwargs, taken, done), future

    def _submit(self, made: list[tuple[PoolCall, Future[Any]]]) -> None:
        if self._era != forks.era:
            raise forks.used("the executor")
        with self._lock:
            if self._shutdown:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._submitted.extend(made)
            told, self._told = self._told, True
        if not told:
            running_reactor().callFromThread(self.hand_over)
        if _reactor_thread.stopped:
            self.hand_over()

    def hand_over(self) -> None:
        """In the reactor's thread, or when that has ended: queue what was submitted."""
        with self._lock:
            submitted, self._submitted = self._submitted, deque()
            self._told = False
        if _reactor_thread.stopped:
            self._outcomes.put(None)  # the pool may not have noticed its end
        if not submitted:
            return
        problem: Exception
        if _reactor_thread.stopped:
            problem = stopped_error()
        else:
            try:
                self._pool.add([call for call, _ in submitted])
                return
            except NoGatewayLeft as none_left:
                problem = none_left
        # The thread that reports outcomes ends with the pool.
        refused: queue.SimpleQueue[_Outcome | None] = queue.SimpleQueue()
        for call, future in submitted:
            if call.begin():
                refused.put((future, None, problem))
        refused.put(None)
        if _reactor_thread.stopped:
            _deliver(refused, self._encoder)  # perhaps no thread can be started any more
        else:
            threading.Thread(target=_deliver, args=(refused, self._encoder), daemon=True).start()

    def map(
        self,
        fn: Any,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """As the standard library's.

        :param chunksize: ignored: the size of chunks follows the duration of the calls.
        :param buffersize: the most calls that are running, or whose results have not been taken
            from the iterator; by default all are submitted at once.
        """
        if buffersize is not None and buffersize < 1:
            raise ValueError(f"buffersize is None or at least 1, not {buffersize!r}")
        end = None if timeout is None else time.monotonic() + timeout
        items = zip(*iterables, strict=False)
        futures: deque[Future[Any]] = deque()

        def submit(most: int | None) -> None:
            # Many at a time, as waking the reactor for each one would take longer than all else.
            left = itertools.islice(items, most)
            while batch := [self._make(fn, args, {}) for args in itertools.islice(left, BATCH)]:
                self._submit(batch)
                futures.extend(future for _, future in batch)

        submit(buffersize)

        def results() -> Iterator[Any]:
            try:
                while futures:
                    left = None if end is None else end - time.monotonic()
                    result = futures[0].result(left)
                    futures.popleft()
                    if buffersize is not None:
                        submit(1)
                    yield result
            finally:
                for future in futures:
                    future.cancel()

        return results()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more calls.

        :param wait: return when all submitted calls are done.
        :param cancel_futures: cancel the calls that have not begun.
        """
        if self._era != forks.era:
            return  # the parent's executor goes on
        with self._lock:
            self._shutdown = True
            if cancel_futures:
                self._cancels.set()

        def end() -> Any:
            self.hand_over()
            return self._pool.shutdown(cancel=cancel_futures)

        if wait:
            wait_for(end, None, "shutdown")
            if threading.current_thread() is not self._thread:
                self._thread.join()
        else:
            running_reactor().callFromThread(end)


def _hand_over_all() -> None:
    for executor in list(_executors):
        executor.hand_over()


_reactor_thread.when_stopped.append(_hand_over_all)


def _deliver(outcomes: queue.SimpleQueue[_Outcome | None], encoder: Encoder) -> None:
    """Give the futures their outcomes, until there are no more."""
    while True:
        outcome = outcomes.get()
        if outcome is None:
            return
        future, payload, error = outcome
        _tell(future, lambda payload=payload, error=error: encoder.value(payload, error))  # type: ignore[misc]
        del outcome, future


def _tell(future: Future[Any], value: Callable[[], Any]) -> None:
    try:
        result = value()
    except defer.CancelledError:
        if future.cancel():
            future.set_running_or_notify_cancel()  # notifies the waiters
    except Exception as problem:
        future.set_exception(problem)
    else:
        future.set_result(result)


__all__ = ["GatewayExecutor"]
