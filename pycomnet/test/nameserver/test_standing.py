"""Weights, draining and failing checks, in a directory without network; and how they are kept."""

from __future__ import annotations

import json
from collections import Counter
from random import Random

import attrs
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.etcd import KeyValue
from pycomnet.nameserver.migration import as_line, from_line
from pycomnet.nameserver.records import Record
from pycomnet.nameserver.standing import Standing, after_operator, or_none, standing_of
from pycomnet.nameserver.stores.etcd.keys import ForeignValue, read_record, record_value
from pycomnet.nameserver.weightedchoice import FEW
from pycomnet.test.nameserver.kit import Registry, record

CALC = "org.example.calc"
NO_TAGS: frozenset[str] = frozenset()


class LocateTests(SynchronousTestCase):
    """Who is located."""

    def setUp(self) -> None:
        self.registry = Registry(random=Random(7).random)

    def have(self, name: str, standing: Standing | None = None, tags: tuple[str, ...] = ()) -> None:
        wanted = record(name, CALC, tags=tags)
        wanted.standing = standing
        self.registry.store.commit(
            self.registry.directory.proposal(wanted, self.registry.now),
        )

    def located(self, times: int, *tags: str) -> Counter[str]:
        found: Counter[str] = Counter()
        for _ in range(times):
            one = self.registry.directory.locate(CALC, None, frozenset(tags), self.registry.now)
            found[one.service if one else ""] += 1
        return found

    def test_without_weights_each_in_turn(self) -> None:
        for name in "abc":
            self.have(name)
        self.assertEqual(self.located(9), {"a": 3, "b": 3, "c": 3})

    def test_few_in_proportion_to_their_weights(self) -> None:
        self.have("a", Standing(weight=300))
        self.have("b")
        self.have("c", Standing(weight=600))
        found = self.located(10_000)
        self.assertApproximates(found["a"], 3000, 200)
        self.assertApproximates(found["b"], 1000, 200)
        self.assertApproximates(found["c"], 6000, 200)

    def test_many_in_proportion_to_their_weights(self) -> None:
        for number in range(2 * FEW):
            self.have(f"a{number}")
        for number in range(2 * FEW):
            self.have(f"b{number}", Standing(weight=400))
        found = self.located(10_000)
        heavy = sum(count for name, count in found.items() if name[0] == "b")
        self.assertApproximates(heavy, 8000, 200)
        self.assertEqual(len(found), 4 * FEW)

    def test_many_of_which_one_takes_callers(self) -> None:
        for number in range(10 * FEW):
            self.have(f"a{number}", Standing(failing=True))
        self.have("b", Standing(weight=1))
        self.assertEqual(self.located(50), {"b": 50})

    def test_weight_0_only_when_there_is_no_other(self) -> None:
        self.have("a", Standing(weight=0))
        self.have("b")
        self.assertEqual(self.located(50), {"b": 50})
        self.have("b", Standing(drains=True))
        self.assertEqual(self.located(50), {"a": 50})

    def test_draining_and_failing_ones_are_not_located_but_listed(self) -> None:
        for name, standing in (
            ("a", Standing(drains=True)),
            ("b", Standing(drained=True)),
            ("c", Standing(failing=True, said="no database")),
        ):
            self.have(name, standing)
            self.assertEqual(self.located(3), {"": 3}, name)
            directory, now = self.registry.directory, self.registry.now
            self.assertIsNone(directory.locate(None, name, NO_TAGS, now))
            self.assertIsNotNone(directory.find(name, now))
        self.assertEqual((directory.draining, directory.failing), (2, 1))
        self.have("d")
        self.assertEqual(self.located(5), {"d": 5})

    def test_tags_and_interfaces_hold_with_weights(self) -> None:
        self.have("a", Standing(weight=1000))
        self.have("b", Standing(weight=1), tags=("blue",))
        self.have("c", Standing(weight=1000, drains=True), tags=("blue",))
        self.assertEqual(self.located(20, "blue"), {"b": 20})

    def test_usual_again_it_is_in_turn_as_before(self) -> None:
        self.have("a", Standing(weight=5))
        self.have("b")
        self.have("a")
        self.assertEqual(self.located(10), {"a": 5, "b": 5})
        self.have("b", Standing(drains=True))
        held = self.registry.directory.find("b", self.registry.now)
        assert held is not None
        self.registry.unregister(held)
        self.assertEqual(self.located(4), {"a": 4})
        self.assertEqual(self.registry.directory.draining, 0)


