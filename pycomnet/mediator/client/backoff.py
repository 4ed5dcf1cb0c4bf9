"""How long to wait before a request is made again."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from twisted.internet import defer, task

#: Seconds before a failed request is repeated, at first and at most. Each delay is shortened at
#: random, so that the clients of a restarted server don't come all at once.
FIRST_DELAY = 0.05
MAX_DELAY = 5.0
#: Seconds after which an open connection counts as working, though nothing moves on it.
STEADY = 5.0
#: Useless connections in a row after which requests are used instead.
MAX_DROPS = 5


class Backoff:
    """Delays that double until a try makes progress.

    :param progress: returns a number that changes with progress.
    """

    def __init__(self, reactor: Any, progress: Callable[[], int] = lambda: 0) -> None:
        self._reactor = reactor
        self._progress = progress
        self._last = progress()
        self._delay = FIRST_DELAY

    def wait(self) -> defer.Deferred[None]:
        """Fires when it is time to try again."""
        progress = self._progress()
        if progress != self._last:
            self._last = progress
            self._delay = FIRST_DELAY
        delay = self._delay * random.uniform(0.5, 1)
        self._delay = min(2 * self._delay, MAX_DELAY)
        waiting: defer.Deferred[None] = task.deferLater(self._reactor, delay)
        return waiting
