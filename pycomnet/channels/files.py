"""File-like objects over a channel."""

from __future__ import annotations

import io
import itertools
from collections import deque
from collections.abc import Iterable
from typing import Any

from twisted.internet import defer

from pycomnet.channels.channel import Channel
from pycomnet.deferred import deferred
from pycomnet.errors import ChannelClosed
from pycomnet.far.live import Live


class ChannelFile(Live):
    """Each write is sent unchanged; received values are joined and read.

    A file is either for str or for bytes, like the values of its channel; not for both.

    :param mode: ``"w"`` or ``"r"``.
    :param proxyclose: closing the file closes the channel.
    """

    def __init__(self, channel: Channel, mode: str = "w", proxyclose: bool = False) -> None:
        if mode not in ("w", "r"):
            raise ValueError(f"mode: 'w' or 'r', not {mode!r}")
        self.channel = channel
        self.mode = mode
        self.closed: bool = False
        self._proxyclose = proxyclose
        #: str or bytes, once something has come
        self._kind: Any = None
        #: what has been received and not been read: its pieces, the offset in the first one, and
        #: the total length
        self._pieces: deque[Any] = deque()
        self._start = 0
        self._size = 0

    def write(self, data: str | bytes) -> defer.Deferred[None]:
        """Send it; as :meth:`Channel.send <pycomnet.Channel.send>`."""
        try:
            self._check("w")
        except ValueError as problem:
            return defer.fail(problem)
        return self.channel.send(data)

    @deferred
    async def writelines(self, lines: Iterable[str] | Iterable[bytes]) -> None:
        """Send each line, one after the other.

        :returns: fires when there is room for the last one. Cancelling it sends no more.
        """
        for line in lines:
            await self.write(line)

    def flush(self) -> None:
        """Do nothing: ``write`` has sent its data already."""

    def isatty(self) -> bool:
        """False."""
        return False

    def close(self) -> None:
        """Close the file, and with ``proxyclose`` the channel."""
        self.closed = True
        if self._proxyclose:
            self.channel.close()

    @deferred
    async def read(self, size: int = -1) -> Any:
        """Read at most ``size`` characters or bytes; up to the channel's end if it is negative.

        :returns: fires with str or bytes, like the received values; ``""`` at the end. Cancelling
            it keeps what has come for the next read.
        """
        self._check("r")
        while (size < 0 or self._size < size) and await self._more():
            pass
        return self._take(self._size if size < 0 else size)

    @deferred
    async def readline(self) -> Any:
        """Read the next line with its end; ``""`` at the channel's end. Cancelling as ``read``."""
        self._check("r")
        before = looked = 0  # characters and pieces without the end of a line
        while True:
            for piece in itertools.islice(self._pieces, looked, None):
                start = 0 if looked else self._start
                at = piece.find("\n" if self._kind is str else b"\n", start)
                if at >= 0:
                    return self._take(before + at + 1 - start)
                before += len(piece) - start
                looked += 1
            if not await self._more():
                return self._take(self._size)

    def _check(self, mode: str) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")
        if self.mode != mode:
            raise io.UnsupportedOperation("not writable" if mode == "w" else "not readable")

    async def _more(self) -> bool:
        try:
            item = await self.channel.receive()
        except ChannelClosed:
            return False
        if self._kind is None and type(item) in (str, bytes):
            self._kind = type(item)
        if type(item) is not self._kind:
            wanted = self._kind.__name__ if self._kind else "str or bytes"
            raise TypeError(f"a file is read from {wanted}, not {type(item).__name__}")
        if item:
            self._pieces.append(item)
            self._size += len(item)
        return True

    def _take(self, size: int) -> Any:
        taken = []
        size = min(size, self._size)
        self._size -= size
        while size:
            piece = self._pieces[0]
            part = piece[self._start : self._start + size]
            taken.append(part)
            size -= len(part)
            self._start += len(part)
            if self._start == len(piece):
                self._pieces.popleft()
                self._start = 0
        return "" if self._kind is None else self._kind().join(taken)
