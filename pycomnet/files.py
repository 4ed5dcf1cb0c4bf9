"""File-like objects over a channel."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer

from pycomnet.channel import Channel
from pycomnet.deferred import deferred
from pycomnet.errors import ChannelClosed


class ChannelFile:
    """What is written is sent as it is; what is received is put together and read.

    :param mode: ``"w"`` or ``"r"``.
    :param proxyclose: closing the file closes the channel.
    """

    def __init__(self, channel: Channel, mode: str = "w", proxyclose: bool = False) -> None:
        if mode not in ("w", "r"):
            raise ValueError(f"mode: 'w' or 'r', not {mode!r}")
        self.channel = channel
        self.mode = mode
        self.closed = False
        self._proxyclose = proxyclose
        self._buffer: Any = None

    def write(self, data: str | bytes) -> defer.Deferred[None]:
        """Send it; as :meth:`Channel.send <pycomnet.Channel.send>`."""
        return self.channel.send(data)

    def writelines(self, lines: list[str] | list[bytes]) -> defer.Deferred[None]:
        """Send each, one after the other."""
        return self._writelines(lines)

    @deferred
    async def _writelines(self, lines: list[str] | list[bytes]) -> None:
        for line in lines:
            await self.channel.send(line)

    def flush(self) -> None:
        """Nothing to do: what is written is sent."""

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
        """At most ``size`` characters or bytes, all up to the channel's end when it is negative.

        :returns: fires with str or bytes, as what was received; ``""`` at the end. Cancelling it
            keeps what has come for the next read.
        """
        while (size < 0 or len(self._buffer or "") < size) and await self._more():
            pass
        return self._take(len(self._buffer or "") if size < 0 else size)

    @deferred
    async def readline(self) -> Any:
        """The next line with its end; ``""`` at the channel's end. Cancelling as for ``read``."""
        while True:
            buffer = self._buffer
            if buffer:
                at = buffer.find("\n" if isinstance(buffer, str) else b"\n")
                if at >= 0:
                    return self._take(at + 1)
            if not await self._more():
                return self._take(len(buffer or ""))

    async def _more(self) -> bool:
        try:
            item = await self.channel.receive()
        except ChannelClosed:
            return False
        self._buffer = item if self._buffer is None else self._buffer + item
        return True

    def _take(self, size: int) -> Any:
        buffer = self._buffer
        if buffer is None:
            return ""
        self._buffer = buffer[size:]
        return buffer[:size]
