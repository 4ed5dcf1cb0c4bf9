"""Events of one turn, which their recipients get together: the same events as one by one."""

from __future__ import annotations

import random
from io import BytesIO
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from pycomnet import Binary
from pycomnet.ext.pubsub import Gap
from pycomnet.ext.pubsub.recipients import MOST_PLACES, MOST_SUBJECTS, Recipients
from pycomnet.ext.pubsub.subjects import Patterns, check_subject
from pycomnet.test.ext.pubsub.kit import PublishCase

SUBJECTS = ("a", "b", "b.c")
PATTERNS = (">", "a", "b", "b.>", "*")
#: The random turns of each kind of publisher, and what happens in each.
SEEDS, TURNS, STEPS = 3, 8, 60


@attrs.define
class Wanting:
    """A subscriber, and what it has to get: (number, subject, key) of each event."""

    subscriber: Any
    patterns: Patterns
    policy: str
    bound: int
    expected: list[tuple[int, str, str | None]] = attrs.field(factory=list)
    seen: list[Any] = attrs.field(factory=list)

    def published(self, number: int, subject: str, key: str | None) -> None:
        """An event was published while it was subscribed."""
        if self.patterns.match(subject):
            self.expected.append((number, subject, key))


class TurnTests(PublishCase):
    """Events of several subjects, with and without keys, in one turn."""

    def setUp(self) -> None:
        super().setUp()
        self.ones: list[Wanting] = []

    def want(self, numbers: random.Random, policy: str, bound: int) -> Wanting:
        """Another subscriber."""
        patterns = (numbers.choice(PATTERNS),)
        made = self.subscribe(
            *patterns,
            context=self.other_context(),
            policy=policy,
            bound=bound,
            retained=False,
        )
        one = Wanting(made, Patterns(patterns), policy, bound)
        self.ones.append(one)
        return one

    def take_all(self) -> None:
        """Take what has come; the subscribers with a small bound are too slow for the rest."""
        for one in self.ones:
            one.seen += self.take(one.subscriber, events=True)

    def check(self, seed: int) -> None:
        for one in self.ones:
            what = f"seed {seed}, {one.policy} {one.patterns.texts}"
            missing, last = 0, 0
            expected = {number: (subject, key) for number, subject, key in one.expected}
            for item in one.seen:
                if isinstance(item, Gap):
                    missing += item.count or 0
                    continue
                known = expected.pop(item.sequence, None)
                self.assertEqual((item.subject, item.key), known, what)
                self.assertEqual(item.value[0], item.sequence, what)
                if one.policy != "latest":
                    self.assertGreater(item.sequence, last, what)
                last = item.sequence
            self.assertEqual(missing, len(expected), what)
            if one.bound > 1 << 20 and one.policy != "latest":
                self.assertEqual(missing, 0, what)

    def run_one(self, seed: int) -> None:
        numbers = random.Random(seed)
        for policy in ("drop_oldest", "drop_newest", "latest", "drop_oldest"):
            for bound in (1024, 20_000, 64 << 20):
                self.want(numbers, policy, bound)
        number = self.topic.history.last
        for _ in range(TURNS):
            subject, key = "a", None
            for _ in range(numbers.choice([1, 2, STEPS])):
                if numbers.random() < 0.3:  # else the same as before
                    subject = numbers.choice(SUBJECTS)
                    key = numbers.choice([None, None, "k", "l"])
                what = numbers.random()
                if what < 0.02:
                    self.topic.tell_restarted("it was told in mid-turn")
                elif what < 0.04:
                    self.topic.relieve()
                number += 1
                for one in self.ones:
                    one.published(number, subject, key)
                value = [number, bytes(numbers.choice([0, 100, 5000, 70_000]))]
                self.successResultOf(self.topic.publish(value, key, subject))
                self.assertEqual(self.topic.history.last, number)
            if numbers.random() < 0.5:
                gone = self.ones.pop(numbers.randrange(len(self.ones)))
                self.result(gone.subscriber.close())
                self.want(numbers, gone.policy, 1 << 20)
            if numbers.random() < 0.7:
                self.take_all()
        self.take_all()
        for one in self.ones:
            one.seen = [item for item in one.seen if not hasattr(item, "message")]
        self.check(seed)
        for one in self.ones:
            self.result(one.subscriber.close())
        self.ones.clear()
        self.network.deliver()
        self.assertEqual(self.topic.waiting.size, 0)

    def test_each_gets_its_events_in_their_order(self) -> None:
        """Or is told which are missing, whatever its policy and bound."""
        for seed in range(SEEDS):
            self.run_one(seed)

    def test_who_comes_or_goes_in_mid_turn(self) -> None:
        """It gets the events from then on, or up to then."""
        first = self.subscribe()
        service = self.result(self.other_context().connect(self.address))
        stream = service.stream("subscribe", {})
        begin = self.topic.join
        begun: list[Any] = []

        def join(sink: Any) -> None:
            # The subscription begins between two events of one turn.
            for number in range(3):
                self.topic.publish(number)
            begin(sink)
            begun.append(sink)

        self.patch(self.topic, "join", join)
        welcome = self.result(stream.receive())
        self.assertEqual(welcome["begins"], 3)
        for number in range(3, 6):
            self.topic.publish(number)
        self.network.deliver()
        for number in range(6, 9):
            self.topic.publish(number)
        begun[0].close()
        self.topic.publish(9)
        self.network.deliver()
        got: list[Any] = []
        while (receiving := stream.receive()).called and isinstance(receiving.result, list):
            got += [item[4] for item in self.successResultOf(receiving)[1:] if item[4] != 2]
        receiving.addErrback(lambda _: None)
        self.assertEqual(got, [*range(3, 9)][: len(got)])  # its end does not wait for the last ones
        self.assertGreaterEqual(len(got), 4)
        self.assertEqual(self.take(first), [*range(10)])

    def test_a_change_in_mid_turn_holds_from_there_on(self) -> None:
        """Events before it are those of the old subjects."""
        one = self.subscribe("a")
        (sink,) = self.topic.sinks.values()
        for number in range(4):
            self.topic.publish(number, subject="a")
        self.topic.change(sink, Patterns(("b",)))
        for number in range(4, 8):
            self.topic.publish(number, subject="a")
            self.topic.publish(-number, subject="b")
        self.assertEqual(self.take(one), [0, 1, 2, 3, -4, -5, -6, -7])

    def test_the_end_comes_after_the_events_of_its_turn(self) -> None:
        """All of them."""
        one = self.subscribe()
        for number in range(5):
            self.topic.publish(number)
        self.topic.end()
        self.assertEqual(self.take_until_end(one), [0, 1, 2, 3, 4])

    def take_until_end(self, one: Any) -> list[Any]:
        found: list[Any] = []
        self.network.deliver()
        while (receiving := one.receive_many()).called:
            if not isinstance(receiving.result, list):
                self.failureResultOf(receiving)
                break
            found += self.successResultOf(receiving)
            self.network.deliver()
        return found

    def test_what_cannot_be_sent_fails_alone(self) -> None:
        """In the middle of a turn; the numbers of the others have no hole."""
        one = self.subscribe()
        for number in range(3):
            self.topic.publish(number)
        self.failureResultOf(self.topic.publish(object()))
        self.failureResultOf(self.topic.publish(bytes(33 << 20)))
        self.failureResultOf(self.topic.publish(3, subject="not..a.subject"))
        self.failureResultOf(self.topic.publish(3, key=1))  # type: ignore[arg-type]
        self.topic.publish(3)
        found = self.take(one, events=True)
        self.assertEqual(
            [(each.sequence, each.value) for each in found], [(n + 1, n) for n in range(4)]
        )

    def test_what_is_published_while_another_is_encoded_comes_before_it(self) -> None:
        """A file that is read for an event publishes one itself; each has its number."""
        one = self.subscribe()
        topic = self.topic

        class File(BytesIO):
            """The first read publishes an event."""

            def read(self, size: int | None = -1, /) -> bytes:
                if not published:
                    published.append(topic.publish("inner"))
                return b"data"

        published: list[Any] = []
        for before in range(4):
            published.clear()
            for _ in range(before):
                topic.publish("before")
            self.successResultOf(topic.publish(("outer", Binary(File()))))
            found = self.take(one, events=True)
            numbers = [each.sequence for each in found]
            self.assertEqual(numbers, [*range(numbers[0], topic.history.last + 1)])
            self.assertEqual(found[-1].value, "outer")
            self.assertIn("inner", [each.value for each in found])


