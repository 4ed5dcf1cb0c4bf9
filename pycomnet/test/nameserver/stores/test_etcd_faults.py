"""The store on etcd: writes that are lost or late, restores, and what etcd refuses."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer

from pycomnet.errors import StoreConflict, StoreCutOff, StoreFailed, StoreUncertain
from pycomnet.etcd import (
    EtcdLeaseExists,
    EtcdNoSpace,
    EtcdPermissionDenied,
    EtcdTimeout,
    EtcdUnavailable,
    PutRequest,
)
from pycomnet.nameserver.records import Delete, Put
from pycomnet.nameserver.stores.etcd import commits, pages
from pycomnet.nameserver.stores.etcd.keys import base_value
from pycomnet.test.nameserver.kit import record
from pycomnet.test.nameserver.stores.test_etcd import EtcdCase, Front


class FaultCase(EtcdCase):
    """What the tests below share."""

    def lease_of(self, name: str = "s") -> int:
        """The lease of a registration."""
        return self.a.follower.records[name][0].lease

    def mirror(self, front: Front) -> Any:
        """What a nameserver knows."""
        return front.store._mirror

    def assert_agree(self) -> None:
        """Both nameservers know what etcd has."""
        start = b"/pycomnet/names/s/"
        there = {key[len(start) :].decode() for key in self.model.keys if key.startswith(start)}
        self.assertEqual((set(self.a.names), set(self.b.names)), (there, there))
        for name in there:
            self.assertEqual(self.a.follower.fence_of(name), self.b.follower.fence_of(name))


class LeaseTests(FaultCase):
    """The leases of registrations."""

    def test_grant_whose_answer_was_lost_is_its_own(self) -> None:
        """If a lease was granted and nobody heard of it, the registration gets it."""
        self.a.client.losing["grant"] = 1
        wanted = record("s")
        number = wanted.lease
        self.done(self.a.store.commit(Put(wanted)))
        self.assertEqual((wanted.lease, self.lease_of()), (number, number))
        self.assertEqual(len(self.model.leases), 3)  # of the two nameservers, and this

    def test_grant_that_arrives_late_is_made_once(self) -> None:
        """A grant that is repeated, and executed afterwards as well, makes one lease."""
        self.a.client.late["grant"] = 1
        self.done(self.a.store.commit(Put(record("s"))))
        self.a.client.arrive()
        self.assertEqual(len(self.model.leases), 3)
        self.assertIn("s", self.b.names)

    def test_lease_of_another_is_not_taken(self) -> None:
        """A number that somebody else has is not shared: the registration gets another one."""
        self.put(self.a, "s")
        second = record("t")
        second.lease = self.lease_of()
        self.done(self.b.store.commit(Put(second)))
        self.assertNotEqual(second.lease, self.lease_of())
        self.done(self.b.store.commit(Delete("t", self.b.follower.fence_of("t"))))
        self.assertEqual(set(self.a.names), {"s"})

    def test_import_of_a_lease_that_is_used_is_refused(self) -> None:
        """Where the owner has the number already, another one would not help: that is said."""
        self.put(self.a, "s")
        second = record("t")
        second.lease = self.lease_of()
        importing = self.b.store.commit(Put(second, keeps_lease=True))
        self.run_for(0.5)
        problem = self.failureResultOf(importing, StoreFailed).value
        self.assertIn("import into another cluster", str(problem))
        self.assertIn(self.lease_of(), self.model.leases)

    def test_late_end_of_a_former_lease_ends_no_new_registration(self) -> None:
        """What was acknowledged stays, when the end of the removed one's lease comes after it."""
        self.put(self.a, ttl=60.0)
        held = self.a.follower.records["s"][0]
        self.a.client.late["revoke"] = 1
        self.done(self.a.store.commit(Delete("s", held.fence)))
        again = record("s", address="tcp:h:2", ttl=60.0)
        again.lease = held.lease
        self.done(self.b.store.commit(Put(again)))
        self.a.client.arrive()
        self.run_for(0.5)
        self.assertNotIn(held.lease, self.model.leases)
        self.assertEqual(self.a.names, {"s": "tcp:h:2"})

    def test_refused_registration_leaves_no_lease(self) -> None:
        """Who was quicker has the name; the lease of the other is ended."""
        before = len(self.model.leases)
        first = self.a.store.commit(Put(record("s", address="tcp:h:1")))
        second = self.b.store.commit(Put(record("s", address="tcp:h:2")))
        self.run_for(0.5)
        self.successResultOf(first)
        self.failureResultOf(second, StoreConflict)
        self.assertEqual(len(self.model.leases), before + 1)

    def test_late_try_registers_nobody_who_was_refused(self) -> None:
        """A first try that is executed at last, when the name is free again, does nothing."""
        self.a.client.late["txn"] = 1
        losing = self.a.store.commit(Put(record("s", address="tcp:h:1")))
        self.clock.advance(0)
        self.put(self.b, "s", "tcp:h:2")
        self.run_for(1.0)
        self.failureResultOf(losing, StoreConflict)
        self.done(self.b.store.commit(Delete("s", self.b.follower.fence_of("s"))))
        self.a.client.arrive()
        self.run_for(0.5)
        self.assertEqual((self.a.names, self.b.names), ({}, {}))

    def test_refusal_waits_for_the_end_of_its_lease(self) -> None:
        """While a lost try may still register, it is not told that the name was taken."""
        self.a.client.late["txn"] = 1
        self.a.client.losing["revoke"] = 1
        losing = self.a.store.commit(Put(record("s", address="tcp:h:1")))
        self.clock.advance(0)
        self.put(self.b, "s", "tcp:h:2")
        self.run_for(1.0)
        self.failureResultOf(losing, StoreUncertain)


