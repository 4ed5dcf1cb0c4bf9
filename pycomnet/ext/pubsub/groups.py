"""Subscriber groups: each event goes to one member, and to another if that member is lost."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any

from twisted.internet import defer

from pycomnet.deferred import OneShot, deferred, done
from pycomnet.errors import InvalidArguments
from pycomnet.ext.pubsub.events import EncodedEvent, again
from pycomnet.ext.pubsub.recipients import EventRun
from pycomnet.ext.pubsub.replay import replay_from_store
from pycomnet.ext.pubsub.subscriberqueue import Item, Notice, SubscriberQueue
from pycomnet.ext.pubsub.subscriptions import BATCH, EventSink, last_of

if TYPE_CHECKING:
    from pycomnet.ext.pubsub.topic import Topic

#: Seconds for which a group without members is kept, with its waiting events. A durable group can
#: continue from its store at any time.
LINGER = 60.0
#: How many numbers beyond the first unacknowledged event a group hands out.
SPAN = 10_000


class GroupMember(EventSink):
    """A subscriber that shares the events of a group.

    :param prefetch: how many unacknowledged events it may have; and
    :param bound: ... how many bytes of them. It may always have one event.
    :param ack_timeout: seconds to acknowledge the event that it has had for longest, from the
        moment at which the event became that; None for no limit. After that time all its events go
        to other members.
    :ivar unacknowledged: number -> event: the events that it has not acknowledged, in order.
    :ivar is_late: whether that time has passed. Then it gets no more events until it has
        acknowledged one.
    :ivar notice: a notice for all members that this member has not got yet.
    """

    __slots__ = (
        "_ack_timeout",
        "_deadline",
        "_since",
        "bound",
        "group",
        "behind",
        "is_late",
        "notice",
        "prefetch",
        "size",
        "unacknowledged",
    )

    def __init__(
        self,
        topic: Topic,
        group: SubscriberGroup,
        prefetch: int,
        bound: int,
        ack_timeout: float | None = None,
    ) -> None:
        super().__init__(topic)
        self.group = group
        self.prefetch = prefetch
        self.bound = bound
        self.size = 0
        self.unacknowledged: dict[int, EncodedEvent] = {}
        self.is_late = False
        #: events that were given to other members when this one was late, and still wait at the
        #: subscriber
        self.behind: set[int] = set()
        self.notice: Notice | None = None
        self._ack_timeout = ack_timeout
        #: the time at which the first of the unacknowledged events became the first
        self._since = 0.0
        self._deadline: Any = None

    def flush(self) -> None:
        self.group.pump()

    def ended(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        super().ended()

    def has_room(self) -> bool:
        """Whether the member may have another event."""
        return (
            not self.is_late
            and len(self.unacknowledged) + len(self.behind) < self.prefetch
            and (self.size < self.bound or not self.unacknowledged)
        )

    def take(self, event: EncodedEvent) -> None:
        """Note that the member was sent an event."""
        if self._ack_timeout is not None and not self.unacknowledged:
            self._since = self.topic.now()
            if self._deadline is None:
                self._check_in(self._ack_timeout)
        self.behind.discard(event.sequence)
        self.unacknowledged[event.sequence] = event
        self.size += event.size
        self.topic.waiting.size += event.size

    def give(self, number: int) -> EncodedEvent | None:
        """Remove an event from the member; returns None if it did not have it."""
        if self._ack_timeout is not None and number == next(iter(self.unacknowledged), None):
            self._since = self.topic.now()
        event = self.unacknowledged.pop(number, None)
        if event is not None:
            self.size -= event.size
            self.topic.waiting.size -= event.size
        return event

    def _check_in(self, seconds: float) -> None:
        # One timer for all events, which checks the oldest: not one timer for each event.
        self._deadline = self.topic.groups.reactor.callLater(seconds, self._check)

    def _check(self) -> None:
        self._deadline = None
        limit = self._ack_timeout
        if limit is None or not self.unacknowledged:
            return  # the next event sets the timer again
        left = self._since + limit - self.topic.now()
        if left > 0:
            self._check_in(left)
        else:
            self.is_late = True
            self.behind.update(self.unacknowledged)
            self.group.hand_on(self)

    def catch_up(self, found: Collection[int], sequences: Collection[int]) -> None:
        """Note that the member has acknowledged events, and so is alive.

        :param found: the acknowledged events that the member had.
        :param sequences: all events that it acknowledges.
        """
        if found:
            self.is_late = False
        if not self.behind.isdisjoint(sequences):
            self.is_late = False
            self.behind.difference_update(sequences)
            self._since = self.topic.now()

    def end_if_done(self) -> None:
        """End the stream if the topic has ended; all events are acknowledged."""
        if self._is_ending and not self.waiting:
            self.close(self._ending)

    def lag(self) -> int:
        return len(self.unacknowledged)


class SubscriberGroup:
    """The members of a group, and what waits for them.

    :param owner: the name of the user that it belongs to; empty for all users without a login.
    :param durable: whether its position is in the topic's store.
    :ivar failed: whether the position could not be read from the store.
    :ivar floor: all events up to this number are acknowledged, or do not match.
    """

    #: retained events are not part of the history
    wants_retained = False

    def __init__(
        self, owner: str, name: str, topic: Topic, intake: SubscriberQueue, durable: bool
    ) -> None:
        self.owner = owner
        self.name = name
        self.failed = False
        #: its number in the store
        self.id = 0
        self.topic = topic
        self.intake = intake
        self.durable = durable
        self.members: dict[GroupMember, None] = {}
        self.floor = 0
        self.dirty = False
        self.timer: Any = None
        #: numbers that were handed out and are not acknowledged, in order
        self._outstanding: dict[int, None] = {}
        #: number -> how often it was handed out before; only for events that were taken back
        self._before: dict[int, int] = {}
        #: whether a member has a notice that it was not sent
        self._has_notices = False
        #: those above the floor that are acknowledged
        self._acknowledged: set[int] = set()
        #: the number of the last event that was taken
        self._position = 0
        self._pumping = False
        self._ready: OneShot[None] = OneShot()

    @property
    def identity(self) -> tuple[str, str, bool]:
        """The key that identifies the group."""
        return self.owner, self.name, self.durable

    def when_ready(self) -> defer.Deferred[None]:
        """Fires when the group's first position is known."""
        return self._ready.when_fired()

    def start(self) -> None:
        """Begin with the events that already wait, and those that are published from now on."""
        cursor = self.intake.cursor
        self.floor = self._position = self.topic.history.last if cursor is None else cursor
        self._ready.fire(None)

    @deferred
    async def load(self, place: Callable[[SubscriberQueue], Any]) -> bool:
        """Begin a durable group at its position in the store; a new one where its first member
        begins.

        :param place: sets the intake to that position.
        :returns: fires with whether the store had the group already.
        """
        store, intake = self.topic.store, self.intake
        assert store is not None
        intake.cursor = self.topic.history.last
        intake.reading = True
        try:
            found = await store.group(self.owner, self.name)
            intake.reading = False
            if found is not None:
                if found.patterns != intake.patterns.texts:
                    have = ", ".join(found.patterns)
                    raise InvalidArguments(
                        f"group {self.name!r} is for other subjects: {have}; forget it first, or "
                        "use another name"
                    )
                self.id = found.id
                self.begin_at(found.floor, found.above)
                self._ready.fire(None)
                return True
            intake.cursor = None
            placed = place(intake)
            if isinstance(placed, defer.Deferred):
                await placed
            intake.forget_preloaded()  # retained events have no position in the history
            if intake.cursor is None:
                intake.cursor = self.topic.history.last
            self.begin_at(intake.cursor)
            intake.reading = True
            most = self.topic.settings.limits.groups_per_user
            texts = intake.patterns.texts
            made = await store.add_group(self.owner, self.name, texts, self.floor, most)
            self.id = made.id
        except Exception as problem:
            self.failed = True
            self._ready.fail(problem)
            raise
        finally:
            intake.reading = False
        self._ready.fire(None)
        return False

    def begin_at(self, floor: int, acknowledged: Iterable[int] = ()) -> None:
        """Continue after a number, except for some events that are acknowledged."""
        self.floor = self._position = floor
        self._acknowledged = set(acknowledged)
        self.intake.cursor = floor
        self.intake.skip = set(self._acknowledged)

    # -- events ----------------------------------------------------------------------------------

    def offer(self, event: EncodedEvent) -> None:
        """Queue a published event that matches the group's subjects."""
        if self.intake.size > BATCH:
            self.pump()
        if not self.intake.offer(event):
            # Only in a durable group. The events that are dropped here are read from the store.
            self._rewind()

    def room(self) -> int:
        return BATCH

    def offer_run(self, run: EventRun[Any], sends: bool, more: int) -> None:
        for event in run.events():
            self.offer(event)

    def pump(self) -> None:
        """Hand out waiting events to the members that have room."""
        if self._pumping or not self._ready.fired:
            return
        self._pumping = True
        try:
            while self._hand_out():
                pass
        finally:
            self._pumping = False

    def _hand_out(self) -> bool:
        """Hand out about a batch to each member that has room. Returns whether to go on."""
        intake = self.intake
        given: dict[GroupMember, list[Item]] = {}
        self._tell_members(given)
        free = [
            (len(member.unacknowledged), place, member)
            for place, member in enumerate(self.members)
            if not member.waiting and member.has_room()
        ]
        heapq.heapify(free)
        sizes: dict[GroupMember, int] = {}
        while free and (intake.backlog or not self._is_full()):
            is_reading = intake.cursor is not None
            items = intake.take(1)
            if is_reading and intake.cursor is None:
                self.topic.end_run()
            if not items:
                break
            count, place, member = heapq.heappop(free)
            items_of = given.setdefault(member, [])
            for item in items:
                if type(item) is EncodedEvent:
                    count += 1
                    member.take(item)
                    before = self._before.get(item.sequence) if self._before else None
                    if before is not None:
                        items_of.append(Notice(again(item.sequence, before + 1)))
                    self._outstanding[item.sequence] = None
                    self._position = max(self._position, item.sequence)
                    sizes[member] = sizes.get(member, 0) + item.size
                items_of.append(item)
            self._tell_members(given)
            if member.has_room() and sizes.get(member, 0) < BATCH:
                heapq.heappush(free, (count, place, member))
        for member, items in given.items():
            member.send(items, last_of(items, self.topic, intake))
        if given:
            return True
        if not free or intake.reading:
            return False
        if intake.lacking:
            replay_from_store(self.topic, intake, self)
        elif intake.has_more():
            if not self._is_full():
                self.topic.flush_later(self)
        elif not self._outstanding:
            # Not `history.last`: the topic may not have queued events of this turn here yet.
            self._position = max(self._position, self.topic.offered)
            for member in list(self.members):
                member.end_if_done()
        return False

    def _is_full(self) -> bool:
        return len(self._outstanding) + len(self._acknowledged) >= SPAN

    flush = pump

    def tell(self, payload: bytes) -> None:
        """Queue a notice for each member, at its place among the events."""
        self.intake.tell(payload)

    def _tell_members(self, given: dict[GroupMember, list[Item]]) -> None:
        """Send all members the notice, if it comes next."""
        told = self.intake.take_notice() if self.members else None
        if told is None and not self._has_notices:
            return  # the usual case, for each event
        self._has_notices = False
        for member in self.members:
            if told is not None:
                member.notice = told  # of several in a row, the last is enough
            if member.notice is None:
                continue
            if member.waiting:
                self._has_notices = True
            else:
                given.setdefault(member, []).append(member.notice)
                member.notice = None

    @property
    def held(self) -> int:
        """Bytes that wait for its members."""
        return self.intake.held

    def yield_memory(self) -> bool:
        """Let go of waiting events: too many bytes wait for all subscriptions together, and most of
        them for this group. Returns whether fewer wait now."""
        intake = self.intake
        if not (self.durable and self._ready.fired):
            return intake.shrink()
        before = intake.held
        self._rewind()  # the store has it
        return intake.held < before

    def _rewind(self) -> None:
        self.intake.rewind(self._position)
        self.intake.skip = set(self._acknowledged)

    # -- acknowledging ---------------------------------------------------------------------------

    def acknowledge(self, member: GroupMember, sequences: Collection[int]) -> defer.Deferred[Any]:
        """A member acknowledges events.

        :returns: fires with how many of these events the member had, once that is stored.
        """
        found = [one for one in sequences if member.give(one) is not None]
        member.catch_up(found, sequences)
        for one in found:
            self._outstanding.pop(one, None)
            if self._before:
                self._before.pop(one, None)
            self._acknowledged.add(one)
        self._raise_floor()
        if self.durable and found:
            above = [one for one in found if one > self.floor]
            store = self.topic.store
            assert store is not None
            stored = store.acknowledge(self.id, self.floor, above)
        else:
            stored = done()
        self.pump()
        return stored.addCallback(lambda _: len(found))

    def _raise_floor(self) -> None:
        first = next(iter(self._outstanding), None)
        floor = self._position if first is None else min(first - 1, self._position)
        if floor <= self.floor:
            return
        if floor - self.floor > len(self._acknowledged):
            self._acknowledged = {one for one in self._acknowledged if one > floor}
        else:
            self._acknowledged.difference_update(range(self.floor + 1, floor + 1))
        self.floor = floor

    # -- members ---------------------------------------------------------------------------------

    def joined(self, member: GroupMember) -> None:
        """A member's stream has begun."""
        self.members[member] = None
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def close(self, problem: BaseException | None) -> None:
        """End the streams of all members."""
        for member in list(self.members):
            member.close(problem)

    def left(self, member: GroupMember) -> None:
        """A member's stream is over: its unacknowledged events go to others."""
        self.members.pop(member, None)
        self.hand_on(member)

    def hand_on(self, member: GroupMember) -> None:
        """Redeliver a member's unacknowledged events to other members."""
        back = []
        for number in sorted(member.unacknowledged):
            event = member.give(number)
            if event is not None:
                back.append(event)
                self._before[number] = self._before.get(number, 0) + 1
        self.intake.put_back(back)
        if self.members:
            self.topic.flush_later(self)
