"""Coalesces requests: one request answers all callers that waited when it began."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet import defer


class Barrier:
    """Runs one request after the other; each serves all callers that waited when it began.

    :param run: makes a request. When it has ended, the callers that waited before it began go on.
    """

    def __init__(self, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._run = run
        self._is_running = False
        #: the callers that the next request serves
        self._waiting: list[defer.Deferred[None]] = []

    def wait(self) -> defer.Deferred[None]:
        """Fires when a request that begins after this call has ended; fails as that does."""
        waiting: defer.Deferred[None] = defer.Deferred()
        self._waiting.append(waiting)
        self._next()
        return waiting

    def _next(self) -> None:
        if self._is_running or not self._waiting:
            return
        self._is_running = True
        served, self._waiting = self._waiting, []
        defer.Deferred.fromCoroutine(self._run()).addBoth(self._ended, served)

    def _ended(self, outcome: Any, served: list[defer.Deferred[None]]) -> None:
        self._is_running = False
        self._next()
        for one in served:
            if not one.called:
                one.callback(outcome)


__all__ = ["Barrier"]
