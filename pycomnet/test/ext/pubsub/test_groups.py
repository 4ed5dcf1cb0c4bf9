"""Groups: each event goes to one, and what was not acknowledged goes to another."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer

from pycomnet.errors import CallInterrupted, InvalidArguments, Overloaded, PycomnetError
from pycomnet.ext.pubsub import Restarted, groups, publisher, subscriber
from pycomnet.ranges import NumberRefused
from pycomnet.services.client.remoteservice import RemoteService
from pycomnet.test.ext.pubsub.kit import PublishCase


class GroupCase(PublishCase):
    """A test with members of a group."""

    def member(self, **options: Any) -> Any:
        """A member with a connection of its own."""
        return self.subscribe(group="workers", context=self.other_context(), **options)


class GroupTests(GroupCase):
    """A group in memory."""

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
        (sink,) = self.topic.sinks.values()
        self.assertEqual(sink.lag(), 3)
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
        (sink,) = self.topic.sinks.values()
        self.assertLess(sink.size, 12_000)
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
        (sink,) = self.topic.sinks.values()
        invoke = sink.group.acknowledge  # type: ignore[attr-defined]
        self.assertEqual(self.successResultOf(invoke(sink, [7, 1, 1])), 1)
        self.assertEqual(self.successResultOf(invoke(sink, [1])), 0)

    def test_what_is_acknowledged_while_others_wait_for_the_turn_is_forgotten(self) -> None:
        """Else it would count as one of those that the group may have handed out."""
        self.patch(groups, "SPAN", 4)
        one = self.member()
        (sink,) = self.topic.sinks.values()
        acknowledge = sink.group.acknowledge  # type: ignore[attr-defined]
        for number in range(1, 40, 2):
            for each in (number, number + 1):
                self.successResultOf(self.topic.publish(each))
            self.assertEqual(self.successResultOf(acknowledge(sink, [number])), 1)
            self.assertEqual(self.successResultOf(acknowledge(sink, [number])), 0)
            self.network.deliver()
            self.assertEqual(self.successResultOf(acknowledge(sink, [number + 1])), 1)
        self.assertEqual(self.take(one), list(range(1, 41)))

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

    def test_a_wrong_number_of_values_takes_none(self) -> None:
        """It is refused before."""
        one = self.member()
        self.publish(1)
        self.network.deliver()
        self.assertRaises(NumberRefused, one.receive_many, 0)
        self.assertEqual(self.result(one.receive()), 1)

    def test_values_that_were_taken_together_are_acknowledged_with_the_next(self) -> None:
        """Not before: who is killed while working at them loses none."""
        one = self.member()
        self.publish(1, 2, 3, 4)
        self.assertEqual(self.result(one.receive_many(10)), [1, 2, 3, 4])
        self.network.deliver()
        (sink,) = self.topic.sinks.values()
        self.assertEqual(list(sink.unacknowledged), [1, 2, 3, 4])  # type: ignore[attr-defined]
        self.publish(5)
        self.assertEqual(self.result(one.receive()), 5)
        self.network.deliver()
        self.assertEqual(list(sink.unacknowledged), [5])  # type: ignore[attr-defined]

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
        self.assertEqual(len(self.topic.sinks), 1)

    def test_members_see_the_end_once_all_is_acknowledged(self) -> None:
        """Until then another may be lost, whose events they get."""
        one, other = self.member(prefetch=2), self.member(prefetch=2)
        self.publish(*range(4))
        self.topic.end()
        self.network.deliver()
        self.assertEqual(len(self.topic.sinks), 2)
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


class RestartTests(GroupCase):
    """Members are told that the publisher's generator runs again."""

    def test_each_member_is_told_once_and_in_its_place(self) -> None:
        """Behind the events from before, and ahead of those from after."""
        members = [self.member() for _ in range(3)]
        self.publish(*range(9))
        self.topic.tell_restarted("ValueError: x")
        self.publish(*range(9, 18))
        found: list[Any] = []
        for one in members:
            got = self.take(one)
            place = got.index(Restarted("ValueError: x"))
            before, after = got[:place], got[place + 1 :]
            self.assertEqual((len(before), len(after)), (3, 3))
            self.assertTrue(max(before) < 9 <= min(after), got)
            found += before + after
        self.assertEqual(sorted(found), list(range(18)))

    def test_who_has_all_that_it_may_have_is_told_at_once(self) -> None:
        """A notice waits for no acknowledgement."""
        one = self.member(prefetch=1)
        self.publish(1)
        self.assertEqual(self.result(one.receive_event()).value, 1)
        self.topic.tell_restarted("x")
        self.network.deliver()
        self.assertEqual(self.result(one.receive_event()), Restarted("x"))

    def test_what_waits_comes_before_the_notice(self) -> None:
        """Nobody has room: the events from before the restart come first."""
        one = self.member(prefetch=1)
        self.publish(1, 2)
        self.topic.tell_restarted("x")
        self.publish(3)
        got = []
        for _ in range(4):
            receiving = one.receive()
            self.network.deliver()
            got.append(self.successResultOf(receiving))
        self.assertEqual(got, [1, 2, Restarted("x"), 3])

    def test_who_stalls_is_told_when_it_takes_again(self) -> None:
        """The batch before it is on its way only then."""
        one, other = self.member(), self.member()
        first, _ = self.topic.sinks.values()
        first.waiting = True
        self.topic.tell_restarted("x")
        self.network.deliver()
        self.assertEqual(self.take(other), [Restarted("x")])
        self.assertEqual(self.take(one), [])
        first.callback(None)
        self.network.deliver()
        self.assertEqual(self.take(one), [Restarted("x")])


