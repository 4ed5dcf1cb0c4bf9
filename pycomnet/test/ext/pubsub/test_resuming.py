"""Late and returning subscribers: retained values, the history, and where they go on."""

from __future__ import annotations

from typing import Any

from pycomnet.errors import Forbidden
from pycomnet.ext.pubsub import Gap, subscriber
from pycomnet.ext.pubsub.feeds import PublisherFeed
from pycomnet.ext.pubsub.history import BUDGET, History, KeptEvents, Retained, duration, kept
from pycomnet.ext.pubsub.publishermessages import EventSequence
from pycomnet.ext.pubsub.subjects import Patterns
from pycomnet.ranges import NumberRefused
from pycomnet.test.ext.pubsub.kit import NAME, PublishCase
from pycomnet.test.ext.pubsub.test_subscriberqueue import event


class RetainTests(PublishCase):
    """The last value of each subject and key."""

    settings = {"retain": True}

    def test_each_has_the_retained_value_once_and_first(self) -> None:
        """Three of one connection, each once (autobahn 1226)."""
        self.publish("old", "kept")
        late = [self.subscribe() for _ in range(3)]
        self.publish("new")
        for one in late:
            self.assertEqual(self.take(one), ["kept", "new"])

    def test_the_last_of_each_key_is_retained(self) -> None:
        """In the order in which they were published; those of other subjects are not given."""
        for number, key in enumerate("abcab"):
            self.publish(number, key=key, subject="s")
        self.publish("x", subject="other")
        self.assertEqual(self.take(self.subscribe("s")), [2, 3, 4])

    def test_who_does_not_want_them_gets_none(self) -> None:
        """Only what is published from then on."""
        self.publish("kept")
        one = self.subscribe(retained=False)
        self.publish("new")
        self.assertEqual(self.take(one), ["new"])

    def test_retained_events_that_wait_for_stalled_subscribers_are_bounded(self) -> None:
        """They are counted as what is published; who has most of them is ended."""
        self.topic.waiting.most = 10_000_000
        for number in range(5):
            self.publish(bytes(1_000_000), key=str(number))
        service = self.connect()
        streams = [service.stream("subscribe", {}) for _ in range(6)]
        self.network.deliver()
        self.assertLess(self.topic.waiting.size, 11_100_000)
        self.assertLess(len(self.topic.sinks), 6)
        for one in streams:
            one.close()
        self.network.deliver()
        self.assertEqual(self.topic.waiting.size, 0)

    def test_who_comes_back_has_what_is_retained(self) -> None:
        """After a gap, as the history does not have it: the state that was published meanwhile."""
        one = self.subscribe()
        self.publish("old", key="k")
        self.assertEqual(self.take(one), ["old"])
        self.network.cut()
        self.topic.publish("new", key="k")
        self.network.wait(10)
        self.assertEqual(self.take(one), [Gap(1, 2, 2, why="history"), "new"])

    def test_who_comes_back_to_a_new_publisher_has_what_that_retains(self) -> None:
        """Though it was published before."""
        one = self.subscribe()
        self.publish("old", key="k")
        self.assertEqual(self.take(one), ["old"])
        self.restart()
        self.topic.publish("new", key="k")
        self.network.wait(10)
        gap, *values = self.take(one)
        self.assertEqual((gap.why, values), ("restarted", ["new"]))

    def test_retained_events_are_bounded(self) -> None:
        """By number and by bytes; the oldest are forgotten."""
        retained = Retained(3, 10_000)
        for number in range(5):
            retained.put(event(number, str(number)))
        found = retained.matching(Patterns([">"]))
        self.assertEqual([one.sequence for one in found], [2, 3, 4])
        retained.put(event(5, "long", size=20_000))
        self.assertEqual(len(retained), 1)
        self.assertTrue(retained.forget("", "long"))
        self.assertEqual((len(retained), retained.size), (0, 0))


