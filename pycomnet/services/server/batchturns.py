"""Runs long batches in parts, so that clients take turns and none waits for another's batch."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReactorTime

if TYPE_CHECKING:
    from pycomnet.services.server.batches import ServerBatch
    from pycomnet.services.server.connection import ServerConnection

#: The most seconds of a reactor's turn in which calls of batches begin.
SLICE = 0.003


class BatchTurns:
    """The batches of all clients, and whose turn it is.

    In one turn of the reactor, calls of batches begin for :data:`SLICE` seconds at most; a call
    that takes longer is not interrupted. Clients have their turns in rotation. The batches of one
    client begin in the order in which they came.

    :param reactor: for the time and delayed calls.
    """

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        #: the next one first
        self._waiting: dict[ServerConnection, deque[ServerBatch]] = {}
        self._turn: Any = None

    def add(self, batch: ServerBatch) -> None:
        """A batch has calls that may begin: they do so at once, if no batch was run this turn."""
        self._waiting.setdefault(batch.connection, deque()).append(batch)
        if self._turn is None:
            self._run()

    def _run(self) -> None:
        self._turn = self._reactor.callLater(0, self._next_turn)
        seconds = self._reactor.seconds
        until = seconds() + SLICE
        while self._waiting:
            connection, batches = next(iter(self._waiting.items()))
            if batches[0].run(until):
                batches.popleft()
            del self._waiting[connection]
            if batches:
                self._waiting[connection] = batches  # behind the others
            if seconds() >= until:
                break

    def _next_turn(self) -> None:
        self._turn = None
        if self._waiting:
            self._run()

    def close(self) -> None:
        """Forget all batches."""
        self._waiting.clear()
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
