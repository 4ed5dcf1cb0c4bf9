"""Publishers, subscribers and connections that do anything in any order, held against a model."""

from __future__ import annotations

from typing import Any

import attrs
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.errors import PycomnetError
from pycomnet.ext.pubsub import groups
from pycomnet.ext.pubsub.errors import SlowSubscriber
from pycomnet.ext.pubsub.limits import TopicLimits, TopicSettings
from pycomnet.ext.pubsub.subjects import Patterns
from pycomnet.ext.pubsub.subscriberequest import SubscribeRequest
from pycomnet.ext.pubsub.subscriptions import Subscription
from pycomnet.ext.pubsub.topic import Topic
from pycomnet.test.properties import examples, given, settings
from pycomnet.wire.codec import make_codec

SUBJECTS = ("a", "b", "b.c")
PATTERNS = ((">",), ("a",), ("b.>", "b"), ("*",))
KEYS = (None, None, "k", "l")
SIZES = (0, 0, 100, 100, 700, 5000, 30_000, 70_000)
POLICIES = ("drop_oldest", "drop_newest", "latest", "disconnect", "block")
BOUNDS = (1024, 3000, 20_000, 100_000, 64 << 20)
#: Where a subscription begins.
BEGINNINGS: tuple[dict[str, Any], ...] = ({}, {"retained": False}, {"last": 5}, {"last": 1000})
KEPT = 20
decode = make_codec().decode


@attrs.define(eq=False)
class Line:
    """A subscriber's call and its connection, which takes batches at once, or when it may.

    :ivar takes: whether it takes them at once.
    :ivar is_broken: whether the connection is lost with the next batch.
    :ivar token: is told when the batch that waits is on its way.
    """

    takes: bool = True
    is_broken: bool = False
    over: bool = False
    problem: BaseException | None = None
    sink: Any = None
    token: Any = None
    welcome: Any = None
    batches: list[bytes] = attrs.field(factory=list)

    @property
    def connection(self) -> Line:
        return self

    @property
    def server(self) -> Line:
        return self

    def send(self, _: object, said: Any) -> None:
        self.welcome = said

    def send_encoded(self, _: object, payload: bytes, token: Any) -> bool:
        assert not self.over
        assert self.token is None, "a batch was sent while another waits"
        if self.is_broken:
            self.over = True
            self.sink.ended()
            raise PycomnetError("the connection is lost")
        self.batches.append(payload)
        if not self.takes:
            self.token = token
        return self.takes

    def release(self) -> None:
        """What waits is on its way."""
        token, self.token = self.token, None
        if token is not None and not self.over:
            token.callback(None)

    def end_feed(self, _: object, problem: BaseException | None) -> None:
        self.over = True
        self.problem = problem
        self.sink.ended()


@attrs.define(eq=False)
class Wanting:
    """What a subscription has to get, and what it got.

    :param how: where it begins.
    :ivar is_begun: whether it is in effect.
    :ivar wanted: the numbers of the events that match, in order.
    :ivar at: how many of these have come, or are reported as missing.
    :ivar missing: how many of the next are reported as missing; None if that is not known.
    :ivar is_told: whether it got the notice of the publisher that was to come, and
    :ivar told_at: ... the number of the last event before that; 0 if there is none.
    :ivar is_quick: whether its connection has always taken everything at once.
    """

    line: Line
    patterns: Patterns
    policy: str
    bound: int
    how: Any
    is_quick: bool
    is_begun: bool = False
    wanted: list[int] = attrs.field(factory=list)
    at: int = 0
    missing: int | None = 0
    read: int = 0
    got: list[int] = attrs.field(factory=list)
    gaps: int = 0
    is_told: bool = True
    told_at: int = 0

    def step(self, known: dict[int, Any]) -> None:
        """Read the batches that have come since."""
        for payload in self.line.batches[self.read :]:
            upto, *items = decode(payload)
            for item in items:
                if item[0] is not None:
                    self._event(item, known)
                elif item[1] == "gap":
                    self._gap(*item[2:])
                else:
                    assert item[1] == "restarted"
                    if self.policy != "latest":  # else it comes before all
                        self._sent_up_to(self.told_at)
                    self.is_told, self.told_at = True, 0
            self._sent_up_to(upto)
        self.read = len(self.line.batches)

    def _event(self, item: Any, known: dict[int, Any]) -> None:
        number, subject, key, _, value = item
        assert (subject, key, value[0]) == known[number], (item[:3], known[number])
        assert number not in self.got, f"{number} came twice"
        self.got.append(number)
        if self.policy == "latest":
            assert number in self.wanted, f"{number} is not wanted"
            return
        place = self.wanted.index(number, self.at)
        if self.missing is not None:
            assert place - self.at == self.missing, (number, self.wanted[self.at :], self.missing)
        self.at, self.missing = place + 1, 0

    def _gap(self, count: int | None, first: int, last: int, _: object, why: str) -> None:
        is_lost = why == "bound" and self.policy != "latest"  # which keeps the last of each turn
        assert not (self.is_quick and is_lost), "a quick subscriber has lost events"
        assert first <= last
        self.gaps += count or 0
        if count is None or self.missing is None or why == "history":
            self.missing = None
        else:
            self.missing += count

    def _sent_up_to(self, upto: int) -> None:
        if self.policy == "latest":
            lacking = [one for one in self.wanted if one <= upto and one not in self.got]
            assert len(lacking) <= self.gaps, (upto, lacking)
        elif self.missing is not None and self.at + self.missing < len(self.wanted):
            assert self.wanted[self.at + self.missing] > upto

    def end(self) -> None:
        """Everything that was to come has come."""
        assert self.is_told
        if self.policy == "latest":
            assert len(self.got) + self.gaps == len(self.wanted), (self.got, self.wanted)
        elif self.missing is not None:
            assert self.at + self.missing == len(self.wanted), self.wanted[self.at :]


