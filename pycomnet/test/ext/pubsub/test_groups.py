"""Groups: each event goes to one, and what was not acknowledged goes to another."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer

from pycomnet.errors import CallInterrupted, InvalidArguments, Overloaded
from pycomnet.services.client.remoteservice import RemoteService
from pycomnet.test.ext.pubsub.kit import PublishCase


class GroupTests(PublishCase):
    """A group in memory."""

    def member(self, **options: Any) -> Any:
        """A member with a connection of its own."""
        return self.subscribe(group="workers", context=self.other_context(), **options)

    def test_each_event_goes_to_one(self) -> None:
        """And all of them to somebody, about as many to each."""
        members = [self.member(prefetch=5) for _ in range(3)]
        every = self.subscribe()
        self.publish(*range(30))
        found: list[Any] = []
        counts = [0] * 3
        for _ in range(30):
            for place, one in enumerate(members):
                receiving = one.receive()
                self.network.deliver()
                if receiving.called:
                    found.append(self.successResultOf(receiving))
                    counts[place] += 1
                else:
                    receiving.cancel()
                    self.failureResultOf(receiving)
        self.assertEqual(sorted(found), list(range(30)))
        self.assertTrue(all(5 <= count <= 15 for count in counts), counts)
        self.assertEqual(self.take(every), list(range(30)))

    def test_who_is_lost_hands_on_what_it_had_not_acknowledged(self) -> None:
        """Once, and nothing of what it had."""
        one, other = self.member(prefetch=4), self.member(prefetch=100)
        self.publish(*range(8))
        mine = [self.result(one.receive()) for _ in range(2)]  # the first is acknowledged by now
        self.network.deliver()
        done = mine[:1]
        self.result(one.close())
        self.network.deliver()
        found = self.take(other)
        self.assertEqual(sorted(found + done), list(range(8)))

    def test_nobody_gets_more_than_it_may_have_unacknowledged(self) -> None:
        """The rest waits until it acknowledges."""
        one = self.member(prefetch=3)
        self.publish(*range(10))
        (outlet,) = self.topic.outlets.values()
        self.assertEqual(outlet.lag(), 3)
        events = [self.result(one.receive_event()) for _ in range(3)]
        receiving = one.receive_event()
        self.network.deliver()
        self.assertNoResult(receiving)
        self.result(events[0].acknowledge())
        self.network.deliver()
        self.assertEqual(self.successResultOf(receiving).value, 3)

    def test_bytes_that_are_not_acknowledged_are_bounded(self) -> None:
        """Whatever their number may be: the publisher keeps them for others."""
        self.member(prefetch=10_000, bound=10_000)
        self.publish(*[bytes(1000)] * 100)
        (outlet,) = self.topic.outlets.values()
        self.assertLess(outlet.size, 12_000)
        self.assertLess(self.topic.waiting.size, 2 * 12_000)

    def test_a_group_without_members_keeps_what_waits_for_a_minute(self) -> None:
        """Then it is forgotten."""
        one = self.member()
        self.publish("a")
        self.result(one.close())
        self.network.deliver()
        self.publish("b")
        other = self.member()
        self.assertEqual(self.take(other), ["a", "b"])
        self.result(other.close())
        self.network.wait(61, step=5)
        self.assertEqual((len(self.topic.groups), self.topic.waiting.size), (0, 0))

    def test_a_group_that_nobody_serves_is_bounded(self) -> None:
        """The oldest events are dropped, and a member is told."""
        one = self.member(bound=10_000)
        self.result(one.close())
        self.network.deliver()
        self.publish(*[bytes(1000)] * 100)
        self.assertLessEqual(self.topic.waiting.size, 10_000)
        other = self.member(bound=10_000)
        gap, *values = self.take(other)
        self.assertEqual(gap.count + len(values), 100)

    def test_what_is_acknowledged_twice_or_by_another_counts_for_nothing(self) -> None:
        """Only what this one has."""
        self.member()
        self.publish(1)
        (outlet,) = self.topic.outlets.values()
        invoke = outlet.group.acknowledge  # type: ignore[attr-defined]
        self.assertEqual(self.successResultOf(invoke(outlet, [7, 1, 1])), 1)
        self.assertEqual(self.successResultOf(invoke(outlet, [1])), 0)

    def test_an_event_of_another_epoch_is_not_acknowledged(self) -> None:
        """The publisher began anew, and counts from 1 again: its new events come."""
        one = self.member()
        self.publish("a1", "a2", "a3")
        old = self.take(one, events=True)
        self.restart()
        self.network.wait(10)
        for event in old:
            self.failure(event.acknowledge(), CallInterrupted)
        self.publish("b1", "b2", "b3", "b4")
        gap, *found = self.take(one, events=True)
        self.assertEqual(gap.why, "restarted")
        self.assertEqual([each.value for each in found], ["b1", "b2", "b3", "b4"])

    def test_values_that_were_taken_together_are_acknowledged_with_the_next(self) -> None:
        """Not before: who is killed while working at them loses none."""
        one = self.member()
        self.publish(1, 2, 3, 4)
        self.assertEqual(self.result(one.receive_many(10)), [1, 2, 3, 4])
        self.network.deliver()
        (outlet,) = self.topic.outlets.values()
        self.assertEqual(list(outlet.unacknowledged), [1, 2, 3, 4])  # type: ignore[attr-defined]
        self.publish(5)
        self.assertEqual(self.result(one.receive()), 5)
        self.network.deliver()
        self.assertEqual(list(outlet.unacknowledged), [5])  # type: ignore[attr-defined]

    def test_an_acknowledgement_that_comes_too_late_fails(self) -> None:
        """The event has gone to another member meanwhile: who was lost is not told otherwise."""
        one = self.member()
        self.publish(1)
        (event,) = self.take(one, events=True)
        self.network.cut()
        other = self.member()
        self.assertEqual(self.take(other), [1])
        self.network.wait(10)
        self.failure(event.acknowledge(), CallInterrupted)

    def test_what_could_not_be_acknowledged_is_acknowledged_later(self) -> None:
        """A server that is busy for a while does not stop a group for good."""
        one = self.member(prefetch=3)
        refused: list[int] = []
        original = RemoteService.invoke

        def invoke(service: Any, name: str, *args: Any, **options: Any) -> Any:
            if name == "acknowledge" and len(refused) < 5:
                refused.append(1)
                return defer.fail(Overloaded("for a moment"))
            return original(service, name, *args, **options)

        self.patch(RemoteService, "invoke", invoke)
        self.publish(*range(20))
        found: list[Any] = []
        for _ in range(40):
            found += self.take(one)
            self.network.wait(5)
        self.assertEqual((found, len(refused)), ([*range(20)], 5))

    def test_a_group_has_one_filter(self) -> None:
        """A member with another one is refused."""
        self.member()
        stream = self.connect().stream("subscribe", {"group": "workers", "subjects": ["a"]})
        self.failure(stream.receive(), InvalidArguments)
        self.assertEqual(len(self.topic.outlets), 1)

    def test_members_see_the_end_once_all_is_acknowledged(self) -> None:
        """Until then another may be lost, whose events they get."""
        one, other = self.member(prefetch=2), self.member(prefetch=2)
        self.publish(*range(4))
        self.topic.end()
        self.network.deliver()
        self.assertEqual(len(self.topic.outlets), 2)
        self.result(other.close())
        self.network.deliver()
        self.assertEqual(sorted(self.take_to_end(one)), list(range(4)))

    def take_to_end(self, one: Any) -> list[Any]:
        """All values, up to the end."""
        found: list[Any] = []
        while True:
            receiving = one.receive()
            self.network.deliver()
            if not hasattr(receiving, "result") or not isinstance(receiving.result, int):
                receiving.addErrback(lambda _: None)
                return found
            found.append(self.successResultOf(receiving))
