"""One account of what a server holds in memory for its peers, and who loses when it is too much.

What a peer sends on a channel that nobody takes yet is held here: up to a window for each channel,
of which a connection may have thousands. So are the requests of its calls, the results that it does
not read, and what was left on channels that it has closed. So each connection's is counted, and all
of a server's:

- A connection that holds more than its share on channels that were not accepted loses those, the
  one that holds most first: they are closed with the error ``memory``.
- When all connections together hold too much, the one that holds most loses its channels likewise,
  and, where that is not enough, is closed with the error ``memory``.

Nobody else loses anything. Counting is exact and not free, so it is done for each megabyte that has
come over a connection, or that its peer does not read. What was held is given back to the system
where the C library does not do so by itself.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from pycomnet.errors import MemoryExceeded

#: Bytes that a connection may hold on channels that nobody has accepted.
CONNECTION_MEMORY = 64 << 20
#: Bytes that all connections of a server may hold together.
SERVER_MEMORY = 512 << 20
#: Bytes that come over a connection until it is counted again what it holds.
COUNT_EVERY = 1 << 20
#: Bytes that were held and are not any more, from which on they are given back to the system; and
#: the seconds after that: what is released in parts is given back once.
WORTH = 16 << 20
TRIM_DELAY = 1.0


def _trimmer() -> Callable[[], object]:
    """What has the C library give free memory back; glibc keeps what lies below memory in use."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # another C library
        return lambda: None
    trim.argtypes = [ctypes.c_size_t]
    return lambda: trim(0)


class Holder(Protocol):
    """A connection, as the account knows it."""

    def held_bytes(self) -> int:
        """What it holds now."""

    def unaccepted(self) -> Mapping[Any, int]:
        """What it holds on channels that nobody has accepted, by channel."""

    def shed(self, size: int, problem: MemoryExceeded) -> int:
        """Close channels that nobody has accepted, until so many bytes are released, or all.

        :returns: how many were.
        """

    def violated(self, code: str, message: str) -> Any:
        """Close it with an error."""


class MemoryAccount:
    """What a server holds for its peers.

    :param each: bytes for a connection.
    :param most: bytes for all of them.
    :ivar size: bytes that all held when they were last counted.
    :ivar refused: channels and connections that lost.
    """

    def __init__(
        self,
        reactor: Any,
        each: int = CONNECTION_MEMORY,
        most: int = SERVER_MEMORY,
        trim: Callable[[], object] | None = None,
    ) -> None:
        self.each = each
        self.most = most
        self.size = 0
        self.refused = 0
        self._reactor = reactor
        self._trim = trim or _trimmer()
        self._held: dict[Holder, int] = {}
        self._peak = 0
        self._trimming: Any = None

    def count(self, connection: Holder) -> None:
        """Count what a connection holds, and see that it is not too much."""
        self._note(connection, connection.held_bytes())
        size = sum(connection.unaccepted().values())
        if size > self.each:
            problem = MemoryExceeded(
                f"this connection has {size} bytes on channels that nobody has accepted; "
                f"{self.each} are the most"
            )
            self._lose(connection, size - self.each, problem)
        while self.size > self.most:
            loser = max(self._held, key=self._held.__getitem__)
            over = self.size - self.most
            text = f"{self.size} bytes are held here, {self.most} are the most; most of them here"
            if self._lose(loser, over, MemoryExceeded(text)) < over:
                self.refused += 1
                self.gone(loser)
                loser.violated("memory", text)

    def _lose(self, connection: Holder, over: int, problem: MemoryExceeded) -> int:
        released = connection.shed(over, problem)
        if released:
            self.refused += 1
            self._note(connection, connection.held_bytes())
        return released

    def _note(self, connection: Holder, size: int) -> None:
        self.size += size - self._held.get(connection, 0)
        self._held[connection] = size
        self._look()

    def gone(self, connection: Holder) -> None:
        """A connection is over."""
        size = self._held.pop(connection, 0)
        self.size -= size
        self._look()

    def _look(self) -> None:
        if self.size >= self._peak:
            self._peak = self.size
        elif self._peak - self.size >= WORTH and self._trimming is None:
            self._trimming = self._reactor.callLater(TRIM_DELAY, self._give_back)

    def _give_back(self) -> None:
        self._trimming = None
        self._peak = self.size
        self._trim()

    def stop(self) -> None:
        """The server ends: nothing is given back any more but by that."""
        if self._trimming is not None:
            self._trimming.cancel()
            self._trimming = None

    def as_map(self) -> dict[str, int]:
        """As ``stat`` shows it."""
        most = max(self._held.values(), default=0)
        return {"held": self.size, "most": self.most, "largest": most, "refused": self.refused}


__all__ = ["CONNECTION_MEMORY", "SERVER_MEMORY", "MemoryAccount"]
