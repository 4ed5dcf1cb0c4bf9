"""Timers by the monotonic clock: Twisted's reactors take the wall clock for theirs."""

from __future__ import annotations

import time
from typing import Any

from pycomnet.net import _twisted


def use_monotonic_clock(reactor: Any) -> bool:
    """Have a reactor that does not run yet count seconds by the monotonic clock.

    Twisted's reactors go by :func:`time.time`. When an administrator or NTP sets that forward, all
    timers are due at once: each peer was silent for too long, each gateway unused, each call late.
    When it is set back no timer is due for as long. Whoever runs the reactor calls this before:
    a timer that is there already has its time by the other clock.

    :param reactor: the reactor; from then on its ``seconds()`` is no time of day.
    :returns: whether that is so; False when it runs already, or has timers, or has its time from
        somewhere else, and was left alone.
    """
    if reactor.running or reactor.getDelayedCalls():
        return reactor.seconds is time.monotonic
    return _twisted.set_clock(reactor, time.monotonic)


__all__ = ["use_monotonic_clock"]
