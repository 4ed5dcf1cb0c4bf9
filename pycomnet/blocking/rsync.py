"""rsync without Deferreds."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.defer import Deferred

from pycomnet.blocking.wrapper import Blocking, wait_for, wraps_class
from pycomnet.errors import TimeoutExpired
from pycomnet.ranges import optional_real
from pycomnet.rsync import rsync as _rsync
from pycomnet.rsync.result import SyncEvent, SyncResult


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
        run = _Run(self._wrapped)
        for event in run.events(optional_real("timeout", timeout)):
            progress(event)
        return run.result()

    def events(self) -> Iterator[SyncEvent]:
        """As :meth:`pycomnet.RSync.events`."""
        self._check()
        yield from _Run(self._wrapped).events()


class _Run:
    """A run whose events are dealt with in the thread that waits for it."""

    def __init__(self, sync: _rsync.RSync) -> None:
        self._events: queue.SimpleQueue[SyncEvent | None] = queue.SimpleQueue()
        self._sync = sync
        self._running: Deferred[SyncResult]
        self._outcome: Any = None
        wait_for(self._start, None, "send")

    def _start(self) -> None:
        self._running = self._sync.send(self._events.put)
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
                    raise TimeoutExpired(f"send took longer than {timeout:g} seconds") from None
                if event is None:
                    break
                yield event
        finally:
            if not self._running.called:
                wait_for(self._cancel, None, "send")

    def _cancel(self) -> None:
        self._running.addErrback(lambda _: None)
        self._running.cancel()

    def result(self) -> SyncResult:
        """What it has done."""
        result: SyncResult = wait_for(lambda: self._running, None, "send")
        return result


__all__ = ["RSync"]
