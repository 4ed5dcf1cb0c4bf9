"""Threads for blocking methods."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from twisted.internet import defer
from twisted.internet.interfaces import IReactorFromThreads, IReactorThreads, IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from pycomnet.deferred import deferred


def _daemon_thread(*args: Any, **options: Any) -> threading.Thread:
    return threading.Thread(*args, daemon=True, **options)


class DaemonThreads(ThreadPool):
    """A pool whose threads do not keep the process from ending.

    A thread can't be interrupted. The reactor waits for its own pool when it stops, and Python
    waits for that pool's threads: for as long as a method takes.
    """

    threadFactory = staticmethod(_daemon_thread)  # type: ignore[assignment]


class MethodThreads:
    """Runs functions that block, and knows which of them still do.

    :param most: how many run at a time; the others wait.
    :param pool: where they run; by default in threads of its own, which are started when the first
        is needed.
    """

    def __init__(self, reactor: IReactorTime, most: int, pool: Any = None) -> None:
        self._reactor = reactor
        self._most = most
        self._pool = pool
        self._own: DaemonThreads | None = None
        self._threads: IReactorFromThreads | None = None
        #: each function that runs or waits for a thread: its name, and the time when it was queued
        self._running: dict[object, tuple[str, float]] = {}

    def run(self, name: str, function: Callable[[], Any]) -> defer.Deferred[Any]:
        """Run a function in a thread.

        :param name: the function's name in the log.
        :returns: fires with its result. If it is cancelled, it fires only after the function has
            returned, so that the caller does not free what the function still uses.
        """
        if self._pool is None:
            self._pool = self._own = DaemonThreads(0, self._most, "pycomnet-methods")
            self._own.start()
        if self._threads is None:  # not before: a reactor without threads serves other methods
            self._threads = IReactorFromThreads(self._reactor)
        key = object()
        self._running[key] = (name, self._reactor.seconds())

        def over(result: Any) -> Any:
            del self._running[key]
            return result

        return in_pool(self._threads, self._pool, function).addBoth(over)

    def still_running(self) -> list[tuple[str, float]]:
        """The functions that still run or wait: the name and the age in seconds of each."""
        now = self._reactor.seconds()
        return [(name, now - begun) for name, begun in self._running.values()]

    def close(self) -> None:
        """End the threads. A busy thread ends with the process, or when its function returns."""
        own, self._own = self._own, None
        if own is not None and not self._running:
            own.stop()


@deferred
async def in_pool(
    reactor: IReactorFromThreads, pool: Any, function: Callable[..., Any], *args: Any
) -> Any:
    """Run a function in a pool of threads.

    :returns: fires with its result. If it is cancelled, it fires only after the function has
        returned, so that the caller does not free what the function still uses.
    """
    outcome: list[Any] = []
    waiting: defer.Deferred[None] = defer.Deferred()

    def done(result: Any) -> None:
        outcome.append(result)
        if not waiting.called:
            waiting.callback(None)

    deferToThreadPool(reactor, pool, function, *args).addBoth(done)
    cancelled = False
    while not outcome:
        waiting = defer.Deferred()
        try:
            await waiting
        except defer.CancelledError:  # also a second time, when the connection ends
            cancelled = True
    if cancelled:
        raise defer.CancelledError
    (result,) = outcome
    if isinstance(result, Failure):
        result.raiseException()
    return result


def in_thread(
    reactor: IReactorThreads, function: Callable[..., Any], *args: Any
) -> defer.Deferred[Any]:
    """Run a function in the reactor's own pool, as :func:`in_pool`."""
    return in_pool(reactor, reactor.getThreadPool(), function, *args)
