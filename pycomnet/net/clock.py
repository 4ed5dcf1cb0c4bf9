"""Timers by the monotonic clock: Twisted's reactors use the wall clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pycomnet.net import _twisted
from pycomnet.net.reactors import PipeReactor


class StoppableClock:
    """A monotonic clock that can be stopped: then a reactor that uses it runs no delayed calls."""

    def __init__(self) -> None:
        self._stopped_at: float | None = None
        #: for how many seconds it was stopped, in all
        self._stood = 0.0

    def __call__(self) -> float:
        now = time.monotonic() if self._stopped_at is None else self._stopped_at
        return now - self._stood

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop it in a ``with`` block. Such blocks can't be nested."""
        self._stopped_at = begun = time.monotonic()
        try:
            yield
        finally:
            self._stopped_at = None
            self._stood += time.monotonic() - begun


def use_monotonic_clock(reactor: PipeReactor, clock: Callable[[], float] = time.monotonic) -> bool:
    """Let a reactor that does not run yet use the monotonic clock.

    Twisted's reactors use :func:`time.time`. When an administrator or NTP sets that forward, all
    timers are due at once: each peer was silent for too long, each gateway unused, each call late.
    When it is set back, no timer is due for as long. Call this before the reactor runs: an existing
    timer has its time by the other clock.

    :param reactor: the reactor; from then on its ``seconds()`` is no time of day.
    :param clock: the clock, if it is not the monotonic clock itself.
    :returns: whether it now does so; False if the reactor runs already, has timers or has another
        source of time: then it was not changed.
    """
    if reactor.running or reactor.getDelayedCalls():
        return reactor.seconds is clock
    return _twisted.set_clock(reactor, clock)
