"""The store on etcd, on a model of etcd: each fault at the moment that the test chooses."""

from __future__ import annotations

import sys
from typing import Any
from unittest import mock

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from pycomnet.errors import LeaseLost, StoreConflict, StoreCutOff, StoreFailed, StoreUncertain
from pycomnet.etcd import EtcdLeaseNotFound, RangeRequest
from pycomnet.interfaces import ISharedNameStore
from pycomnet.nameserver.records import EXPIRED, UNREGISTERED, Delete, Put
from pycomnet.nameserver.stores.etcd import mirror as mirrors
from pycomnet.nameserver.stores.etcd import pages
from pycomnet.nameserver.stores.etcd import store as stores
from pycomnet.nameserver.stores.etcd.description import describe, make
from pycomnet.nameserver.stores.etcd.keys import (
    Bases,
    ForeignValue,
    lease_seconds,
    read_record,
    read_why,
)
from pycomnet.nameserver.stores.etcd.store import EtcdStore
from pycomnet.test.nameserver.conformance import StoreConformance
from pycomnet.test.nameserver.etcdmodel import EtcdModel, ModelClient
from pycomnet.test.nameserver.kit import Follower, record

BASE = 1_000_000


class EtcdStoreTests(StoreConformance, TestCase):
    """It passes what every store has to."""

    in_order = False
    many = 500

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor = reactor
        self.model = EtcdModel(reactor)

    def make_store(self) -> EtcdStore:
        return EtcdStore(self.model.client, self.reactor)  # type: ignore[arg-type]


class Front:
    """A nameserver's store, and its follower."""

    def __init__(self, case: EtcdCase, identity: str) -> None:
        self.client: ModelClient = case.model.client()
        self.store = EtcdStore(
            lambda: self.client,  # type: ignore[arg-type,return-value]
            case.clock,
            identity=identity,
            endpoints=("tcp:a:2379",),
            seconds=case.clock.seconds,
            revisions=lambda: case.base,
        )
        self.follower = Follower()
        self.opening = self.store.open(self.follower)

    @property
    def names(self) -> dict[str, str]:
        """What it knows."""
        return {name: one.address for name, (one, _) in self.follower.records.items()}


