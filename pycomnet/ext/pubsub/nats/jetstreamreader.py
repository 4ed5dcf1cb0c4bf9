"""Reads events from JetStream: all of them in order, or as a member of a group."""

from __future__ import annotations

import datetime
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet import defer
from twisted.python.failure import Failure

from pycomnet.deferred import deferred, done
from pycomnet.errors import PycomnetError
from pycomnet.ext.pubsub.nats.encoding import UnreadableMessage, read_event
from pycomnet.ext.pubsub.nats.natsnames import RETAINS, NatsNames
from pycomnet.nats import (
    JetStreamError,
    NatsClient,
    NatsError,
    NatsMessage,
    NatsProtocolError,
    NatsTimeout,
)
from pycomnet.nats.consumerreader import ConsumerReader
from pycomnet.nats.jetstream import (
    NO_JETSTREAM,
    NO_STREAM,
    SECOND,
    JetStream,
    read_delivery,
)

if TYPE_CHECKING:
    from pycomnet.ext.pubsub.nats.feed import NatsFeed

#: Seconds for which JetStream keeps a consumer that nobody reads.
UNUSED = 60
#: Events that a member of a group has at a time, unless the member sets another number.
PREFETCH = 100
#: The most numbers of received events that a member keeps, to recognise repeated ones.
MOST_HAD = 20_000


@attrs.frozen
class EventStream:
    """The stream of an interface, as a subscriber finds it.

    :ivar last: the number of its last event.
    :ivar retains: whether subscribers are to get the last event of each subject and key first.
    """

    last: int
    retains: bool


async def find_stream(client: NatsClient, names: NatsNames) -> EventStream | None:
    """Find the interface's stream.

    :returns: None if there is none, if the server has no JetStream, or if the user may not ask.
    """
    try:
        found = await JetStream(client).stream_info(names.stream)
    except JetStreamError as problem:
        if problem.number in (NO_STREAM, *NO_JETSTREAM, 0):
            return None
        raise
    except NatsTimeout:
        return None
    state = found.get("state")
    last = state.get("last_seq") if isinstance(state, dict) else None
    if type(last) is not int:
        raise NatsProtocolError("JetStream's answer lacks the stream's state")
    config = found.get("config")
    described = config.get("description") if isinstance(config, dict) else None
    return EventStream(last, described == RETAINS)


def where_to_begin(beginning: dict[str, Any], last: int, now: float) -> dict[str, Any]:
    """The start options of a consumer, for a subscriber's ``last=`` or ``since=``.

    :param last: the number of the stream's last event.
    :param now: seconds since 1970.
    """
    if beginning.get("last"):
        return {
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": max(1, last + 1 - beginning["last"]),
        }
    if beginning.get("since"):
        moment = datetime.datetime.fromtimestamp(now - beginning["since"], datetime.timezone.utc)
        return {
            "deliver_policy": "by_start_time",
            "opt_start_time": moment.isoformat().replace("+00:00", "Z"),
        }
    return {"deliver_policy": "by_start_sequence", "opt_start_seq": last + 1}


class JetStreamReader:
    """What reads a stream for a subscriber.

    :param stream: the stream's state when the subscriber came.
    """

    _reader: ConsumerReader

    def __init__(self, feed: NatsFeed, stream: EventStream) -> None:
        self._feed = feed
        self._first = stream.last
        self._jetstream = JetStream(feed.client)

    def start(self) -> defer.Deferred[None]:
        """Start to read; fires once there is a consumer."""
        ready = self._reader.ready
        self._reader.start().addErrback(self._failed, self._reader)
        return ready

    def _failed(self, failure: Failure, reader: ConsumerReader) -> None:
        if failure.check(defer.CancelledError) is not None:
            return
        if not reader.ready.called:
            reader.ready.errback(failure)
        else:
            assert failure.value is not None
            self._feed.finish(failure.value)

    def check(self) -> None:
        """Continue to pull if there is room again."""
        if self._has_room():
            self._reader.check()

    def _has_room(self) -> bool:
        return self._feed.has_room


