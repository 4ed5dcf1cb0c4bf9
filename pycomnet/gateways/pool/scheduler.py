"""The scheduler: gives a queue's items to free gateways, and replaces lost gateways."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Generic

import attrs
from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime

from pycomnet.channels.channel import Channel
from pycomnet.deferred import Condition
from pycomnet.errors import (
    ConnectionLost,
    GatewayDied,
    GatewayNotStarted,
    ProtocolViolation,
    PycomnetError,
)
from pycomnet.gateways.gateway import Gateway
from pycomnet.gateways.pool import farside
from pycomnet.gateways.pool.workqueue import LOSSES_TILL_ALONE, ItemT, WorkQueue

#: Seconds of work in a chunk of items: much more than the cost of a message, and little to wait for
#: at the end.
CHUNK_SECONDS = 0.05
MAX_CHUNK = 500
#: How many short chunks a worker has at a time, so that it need not wait for the next.
DEPTH = 2
#: How often each gateway is replaced when it is lost.
REPLACEMENTS = 10


class CannotBegin(PycomnetError):
    """The function does not exist."""


class NoGatewayLeft(PycomnetError):
    """All gateways are lost, and have been replaced as often as they may be."""


class Bell:
    """Notifies the waiters for a change, in the reactor's next turn."""

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._changed = Condition()
        self._rung = False

    def wait(self) -> defer.Deferred[None]:
        """Fires when it rings next. Cancelling it does not affect other waiters."""
        return self._changed.wait()

    def ring(self) -> None:
        """Something changed."""
        if not self._rung:
            self._rung = True
            self._reactor.callLater(0, self._wake)

    def _wake(self) -> None:
        self._rung = False
        self._changed.notify_all()


@attrs.define(eq=False)
class WorkLoop(Generic[ItemT]):
    """A loop at a far side that works on one item at a time.

    :ivar most: the most items of a chunk.
    :ivar chunks: the chunks that it has, in the order in which it replies.
    :ivar known: the functions that it was sent; see :meth:`WorkQueue.message`.
    :ivar count: the number of items of its next chunk.
    :ivar depth: the most chunks that it may have.
    """

    most: int = MAX_CHUNK
    chunks: deque[list[ItemT]] = attrs.field(factory=deque)
    known: set[int] = attrs.field(factory=set)
    count: int = 1
    depth: int = 1

    def learn(self, asked: int, done: int, seconds: float) -> None:
        """Choose the next chunk's size by the time of the last one."""
        if self.most == 1:
            return
        if done < asked:
            self.count = done
        else:
            pace = max(seconds / done, 1e-6)
            self.count = max(1, min(int(CHUNK_SECONDS / pace), self.count * 2, self.most))
        self.depth = DEPTH if seconds < 2 * CHUNK_SECONDS else 1

    def items(self) -> list[ItemT]:
        """All that it has."""
        return [item for chunk in self.chunks for item in chunk]


