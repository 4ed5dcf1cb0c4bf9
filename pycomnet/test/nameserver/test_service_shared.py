"""Two nameservers on one store: what each tells its clients, also when it lags or is cut off."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet import defer
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.errors import (
    LeaseLost,
    NameserverStale,
    NotLeaseOwner,
    RevisionTooOld,
    ServiceNameTaken,
    ServiceNotFound,
    StoreCutOff,
)
from pycomnet.etcd import TimeToLive
from pycomnet.nameserver import registrationchanges
from pycomnet.nameserver.follow import follow
from pycomnet.nameserver.server import make_server
from pycomnet.nameserver.service import NameService
from pycomnet.nameserver.stores.etcd.store import EtcdStore
from pycomnet.services.client.context import NAMESERVER, Context
from pycomnet.test.nameserver.etcdmodel import EtcdModel, ModelClient
from pycomnet.test.services.network import Network

CALC = "org.example.calc"
SECRET = "sixteen characters"
BASE = 1_000_000
SOME = range(1, 101)


class Front:
    """A nameserver, and a client of it."""

    def __init__(self, case: SharedCase, port: int) -> None:
        network = case.network
        self.etcd: ModelClient = case.model.client()
        store = EtcdStore(
            lambda: self.etcd,  # type: ignore[arg-type,return-value]
            network,
            identity=str(port),
            seconds=network.seconds,
            revisions=lambda: BASE,
        )
        self.names = NameService(
            store, network, seconds=network.seconds, max_stale=60.0, **case.options
        )
        self.server = make_server(network)
        adding = self.server.add(self.names)
        case.run_for(0.5)
        case.successResultOf(adding)
        self.address = case.successResultOf(self.server.listen(f"tcp:{port}:interface=127.0.0.1"))
        self.context = Context(network, nameserver=self.address)
        connecting = self.context.connect(self.address, NAMESERVER)
        network.deliver()
        self.client: Any = case.successResultOf(connecting)


class SharedCase(SynchronousTestCase):
    """Two nameservers.

    :cvar options: of both.
    """

    options: dict[str, Any] = {}

    def setUp(self) -> None:
        self.network = Network()
        self.network.advance(1000.0)
        self.model = EtcdModel(self.network)
        self.a = Front(self, 2012)
        self.b = Front(self, 2013)
        self.addCleanup(self.network.deliver)
        self.addCleanup(self.network.cut)

    def run_for(self, seconds: float) -> None:
        for _ in range(int(seconds * 20)):
            self.network.advance(0.05)
            self.model.expire()
            self.network.deliver()

    def invoke(self, front: Front, method: str, **args: Any) -> Any:
        calling = front.client.invoke(method, args)
        self.run_for(0.3)
        return self.successResultOf(calling)

    def refused(self, front: Front, kind: type[Exception], method: str, **args: Any) -> Any:
        calling = front.client.invoke(method, args)
        self.run_for(0.3)
        return self.failureResultOf(calling, kind).value

    def register(self, front: Front, service: str = "s", **more: Any) -> Any:
        args = {"service": service, "interfaces": [CALC], "address": "tcp:127.0.0.1:1", **more}
        return self.invoke(front, "register", **args)


class LagTests(SharedCase):
    """A nameserver that lags does not refuse from memory alone."""

    def pending(self, front: Front, method: str, **args: Any) -> defer.Deferred[Any]:
        """A call that waits for the memory."""
        calling: defer.Deferred[Any] = front.client.invoke(method, args)
        self.run_for(0.3)
        self.assertNoResult(calling)
        front.etcd.release()
        self.run_for(0.3)
        return calling

    def test_new_lease_is_renewed_where_it_is_not_known_yet(self) -> None:
        """A lease from another nameserver is renewed, although the memory has none like it."""
        self.b.etcd.hold()
        held = self.register(self.a)
        owner = {"lease": held["lease"], "secret": held["secret"]}
        renewed = self.successResultOf(self.pending(self.b, "renew", **owner))
        self.assertEqual(renewed["fence"], held["fence"])

    def test_new_lease_is_ended_where_it_is_not_known_yet(self) -> None:
        """So is unregistering."""
        self.b.etcd.hold()
        held = self.register(self.a)
        owner = {"lease": held["lease"], "secret": held["secret"]}
        self.successResultOf(self.pending(self.b, "unregister", **owner))
        self.assertEqual(len(self.a.names.directory), 0)

    def test_name_that_has_become_free_is_given(self) -> None:
        """A name that was unregistered elsewhere is free, although the memory still has it."""
        held = self.register(self.a)
        self.b.etcd.hold()
        self.invoke(self.a, "unregister", lease=held["lease"], secret=held["secret"])
        args = {"service": "s", "interfaces": [CALC], "address": "tcp:127.0.0.1:2"}
        given = self.successResultOf(self.pending(self.b, "register", **args))
        self.assertGreater(given["fence"], held["fence"])

    def test_name_is_not_refused_on_the_way_to_now(self) -> None:
        """Whoever had the name in between does not matter, while the memory comes to what was read:
        the name was free then."""
        former = self.register(self.a)
        self.b.etcd.hold()
        self.invoke(self.a, "unregister", lease=former["lease"], secret=former["secret"])
        between = self.register(self.a, address="tcp:127.0.0.1:3")
        owner = {"lease": between["lease"], "secret": between["secret"]}
        self.invoke(self.a, "unregister", **owner)
        args = {"service": "s", "interfaces": [CALC], "address": "tcp:127.0.0.1:2"}
        calling = self.b.client.invoke("register", args)
        self.run_for(0.2)
        self.b.etcd.release_until(between["fence"] - BASE)
        self.run_for(0.2)
        self.assertNoResult(calling)
        self.b.etcd.release()
        self.run_for(0.3)
        self.assertGreater(self.successResultOf(calling)["fence"], between["fence"])

    def test_lease_is_not_lost_by_what_a_member_says_of_leases(self) -> None:
        """What a member knows of leases may be late; the memory goes by what is written."""
        none = TimeToLive(self.model.header, 0, -1, 0, [])
        self.patch(self.model, "time_to_live", lambda lease: none)
        self.b.etcd.hold()
        held = self.register(self.a)
        owner = {"lease": held["lease"], "secret": held["secret"]}
        self.successResultOf(self.pending(self.b, "renew", **owner))

    def test_lost_leases_share_one_question(self) -> None:
        """However many leases are asked for that are none, etcd is asked one question at a time."""
        before = len(self.b.etcd.requests)
        asked = [self.b.client.invoke("renew", {"lease": one, "secret": SECRET}) for one in SOME]
        self.run_for(0.3)
        for one in asked:
            self.failureResultOf(one, LeaseLost)
        self.assertLess(self.b.etcd.requests[before:].count("range"), 5)

    def test_new_name_is_removed_where_it_is_not_known_yet(self) -> None:
        """An operator removes what is registered, though the memory has no such name."""
        self.patch(registrationchanges, "is_operator", lambda request, operators: True)
        self.b.etcd.hold()
        self.register(self.a)
        self.successResultOf(self.pending(self.b, "remove", service="s"))
        self.assertEqual(len(self.a.names.directory), 0)
        self.refused(self.b, ServiceNotFound, "remove", service="s")

    def test_lease_that_was_ended_is_not_granted_again(self) -> None:
        """An owner who registers again, where it is not known yet that its lease was ended, gets
        another one: the end of the first may be on its way."""
        held = self.register(self.a, secret=SECRET)
        self.b.etcd.hold()
        self.invoke(self.a, "unregister", lease=held["lease"], secret=SECRET)
        args = {"service": "s", "interfaces": [CALC], "address": "tcp:h:2", "secret": SECRET}
        given = self.successResultOf(self.pending(self.b, "register", **args))
        self.assertNotEqual(given["lease"], held["lease"])

    def test_what_etcd_confirms_is_refused(self) -> None:
        """What is so is told: a taken name, a lost lease, another's lease."""
        held = self.register(self.a)
        args = {"service": "s", "interfaces": [CALC], "address": "tcp:127.0.0.1:2"}
        taken = self.refused(self.b, ServiceNameTaken, "register", **args)
        self.assertGreater(taken.ttl, 30.0)  # whoever waits so long finds that the lease is over
        self.refused(self.b, LeaseLost, "renew", lease=1, secret=SECRET)
        self.refused(self.b, NotLeaseOwner, "renew", lease=held["lease"], secret=SECRET)


