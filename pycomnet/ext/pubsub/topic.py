"""Numbers and keeps a publisher's events, and passes them to its subscriptions."""

from __future__ import annotations

import secrets
import time
from collections import Counter, deque
from collections.abc import Callable
from operator import attrgetter
from typing import Any

from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from pycomnet.deferred import done
from pycomnet.errors import Overloaded, StoreFailed
from pycomnet.ext.pubsub.backpressure import BackPressure
from pycomnet.ext.pubsub.errors import PublisherGone
from pycomnet.ext.pubsub.events import (
    OVERHEAD,
    EncodedEvent,
    check_key,
    encode_event,
    encode_payload,
    restarted,
)
from pycomnet.ext.pubsub.groups import GroupMember, SubscriberGroup
from pycomnet.ext.pubsub.history import BUDGET, History, Retained
from pycomnet.ext.pubsub.limits import TopicSettings
from pycomnet.ext.pubsub.recipients import EventRun, Recipients
from pycomnet.ext.pubsub.statistics import TopicStatistics
from pycomnet.ext.pubsub.stores import EventStore
from pycomnet.ext.pubsub.subjects import Patterns, check_subject
from pycomnet.ext.pubsub.subscriberqueue import ALWAYS, WaitingBytes
from pycomnet.ext.pubsub.subscriptions import BATCH, EventSink, Subscription
from pycomnet.ext.pubsub.topicgroups import TopicGroups
from pycomnet.far.live import Live
from pycomnet.text.logs import Logger

log = Logger()

#: The share of the limit to which waiting bytes are reduced when they exceed it.
RELIEF = 7 / 8

Recipient = Subscription | SubscriberGroup