class EtcdCase(SynchronousTestCase):
    """Two nameservers on one model of etcd."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000.0)
        self.base = BASE
        self.model = EtcdModel(self.clock)
        self.a = Front(self, "a")
        self.b = Front(self, "b")
        self.run_for(0.5)
        self.successResultOf(self.a.opening)
        self.successResultOf(self.b.opening)

    def run_for(self, seconds: float) -> None:
        """Let time pass, and etcd end leases."""
        for _ in range(int(seconds * 20)):
            self.clock.advance(0.05)
            self.model.expire()

    def done(self, deferred: Any, seconds: float = 1.0) -> Any:
        self.run_for(seconds)
        return self.successResultOf(deferred)

    def put(self, front: Front, name: str = "s", address: str = "tcp:h:1", **more: Any) -> int:
        """Register; the fence."""
        wanted = record(name, address=address, **more)
        fence: int = self.done(
            front.store.commit(Put(wanted, front.follower.fence_of(name))), seconds=0.3
        )
        return fence


class SharingTests(EtcdCase):
    """Several nameservers."""

    def test_provides_the_interface_of_shared_stores(self) -> None:
        """It is a store that is shared."""
        verifyObject(ISharedNameStore, self.a.store)

    def test_each_sees_what_the_others_register(self) -> None:
        """What one registers and removes is known at the other, with the same fence and reason."""
        fence = self.put(self.a)
        self.assertEqual(self.b.follower.fence_of("s"), fence)
        self.done(self.b.store.commit(Delete("s", fence)))
        self.assertEqual(self.a.names, {})
        for front in (self.a, self.b):
            last = front.follower.changes[-1]
            self.assertEqual((last.service, last.why), ("s", UNREGISTERED))
        self.assertEqual(
            [change.revision for change in self.a.follower.changes],
            [change.revision for change in self.b.follower.changes],
        )

    def test_lease_ends_for_all_as_expired(self) -> None:
        """A lease that nobody renews ends at all nameservers, and the reason is that."""
        self.put(self.a, ttl=5.0)
        self.run_for(6.0)
        for front in (self.a, self.b):
            self.assertEqual(front.names, {})
            self.assertEqual(front.follower.changes[-1].why, EXPIRED)

    def test_renewed_at_one_lives_for_all_without_a_write(self) -> None:
        """A service that renews at another nameserver lives, and no revision is made by it."""
        self.put(self.a, ttl=5.0)
        held, _ = self.b.follower.records["s"]
        changes = len(self.a.follower.changes)
        for _ in range(6):
            self.done(self.b.store.renew(held), seconds=2.0)
        self.assertIn("s", self.a.names)
        self.assertEqual(len(self.a.follower.changes), changes)

    def test_lost_lease_is_said_by_etcd(self) -> None:
        """A renewal of a lease that etcd has ended fails, whatever the memory has."""
        self.put(self.a, ttl=5.0)
        held, _ = self.b.follower.records["s"]
        self.b.client.hold()
        self.run_for(2.0)
        self.model.revoke(held.lease)
        renewing = self.b.store.renew(held)
        self.run_for(0.2)
        self.failureResultOf(renewing, LeaseLost)

    def test_lease_that_a_member_does_not_know_yet_is_renewed(self) -> None:
        """A member that says there is no lease, while its key is there, is asked again."""
        self.put(self.a, ttl=5.0)
        held, _ = self.a.follower.records["s"]
        self.run_for(2.0)
        answers, keepalive = [EtcdLeaseNotFound("not yet")] * 2, self.model.keepalive

        def renew(lease: int) -> int:
            if lease == held.lease and answers:
                raise answers.pop()
            return keepalive(lease)

        self.patch(self.model, "keepalive", renew)
        self.done(self.a.store.renew(held))
        self.assertEqual(answers, [])
        self.run_for(2.0)
        self.assertIn("s", self.a.names)
        self.done(self.a.store.renew(held))
        answers += [EtcdLeaseNotFound("never")] * 100
        renewing = self.a.store.renew(held)
        self.run_for(4.0)
        self.failureResultOf(renewing, StoreCutOff)

    def test_two_at_once_have_one_winner(self) -> None:
        """Of two who register a name at the same moment one gets it; the other learns who."""
        first = self.a.store.commit(Put(record("s", address="tcp:h:1")))
        second = self.b.store.commit(Put(record("s", address="tcp:h:2")))
        self.run_for(0.3)
        self.successResultOf(first)
        self.failureResultOf(second, StoreConflict)
        self.assertEqual(self.b.names, {"s": "tcp:h:1"})

    def test_replaced_registration_ends_the_lease_of_the_former(self) -> None:
        """The lease of the former owner is revoked, and the registration does not go with it."""
        self.put(self.a, "s")
        before = self.a.follower.records["s"][0].lease
        self.put(self.b, "s", "tcp:h:2")
        self.assertNotIn(before, self.model.leases)
        self.run_for(1.0)
        self.assertEqual(self.a.names, {"s": "tcp:h:2"})

    def test_owner_keeps_the_lease(self) -> None:
        """Registering again with the same lease keeps it; with another time it gets another."""
        self.put(self.a)
        held = self.a.follower.records["s"][0]
        again = record("s", address="tcp:h:2")
        again.lease = held.lease
        self.done(self.a.store.commit(Put(again, held.fence)))
        self.assertEqual(self.a.follower.records["s"][0].lease, held.lease)
        longer = record("s", address="tcp:h:3", ttl=60.0)
        longer.lease = held.lease
        self.done(self.a.store.commit(Put(longer, again.fence)))
        self.assertNotEqual(longer.lease, held.lease)
        self.assertEqual(self.b.follower.records["s"][0].lease, longer.lease)
        self.assertNotIn(held.lease, self.model.leases)

    def test_cluster_lists_nameservers_and_members(self) -> None:
        """It lists the nameservers that run, and the members."""
        found = self.done(self.a.store.cluster())
        self.assertEqual([one["id"] for one in found["nameservers"]], ["a", "b"])
        self.assertEqual([one["name"] for one in found["members"]], ["a"])
        self.assertTrue(found["members"][0]["reached"])
        self.done(self.b.store.close())
        found = self.done(self.a.store.cluster())
        self.assertEqual([one["id"] for one in found["nameservers"]], ["a"])


class UncertainTests(EtcdCase):
    """Answers that never come."""

    def test_change_whose_answer_was_lost_is_known_by_the_watch(self) -> None:
        """A lost answer does no harm: the watch brings the change, and it is made once."""
        self.a.client.lose = 1
        fence = self.put(self.a)
        self.assertEqual(self.b.follower.fence_of("s"), fence)
        self.assertEqual(len(self.a.follower.changes), 1)

    def test_lost_answer_is_known_by_the_repetition(self) -> None:
        """If the watch lags, the repeated transaction shows that the first has succeeded."""
        self.a.client.hold()
        self.a.client.lose = 1
        wanted = record("s")
        putting = self.a.store.commit(Put(wanted))
        self.run_for(1.0)
        self.assertNoResult(putting)  # this nameserver has not seen it
        self.a.client.release()
        self.assertEqual(self.successResultOf(putting), wanted.fence)
        self.assertEqual(len(self.b.follower.changes), 1)

    def test_uncertain_is_neither_success_nor_failure(self) -> None:
        """While nobody knows, the error says so; the store goes on until it knows."""
        self.a.client.lose = 1
        self.a.client.hold()
        putting = self.a.store.commit(Put(record("s")))
        self.run_for(0.1)
        self.a.client.cut = True
        self.run_for(6.0)
        self.failureResultOf(putting, StoreUncertain)
        self.a.client.release()
        self.a.client.mend()
        self.run_for(3.0)
        self.assertEqual(self.a.names, {"s": "tcp:127.0.0.1:1"})
        self.assertEqual(self.a.store._commits.pending, 0)  # type: ignore[union-attr]

    def test_what_waits_behind_an_uncertain_change_was_not_sent(self) -> None:
        """Changes that wait behind it are refused as not made, and never are made."""
        self.a.client.cut = True
        first = self.a.store.commit(Put(record("s", address="tcp:h:1")))
        second = self.a.store.commit(Put(record("s", address="tcp:h:2")))
        self.run_for(21.0)
        self.failureResultOf(first, StoreCutOff, StoreUncertain)
        self.failureResultOf(second, StoreCutOff)
        self.a.client.mend()
        self.run_for(5.0)
        self.assertNotEqual(self.a.names.get("s"), "tcp:h:2")

    def test_removal_whose_answer_was_lost(self) -> None:
        """A removal, too, is known in the end, and is made once."""
        fence = self.put(self.a)
        self.a.client.lose = 1
        self.a.client.hold()
        removing = self.a.store.commit(Delete("s", fence))
        self.run_for(1.0)
        self.a.client.release()
        self.run_for(1.0)
        self.successResultOf(removing)
        self.assertEqual(self.a.names, {})

    def test_lost_change_that_was_replaced_is_a_conflict_in_the_end(self) -> None:
        """If others have replaced what was registered before its outcome was known, that is told
        once the watch has shown what has happened."""
        self.a.client.lose = 1
        self.a.client.hold()
        putting = self.a.store.commit(Put(record("s", address="tcp:h:1")))
        self.clock.advance(0)
        self.clock.advance(0)
        self.a.client.cut = True
        self.run_for(0.5)
        self.assertEqual(self.b.names, {"s": "tcp:h:1"})
        self.put(self.b, "s", "tcp:h:2")
        self.a.client.cut = False
        self.run_for(6.0)
        self.failureResultOf(putting, StoreUncertain)
        self.assertEqual(self.a.store._commits.pending, 1)  # type: ignore[union-attr]
        self.a.client.held = False
        self.a.client.mend()
        self.run_for(6.0)
        self.assertEqual(self.a.store._commits.pending, 0)  # type: ignore[union-attr]
        self.assertEqual(self.a.names, self.b.names)

    def test_lease_that_ends_before_the_transaction_is_granted_again(self) -> None:
        """If the lease has ended between the two steps, it is granted again."""
        wanted = record("s")
        putting = self.a.store.commit(Put(wanted))
        self.clock.advance(0)  # the grant
        self.model.leases.pop(wanted.lease)
        self.run_for(0.5)
        self.successResultOf(putting)
        self.assertIn("s", self.b.names)


class LagTests(EtcdCase):
    """A nameserver whose member lags."""

    def test_refresh_waits_for_what_was_acknowledged(self) -> None:
        """Reading a name again waits until the memory has what etcd has."""
        self.b.client.hold()
        fence = self.put(self.a)
        refreshing = self.b.store.refresh("s")
        self.run_for(0.3)
        self.assertNoResult(refreshing)
        self.b.client.release()
        self.successResultOf(refreshing)
        self.assertEqual(self.b.follower.fence_of("s"), fence)

    def test_refresh_of_a_lease_finds_its_name(self) -> None:
        """A lease that the memory does not know yet is looked up, with the name that it is of."""
        self.b.client.hold()
        self.put(self.a)
        lease = self.a.follower.records["s"][0].lease
        refreshing = self.b.store.refresh_lease(lease)
        self.run_for(0.3)
        self.assertNoResult(refreshing)
        self.b.client.release()
        self.successResultOf(refreshing)
        self.done(self.b.store.refresh_lease(12345))
        self.done(self.b.store.refresh_lease(-1))
        self.done(self.b.store.refresh_lease(1 << 80))

    def test_refresh_costs_one_read_where_nothing_lags(self) -> None:
        """Where the memory is right, it is one read."""
        self.put(self.a)
        before = self.b.client.requests.count("range")
        self.done(self.b.store.refresh("s"), seconds=0.1)
        self.assertEqual(self.b.client.requests.count("range"), before + 1)


class CutOffTests(EtcdCase):
    """A nameserver that is cut off from etcd."""

    def test_knows_it_within_five_seconds(self) -> None:
        """It knows, says how stale it is, refuses changes and renewals, and recovers by itself."""
        self.put(self.a)
        held = self.a.follower.records["s"][0]
        self.a.client.cut = True
        self.run_for(5.0)
        self.assertGreater(self.a.store.staleness(), 3.0)
        self.assertTrue(self.a.store.freshness()["cut_off"])
        self.failureResultOf(self.a.store.commit(Put(record("t"))), StoreCutOff)
        self.failureResultOf(self.a.store.renew(held), StoreCutOff)
        self.failureResultOf(self.a.store.refresh("s"), StoreCutOff)
        self.assertEqual(self.b.store.staleness(), 0.0)
        self.a.client.mend()
        self.run_for(3.0)
        self.assertEqual(self.a.store.staleness(), 0.0)
        self.put(self.a, "t")

    def test_staleness_is_shown_when_the_watch_is_late(self) -> None:
        """A nameserver that follows shows 0.0 at any time, to ``stat`` and to the others; one whose
        watch hangs shows the seconds, before it is cut off too."""

        def shown() -> tuple[Any, Any]:
            found = self.done(self.b.store.cluster(), seconds=0.1)
            (seen,) = (one["stale"] for one in found["nameservers"] if one["id"] == "a")
            return self.a.store.freshness()["stale"], seen

        for _ in range(12):
            self.run_for(0.15)
            self.assertEqual(shown(), (0.0, 0.0))
        self.a.client.hold()
        self.run_for(3.0)
        own, seen = shown()
        self.assertTrue(2.0 < seen <= own < 4.5, (seen, own))
        self.assertEqual(self.a.store.staleness(), 0.0)

    def test_full_database_cuts_nobody_off(self) -> None:
        """etcd without space refuses signs of life: then the watch's progress says how old the
        memory is, and leases are renewed as before. A watch that hangs is found all the same."""
        self.put(self.a, ttl=30.0)
        held = self.a.follower.records["s"][0]
        self.model.is_full = True
        for _ in range(5):
            self.run_for(8.0)
            self.assertEqual((self.a.store.staleness(), self.b.store.staleness()), (0.0, 0.0))
            self.done(self.a.store.renew(held))
            refused = self.a.store.commit(Put(record("t")))
            self.run_for(0.5)
            self.failureResultOf(refused, StoreFailed)
        self.a.client.hold()
        self.run_for(6.0)
        self.assertGreater(self.a.store.staleness(), 4.0)
        self.assertEqual(self.b.store.staleness(), 0.0)
        self.a.client.release()
        self.model.is_full = False
        self.run_for(2.0)
        self.put(self.a, "t")

    def test_progress_of_too_early_a_revision_proves_nothing(self) -> None:
        """A member that lags has not brought what a linearizable read has seen."""
        self.model.is_full = True
        self.run_for(3.0)
        for front in (self.a, self.b):
            for watch in front.client.watches:
                self.patch(watch, "_progress", lambda watch=watch: watch.handler.progress(1))
        self.run_for(6.0)
        self.assertGreater(self.a.store.staleness(), 4.0)

    def test_progress_that_was_not_asked_for_proves_nothing(self) -> None:
        """etcd may send it before the changes that it covers (etcd 15220)."""
        mirror = self.a.store._mirror
        assert mirror is not None
        before = mirror.position
        self.a.client.hold()
        for _ in range(6):
            self.run_for(1.0)
            mirror.progress(self.model.revision)
        self.assertEqual(mirror.position, before)
        self.assertGreater(self.a.store.staleness(), 4.0)

    def test_silent_watch_is_found(self) -> None:
        """A watch that hangs without an error is found, and begun again."""
        self.a.client.hold()
        self.run_for(5.0)
        self.assertGreater(self.a.store.staleness(), 3.0)
        self.run_for(8.0)
        self.a.client.held = False  # the hung watch gets nothing more; the new one does
        self.run_for(8.0)
        self.assertEqual(self.a.store.staleness(), 0.0)

    def test_goes_on_where_it_was(self) -> None:
        """After a short time it goes on where it was, with each change as it happened."""
        self.a.client.cut = True
        self.put(self.b, "t")
        fence = self.put(self.b, "u")
        self.done(self.b.store.commit(Delete("u", fence)))
        self.a.client.mend()
        self.run_for(1.0)
        self.assertEqual([one.service for one in self.a.follower.changes], ["t", "u", "u"])

    def test_after_compaction_only_differences_are_told(self) -> None:
        """If changes are compacted, it reads all and tells of what is different, as one group."""
        for name in ("kept", "gone", "moved"):
            self.put(self.a, name)
        told = len(self.a.follower.changes)
        self.a.client.cut = True
        self.done(self.b.store.commit(Delete("gone", self.b.follower.fence_of("gone"))))
        self.put(self.b, "moved", "tcp:h:2")
        self.put(self.b, "new", "tcp:h:3")
        self.model.compact()
        self.a.client.mend()
        self.run_for(2.0)
        changes = self.a.follower.changes[told:]
        self.assertEqual({one.service for one in changes}, {"gone", "moved", "new"})
        self.assertEqual(len({one.revision for one in changes}), 1)
        self.assertEqual(self.a.names, self.b.names)
        for name in self.a.names:
            self.assertEqual(self.a.follower.fence_of(name), self.b.follower.fence_of(name))
        self.put(self.a, "moved", "tcp:h:4")  # and it can go on from there

    def test_starts_before_etcd_does(self) -> None:
        """It waits for etcd, and can be closed while it waits."""
        late = Front.__new__(Front)
        late.client = self.model.client()
        late.client.cut = True
        made = EtcdStore(lambda: late.client, self.clock, seconds=self.clock.seconds)  # type: ignore[arg-type,return-value]
        follower = Follower()
        opening = made.open(follower)
        self.run_for(30.0)
        self.assertNoResult(opening)
        late.client.cut = False
        self.run_for(8.0)
        self.successResultOf(opening)
        self.done(made.close(), seconds=6.0)
        late.client = self.model.client()
        late.client.cut = True
        opening = made.open(Follower())
        self.run_for(1.0)
        closing = made.close()
        self.run_for(1.0)
        self.failureResultOf(opening, StoreFailed)
        self.successResultOf(closing)


class FenceTests(EtcdCase):
    """Fences, also after a restore."""

    def test_new_store_begins_above_what_there_was(self) -> None:
        """The base is that of the first nameserver; all agree on fences."""
        fence = self.put(self.a)
        self.assertGreater(fence, BASE)
        self.assertEqual(self.a.store._mirror.base, self.b.store._mirror.base)  # type: ignore[union-attr]

    def restore(self, cluster_id: int) -> tuple[int, int]:
        """Register, restore what was before; the fences before and after."""
        self.put(self.a, "s")
        snapshot = self.model.snapshot()
        last = 0
        for number in range(20):
            last = self.put(self.b, "s", f"tcp:h:{number}")
        self.base = 2_000_000
        self.model.restore(snapshot, cluster_id)
        self.run_for(3.0)
        self.assertEqual(self.a.names, {"s": "tcp:h:1"})
        self.assertEqual(self.b.names, {"s": "tcp:h:1"})
        self.assertEqual(self.a.follower.fence_of("s"), self.b.follower.fence_of("s"))
        return last, self.put(self.a, "s", "tcp:h:99")

    def test_fences_grow_after_a_restore(self) -> None:
        """A restored cluster's revisions are lower; its fences are not."""
        before, after = self.restore(0xBEEF)
        self.assertGreater(after, before)
        self.assertEqual(self.b.names, {"s": "tcp:h:99"})

    def test_restore_under_the_same_id_is_seen_by_the_revision(self) -> None:
        """Nameservers that run notice a restore by the revision that goes back."""
        before, after = self.restore(self.model.cluster_id)
        self.assertGreater(after, before)

    def test_member_that_is_behind_is_no_restore(self) -> None:
        """A watch that goes on at a member that lags changes nothing."""
        self.put(self.a)
        mirror = self.a.store._mirror
        assert mirror is not None
        base = mirror.base
        mirror.created(1)
        self.run_for(2.0)
        self.assertEqual((mirror.base, mirror.comparisons), (base, 0))

    def test_lost_base_is_written_again(self) -> None:
        """If somebody deletes the base, another one is written, and all go on."""
        first = self.put(self.a)
        self.base = 2_000_000
        self.done(self.model.client().delete(b"/pycomnet/names/base"))
        self.run_for(3.0)
        self.assertGreater(self.put(self.b, "s", "tcp:h:2"), max(first, self.base))
        self.assertEqual(self.a.names, {"s": "tcp:h:2"})

    def test_removed_after_a_restore(self) -> None:
        """A registration from before the restore can be removed: its revision is known."""
        self.put(self.a, "s")
        snapshot = self.model.snapshot()
        self.base = 2_000_000
        self.model.restore(snapshot, 0xBEEF)
        self.run_for(3.0)
        self.done(self.a.store.commit(Delete("s", self.a.follower.fence_of("s"))))
        self.assertEqual((self.a.names, self.b.names), ({}, {}))


