"""Leases end when they should, however often they are renewed."""

from __future__ import annotations

from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.nameserver import leases
from pycomnet.nameserver.leases import GRAIN, Leases
from pycomnet.nameserver.records import Record
from pycomnet.test.nameserver.kit import record
from pycomnet.test.properties import given

NEVER = 1e9


def ending(at: float) -> Record:
    """A record whose lease ends then."""
    one = record()
    one.ends = at
    return one


class LeasesTests(SynchronousTestCase):
    """What is due, and when."""

    def setUp(self) -> None:
        self.leases = Leases()

    def add(self, at: float) -> Record:
        one = ending(at)
        self.leases.add(one)
        return one

    def test_due_once_and_never_before_its_end(self) -> None:
        """Each is due once, at most a grain after its end and never before."""
        late, early = self.add(20.0), self.add(10.0)
        self.assertEqual(self.leases.due(9.99, 100), [])
        self.assertEqual(self.leases.due(10.0 + GRAIN, 100), [early])
        self.assertEqual(self.leases.due(10.0 + GRAIN, 100), [])
        self.assertEqual(self.leases.due(NEVER, 100), [late])
        self.assertIsNone(self.leases.next_time())

    def test_renewed_lease_is_put_off(self) -> None:
        """A renewed lease is put off."""
        one = self.add(10.0)
        one.ends = 25.0
        self.assertEqual(self.leases.due(11.0, 100), [])
        self.assertGreater(self.leases.next_time() or 0.0, 25.0 - GRAIN)
        self.assertEqual(self.leases.due(26.0, 100), [one])

    def test_dropped_lease_is_never_due(self) -> None:
        """A dropped one is never due."""
        one = self.add(10.0)
        self.leases.drop(one)
        self.assertEqual(self.leases.due(NEVER, 100), [])

    def test_no_more_are_due_than_asked_for(self) -> None:
        """However many end at once, no more are looked at than asked for; the rest comes next."""
        ones = {self.add(10.0) for _ in range(25)}
        found: list[Record] = []
        for expected in (10, 10, 5, 0):
            some = self.leases.due(11.0, 10)
            self.assertEqual(len(some), expected)
            found += some
        self.assertEqual(set(found), ones)

    def test_next_time_is_when_something_is_due(self) -> None:
        """It says when to look, and then something is done."""
        self.assertIsNone(self.leases.next_time())
        one = self.add(10.1)
        at = self.leases.next_time()
        assert at is not None
        self.assertTrue(10.1 <= at <= 10.1 + GRAIN)
        self.assertEqual(self.leases.due(at, 100), [one])

    def test_removed_records_do_not_pile_up(self) -> None:
        """Records that are gone long before their time don't pile up."""
        self.patch(leases, "MAX_GONE", 10)
        kept = [self.add(5000.0) for _ in range(3)]
        for number in range(1000):
            self.leases.drop(self.add(4000.0 + number))
        held = sum(map(len, self.leases._slots.values()))
        self.assertLess(held, 40)
        self.assertEqual(set(self.leases.due(NEVER, 1000)), set(kept))
        self.assertIsNone(self.leases.next_time())

    @given(st.lists(st.tuples(st.floats(0, 50), st.sampled_from(["add", "renew", "drop", "look"]))))
    def test_behaves_as_a_list_of_ends(self, operations: list[tuple[float, str]]) -> None:
        """As a plain list of ends would have it, at any time and in any order."""
        wheel, live, now = Leases(), set[Record](), 0.0
        for number, (amount, what) in enumerate(operations):
            if what == "add":
                one = ending(now + amount)
                wheel.add(one)
                live.add(one)
            elif what == "look":
                now += amount
                due = wheel.due(now, 1000)
                self.assertTrue(all(one.ends <= now for one in due))
                live.difference_update(due)
                self.assertTrue(all(one.ends > now - GRAIN for one in live))
            elif live:
                one = sorted(live, key=lambda one: one.lease)[number % len(live)]
                if what == "renew":
                    one.ends = max(one.ends, now + amount)
                else:
                    wheel.drop(one)
                    live.discard(one)
        self.assertEqual(set(wheel.due(now + 100 + GRAIN, 1000)), live)
