"""The nameserver on stores that take their time, fail, or have other users."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer

from pycomnet.errors import (
    LeaseLost,
    ServiceNameTaken,
    StoreFailed,
)
from pycomnet.nameserver.records import EXPIRED, Change, Delete, Put
from pycomnet.nameserver.service import TURNS
from pycomnet.nameserver.stores.local import Decisions, QueuedChange
from pycomnet.nameserver.stores.memory import MemoryStore
from pycomnet.test.nameserver.kit import record
from pycomnet.test.nameserver.servicecase import CALC, NameserverCase, Stream


class LateStore(MemoryStore):
    """A store that commits when the test says so, and which others use, too.

    :ivar asked: what waits.
    """

    def open(self, follower: Any) -> defer.Deferred[None]:
        self.asked: list[QueuedChange] = []
        self.renewals: list[Any] = []
        self.follower = follower
        return super().open(follower)

    def commit(self, change: Put | Delete) -> defer.Deferred[int]:
        assert self._decisions is not None
        asked = self._decisions.ask(change)
        self.asked.append(asked)
        return asked.deferred

    def finish(self) -> None:
        """Commit what was asked for."""
        asked, self.asked = self.asked, []
        assert self._decisions is not None
        self._decisions.committed(asked)

    def fail(self) -> None:
        """Fail it."""
        asked, self.asked = self.asked, []
        assert self._decisions is not None
        self._decisions.failed(asked, StoreFailed("the disk is full"))


class SharedStore(LateStore):
    """One that ends leases itself, for several nameservers."""

    ends_leases = True

    def renew(self, record: Any) -> Any:
        deferred: defer.Deferred[None] = defer.Deferred()
        self.renewals.append(deferred)
        return deferred

    def by_others(self, change: Put | Delete) -> None:
        """Have another nameserver commit something."""
        assert isinstance(self._decisions, Decisions)
        asked = self._decisions.ask(change)
        assert asked.change is not None
        self._decisions.committed([asked])


class LateStoreTests(NameserverCase):
    """A store that takes its time, or fails."""

    store: LateStore

    def make_store(self) -> LateStore:
        return LateStore(lambda: 100)

    def test_nothing_is_acknowledged_or_found_before_commit(self) -> None:
        """Nothing is acknowledged, or found by others, before it is committed."""
        asked = self.client.invoke("register", self.registration())
        self.network.deliver()
        self.assertNoResult(asked)
        self.assertEqual(self.located(), "")
        self.store.finish()
        self.result(asked)
        self.assertEqual(self.located(), "a")

    def test_failed_store_changes_nothing_and_says_why(self) -> None:
        """A store that can't keep it: the caller is told why, and nothing has changed."""
        asked = self.client.invoke("register", self.registration())
        self.network.deliver()
        self.store.fail()
        self.assertIn("full", str(self.failure(asked, StoreFailed)))
        self.assertEqual(self.located(), "")

    def test_ended_that_is_not_removed_is_not_found(self) -> None:
        """What has ended but can't be removed is not found, nor renewed, and removed later."""
        asked = self.client.invoke("register", self.registration(ttl=5))
        self.network.deliver()
        self.store.finish()
        held = self.result(asked)
        self.network.wait(6.0)
        self.assertEqual(len(self.store.asked), 1)
        self.store.fail()
        self.assertEqual(len(self.flushLoggedErrors(StoreFailed)), 1)
        self.assertEqual(self.located(), "")
        self.refused(LeaseLost, "renew", lease=held["lease"], secret=held["secret"])
        self.network.wait(6.0)
        self.assertEqual(len(self.store.asked), 1)
        self.store.finish()
        self.assertEqual(self.invoke("stat")["services"], 0)

    def test_taken_over_while_removed(self) -> None:
        """Who registers a name while its last owner's end is being committed has it."""
        asked = self.client.invoke("register", self.registration(ttl=5))
        self.network.deliver()
        self.store.finish()
        self.result(asked)
        self.network.wait(6.0)
        asked = self.client.invoke("register", self.registration(address="tcp:h:2"))
        self.network.deliver()
        self.assertEqual(len(self.store.asked), 2)
        self.store.finish()  # the end; what was to replace it is tried again
        self.network.deliver()
        self.store.finish()
        self.result(asked)
        self.assertEqual(self.invoke("locate", service="a")["address"], "tcp:h:2")

    def test_taken_while_waiting(self) -> None:
        """Who is second is told what the first has registered, once that is sure."""
        first = self.client.invoke("register", self.registration(address="tcp:h:1"))
        second = self.connect().invoke("register", self.registration(address="tcp:h:2"))
        self.network.deliver()
        self.assertNoResult(second)
        self.store.finish()
        self.result(first)
        self.assertEqual(self.failure(second, ServiceNameTaken).address, "tcp:h:1")

    def test_flooding_client_leaves_others_their_turns(self) -> None:
        """What one client sends does not come before what others send: each has its turns."""
        flood = self.connect()
        asked = [
            flood.invoke("register", self.registration(f"flood-{number}")) for number in range(1000)
        ]
        self.network.deliver()
        one = self.client.invoke("register", self.registration("other"))
        self.network.deliver()
        self.assertLessEqual(len(self.store.asked), TURNS + 1)
        self.store.finish()
        self.result(one)
        while self.store.asked:
            self.store.finish()
            self.network.deliver()
        self.result(defer.gatherResults(asked))
        self.assertEqual(self.names._turns, {})


class SharedStoreTests(NameserverCase):
    """A store that several nameservers share, and that ends leases itself."""

    store: SharedStore

    def make_store(self) -> SharedStore:
        return SharedStore(lambda: 100)

    def test_what_others_commit_is_found_and_watched(self) -> None:
        """What others commit is found, watched, and taken."""
        stream = Stream(self)
        stream.take()
        self.store.by_others(Put(record("theirs", CALC, address="tcp:h:9")))
        self.assertEqual(self.located(), "theirs")
        self.assertEqual(stream.take()[-1], ("put", "theirs"))
        problem = self.refused(ServiceNameTaken, "register", **self.registration("theirs"))
        self.assertEqual(problem.address, "tcp:h:9")

    def test_both_at_once(self) -> None:
        """What another nameserver committed first is what counts."""
        asked = self.client.invoke("register", self.registration())
        self.network.deliver()
        late, self.store.asked = self.store.asked, []
        assert self.store._decisions is not None
        self.store._decisions._fences.clear()
        self.store.by_others(Put(record("a", address="tcp:h:9")))
        self.store._decisions.committed([QueuedChange(None, one.deferred) for one in late])
        self.assertEqual(self.failure(asked, ServiceNameTaken).address, "tcp:h:9")

    def test_shared_store_ends_the_leases(self) -> None:
        """It ends no lease by its own clock; a renewal is the store's to accept."""
        asked = self.client.invoke("register", self.registration(ttl=5))
        self.network.deliver()
        self.store.finish()
        held = self.result(asked)
        owner = {"lease": held["lease"], "secret": held["secret"]}
        renewing = self.client.invoke("renew", owner)
        self.network.deliver()
        self.assertNoResult(renewing)
        self.store.renewals.pop().callback(None)
        self.assertEqual(self.result(renewing)["ttl"], 5.0)
        renewing = self.client.invoke("renew", owner)
        self.network.deliver()
        self.store.renewals.pop().errback(LeaseLost("it is over"))
        self.failure(renewing, LeaseLost)
        self.network.wait(20.0)
        self.assertEqual(self.store.asked, [])
        self.store.follower.changed([Change(10_000, "a", None, EXPIRED)])
        self.assertEqual(self.located(), "")
