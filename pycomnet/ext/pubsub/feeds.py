"""A subscriber's stream from one publisher, over restarts and lost connections."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from twisted.internet import defer
from twisted.python.failure import Failure

from pycomnet.deferred import OneShot
from pycomnet.errors import (
    CallInterrupted,
    ChannelClosed,
    ConnectionLost,
    Overloaded,
    PycomnetError,
    ServerLeaving,
    ServiceNotFound,
    ServiceUnreachable,
)
from pycomnet.ext.pubsub.events import Gap
from pycomnet.net.backoff import Backoff
from pycomnet.services.client.instances import AddressRoute
from pycomnet.services.client.remoteservice import RemoteService

if TYPE_CHECKING:
    from pycomnet.ext.pubsub.subscriber import Subscriber

#: Seconds between attempts to subscribe again, at first and at most.
FIRST_RETRY, LONGEST_RETRY = 0.05, 5.0
#: Of so many counts of events it is known how far they were received.
MOST_POSITIONS = 32
#: The largest number of an event.
MAX_NUMBER = (1 << 53) - 1
#: The most characters of an epoch.
MAX_EPOCH = 64
#: Errors after which a subscription is tried again; of these, the first are of the connection.
LOST = (CallInterrupted, ConnectionLost, ServerLeaving, ServiceNotFound, ServiceUnreachable)
PASSING = (*LOST, Overloaded)
#: So many numbers of events of a group, which may come again, are remembered.
MOST_HAD = 20_000
#: The most numbers in one acknowledgement.
MOST_ACKNOWLEDGED = 1000


class PublisherFeed:
    """The events of one publisher, as they come, for a subscriber.

    :param service: the publisher, which finds it again.
    :param name: its name, or None.
    :param known: whether it has to be there: then its absence is an error, and not waited for.
    :ivar epoch: the epoch of its events; None before the first welcome.
    :ivar gone: whether the nameserver does not have it any more.
    :ivar over: whether nothing more comes.
    """

    def __init__(
        self, owner: Subscriber, service: RemoteService, name: str | None, known: bool = False
    ) -> None:
        self.name = name
        self.service = service
        self.epoch: str | None = None
        #: the number up to which all has come
        self.position = 0
        self.gone = False
        self.over = False
        #: weak: a subscriber that nobody holds ends, and this with it
        self._reference = weakref.ref(owner)
        self._reactor = service.context.reactor
        self._known = known
        self._is_told = False
        #: whether its events survive its restarts
        self.durable = False
        self._stream: Any = None
        self._running: defer.Deferred[None] | None = None
        self._consumed: defer.Deferred[None] | None = None
        self._id = 0
        #: where acknowledgements and changes go: to the connection of the stream
        self._other_way: RemoteService | None = None
        #: numbers to be acknowledged in this turn, and who waits for that
        self._numbers: list[int] = []
        self._noted: OneShot[None] = OneShot()
        self._turn: Any = None
        self._retry = Backoff(self._reactor, FIRST_RETRY, LONGEST_RETRY)
        #: the subjects that the stream was asked for
        self._subjects: list[str] = []

    @property
    def is_connected(self) -> bool:
        """Whether its stream has begun, and is not lost."""
        return self._other_way is not None

    @property
    def _owner(self) -> Subscriber:
        owner = self._reference()
        if owner is None:
            raise defer.CancelledError
        return owner

    def returns(self, epoch: str | None, durable: bool, position: int) -> None:
        """Its events were followed before, up to the owner's position; None: they were not.

        That some are missing since then was told when it had gone, unless it has them.
        """
        self.epoch = epoch
        self.position = position
        self.durable = durable
        self._is_told = epoch is not None and not durable

    def start(self) -> None:
        """Begin."""
        self._running = defer.Deferred.fromCoroutine(self._run())
        self._running.addBoth(self._ended)

    def close(self) -> None:
        """Receive no more."""
        self.over = True
        running, self._running = self._running, None
        if self._turn is not None:
            self._turn.cancel()
            self._send_acknowledgements()
        if running is not None:
            running.cancel()
        if self._stream is not None:
            self._stream.close()

    def lost(self) -> None:
        """The nameserver does not have it any more: once its stream breaks, it is over."""
        self.gone = True
        if self._other_way is None and self._running is not None:
            self._running.cancel()

    def _ended(self, result: Any) -> None:
        self.over = True
        if self._running is None:
            return  # it was closed
        self._running = None
        problem: BaseException | None = None
        if isinstance(result, Failure):
            if result.check(defer.CancelledError) is None:
                problem = result.value
            elif self._tells_end and self._reference() is not None:
                self._owner.put(self, [self._gap("gone")])
        if self._reference() is not None:
            self._owner.feed_ended(self, problem)

    @property
    def _tells_end(self) -> bool:
        """Whether events may be missing if it does not come back, and that was not told yet."""
        return self.epoch is not None and not self.durable and not self._is_told

    def _gap(self, why: str) -> Gap:
        return Gap(None, self.position + 1, 0, None, why, self.name)

    # -- the stream ------------------------------------------------------------------------------

    async def _run(self) -> None:
        backoff = Backoff(self._reactor, FIRST_RETRY, LONGEST_RETRY)
        while True:
            self._stream = stream = self.service.stream("subscribe", self._arguments())
            try:
                self._begun(stream, await stream.receive())
                backoff.reset()
                self._known = False
                while True:
                    # One batch ahead of the user: so a lost connection is noticed, and made again,
                    # while the user has not taken all that had come.
                    batch = await stream.receive()
                    if self._consumed is not None:
                        await self._consumed
                    self._deliver(batch)
            except ChannelClosed:
                return
            except PASSING as problem:
                self._other_way = None
                if self.gone:
                    raise defer.CancelledError from None
                if self._known and isinstance(problem, (ServiceUnreachable, ServiceNotFound)):
                    raise
            finally:
                self._other_way = None
                stream.close()
            await backoff.wait()

    def _arguments(self) -> dict[str, Any]:
        owner = self._owner
        found = dict(owner.wanted())
        self._subjects = owner.subjects
        if self.epoch is None:
            found.update(owner.beginning)
        if not owner.group:
            # Those of other publishers as well: this may be one of them, under another name.
            # Not of those that live elsewhere: that is their business.
            positions = owner.positions_but(self)
            if self.epoch is not None:
                positions.pop(self.epoch, None)
                positions[self.epoch] = self.position  # the last, as the first may be too many
            if positions:
                latest = list(positions.items())[-MOST_POSITIONS:]
                found["after"] = [[epoch, number] for epoch, number in latest]
        return found

    def _begun(self, stream: Any, welcome: Any) -> None:
        if not (
            isinstance(welcome, dict)
            and all(is_number(welcome.get(key)) for key in ("id", "begins"))
            and isinstance(welcome.get("epoch"), str)
            and len(welcome["epoch"]) <= MAX_EPOCH
        ):
            raise PycomnetError(f"{self.service}: it is no publisher, as it sent no welcome")
        owner = self._owner
        epoch = welcome["epoch"]
        if owner.has_other(self, epoch):
            raise PycomnetError(f"{self.service}: it says that it is another publisher: {epoch!r}")
        if self.epoch is not None and epoch != self.epoch and not self._is_told:
            owner.put(self, [self._gap("restarted")])
        self._is_told = False
        self.epoch = epoch
        self.durable = welcome.get("durable") is True
        self._has(welcome["begins"])
        self._id = welcome["id"]
        service = self.service
        self._other_way = RemoteService(
            service.context, AddressRoute(stream.peer), service.interface
        )
        if self._subjects is not owner.subjects:  # they were changed meanwhile
            self.change(owner.subjects).addErrback(self._not_changed)
        owner.subscribed(self)

    def _not_changed(self, failure: Failure) -> None:
        """Other subjects were asked for while there was no stream, and are refused."""
        if self._reference() is not None:
            problem: Any = failure.value
            self._owner.put(self, [problem])

    def _has(self, position: int) -> None:
        """All up to a number has come."""
        assert self.epoch is not None
        self.position = position
        positions = self._owner.positions
        positions[self.epoch] = position
        positions.move_to_end(self.epoch)
        if len(positions) > MOST_POSITIONS:
            positions.popitem(last=False)

    def _deliver(self, batch: Any) -> None:
        """Hand a batch to the subscriber: its user has taken all of the last one."""
        if not isinstance(batch, list) or not batch or not is_number(batch[0]):
            raise PycomnetError(f"{self.service}: that is no batch of events")
        upto = batch[0]
        del batch[0]
        for item in batch:
            if type(item) is not list or not is_item(item):
                raise PycomnetError(f"{self.service}: that is no event")
        owner = self._owner
        if upto > self.position:
            self._has(upto)
        if owner.group:
            batch = self._new_ones(batch)
        if not batch:
            return
        self._consumed = defer.Deferred()
        owner.put(self, batch)

    def consumed(self) -> None:
        """The user has taken all of the last batch."""
        waiting, self._consumed = self._consumed, None
        if waiting is not None and not waiting.called:
            waiting.callback(None)

    # -- the other way ---------------------------------------------------------------------------

    def change(self, subjects: list[str]) -> defer.Deferred[Any]:
        """Ask for other subjects."""
        if self._other_way is None:
            return defer.succeed(None)  # it is said to the next stream, or as soon as this begins
        self._subjects = subjects
        changing = self._other_way.invoke("change", {"id": self._id, "subjects": subjects})
        return changing.addErrback(self._unless_lost, self._id)

    def _unless_lost(self, failure: Failure, id: int) -> Failure | None:
        """The next stream begins with what was asked for, if this one is lost."""
        is_lost = failure.check(*LOST) is not None or not self.is_connected or self._id != id
        return None if is_lost else failure

    def acknowledge(self, number: int, epoch: str | None) -> defer.Deferred[None]:
        """Tell the publisher that an event is done with.

        :param epoch: the epoch of the event.
        """
        if epoch != self.epoch:
            return defer.fail(CallInterrupted(f"{self.service} has begun anew since that event"))
        self._had[number] = True
        self._numbers.append(number)
        waiting = self._noted.when_fired()
        if len(self._numbers) >= MOST_ACKNOWLEDGED:
            self._send_acknowledgements()
        elif self._turn is None:
            self._turn = self._reactor.callLater(0, self._send_acknowledgements)
        return waiting

    @property
    def _had(self) -> OrderedDict[int, bool]:
        """Of a group: numbers that have come before, and whether the user has done with them."""
        assert self.epoch is not None
        owner = self._reference()
        return OrderedDict() if owner is None else owner.had(self.epoch)

    def _new_ones(self, batch: list[Any]) -> list[Any]:
        """What of a batch has not come before.

        The publisher sends again what was not acknowledged when the connection was lost. Of that,
        what is done with is acknowledged again; the user has the rest already.
        """
        had = self._had
        left = []
        for item in batch:
            number = item[0]
            if number is None:
                left.append(item)
            elif number not in had:
                had[number] = False
                left.append(item)
            elif had[number]:
                self.acknowledge(number, self.epoch).addErrback(lambda _: None)
        while len(had) > MOST_HAD:
            had.popitem(last=False)
        return left

    def _send_acknowledgements(self) -> None:
        turn, self._turn = self._turn, None
        if turn is not None and turn.active():
            turn.cancel()
        numbers, self._numbers = self._numbers, []
        noted, self._noted = self._noted, OneShot()
        if not numbers:
            return
        if self._other_way is None:
            noted.fail(CallInterrupted("there is no connection to the publisher at the moment"))
            return
        way = self._other_way
        sent = way.invoke("acknowledge", {"id": self._id, "sequences": numbers})
        sent.addCallbacks(
            self._acknowledged,
            self._not_acknowledged,
            (noted, len(numbers)),
            {},
            (noted, way, numbers),
        )

    def _acknowledged(self, result: Any, noted: OneShot[None], count: int) -> None:
        self._retry.reset()
        if isinstance(result, dict) and result.get("count") == count:
            noted.fire(None)
            return
        noted.fail(
            CallInterrupted(
                "the connection was lost since these events came: some may have gone to others"
            )
        )

    def _not_acknowledged(
        self, failure: Failure, noted: OneShot[None], way: RemoteService, numbers: list[int]
    ) -> None:
        problem: Any = failure.value
        noted.fail(problem)
        if way is not self._other_way or self.over:
            return  # the publisher gives them to another, or again: then they are acknowledged
        self._numbers[:0] = numbers
        if self._turn is None:
            delay = self._retry.next_delay()
            self._turn = self._reactor.callLater(delay, self._send_acknowledgements)


def is_number(value: Any) -> bool:
    """Whether a value may be the number of an event."""
    return type(value) is int and 0 <= value <= MAX_NUMBER


def is_item(item: list[Any]) -> bool:
    """Whether a list is an event, or a notice, as docs/protocol.rst has it."""
    if not item or item[0] is None:
        return len(item) >= 3 and type(item[1]) is str
    if len(item) < 5 or not is_number(item[0]) or type(item[1]) is not str:
        return False
    if not (item[2] is None or type(item[2]) is str) or type(item[3]) is not float:
        return False
    return len(item) == 5 or (
        type(item[5]) is list
        and all(
            type(block) is list
            and len(block) == 2
            and (block[0] is None or type(block[0]) is str)
            and type(block[1]) is bytes
            for block in item[5]
        )
    )


__all__ = ["PublisherFeed"]
