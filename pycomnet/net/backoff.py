"""Delays between retries."""

from __future__ import annotations

import random
from collections.abc import Callable

from twisted.application.internet import backoffPolicy
from twisted.internet import defer, task
from twisted.internet.interfaces import IReactorTime

#: The factor between two delays.
FACTOR = 2.0


def retry_policy(first: float, longest: float) -> Callable[[int], float]:
    """A function from the number of failures in a row, beginning with 0, to the delay in seconds.

    This is Twisted's ``backoffPolicy`` with another jitter: Twisted adds up to a second to each
    delay. Here each delay is shortened at random, to no less than half. So a first retry can still
    come after milliseconds, and the clients of a restarted server, who all began to wait at the
    same time, are spread over seconds.

    :param first: the longest first delay in seconds.
    :param longest: the longest delay in seconds.
    """
    delay = backoffPolicy(first, longest, FACTOR, lambda: 0.0)
    return lambda attempt: delay(attempt) * random.uniform(0.5, 1.0)


class Backoff:
    """The delays between retries of one operation, until it succeeds.

    :param first: as for :func:`retry_policy`; so is ``longest``.
    :param progress: a number that changes when there is progress; then the delays begin with the
        first one again, as after :meth:`reset`.
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
        """It has succeeded: begin with the first delay again."""
        self._failures = 0

    def next_delay(self) -> float:
        """It has failed again: return the seconds until the next try."""
        progress = self._progress()
        if progress != self._last:
            self._last = progress
            self.reset()
        delay = self._policy(self._failures)
        self._failures += 1
        return delay

    def wait(self) -> defer.Deferred[None]:
        """It has failed again: fires when it is time for the next try."""
        waiting: defer.Deferred[None] = task.deferLater(self._reactor, self.next_delay())
        return waiting