class RefusedTests(FaultCase):
    """What etcd refuses."""

    def test_refusal_after_a_lost_answer_is_uncertain(self) -> None:
        """A try that was lost may have succeeded, whatever the next is told; it goes on."""
        for kind in (EtcdNoSpace, EtcdPermissionDenied):
            name = kind.__name__
            self.a.client.hold()
            self.a.client.lose = 1
            putting = self.a.store.commit(Put(record(name)))
            self.clock.advance(0)
            self.clock.advance(0)
            self.model.refusal = kind("refused")
            self.run_for(0.5)
            self.failureResultOf(putting, StoreUncertain)
            self.assertIn(name, self.b.names)
            self.model.refusal = None
            self.a.client.release()
            self.run_for(2.0)
            self.assertEqual(self.a.store._commits.pending, 0)  # type: ignore[union-attr]
            self.assertIn(name, self.a.names)

    def test_refusals_are_logged_once(self) -> None:
        """A thousand registrations that etcd has no space for make no thousand tracebacks."""
        logged: list[Any] = []
        for level in ("error", "failure"):
            self.patch(commits.log, level, lambda text, *args, **more: logged.append(text))
        self.model.refusal = EtcdNoSpace("etcdserver: mvcc: database space exceeded")
        asked = [self.a.store.commit(Put(record(f"s{number}"))) for number in range(50)]
        self.run_for(1.0)
        for one in asked:
            self.failureResultOf(one, StoreFailed)
        self.assertEqual(len(logged), 1)

    def test_waits_for_a_new_leader(self) -> None:
        """Without a leader for three seconds, a registration is late and not refused."""
        self.model.refusal = EtcdUnavailable("etcdserver: no leader")
        putting = self.a.store.commit(Put(record("s")))
        self.run_for(3.5)
        self.assertNoResult(putting)
        self.model.refusal = None
        self.run_for(1.5)
        self.successResultOf(putting)

    def test_renewal_waits_for_a_new_leader(self) -> None:
        """So does a renewal; in the end the error does not say that nothing has changed."""
        self.put(self.a, "s")
        held = self.a.follower.records["s"][0]
        keepalive, until = self.model.keepalive, self.clock.seconds() + 1.5

        def leaderless(number: int) -> int:
            if number == held.lease and self.clock.seconds() < until:
                raise EtcdTimeout("no answer")
            return keepalive(number)

        self.model.keepalive = leaderless  # type: ignore[method-assign]
        renewing = self.a.store.renew(held)
        self.run_for(1.0)
        self.assertNoResult(renewing)
        self.run_for(1.5)
        self.successResultOf(renewing)
        until = float("inf")
        renewing = self.a.store.renew(held)
        self.run_for(5.0)
        problem = self.failureResultOf(renewing, StoreCutOff).value
        self.assertIn("may have been renewed", str(problem))

    def test_gives_up_what_was_never_made(self) -> None:
        """Without a leader for longer, the error says that nothing was changed, and nothing is."""
        self.model.refusal = EtcdUnavailable("etcdserver: no leader")
        putting = self.a.store.commit(Put(record("s")))
        self.run_for(6.0)
        problem = self.failureResultOf(putting, StoreCutOff).value
        self.assertIn("no leader", str(problem))
        self.model.refusal = None
        self.run_for(3.0)
        self.assertEqual(self.b.names, {})
        self.assertEqual(len(self.model.leases), 2)

    def test_pages_are_as_long_as_etcd_bears(self) -> None:
        """Where large records make an answer too long, fewer are read at a time."""
        for number in range(20):
            self.put(self.a, f"s{number:02}", metadata=b"m" * 4000)
        self.model.most_bytes = 10_000
        self.patch(pages, "PAGE", 16)
        late = Front(self, "late")
        self.run_for(1.0)
        self.successResultOf(late.opening)
        self.assertEqual(late.names, self.a.names)
        self.b.client.cut = True
        self.put(self.a, "new")
        self.model.compact()
        self.b.client.mend()
        self.run_for(3.0)
        self.assert_agree()

    def test_slow_pages_become_shorter(self) -> None:
        """Where an answer does not come in time, fewer are asked for at a time."""
        asked: list[int] = []
        self.patch(pages, "READING", 1.0)
        client = self.model.client()
        ranging = client.range

        def limited(request: Any, *, timeout: float | None = None) -> Any:
            limit = getattr(request, "limit", 0)
            if limit > 100:
                asked.append(limit)
                client.cut = True
                try:
                    return ranging(request, timeout=timeout)
                finally:
                    client.cut = False
            return ranging(request, timeout=timeout)

        client.range = limited  # type: ignore[method-assign]
        self.put(self.a, "s")
        reading = defer.Deferred.fromCoroutine(
            pages.read_all(client, self.a.store._layout.records, list)  # type: ignore[arg-type]
        )
        self.run_for(5.0)
        _, found = self.successResultOf(reading)
        self.assertEqual((len(found), asked), (1, [500, 250, 125]))


