"""Slots: how many credentials are checked at a time."""

from __future__ import annotations

from collections import deque

from twisted.internet import defer


class CheckSlots:
    """A semaphore whose waiters, when they have a slot, may give it back at once.

    With :class:`~twisted.internet.defer.DeferredSemaphore` each of them would do that within the
    one before: a thousand are more than Python's stack holds.

    :param count: how many slots there are.
    :ivar free: how many are free.
    """

    def __init__(self, count: int) -> None:
        self.free = count
        self._waiting: deque[defer.Deferred[None]] = deque()
        self._giving = False

    def acquire(self) -> defer.Deferred[None]:
        """Fires when a slot is free, in the order of the calls. Cancelling it gives up."""
        if self.free and not self._waiting:
            self.free -= 1
            return defer.succeed(None)
        waiting: defer.Deferred[None] = defer.Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        return waiting

    def release(self) -> None:
        """Give a slot back."""
        self.free += 1
        if self._giving:
            return
        self._giving = True
        try:
            while self.free and self._waiting:
                self.free -= 1
                self._waiting.popleft().callback(None)
        finally:
            self._giving = False


__all__ = ["CheckSlots"]
