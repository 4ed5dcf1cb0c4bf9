"""Counts the memory that a server uses for its peers' data, and drops data above the limits.

A server keeps the values that a peer sends on a channel until a user receives them: up to a window
for each channel, and a connection may have thousands. It also keeps the requests of the peer's
calls, the results that the peer does not read, and values on channels that the peer has closed. So
the bytes of each connection are counted, and those of all connections:

- If a connection holds more than its share on unaccepted channels, these are closed with the error
  ``memory``, those that hold most first.
- If all connections together hold too much, the unaccepted channels of the connection that holds
  most are closed in the same way; if that is not enough, the connection is closed with the error
  ``memory``.

No other connection is affected. Counting is exact and takes time, so it is done once for each
megabyte that has come over a connection, or that its peer does not read. Freed memory is returned
to the system if the C library does not do so by itself.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorTime

from pycomnet.errors import MemoryExceeded

#: Bytes that a connection may hold on unaccepted channels.
CONNECTION_MEMORY = 64 << 20
#: Bytes that all connections of a server may hold together.
SERVER_MEMORY = 512 << 20
#: The bytes that a connection may receive before its memory is counted again.
COUNT_EVERY = 1 << 20
#: The least number of freed bytes that are returned to the system; the delay in seconds, so that
#: memory that is freed in parts is returned once.
WORTH = 16 << 20
TRIM_DELAY = 1.0


def _trimmer() -> Callable[[], object]:
    """Find the C library's function that returns free memory; glibc keeps what lies below used."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # another C library
        return lambda: None
    trim.argtypes = [ctypes.c_size_t]
    return lambda: trim(0)


class Holder(Protocol):
    """A connection, as the account sees it."""

    def held_bytes(self) -> int:
        """The bytes that it holds now."""

    def unaccepted(self) -> Mapping[Any, int]:
        """Channel -> bytes that it holds, for unaccepted channels."""

    def shed(self, size: int, problem: MemoryExceeded) -> int:
        """Close unaccepted channels until so many bytes are released, or all are closed.

        :returns: the number of released bytes.
        """

    def violated(self, code: str, message: str) -> Any:
        """Close it with an error."""


class MemoryAccount:
    """Counts and limits the memory that a server uses for its peers' data.

    :param each: the most bytes of a connection.
    :param most: the most bytes of all of them.
    :ivar size: bytes that all held when they were last counted.
    :ivar refused: the number of channels and connections that were closed.
    """

    def __init__(
        self,
        reactor: IReactorTime,
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
        """Count the bytes that a connection holds, and apply the limits."""
        self._note(connection, connection.held_bytes())
        size = sum(connection.unaccepted().values())
        if size > self.each:
            problem = MemoryExceeded(
                f"this connection has {size} bytes on channels that nobody has accepted; "
                f"the limit is {self.each}"
            )
            self._lose(connection, size - self.each, problem)
        while self.size > self.most:
            loser = max(self._held, key=self._held.__getitem__)
            over = self.size - self.most
            text = (
                f"the server holds {self.size} bytes for its peers (limit {self.most}), most of "
                "them for this connection"
            )
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
        """The server ends: cancel the timer that returns memory."""
        if self._trimming is not None:
            self._trimming.cancel()
            self._trimming = None

    def as_map(self) -> dict[str, int]:
        """The figures for ``stat``."""
        most = max(self._held.values(), default=0)
        return {"held": self.size, "most": self.most, "largest": most, "refused": self.refused}
