"""A subscriber's events from NATS: over core NATS, or from JetStream if a stream keeps them."""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum
from typing import TYPE_CHECKING, Any

from twisted.internet import defer
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from pycomnet.deferred import done
from pycomnet.errors import InvalidArguments, PycomnetError
from pycomnet.ext.pubsub.errors import SlowSubscriber
from pycomnet.ext.pubsub.events import Gap, Restarted
from pycomnet.ext.pubsub.nats.encoding import (
    END,
    GONE,
    HERE,
    RESTARTED,
    UnreadableMessage,
    read_event,
    read_notice,
)
from pycomnet.ext.pubsub.nats.eventqueue import EventQueue
from pycomnet.ext.pubsub.nats.gapdetection import REPEATED, PublisherTrack
from pycomnet.ext.pubsub.nats.jetstreamreader import EventStreamReader, GroupReader, find_stream
from pycomnet.ext.pubsub.nats.natsnames import NatsNames
from pycomnet.ext.pubsub.nats.sharedclient import SharedClient
from pycomnet.ext.pubsub.subjects import Patterns
from pycomnet.ext.pubsub.subscriberqueue import BOUND, Policy
from pycomnet.ext.pubsub.weakowner import OwnedBySubscriber
from pycomnet.nats import NatsClient, NatsError, NatsMessage, NatsSettings
from pycomnet.text.logs import Logger

if TYPE_CHECKING:
    from pycomnet.ext.pubsub.subscriber import Subscriber
    from pycomnet.services.client.context import Context

log = Logger()

#: Bytes that a subscriber gets at a time.
BATCH = 1 << 16
#: The most publishers whose positions are kept.
MOST_SOURCES = 1000
#: The epoch of the feed's own ``count``, which stands for all of its publishers.
BEGUN = "nats"
#: Seconds between checks whether the whole stream was read, once its publishers have ended.
END_CHECK = 0.2


class PublisherStanding(Enum):
    """Whether a publisher is running, as far as a subscriber knows. The value describes it."""

    PAST = "only the stream's history has events of it; it may have been killed long ago"
    THERE = "it has sent an event or a notice since the subscription began"
    OVER = "it has ended"
    GONE = "it has stopped and may come back; the stream may still have events of it"


class NatsSource:
    """One publisher, as the source of a subscriber's batches.

    :ivar name: None: NATS does not tell publishers' names.
    """

    __slots__ = ("_feed", "epoch", "name", "standing", "track")

    def __init__(self, feed: NatsFeed, epoch: str, track: PublisherTrack) -> None:
        self.name: str | None = None
        self.epoch = epoch
        self.standing = PublisherStanding.PAST
        self.track = track
        self._feed = feed

    def consumed(self) -> None:
        """The user has taken all of a batch."""
        self._feed.consumed()

    @property
    def feed(self) -> NatsFeed:
        """The feed that it is a source of."""
        return self._feed

    def acknowledge(self, number: int) -> defer.Deferred[None]:
        """Acknowledge an event."""
        return self._feed.acknowledge(self.epoch, number)


#: A publisher's notice -> its standing after that.
_STANDINGS = {
    HERE: PublisherStanding.THERE,
    RESTARTED: PublisherStanding.THERE,
    END: PublisherStanding.OVER,
    GONE: PublisherStanding.GONE,
}