class CutOffTests(SharedCase):
    """A nameserver that is cut off."""

    def test_answers_say_how_stale_they_are(self) -> None:
        """Reads go on and are marked, changes are refused; in the end reads are refused, too."""
        held = self.register(self.a, ttl=600.0)
        self.assertNotIn("stale", self.invoke(self.a, "locate", interface=CALC))
        self.a.etcd.cut = True
        self.run_for(5.0)
        self.assertGreater(self.invoke(self.a, "locate", interface=CALC)["stale"], 3.0)
        self.assertGreater(self.invoke(self.a, "list_services")[0]["stale"], 3.0)
        owner = {"lease": held["lease"], "secret": held["secret"]}
        self.refused(self.a, StoreCutOff, "renew", **owner)
        self.refused(self.a, StoreCutOff, "unregister", **owner)
        args = {"service": "t", "interfaces": [CALC], "address": "tcp:127.0.0.1:2"}
        self.refused(self.a, StoreCutOff, "register", **args)
        self.assertTrue(self.invoke(self.a, "stat")["cut_off"])
        self.invoke(self.b, "renew", **owner)
        self.run_for(60.0)
        self.refused(self.a, NameserverStale, "locate", interface=CALC)
        self.refused(self.a, NameserverStale, "locate", interface="org.example.none")
        self.refused(self.a, NameserverStale, "list_services")
        self.a.etcd.mend()
        self.run_for(3.0)
        self.assertNotIn("stale", self.invoke(self.a, "locate", interface=CALC))
        self.invoke(self.a, "renew", **owner)

    def test_cluster_lists_both(self) -> None:
        """Each nameserver sees all."""
        found = self.invoke(self.b, "cluster")
        self.assertEqual([one["id"] for one in found["nameservers"]], ["2012", "2013"])


