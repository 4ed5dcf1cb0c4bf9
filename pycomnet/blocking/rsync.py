"""rsync without Deferreds."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred

from pycomnet.blocking.gateways import Gateway
from pycomnet.blocking.waiting import wait_for
from pycomnet.blocking.wrapper import Blocking, to_deferred_api, wraps_class
from pycomnet.errors import TimeoutExpired
from pycomnet.ranges import optional_real
from pycomnet.rsync import fetch as _fetch
from pycomnet.rsync import rsync as _rsync
from pycomnet.rsync.result import SyncEvent, SyncResult, TargetResult

T = TypeVar("T")


@wraps_class(_rsync.RSync)
class RSync(Blocking):
    """Filled from :class:`pycomnet.RSync`."""

    __slots__ = ()

    def __init__(self, source: Any, **options: Any) -> None:
        self._wrapped = _rsync.RSync(source, **options)

    def send(
        self,
        progress: Callable[[SyncEvent], object] | None = None,
        *,
        timeout: float | None = None,
    ) -> SyncResult:
        """As :meth:`pycomnet.RSync.send`; ``progress`` is called in this thread."""
        self._check()
        if progress is None:
            result: SyncResult = wait_for(self._wrapped.send, timeout, "send")
            return result
        sent: SyncResult = _run_with(progress, timeout, self._wrapped.send)
        return sent

    def watch(
        self,
        progress: Callable[[SyncEvent], object] | None = None,
        *,
        timeout: float | None = None,
    ) -> None:
        """As :meth:`pycomnet.RSync.watch`; ``progress`` is called in this thread.

        It does not return. What ends it is what it raises, such as KeyboardInterrupt.
        """
        self._check()
        if progress is None:
            wait_for(self._wrapped.watch, timeout, "watch")
        else:
            _run_with(progress, timeout, self._wrapped.watch)

    def events(self) -> Iterator[SyncEvent]:
        """As :meth:`pycomnet.RSync.events`."""
        self._check()
        yield from _Run(self._wrapped.send).events()


def fetch(
    gateway: Gateway,
    source: Any,
    destination: Any,
    *,
    progress: Callable[[SyncEvent], object] | None = None,
    timeout: float | None = None,
    **options: Any,
) -> TargetResult:
    """As :func:`pycomnet.fetch`; ``progress`` is called in this thread."""
    inner = to_deferred_api(gateway)

    def start(put: Callable[[SyncEvent], object] | None = None) -> Deferred[TargetResult]:
        return _fetch.fetch(inner, source, destination, progress=put, **options)

    if progress is None:
        result: TargetResult = wait_for(start, timeout, "fetch")
        return result
    return _run_with(progress, timeout, start)


def _run_with(
    progress: Callable[[SyncEvent], object],
    timeout: float | None,
    start: Callable[[Callable[[SyncEvent], object]], Deferred[T]],
) -> T:
    """Run, and call ``progress`` in this thread."""
    run = _Run(start)
    for event in run.events(optional_real("timeout", timeout)):
        progress(event)
    return run.result()


class _Run(Generic[T]):
    """A run whose events are dealt with in the thread that waits for it.

    :param start: starts it, in the reactor's thread; gets what is called with each event.
    """

    def __init__(self, start: Callable[[Callable[[SyncEvent], object]], Deferred[T]]) -> None:
        self._events: queue.SimpleQueue[SyncEvent | None] = queue.SimpleQueue()
        self._start = start
        self._running: Deferred[T]
        wait_for(self._begin, None, "rsync")

    def _begin(self) -> None:
        self._running = self._start(self._events.put)
        self._running.addBoth(self._ended)

    def _ended(self, outcome: Any) -> Any:
        self._events.put(None)
        return outcome

    def events(self, timeout: float | None = None) -> Iterator[SyncEvent]:
        """The events; leaving the loop ends the run.

        :param timeout: seconds for the whole run.
        :raises TimeoutExpired: it takes longer, and was ended.
        """
        end = None if timeout is None else time.monotonic() + timeout
        try:
            while True:
                left = None if end is None else max(0.0, end - time.monotonic())
                try:
                    event = self._events.get(timeout=left)
                except queue.Empty:
                    raise TimeoutExpired(f"it took longer than {timeout:g} seconds") from None
                if event is None:
                    break
                yield event
        finally:
            if not self._running.called:
                wait_for(self._cancel, None, "rsync")

    def _cancel(self) -> None:
        self._running.addErrback(lambda _: None)
        self._running.cancel()

    def result(self) -> T:
        """What it has done."""
        result: T = wait_for(lambda: self._running, None, "rsync")
        return result


__all__ = ["RSync", "fetch"]
