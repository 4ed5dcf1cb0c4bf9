"""Sends events to one subscriber: the publisher's end of a subscription's stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pycomnet.errors import PycomnetError
from pycomnet.ext.pubsub.errors import SlowSubscriber
from pycomnet.ext.pubsub.events import EncodedEvent, batch
from pycomnet.ext.pubsub.recipients import EventRun
from pycomnet.ext.pubsub.replay import replay_from_store
from pycomnet.ext.pubsub.subscriberqueue import Item, Policy, SubscriberQueue
from pycomnet.services.server.streaming import StreamFeed

if TYPE_CHECKING:
    from pycomnet.ext.pubsub.topic import Topic
    from pycomnet.services.server.connection import ServerConnection
    from pycomnet.services.server.request import ServerCall

#: About how many bytes of events one batch has; a longer event has a batch of its own.
BATCH = 1 << 16


#: Policies that drop events and keep the stream.
DROPPING = (Policy.DROP_OLDEST, Policy.DROP_NEWEST, Policy.LATEST)


class EventSink(StreamFeed):
    """The publisher's end of one subscriber's stream: sends it events.

    :ivar id: its number at the publisher; 0 before it has begun.
    :ivar waiting: whether nothing can be sent: before the welcome, and while a batch waits for
        credit, or for the connection.
    :ivar dirty: whether the topic is to flush it.
    :ivar sent: the number of events that were sent.
    """

    __slots__ = (
        "_ending",
        "_is_ending",
        "call",
        "connection",
        "dirty",
        "id",
        "sent",
        "topic",
        "waiting",
        "weight",
    )

    #: The connection treats this object as a Deferred that waits for credit: it reads ``called``,
    #: and calls ``callback`` when there is room.
    called = False

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.id = 0
        self.call: ServerCall | None = None
        self.connection: ServerConnection | None = None
        self.waiting = True
        self.dirty = False
        self.sent = 0
        #: how many subscriptions it counts as
        self.weight = 1
        self._is_ending = False
        self._ending: BaseException | None = None

    # -- the stream ------------------------------------------------------------------------------

    def begin(self, call: ServerCall) -> None:
        self.call = call
        self.connection = call.connection
        self.topic.join(self)

    def ended(self) -> None:
        self.call = None
        self.topic.leave(self)

    def welcome(self, resumed: bool, begins: int) -> None:
        """Send the welcome: the subscription is in effect.

        :param resumed: whether it continues where the subscriber was.
        :param begins: the number after which its events begin.
        """
        assert self.call is not None
        topic = self.topic
        said = {
            "id": self.id,
            "epoch": topic.epoch,
            "sequence": topic.history.last,
            "begins": begins,
            "resumed": resumed,
            "durable": topic.store is not None,
        }
        try:
            self.call.connection.send(self.call, said)
        except PycomnetError:
            return  # the stream is being closed: `ended` is called
        self.waiting = False

    def send(self, items: list[Item], upto: int) -> None:
        """Send items as a batch. May only be called while it is not waiting."""
        call = self.call
        if call is None or call.over:
            return
        if len(items) == 1 and type(items[0]) is EncodedEvent:
            payload = items[0].alone()
        else:
            payload = batch(upto, [item.payload for item in items])
        self._send_batch(call, payload, len(items))

    def _send_batch(self, call: ServerCall, payload: bytes, count: int) -> None:
        self.sent += count
        self.waiting = True
        try:
            if call.connection.send_encoded(call, payload, self):
                self.waiting = False
        except PycomnetError:
            return  # the stream is being closed: `ended` is called

    def callback(self, _: object) -> None:
        """The batch that waited has been sent."""
        self.waiting = False
        if self.call is not None:
            self.flush()

    def close(self, problem: BaseException | None = None) -> None:
        """End the stream at once."""
        call = self.call
        if call is not None:
            call.connection.server.end_feed(call, problem)

    def finish(self, problem: BaseException | None) -> None:
        """End the stream when everything has been sent."""
        self._is_ending = True
        self._ending = problem
        if not self.waiting:
            self.flush()

    def flush(self) -> None:
        """Send the waiting items."""
        raise NotImplementedError

    def lag(self) -> int:
        """How many events wait for it."""
        raise NotImplementedError


class Subscription(EventSink):
    """A subscriber that gets all events that match its subjects."""

    __slots__ = ("_few", "intake")

    #: whether retained events replace events that the history has lost
    wants_retained = True

    def __init__(self, topic: Topic, intake: SubscriberQueue) -> None:
        super().__init__(topic)
        self.intake = intake
        self.weight = intake.patterns.weight
        #: if more bytes than this wait, they are sent within the turn
        self._few = min(BATCH, intake.bound)

    def offer(self, event: EncodedEvent) -> None:
        """Queue a published event that matches the subscription."""
        intake = self.intake
        if self.call is None or intake.cursor is not None:
            return  # the stream has just ended; or the subscription will read it in the history
        if intake.size + event.size > self._few and not self.waiting:
            self.flush()  # before anything is dropped
            if self.call is None:
                return
        if not intake.offer(event):
            self._over_bound()

    def _over_bound(self) -> None:
        intake = self.intake
        if intake.policy is Policy.BLOCK:
            self.topic.pressure.blocked(self)
        else:
            bound = intake.bound
            self.close(
                SlowSubscriber(
                    f"more than {bound} bytes of events wait for this subscriber: take them "
                    "faster, or use another policy"
                )
            )

    def room(self) -> int:
        intake = self.intake
        if not self.waiting:
            return self._few - intake.size
        return BATCH if intake.policy in DROPPING else intake.bound - intake.size

    def offer_run(self, run: EventRun[Any], sends: bool, more: int) -> None:
        call, intake = self.call, self.intake
        if call is None or call.over:
            return
        is_much = intake.size + run.size + more > self._few
        if is_much and not self.waiting:
            self.flush()  # before anything is dropped
            if self.call is None:
                return
        if (sends or is_much) and not self.waiting and not intake.has_more():
            self._send_batch(call, run.batch(), len(run.rows))
        elif not intake.offer_all(run.events(), run.size):
            self._over_bound()

    def flush(self) -> None:
        intake, topic = self.intake, self.topic
        while not self.waiting and self.call is not None:
            is_reading = intake.cursor is not None
            items = intake.take(BATCH)
            if is_reading and intake.cursor is None:
                topic.end_run()
            if items:
                self.send(items, last_of(items, topic, intake))
            elif intake.reading:
                return
            elif intake.lacking:
                replay_from_store(topic, intake, self)
                return
            elif intake.has_more():
                topic.flush_later(self)
                return
            elif self._is_ending:
                self.close(self._ending)
                return
            else:
                break
        if intake.policy is Policy.BLOCK and 2 * intake.size <= intake.bound:
            topic.pressure.unblocked(self)

    def tell(self, payload: bytes) -> None:
        """Send a notice at its place among the events."""
        self.intake.tell(payload)

    def lag(self) -> int:
        return len(self.intake)

    @property
    def held(self) -> int:
        """Bytes that wait for it."""
        return self.intake.held

    def yield_memory(self) -> bool:
        """Drop some events by the policy, or end the stream: too many bytes wait for all
        subscriptions together, and most of them for this one.

        :returns: whether fewer bytes wait now.
        """
        intake = self.intake
        if 2 * intake.size >= intake.held and intake.policy in DROPPING:
            return intake.shrink()
        self.close(
            SlowSubscriber(
                "too many bytes of events wait for all subscribers, and most of them for this one"
            )
        )
        return self.call is None


def last_of(items: list[Item], topic: Topic, intake: SubscriberQueue) -> int:
    """The number up to which all events are sent with these items."""
    # Not `topic.history.last`: the topic may not have queued its last event here yet.
    upto = 0 if intake.has_more() else topic.offered
    for item in reversed(items):
        if type(item) is EncodedEvent:
            upto = max(upto, item.sequence)
            break
    if intake.policy is Policy.LATEST:
        first = intake.untold()
        if first is not None:
            upto = min(upto, first - 1)
    return upto
