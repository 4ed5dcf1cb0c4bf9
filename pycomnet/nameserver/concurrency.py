"""Limits how many functions run at a time. The others wait for their turn."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet import defer


class ConcurrencyLimit:
    """A DeferredSemaphore that does not recurse when thousands of functions end at once.

    :param limit: the most that run at a time.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._running = 0
        self._waiting: deque[tuple[Callable[[], Any], defer.Deferred[Any]]] = deque()
        self._starting = False

    def run(self, start: Callable[[], defer.Deferred[Any]]) -> defer.Deferred[Any]:
        """Call a function as soon as fewer than ``limit`` run. It runs until its Deferred fires.

        :returns: fires with the function's result.
        """
        result: defer.Deferred[Any] = defer.Deferred()
        self._waiting.append((start, result))
        self._start()
        return result

    def _start(self) -> None:
        if self._starting:
            return  # the loop below runs already, further up the stack
        self._starting = True
        try:
            while self._waiting and self._running < self._limit:
                start, result = self._waiting.popleft()
                self._running += 1
                defer.maybeDeferred(start).addBoth(self._ended, result)
        finally:
            self._starting = False

    def _ended(self, outcome: Any, result: defer.Deferred[Any]) -> None:
        self._running -= 1
        result.callback(outcome)
        self._start()