class Topic(Live):
    """The object through which a publisher publishes to its subscribers.

    :param interface: the publisher's interface.
    :param reactor: for the time and for later turns.
    :param store: keeps the history; None for memory alone.
    :ivar epoch: the name of this sequence of events.
    """

    def __init__(
        self,
        interface: str,
        settings: TopicSettings,
        reactor: IReactorTime,
        store: EventStore | None = None,
    ) -> None:
        limits = settings.limits
        self.interface = interface
        self.settings = settings
        self.epoch = secrets.token_hex(8)
        self.history = History(settings.history, limits.history)
        self.retained = Retained(limits.keys, limits.retained)
        self.waiting = WaitingBytes(limits.waiting)
        self.sinks: dict[int, EventSink] = {}
        self.groups = TopicGroups(self, reactor)
        self.store = store
        #: the number of the last event that was offered to all matching subscriptions
        self.offered = 0
        #: whether it has ended, and with which error, if any
        self.over = False
        self.problem: BaseException | None = None
        #: called when the first subscriber has come (True) and the last has gone (False)
        self.watched: Any = None
        self._reactor = reactor
        #: what has to be added to the reactor's time to get an event's time
        self._offset = time.time() - reactor.seconds()
        self._time = 0.0
        self._longest = limits.event
        self._retains = settings.retain
        self._keeps = bool(settings.history) or settings.retain or store is not None
        self._last_id = 0
        self._next = 1
        self.recipients: Recipients[Recipient] = Recipients()
        #: how many subscriptions there are, by weight: of all clients, and of each connection
        self._weight = 0
        self._per_connection: Counter[Any] = Counter()
        self._wanting = self.recipients.wanting
        #: events that their recipients have not got yet; and the recipients of the last event
        self._run: EventRun[Recipient] | None = None
        self._last_recipients: tuple[Recipient, ...] | None = None
        #: sinks that have something to send
        self._dirty: list[Recipient | EventSink] = []
        self._turn: Any = None
        self.pressure = BackPressure(self._publish, limits.blocked, settings.block, reactor)
        #: subscriptions that wait for a turn in which they may examine the history
        self._beginning: deque[Callable[[], None]] = deque()
        self.statistics = TopicStatistics(self, reactor)

    def __repr__(self) -> str:
        return f"<Topic {self.interface}, {self.history.last} events, {len(self.sinks)} sinks>"

    def now(self) -> float:
        """The time of an event: seconds since 1970. It never goes back."""
        return self._reactor.seconds() + self._offset

    @property
    def first(self) -> int:
        """The number of the oldest event that is kept; one more than the last, if none is."""
        return self.history.first if self.store is None else self.store.first

    def restore(self, recent: list[EncodedEvent], retained: list[EncodedEvent]) -> None:
        """Continue with the events of a store.

        :param recent: its last events, and
        :param retained: the last of each subject and key.
        """
        assert self.store is not None
        self.epoch = self.store.epoch
        for event in recent:
            self.history.append(event)
        for event in retained if self.settings.retain else ():
            self.retained.put(event)
        self.history.last = self.offered = self.store.last
        self._next = self.store.last + 1
        self.statistics.begin(self.store.last)
        if recent:  # time goes on where it was, if the clock was set back
            behind = recent[-1].time - self.now()
            self._offset += max(0.0, behind)

    # -- publishing ------------------------------------------------------------------------------

    def publish(
        self, value: Any, key: str | None = None, subject: str = ""
    ) -> defer.Deferred[None]:
        """Publish an event; in the reactor's thread.

        :param value: a value that can be sent; or a tuple of that and blocks of binary data
            (:class:`~pycomnet.Binary`). It may be changed once it is published.
        :param key: the key: ``retain`` and the policy ``latest`` keep the last event of each
            subject and key.
        :param subject: its subject under the publisher's interface.
        :returns: fires when it is published: at once, unless a subscriber blocks, or a store has to
            keep it first. Fails with :class:`~pycomnet.errors.ValueNotSendable`,
            ``InvalidSubject``, ``InvalidArguments`` (it is too long), ``Overloaded`` (too many
            events wait for a subscriber that blocks) or ``PublisherGone``. Cancelling it does not
            withdraw the event.
        """
        try:
            run = self._run
            if (
                run is None
                or key is not None
                or self._keeps
                or run.recipients is not self._wanting.get(subject)
            ):
                return self._check_and_publish(value, key, subject)
            # Most events come here: the checks were made for the event before. The row "128 B, one
            # to one" needs it.
            number, time = self._next, self._time
            payload = encode_payload(number, subject, None, time, value, self._longest)
            if run is not self._run or number != self._next:
                return self._check_and_publish(value, key, subject)
            self._next, self.history.last = number + 1, number
            size = run.size + len(payload) + OVERHEAD
            if size > run.room:
                self._commit(EncodedEvent(number, subject, None, time, payload))
            else:
                run.rows.append((number, subject, None, time, payload))
                run.size = size
            return done()
        except Exception:
            return defer.fail()

    def _check_and_publish(self, value: Any, key: str | None, subject: str) -> defer.Deferred[None]:
        if subject not in self._wanting:  # a subject in the cache was checked before
            check_subject(subject)
        check_key(key)
        if self.over:
            raise PublisherGone(f"{self.interface} has ended: nothing can be published")
        if self.pressure:
            return self.pressure.hold(value, key, subject)
        return self._publish(value, key, subject)

    def _publish(self, value: Any, key: str | None, subject: str) -> defer.Deferred[None]:
        number = self._next
        store = self.store
        if store is not None and store.fullness >= 1:
            raise Overloaded(f"{self.interface}: too many events wait to be stored")
        # All events of one turn have the same time.
        time = self.now() if self._turn is None else self._time
        event = encode_event(number, subject, key, time, value, self._longest)
        if number != self._next:
            # A block that it has read, or a finalizer, has published another meanwhile.
            return self._publish(value, key, subject)
        self._next = number + 1
        if store is None:
            self._commit(event)
            return done()
        # The caller may cancel its Deferred, for example when a client is disconnected. The
        # store's Deferred has to fire nevertheless.
        published: defer.Deferred[None] = defer.Deferred(lambda _: None)
        storing = store.append(event)
        storing.addCallbacks(self._stored, self._not_stored, (published, event), {}, (published,))
        return published

    def _stored(self, _: Any, published: defer.Deferred[None], event: EncodedEvent) -> None:
        if not self.over:
            self._commit(event)
        if not published.called:
            published.callback(None)

    def _not_stored(self, failure: Failure, published: defer.Deferred[None]) -> None:
        if not self.over:
            text = "{interface}: an event can't be stored, and the publisher ends"
            if failure.check(StoreFailed) is None:
                log.failure(text, failure, interface=self.interface)
            else:  # the message is enough, without a traceback
                log.error(text + ": {why}", interface=self.interface, why=str(failure.value))
            self.end(failure.value)
        if not published.called:
            published.errback(failure)

    def _commit(self, event: EncodedEvent) -> None:
        """Keep a published event, and pass it to the matching recipients."""
        if self._keeps:
            self.history.append(event)
            if self._retains:
                self.retained.put(event)
        else:
            self.history.last = event.sequence
        recipients = self._wanting.get(event.subject)
        if recipients is None:
            recipients = self.recipients.find(event.subject)
        run = self._run
        if run is not None and (
            run.recipients is not recipients or run.size + event.size > run.room
        ):
            self._settle(more=event.size if run.recipients is recipients else 0)
            run = None
        if run is None and recipients is self._last_recipients:
            run = self._open_run(recipients)
        self._last_recipients = recipients
        if run is not None:
            run.rows.append((event.sequence, event.subject, event.key, event.time, event.payload))
            run.size += event.size
            if run.size > run.room:
                self._settle()
            return
        for recipient in recipients:
            recipient.offer(event)
            self._mark_dirty(recipient)
        self._offered(event.sequence)
        if self._turn is None:
            self._cork()
            self._flush()

    def _open_run(self, recipients: tuple[Recipient, ...]) -> EventRun[Recipient] | None:
        """Begin a run, if events may wait for others of this turn."""
        if self._turn is None or self.store is not None or self.pressure:
            return None
        # Recipients that still read the history find these events in it.
        members = tuple(recipient for recipient in recipients if recipient.intake.cursor is None)
        room = min([recipient.room() for recipient in members], default=BATCH)
        if room <= 0:
            return None
        self._run = EventRun(recipients, members, room)
        return self._run

    def _settle(self, sends: bool = False, more: int = 0) -> None:
        """Give the events of the open run to its recipients; see :meth:`Recipient.offer_run`."""
        run, self._run = self._run, None
        if run is None:
            return
        for recipient in run.members:
            try:
                recipient.offer_run(run, sends, more)
            except Exception:  # a defect; the other recipients still get their events
                log.failure("{interface}: can't send to {to}", interface=self, to=recipient)
            self._mark_dirty(recipient)
        self._offered(run.rows[-1][0])

    def end_run(self) -> None:
        """Close the open run: the recipients change, or one has now read the whole history."""
        self._settle()
        self._last_recipients = None

    def _mark_dirty(self, recipient: Recipient | EventSink) -> None:
        if not recipient.dirty:
            recipient.dirty = True
            self._dirty.append(recipient)

    def _offered(self, number: int) -> None:
        self.offered = number
        if self.waiting.size > self.waiting.most:
            self.relieve()

    # -- sending, together with what else is published in this turn ------------------------------

    def flush_later(self, recipient: Recipient | EventSink) -> None:
        """Make a sink send its items in the next turn."""
        self._mark_dirty(recipient)
        if self._turn is None:
            self._cork()

    def _cork(self) -> None:
        """Send further events together, in the next turn."""
        self._time = self.now()
        self._turn = self._reactor.callLater(0, self._next_turn)

    def when_affordable(self, begin: Callable[[], None]) -> bool:
        """Whether a subscription may examine the history now.

        :param begin: else it is called in a later turn.
        """
        if self.history.budget > 0:
            return True
        self._beginning.append(begin)
        if self._turn is None:
            self._cork()
        return False

    def _next_turn(self) -> None:
        self._turn = None
        self.statistics.mark()
        history = self.history
        # If a subscription has examined more than the budget, the others go first.
        history.budget = min(BUDGET, history.budget + BUDGET)
        beginning, self._beginning = self._beginning, deque()
        for begin in beginning:
            begin()  # it is appended again if the budget of this turn is used up
        if self._run is not None or self._dirty or self._beginning or history.budget <= 0:
            if self._turn is None:  # what has begun may have asked for another turn
                self._cork()
            self._flush()

    def _flush(self) -> None:
        self._settle(sends=True)
        dirty, self._dirty = self._dirty, []
        for recipient in dirty:
            recipient.dirty = False
            try:
                recipient.flush()
            except Exception:  # a defect: the others' events go on
                log.failure("{interface}: can't send to {to}", interface=self, to=recipient)

    def relieve(self) -> None:
        """Too many bytes wait: the subscriptions with the most lose some, and no others."""
        self._settle()
        waiting = self.waiting
        while waiting.size > waiting.most * RELIEF:
            most = max(self.recipients, key=attrgetter("held"), default=None)
            if most is None or most.held <= ALWAYS or not most.yield_memory():
                return

    @property
    def has_room(self) -> bool:
        """Whether less than half of the events wait that may wait. The other half is reserved for
        the publisher's own events: clients may not use it."""
        return self.pressure.has_room and (self.store is None or self.store.fullness < 0.5)

    def tell_restarted(self, problem: str) -> None:
        """Notify all subscribers that the publisher's generator runs again."""
        self._settle()
        payload = restarted(problem[:1000])
        for recipient in self.recipients:
            recipient.tell(payload)
            self.flush_later(recipient)

    def end(self, problem: BaseException | None = None) -> None:
        """End the topic, and each stream once its events are sent.

        :param problem: the error that subscribers get; None for the normal end.
        """
        if self.over:
            return
        self._settle()
        self.over = True
        self.problem = problem
        self.pressure.end(self.interface)
        for sink in list(self.sinks.values()):
            sink.finish(problem)

    def close(self) -> None:
        """End the topic, and cancel its timers: the server is stopping."""
        self.end(PublisherGone(f"{self.interface} has ended"))
        turn, self._turn = self._turn, None
        self.pressure.close()
        self.groups.close()
        if turn is not None and turn.active():
            turn.cancel()

    def closed(self) -> defer.Deferred[None]:
        """Fires when everything is closed, after :meth:`close`."""
        return done() if self.store is None else self.store.close()

    # -- subscriptions ---------------------------------------------------------------------------

    def check_room(self, connection: Any, weight: int = 1) -> None:
        """Raise Overloaded if a connection may have no further subscription.

        :param weight: how many subscriptions it counts as, by its patterns.
        """
        limits = self.settings.limits
        if self._weight + weight > limits.subscriptions:
            raise Overloaded(f"there are {len(self.sinks)} subscriptions, and may be no more")
        if self._per_connection[connection] + weight > limits.per_connection:
            raise Overloaded(
                f"this connection has {limits.per_connection} subscriptions, and may have no more"
            )

    def _count(self, connection: Any, weight: int) -> None:
        self._weight += weight
        self._per_connection[connection] += weight
        if self._per_connection[connection] <= 0:
            del self._per_connection[connection]

    def join(self, sink: EventSink) -> None:
        """A subscription's stream has begun: it is in effect from here on."""
        connection = sink.connection
        self.check_room(connection, sink.weight)
        self._last_id += 1
        sink.id = self._last_id
        self.sinks[sink.id] = sink
        self._count(connection, sink.weight)
        if isinstance(sink, Subscription):
            self.add(sink)
        elif isinstance(sink, GroupMember):
            sink.group.joined(sink)
        if self.watched is not None and len(self.sinks) == 1:
            self.watched(True)

    def leave(self, sink: EventSink) -> None:
        """A subscription's stream is over."""
        if self.sinks.pop(sink.id, None) is None:
            return
        self.statistics.delivered += sink.sent
        self._count(sink.connection, -sink.weight)
        if isinstance(sink, Subscription):
            self.remove(sink)
            self.pressure.unblocked(sink)
        elif isinstance(sink, GroupMember):
            sink.group.left(sink)
            self.groups.left(sink.group)
        if self.watched is not None and not self.sinks:
            self.watched(False)

    def add(self, recipient: Recipient) -> None:
        """Pass events to a recipient from now on."""
        self.end_run()
        self.recipients.add(recipient, recipient.intake.patterns.texts)

    def remove(self, recipient: Recipient) -> None:
        """Pass no more events to a recipient, and forget what waits for it."""
        self.end_run()
        self.recipients.remove(recipient, recipient.intake.patterns.texts)
        self.statistics.dropped += recipient.intake.dropped
        recipient.intake.clear()

    def change(self, recipient: Subscription, patterns: Patterns) -> None:
        """A subscription's patterns have changed.

        :raises Overloaded: with its new weight there would be too many subscriptions.
        """
        more = patterns.weight - recipient.weight
        if more > 0:
            self.check_room(recipient.connection, more)
        self._count(recipient.connection, more)
        recipient.weight = patterns.weight
        self.end_run()
        self.recipients.remove(recipient, recipient.intake.patterns.texts)
        recipient.intake.patterns = patterns  # the events that are queued stay
        self.recipients.add(recipient, patterns.texts)