class HistoryTests(PublishCase):
    """The last ten events."""

    settings = {"history": 10}

    def test_late_subscribers_get_what_they_ask_for(self) -> None:
        """The last n, or those of so many seconds; what is published follows."""
        for number in range(20):
            self.publish(number)
            self.network.wait(1, step=1)
        ones = [self.subscribe(last=3), self.subscribe(last=100), self.subscribe(since=4.5)]
        self.publish("new")
        self.assertEqual(self.take(ones[0]), [17, 18, 19, "new"])
        self.assertEqual(self.take(ones[1]), [*range(10, 20), "new"])
        self.assertEqual(self.take(ones[2]), [16, 17, 18, 19, "new"])

    def test_a_lost_connection_goes_on_where_it_was(self) -> None:
        """If the history has it: nothing is missing, nothing comes twice."""
        one = self.subscribe()
        self.publish(*range(5))
        self.assertEqual(self.result(one.receive()), 0)  # the others have come, and wait here
        self.network.cut()
        self.publish(*range(5, 12))
        found = self.take(one)  # once all that had come is taken, it connects again
        self.network.wait(10)
        self.publish("new")
        self.assertEqual(found + self.take(one), [*range(1, 12), "new"])
        self.assertEqual(one.missed, 0)

    def test_what_the_history_has_lost_is_told_exactly(self) -> None:
        """How many, and which numbers."""
        one = self.subscribe()
        self.publish(*range(5))
        self.assertEqual(self.take(one), [*range(5)])
        self.network.cut()
        self.publish(*range(5, 30))
        self.network.wait(10)
        found = self.take(one)
        self.assertEqual(found, [Gap(15, 6, 20, why="history"), *range(20, 30)])
        self.assertEqual(one.missed, 15)

    def test_with_a_filter_the_numbers_are_told_and_not_how_many(self) -> None:
        """As nobody knows what these were."""
        one = self.subscribe("a")
        self.publish(0, subject="a")
        self.assertEqual(self.take(one), [0])
        self.network.cut()
        self.publish(*range(5, 30), subject="b")
        self.publish("last", subject="a")
        self.network.wait(10)
        self.assertEqual(self.take(one), [Gap(None, 2, 17, why="history"), "last"])

    def test_a_stalled_subscriber_that_is_cut_off_loses_nothing_that_is_remembered(self) -> None:
        """Also what had waited for it at the publisher."""
        one = self.subscribe(bound=1024)
        self.publish(*range(3))
        for client, _ in self.network.wires:
            client.transport.take()  # what is on its way is lost
        for number in range(3, 9):
            self.topic.publish(number)
        self.network.cut()
        found = self.take(one)
        self.network.wait(10)
        self.assertEqual(found + self.take(one), [*range(9)])

    def test_a_connection_that_is_cut_within_a_turn_loses_nothing(self) -> None:
        """A batch that is sent to make room says that all before the next event has come, and not
        that this one has."""
        one = self.subscribe()
        for number in range(4):  # the first goes at once, two when the last would be too many
            self.topic.publish([number, bytes(25_000)])
        for sink in self.topic.sinks.values():
            sink.connection.flush()
        for client, server in self.network.wires:
            self.network._move(server, client)
        self.network.cut()
        found = self.take(one)
        self.network.wait(10)
        self.publish([4, b""])
        found += self.take(one)
        self.assertEqual([each[0] for each in found], [0, 1, 2, 3, 4])

    def test_a_long_event_comes_once_while_the_history_is_read(self) -> None:
        """It is in the history that the subscription is still to read, and is not queued as
        well."""
        for number in range(3):
            self.topic.publish([number, b""])
        self.network.deliver()
        one = self.subscribe()
        sink = next(iter(self.topic.sinks.values()))
        sink.intake.cursor = 1  # as after a turn in which others had looked through much
        self.topic.publish([3, bytes(100_000)])
        self.network.deliver()
        self.assertEqual([each[0] for each in self.take(one)], [1, 2, 3])

    def test_a_change_while_the_stream_begins_counts(self) -> None:
        """It is said as soon as there is a stream."""
        one = subscriber(NAME, "a", context=self.context, address=self.address)
        self.addCleanup(one.close)
        one.start()
        self.result(one.change("b"))
        self.result(one.when_subscribed())
        self.network.deliver()
        self.publish(1, subject="a")
        self.publish(2, subject="b")
        self.assertEqual(self.take(one), [2])

    def test_a_change_that_is_refused_changes_nothing(self) -> None:
        """Nor does it when the subscriber connects again."""
        one = self.subscribe("a")
        original = type(self.service)._check_may_subscribe

        def check(service: Any, user: Any, patterns: Patterns) -> None:
            if "secret" in patterns.texts:
                raise Forbidden("no", NAME, "subscribe")
            original(service, user, patterns)

        self.patch(type(self.service), "_check_may_subscribe", check)
        self.failure(one.change("secret"), Forbidden)
        self.network.cut()
        self.network.wait(5)
        self.publish(1, subject="a")
        self.assertEqual((self.take(one), one.subjects), ([1], ["a"]))

    def test_one_that_is_lost_again_before_it_is_back_tells_nothing_more(self) -> None:
        """If its events are durable nothing is missing; else that was told when it had gone."""
        for durable in (True, False):
            one = self.subscribe()
            service = self.context.at("tcp:127.0.0.1:1", NAME)
            former = PublisherFeed(one, service, "other")
            former.count = former.counts["epoch"] = EventSequence(former, "epoch")
            former.durable, former.gone = durable, True
            feed = PublisherFeed(one, service, "other")
            feed.follows(former)
            one.add_feed(feed)
            self.network.deliver()
            feed.lost()
            self.network.deliver()
            self.assertTrue(feed.over)
            self.assertEqual(self.take(one), [])

    def test_a_connection_lost_before_the_first_event_loses_nothing(self) -> None:
        """The welcome has said where the events begin."""
        self.publish(*range(5))
        beginnings: list[dict[str, Any]] = [{"last": 0}, {"since": 0.0}, {}]
        for options in beginnings:
            one = self.subscribe(**options)
            self.network.cut()
            self.publish("new")
            self.network.wait(10)
            self.assertEqual(self.take(one), ["new"])

    def test_a_publisher_that_begins_anew_is_told(self) -> None:
        """And all that the new one remembers comes."""
        one = self.subscribe()
        self.publish("old")
        self.assertEqual(self.take(one), ["old"])
        self.restart()
        self.publish("a", "b")
        self.network.wait(10)
        self.assertEqual(self.take(one), [Gap(None, 2, None, why="restarted"), "a", "b"])

    def test_a_subscriber_that_did_not_wait_is_told_nothing_twice(self) -> None:
        """A history that is long enough, and three lost connections."""
        one = self.subscribe()
        found = []
        for number in range(3):
            self.publish(number)
            self.network.cut()
            self.network.wait(10)
            found += self.take(one)
        self.assertEqual(found, [0, 1, 2])