class ReadingTests(EtcdCase):
    """Reading everything."""

    def test_each_page_is_decoded_when_it_comes(self) -> None:
        """Decoding all at once would let nobody else have a turn for seconds."""
        self.patch(pages, "PAGE", 10)
        self.patch(mirrors, "MOST_SERVING", 10)
        for number in range(60):
            self.a.store.commit(Put(record(f"s{number:02}")))
        self.run_for(0.5)
        decoded: dict[str, int] = {}

        def read(service: str, kv: Any) -> Any:
            decoded[service] = self.b.client.requests.count("range")
            return read_record(service, kv)

        self.patch(mirrors, "read_record", read)
        self.model.compact()
        self.b.client.watches[0].handler.compacted(self.model.revision)
        self.run_for(1.0)
        self.assertEqual(len(decoded), 60)
        self.assertEqual(sorted(decoded.values()).count(decoded["s00"]), 10)

    def test_pages_grow_with_small_records(self) -> None:
        """For each page etcd goes through all keys that follow, so there have to be few."""
        self.patch(pages, "PAGE", 2)
        self.patch(mirrors, "MOST", 32)
        for number in range(100):
            self.a.store.commit(Put(record(f"s{number:02}")))
        self.run_for(0.5)
        c = Front(self, "c")
        self.run_for(0.5)
        self.assertEqual(len(c.names), 100)
        # 2, 8, 32, 32 and the rest; the base and the note are read, too.
        self.assertEqual(c.client.requests.count("range"), 5 + 2)

    def test_pages_do_not_grow_with_large_records(self) -> None:
        self.patch(pages, "PAGE", 2)
        self.patch(pages, "BYTES", 1_000)
        for number in range(20):
            self.a.store.commit(Put(record(f"s{number:02}", metadata={"a": "x" * 400})))
        self.run_for(0.5)
        c = Front(self, "c")
        self.run_for(0.5)
        self.assertEqual(len(c.names), 20)
        self.assertEqual(c.client.requests.count("range"), 10 + 2)

    def test_pages_become_small_again_where_records_are_large(self) -> None:
        self.patch(pages, "PAGE", 2)
        self.patch(pages, "BYTES", 2_000)
        self.patch(mirrors, "MOST", 16)
        for number in range(120):
            size = 400 if 40 <= number < 80 else 1
            self.a.store.commit(Put(record(f"s{number:03}", metadata={"a": "x" * size})))
        self.run_for(0.5)
        execute, sizes = self.model.execute, list[int]()

        def measured(request: Any) -> Any:
            answer = execute(request)
            if isinstance(request, RangeRequest) and request.limit:
                sizes.append(sum(len(kv.value) for kv in answer.kvs))
            return answer

        self.patch(self.model, "execute", measured)
        c = Front(self, "c")
        self.run_for(1.0)
        self.assertEqual(len(c.names), 120)
        self.assertLessEqual(sum(size > 2_500 for size in sizes), 2, sizes)  # the first of them
        self.assertLess(len(sizes), 30)  # and large again after that

    def test_page_that_is_too_long_is_asked_for_in_small_ones(self) -> None:
        """Small records, and then large ones: what was too long once is not tried again."""
        self.patch(pages, "PAGE", 2)
        self.model.most_bytes = 4_000
        for number in range(60):
            size = 1_000 if number >= 30 else 1
            self.a.store.commit(Put(record(f"s{number:02}", metadata={"a": "x" * size})))
        self.run_for(0.5)
        c = Front(self, "c")
        self.run_for(2.0)
        self.assertEqual(len(c.names), 60)


