"""The index finds what is there, and lets each have its turn."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.nameserver import index as index_module
from pycomnet.nameserver import roundrobin
from pycomnet.nameserver.index import Index
from pycomnet.nameserver.records import Record
from pycomnet.nameserver.roundrobin import Ring
from pycomnet.test.nameserver.kit import record
from pycomnet.test.properties import examples, settings

NONE: frozenset[str] = frozenset()


def live(*args: Any, **options: Any) -> Record:
    one = record(*args, **options)
    one.ends = 100.0
    return one


class RingTests(SynchronousTestCase):
    """Turns."""

    def ring(self, size: int) -> Ring:
        first, second, *rest = (live(str(number)) for number in range(size))
        ring = Ring(first, second)
        for one in rest:
            ring.add(one)
        return ring

    def turns(self, ring: Ring, count: int) -> list[str]:
        found = [ring.next(0.0) for _ in range(count)]
        return [one.service for one in found if one is not None]

    def test_each_has_its_turn_in_order(self) -> None:
        """Each has its turn, in order, small and large."""
        for size in (2, 5, roundrobin.SHORT + 1):
            names = [str(number) for number in range(size)]
            self.assertEqual(self.turns(self.ring(size), 2 * size), names * 2)

    def test_ended_has_no_turn(self) -> None:
        """One whose lease is over has no turn; with none left there is nobody."""
        ring = self.ring(4)
        ring.items[1].ends = 0.0
        self.assertEqual(self.turns(ring, 4), ["0", "2", "3", "0"])
        for one in ring:
            one.ends = 0.0
        self.assertEqual(self.turns(ring, 4), [])

    def test_those_with_the_tags_take_turns(self) -> None:
        """Those that have the tags take turns."""
        ring = self.ring(6)
        for one in ring.items[::2]:
            one.tags = ("t", "u")
        found = [ring.next(0.0, frozenset({"t"})) for _ in range(4)]
        self.assertEqual([one and one.service for one in found], ["0", "2", "4", "0"])

    def test_others_keep_their_turns_when_one_is_removed(self) -> None:
        """Whatever is removed, the others keep their turns."""
        for size in (5, roundrobin.SHORT + 3):
            ring = self.ring(size)
            gone = ring.items[::3]
            for one in gone:
                ring.remove(one)
            names = {str(number) for number in range(size)} - {one.service for one in gone}
            counts = Counter(self.turns(ring, 3 * len(names)))
            self.assertEqual(counts, dict.fromkeys(names, 3))


class IndexTests(SynchronousTestCase):
    """Finding."""

    def setUp(self) -> None:
        self.index = Index()

    def put(self, *args: Any, **options: Any) -> Record:
        one = live(*args, **options)
        self.index.put(one)
        return one

    def found(self, interface: str, *tags: str) -> str | None:
        one = self.index.next(interface, frozenset(tags), 0.0)
        return None if one is None else one.service

    def test_found_by_each_of_its_interfaces_alone(self) -> None:
        """By each of its interfaces, and no other."""
        self.put("a", "x", "y")
        self.assertEqual([self.found(name) for name in "xyz"], ["a", "a", None])

    def test_rare_tag_of_a_common_interface_is_found(self) -> None:
        """A rare tag of a common interface is found, and its records take turns."""
        for number in range(200):
            self.put(f"s{number:03}", "x", tags=("rare",) if number in (50, 150) else ())
        self.put("other", "y", tags=("rare", "only"))
        self.assertEqual(
            [self.found("x", "rare") for _ in range(4)], ["s050", "s150", "s050", "s150"]
        )
        self.assertEqual(self.found("y", "rare", "only"), "other")
        self.assertIsNone(self.found("x", "rare", "only"))
        self.assertIsNone(self.found("x", "unknown"))

    def test_replaced_record_is_found_by_its_own_interfaces_alone(self) -> None:
        """What takes a record's place is found by its own interfaces and tags alone."""
        self.put("a", "x", "y", tags=("t", "u"))
        self.put("b", "x")
        self.put("a", "y", "z", tags=("u", "v"))
        self.assertEqual([self.found("x") for _ in range(2)], ["b", "b"])
        self.assertEqual([self.found(name) for name in "yz"], ["a", "a"])
        self.assertEqual([self.found("y", tag) for tag in "tuv"], [None, "a", "a"])

    def test_nothing_is_left_when_all_is_removed(self) -> None:
        """When all is removed nothing is left."""
        names = [
            self.put(f"s{n}", f"i{n % 7}", f"j{n % 3}", tags=(f"t{n % 5}",)) for n in range(60)
        ]
        for one in names:
            self.assertIs(self.index.remove(one.service), one)
        self.assertIsNone(self.index.remove("s0"))
        index = self.index
        kept = [index.names, index.leases, index._interfaces, index._tags, index._order]
        self.assertEqual([len(part) for part in kept], [0] * 5)

    def test_records_share_equal_metadata(self) -> None:
        """Records share what they have in common: a million may have the same metadata."""
        a, b, c = (
            self.put(name, interface, tags=("t",), metadata={"version": "1.0"})
            for name, interface in (("a", "x"), ("b", "x"), ("c", "y"))
        )
        self.assertIs(a.interfaces, b.interfaces)
        for one in (b, c):
            self.assertIs(a.tags, one.tags)
            self.assertIs(a.metadata, one.metadata)
            self.assertIs(a.ttl, one.ttl)

    def test_shared_pool_is_bounded(self) -> None:
        """What is remembered to be shared has a bound."""
        self.patch(index_module, "POOL", 10)
        for number in range(50):
            self.put(f"s{number}", metadata={"number": number})
        self.assertLess(len(self.index._pool), 15)

    def test_filled_at_once_is_as_one_by_one(self) -> None:
        """Many at once are found as if they had come one by one."""
        self.put("m", "x")
        self.index.fill([live("z", "x"), live("a", "x")])
        self.index.fill([live("q", "y")])
        self.index.sort()
        self.assertEqual(list(self.index.after("")), ["a", "m", "q", "z"])
        self.assertEqual(list(self.index.after("m")), ["q", "z"])
        self.assertEqual(list(self.index.after("m", True)), ["m", "q", "z"])
        self.assertEqual({self.found("x") for _ in range(3)}, {"a", "m", "z"})


