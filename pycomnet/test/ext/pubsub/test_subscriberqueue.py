"""What waits for a slow subscriber: bounds, policies, and what is told of the rest."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.ext.pubsub.events import OVERHEAD, EncodedEvent
from pycomnet.ext.pubsub.history import History, KeptEvents
from pycomnet.ext.pubsub.subjects import Patterns
from pycomnet.ext.pubsub.subscriberqueue import (
    Missed,
    Notice,
    Policy,
    SubscriberQueue,
    WaitingBytes,
)
from pycomnet.test.properties import given

SIZE = OVERHEAD + 100


def event(number: int, key: str | None = None, size: int = 100, subject: str = "") -> EncodedEvent:
    return EncodedEvent(number, subject, key, 0.0, bytes(size))


def shown(items: list[Any]) -> list[Any]:
    """Numbers of events, and (count, first, last) of what is missing."""
    return [
        (one.count, one.first, one.last) if isinstance(one, Missed) else one.sequence
        for one in items
    ]


class SubscriberQueueTests(SynchronousTestCase):
    """A subscriber queue that has room for three events."""

    def make(self, policy: Policy, room: int = 3, most: int = 1 << 30) -> SubscriberQueue:
        self.waiting = WaitingBytes(most)
        self.history = History(KeptEvents(count=10), 1 << 20)
        return SubscriberQueue(Patterns([">"]), policy, room * SIZE, self.history, self.waiting)

    def test_drop_oldest_tells_what_is_missing_before_the_rest(self) -> None:
        """The newest are kept."""
        intake = self.make(Policy.DROP_OLDEST)
        for number in range(1, 8):
            self.assertTrue(intake.offer(event(number)))
        self.assertEqual(shown(intake.take(1 << 20)), [(4, 1, 4), 5, 6, 7])
        self.assertEqual(intake.dropped, 4)

    def test_drop_newest_tells_it_behind_the_first(self) -> None:
        """The oldest are kept; the gap is where the others were."""
        intake = self.make(Policy.DROP_NEWEST)
        for number in range(1, 8):
            intake.offer(event(number))
        self.assertEqual(shown(intake.take(SIZE)), [1])
        intake.offer(event(8))
        self.assertEqual(shown(intake.take(1 << 20)), [2, 3, (4, 4, 7), 8])

    def test_latest_keeps_the_last_of_each_key(self) -> None:
        """A and B interleaved: the last of each (libzmq 1688), and how many each has replaced."""
        intake = self.make(Policy.LATEST)
        for number in range(1, 9):
            intake.offer(event(number, "AB"[number % 2]))
        self.assertEqual(shown(intake.take(1 << 20)), [(3, 1, 5), 7, (3, 2, 6), 8])

    def test_latest_is_bounded_with_any_number_of_keys(self) -> None:
        """What does not fit is dropped and counted, with what it had replaced."""
        intake = self.make(Policy.LATEST)
        for number in range(1, 9):
            intake.offer(event(number, str(number // 2)))
        found = intake.take(1 << 20)
        self.assertEqual(shown(found), [(3, 1, 3), (1, 4, 4), 5, (1, 6, 6), 7, 8])
        self.assertEqual(intake.size, 0)

    def test_disconnect_and_block_keep_all_and_say_that_it_is_too_much(self) -> None:
        """What is to be done is for others."""
        for policy in (Policy.DISCONNECT, Policy.BLOCK):
            intake = self.make(policy)
            self.assertEqual([intake.offer(event(n)) for n in range(5)], [True] * 3 + [False] * 2)

    def test_one_event_may_always_wait(self) -> None:
        """However long it is (redis 3893): with any policy."""
        for policy in Policy:
            intake = self.make(policy)
            self.assertTrue(intake.offer(event(1, size=8 << 20)))
            self.assertEqual(shown(intake.take(1)), [1])

    def test_what_is_dropped_later_counts_with_what_was_dropped_before(self) -> None:
        """Memory is needed, and a gap is among the events: it is a part of the new one. A notice
        of the publisher stays."""
        for told in (False, True):
            intake = self.make(Policy.DROP_NEWEST, 600)
            for number in range(1, 701):
                intake.offer(event(number))
            self.assertEqual(shown(intake.take(500 * SIZE)), [*range(1, 501)])
            for number in range(701, 901):
                intake.offer(event(number))
            if told:
                intake.tell(b"told")
            for number in range(901, 1181):
                intake.offer(event(number))
            while intake.shrink():
                pass
            found = intake.take(1 << 30)
            if told:
                (notice,) = [one for one in found if isinstance(one, Notice)]
                self.assertEqual(notice.payload, b"told")
                found.remove(notice)
            first, *rest = shown(found)
            self.assertEqual(first, (rest[0] - 501, 501, rest[0] - 1))
            self.assertGreater(rest[0], 901)
            self.assertEqual(rest, [*range(rest[0], 1181)])

    def test_who_has_to_give_memory_back_drops_half(self) -> None:
        """With any policy by which events are dropped; what is missing is told."""
        for policy in (Policy.DROP_OLDEST, Policy.DROP_NEWEST, Policy.LATEST):
            intake = self.make(policy, room=2000)
            for number in range(1, 1001):
                intake.offer(event(number, str(number)))
            before = intake.held
            self.assertTrue(intake.shrink())
            self.assertLessEqual(intake.held, before // 2)
            self.assertEqual(self.waiting.size, intake.held)
            gap, *rest = intake.take(1 << 20)
            assert isinstance(gap, Missed)
            self.assertEqual((gap.first, gap.count), (1, 1000 - len(rest)))

    @given(
        st.sampled_from(list(Policy)),
        st.lists(
            st.one_of(st.tuples(st.integers(1, 2000), st.sampled_from("abc")), st.none()),
            max_size=60,
        ),
    )
    def test_nothing_is_lost_without_being_told(self, policy: Policy, steps: list[Any]) -> None:
        """With any policy and order of events and taking: events and gaps are all there were, the
        numbers of one key rise, and what waits is 0 bytes once all is taken (nats.py 372)."""
        intake = self.make(policy)
        number = 0
        items: list[Any] = []
        for step in steps:
            if step is None:
                items += intake.take(SIZE)
            else:
                number += 1
                intake.offer(event(number, step[1], step[0]))
            if policy not in (Policy.DISCONNECT, Policy.BLOCK):
                self.assertTrue(intake.size <= intake.bound or len(intake) <= 2)
        while intake.has_more():
            items += intake.take(SIZE)
        self.assertEqual((intake.size, self.waiting.size), (0, 0))
        seen = [one for one in items if not isinstance(one, Missed)]
        missed = sum(one.count or 0 for one in items if isinstance(one, Missed))
        self.assertEqual(len(seen) + missed, number)
        self.assertEqual(missed, intake.dropped)
        for key in "abc":
            numbers = [one.sequence for one in seen if one.key == key]
            self.assertEqual(numbers, sorted(numbers))
        if policy is not Policy.LATEST:
            numbers = [one.sequence for one in seen]
            self.assertEqual(numbers, sorted(numbers))

    def test_the_history_is_read_before_what_is_new(self) -> None:
        """What is published meanwhile comes once, behind it."""
        intake = self.make(Policy.DROP_OLDEST)
        for number in range(1, 6):
            self.history.append(event(number))
        intake.cursor = 2
        self.assertEqual(shown(intake.take(SIZE)), [3])
        self.history.append(six := event(6))
        intake.offer(six)
        self.assertEqual(shown(intake.take(1 << 20)), [4, 5, 6])
        self.history.append(seven := event(7))
        intake.offer(seven)
        self.assertEqual(shown(intake.take(1 << 20)), [7])

    def test_a_history_that_does_not_reach_back_is_told(self) -> None:
        """The gap has the numbers that are missing."""
        intake = self.make(Policy.DROP_OLDEST)
        for number in range(1, 31):
            self.history.append(event(number))
        intake.cursor = 5
        self.assertEqual(intake.take(1 << 20), [])
        self.assertTrue(intake.lacking)
        intake.lost(self.history.first)
        self.assertEqual(shown(intake.take(1 << 20)), [(15, 6, 20), *range(21, 31)])