class ClosingTests(EtcdCase):
    """A nameserver that is about to end."""

    def test_calls_while_it_closes_go_elsewhere(self) -> None:
        """What is asked for while a change has no outcome yet fails, so that others are asked."""
        self.put(self.a)
        held, _ = self.a.follower.records["s"]
        self.a.client.cut = True
        waiting = self.a.store.commit(Put(record("t")))
        closing = self.a.store.close()
        asked = [
            self.a.store.commit(Put(record("u"))),
            self.a.store.commit(Delete("s", held.fence)),
            self.a.store.renew(held),
            self.a.store.refresh("s"),
            self.a.store.refresh_lease(held.lease),
            self.a.store.cluster(),
        ]
        self.assertNoResult(closing)
        for one in asked:
            self.failureResultOf(one, StoreCutOff)
        self.done(closing, seconds=10.0)
        self.failureResultOf(waiting)
        self.failureResultOf(self.a.store.renew(held), StoreCutOff)
        self.assertEqual(self.a.store.staleness(), float("inf"))


class LayoutTests(SynchronousTestCase):
    """Keys, values and descriptions."""

    def test_bases_say_the_revision_of_a_fence(self) -> None:
        """A fence is of the latest base before it."""
        bases = Bases()
        for number in (2_000, 1_000, 2_000):
            bases.add(number)
        self.assertEqual([bases.revision(one) for one in (1_007, 2_000, 2_003)], [7, 1_000, 3])

    def test_lease_has_whole_seconds(self) -> None:
        """Two at least, and never less than the time to live."""
        self.assertEqual([lease_seconds(one) for one in (0.5, 2, 2.01, 30)], [2, 2, 3, 30])

    def test_foreign_values_are_told(self) -> None:
        """What others have written is refused, whatever it is."""
        for value in (b"", b"\xc1", b"\x01", b"\x94\x01\xa1a\x01\xc4\x01a", b"\x93\x01\xa1a\xa1b"):
            self.assertRaises(ForeignValue, read_why, value)

    def test_description_names_members_and_options(self) -> None:
        """Members are URLs; options say the rest."""
        found = describe(
            "https://a:1,https://[::1]//prefix=/x//ca=/ca.pem//user=u//password-file=p"
        )
        self.assertEqual(
            found.endpoints, ("tls:a:1:trustRoots=/ca.pem", "tls:\\:\\:1:2379:trustRoots=/ca.pem")
        )
        self.assertEqual((found.prefix, found.user, found.password_file), ("/x/", "u", "p"))
        self.assertEqual(describe("http://h").endpoints, ("tcp:h:2379",))

    def test_mistakes_in_a_description_are_told(self) -> None:
        """Each mistake is refused with what was expected."""
        for wrong in (
            "",
            "a:2379",
            "ftp://a",
            "http://a//ca=x",
            "https://a//port=1",
            "https://a//user=u",
            "https://a//cert=c",
            "https://a//ca=",
            "https://a//ca=x//ca=y",
            "http://a:port",
        ):
            self.assertRaises(StoreFailed, describe, wrong)

    def test_what_can_not_be_imported_is_named(self) -> None:
        """With the reason: it may be there, and broken."""
        with (
            mock.patch.dict(sys.modules, {"pycomnet.etcd": None}),
            self.assertRaisesRegex(StoreFailed, r"pycomnet\.etcd.*: pip install"),
        ):
            make("http://127.0.0.1", Clock())

    def test_passwords_go_over_tls(self) -> None:
        """A password is sent in clear on this machine only, or if that is asked for."""
        login = "//user=u//password-file=p"
        for wrong in (
            f"http://10.0.0.5{login}",
            f"https://a,http://b{login}",
            f"http://127.0.0.1,http://b{login}",
            f"http://10.0.0.5{login}//plain-login=no",
        ):
            with self.assertRaisesRegex(StoreFailed, "plain-login=yes"):
                describe(wrong)
        for right in ("https://a", "http://127.0.0.1", "http://[::1]", "http://localhost"):
            self.assertFalse(describe(right + login).plain_login)
        self.assertTrue(describe(f"http://10.0.0.5{login}//plain-login=yes").plain_login)

    def test_constants_fit_each_other(self) -> None:
        """A nameserver that is cut off knows within five seconds, and not by one lost beat."""
        self.assertLess(stores.CUT_OFF, 5.0)
        self.assertGreater(stores.CUT_OFF, 3 * stores.BEAT)