class RestoreTests(FaultCase):
    """A cluster that was restored from a snapshot, while nameservers run, under the same id."""

    def restore(self, others: int = 0) -> int:
        """Register names, restore what was before them; the highest fence of "lost".

        :param others: writes that others make in that etcd before a nameserver does.
        """
        self.put(self.a, "kept")
        self.run_for(1.0)  # a sign of life of each
        snapshot = self.model.snapshot()
        last = 0
        for number in range(20):
            last = self.put(self.b, "lost", f"tcp:h:{number}")
        self.run_for(2.0)
        self.base = 2_000_000
        self.model.restore(snapshot, self.model.cluster_id)
        for number in range(others):
            self.model.execute(PutRequest(b"/other", b"%d" % number))
        return last

    def test_restore_of_a_full_etcd_is_seen_without_signs_of_life(self) -> None:
        """While etcd refuses them, the reads in their place show that it was restored: what was
        lost does not count as fresh, and the memory is compared as soon as there is space."""
        self.restore()
        self.model.is_full = True
        self.run_for(8.0)
        for front in (self.a, self.b):
            self.assertGreater(front.store.staleness(), 4.0)
        self.model.is_full = False
        self.run_for(8.0)
        for front in (self.a, self.b):
            self.assertEqual((front.store.staleness(), set(front.names)), (0.0, {"kept"}))

    def first_after_restore(self, lost: int) -> None:
        """A name that was gone, of which the memory has nothing, is registered before a sign of
        life has shown the restore: its fence is the highest, and is known where it was given.

        :param lost: how many transactions have no answer.
        """
        self.put(self.a, "kept")
        self.run_for(1.0)
        snapshot = self.model.snapshot()
        last = 0
        for number in range(20):
            last = self.put(self.b, "n", f"tcp:h:{number}")
        self.done(self.b.store.commit(Delete("n", last)))
        self.base = 2_000_000
        self.model.restore(snapshot, self.model.cluster_id)
        self.a.client.lose = lost
        putting = self.a.store.commit(Put(record("n")))
        for _ in range(40):
            self.clock.advance(0)
        self.run_for(0.4)
        fence = self.successResultOf(putting)
        self.assertGreater(fence, last)
        self.assertIn("n", self.a.names)
        self.run_for(3.0)
        self.assert_agree()
        self.assertEqual(self.a.follower.fence_of("n"), fence)

    def test_first_registration_has_the_highest_fence(self) -> None:
        """An answer whose revision is none that could be is no success yet."""
        self.first_after_restore(lost=0)

    def test_first_registration_whose_answer_was_lost_has_the_highest_fence(self) -> None:
        """Nor is the registration that the next try finds."""
        self.first_after_restore(lost=1)

    def test_all_compare_when_one_raises_the_base(self) -> None:
        """A nameserver that learns of a higher base compares, though no revision goes back."""
        mirror = self.mirror(self.b)
        self.restore()
        self.b.store._beating.stop()
        self.run_for(2.0)
        for number in range(60):
            self.put(self.a, f"x{number}")
        self.b.store._beating.start(1.0)
        self.run_for(5.0)
        self.assertGreater(mirror.comparisons, 0)
        self.assert_agree()
        self.assertNotIn("lost", self.b.names)

    def test_higher_base_from_a_refused_change_makes_it_compare(self) -> None:
        """So it does if a refused transaction shows the base, before the watch does."""
        self.b.client.hold()
        mirror = self.mirror(self.b)
        self.model.execute(
            PutRequest(self.b.store._layout.base, base_value(3_000_000, self.model.cluster_id))
        )
        self.assertGreater(self.put(self.b, "s"), 3_000_000)
        self.assertEqual(mirror.comparisons, 1)

    def test_seen_by_the_sign_of_life_that_is_gone(self) -> None:
        """Where others write so much that no revision goes back, the lost sign of life shows it."""
        last = self.restore(others=100)
        self.run_for(5.0)
        self.assert_agree()
        self.assertEqual(set(self.a.names), {"kept"})
        self.assertGreater(self.put(self.a, "lost"), last)

    def test_seen_by_the_lease_that_is_gone(self) -> None:
        """So does the lease of the signs of life, if the snapshot is older than that."""
        self.put(self.a, "kept", ttl=600.0)
        snapshot = self.model.snapshot()
        snapshot["keys"] = {k: v for k, v in snapshot["keys"].items() if b"/n/" not in k}
        used = {kv.lease for kv in snapshot["keys"].values()}
        snapshot["leases"] = {k: v for k, v in snapshot["leases"].items() if k in used}
        last = self.put(self.b, "lost")
        self.base = 2_000_000
        self.model.restore(snapshot, self.model.cluster_id)
        for number in range(100):
            self.model.execute(PutRequest(b"/other", b"%d" % number))
        self.run_for(5.0)
        self.assert_agree()
        self.assertGreater(self.put(self.a, "lost"), last)

    def test_base_that_changes_on_the_way_costs_no_time(self) -> None:
        """If the watch tells of another base before the answer does, it is tried again at once."""
        real, first = self.model.txn, [True]

        def txn(*args: Any) -> Any:
            if first:
                first.clear()
                value = base_value(3_000_000, self.model.cluster_id)
                self.model.execute(PutRequest(self.a.store._layout.base, value))
            return real(*args)

        self.model.txn = txn  # type: ignore[assignment,method-assign]
        self.assertGreater(self.put(self.a, "s"), 3_000_000)

    def test_nothing_is_compared_where_nothing_was_restored(self) -> None:
        """Signs of life that are lost or late, and a lease that ended by time, raise no base."""
        base = self.mirror(self.a).base
        self.a.client.losing["put"] = 2
        self.run_for(4.0)
        self.a.client.late["put"] = 2
        self.run_for(4.0)
        self.a.client.arrive()
        self.run_for(4.0)
        self.assertEqual(self.mirror(self.a).comparisons, 0)
        self.a.client.cut = True
        self.run_for(15.0)
        self.a.client.mend()
        self.run_for(3.0)
        self.assertEqual((self.mirror(self.a).base, self.mirror(self.b).base), (base, base))
        self.assertEqual(self.mirror(self.b).comparisons, 0)

    def test_a_lease_has_one_owner(self) -> None:
        """The model refuses what etcd refuses."""
        lease = next(iter(self.model.leases))
        self.assertRaises(EtcdLeaseExists, self.model.grant, 5, lease)
