"""Several channels as one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet import defer
from twisted.python.failure import Failure

from pycomnet.channel import NO_ENDMARKER, Channel
from pycomnet.deferred import deferred


class MultiChannel:
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

        :returns: fires when there is room for it on all; fails with the first failure. Cancelling
            it takes back what has not been sent.
        """
        await defer.gatherResults([channel.send(value) for channel in self], consumeErrors=True)

    @deferred
    async def receive_each(self, withchannel: bool = False) -> list[Any]:
        """One value from each.

        :param withchannel: give (channel, value) pairs.
        :returns: fires with a list, in the channels' order; fails with the first failure.
            Cancelling it leaves the values that have not come for later.
        """
        waiting = [channel.receive() for channel in self]
        values = await defer.gatherResults(waiting, consumeErrors=True)
        return list(zip(self._channels, values, strict=True)) if withchannel else values

    def make_receive_queue(
        self, endmarker: object = NO_ENDMARKER
    ) -> defer.DeferredQueue[tuple[Channel, Any]]:
        """A ``DeferredQueue`` of (channel, value), as they come from any of them.

        :param endmarker: put in as the value when a channel ends, well or not.
        """
        queue: defer.DeferredQueue[tuple[Channel, Any]] = defer.DeferredQueue()
        for channel in self._channels:
            channel.setcallback(*_into(queue, channel, endmarker))
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


def _into(
    queue: defer.DeferredQueue[tuple[Channel, Any]], channel: Channel, endmarker: object
) -> tuple[Callable[[Any], None], Callable[[Failure], None], object]:
    def put(value: Any) -> None:
        queue.put((channel, value))

    return put, lambda failure: None, endmarker