@attrs.define(eq=False)
class Member:
    """A member of the group.

    :ivar had: the events that it has to acknowledge.
    :ivar gaps: how many events it was told are missing.
    """

    line: Line
    read: int = 0
    had: list[int] = attrs.field(factory=list)
    gaps: int = 0

    def step(self) -> list[int]:
        """The numbers of the events that have come since."""
        items = [item for payload in self.line.batches[self.read :] for item in decode(payload)[1:]]
        self.read = len(self.line.batches)
        found = [item[0] for item in items if item[0] is not None]
        self.had += found
        self.gaps += sum(item[2] for item in items if item[0] is None and item[1] == "gap")
        return found


class Model:
    """A topic with its subscriptions, and what these have to get.

    :param waiting: how many bytes may wait for all.
    """

    def __init__(self, waiting: int, history: int, retain: bool) -> None:
        self.clock = Clock()
        self.is_wide = waiting >= 1 << 30
        self.topic = Topic(
            "model",
            TopicSettings(
                history=history,
                retain=retain,
                block=True,
                limits=TopicLimits(waiting=waiting, event=80_000),
            ),
            self.clock,
        )
        self.kept, self.retains = history, retain
        #: number -> subject, key, and what is published
        self.known: dict[int, Any] = {}
        self.retained: dict[Any, int] = {}
        self.ones: list[Wanting] = []
        self.serial = 0
        self.members: list[Member] = []
        self.gone: list[Member] = []
        #: the numbers of the events that are to be handed out by the group
        self.shared: set[int] | None = None

    # -- what may happen -------------------------------------------------------------------------

    def publish(self, subject: str, key: str | None, size: int, many: int) -> None:
        for _ in range(many):
            self.serial += 1
            value = [self.serial, bytes(size)]
            publishing = self.topic.publish(value, key, subject)
            if publishing.called:
                value[0] = "changed after it was published"
            publishing.addCallback(self._published, subject, key, self.serial)

    def _published(self, _: object, subject: str, key: str | None, serial: int) -> None:
        number = self.topic.history.last
        assert number == len(self.known) + 1
        for one in self.ones:
            self._start(one)
        self.known[number] = subject, key, serial
        self.retained.pop((subject, key), None)
        self.retained[subject, key] = number
        if self.shared is not None:
            self.shared.add(number)
        for one in self.ones:
            if one.is_begun and one.patterns.match(subject) and not one.line.over:
                one.wanted.append(number)

    def refused(self, value: Any) -> None:
        """What can't be published is refused, and takes no number."""
        publishing = self.topic.publish(value, None, "a")
        failures: list[Any] = []
        publishing.addErrback(failures.append)
        if not self.topic.pressure:
            assert failures

    def join(self, texts: tuple[str, ...], policy: str, bound: int, how: Any, takes: bool) -> None:
        if len(self.ones) >= 8:
            return
        if self.topic.history.budget <= 0 and how == {} and self.retains:
            return  # what is retained may be replaced before it begins
        line = Line(takes)
        one = Wanting(line, Patterns(texts), policy, bound, how, takes)
        args = {"subjects": list(texts), "policy": policy, "bound": bound, **how}
        line.sink = SubscribeRequest(args, self.topic, None).open()
        self.ones.append(one)
        line.sink.begin(line)
        self._start(one)

    def _start(self, one: Wanting) -> None:
        """A subscription begins: at once, or in a later turn."""
        if one.is_begun or one.line.welcome is None:
            return
        one.is_begun = True
        last = one.line.welcome["sequence"]
        numbers: list[int] = []
        if "last" in one.how:
            first = max(last - self.kept, last - one.how["last"]) + 1
            numbers = [*range(max(first, 1), last + 1)]
        elif one.how.get("retained", True) and self.retains:
            numbers = list(self.retained.values())
        one.wanted = [each for each in numbers if one.patterns.match(self.known[each][0])]

    def leave(self, one: Wanting) -> None:
        self.ones.remove(one)
        if not one.line.over:
            one.line.end_feed(one.line, None)
        one.step(self.known)

    def change(self, one: Wanting, texts: tuple[str, ...]) -> None:
        if one.line.over or one.line.sink.intake.cursor is not None:
            return
        one.patterns = Patterns(texts)
        self.topic.change(one.line.sink, one.patterns)

    def stall(self, one: Wanting) -> None:
        one.line.takes = one.is_quick = False

    def release(self, one: Wanting) -> None:
        one.line.release()

    def go_on(self, one: Wanting) -> None:
        one.line.takes = True
        one.line.release()

    def break_off(self, one: Wanting) -> None:
        one.line.is_broken = True

    def turn(self) -> None:
        self.clock.advance(0)

    def tell(self) -> None:
        self.topic.tell_restarted("again")
        for one in self.ones:
            one.is_told, one.told_at = False, one.told_at or len(self.known)

    def spend(self) -> None:
        """Others have read much of the history in this turn."""
        self.topic.history.budget = -1

    def relieve(self) -> None:
        self.topic.relieve()

    # -- a group ---------------------------------------------------------------------------------

    def join_group(self, prefetch: int, takes: bool) -> None:
        if len(self.members) >= 3:
            return
        line = Line(takes)
        args = {"group": "all", "prefetch": prefetch, "bound": 64 << 20}
        line.sink = SubscribeRequest(args, self.topic, None).open()
        if self.shared is None:
            self.shared = set()
        self.members.append(Member(line))
        line.sink.begin(line)

    def member(self, place: int) -> Member | None:
        return self.members[place % len(self.members)] if self.members else None

    def acknowledge(self, place: str, many: int) -> None:
        """Acknowledge events; the first of them twice."""
        one = self.member(int(place))
        if one is None:
            return
        numbers, one.had = one.had[:many], one.had[many:]
        acknowledge = one.line.sink.group.acknowledge
        acknowledge(one.line.sink, numbers)
        acknowledge(one.line.sink, numbers[:1])

    def leave_group(self, place: str) -> None:
        one = self.member(int(place))
        if one is None:
            return
        self.members.remove(one)
        self.gone.append(one)
        self._shared_out(one)
        assert self.shared is not None
        self.shared |= set(one.had)
        one.line.end_feed(one.line, None)

    def stall_member(self, place: str, takes: bool) -> None:
        one = self.member(int(place))
        if one is not None:
            one.line.takes = takes
            one.line.release()

    def _shared_out(self, one: Member) -> None:
        for number in one.step():
            assert self.shared is not None
            assert number in self.shared, f"{number} was handed out twice"
            self.shared.remove(number)

    def check_group(self) -> None:
        for one in self.members:
            self._shared_out(one)
            assert not one.line.over

    def finish_group(self) -> None:
        """Members acknowledge all; so they get all."""
        if self.shared is None:
            return
        self.join_group(10_000, True)
        for _ in range(100):
            for place, one in enumerate(self.members):
                self.stall_member(str(place), True)
                self.check_group()
                self.acknowledge(str(place), 1000)
                self.turn()
                assert one.line.sink.lag() <= len(one.had) + 1000
            self.check_group()
        gaps = sum(one.gaps for one in self.members + self.gone)
        assert gaps == 0 or not self.is_wide
        assert len(self.shared) == gaps, f"{self.shared} were not handed out"

    # -- what has to hold ------------------------------------------------------------------------

    def check(self) -> None:
        for one in list(self.ones):
            self._start(one)
            one.step(self.known)
            if one.line.is_broken and one.line.over:
                self.ones.remove(one)
            elif one.line.over:
                assert isinstance(one.line.problem, SlowSubscriber)
                assert not (one.is_quick and self.is_wide), "a quick subscriber was ended"
                self.ones.remove(one)
        self.check_group()

    def finish(self) -> None:
        """All connections take everything; then all ends."""
        for _ in range(3):
            for one in self.ones:
                self.go_on(one)
            for _ in range(5):
                self.turn()
        self.check()
        for one in self.ones:
            one.end()
        self.finish_group()
        assert not self.topic.pressure
        assert self.topic.waiting.size == 0
        for member in self.members:
            member.line.end_feed(member.line, None)
        self.publish("a", None, 10, 4)
        self.topic.end()
        for one in [each for each in self.ones if not each.line.is_broken]:
            assert one.line.over
            assert one.line.problem is None
            one.step(self.known)
            one.end()
        assert not [one for one in self.topic.recipients if isinstance(one, Subscription)]
        self.topic.close()
        self.turn()
        assert not self.clock.getDelayedCalls()