class HistoryTurnTests(TurnTests):
    """The same with a history in memory."""

    settings = {"history": 30}

    def test_who_reads_the_history_gets_nothing_twice(self) -> None:
        """Also if it reads it while events of the same turn wait for others."""
        self.publish(*range(25))
        ones = [self.subscribe()]
        self.topic.publish(25)
        for number in range(26, 30):
            self.topic.publish(number)
        ones.append(self.subscribe(last=1000, context=self.other_context()))
        self.topic.publish(30)
        for number in range(31, 36):
            self.topic.publish(number)
        self.assertEqual(self.take(ones[0]), [*range(25, 36)])
        self.assertEqual(self.take(ones[1]), [*range(36)])

    def test_who_stops_in_the_history_gets_nothing_twice(self) -> None:
        """Its connection takes no more for a while; it reads to the end in the middle of a turn,
        and gets the rest of the turn as the others do."""
        for together in (1, 2, 7):
            known = self.topic.history.last
            self.publish(*range(known, known + 10))
            other = self.subscribe()
            late = self.subscribe(last=10, context=self.other_context(), bound=1 << 20)
            sink = list(self.topic.sinks.values())[-1]
            before = self.take(late)
            sink.waiting = True
            sink.intake.cursor = self.topic.history.last
            number = self.topic.history.last
            for _ in range(together):
                self.topic.publish(number)
                number += 1
            sink.callback(None)
            self.assertEqual((sink.intake.cursor, sink.waiting), (None, False))
            for _ in range(together):
                self.topic.publish(number)
                number += 1
            self.assertEqual(before + self.take(late), [*range(known, number)])
            self.assertEqual(self.take(other), [*range(known + 10, number)])
            self.result(late.close())
            self.result(other.close())


