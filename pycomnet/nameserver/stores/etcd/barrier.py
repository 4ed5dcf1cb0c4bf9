"""Coalesces requests: one request answers all callers that waited when it began."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet import defer

from pycomnet.deferred import OneShot


class Barrier:
    """Runs one request after the other; each serves all callers that waited when it began.

    :param run: makes a request. When it has ended, the callers that waited before it began go on.
    """

    def __init__(self, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._run = run
        self._is_running = False
        #: the end of the next request
        self._next: OneShot[None] = OneShot()

    def wait(self) -> defer.Deferred[None]:
        """Fires when a request that begins after this call has ended; fails as that does."""
        waiting = self._next.when_fired()
        if not self._is_running:
            self._begin()
        return waiting

    def _begin(self) -> None:
        self._is_running = True
        served, self._next = self._next, OneShot()
        running = defer.Deferred.fromCoroutine(self._run())
        served.follow(running.addBoth(self._ended))

    def _ended(self, outcome: Any) -> Any:
        self._is_running = False
        if self._next.waiting:
            self._begin()
        return outcome
