"""A queue of registrations for each client."""

from __future__ import annotations

from collections import deque

from twisted.internet import defer

#: Registrations of one connection that wait for the store at a time. Further ones wait for their
#: turn, so that a flood of one client does not delay the others.
TURNS = 64


class ClientQueue:
    """How many of one client's registrations wait for the store, and those that wait for a turn."""

    __slots__ = ("_taken", "_waiting")

    def __init__(self) -> None:
        self._taken = 0
        self._waiting: deque[defer.Deferred[None]] = deque()

    def take(self) -> defer.Deferred[None] | None:
        """Take a turn: None means at once, else when the Deferred fires. Cancelling it gives up."""
        if self._taken < TURNS:
            self._taken += 1
            return None
        waiting: defer.Deferred[None] = defer.Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        return waiting

    def give(self) -> int:
        """Give a turn back; returns how many are still taken."""
        if self._waiting:
            self._waiting.popleft().callback(None)
        else:
            self._taken -= 1
        return self._taken
