"""A target's two channels: messages; and the content of long files, compressed if that helps."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from pycomnet.channels.channel import Channel
from pycomnet.far.rsync.entries import LITERAL, PACKED
from pycomnet.far.rsync.packing import Packing
from pycomnet.rsync.options import SyncError
from pycomnet.rsync.result import TargetResult

#: Bytes of a frame's header; the limit on its payload.
HEADER, FRAME = 9, 65536
#: Bytes of a message beside those of the columns in it, about.
REST = 20


def message_size(message: list[Any]) -> int:
    """The bytes of a message, about."""
    return REST + sum(len(each) for each in message if isinstance(each, bytes))


def carried(size: int) -> int:
    """The bytes with which a channel carries so many: with the headers of frames."""
    return size + HEADER * (1 + size // FRAME)


class TargetChannels:
    """Sends to a target, and counts the bytes.

    :param compress: True and False: always and never; None: where the line is slow.
    :param clock: seconds, monotonic.
    :param in_thread: runs a function in a thread.
    """

    def __init__(
        self,
        channel: Channel,
        data: Channel,
        result: TargetResult,
        compress: bool | None,
        clock: Callable[[], float],
        in_thread: Callable[..., Any],
    ) -> None:
        self.channel = channel
        self.data = data
        self._result = result
        self._packing = Packing(compress)
        self._clock = clock
        self._in_thread = in_thread

    async def send(self, message: list[Any]) -> None:
        """Send a message."""
        self._result.bytes_sent += carried(message_size(message))
        await self.channel.send(message)

    async def receive(self) -> list[Any]:
        """Receive a message."""
        message = await self.channel.receive()
        if not isinstance(message, list):
            raise SyncError(f"the other end sent {type(message).__name__}, not a message")
        self._result.bytes_received += carried(message_size(message))
        return message

    async def raw(self, data: bytes) -> None:
        """Send bytes on the raw channel."""
        self._result.bytes_sent += carried(len(data))
        sent = self.data.send(data)
        if sent.called:
            # There was room: this shows only that the line is fast enough.
            await sent
            self._packing.measure(len(data), 0.0)
            return
        began = self._clock()
        await sent
        self._packing.measure(len(data), self._clock() - began)

    async def literal(self, data: bytes) -> None:
        """Send content, compressed if that is faster."""
        self._result.literal += len(data)
        packed = await self.packed(data)
        if packed is None:
            await self.raw(LITERAL + struct.pack(">I", len(data)))
            await self.raw(data)
        else:
            await self.raw(PACKED + struct.pack(">II", len(packed), len(data)) + packed)

    async def packed(self, data: bytes) -> bytes | None:
        """Compress content; None if it is to be sent as it is."""
        if not self._packing.wants(len(data)):
            return None
        packed: bytes | None = await self._in_thread(self._packing.pack, data)
        return packed