class WorkScheduler(Generic[ItemT]):
    """Gives a queue's items to free gateways, and returns the results to the queue.

    An item of a lost gateway is given to another one, as the queue's ``tries`` allow. A gateway
    that its owner ended is not replaced.

    :param queue: the items.
    :param target: the function for all items, as for
        :func:`~pycomnet.gateways.pool.farside.serve`; None if each item names its own.
    :param jobs: the number of items at a time on each gateway.
    :param replacements: how often each gateway is replaced when it is lost.
    :param say: called with messages for the user.
    :param noun: the word for an item in these messages.
    """

    def __init__(
        self,
        queue: WorkQueue[ItemT],
        target: dict[str, Any] | None,
        jobs: int,
        replacements: int,
        say: Callable[[str], object],
        reactor: IReactorTime,
        noun: str = "item",
    ) -> None:
        self.queue = queue
        self.changed = Bell(reactor)
        self._target = target
        self._jobs = jobs
        self._replacements = replacements
        self._say = say
        self._noun = noun
        # If few losses are allowed, they may count only for items that are being worked on.
        self._most = MAX_CHUNK if queue.tries > LOSSES_TILL_ALONE else 1
        #: the number of gateways that work, or are being replaced
        self._left = 0

    async def work(self, gateways: Sequence[Gateway]) -> None:
        """Let gateways work until the queue is finished.

        :raises CannotBegin: the function does not exist.
        :raises NoGatewayLeft: none is left, and items are.
        """
        self._left = len(gateways)
        await all_of([self._keep(gateway) for gateway in gateways])

    async def _keep(self, gateway: Gateway) -> None:
        """Keep one gateway busy, and replace it when it is lost."""
        left = self._replacements
        while (lost := await self._use(gateway)) is not None:
            if not isinstance(lost, (GatewayDied, ProtocolViolation)):
                left = 0  # its owner ended it
            group = gateway.group
            await gateway.exit(0)
            while True:
                if not left:
                    self._left -= 1
                    if not self._left:
                        raise NoGatewayLeft("no gateway is left")
                    self._say(f"gateway {gateway.id} is not replaced any more; the others go on")
                    self.changed.ring()
                    return
                left -= 1
                try:
                    gateway = await group.makegateway(gateway.spec)
                    break
                except GatewayNotStarted:
                    continue
                except PycomnetError:
                    left = 0  # the group is being terminated
            self._say(f"gateway {gateway.id} takes its place")

    async def _use(self, gateway: Gateway) -> ConnectionLost | None:
        """Keep a gateway busy until all is done.

        :returns: why it was lost before that, or None.
        """
        # If only the main thread runs requests, a second one would wait for ever.
        jobs = 1 if gateway.spec.execmodel == "main_thread_only" else self._jobs
        workers: list[WorkLoop[ItemT]] = [WorkLoop(self._most) for _ in range(jobs)]
        try:
            # The first imports the function, so that the others find it imported.
            first = await self._begin(gateway)
            channels = [first, *(await all_of([self._begin(gateway) for _ in workers[1:]]))]
            pairs = zip(channels, workers, strict=True)
            await all_of(
                [self._serve(gateway, channel, worker, workers) for channel, worker in pairs]
            )
        except ConnectionLost as lost:
            items = [item for worker in workers for item in worker.items()]
            again = self.queue.lost(items)
            left = (
                f"; unfinished and given to others: {counted(again, self._noun)}" if again else ""
            )
            self._say(f"{without_stderr(lost)}{left}")
            self.changed.ring()
            return lost
        except BaseException:
            for worker in workers:
                self.queue.give_back(worker.items())
            raise
        return None

    async def _begin(self, gateway: Gateway) -> Channel:
        channel = gateway.remote_exec(farside, target=self._target)
        problem = await channel.receive()
        if problem is not None:
            raise CannotBegin(problem[2].rstrip())
        return channel

    async def _serve(
        self,
        gateway: Gateway,
        channel: Channel,
        worker: WorkLoop[ItemT],
        workers: Sequence[WorkLoop[ItemT]],
    ) -> None:
        queue = self.queue
        while True:
            self._give(gateway, channel, worker, workers)
            if not worker.chunks:
                if queue.finished:
                    channel.close()
                    return
                await self.changed.wait()
            elif queue.crowded and not queue.holds_up(worker.items()):
                await self.changed.wait()
            else:
                seconds, values, failures = await channel.receive()
                items = worker.chunks.popleft()
                queue.answered(items, values, failures)
                worker.learn(len(items), len(values), seconds)
                self.changed.ring()

    def _give(
        self,
        gateway: Gateway,
        channel: Channel,
        worker: WorkLoop[ItemT],
        workers: Sequence[WorkLoop[ItemT]],
    ) -> None:
        while len(worker.chunks) < worker.depth:
            busy = [other.chunks[0][0] for other in workers if other.chunks]
            if any(item.losses >= LOSSES_TILL_ALONE for item in busy):
                return  # it is the only one
            # If few items wait, all gateways get some of them.
            share = self.queue.waiting // (self._left * self._jobs)
            if worker.chunks and not share:
                return
            items = self.queue.take(max(1, min(worker.count, share)), alone=not busy)
            if not items:
                return
            items = self.queue.suited(items, worker.known, gateway)
            if not items:
                self.changed.ring()  # it may have been the last
                continue
            worker.chunks.append(items)
            # If it can't be sent, the reply does not come either.
            sent = channel.send(self.queue.message(items, worker.known, gateway))
            sent.addErrback(lambda failure: None)


def without_stderr(problem: Exception) -> str:
    """An error's message without the far side's standard error, which has been shown already."""
    return str(problem).partition("; its standard error")[0]


def counted(number: int, noun: str) -> str:
    """``1 line``, ``2 lines``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


async def all_of(coroutines: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
    """Run coroutines at the same time; if one fails, cancel the others and raise its error."""
    running = [defer.Deferred.fromCoroutine(it) for it in coroutines]
    together = defer.gatherResults(running, consumeErrors=True)
    try:
        return await together
    except defer.FirstError as first:
        assert first.subFailure.value is not None
        raise first.subFailure.value from None
    finally:
        for it in running:
            it.cancel()
