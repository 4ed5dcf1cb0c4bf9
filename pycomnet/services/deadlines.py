"""Deadlines of many calls on few timers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorTime

#: Longer deadlines share one bucket.
FAR = 1e8


class Expiring(Protocol):
    """What has a deadline."""

    def expired(self) -> None:
        """It has passed."""


class Deadlines:
    """Deadlines that expire at about the same time share a delayed call of the reactor.

    A deadline is never early, and late by at most an eighth of its length. To remove one, delete it
    from the bucket that :meth:`add` returned.

    :param reactor: for the time and delayed calls.
    """

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._seconds: Callable[[], float] = reactor.seconds
        self._buckets: dict[float, dict[Expiring, None]] = {}
        self._calls: dict[float, Any] = {}
        #: the length of the last deadline; the times of expiry, from and until, for which its
        #: bucket is used; and that bucket
        self._last = self._last_from = 0.0
        self._last_until = float("-inf")
        self._last_bucket: dict[Expiring, None] = {}

    def add(self, item: Expiring, seconds: float, expires: float) -> dict[Expiring, None]:
        """Call ``item.expired()`` when a deadline has passed.

        :param seconds: how long the deadline is; how late it may fire follows from that.
        :param expires: the reactor's time at which it has passed.
        :returns: the bucket that it is in.
        """
        if seconds == self._last and self._last_from <= expires < self._last_until:
            self._last_bucket[item] = None  # the common case: deadlines of the same length
            return self._last_bucket
        length = seconds
        now = self._seconds()
        if not seconds <= FAR:
            expires = now + FAR
        if seconds > 20.0:
            step = 1.0
        elif seconds > 2.0:
            step = 0.25
        elif seconds > 0.2:
            step = 0.05
        else:
            step = 0.005
        time = (expires // step + 1) * step
        bucket = self._buckets.get(time)
        if bucket is None:
            bucket = self._buckets[time] = {}
            self._calls[time] = self._reactor.callLater(max(0.0, time - now), self._expire, time)
        bucket[item] = None
        self._last, self._last_bucket = length, bucket
        self._last_from, self._last_until = expires, time
        return bucket

    def _expire(self, time: float) -> None:
        del self._calls[time]
        bucket = self._buckets.pop(time)
        if bucket is self._last_bucket:
            self._last_until = float("-inf")
        while bucket:
            item, _ = bucket.popitem()
            item.expired()

    def close(self) -> None:
        """Forget all deadlines."""
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.cancel()
        self._buckets.clear()
        self._last_until = float("-inf")
