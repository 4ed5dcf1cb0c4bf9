"""What every store does, whatever it keeps registrations in: the tests that each must pass.

A store's own test case inherits :class:`StoreConformance` and says how one is made; what a store
does beyond it is tested beside that.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import defer
from zope.interface.verify import verifyObject

from pycomnet.deferred import deferred
from pycomnet.errors import StoreConflict, StoreFailed
from pycomnet.interfaces import INameStore
from pycomnet.nameserver.records import EXPIRED, UNREGISTERED, Delete, Put
from pycomnet.nameserver.standing import Standing
from pycomnet.test.nameserver.kit import Follower, record
from pycomnet.test.nameserver.storemodel import StoreModel, drawn_plans, run_plan

#: What of a record has to come back as it was.
FIELDS = (
    *("service", "interfaces", "address", "metadata", "tags"),
    *("ttl", "lease", "secret", "standing", "fence"),
)


def fields(one: Any) -> tuple[Any, ...]:
    """A record's contents."""
    return tuple(getattr(one, name) for name in FIELDS)


class StoreConformance:
    """Mixed into a trial ``TestCase`` that has a method ``make_store()``: it returns a new store
    object, each over what the one before it kept.

    :cvar survives: whether what was committed is there when the store is opened again.
    :cvar in_order: whether revisions are in the order of the calls for all names together.
    :cvar many: how many it is asked to keep at once.
    """

    survives = True
    in_order = True
    many = 3000

    async def opened(self: Any) -> tuple[Any, Follower]:
        """An open store and who follows it. It is closed at the end of the test."""
        store, follower = self.make_store(), Follower()
        self.addCleanup(store.close)
        await store.open(follower)
        return store, follower

    def test_provides_its_interface(self: Any) -> None:
        """It provides what it says."""
        store = self.make_store()
        verifyObject(INameStore, store)
        self.assertIsInstance(store.name, str)
        self.assertIsInstance(store.ends_leases, bool)

    @deferred
    async def test_new_store_has_nothing_but_a_revision(self: Any) -> None:
        """A new store has nothing but a revision."""
        _, follower = await self.opened()
        self.assertEqual(follower.records, {})
        self.assertIsInstance(follower.revision, int)
        self.assertEqual(follower.changes, [])

    @deferred
    async def test_put_is_told_before_it_is_acknowledged(self: Any) -> None:
        """A registration is told before it is acknowledged, with the revision as its fence."""
        store, follower = await self.opened()
        before = follower.revision
        wanted = record("a", "x", "y", metadata={"n": [1, "é"]}, tags=("t", "u v"))
        told: list[int] = []
        committed = store.commit(Put(wanted))
        committed.addCallback(lambda revision: told.append(len(follower.changes)) or revision)
        revision = await committed
        self.assertEqual(told, [1])
        self.assertGreater(revision, before)
        self.assertEqual(follower.revision, revision)
        self.assertEqual(follower.fence_of("a"), revision)

    @deferred
    async def test_replaces_the_record_that_is_there(self: Any) -> None:
        """What replaces the record that is there is taken; the fence grows."""
        store, follower = await self.opened()
        first = await store.commit(Put(record("a")))
        second = await store.commit(Put(record("a", address="tcp:h:2"), first))
        self.assertGreater(second, first)
        self.assertEqual(follower.records["a"][0].address, "tcp:h:2")

    @deferred
    async def test_another_standing_is_kept_with_the_same_lease(self: Any) -> None:
        """A registration with another standing replaces it, and has its lease."""
        store, follower = await self.opened()
        before = record("a", "x")
        fence = await store.commit(Put(before))
        held = follower.records["a"][0]
        for standing in (Standing(7, drains=True, failing=True, said="no database"), None):
            changed = Put(held.with_standing(standing), fence, keeps_lease=True)
            again = await store.commit(changed)
            self.assertGreater(again, fence)
            held, fence = follower.records["a"][0], again
            self.assertEqual((held.standing, held.lease), (standing, before.lease))
            self.assertEqual(held.secret, before.secret)

    @deferred
    async def test_delete_says_the_reason(self: Any) -> None:
        """A registration goes, with the reason."""
        store, follower = await self.opened()
        for why in (UNREGISTERED, EXPIRED):
            fence = await store.commit(Put(record("a")))
            revision = await store.commit(Delete("a", fence, why))
            self.assertGreater(revision, fence)
            self.assertEqual(follower.changes[-1].why, why)
            self.assertIsNone(follower.fence_of("a"))

    @deferred
    async def test_conflict_changes_nothing(self: Any) -> None:
        """What was to replace something else than is there changes nothing."""
        store, follower = await self.opened()
        fence = await store.commit(Put(record("a")))
        told = len(follower.changes)
        for change in (
            Put(record("a")),
            Put(record("a"), fence - 1),
            Put(record("b"), fence),
            Delete("a", fence - 1),
            Delete("b", fence),
            Delete("b", None),
        ):
            await self.assertFailure(store.commit(change), StoreConflict)
        self.assertEqual(len(follower.changes), told)
        self.assertEqual(follower.fence_of("a"), fence)

    @deferred
    async def test_requests_of_one_turn_are_decided_in_order(self: Any) -> None:
        """What is asked for in one turn is decided in that order, and told in it."""
        store, follower = await self.opened()
        first = store.commit(Put(record("a", address="tcp:h:1")))
        second = store.commit(Put(record("a", address="tcp:h:2")))
        other = store.commit(Put(record("b")))
        known: list[Any] = []
        second.addErrback(lambda failure: known.append(follower.fence_of("a")) or failure)
        fence = await first
        await self.assertFailure(second, StoreConflict)
        self.assertEqual(known, [fence])  # by then the follower knows what is there instead
        if self.in_order:
            self.assertGreater(await other, fence)
        self.assertNotEqual(await other, fence)
        self.assertEqual(follower.records["a"][0].address, "tcp:h:1")

    @deferred
    async def test_any_changes_end_as_in_the_model(self: Any) -> None:
        """Whatever is changed, at once or one after the other, ends as in a model of a store; so
        it is when the store is opened again."""
        # Before the store is open: to draw them takes the reactor seconds on a busy machine.
        plans = list(drawn_plans(100))
        store, follower = await self.opened()
        model = StoreModel()
        for number, plan in enumerate(plans):
            await run_plan(store, follower, model, plan, f"p{number}")
        self.assertEqual({name: follower.fence_of(name) for name in follower.names()}, model.fences)
        await store.close()
        if self.survives:
            _, again = await self.opened()
            self.assertEqual({name: again.fence_of(name) for name in again.names()}, model.fences)

    @deferred
    async def test_one_name_in_one_turn(self: Any) -> None:
        """A name may come, go and come again while nothing is committed yet."""
        store, follower = await self.opened()
        fence = await store.commit(Put(record("a")))
        gone = store.commit(Delete("a", fence))
        back = store.commit(Put(record("a", address="tcp:h:2")))
        late = store.commit(Delete("a", fence))
        await gone
        fence = await back
        await self.assertFailure(late, StoreConflict)
        self.assertEqual(follower.fence_of("a"), fence)
        await store.close()
        if self.survives:
            _, again = await self.opened()
            self.assertEqual(again.records["a"][0].address, "tcp:h:2")

    @deferred
    async def test_thousands_at_once_are_kept_in_order(self: Any) -> None:
        """Thousands at once, some of which go at once, are all kept, in order."""
        store, follower = await self.opened()
        names = [f"service-{number}" for number in range(self.many)]
        revisions = await defer.gatherResults([store.commit(Put(record(n))) for n in names])
        self.assertEqual(len(set(revisions)), self.many)
        if self.in_order:
            self.assertEqual(revisions, sorted(revisions))
        doomed = names[::3]
        await defer.gatherResults([store.commit(Delete(n, follower.fence_of(n))) for n in doomed])
        self.assertEqual(set(follower.records), set(names) - set(doomed))
        await store.close()
        if self.survives:
            _, again = await self.opened()
            self.assertEqual(set(again.records), set(names) - set(doomed))

    @deferred
    async def test_opened_again_has_all_or_nothing(self: Any) -> None:
        """Opened again it has every field of every record, or nothing if it doesn't survive."""
        store, follower = await self.opened()
        await store.commit(Put(record("a", "x", "y", metadata={"n": 1}, tags=("t", "u"), ttl=7.5)))
        await store.commit(Put(record("ä-日本", "x", address="unix:/tmp/a b")))
        drained = record("b", "x")
        drained.standing = Standing(7, drained=True, said="no database")
        await store.commit(Put(drained))
        await store.close()
        _, again = await self.opened()
        if not self.survives:
            self.assertEqual(again.records, {})
            return
        self.assertEqual(set(again.records), {"a", "b", "ä-日本"})
        for name, (one, _) in follower.records.items():
            self.assertEqual(fields(again.records[name][0]), fields(one))

    @deferred
    async def test_revisions_grow(self: Any) -> None:
        """Fences grow over restarts, whatever has been removed."""
        revision = 0
        for _ in range(3):
            store, follower = await self.opened()
            self.assertGreaterEqual(follower.revision, revision)
            fence = await store.commit(Put(record("a")))
            self.assertGreater(fence, revision)
            revision = await store.commit(Delete("a", fence))
            await store.close()

    @deferred
    async def test_reopened_leases_have_the_time_left(self: Any) -> None:
        """After a clean stop, leases have the time left that they had then; or the store ends them,
        and nobody knows."""
        store, follower = await self.opened()
        await store.commit(Put(record("a", ttl=30.0)))
        await store.commit(Put(record("b", ttl=30.0)))
        follower.left["a"] = 4.25
        await store.close()
        if self.survives:
            _, again = await self.opened()
            self.assertEqual(again.records["a"][1], 30.0 if store.ends_leases else 4.25)
            self.assertEqual(again.records["b"][1], 30.0)

    @deferred
    async def test_renewal_is_not_told_to_followers(self: Any) -> None:
        """A renewal is nothing that a follower is told, and does not fail for a live lease."""
        store, follower = await self.opened()
        await store.commit(Put(record("a")))
        told = len(follower.changes)
        await defer.maybeDeferred(store.renew, follower.records["a"][0])
        self.assertEqual(len(follower.changes), told)

    @deferred
    async def test_closed_store_takes_nothing(self: Any) -> None:
        """A closed store takes nothing; it may be closed again, or without having been open."""
        await self.make_store().close()
        store, follower = await self.opened()
        await store.close()
        await store.close()
        await self.assertFailure(store.commit(Put(record("a"))), StoreFailed)
        self.assertEqual(follower.changes, [])

    @deferred
    async def test_closing_commits(self: Any) -> None:
        """What was asked for before it was closed is committed and acknowledged."""
        store, follower = await self.opened()
        waiting = [store.commit(Put(record(f"s{number}"))) for number in range(10)]
        await store.close()
        for one in waiting:
            self.successResultOf(one)
        self.assertEqual(len(follower.records), 10)
