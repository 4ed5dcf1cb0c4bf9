"""Several channels as one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import Any, TypeVar

from twisted.internet import defer
from twisted.python.failure import Failure

from pycomnet.channels.channel import NO_ENDMARKER, Channel
from pycomnet.deferred import deferred
from pycomnet.far.live import Live

T = TypeVar("T")


class MultiChannel(Live):
    """Channels to the same code at several gateways; a sequence of them, in order."""

    def __init__(self, channels: list[Channel]) -> None:
        self._channels = channels

    def __len__(self) -> int:
        return len(self._channels)

    def __iter__(self) -> Iterator[Channel]:
        return iter(self._channels)

    def __getitem__(self, index: int) -> Channel:
        return self._channels[index]

    def __contains__(self, channel: object) -> bool:
        return channel in self._channels

    @deferred
    async def send_each(self, value: object) -> None:
        """Send a value over each.

        :returns: fires when there is room for it on all; fails with the first failure, and then
            the others are sent all the same. Cancelling it takes back what has not been sent.
        """
        await _all([channel.send(value) for channel in self])

    @deferred
    async def receive_each(self, withchannel: bool = False) -> list[Any]:
        """One value from each.

        :param withchannel: give (channel, value) pairs.
        :returns: fires with a list, in the channels' order; fails with the first failure.
            In that case, and when it is cancelled, values that have not come are left for later;
            those that have are lost.
        """
        waiting = [channel.receive() for channel in self]
        try:
            values = await _all(waiting)
        except BaseException:
            for receive in waiting:
                receive.cancel()
            raise
        return list(zip(self._channels, values, strict=True)) if withchannel else values

    def make_receive_queue(self, endmarker: object = NO_ENDMARKER) -> ReceiveQueue:
        """The values of all channels as one queue.

        :param endmarker: put in as the value when a channel ends, well or not: its ``waitclose``
            says which. Without one, an error is logged.
        """
        queue = ReceiveQueue()
        errback = None if endmarker is NO_ENDMARKER else _ignore
        for channel in self:
            # What waits in the queue may be taken after its channel's end.
            put = partial(queue.put, channel)
            channel.core.set_callback(put, errback, endmarker, patient=False)
        return queue

    @deferred
    async def waitclose(self) -> None:
        """Wait for all to be closed.

        :returns: fires with None once all are; fails with the first failure, when all are.
            Cancelling it changes nothing.
        """
        results = await defer.DeferredList(
            [channel.waitclose() for channel in self], consumeErrors=True
        )
        for success, result in results:
            if not success:
                assert isinstance(result, Failure)
                result.raiseException()


class ReceiveQueue(Live):
    """(channel, value) pairs of several channels, as they come from any of them.

    Of each channel there is at most one value in it. The next one waits until that has been taken,
    and its sender with it when the window is full.
    """

    def __init__(self) -> None:
        self._items: deque[tuple[tuple[Channel, Any], defer.Deferred[None]]] = deque()
        self._waiting: dict[defer.Deferred[tuple[Channel, Any]], None] = {}

    def get(self) -> defer.Deferred[tuple[Channel, Any]]:
        """The next pair.

        :returns: fires with it. Cancelling it leaves the pair for the next ``get``.
        """
        if self._items:
            item, taken = self._items.popleft()
            taken.callback(None)
            return defer.succeed(item)

        def cancel(waiting: defer.Deferred[tuple[Channel, Any]]) -> None:
            del self._waiting[waiting]

        waiting: defer.Deferred[tuple[Channel, Any]] = defer.Deferred(cancel)
        self._waiting[waiting] = None
        return waiting

    def put(self, channel: Channel, value: object) -> defer.Deferred[None] | None:
        """Add a value; what it returns fires when that has been taken."""
        if self._waiting:
            waiting = next(iter(self._waiting))
            del self._waiting[waiting]
            waiting.callback((channel, value))
            return None
        taken: defer.Deferred[None] = defer.Deferred()
        self._items.append(((channel, value), taken))
        return taken


async def _all(waiting: list[defer.Deferred[T]]) -> list[T]:
    """The results of all; the first failure itself, not wrapped as ``gatherResults`` has it."""
    try:
        return await defer.gatherResults(waiting, consumeErrors=True)
    except defer.FirstError as first:
        first.subFailure.raiseException()
        raise AssertionError("it raises") from first


def _ignore(_: Failure) -> None:
    """Whoever wants to know why a channel ended asks that."""


__all__ = ["MultiChannel", "ReceiveQueue"]