class DeadlineTests(GroupCase):
    """Members that hang: what they have goes to others after a time."""

    def test_what_a_member_that_hangs_has_goes_to_others(self) -> None:
        """They see that it was handed out before."""
        hangs, works = self.member(prefetch=5, ack_timeout=30.0), self.member()
        self.publish(*range(10))
        had = {event.value for event in self.take(hangs, events=True)}
        self.assertEqual(len(had), 5)
        first = self.take(works, events=True)
        for event in first:
            self.result(event.acknowledge())
        self.network.wait(29)
        self.assertEqual(self.take(works), [])
        self.network.wait(2)
        later = self.take(works, events=True)
        self.assertEqual({event.value for event in later}, had)
        self.assertEqual({event.deliveries for event in first}, {1})
        self.assertEqual({event.deliveries for event in later}, {2})

    def test_who_is_late_gets_nothing_until_it_acknowledges(self) -> None:
        """Else it would be given again what it has just lost."""
        hangs, works = self.member(prefetch=2, ack_timeout=30.0), self.member(prefetch=2)
        self.publish(1)
        (event,) = self.take(hangs, events=True)
        self.network.wait(31)
        self.assertEqual(self.result(works.receive()), 1)
        self.publish(*range(2, 8))
        self.assertEqual(self.take(hangs), [])
        self.failure(event.acknowledge(), CallInterrupted)  # another has it
        self.assertEqual(len(self.take(hangs, events=True)), 2)

    def test_who_says_nothing_of_its_events_stays_late(self) -> None:
        """An acknowledgement of none, or of what it never had, is no sign that it works."""
        self.member(prefetch=2, ack_timeout=30.0)
        self.member()
        self.publish(1, 2)
        self.network.wait(31)
        (late,) = [one for one in self.topic.sinks.values() if one.is_late]
        for numbers in ([], [77]):
            self.assertEqual(self.successResultOf(late.group.acknowledge(late, numbers)), 0)
            self.assertTrue(late.is_late)

    def test_who_was_late_gets_no_more_than_it_has_done_with(self) -> None:
        """What others were given still waits for its user: more behind that would be late, too."""
        hangs, full = self.member(prefetch=3, ack_timeout=30.0), self.member(prefetch=20)
        self.publish(*range(20))
        had = self.take(hangs, events=True)
        self.assertEqual(len(had), 3)
        self.network.wait(31)
        kept = self.take(full, events=True)
        self.assertEqual(len(kept), 20)
        self.publish(*range(100, 110))
        had_more = []
        for event in had:
            self.network.wait(29)
            self.failure(event.acknowledge(), CallInterrupted)
            had_more.append(len(self.take(hangs, events=True)))
        self.assertEqual(had_more, [1, 1, 1])

    def test_the_only_member_goes_on_when_it_is_well_again(self) -> None:
        """Nothing that it has comes to its user twice, and all is acknowledged in the end."""
        one = self.member(prefetch=3, ack_timeout=30.0)
        self.publish(*range(9))
        first = self.result(one.receive())
        self.network.wait(100)
        got = [first]
        for _ in range(8):
            receiving = one.receive()
            self.network.deliver()
            got.append(self.successResultOf(receiving))
        self.assertEqual(got, list(range(9)))
        self.result(one.acknowledge_last())
        (sink,) = self.topic.sinks.values()
        self.assertEqual((sink.lag(), self.topic.waiting.size), (0, 0))

    def test_the_time_is_for_one_event(self) -> None:
        """Who works slowly at what it has is not late."""
        slow, other = self.member(prefetch=10, ack_timeout=30.0), self.member(prefetch=1)
        self.publish(*range(5))
        self.assertEqual(self.result(other.receive_event()).value, 1)  # it has no room for more
        for event in self.take(slow, events=True):
            self.network.wait(29)
            self.result(event.acknowledge())
        self.assertEqual(self.take(other), [])
        self.network.wait(31)  # it has nothing, so nothing is late
        self.publish(5)
        self.assertEqual(self.take(slow), [5])

    def test_only_who_is_in_a_group_acknowledges(self) -> None:
        """Both ends say so."""
        with self.assertRaises(InvalidArguments):
            subscriber("a.b", ack_timeout=1.0)
        stream = self.connect().stream("subscribe", {"ack_timeout": 1.0})
        self.failure(stream.receive(), InvalidArguments)
        stream = self.connect().stream("subscribe", {"group": "a", "ack_timeout": 0.0})
        self.assertIn("ack_timeout", str(self.failure(stream.receive(), PycomnetError)))
        with self.assertRaises(NumberRefused):
            publisher("a.b", ack_timeout=-1)

    def test_who_is_lost_is_counted_as_well(self) -> None:
        """However an event came back: it was handed out before."""
        one = self.member()
        self.publish(1)
        self.take(one, events=True)
        self.result(one.close())
        other = self.member()
        self.result(other.when_subscribed())
        (event,) = self.take(other, events=True)
        self.assertEqual(event.deliveries, 2)
        self.result(event.acknowledge())


class PublishersDeadlineTests(GroupCase):
    """A publisher that gives the members of its groups a time."""

    settings = {"ack_timeout": 10.0}

    def test_nobody_has_more_time(self) -> None:
        """Less, if it asks for that."""
        for asked, has in ((None, 10), (60.0, 10), (5.0, 5)):
            hangs = self.member(ack_timeout=asked)
            self.publish("a")
            self.assertEqual(len(self.take(hangs, events=True)), 1)
            works = self.member()
            self.network.wait(has - 1)
            self.assertEqual(self.take(works), [])
            self.network.wait(2)
            (event,) = self.take(works, events=True)
            self.result(event.acknowledge())
            self.result(hangs.close())
            self.result(works.close())
            self.network.deliver()