def call(name: str, *what: Any) -> Any:
    """One step: the name of a method of the model, and what it is called with."""
    return st.tuples(st.just(name), *what)


#: A subscription, and a member of the group: counted round.
ONE = st.integers(0, 7)
PLACE = st.sampled_from("012")
PUBLISH = call(
    "publish",
    st.sampled_from(SUBJECTS),
    st.sampled_from(KEYS),
    st.sampled_from(SIZES),
    st.sampled_from((1, 1, 2, 3, 10)),
)
JOIN = call(
    "join",
    st.sampled_from(PATTERNS),
    st.sampled_from(POLICIES),
    st.sampled_from(BOUNDS),
    st.sampled_from(BEGINNINGS),
    st.sampled_from((True, True, False)),
)
STEPS = st.one_of(
    PUBLISH,
    PUBLISH,
    PUBLISH,
    JOIN,
    JOIN,
    call("leave", ONE),
    call("change", ONE, st.sampled_from(PATTERNS)),
    call("stall", ONE),
    call("release", ONE),
    call("go_on", ONE),
    call("break_off", ONE),
    call("turn"),
    call("turn"),
    call("tell"),
    call("relieve"),
    call("spend"),
    call("join_group", st.sampled_from((1, 5, 100)), st.booleans()),
    call("acknowledge", PLACE, st.sampled_from((0, 1, 3, 100))),
    call("acknowledge", PLACE, st.sampled_from((0, 1, 3, 100))),
    call("leave_group", PLACE),
    call("stall_member", PLACE, st.booleans()),
    call("refused", st.sampled_from((object(), bytes(90_000)))),
)


