"""Deadlines of many calls on few timers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

#: Timeouts up to so many seconds are kept to so many: half a percent to a few.
_STEPS = ((0.2, 0.005), (2.0, 0.05), (20.0, 0.25), (float("inf"), 1.0))


class Expiring(Protocol):
    """What has a deadline."""

    def expired(self) -> None:
        """It has passed."""


class Deadlines:
    """What expires at about the same time shares a delayed call of the reactor.

    A deadline is never early and late by at most the step of its length. To take one away is to
    delete it from the bucket that :meth:`add` returned.

    :param reactor: for the time and delayed calls.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._seconds: Callable[[], float] = reactor.seconds
        self._buckets: dict[float, dict[Expiring, None]] = {}
        self._calls: dict[float, Any] = {}

    def add(self, item: Expiring, seconds: float) -> dict[Expiring, None]:
        """Have ``item.expired()`` called in so many seconds; return the bucket that it is in."""
        step = next(step for most, step in _STEPS if seconds <= most)
        time = ((self._seconds() + seconds) // step + 1) * step
        bucket = self._buckets.get(time)
        if bucket is None:
            bucket = self._buckets[time] = {}
            delay = max(0.0, time - self._seconds())
            self._calls[time] = self._reactor.callLater(delay, self._expire, time)
        bucket[item] = None
        return bucket

    def _expire(self, time: float) -> None:
        del self._calls[time]
        bucket = self._buckets.pop(time)
        while bucket:
            item, _ = bucket.popitem()
            item.expired()

    def close(self) -> None:
        """Forget all of them."""
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.cancel()
        self._buckets.clear()