class SeveralTests(SharedCase):
    """A client that knows both."""

    def setUp(self) -> None:
        super().setUp()
        addresses = f"{self.a.address},{self.b.address}"
        self.context = Context(self.network, nameserver=addresses, random=Random(1))
        self.both: Any = self.successResultOf(self.context.nameserver())

    def count(self, front: Front, what: str) -> int:
        """What a nameserver says of itself."""
        counts = self.invoke(front, "stat")
        found: int = {**counts, **counts["counts"]}[what]
        return found

    def test_follower_leaves_a_nameserver_that_is_cut_off(self) -> None:
        """It goes on at the other one, without a snapshot."""
        events: list[Any] = []

        async def take() -> None:
            async for event in follow(self.both, self.network, service="*"):
                events.append(event)

        following = defer.Deferred.fromCoroutine(take())
        following.addErrback(lambda failure: failure.trap(defer.CancelledError))
        self.addCleanup(following.cancel)
        self.run_for(0.5)
        here, other = (self.a, self.b) if self.count(self.a, "watches") else (self.b, self.a)
        self.register(here)
        here.etcd.cut = True
        self.register(other, "t")
        self.run_for(8.0)
        self.assertEqual([one["event"] for one in events], ["end-of-snapshot", "put", "put"])
        self.assertEqual((self.count(here, "watches"), self.count(other, "watches")), (0, 1))

    def test_reads_stay_where_they_are_if_all_refuse_changes(self) -> None:
        """A refusal that all have in common moves no client to and fro."""
        self.register(self.a, ttl=600.0)
        self.a.etcd.cut = self.b.etcd.cut = True
        self.run_for(5.0)
        args = {"service": "t", "interfaces": [CALC], "address": "tcp:127.0.0.1:2"}
        for _ in range(6):
            asking = (
                self.both.invoke("register", args),
                self.both.invoke("locate", {"service": "s"}),
            )
            self.run_for(0.3)
            self.failureResultOf(asking[0], StoreCutOff)
            located = self.both.invoke("locate", {"service": "s"})
            self.run_for(0.3)
            self.successResultOf(asking[1])
            self.successResultOf(located)
        found = sorted(self.count(front, "located") for front in (self.a, self.b))
        self.assertLessEqual(found[0], 2)