class ModelTests(SynchronousTestCase):
    """Each subscription gets what the model says, or is told how many events are missing."""

    def run_all(self, waiting: int, history: int, retain: bool, steps: list[Any]) -> None:
        model = Model(waiting, history, retain)
        for name, *args in steps:
            if args and type(args[0]) is int and name != "join_group":
                if not model.ones:
                    continue
                args[0] = model.ones[args[0] % len(model.ones)]
            getattr(model, name)(*args)
            model.check()
        model.finish()

    @settings(max_examples=examples(1200))
    @given(
        st.sampled_from((1 << 30, 1 << 30, 200_000)),
        st.sampled_from((0, 0, KEPT)),
        st.booleans(),
        st.lists(STEPS, max_size=60),
    )
    def test_whatever_happens_in_a_turn(
        self, waiting: int, history: int, retain: bool, steps: list[Any]
    ) -> None:
        """In any order, with any policies."""
        self.patch(groups, "SPAN", 20)
        self.run_all(waiting, history, retain, steps)

    def test_who_takes_everything_loses_nothing(self) -> None:
        """With the smallest bound, when more comes in a turn than that, of two kinds."""
        for policy in POLICIES:
            self.run_all(
                1 << 30,
                0,
                False,
                [
                    ("join", (">",), policy, 1024, {}, True),
                    ("join", ("a",), policy, 1024, {}, True),
                    ("publish", "a", None, 100, 1),
                    ("publish", "b", None, 100, 4),
                    ("turn",),
                ],
            )

    def test_who_has_a_small_bound_costs_the_others_nothing(self) -> None:
        """They get the events of a turn in as few batches as without it."""
        model = Model(1 << 30, 0, False)
        for bound in (1024, 1 << 20):
            model.join((">",), "drop_oldest", bound, {}, True)
        model.publish("a", None, 100, 100)
        model.turn()
        few, others = (len(one.line.batches) for one in model.ones)
        self.assertEqual(others, 2)
        self.assertGreater(few, 25)
        model.finish()
