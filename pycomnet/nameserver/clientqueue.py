"""Limits how many registrations of one connection wait for the store at a time."""

from __future__ import annotations

from collections import deque

from twisted.internet import defer

#: The most registrations of one connection that wait for the store at a time. Further ones wait in
#: the queue, so that a flood from one client does not delay the others.
TURNS = 64


class ClientQueue:
    """A connection's registrations: how many wait for the store, and those that wait for a turn."""

    __slots__ = ("_taken", "_waiting")

    def __init__(self) -> None:
        self._taken = 0
        self._waiting: deque[defer.Deferred[None]] = deque()

    def take(self) -> defer.Deferred[None] | None:
        """Take a turn. Returns None if it begins at once; otherwise a Deferred that fires when it
        begins. Cancelling the Deferred gives the turn up."""
        if self._taken < TURNS:
            self._taken += 1
            return None
        waiting: defer.Deferred[None] = defer.Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        return waiting

    def give(self) -> int:
        """End a turn. Returns how many turns are still taken."""
        if self._waiting:
            self._waiting.popleft().callback(None)
        else:
            self._taken -= 1
        return self._taken