class WatchTests(SharedCase):
    """Watchers that come from another nameserver."""

    def watch(self, front: Front, **args: Any) -> tuple[list[Any], Any]:
        """The events of a watch, as they come; and the stream."""
        events: list[Any] = []
        stream = front.client.stream("watch", args)

        async def take() -> None:
            try:
                async for event in stream:
                    events.append(event)
            except Exception as problem:
                events.append(problem)

        defer.Deferred.fromCoroutine(take())
        self.run_for(0.3)
        return events, stream

    def test_goes_on_at_another_nameserver_without_a_snapshot(self) -> None:
        """A revision of one nameserver is one of all."""
        self.register(self.a, "s")
        events, stream = self.watch(self.a)
        revision = events[-1]["revision"]
        stream.close()
        self.register(self.b, "t")
        self.run_for(0.5)
        found, _ = self.watch(self.b, revision=revision)
        self.assertEqual([one["record"]["service"] for one in found], ["t"])

    def test_waits_for_a_nameserver_that_is_behind(self) -> None:
        """A nameserver that has not reached the revision yet lets the watcher wait, not begin
        anew."""
        self.b.etcd.hold()
        self.register(self.a, "s")
        events, _ = self.watch(self.a)
        found, _ = self.watch(self.b, revision=events[-1]["revision"])
        self.assertEqual(found, [])
        self.b.etcd.release()
        self.register(self.a, "t")
        self.run_for(2.0)
        self.assertEqual([one["record"]["service"] for one in found], ["t"])

    def test_unknown_revision_is_refused_in_the_end(self) -> None:
        """A revision that never comes is refused, after some seconds."""
        found, _ = self.watch(self.b, revision=1 << 60)
        self.assertEqual(found, [])
        self.run_for(6.0)
        self.assertIsInstance(found[0], RevisionTooOld)

    def test_watch_at_a_nameserver_that_is_cut_off_ends(self) -> None:
        """Its watcher is sent elsewhere, once; one that begins there ends when that is too old."""
        self.register(self.a, ttl=600.0)
        events, _ = self.watch(self.a)
        revision = events[-1]["revision"]
        self.a.etcd.cut = True
        self.run_for(7.0)
        self.assertIsInstance(events[-1], NameserverStale)
        late, _ = self.watch(self.a, revision=revision)
        self.run_for(20.0)
        self.assertEqual(late, [])
        self.run_for(40.0)
        self.assertIsInstance(late[-1], NameserverStale)
        new, _ = self.watch(self.a)
        self.assertIsInstance(new[0], NameserverStale)
        self.a.etcd.mend()
        self.run_for(3.0)
        found, _ = self.watch(self.a, revision=revision)
        self.register(self.b, "t")
        self.run_for(10.0)
        self.assertEqual([one["record"]["service"] for one in found], ["t"])

    def test_watcher_does_not_go_back_in_time(self) -> None:
        """A nameserver that is cut off does not say that a later revision is none: the watcher
        would take a snapshot of what was before."""
        self.register(self.a, "s")
        self.a.etcd.cut = True
        self.register(self.b, "t")
        events, _ = self.watch(self.b)
        self.run_for(3.0)
        found, _ = self.watch(self.a, revision=events[-1]["revision"])
        self.run_for(6.0)
        self.assertEqual([type(one) for one in found], [NameserverStale])

    def test_watch_that_waits_ends_with_the_nameserver(self) -> None:
        """A watcher that waits for a revision holds up no end. It had no event yet, so its client
        tries again, until it finds another nameserver."""
        found, stream = self.watch(self.b, revision=1 << 60)
        self.assertEqual(self.b.names._watches.count, 1)
        self.b.names.leave()
        self.run_for(0.3)
        self.assertEqual(self.b.names._watches.count, 0)
        self.assertEqual(found, [])
        stream.close()

    def test_watcher_converges_when_changes_were_compacted(self) -> None:
        """A comparison reaches watchers as differences; those cut off within them get them again
        at another nameserver."""
        for name in ("gone", "kept"):
            self.register(self.a, name)
        events, _ = self.watch(self.a)
        told = len(events)
        before = events[-1]["revision"]
        self.a.etcd.cut = True
        registered = self.b.names.directory.find("gone", 0.0)
        assert registered is not None
        self.model.revoke(registered.lease)
        for name in ("t", "u"):
            self.register(self.b, name)
        self.model.compact()
        self.a.etcd.mend()
        self.run_for(3.0)
        new = events[told:]
        self.assertEqual(
            {(one["event"], one.get("service") or one["record"]["service"]) for one in new},
            {("put", "t"), ("put", "u"), ("delete", "gone")},
        )
        self.assertEqual([one["revision"] for one in new[:-1]], [before] * 2)
        self.assertGreater(new[-1]["revision"], before)
        again, _ = self.watch(self.b, revision=new[0]["revision"])
        self.assertEqual(len(again), 3)
