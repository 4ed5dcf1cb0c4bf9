"""How long to wait before what failed is tried again."""

from __future__ import annotations

import random
from collections.abc import Callable

from twisted.application.internet import backoffPolicy
from twisted.internet import defer, task
from twisted.internet.interfaces import IReactorTime

#: Each delay is so many times the one before it.
FACTOR = 2.0


def retry_policy(first: float, longest: float) -> Callable[[int], float]:
    """How long to wait after so many failures in a row, as a function of their number from 0 on.

    That is Twisted's ``backoffPolicy``, but for the chance in it: there it is up to a second that
    is added to each delay. Here each is shortened by chance, to no less than half. So a first try
    is still made after milliseconds, and the clients of a server that was restarted, who all began
    to wait at the same time, are spread over seconds.

    :param first: seconds of the first delay, at most.
    :param longest: seconds that no delay is longer than.
    """
    delay = backoffPolicy(first, longest, FACTOR, lambda: 0.0)
    return lambda attempt: delay(attempt) * random.uniform(0.5, 1.0)


class Backoff:
    """The delays between tries of one thing, until something has come of trying.

    :param first: as for :func:`retry_policy`; so is ``longest``.
    :param progress: a number that changes when something has come of it; then the delays begin with
        the first one again, as they do after :meth:`reset`.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        first: float,
        longest: float,
        progress: Callable[[], int] = lambda: 0,
    ) -> None:
        self._reactor = reactor
        self._policy = retry_policy(first, longest)
        self._progress = progress
        self._last = progress()
        self._failures = 0

    def reset(self) -> None:
        """Something has come of it."""
        self._failures = 0

    def next_delay(self) -> float:
        """It has failed once more: seconds until it is to be tried again."""
        progress = self._progress()
        if progress != self._last:
            self._last = progress
            self.reset()
        delay = self._policy(self._failures)
        self._failures += 1
        return delay

    def wait(self) -> defer.Deferred[None]:
        """It has failed once more: fires when it is time to try again."""
        waiting: defer.Deferred[None] = task.deferLater(self._reactor, self.next_delay())
        return waiting
