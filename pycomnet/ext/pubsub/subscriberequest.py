"""Reads the arguments of ``subscribe``, and makes the subscription or the member of a group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet import defer
from twisted.python.failure import Failure

from pycomnet.errors import InvalidArguments
from pycomnet.ext.pubsub.groups import GroupMember, SubscriberGroup
from pycomnet.ext.pubsub.publishermessages import is_number
from pycomnet.ext.pubsub.subjects import patterns_of
from pycomnet.ext.pubsub.subscriberqueue import BOUND, LEAST_BOUND, Policy, SubscriberQueue
from pycomnet.ext.pubsub.subscriptions import EventSink, Subscription
from pycomnet.ranges import NumberRefused, real, whole

if TYPE_CHECKING:
    from pycomnet.auth.principal import Principal
    from pycomnet.ext.pubsub.topic import Topic

#: The arguments of ``subscribe``.
ARGUMENTS = {
    "subjects": "list?",
    "policy": "str?",
    "bound": "int?",
    "after": "list?",
    "last": "int?",
    "since": "float?",
    "retained": "bool?",
    "group": "str?",
    "prefetch": "int?",
    "ack_timeout": "float?",
    "durable": "bool?",
}
#: The most positions that a subscriber may send.
MAX_AFTER = 32
#: The most characters of a group's name, and the default of ``prefetch``.
MAX_GROUP, PREFETCH = 255, 100
#: The policy of a group when its bound is reached.
GROUP_POLICIES = (Policy.DROP_OLDEST, Policy.DROP_NEWEST)


class SubscribeRequest:
    """The subscription that a subscriber requests.

    :param args: the arguments of ``subscribe``.
    :param user: the subscriber's user; None without a login.
    :raises InvalidArguments: an argument is not valid.
    :raises InvalidSubject: a pattern is not valid.
    """

    def __init__(self, args: Any, topic: Topic, user: Principal | None) -> None:
        given = {key: value for key, value in (args or {}).items() if value is not None}
        self.topic = topic
        self.group = given.get("group")
        self.owner = owner_name(user)
        self.durable = given.get("durable", False)
        try:
            self._read(given)
        except NumberRefused as problem:
            raise InvalidArguments(str(problem)) from None

    def _read(self, given: dict[str, Any]) -> None:
        topic, limits = self.topic, self.topic.settings.limits
        self.patterns = patterns_of(given.get("subjects"))
        self.policy = self._policy(given.get("policy", Policy.DROP_OLDEST.value))
        self.bound = whole("bound", given.get("bound", BOUND), LEAST_BOUND, limits.bound)
        self.after = _after(given.get("after"))
        self.last = whole("last", given["last"]) if "last" in given else None
        self.since = real("since", given["since"]) if "since" in given else None
        self.retained = given.get("retained", self.after is None and "group" not in given)
        self.prefetch = whole("prefetch", given.get("prefetch", PREFETCH), 1, limits.prefetch)
        self.ack_timeout = self._ack_timeout(given.get("ack_timeout"))
        if self.group is None:
            if "ack_timeout" in given:
                raise InvalidArguments("ack_timeout: only members of a group acknowledge")
            if self.durable:
                raise InvalidArguments("durable: only a group has a position that is kept")
            return
        if not 0 < len(self.group) <= MAX_GROUP or not self.group.isprintable():
            raise InvalidArguments(f"group: expected a name of at most {MAX_GROUP} characters")
        if self.durable and topic.store is None:
            raise InvalidArguments(
                f"durable: {topic.interface} has no store, and keeps no group's position"
            )
        if self.policy not in GROUP_POLICIES:
            names = " or ".join(one.value for one in GROUP_POLICIES)
            raise InvalidArguments(f"policy: a group's is {names}")

    def _policy(self, name: str) -> Policy:
        allowed = self.topic.settings.policies
        if name not in allowed:
            raise InvalidArguments(
                f"policy: {self.topic.interface} allows {', '.join(allowed)}, not {name!r}"
            )
        return Policy(name)

    def _ack_timeout(self, asked: float | None) -> float | None:
        """The publisher's timeout, or the member's if that is less."""
        most = self.topic.settings.ack_timeout
        if asked is None:
            return most
        asked = real("ack_timeout", asked, above=True)
        return asked if most is None else min(asked, most)

    def open(self) -> EventSink:
        """Make the sink that sends the events."""
        topic = self.topic
        if self.group is not None:
            return MemberStart(topic, self._group(), self)
        intake = SubscriberQueue(
            self.patterns, self.policy, self.bound, topic.history, topic.waiting
        )
        return SubscriptionStart(topic, intake, self)

    def _group(self) -> SubscriberGroup:
        topic = self.topic
        assert self.group is not None
        found = topic.groups.get((self.owner, self.group, self.durable))
        if found is not None:
            if found.intake.patterns.texts != self.patterns.texts:
                have = ", ".join(found.intake.patterns.texts)
                raise InvalidArguments(f"group {self.group!r} is for other subjects: {have}")
            return found
        policy = Policy.DISCONNECT if self.durable else self.policy
        intake = SubscriberQueue(self.patterns, policy, self.bound, topic.history, topic.waiting)
        return SubscriberGroup(self.owner, self.group, topic, intake, self.durable)

    # -- where to begin --------------------------------------------------------------------------

    def place(self, intake: SubscriberQueue) -> bool | defer.Deferred[bool]:
        """Set a queue to the first event that the subscriber wants.

        :returns: whether the subscriber continues where it was: it knew the publisher's epoch. A
            Deferred of that, if the store has to find the event.
        """
        topic = self.topic
        known = None if self.after is None else self.after.get(topic.epoch)
        if known is not None and known <= topic.history.last:
            _begin(intake, topic, known)
            return True
        if self.last is not None:
            _begin(intake, topic, max(topic.first - 1, topic.history.last - self.last))
        elif self.since is not None:
            time = topic.now() - self.since
            if topic.store is not None:
                intake.cursor, intake.reading = 0, True
                finding = topic.store.before(time)
                return finding.addCallback(lambda number: _found(intake, topic, number))
            _begin(intake, topic, topic.history.before(time))
        elif self.after is not None and not self.retained:
            _begin(intake, topic, topic.first - 1)
            # The subscriber also gets retained events that the history has forgotten.
            intake.preload(topic.retained.between(intake.patterns, 0, topic.first))
        elif self.retained:
            intake.preload(topic.retained.matching(intake.patterns))
        if topic.waiting.size > topic.waiting.most:
            topic.relieve()
        return False


def owner_name(user: Principal | None) -> str:
    """The name of the owner of a user's groups. Only subscriptions of that user join them."""
    return "" if user is None else user.name


