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
        """Send a value over each channel.

        :returns: fires when there is room for it on all; fails with the first failure, while the
            value is still sent over the others. Cancelling it takes back what has not been sent.
        """
        await _all([channel.send(value) for channel in self])

    @deferred
    async def receive_each(self, withchannel: bool = False) -> list[Any]:
        """Receive one value from each channel.

        :param withchannel: return (channel, value) pairs.
        :returns: fires with a list, in the channels' order; fails with the first failure.
            In that case, and when it is cancelled, values that have not come are left for later;
            those that have come are lost.
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

        :param endmarker: is queued as the value when a channel ends, with an error or without: its
            ``waitclose`` tells which. Without an endmarker, an error is logged.
        """
        queue = ReceiveQueue()
        errback = None if endmarker is NO_ENDMARKER else _ignore
        for channel in self:
            # A value in the queue may be taken after its channel's end.
            put = partial(queue.put, channel)
            channel.core.set_callback(put, errback, endmarker, patient=False)
        return queue

    @deferred
    async def waitclose(self) -> None:
        """Wait until all channels are closed.

        :returns: fires with None when all are closed; then fails with the first failure, if any.
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
    """A queue of (channel, value) pairs of several channels, in the order of arrival.

    It holds at most one value of each channel. The next one waits until that has been taken, and so
    does its sender when the window is full.
    """

    def __init__(self) -> None:
        self._items: deque[tuple[tuple[Channel, Any], defer.Deferred[None]]] = deque()
        self._waiting: dict[defer.Deferred[tuple[Channel, Any]], None] = {}

    def get(self) -> defer.Deferred[tuple[Channel, Any]]:
        """Take the next pair.

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
        """Add a value; the result fires when the value has been taken."""
        if self._waiting:
            waiting = next(iter(self._waiting))
            del self._waiting[waiting]
            waiting.callback((channel, value))
            return None
        taken: defer.Deferred[None] = defer.Deferred()
        self._items.append(((channel, value), taken))
        return taken


async def _all(waiting: list[defer.Deferred[T]]) -> list[T]:
    """The results of all, or the first failure: not wrapped, as by ``gatherResults``."""
    try:
        return await defer.gatherResults(waiting, consumeErrors=True)
    except defer.FirstError as first:
        first.subFailure.raiseException()
        raise AssertionError("it raises") from first


def _ignore(_: Failure) -> None:
    """An errback that does nothing: the channel's ``waitclose`` gives the reason."""
