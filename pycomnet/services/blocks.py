"""Blocks of binary data on their way: each on a raw channel beside the call, with back pressure."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet import defer
from twisted.internet.interfaces import IReactorFromThreads, IReactorThreads

from pycomnet.channels.channel import Channel, ChannelCore
from pycomnet.channels.connection import Connection
from pycomnet.errors import (
    AttachmentFailed,
    AttachmentTooLarge,
    ChannelClosed,
    ConnectionLost,
    PycomnetError,
    RemoteError,
)
from pycomnet.services.binary import IN_MEMORY, Binary, BlockLimits, ReceivedFile
from pycomnet.services.threads import in_thread

#: Bytes that are read from a file at a time, and collected before they are written to one. With a
#: channel's window, this is the memory that a block may take in each process.
CHUNK = 1 << 19


class Owner:
    """What stands for the gateway of a channel that belongs to a connection of services."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.id = "service"

    def __call__(self, core: ChannelCore) -> Channel:
        return Channel(core, self)

    def abandoned(self, core: ChannelCore) -> None:
        """The channel has no references left. Called from any thread, at any time."""
        if self._connection.lost is None:
            reactor = IReactorFromThreads(self._connection.reactor)
            reactor.callFromThread(core.abandon)


class OutgoingBlocks:
    """Blocks that are sent with one request or reply.

    :ivar described: their descriptions in the message.
    """

    def __init__(self, connection: Connection, blocks: Sequence[Binary]) -> None:
        self._connection = connection
        self._opened: list[tuple[Binary, Channel, Any]] = []
        self.described: list[list[Any]] = []
        owner = Owner(connection)
        try:
            for block in blocks:
                if not isinstance(block, Binary):
                    raise TypeError(f"an attachment is a Binary, not {type(block).__name__}")
                file, size = (None, len(block.data)) if block.data is not None else block.open()
                try:
                    channel = owner(connection.open("channel", raw=True))
                except BaseException:
                    if file is not None:
                        block.close(file)
                    raise
                self._opened.append((block, channel, file))
                self.described.append([channel, size, block.name])
        except BaseException:
            self.close(PycomnetError("the call was not made"))
            raise

    def send(self) -> defer.Deferred[Any]:
        """Send all blocks; fires when they are sent, or refused. Cancelling it stops that."""
        sending = [
            defer.Deferred.fromCoroutine(self._send(block, channel, file))
            for block, channel, file in self._opened
        ]
        self._opened = []
        return defer.DeferredList(sending, consumeErrors=True)

    def close(self, problem: Exception) -> None:
        """Close all blocks without sending them."""
        opened, self._opened = self._opened, []
        for block, channel, file in opened:
            channel.close(problem)
            if file is not None:
                block.close(file)

    async def _send(self, block: Binary, channel: Channel, file: Any) -> None:
        core = channel.core
        try:
            if file is None:
                assert block.data is not None
                if block.data:
                    await core.send(block.data)
            else:
                await self._send_file(core, file)
            channel.send_end()
            # The last data may still be queued. The receiver closes the channel when it has all.
            await channel.waitclose()
        except (ChannelClosed, ConnectionLost, RemoteError):
            return  # the receiver rejected it, and reports the reason by other means
        except defer.CancelledError:
            channel.close("the call is over")
        except Exception as problem:
            channel.close(AttachmentFailed(f"it can't be read: {problem}"))
        finally:
            if file is not None:
                block.close(file)

    async def _send_file(self, core: ChannelCore, file: Any) -> None:
        reactor = IReactorThreads(self._connection.reactor)
        reading = in_thread(reactor, file.read, CHUNK)
        try:
            while True:
                data = await reading
                if not data:
                    return
                reading = in_thread(reactor, file.read, CHUNK)
                await core.send(bytes(data))
        finally:
            # The caller may close the file only when no thread reads it.
            reading.cancel()
            with contextlib.suppress(Exception):
                await reading