class LeaseTests(SynchronousTestCase):
    """A new standing does not make the lease longer."""

    def test_lease_ends_when_it_did(self) -> None:
        registry = Registry()
        held = registry.register("a", ttl=10.0)
        registry.clock.advance(8)
        registry.store.commit(registry.directory.restanding(held, Standing(drained=True)))
        changed = registry.directory.find("a", registry.now)
        assert changed is not None
        self.assertEqual(changed.time_left(registry.now), 2.0)
        self.assertGreater(changed.fence, held.fence)
        registry.clock.advance(3)
        self.assertIsNone(registry.directory.find("a", registry.now))
        self.assertEqual(registry.directory.due(registry.now), [changed])

    def test_owner_still_renews(self) -> None:
        registry = Registry()
        held = registry.register("a", ttl=10.0)
        registry.store.commit(registry.directory.restanding(held, Standing(weight=1)))
        registry.clock.advance(8)
        renewed = registry.directory.renew(held.lease, "a secret of sixteen", registry.now)
        self.assertEqual(renewed.time_left(registry.now), 10.0)


class KeptTests(SynchronousTestCase):
    """How it is kept, and what has none."""

    ALL = Standing(7, True, True, True, True, "no database")

    def kept(self) -> Record:
        one = record()
        one.fence = 5
        one.standing = self.ALL
        return one

    def test_list(self) -> None:
        self.assertEqual(standing_of(self.ALL.as_list()), self.ALL)
        self.assertIsNone(standing_of(Standing().as_list()))
        self.assertIsNone(standing_of(None))
        for wrong in ([1], [-1, 0, ""], [1001, 0, ""], [1, 99, ""], [True, 0, ""], "x", [1, 0, 2]):
            self.assertRaises(ValueError, standing_of, wrong)

    def test_export(self) -> None:
        back, fence = from_line(as_line(self.kept()))
        self.assertEqual((back.standing, fence), (self.ALL, 5))

    def test_export_of_before_has_none(self) -> None:
        line = json.loads(as_line(self.kept()))
        del line["standing"]
        self.assertIsNone(from_line(json.dumps(line))[0].standing)

    def test_etcd(self) -> None:
        value = record_value(self.kept(), b"n" * 12, 3)
        kv = KeyValue(key=b"a", value=value, mod_revision=9, lease=1)
        self.assertEqual(read_record("a", kv)[0].standing, self.ALL)

    def test_etcd_value_of_before_has_none_and_is_the_same(self) -> None:
        plain = attrs.evolve(self.kept(), standing=None)
        value = record_value(plain, b"n" * 12, 3)
        self.assertNotIn(b"database", value)
        kv = KeyValue(key=b"a", value=value, mod_revision=9, lease=1)
        self.assertIsNone(read_record("a", kv)[0].standing)

    def test_etcd_value_with_another_list_is_foreign(self) -> None:
        value = record_value(self.kept(), b"n" * 12, 3).replace(b"no database", b"no databas\xff")
        kv = KeyValue(key=b"a", value=value, mod_revision=9, lease=1)
        self.assertRaises(ForeignValue, read_record, "a", kv)

    def test_what_an_operator_has_set_stays(self) -> None:
        self.assertEqual(
            after_operator(None, Standing(5, drains=True, drained=True, weighed=True)),
            Standing(5, drained=True, weighed=True),
        )
        self.assertIsNone(after_operator(None, Standing(5, drains=True)))
        self.assertIsNone(or_none(Standing()))
