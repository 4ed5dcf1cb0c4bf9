"""Workers for ``pycomnet map``: gateways that are kept busy, and replaced when they are lost."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import attrs
from twisted.internet import defer

from pycomnet.channel import Channel
from pycomnet.cli import items as far
from pycomnet.cli.ledger import DEATHS_TILL_ALONE, Failed, Item, Ledger
from pycomnet.cli.options import brief
from pycomnet.errors import ConnectionLost, GatewayNotStarted, PycomnetError
from pycomnet.gateways.gateway import Gateway
from pycomnet.gateways.group import Group

#: Seconds of work in a chunk of items: what a message costs is small beside it, and so is what the
#: others wait for the last one.
CHUNK_SECONDS = 0.05
MAX_CHUNK = 500
#: Chunks that a worker has when they are short, so that it need not wait for the next.
DEPTH = 2


class CannotBegin(PycomnetError):
    """The function is not there."""


class NoGatewayLeft(PycomnetError):
    """All are lost, and have been replaced as often as they may be."""


class Bell:
    """Wakes those who wait for something to change, in the reactor's next turn."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._waiters: list[defer.Deferred[None]] = []
        self._rung = False

    def wait(self) -> defer.Deferred[None]:
        """Fires when it rings next. Cancelling it changes nothing for others."""
        waiter: defer.Deferred[None] = defer.Deferred(self._forget)
        self._waiters.append(waiter)
        return waiter

    def _forget(self, waiter: defer.Deferred[None]) -> None:
        with contextlib.suppress(ValueError):
            self._waiters.remove(waiter)

    def ring(self) -> None:
        """Something changed."""
        if not self._rung:
            self._rung = True
            self._reactor.callLater(0, self._wake)

    def _wake(self) -> None:
        self._rung = False
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.called:  # cancelled by what one before it did
                waiter.callback(None)


@attrs.define(eq=False)
class Place:
    """Where one item at a time is worked on.

    :ivar chunks: what it has, in the order in which it answers.
    :ivar count: how many items its next chunk has.
    :ivar depth: how many chunks it may have.
    """

    chunks: deque[list[Item]] = attrs.field(factory=deque)
    count: int = 1
    depth: int = 1

    def learn(self, asked: int, done: int, seconds: float) -> None:
        """Choose the next chunk's size by what the last one took."""
        if done < asked:
            self.count = done
        else:
            pace = max(seconds / done, 1e-6)
            self.count = max(1, min(int(CHUNK_SECONDS / pace), self.count * 2, MAX_CHUNK))
        self.depth = DEPTH if seconds < 2 * CHUNK_SECONDS else 1

    def items(self) -> list[Item]:
        """All that it has."""
        return [item for chunk in self.chunks for item in chunk]


class Spread:
    """Hands a ledger's items to gateways, and what comes of them back to it.

    :param group: makes the gateways.
    :param ledger: the items.
    :param target: what the far side's :func:`~pycomnet.cli.items.serve` is to find and do.
    :param jobs: items at a time on each gateway.
    :param replacements: how often each gateway is replaced when it is lost.
    :param say: told what the user should know.
    :param failed: called with each item that fails, as soon as that is known.
    """

    def __init__(
        self,
        group: Group,
        ledger: Ledger,
        target: dict[str, Any],
        jobs: int,
        replacements: int,
        say: Callable[[str], object],
        reactor: Any,
        failed: Callable[[Item], object] = lambda item: None,
    ) -> None:
        self.ledger = ledger
        self.changed = Bell(reactor)
        self._group = group
        self._target = target
        self._jobs = jobs
        self._replacements = replacements
        self._say = say
        self._failed = failed
        #: gateways that work, or are being replaced
        self._left = 0

    async def work(self, gateways: Sequence[Gateway]) -> None:
        """Have gateways work until the ledger is finished.

        :raises CannotBegin: the function is not there.
        :raises NoGatewayLeft: none is left, and there is something to do.
        """
        self._left = len(gateways)
        await all_of([self._keep(gateway) for gateway in gateways])

    async def _keep(self, gateway: Gateway) -> None:
        """Keep one gateway busy, and replace it when it is lost."""
        left = self._replacements
        while not await self._use(gateway):
            await gateway.exit(0)
            while True:
                if not left:
                    self._left -= 1
                    if not self._left:
                        raise NoGatewayLeft("no gateway is left")
                    self._say(f"gateway {gateway.id} is not replaced any more; the others go on")
                    return
                left -= 1
                with contextlib.suppress(GatewayNotStarted):
                    gateway = await self._group.makegateway(gateway.spec)
                    break
            self._say(f"gateway {gateway.id} takes its place")

    async def _use(self, gateway: Gateway) -> bool:
        """Keep a gateway busy till all is done.

        :returns: False if it was lost before.
        """
        places = [Place() for _ in range(self._jobs)]
        try:
            # The first imports the function, so that the others find it imported.
            first = await self._begin(gateway)
            channels = [first, *(await all_of([self._begin(gateway) for _ in places[1:]]))]
            await all_of([self._serve(c, p, places) for c, p in zip(channels, places, strict=True)])
        except ConnectionLost as lost:
            items = [item for place in places for item in place.items()]
            again = self.ledger.lost(items)
            left = f"; unfinished and given to others: {counted(again, 'line')}" if again else ""
            self._say(f"{brief(lost)}{left}")
            self._tell_failed(items)
            return False
        return True

    async def _begin(self, gateway: Gateway) -> Channel:
        channel = gateway.remote_exec(far, **self._target)
        problem = await channel.receive()
        if problem is not None:
            raise CannotBegin(problem[2].rstrip())
        return channel

    async def _serve(self, channel: Channel, place: Place, places: Sequence[Place]) -> None:
        ledger = self.ledger
        while True:
            self._give(channel, place, places)
            if not place.chunks:
                if ledger.finished:
                    channel.close()
                    return
                await self.changed.wait()
            elif ledger.crowded and not ledger.holds_up(place.items()):
                await self.changed.wait()
            else:
                seconds, results = await channel.receive()
                items = place.chunks.popleft()
                ledger.answered(items, results)
                place.learn(len(items), len(results), seconds)
                self._tell_failed(items)

    def _tell_failed(self, items: Sequence[Item]) -> None:
        for item in items:
            if isinstance(item.result, Failed):
                self._failed(item)
        self.changed.ring()

    def _give(self, channel: Channel, place: Place, places: Sequence[Place]) -> None:
        while len(place.chunks) < place.depth:
            busy = [other.chunks[0][0] for other in places if other.chunks]
            if any(item.deaths >= DEATHS_TILL_ALONE for item in busy):
                return  # it is there alone
            # When little is left, or little has come, all get some of it.
            share = self.ledger.waiting // (self._left * self._jobs)
            if place.chunks and not share:
                return
            items = self.ledger.take(max(1, min(place.count, share)), alone=not busy)
            if not items:
                return
            place.chunks.append(items)
            # What keeps it from being sent also keeps the answer from coming.
            channel.send([item.text for item in items]).addErrback(lambda failure: None)


def counted(number: int, noun: str) -> str:
    """``1 line``, ``2 lines``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


async def all_of(coroutines: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
    """Run coroutines at the same time; when one fails, cancel the others and raise its error."""
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
