"""Timers by the monotonic clock: Twisted's reactors use the wall clock."""

from __future__ import annotations

import time

from pycomnet.net import _twisted
from pycomnet.net.reactors import PipeReactor


def use_monotonic_clock(reactor: PipeReactor) -> bool:
    """Let a reactor that does not run yet use the monotonic clock.

    Twisted's reactors use :func:`time.time`. When an administrator or NTP sets that forward, all
    timers are due at once: each peer was silent for too long, each gateway unused, each call late.
    When it is set back, no timer is due for as long. Call this before the reactor runs: an existing
    timer has its time by the other clock.

    :param reactor: the reactor; from then on its ``seconds()`` is no time of day.
    :returns: whether it now does so; False if the reactor runs already, has timers or has another
        source of time: then it was not changed.
    """
    if reactor.running or reactor.getDelayedCalls():
        return reactor.seconds is time.monotonic
    return _twisted.set_clock(reactor, time.monotonic)


__all__ = ["use_monotonic_clock"]