class RetainedTurnTests(TurnTests):
    """The same with retained events."""

    settings = {"retain": True}


class GroupTurnTests(PublishCase):
    """A group beside subscriptions."""

    def test_a_group_gets_the_events_of_a_turn(self) -> None:
        """Each once, shared by its members."""
        other = self.subscribe()
        ones = [
            self.subscribe(group="g", context=self.other_context(), prefetch=1000) for _ in range(2)
        ]
        for number in range(300):
            self.topic.publish(number)
        self.assertEqual(self.take(other), [*range(300)])
        found = [self.take(one) for one in ones]
        self.assertEqual(sorted(found[0] + found[1]), [*range(300)])
        for each in found:
            self.assertGreater(len(each), 50)


class TakersTests(SynchronousTestCase):
    """What is cached, and when that is forgotten."""

    def test_equal_tuples_are_the_same(self) -> None:
        """So that events of different subjects go to their recipients together."""
        recipients: Recipients[Any] = Recipients()
        one, other = object(), object()
        recipients.add(one, [">"])
        recipients.add(other, ["a.*"])
        self.assertIs(recipients.find("a.b"), recipients.find("a.c"))
        self.assertEqual((recipients.find("a.b"), recipients.find("b")), ((one, other), (one,)))
        recipients.remove(one, [">"])
        self.assertEqual((recipients.find("b"), recipients.wanting), ((), {"b": ()}))
        self.assertEqual(list(recipients), [other])

    def test_the_cache_is_bounded(self) -> None:
        """By subjects, and by recipients of them."""
        recipients: Recipients[Any] = Recipients()
        for number in range(600):
            recipients.add(number, [">"] if number % 2 else [f"{number}.>"])
        for number in range(MOST_SUBJECTS + 5):
            check_subject(f"s.{number}")
            recipients.find(f"s.{number}")
            self.assertLessEqual(len(recipients.wanting), MOST_SUBJECTS)
        self.assertEqual(len(recipients.wanting), 5)
        for number in range(0, 600, 2):
            for other in range(20):
                recipients.find(f"{number}.{other}")
        places = sum(len(each) for each in set(recipients.wanting.values()))
        self.assertLessEqual(places, MOST_PLACES)
