"""Slow subscribers, over connections in memory: what they cost others, and what they are told."""

from __future__ import annotations

from typing import Any

from pycomnet.errors import Overloaded
from pycomnet.ext.pubsub import Gap, SlowSubscriber, TopicLimits
from pycomnet.test.ext.pubsub.kit import PublishCase
from pycomnet.wire.frames import WINDOW

#: An event of so many bytes: a window has room for few.
LONG = bytes(WINDOW // 8)


class SlowTests(PublishCase):
    """A subscriber that does not take what it gets."""

    settings = {"block": True, "limits": TopicLimits(blocked=2)}

    def flood(self, count: int = 40, key: Any = None) -> None:
        """Publish more than any window and bound have room for."""
        for number in range(count):
            self.topic.publish([number, LONG], None if key is None else key(number))
            self.network.deliver()

    def numbers(self, subscribed: Any) -> list[Any]:
        """What has come: numbers, and gaps."""
        return [one if isinstance(one, Gap) else one[0] for one in self.take(subscribed)]

    def test_others_get_all_while_one_is_stalled(self) -> None:
        """And what waits for that one is bounded (crossbar 583, 874; turnpike 128)."""
        stalled = self.subscribe(bound=1 << 19)
        other = self.subscribe(bound=1 << 19)
        seen: list[Any] = []
        for number in range(40):
            self.topic.publish([number, LONG])
            seen += self.numbers(other)
            for sink in self.topic.sinks.values():
                self.assertLessEqual(sink.intake.size, 1 << 19)  # type: ignore[attr-defined]
        self.assertEqual(seen, list(range(40)))
        found = self.numbers(stalled)
        (gap,) = [one for one in found if isinstance(one, Gap)]
        self.assertEqual(gap.count, 40 - (len(found) - 1))
        place = found.index(gap)
        self.assertEqual((gap.first, gap.last), (found[place - 1] + 2, found[place + 1]))
        self.assertEqual((gap.why, stalled.missed), ("bound", gap.count))
        self.assertEqual(self.topic.waiting.size, 0)

    def test_gaps_may_be_counted_only(self) -> None:
        """With ``gaps=False`` the stream has values alone."""
        stalled = self.subscribe(bound=1 << 19, gaps=False)
        self.flood()
        found = self.numbers(stalled)
        self.assertFalse([one for one in found if isinstance(one, Gap)])
        self.assertEqual(len(found) + stalled.missed, 40)

    def test_the_last_of_each_key_comes(self) -> None:
        """With ``latest``; the gap of a key is before its event."""
        stalled = self.subscribe(bound=1 << 19, policy="latest")
        self.flood(key=lambda number: "ab"[number % 2])
        found = self.numbers(stalled)
        self.assertEqual([one for one in found if not isinstance(one, Gap)][-2:], [38, 39])
        self.assertEqual({one.key for one in found if isinstance(one, Gap)}, {"a", "b"})

    def test_who_wants_all_or_nothing_is_disconnected(self) -> None:
        """With an error that says why, behind what had been sent."""
        stalled = self.subscribe(bound=1 << 19, policy="disconnect")
        self.flood()
        self.assertEqual(self.topic.sinks, {})
        self.assertEqual(self.topic.waiting.size, 0)
        with self.assertRaises(AssertionError) as raised:
            self.take(stalled)
        self.assertIn("SlowSubscriber", str(raised.exception))

    def test_a_subscriber_that_blocks_has_the_publisher_wait(self) -> None:
        """Where it allows that; nothing is lost, and further events are refused."""
        stalled = self.subscribe(bound=1 << 19, policy="block")
        waiting: list[Any] = []
        number = 0
        while not waiting or waiting[-1].called:
            waiting.append(self.topic.publish([number, LONG]))
            self.network.deliver()
            number += 1
        self.assertLess(number, 30)
        held = self.topic.publish([number, LONG])
        self.failureResultOf(self.topic.publish("too many"), Overloaded)
        self.assertEqual(self.numbers(stalled), list(range(number + 1)))
        for one in (*waiting, held):
            self.successResultOf(one)

    def test_who_blocks_and_leaves_holds_up_nobody(self) -> None:
        """Its end frees the publisher."""
        stalled = self.subscribe(bound=1 << 19, policy="block", context=self.other_context())
        other = self.subscribe()
        while self.topic.publish([0, LONG]).called:
            self.numbers(other)
        self.result(stalled.close())
        self.network.deliver()
        self.assertTrue(self.topic.publish("free").called)

    def test_who_holds_most_gives_way_and_nobody_else(self) -> None:
        """One client's stalled subscriptions take all that may wait: they lose it; what waits for
        others does so as before."""
        self.topic.waiting.most = 4 << 20
        greedy, kept = self.other_context(), []
        for _ in range(6):
            service = self.result(greedy.connect(self.address))
            stream = service.stream("subscribe", {"bound": 8 << 20, "subjects": ["a"]})
            self.result(stream.receive())
            kept.append(stream)
        good = self.subscribe("b")
        sink = list(self.topic.sinks.values())[-1]
        sink.waiting = True  # as one whose connection takes no more for the moment
        for number in range(30):
            self.topic.publish(bytes(1 << 20), subject="a")
            self.topic.publish([number, bytes(4000)], subject="b")
        self.assertLessEqual(self.topic.waiting.size, 8 << 20)
        sink.callback(None)
        self.network.deliver()
        found = [each[0] for each in self.take(good)]
        self.assertEqual(found, [*range(30)])

    def test_one_long_event_after_another_disconnects_nobody(self) -> None:
        """8 MB, and again after 70 seconds (redis 3893), with any policy."""
        for policy in ("drop_oldest", "drop_newest", "latest", "disconnect", "block"):
            one = self.subscribe(bound=1024, policy=policy)
            for _ in range(2):
                self.topic.publish(bytes(8 << 20))
                receiving = one.receive()
                self.network.deliver()
                self.assertEqual(len(self.successResultOf(receiving)), 8 << 20)
                self.network.wait(70, step=10)
            self.result(one.close())

    def test_a_publisher_may_limit_how_long_it_waits(self) -> None:
        """Then the subscriber is ended, and the others go on."""
        self.topic.pressure.seconds = 5.0
        stalled = self.subscribe(bound=1 << 19, policy="block")
        while (waiting := self.topic.publish([0, LONG])).called:
            self.network.deliver()
        self.network.wait(4)
        self.assertNoResult(waiting)
        self.network.wait(2)
        self.successResultOf(waiting)
        self.assertEqual(self.topic.sinks, {})
        for _ in range(20):
            receiving = stalled.receive()
            self.network.deliver()
            if not isinstance(receiving.result, (list, Gap)):
                break
            self.successResultOf(receiving)
        self.failureResultOf(receiving, SlowSubscriber)