class IndexMachine(RuleBasedStateMachine):
    """Against a dict of records, over any sequence of registrations and removals."""

    names = st.sampled_from("abcdef")
    some = st.lists(st.sampled_from("xyz"), min_size=1, max_size=3, unique=True)

    def __init__(self) -> None:
        super().__init__()
        self.index = Index()
        self.model: dict[str, Record] = {}

    @rule(name=names, interfaces=some, tags=st.lists(st.sampled_from("tu"), unique=True))
    def put(self, name: str, interfaces: list[str], tags: list[str]) -> None:
        one = live(name, *interfaces, tags=tuple(tags))
        assert self.index.put(one) is self.model.get(name)
        self.model[name] = one

    @rule(name=names)
    def remove(self, name: str) -> None:
        assert self.index.remove(name) is self.model.pop(name, None)

    @invariant()
    def same(self) -> None:
        assert self.index.names == self.model
        assert set(self.index.leases.values()) == set(self.model.values())
        assert list(self.index.after("")) == sorted(self.model)
        for interface in "xyz":
            for tags in (NONE, frozenset("t"), frozenset("tu")):
                right = {
                    name
                    for name, one in self.model.items()
                    if interface in one.interfaces and tags <= set(one.tags)
                }
                found = [self.index.next(interface, tags, 0.0) for _ in range(len(right) or 1)]
                got = {one.service for one in found if one is not None}
                assert got == right, (got, right)


class IndexModelTests(IndexMachine.TestCase):  # type: ignore[misc,valid-type]
    """Run by trial as any other."""

    settings = settings(max_examples=examples(60), stateful_step_count=30, deadline=None)
