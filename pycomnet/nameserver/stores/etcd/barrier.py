"""One question for all who ask while it is asked."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet import defer


class Barrier:
    """Runs one round after the other; each serves all who were there when it began.

    :param run: a round: when it has ended, whoever waited since before it began goes on.
    """

    def __init__(self, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._run = run
        self._is_running = False
        #: those for whom the next round is
        self._waiting: list[defer.Deferred[None]] = []

    def wait(self) -> defer.Deferred[None]:
        """Fires when a round that begins after this call has ended; fails as that does."""
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
