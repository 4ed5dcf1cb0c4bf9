"""A subscriber's stream from one publisher, over restarts and lost connections."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from twisted.internet import defer
from twisted.python.failure import Failure

from pycomnet.deferred import OneShot, deferred
from pycomnet.errors import (
    CallInterrupted,
    ChannelClosed,
    ConnectionLost,
    DeadlineExceeded,
    Overloaded,
    ServerLeaving,
    ServiceNotFound,
    ServiceUnreachable,
)
from pycomnet.ext.pubsub.acknowledgements import FIRST_RETRY, LONGEST_RETRY, Acknowledgements
from pycomnet.ext.pubsub.events import Gap
from pycomnet.ext.pubsub.publishermessages import EventSequence, Welcome, decode_batch
from pycomnet.ext.pubsub.weakowner import OwnedBySubscriber
from pycomnet.net.backoff import Backoff
from pycomnet.services.client.instances import AddressRoute
from pycomnet.services.client.remoteservice import RemoteService

if TYPE_CHECKING:
    from pycomnet.ext.pubsub.subscriber import Subscriber

#: The most sequences (epochs) of one publisher whose positions are kept.
MOST_POSITIONS = 32
#: Seconds for a publisher to be reached, and for it to confirm a subscription. After that time
#: ``when_subscribed`` no longer waits for this publisher; the attempts continue.
REACHED_IN, WELCOME = 5.0, 60.0
#: After so many refusals in a row, ``when_subscribed`` fails.
TRIES = 5
#: Errors after which a subscription is tried again; the first ones concern the connection.
LOST = (CallInterrupted, ConnectionLost, ServerLeaving, ServiceNotFound, ServiceUnreachable)
TRANSIENT = (*LOST, Overloaded)


class PublisherFeed(OwnedBySubscriber):
    """A subscriber's stream from one publisher: subscribes, and subscribes again after a lost
    connection.

    :param service: the publisher's service; it finds the publisher again after a restart.
    :param name: the publisher's name at the nameserver, or None.
    :param known: whether the publisher has to exist. Then it is an error if it can't be reached;
        otherwise the feed waits for it.
    :ivar count: the current sequence of events; None before the first welcome.
    :ivar counts: epoch -> each known sequence of the publisher.
    :ivar away: whether the last attempt to subscribe has failed.
    :ivar durable: whether the publisher's events survive its restarts.
    :ivar gone: whether the publisher is not registered any more.
    :ivar over: whether the feed has ended.
    """

    def __init__(
        self, owner: Subscriber, service: RemoteService, name: str | None, known: bool = False
    ) -> None:
        super().__init__(owner)
        self.name = name
        self.service = service
        self.count: EventSequence | None = None
        self.counts: OrderedDict[str, EventSequence] = OrderedDict()
        self.away = False
        self.durable = False
        self.gone = False
        self.over = False
        self._reactor = service.context.reactor
        self._known = known
        #: whether the user was already given a gap for the change to another sequence
        self._is_told = False
        self._stream: Any = None
        self._running: defer.Deferred[None] | None = None
        self._consumed: defer.Deferred[None] | None = None
        #: the arguments of the stream: subjects, and positions
        self._subjects: list[str] = []
        self._after: dict[str, int] = {}
        self._id = 0
        #: the service for acknowledgements and changes, on the stream's connection and no other
        self._control: RemoteService | None = None
        self._connection: Any = None
        #: fires when the stream that is being opened has begun, or has failed
        self._opened: OneShot[None] = OneShot()
        self._failures = 0
        self._acknowledgements = Acknowledgements(self._reactor, self._send_acknowledgement)

    def follows(self, former: PublisherFeed) -> None:
        """Take over the positions of a former feed of the same publisher, which was gone.

        When it went, the user was given a gap for the missing events, unless the publisher is
        durable and still has them.
        """
        for epoch, count in former.counts.items():
            self.counts[epoch] = EventSequence(self, epoch, count)
        if former.count is not None:
            self.count = self.counts[former.count.epoch]
            self.durable = former.durable
            self._is_told = former.gone and not former.durable

    def start(self) -> None:
        """Begin."""
        self._running = defer.Deferred.fromCoroutine(self._run())
        self._running.addBoth(self._ended)

    def close(self) -> None:
        """Receive no more."""
        self.over = True
        running, self._running = self._running, None
        self._acknowledgements.flush()
        if running is not None:
            running.cancel()
        self._end_stream()

    def lost(self) -> None:
        """Note that the publisher is not registered any more: the feed ends when its stream is
        lost."""
        self.gone = True
        if self._control is None and self._running is not None:
            self._running.cancel()

    def _ended(self, result: Any) -> None:
        self.over = True
        self._opened.fire(None)
        if self._running is None:
            return  # it was closed
        self._running = None
        problem: BaseException | None = None
        if isinstance(result, Failure):
            if result.check(defer.CancelledError) is None:
                problem = result.value
            elif self.count is not None and self._tells_end and self._reference() is not None:
                self._tell_gap("gone", self.count.position)
        if self._reference() is not None:
            self._owner.feed_ended(self, problem)

    @property
    def _tells_end(self) -> bool:
        """Whether the user is to be given a gap if the publisher does not come back."""
        return not self.durable and not self._is_told

    def _tell_gap(self, why: str, position: int, last: int | None = None) -> None:
        gap = Gap(None, position + 1, last, None, why, self.name)
        self._owner.tell(self.count or EventSequence(self, ""), gap)

    # -- the stream ------------------------------------------------------------------------------

    async def _run(self) -> None:
        backoff = Backoff(self._reactor, FIRST_RETRY, LONGEST_RETRY)
        while True:
            self._expect_stream()
            self._stream = stream = self.service.stream("subscribe", self._arguments())
            reaching = self._reactor.callLater(REACHED_IN, self._not_reached, stream)
            try:
                waiting = stream.receive()
                waiting.addTimeout(WELCOME, self._reactor)
                self._begun(stream, Welcome(await waiting, self.service))
                backoff.reset()
                if self._subjects != self._owner.subjects:  # they were changed meanwhile
                    await self.change(self._owner.subjects)
                self._owner.check_subscribed()
                while True:
                    # Receive one batch ahead of the user: so a lost connection is noticed and
                    # replaced while the user still has events to take.
                    batch = await stream.receive()
                    if self._consumed is not None:
                        await self._consumed
                    self._deliver(batch)
            except ChannelClosed:
                return
            except (*TRANSIENT, defer.TimeoutError) as problem:
                if self.gone:
                    raise defer.CancelledError from None
                if self._known and isinstance(problem, (ServiceUnreachable, ServiceNotFound)):
                    raise
                was_open = self._control is not None
                self._end_stream()
                if not was_open:
                    self._not_opened(problem)
            finally:
                if reaching.active():
                    reaching.cancel()
                self._end_stream()
            await backoff.wait()

    def _expect_stream(self) -> None:
        """Make changes of the subjects wait until the next stream has begun."""
        if self._opened.fired:
            self._opened = OneShot()

    def _end_stream(self) -> None:
        if self._control is not None:
            self._expect_stream()
        self._control = self._connection = None
        self._acknowledgements.interrupt()
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _not_reached(self, stream: Any) -> None:
        """The publisher was not reached in time; the attempts continue."""
        if stream.peer is None:
            self._not_opened(ServiceUnreachable(f"{self.service} was not reached"))

    def _not_opened(self, problem: Exception) -> None:
        """An attempt to subscribe has failed."""
        self.away = True
        self._failures += 1
        if isinstance(problem, defer.TimeoutError):
            text = f"{self.service} has not confirmed a subscription in {WELCOME:g} seconds"
            problem = DeadlineExceeded(text)
        if isinstance(problem, DeadlineExceeded) or (
            isinstance(problem, Overloaded) and self._failures >= TRIES
        ):
            self._owner.not_subscribed(problem)
        self._owner.check_subscribed()
        self._opened.fire(None)

    def _arguments(self) -> dict[str, Any]:
        owner = self._owner
        found = dict(owner.wanted())
        self._subjects = found["subjects"]
        self._after = {}
        if self.count is None:
            found.update(owner.beginning)
        if not owner.group:
            # The positions of this publisher, and those of durable publishers that are gone: this
            # may be one of them, under another name. Positions of publishers that are still there
            # are not sent.
            after = owner.left_positions()
            for epoch, count in self.counts.items():
                after.pop(epoch, None)
                after[epoch] = count.position
            self._after = dict(list(after.items())[-MOST_POSITIONS:])
            if self._after:
                found["after"] = [[epoch, number] for epoch, number in self._after.items()]
        return found

    def _begun(self, stream: Any, welcome: Welcome) -> None:
        owner, epoch = self._owner, welcome.epoch
        known = self._after.get(epoch)
        if self.count is not None and self.count.epoch != epoch:
            if not self._is_told:
                self._tell_gap("restarted", self.count.position)
        elif known is not None and not welcome.is_resumed:
            self._tell_gap("restarted", known)  # its events have another beginning
        elif known is not None and welcome.begins > known:
            self._tell_gap("history", known, welcome.begins)
        self._is_told = False
        count = self.counts.get(epoch)
        if count is None:
            count = EventSequence(self, epoch, owner.take_over(epoch))
        self.counts[epoch] = count
        self.counts.move_to_end(epoch)
        if len(self.counts) > MOST_POSITIONS:
            self.counts.popitem(last=False)
        self.count = count
        count.position = welcome.begins
        self.durable = welcome.is_durable
        self.away = self._known = False
        self._failures = 0
        self._id = welcome.id
        service = self.service
        self._connection = stream.peer.connection
        self._control = RemoteService(service.context, AddressRoute(stream.peer), service.interface)
        self._opened.fire(None)

    def _deliver(self, batch: Any) -> None:
        """Pass a batch to the subscriber, whose user has taken all of the last one."""
        count = self.count
        assert count is not None
        upto = decode_batch(batch, count)
        owner = self._owner
        count.position = max(count.position, upto)
        if owner.group:
            batch = count.new_ones(batch)
        if batch:
            self._consumed = defer.Deferred()
            owner.put(count, batch)

    def consumed(self) -> None:
        """The user has taken all of the last batch."""
        waiting, self._consumed = self._consumed, None
        if waiting is not None and not waiting.called:
            waiting.callback(None)

    # -- calls to the publisher ------------------------------------------------------------------

    def _invoke(self, method: str, **args: Any) -> defer.Deferred[Any]:
        """Call a method for this subscription, on the connection of its stream."""
        way, stream = self._control, self._stream
        if way is None or stream.peer.connection is not self._connection:
            # On another connection the id may belong to another subscription.
            return defer.fail(CallInterrupted("the connection to the publisher is lost"))
        return way.invoke(method, {"id": self._id, **args})

    def is_behind(self, subjects: list[str]) -> bool:
        """Whether the publisher can be reached, and has other subjects than these."""
        return not (self.over or self.away or self._subjects == subjects)

    @deferred
    async def change(self, subjects: list[str]) -> None:
        """Subscribe to other subjects, if the publisher can be reached."""
        while self.is_behind(subjects):
            way = self._control
            if way is None:
                await self._opened.when_fired()
                continue
            try:
                await self._invoke("change", subjects=subjects)
            except LOST:
                if way is self._control:
                    # `_run` notices the loss once the user has taken the events that have arrived.
                    # The next stream begins with the subjects that are valid then.
                    self.away = True
                continue
            self._subjects = subjects

    def acknowledge(self, number: int) -> defer.Deferred[None]:
        """Acknowledge an event of the publisher's current sequence."""
        return self._acknowledgements.add(number)

    def _send_acknowledgement(self, numbers: list[int]) -> defer.Deferred[Any]:
        return self._invoke("acknowledge", sequences=numbers)
