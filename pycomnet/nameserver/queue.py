"""Each client's registrations wait in a line of their own."""

from __future__ import annotations

from collections import deque

from twisted.internet import defer

#: Registrations of one connection that wait for the store at a time. What it sends beyond these
#: waits for its turn, so that a flood is not in front of what others send.
TURNS = 64


class Turns:
    """How many of one client's registrations are before the store, and those that wait."""

    __slots__ = ("_taken", "_waiting")

    def __init__(self) -> None:
        self._taken = 0
        self._waiting: deque[defer.Deferred[None]] = deque()

    def take(self) -> defer.Deferred[None] | None:
        """Take a turn: at once, or when what is returned fires. Cancelling that gives it up."""
        if self._taken < TURNS:
            self._taken += 1
            return None
        waiting: defer.Deferred[None] = defer.Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        return waiting

    def give(self) -> int:
        """Give a turn back; how many are taken still."""
        if self._waiting:
            self._waiting.popleft().callback(None)
        else:
            self._taken -= 1
        return self._taken