class IncomingBlocks:
    """Blocks that a request or a reply names, until they have arrived.

    :param described: their descriptions in the message.
    :param hold: called with how many bytes more, or less, of them are in memory; it raises if that
        is too much.
    :raises PycomnetError: the descriptions are malformed.
    :raises AttachmentTooLarge: they are longer, or more, than the limits allow.
    """

    def __init__(
        self,
        connection: Connection,
        described: Any,
        limits: BlockLimits,
        hold: Callable[[int], object] = lambda size: None,
    ) -> None:
        self._connection = connection
        self._threads: IReactorThreads | None = None
        self._hold = hold
        self._limits = limits
        self._left = limits.total
        self._channels: list[tuple[Channel, int | None, str | None]] = []
        if not isinstance(described, (list, tuple)):
            raise PycomnetError("blocks are an array")
        for block in described:
            channel, size, name = block
            if (
                not isinstance(channel, Channel)
                or not channel.core.stream.raw
                or not (size is None or (isinstance(size, int) and size >= 0))
                or not (name is None or isinstance(name, str))
            ):
                self.close()
                raise PycomnetError("a block is a raw channel, a length and a name")
            self._channels.append((channel, size, name))
        try:
            if len(self._channels) > limits.count:
                raise AttachmentTooLarge(
                    f"{len(self._channels)} blocks of binary data, the limit is {limits.count}"
                )
            for _, size, name in self._channels:
                self._check(name, size or 0)
            total = sum(size or 0 for _, size, _ in self._channels)
            if total > limits.total:
                raise AttachmentTooLarge(
                    f"blocks of {total} bytes together, the limit is {limits.total}"
                )
        except AttachmentTooLarge:
            self.close()
            raise

    def _check(self, name: str | None, size: int) -> None:
        if size > self._limits.block:
            raise AttachmentTooLarge(
                f"the block {name or ''} is over {self._limits.block} bytes, which is the limit"
            )

    def close(self) -> None:
        """Refuse all of them."""
        channels, self._channels = self._channels, []
        for channel, _, _ in channels:
            channel.close()

    async def receive(self) -> list[ReceivedFile]:
        """Receive all of them. If one fails, or it is cancelled, nothing is left of any.

        :raises AttachmentFailed: one did not arrive in full, or can't be kept.
        :raises AttachmentTooLarge: they turned out to be longer than allowed.
        """
        channels, self._channels = self._channels, []
        receiving = [
            defer.Deferred.fromCoroutine(self._receive(channel, size, name))
            for channel, size, name in channels
        ]
        gathered = defer.gatherResults(receiving, consumeErrors=True)
        try:
            return await gathered
        except BaseException as problem:
            for one in receiving:
                one.addCallbacks(lambda file: file and file.close(), lambda _: None)
                one.cancel()
            if isinstance(problem, defer.FirstError):
                cause = problem.subFailure.value
                assert cause is not None
                raise cause from None
            raise

    async def _receive(self, channel: Channel, size: int | None, name: str | None) -> ReceivedFile:
        file = ReceivedFile(name, self._limits.directory)
        try:
            await self._fill(channel.core, file)
            if size is not None and file.size != size:
                raise AttachmentFailed(f"the block {name or ''}: {file.size} of {size} bytes came")
            file.seek(0)
            return file
        except OSError as problem:
            file.close()
            raise AttachmentFailed(f"the block {name or ''} can't be kept: {problem}") from problem
        except BaseException:
            file.close()
            raise
        finally:
            channel.close()

    async def _fill(self, core: ChannelCore, file: ReceivedFile) -> None:
        pieces: list[Any] = []
        held = 0
        while True:
            receiving = core.receive()
            if held and (held >= CHUNK or not receiving.called):
                try:
                    await self._write(file, pieces)
                except BaseException:
                    receiving.addErrback(lambda _: None)  # the channel is being closed
                    raise
                pieces, held = [], 0
            try:
                data = await receiving
            except (ChannelClosed, ConnectionLost, RemoteError) as over:
                if held:
                    await self._write(file, pieces)
                if isinstance(over, ChannelClosed) and core.stream.ended:
                    return
                why = over.message if isinstance(over, RemoteError) else str(over)
                text = f"the block {file.filename or ''} ended after {file.size} bytes: {why}"
                raise AttachmentFailed(text) from None
            held += len(data)
            file.size += len(data)
            self._left -= len(data)
            self._check(file.filename, file.size)
            if self._left < 0:
                text = f"blocks of over {self._limits.total} bytes together, which is the limit"
                raise AttachmentTooLarge(text)
            pieces.append(data)

    async def _write(self, file: ReceivedFile, pieces: list[Any]) -> None:
        data = b"".join(pieces)
        if file.in_memory and file.size <= IN_MEMORY:
            self._hold(len(data))
            file.write(data)
            return
        if file.in_memory:
            self._hold(len(data) - file.size)  # what was held in memory is written to disk, too
        if self._threads is None:
            self._threads = IReactorThreads(self._connection.reactor)
        await in_thread(self._threads, _append, file, data)


def _append(file: ReceivedFile, data: bytes) -> None:
    file.spill()
    file.write(data)
