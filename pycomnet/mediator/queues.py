"""The queues at both ends of a byte stream that outlives its connections; no I/O.

Each byte has a number, its offset. The sender keeps its bytes in an :class:`OutgoingQueue` until
the receiver confirms them. The receiver has an :class:`IncomingQueue`: it takes bytes at the offset
that it waits for, and drops bytes that it has received before. So a connection may end at any byte:
the next one begins where the receiver is, and nothing is missing, doubled or out of order.
"""

from __future__ import annotations

from bisect import bisect_right

from pycomnet.errors import PycomnetError

#: Short pieces are joined up to this size, so that a stream of single bytes is not kept as that
#: many objects. Longer pieces are not copied.
JOIN = 1 << 14


class OffsetError(PycomnetError):
    """An offset that does not fit the stream.

    :ivar low: the lowest valid offset.
    :ivar high: the highest valid offset.
    """

    def __init__(self, message: str, low: int, high: int) -> None:
        super().__init__(message)
        self.low = low
        self.high = high


class OutgoingQueue:
    """The bytes that were produced here and are not confirmed by the other end.

    It takes everything that it is given: the producer checks :attr:`full`, and stops.

    :param limit: the number of bytes at which it is full.
    :ivar base: the offset of the first byte that it has.
    :ivar end: the offset after the last.
    :ivar ended: whether no more bytes will be produced.
    """

    __slots__ = ("limit", "base", "end", "ended", "_starts", "_pieces")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.base = 0
        self.end = 0
        self.ended = False
        self._starts: list[int] = []
        self._pieces: list[bytes] = []

    def __len__(self) -> int:
        return self.end - self.base

    @property
    def full(self) -> bool:
        """Whether the producer should wait."""
        return self.end - self.base >= self.limit

    def append(self, data: bytes) -> None:
        """Append bytes that were produced."""
        if not data:
            return
        if self.ended:
            raise ValueError("the stream has ended")
        pieces = self._pieces
        if pieces and len(pieces[-1]) + len(data) <= JOIN:
            pieces[-1] += data
        else:
            self._starts.append(self.end)
            pieces.append(data)
        self.end += len(data)

    def finish(self) -> None:
        """No more bytes will be produced."""
        self.ended = True

    def confirm(self, offset: int) -> None:
        """The other end confirms all bytes before this offset. A repeated offset changes nothing.

        :raises OffsetError: fewer bytes were produced.
        """
        if offset > self.end or offset < 0:
            raise OffsetError(
                f"offset {offset} was confirmed, of {self.end} bytes", self.base, self.end
            )
        if offset <= self.base:
            return
        self.base = offset
        if offset == self.end:
            self._starts.clear()
            self._pieces.clear()
            return
        whole = bisect_right(self._starts, offset) - 1
        if whole:
            del self._starts[:whole], self._pieces[:whole]

    def read(self, offset: int, size: int) -> bytes | memoryview:
        """Read some bytes from this offset on, without copying; empty at the end.

        :param size: the most bytes.
        :raises OffsetError: the offset is confirmed already, or not produced yet.
        """
        if not self.base <= offset <= self.end:
            raise OffsetError(
                f"no bytes at offset {offset}: only {self.base} to {self.end} are kept",
                self.base,
                self.end,
            )
        if offset == self.end:
            return b""
        index = bisect_right(self._starts, offset) - 1
        piece = self._pieces[index]
        begin = offset - self._starts[index]
        if begin == 0 and len(piece) <= size:
            return piece
        return memoryview(piece)[begin : begin + size]


class IncomingQueue:
    """How far the other end's stream has been received.

    :ivar received: all bytes before this offset were received.
    """

    __slots__ = ("received",)

    def __init__(self) -> None:
        self.received = 0

    def accept(self, offset: int, data: bytes) -> bytes | memoryview:
        """Take bytes that begin at this offset, according to the other end.

        :returns: the new ones among them.
        :raises OffsetError: bytes before them are missing.
        """
        known = self.received - offset
        if known < 0 or offset < 0:
            raise OffsetError(
                f"offset {offset} does not follow: {self.received} bytes were received",
                0,
                self.received,
            )
        if known >= len(data):
            return b""
        self.received = offset + len(data)
        return memoryview(data)[known:] if known else data