class EventStreamReader(JetStreamReader):
    """Reads a stream in order for one subscriber, and continues at its position after a loss."""

    def __init__(self, feed: NatsFeed, stream: EventStream) -> None:
        super().__init__(feed, stream)
        self._is_retained = stream.retains and bool(feed.beginning.get("retained"))
        self._consumer = ""
        #: the number in the stream up to which all has been read; None before the first
        self._position: int | None = None
        self._delivered = 0
        self._reader = self._make_reader()

    def _make_reader(self) -> ConsumerReader:
        return ConsumerReader(
            self._jetstream,
            self._feed.names.stream,
            self._make,
            self._came,
            self._has_room,
        )

    async def _make(self) -> str:
        feed = self._feed
        patterns = feed.names.patterns(feed.patterns.texts)
        everything = feed.names.everything
        config: dict[str, Any] = {
            "ack_policy": "none",
            "mem_storage": True,
            "inactive_threshold": UNUSED * SECOND,
            "filter_subject": patterns[0] if len(patterns) == 1 else everything,
        }
        if self._position is not None:
            config["deliver_policy"] = "by_start_sequence"
            config["opt_start_seq"] = self._position + 1
        elif self._is_retained:
            config["deliver_policy"] = "last_per_subject"
        else:
            config.update(where_to_begin(feed.beginning, self._first, time.time()))
        self._delivered = 0
        self._consumer, _ = await self._jetstream.create_consumer(feed.names.stream, config)
        return self._consumer

    def change(self) -> defer.Deferred[None]:
        """Read the feed's new subjects, from the current position on."""
        self._reader.stop()
        if self._position is None:
            self._position = self._first
        self._reader = self._make_reader()
        return self.start()

    def close(self) -> defer.Deferred[None]:
        """Read no more."""
        self._reader.stop()
        return done()

    async def is_at_end(self) -> bool:
        """Whether everything in the stream was delivered."""
        info = await self._jetstream.consumer_info(self._feed.names.stream, self._consumer)
        return info.get("num_pending") == 0 and _delivered(info) == self._delivered

    def _came(self, batch: list[NatsMessage]) -> None:
        feed = self._feed
        for message in batch:
            try:
                delivery = read_delivery(message)
            except NatsProtocolError as problem:
                feed.unreadable(message, problem)
                continue
            number = delivery.stream_sequence
            if delivery.consumer != self._consumer.encode():
                continue  # from the consumer before this one
            self._delivered += 1
            if delivery.consumer_sequence > self._delivered:
                # Messages were lost between the server and here: read them with a new consumer.
                self._reader.again()
                break
            is_recent = number > self._first
            is_new = is_recent or not self._is_retained
            self._position = number
            try:
                epoch, previous, item = read_event(message.payload)
            except UnreadableMessage as problem:
                feed.unreadable(message, problem)
                continue
            feed.put(epoch, item, len(message.payload), previous, is_new, is_recent)
        feed.give()


class _Held:
    """An event of a group that a member has.

    :ivar reply: where its acknowledgement goes.
    :ivar is_done: whether the user has acknowledged it.
    """

    __slots__ = ("is_done", "reply")

    def __init__(self, reply: str) -> None:
        self.reply = reply
        self.is_done = False