def _begin(intake: SubscriberQueue, topic: Topic, cursor: int) -> None:
    """Set a queue to read the history after a number, if it has later events."""
    intake.cursor = cursor if cursor < topic.history.last else None


def _found(intake: SubscriberQueue, topic: Topic, number: int) -> bool:
    intake.reading = False
    _begin(intake, topic, number)
    return False


def _after(value: Any) -> dict[str, int] | None:
    if value is None:
        return None
    if len(value) > MAX_AFTER:
        raise InvalidArguments(f"after: {len(value)} positions; the limit is {MAX_AFTER}")
    found = {}
    for one in value:
        if not (isinstance(one, (list, tuple)) and len(one) == 2 and isinstance(one[0], str)):
            raise InvalidArguments("after: a position is an array of an epoch and a number")
        if is_number(one[1]):  # ignore what another publisher has made up
            found[one[0]] = one[1]
    return found


class _Starting:
    """The steps of a new sink before its first event."""

    def __init__(self, sink: EventSink, intake: SubscriberQueue, request: SubscribeRequest) -> None:
        self._sink = sink
        self._intake = intake
        self._request = request

    def run_when_affordable(self) -> None:
        """Do :meth:`run` now, or in a later turn if the budget of this turn is used up."""
        topic = self._request.topic
        if not topic.when_affordable(self._run_later):
            # Nothing is queued until then: the subscription is not in effect yet.
            self._intake.cursor, self._intake.reading = 0, True
            return
        topic.history.budget -= (len(topic.retained) + 1) * self._intake.patterns.cost
        self.run()

    def run(self) -> None:
        """Find the first event, send the welcome, and send events."""
        placed = self._request.place(self._intake)
        if isinstance(placed, defer.Deferred):
            placed.addCallbacks(self.ready, self.failed)
        else:
            self.ready(placed)

    def _run_later(self) -> None:
        if self._sink.call is not None:
            self._intake.cursor, self._intake.reading = None, False
            self.run_when_affordable()

    def ready(self, resumed: bool) -> None:
        """Send the welcome and the first events: the subscription is in effect."""
        sink = self._sink
        if sink.call is None:
            return  # it has gone meanwhile
        topic = sink.topic
        topic.end_run()
        cursor = self._intake.cursor
        sink.welcome(resumed, topic.history.last if cursor is None else cursor)
        if topic.over:
            sink.finish(topic.problem)
        else:
            sink.flush()

    def failed(self, failure: Failure) -> None:
        """End the stream: the store has failed."""
        self._sink.close(failure.value)


class SubscriptionStart(Subscription):
    """A subscription that begins at the position that its subscriber has requested."""

    __slots__ = ("_request",)

    def __init__(self, topic: Topic, intake: SubscriberQueue, request: SubscribeRequest) -> None:
        super().__init__(topic, intake)
        self._request: SubscribeRequest | None = request

    def begin(self, call: Any) -> None:
        request, self._request = self._request, None
        assert request is not None
        super().begin(call)
        _Starting(self, self.intake, request).run_when_affordable()


class MemberStart(GroupMember):
    """A member of a group. If it is the first one, it opens the group."""

    __slots__ = ("_request",)

    def __init__(self, topic: Topic, group: SubscriberGroup, request: SubscribeRequest) -> None:
        super().__init__(topic, group, request.prefetch, request.bound, request.ack_timeout)
        self._request: SubscribeRequest | None = request

    def begin(self, call: Any) -> None:
        request, self._request = self._request, None
        assert request is not None
        topic, group = self.topic, self.group
        topic.check_room(call.connection, self.weight)
        found = topic.groups.get(group.identity)
        if found is None:
            topic.groups.add(group)
        elif found is not group:
            self.group = found
        super().begin(call)
        starting = _Starting(self, self.group.intake, request)
        if found is not None:
            found.when_ready().addCallbacks(lambda _: starting.ready(True), starting.failed)
        elif not group.durable:
            starting.run()
            group.start()
        else:
            group.load(request.place).addCallbacks(starting.ready, starting.failed)