class NatsFeed(OwnedBySubscriber):
    """A subscriber's events of an interface from NATS, of all its publishers.

    :ivar count: None before the subscription is in effect.
    :ivar over: whether the feed has ended.
    """

    #: attributes that a subscriber reads of each feed
    name: str | None = None
    gone = False
    away = False

    def __init__(self, owner: Subscriber, context: Context, settings: NatsSettings) -> None:
        super().__init__(owner)
        self.count: NatsSource | None = None
        self.over = False
        self.names = NatsNames(owner.interface)
        wanted = owner.wanted()
        self.wanted = wanted
        self.beginning = dict(owner.beginning)
        self.group: str | None = wanted.get("group")
        self.durable: bool = wanted.get("durable", False)
        self._subjects = owner.subjects
        self.patterns = Patterns(owner.subjects)
        self._waiting = EventQueue(Policy(wanted["policy"]), wanted.get("bound", BOUND))
        self._shared = SharedClient.of(context, settings)
        self.client: NatsClient = self._shared.client
        self._sources: OrderedDict[str, NatsSource] = OrderedDict()
        self._is_busy = False
        #: the subject of the publishers' answers
        self._answers = ""
        #: the client's number of reconnections when publishers were last asked for their positions
        self._reconnects: int | None = None
        self._subscriptions: list[Any] = []
        self.reader: EventStreamReader | GroupReader | None = None
        self._running: defer.Deferred[None] | None = None
        self._ending: Any = None
        self._is_ending = False
        self._watching: defer.Deferred[None] | None = None
        self._is_released = False

    # -- beginning and end -----------------------------------------------------------------------

    def start(self) -> None:
        """Connect and subscribe."""
        self._running = defer.Deferred.fromCoroutine(self._begin())
        self._running.addErrback(self._failed)

    async def _begin(self) -> None:
        client, names = self.client, self.names
        policy = self._waiting.policy
        await self._shared.start()
        self._watching = client.when_ended()
        self._watching.addErrback(self._failed)
        stream = await find_stream(client, names)
        if stream is None:
            self._check_core(policy)
            self._subscribe()
        elif self.group is None:
            if policy is not Policy.LATEST:
                self._waiting.policy = Policy.BLOCK  # only as much is pulled as fits
            self.reader = EventStreamReader(self, stream)
        else:
            self.reader = GroupReader(self, stream)
        self._subscriptions.append(client.subscribe(names.notices, self._told))
        if self.reader is not None:
            await self.reader.start()
        self._answers = f"{names.interface}.!!.answer.{client.new_token()}"
        self._subscriptions.append(client.subscribe(self._answers, self._told))
        client.publish(names.who, b"", self._answers)
        await client.flush()
        self._reconnects = client.reconnects
        self.count = NatsSource(self, BEGUN, PublisherTrack())
        self._owner.check_subscribed()

    def _check_core(self, policy: Policy) -> None:
        """Refuse options that need JetStream."""
        interface = self.names.interface
        for name in ("last", "since"):
            if self.beginning.get(name):
                raise InvalidArguments(
                    f"{name}=: {interface} keeps no events in JetStream: start a publisher with "
                    "history= first"
                )
        if self.durable:
            raise InvalidArguments(
                f"acknowledged=True: {interface} keeps no events in JetStream: start a publisher "
                "with history= first"
            )
        if policy is Policy.BLOCK:
            raise InvalidArguments(
                f"policy='block': {interface} is published through core NATS, whose publishers do "
                "not wait for subscribers"
            )

    def _subscribe(self) -> None:
        """Subscribe to the subjects, over core NATS."""
        group = "" if self.group is None else self.names.group(self.group)
        for pattern in self.names.patterns(self.patterns.texts):
            made = self.client.subscribe(pattern, self.came, group)
            self._subscriptions.append(made)

    def _failed(self, failure: Failure) -> None:
        if self.over or failure.check(defer.CancelledError) is not None:
            return
        self.finish(failure.value)

    def finish(self, problem: BaseException | None) -> None:
        """End the feed: release everything, and notify the subscriber."""
        if self.over:
            return
        owner = self._reference()
        self.close()
        if owner is not None:
            owner.feed_ended(self, problem)  # type: ignore[arg-type]

    def close(self) -> None:
        """Receive no more."""
        self.over = True
        if self._is_released:
            return
        self._is_released = True
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
        if self._watching is not None:
            self._watching.cancel()
        closing = done() if self.reader is None else self.reader.close()
        for subscription in self._subscriptions:
            subscription.close()
        self._subscriptions.clear()
        self._waiting.clear()
        closing.addBoth(lambda _: self._shared.release(flush=True))
        closing.addErrback(lambda _: None)

    def is_behind(self, subjects: list[str]) -> bool:
        """Whether it has other subjects than these."""
        return not self.over and self._subjects != subjects

    def change(self, subjects: list[str]) -> defer.Deferred[Any]:
        """Change the subjects."""
        return defer.Deferred.fromCoroutine(self._change(subjects))

    async def _change(self, subjects: list[str]) -> None:
        self._subjects = subjects
        self.patterns = Patterns(subjects)
        for source in self._sources.values():
            source.track.change()
        if isinstance(self.reader, EventStreamReader):
            await self.reader.change()
        elif self.count is not None:
            before = self._subscriptions[:-2]
            rest = self._subscriptions[-2:]
            self._subscriptions = []
            self._subscribe()
            self._subscriptions += rest
            for subscription in before:
                subscription.close()
            self.client.publish(self.names.who, b"", self._answers)
            await self.client.flush()
            self._reconnects = self.client.reconnects

    # -- what comes ------------------------------------------------------------------------------

    def came(self, batch: list[NatsMessage]) -> None:
        """Queue the events of some messages."""
        everything = self.patterns.all
        sources = self._sources
        tracks = self.group is None
        for message in batch:
            try:
                epoch, previous, item = read_event(message.payload)
            except UnreadableMessage as problem:
                self.unreadable(message, problem)
                continue
            source = sources.get(epoch)
            if source is None:
                source = self._source(epoch)
                source.standing = PublisherStanding.THERE
            missed = None
            if tracks:
                missed = source.track.missing(item, previous, everything)
                if missed is REPEATED:
                    continue
                if not everything and not self.patterns.match(item[1]):
                    continue
            if not self._queue(source, item, len(message.payload), missed):
                return
        self.give()

    def put(
        self,
        epoch: str,
        item: list[Any],
        size: int,
        previous: int | None,
        new: bool,
        recent: bool,
    ) -> None:
        """Queue an event from a JetStream stream.

        :param new: whether the events before it are expected.
        :param recent: whether it was published since the subscription began.
        """
        source = self._sources.get(epoch) or self._source(epoch)
        if recent and source.standing is PublisherStanding.PAST:
            source.standing = PublisherStanding.THERE
        missed = None
        if self.group is None:
            if not new:
                source.track.skip(item)
            else:
                missed = source.track.missing(item, previous, self.patterns.all)
                if missed is REPEATED:
                    return
            if not self.patterns.match(item[1]):
                return
        self._queue(source, item, size, missed)

    def _queue(self, source: NatsSource, item: list[Any], size: int, missed: Gap | None) -> bool:
        """Queue an event. Returns False if that ends the feed, as the policy disconnects."""
        if self._waiting.put(source, item, size, missed):
            return True
        self.finish(SlowSubscriber(f"more than {self._waiting.bound} bytes of events wait here"))
        return False

    @property
    def has_room(self) -> bool:
        """Whether more messages should be requested."""
        return 2 * self._waiting.size < self._waiting.bound

    @property
    def is_empty(self) -> bool:
        """Whether the user has taken everything that has come."""
        return not self._waiting and not self._is_busy

    def _source(self, epoch: str) -> NatsSource:
        sources = self._sources
        made = sources[epoch] = NatsSource(self, epoch, self._track())
        if len(sources) > MOST_SOURCES:
            sources.popitem(last=False)
        return made

    def _track(self) -> PublisherTrack:
        """Make the track of a publisher of which no event has come yet.

        If the connection was lost since the publishers were asked for their positions, its answer
        may have been lost, and so may its first events.
        """
        if self.reader is not None or self._reconnects in (None, self.client.reconnects):
            return PublisherTrack()
        return PublisherTrack(0, False)

    def unreadable(self, message: NatsMessage, problem: PycomnetError) -> None:
        """Log a message that does not follow the publishers' protocol."""
        log.warn("{subject}: {why}", subject=message.subject, why=str(problem))

    def _told(self, batch: list[NatsMessage]) -> None:
        """Process notices of publishers."""
        for message in batch:
            if message.raw_headers and message.status is not None:
                continue  # NATS's own answer: there is no publisher
            try:
                what, epoch, number, text, problem = read_notice(message.payload)
            except UnreadableMessage as why:
                self.unreadable(message, why)
                continue
            source = self._sources.get(epoch)
            if what == GONE and self.reader is None:
                self._sources.pop(epoch, None)  # none of its events is still in transit
                continue
            if source is None:
                source = self._source(epoch)
            before, source.standing = source.standing, _STANDINGS.get(what, source.standing)
            if what == HERE and self.reader is None:
                source.track.begins(number)
            elif what == RESTARTED:
                self._waiting.tell(source, Restarted(text))
            elif what == END and before is not PublisherStanding.OVER and problem is not None:
                self._end_of(problem)
        self.give()

    @property
    def _are_over(self) -> bool:
        """Whether at least one publisher has ended, and none is running."""
        is_one_over = False
        for source in self._sources.values():
            if source.standing is PublisherStanding.THERE:
                return False
            if source.standing is PublisherStanding.OVER:
                is_one_over = True
        return is_one_over

    def _end_of(self, problem: PycomnetError) -> None:
        """A publisher has ended with an error. If others are running, the feed goes on."""
        if self._are_over:
            self._ending = problem
        else:
            self._waiting.tell(next(iter(self._sources.values())), problem)

    # -- to the subscriber -----------------------------------------------------------------------

    def give(self) -> None:
        """Pass the next batch to the subscriber, if the user has taken all of the last one."""
        if self._is_busy or self.over:
            return
        found = self._waiting.take(BATCH if self.group is None else 1)
        if found is not None:
            self._is_busy = True
            owner = self._reference()
            if owner is not None:
                source, items = found
                owner.put(source, items)
        elif self._are_over:
            if self.reader is None:
                self.finish(self._ending)
            elif not self._is_ending:
                self._is_ending = True
                checking = defer.Deferred.fromCoroutine(self._check_end(self.reader))
                checking.addErrback(lambda _: None)

    async def _check_end(self, reader: EventStreamReader | GroupReader) -> None:
        """All publishers have ended: the feed ends when the user has taken all their events."""
        while not self.over:
            try:
                is_at_end = self.is_empty and await reader.is_at_end() and self.is_empty
            except NatsError:
                is_at_end = False
            if not self._are_over:
                break  # another publisher has started
            if is_at_end:
                self.finish(self._ending)
                return
            await deferLater(self.client.reactor, END_CHECK)
        self._is_ending = False

    def consumed(self) -> None:
        """The user has taken all of the last batch."""
        self._is_busy = False
        if self.reader is not None:
            self.reader.check()
        self.give()

    def acknowledge(self, epoch: str, number: int) -> defer.Deferred[None]:
        """Acknowledge an event."""
        if isinstance(self.reader, GroupReader):
            return self.reader.acknowledge(epoch, number)
        return done()  # a queue group of core NATS has no acknowledgements


class NatsFinder(OwnedBySubscriber):
    """The counterpart of :class:`Publishers` for NATS, where publishers need not be found."""

    #: whether all publishers were found
    complete = True

    def __init__(self, owner: Subscriber, context: Context, settings: NatsSettings) -> None:
        super().__init__(owner)
        self._context = context
        self._settings = settings

    @property
    def reactor(self) -> Any:
        """The context's reactor."""
        return self._context.reactor

    def start(self) -> None:
        """Begin."""
        owner = self._reference()
        if owner is not None:
            try:
                feed = NatsFeed(owner, self._context, self._settings)
            except Exception as problem:
                owner.finish(problem)
                return
            owner.add_feed(feed)  # type: ignore[arg-type]

    def close(self) -> None:
        """End."""

    def ended(self, feed: object) -> None:
        """A feed is over."""

    def let_go(self, feeds: list[NatsFeed]) -> None:
        """Nothing refers to the subscriber any more."""
        for feed in feeds:
            feed.close()