class BudgetTests(PublishCase):
    """Much that is remembered, and many who want none of it."""

    settings = {"history": 12_000, "retain": True}

    def test_looking_through_it_leaves_others_their_turn(self) -> None:
        """However many subscriptions look through all of it: so many events in a turn, and each
        subscription gets what it wants."""
        for number in range(12_000):
            self.topic.publish(number, subject="a" if number else "b", key=str(number % 5000))
        looked: list[int] = []
        original = self.topic.history.at
        self.topic.history.at = lambda number: looked.append(number) or original(number)
        service = self.connect()
        streams = [service.stream("subscribe", {"subjects": ["b"], "last": 12_000}) for _ in "abcd"]
        streams += [service.stream("subscribe", {"subjects": ["c"]}) for _ in range(4)]
        for stream in streams:
            stream.receive().addErrback(lambda _: None)
        for _ in range(60):
            for client, server in self.network.wires:
                self.network._move(client, server)
            before = len(looked)
            self.network.advance(0)
            self.assertLessEqual(len(looked) - before, BUDGET)
        self.network.deliver()
        self.assertEqual(len(looked), 4 * 12_000)
        looked.clear()
        costly = service.stream("subscribe", {"subjects": ["*.*"] + ["b"] * 9, "last": 12_000})
        costly.receive()
        for _ in range(4):
            for client, server in self.network.wires:
                self.network._move(client, server)
            before = len(looked)
            self.network.advance(0)
            # A pattern with a wildcard has to be matched: it costs as much again.
            self.assertLessEqual(len(looked) - before, BUDGET // 2)
        for stream in streams[:4]:
            (item,) = self.result(stream.receive())[1:]
            self.assertEqual(item[4], 0)


class MemoryTests(PublishCase):
    """A history without a publisher."""

    def test_a_history_keeps_what_it_is_to(self) -> None:
        """By number, by time and by bytes."""

        def fill(keep: KeptEvents, most: int = 1 << 20) -> list[int]:
            history = History(keep, most)
            for number in range(1, 5001):
                one = event(number)
                one.time = float(number)
                history.append(one)
                self.assertEqual(history.first + len(history), number + 1)
            self.assertEqual(history.last, 5000)
            numbers = list(range(history.first, 5001))
            self.assertEqual([history.at(one).sequence for one in numbers], numbers)
            self.assertEqual(history.size, 300 * len(numbers))
            return numbers

        self.assertEqual(fill(KeptEvents(count=0)), [])
        self.assertEqual(fill(KeptEvents(count=7)), list(range(4994, 5001)))
        self.assertEqual(fill(KeptEvents(seconds=3.0)), list(range(4997, 5001)))
        self.assertEqual(len(fill(KeptEvents(count=4000), 30_000)), 100)

    def test_numbers_and_times_are_read(self) -> None:
        """As a setting has them."""
        self.assertEqual(kept(5), KeptEvents(count=5))
        self.assertEqual(kept("5m"), KeptEvents(seconds=300.0))
        self.assertEqual([duration("x", one) for one in ("90s", "2h", "7d")], [90, 7200, 604800])
        for wrong in ("", "m", "5x", "-1s", "nan", -1, 1.5, True):
            with self.assertRaises(NumberRefused, msg=repr(wrong)):
                kept(wrong)  # type: ignore[arg-type]

    def test_times_are_found(self) -> None:
        """The last number before a time."""
        history = History(KeptEvents(count=100), 1 << 20)
        for number in range(1, 11):
            one: Any = event(number)
            one.time = number * 10.0
            history.append(one)
        self.assertEqual([history.before(t) for t in (0, 10, 11, 55, 101)], [0, 0, 1, 5, 10])
