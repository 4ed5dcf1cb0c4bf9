"""How long to wait before a request is made again."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from twisted.internet import defer, task

#: Seconds before a request that failed is made again, at first and at most; each is shortened by
#: chance, so that the clients of a server that was restarted don't come all at once.
FIRST_DELAY = 0.05
MAX_DELAY = 5.0
#: Seconds after which a connection that stays is taken to work, though nothing moves on it.
STEADY = 5.0
#: Connections in a row that are lost before they were of any use, until another way is tried.
MAX_DROPS = 5


class Backoff:
    """Delays that double, until something has come of trying.

    :param progress: a number that changes when something has.
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