class GroupReader(JetStreamReader):
    """Reads the events that a group's consumer delivers to this member, and acknowledges them.

    A live member reports progress for all its events from time to time. After ``ack_wait`` without
    such a report, as when a member has died, its events go to another member. So do the events of a
    member that has not acknowledged any within its time (``ack_timeout``).
    """

    def __init__(self, feed: NatsFeed, stream: EventStream) -> None:
        super().__init__(feed, stream)
        self._reactor = feed.client.reactor
        prefetch: int = feed.wanted.get("prefetch", PREFETCH)
        self._most = prefetch
        self._batch = max(1, prefetch // 2)
        #: seconds for the user to acknowledge something; None for no limit
        self._timeout: float | None = feed.wanted.get("ack_timeout")
        self._ack_wait = self._timeout or feed.client.settings.ack_wait
        #: when an event was last acknowledged, or the first one came after there was none
        self._since = 0.0
        #: received events by their numbers in the stream, and unacknowledged ones by epoch and
        #: number
        self._had: OrderedDict[int, _Held] = OrderedDict()
        self._held: dict[tuple[str, int], _Held] = {}
        assert feed.group is not None
        self._name = feed.names.group(feed.group)
        self._timer: Any = None
        self._reader = ConsumerReader(
            self._jetstream,
            feed.names.stream,
            self._make,
            self._came,
            self._has_room,
            self._batch,
        )

    async def _make(self) -> str:
        feed = self._feed
        names = feed.names
        patterns = names.patterns(feed.patterns.texts)
        if len(patterns) > 1:
            raise JetStreamError("a group through JetStream has one pattern of subjects")
        try:
            found = await self._jetstream.consumer_info(names.stream, self._name)
        except JetStreamError:
            pass
        else:
            config = found.get("config")
            have = config.get("filter_subject") if isinstance(config, dict) else None
            if have != patterns[0]:
                raise JetStreamError(f"group {feed.group!r} is for other subjects: {have}")
            waits = config.get("ack_wait") if isinstance(config, dict) else None
            if type(waits) is int and waits > 0:
                # The first member has set the limit. This one has to report progress in time.
                self._ack_wait = waits / SECOND
                self._later()
            return self._name
        config = {
            "durable_name": self._name,
            "ack_policy": "explicit",
            "ack_wait": int(self._ack_wait * SECOND),
            "max_ack_pending": 10_000,
            "filter_subject": patterns[0],
            **where_to_begin(feed.beginning, self._first, time.time()),
        }
        if not feed.durable:
            config["inactive_threshold"] = UNUSED * SECOND
        await self._jetstream.create_consumer(names.stream, config)
        return self._name

    def start(self) -> defer.Deferred[None]:
        self._later()
        return super().start()

    @deferred
    async def close(self) -> None:
        """Return the unacknowledged events, and read no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._reader.stop()
        held, self._held = list(self._held.values()), {}
        client, names = self._feed.client, self._feed.names
        if not held or not client.is_connected:
            return
        first = held[0]
        try:
            info = await self._jetstream.consumer_info(names.stream, self._name)
            await client.request(first.reply, b"-NAK", 1.0)
            if info.get("num_waiting") == 1:
                # A work-around for nats-server 2.9. If the only pull that waits is that of this
                # member, which is gone, the server takes an event out of its queue for it, and
                # loses it. So the event is returned once more.
                await self._jetstream.consumer_info(names.stream, self._name)
                self._say(first, b"-NAK")
        except NatsError:
            self._say(first, b"-NAK")
        for one in held[1:]:
            self._say(one, b"-NAK")

    def _has_room(self) -> bool:
        return len(self._held) + self._batch <= self._most

    async def is_at_end(self) -> bool:
        """Whether everything in the stream was delivered, and acknowledged by all members."""
        info = await self._jetstream.consumer_info(self._feed.names.stream, self._name)
        return info.get("num_pending") == 0 and info.get("num_ack_pending") == 0

    def _later(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = self._reactor.callLater(self._ack_wait / 3, self._tick)

    def _tick(self) -> None:
        """Report progress for all events that this member has."""
        if self._timeout is None or self._reactor.seconds() - self._since < self._timeout:
            for held in self._held.values():
                self._say(held, b"+WPI")
        self._later()

    def _say(self, held: _Held, what: bytes) -> None:
        try:
            self._feed.client.publish(held.reply, what)
        except PycomnetError:
            return  # after `ack_wait` the event goes to another member

    def _came(self, batch: list[NatsMessage]) -> None:
        feed = self._feed
        for message in batch:
            try:
                delivery = read_delivery(message)
                epoch, previous, item = read_event(message.payload)
            except UnreadableMessage as problem:
                feed.unreadable(message, problem)
                feed.client.publish(message.reply, b"+TERM")  # nobody else can read it either
                continue
            except NatsProtocolError as problem:
                feed.unreadable(message, problem)
                continue
            number = delivery.stream_sequence
            before = self._had.get(number)
            if before is not None:
                before.reply = message.reply
                if before.is_done:
                    self._say(before, b"+ACK")
                continue
            if not self._held:
                self._since = self._reactor.seconds()
            held = self._had[number] = _Held(message.reply)
            if delivery.deliveries > 1:
                item.extend([delivery.deliveries] if len(item) > 5 else [[], delivery.deliveries])
            self._held[epoch, item[0]] = held
            while len(self._had) > MOST_HAD:
                self._had.popitem(last=False)
            is_recent = number > self._first
            feed.put(epoch, item, len(message.payload), previous, True, is_recent)
        feed.give()

    def acknowledge(self, epoch: str, number: int) -> defer.Deferred[None]:
        """Acknowledge an event: fires when JetStream has confirmed it."""
        held = self._held.pop((epoch, number), None)
        if held is None:
            return defer.succeed(None)
        held.is_done = True
        self._since = self._reactor.seconds()
        self.check()
        noted = self._feed.client.request(held.reply, b"+ACK")
        return noted.addCallback(lambda _: None)


def _delivered(info: dict[str, Any]) -> int | None:
    """How many messages a consumer has delivered."""
    found = info.get("delivered")
    number = found.get("consumer_seq") if isinstance(found, dict) else None
    return number if type(number) is int else None
