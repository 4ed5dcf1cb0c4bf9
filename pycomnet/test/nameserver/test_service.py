"""The nameserver as clients see it: on a network in memory, by a clock that the test turns."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import defer
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.errors import (
    InvalidArguments,
    InvalidRegistration,
    LeaseLost,
    NameserverError,
    NameserverFull,
    NotLeaseOwner,
    RevisionTooOld,
    ServerLeaving,
    ServiceNameTaken,
    ServiceNotFound,
    StoreFailed,
)
from pycomnet.nameserver import service as service_module
from pycomnet.nameserver.records import EXPIRED, Change, Delete, Put
from pycomnet.nameserver.requests import Limits
from pycomnet.nameserver.service import NameService, make_server
from pycomnet.nameserver.stores.local import Asked, Decisions
from pycomnet.nameserver.stores.memory import MemoryStore
from pycomnet.services.context import NAMESERVER, Context
from pycomnet.test.nameserver.kit import record
from pycomnet.test.services.network import Network

CALC = "org.example.calc"
OWN_SECRET = "sixteen characters"


class LateStore(MemoryStore):
    """A store that commits when the test says so, and which others use, too.

    :ivar asked: what waits.
    """

    def open(self, follower: Any) -> defer.Deferred[None]:
        self.asked: list[Asked] = []
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


class NameserverCase(SynchronousTestCase):
    """A nameserver, and a client of it.

    :cvar limits: what its clients may do.
    """

    limits = Limits()
    options: dict[str, Any] = {}

    def make_store(self) -> Any:
        return MemoryStore(lambda: 100)

    def setUp(self) -> None:
        self.network = Network()
        self.network.advance(1000.0)
        self.store = self.make_store()
        self.leases = iter(range(1, 1_000_000))
        self.secrets = (f"secret-number-{number:06}" for number in range(1_000_000))
        self.names = NameService(
            self.store,
            self.network,
            self.limits,
            seconds=self.network.seconds,
            random_lease=lambda: next(self.leases),
            random_secret=lambda: next(self.secrets),
            version="1.2",
            **self.options,
        )
        self.server = make_server(self.network)
        self.addCleanup(self.network.deliver)
        self.addCleanup(self.network.cut)
        self.successResultOf(self.server.add(self.names))
        self.address = self.successResultOf(self.server.listen("tcp:2012:interface=127.0.0.1"))
        self.client = self.connect()

    def connect(self) -> Any:
        """Another client, with a connection of its own."""
        context = Context(self.network, nameserver=self.address)
        return self.result(context.connect(self.address, NAMESERVER))

    def result(self, deferred: defer.Deferred[Any]) -> Any:
        self.network.deliver()
        return self.successResultOf(deferred)

    def failure(self, deferred: defer.Deferred[Any], kind: type[Exception]) -> Any:
        self.network.deliver()
        return self.failureResultOf(deferred, kind).value

    def invoke(self, method: str, client: Any = None, **args: Any) -> Any:
        """Call it; what it gives."""
        return self.result((client or self.client).invoke(method, args))

    def refused(self, kind: type[Exception], method: str, client: Any = None, **args: Any) -> Any:
        """Call it; the error."""
        return self.failure((client or self.client).invoke(method, args), kind)

    def registered(self, service: str = "a", **args: Any) -> Any:
        """Register; the answer."""
        return self.invoke("register", **self.registration(service, **args))

    def registration(self, service: str = "a", **args: Any) -> dict[str, Any]:
        return {"service": service, "interfaces": [CALC], "address": "tcp:127.0.0.1:1", **args}

    def fill(self, names: Iterable[str], **options: Any) -> None:
        """Have the store commit registrations, without the way through the network."""
        for name in names:
            self.store.commit(Put(record(name, CALC, **options)))

    def located(self) -> str:
        """The service that offers the interface, or nothing."""
        found = self.client.invoke("locate", {"interface": CALC})
        found.addCallbacks(lambda one: one["service"], lambda f: f.trap(ServiceNotFound) and "")
        name: str = self.result(found)
        return name


class Stream:
    """A watch's events, as they have come."""

    def __init__(self, case: NameserverCase, client: Any = None, **args: Any) -> None:
        self.case = case
        self.stream = (client or case.client).stream("watch", args)
        self.events: list[dict[str, Any]] = []
        self.problem: Exception | None = None
        self._next()

    def _next(self) -> None:
        self.stream.receive().addCallbacks(self._came, self._ended)

    def _came(self, event: dict[str, Any]) -> None:
        self.events.append(event)
        self._next()

    def _ended(self, failure: Any) -> None:
        self.problem = failure.value

    def take(self) -> list[tuple[str, str]]:
        """The events since the last time: what, and of which service."""
        self.case.network.deliver()
        events, self.events = self.events, []
        self.last = events[-1] if events else None
        return [
            (event["event"], event.get("service") or event.get("record", {}).get("service", ""))
            for event in events
        ]


class OwnerTests(NameserverCase):
    """Registering, renewing, unregistering."""

    def test_register(self) -> None:
        """It answers with what the owner needs, and others find exactly what was registered."""
        answer = self.registered(
            interfaces=[CALC, "org.example.other"], ttl=20, metadata={"v": [1, None]}, tags=["t"]
        )
        self.assertEqual(set(answer), {"lease", "secret", "fence", "ttl"})
        self.assertEqual((answer["lease"], answer["secret"]), (1, "secret-number-000000"))
        self.assertEqual(answer["ttl"], 20.0)
        self.network.advance(5.0)
        expected = {
            "service": "a",
            "interfaces": [CALC, "org.example.other"],
            "address": "tcp:127.0.0.1:1",
            "metadata": {"v": [1, None]},
            "tags": ["t"],
            "fence": answer["fence"],
            "ttl": 15.0,
        }
        self.assertEqual(self.invoke("locate", interface=CALC), expected)
        self.assertEqual(self.invoke("list_services"), [expected])

    def test_default_ttl(self) -> None:
        """Without a ttl there is a usual one."""
        self.assertEqual(self.registered()["ttl"], self.limits.ttl)

    def test_taken(self) -> None:
        """While it lives another gets ServiceNameTaken, with what holds it and for how long."""
        self.registered(ttl=20)
        self.network.advance(5.0)
        for args in ({}, {"address": "tcp:h:2"}, {"secret": "quite another secret"}):
            problem = self.refused(
                ServiceNameTaken, "register", self.connect(), **self.registration(**args)
            )
            self.assertEqual(
                (problem.service, problem.address, problem.interfaces, problem.ttl),
                ("a", "tcp:127.0.0.1:1", [CALC], 15.0),
            )

    def test_repeated(self) -> None:
        """An owner with a secret of its own may register again: if an answer got lost, say."""
        first = self.registered(secret=OWN_SECRET)
        second = self.registered(secret=OWN_SECRET, address="tcp:h:2")
        self.assertEqual(second["secret"], OWN_SECRET)
        self.assertEqual(second["lease"], first["lease"])
        self.assertGreater(second["fence"], first["fence"])
        self.assertEqual(self.invoke("locate", service="a")["address"], "tcp:h:2")
        self.assertEqual(len(self.invoke("list_services")), 1)

    def test_same_turn(self) -> None:
        """Of those who want a name in the same turn, one has it and the others are told."""
        clients = [self.connect() for _ in range(5)]
        asked = [
            client.invoke("register", self.registration(address=f"tcp:h:{number}"))
            for number, client in enumerate(clients)
        ]
        self.network.deliver()
        self.successResultOf(asked[0])
        for one in asked[1:]:
            problem = self.failureResultOf(one, ServiceNameTaken).value
            self.assertEqual(problem.address, "tcp:h:0")

    def test_renew(self) -> None:
        """Renewed it lives on; not renewed it is gone, its owner is told and registers again."""
        held = self.registered(ttl=10)
        owner = {"lease": held["lease"], "secret": held["secret"]}
        for _ in range(5):
            self.network.wait(9.0)
            self.assertEqual(self.invoke("renew", **owner)["ttl"], 10.0)
        self.network.wait(9.9)
        self.assertEqual(self.located(), "a")
        self.network.wait(0.1)
        self.assertEqual(self.located(), "")
        self.refused(LeaseLost, "renew", **owner)
        self.refused(LeaseLost, "unregister", **owner)
        again = self.registered(ttl=10)
        self.assertGreater(again["fence"], held["fence"])
        self.assertNotEqual(again["lease"], held["lease"])

    def test_takeover(self) -> None:
        """A dead service's name is another's once its lease is over, not before; the one that was
        only thought dead can't touch it."""
        dead = self.registered(ttl=10)
        other = self.connect()
        wanted = self.registration(address="tcp:h:2", ttl=10)
        self.network.wait(9.5)
        self.refused(ServiceNameTaken, "register", other, **wanted)
        self.network.wait(0.5)
        new = self.invoke("register", other, **wanted)
        self.assertGreater(new["fence"], dead["fence"])
        self.refused(LeaseLost, "renew", lease=dead["lease"], secret=dead["secret"])
        self.refused(ServiceNameTaken, "register", **self.registration(secret=dead["secret"]))
        self.assertEqual(self.invoke("locate", service="a")["address"], "tcp:h:2")

    def test_unregister(self) -> None:
        """It is gone at once, and the name free."""
        held = self.registered()
        answer = self.invoke("unregister", lease=held["lease"], secret=held["secret"])
        self.assertEqual(answer, {"service": "a"})
        self.assertEqual(self.located(), "")
        self.registered(address="tcp:h:2")

    def test_secrets(self) -> None:
        """A lease's number alone is worth nothing, and no answer has the secret in it."""
        held = self.registered()
        for method in ("renew", "unregister"):
            self.refused(NotLeaseOwner, method, lease=held["lease"], secret="secret-number-000001")
        self.assertEqual(self.located(), "a")
        stream = Stream(self)
        stream.take()
        seen = [self.invoke("locate", service="a"), self.invoke("stat"), stream.last]
        self.assertNotIn("secret", str(seen))
        self.assertNotIn("lease", str(seen))


class NameTests(NameserverCase):
    """How the nameserver itself is found."""

    def test_locate(self) -> None:
        """By its interface, as any service."""
        context = Context(self.network, nameserver=self.address)
        found = self.result(context.locate(NAMESERVER))
        self.assertEqual(self.result(found.invoke("stat"))["services"], 0)

    def test_function(self) -> None:
        """``pycomnet.nameserver()`` is a function, also once the package of that name is loaded."""
        import pycomnet
        from pycomnet.services import default

        called: list[bool] = []
        self.patch(default, "nameserver", lambda: called.append(True))
        importlib.import_module("pycomnet.nameserver.records")
        self.patch(pycomnet, "nameserver", sys.modules["pycomnet.nameserver"])
        pycomnet.nameserver()
        self.assertEqual(called, [True])


class RandomTests(SynchronousTestCase):
    """What is random where nothing else is said."""

    def test_random(self) -> None:
        """Leases fit into 53 bits, and secrets into no list that somebody could try."""
        names = NameService(MemoryStore(), Network())
        leases = {names._random_lease() for _ in range(100)}
        secrets = {names._random_secret() for _ in range(100)}
        self.assertEqual((len(leases), len(secrets)), (100, 100))
        self.assertTrue(all(0 <= one < 2**53 for one in leases))
        self.assertTrue(all(len(one) >= 21 for one in secrets))


class ExpiryTests(NameserverCase):
    """Leases that end, by themselves."""

    def test_removed(self) -> None:
        """What has ended is removed without anybody asking, and watchers are told why."""
        stream = Stream(self)
        self.registered("a", ttl=5)
        self.registered("b", ttl=50)
        kinds = {what for what in stream.take() if what[1]}
        self.assertEqual(kinds, {("put", "a"), ("put", "b")})
        self.network.wait(5.5)
        self.assertEqual(stream.take(), [("delete", "a")])
        self.assertEqual(stream.last and stream.last["why"], EXPIRED)
        self.assertEqual(self.invoke("stat")["services"], 1)
        self.assertEqual(self.invoke("stat")["counts"]["expired"], 1)

    def test_many(self) -> None:
        """Thousands that end together are removed, and others are answered meanwhile."""
        self.fill((f"s{number}" for number in range(4500)), ttl=5.0)
        self.network.advance(5.5)
        self.network.wait(0.5)
        self.assertEqual(self.invoke("stat")["services"], 0)

    def test_idle(self) -> None:
        """With nothing registered there is no timer that wakes it."""
        held = self.registered(ttl=5)
        self.invoke("unregister", lease=held["lease"], secret=held["secret"])
        self.network.wait(6.0)
        self.assertIsNone(self.names._timer)


class LateStoreTests(NameserverCase):
    """A store that takes its time, or fails."""

    store: LateStore

    def make_store(self) -> LateStore:
        return LateStore(lambda: 100)

    def test_acknowledged(self) -> None:
        """Nothing is acknowledged, or found by others, before it is committed."""
        asked = self.client.invoke("register", self.registration())
        self.network.deliver()
        self.assertNoResult(asked)
        self.assertEqual(self.located(), "")
        self.store.finish()
        self.result(asked)
        self.assertEqual(self.located(), "a")

    def test_failed(self) -> None:
        """A store that can't keep it: the caller is told why, and nothing has changed."""
        asked = self.client.invoke("register", self.registration())
        self.network.deliver()
        self.store.fail()
        self.assertIn("full", str(self.failure(asked, StoreFailed)))
        self.assertEqual(self.located(), "")

    def test_expiry_fails(self) -> None:
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

    def test_flood(self) -> None:
        """What one client sends does not come before what others send: each has its turns."""
        flood = self.connect()
        asked = [
            flood.invoke("register", self.registration(f"flood-{number}")) for number in range(1000)
        ]
        self.network.deliver()
        one = self.client.invoke("register", self.registration("other"))
        self.network.deliver()
        self.assertLessEqual(len(self.store.asked), service_module.TURNS + 1)
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

    def test_others(self) -> None:
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
        self.store._decisions.committed([Asked(None, one.deferred) for one in late])
        self.assertEqual(self.failure(asked, ServiceNameTaken).address, "tcp:h:9")

    def test_leases(self) -> None:
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


class QuestionTests(NameserverCase):
    """Finding services."""

    def test_turns(self) -> None:
        """Several instances are given in turn."""
        for name in "abc":
            self.registered(name)
        self.assertEqual([self.located() for _ in range(4)], ["a", "b", "c", "a"])

    def test_tags(self) -> None:
        """All the tags have to be there."""
        self.registered("a", tags=["x"])
        self.registered("b", tags=["x", "y"])
        self.assertEqual(self.invoke("locate", interface=CALC, tags=["y", "x"])["service"], "b")
        problem = self.refused(ServiceNotFound, "locate", interface=CALC, tags=["z"])
        self.assertIn("with the tags z", str(problem))

    def test_not_found(self) -> None:
        """The error says what was looked for, and that patterns are for lists."""
        problem = self.refused(ServiceNotFound, "locate", interface="org.x", service="b")
        self.assertEqual(
            str(problem), "no service of the name 'b' with the interface 'org.x' is registered"
        )
        problem = self.refused(ServiceNotFound, "locate", interface="org.*")
        self.assertIn("list_services does", str(problem))
        self.refused(InvalidRegistration, "locate")

    def test_list(self) -> None:
        """By patterns and tags; in pages, until there is none."""
        for number in range(25):
            self.registered(f"org.s{number:02}", tags=["odd"] if number % 2 else [])
        self.registered("com.t")
        names = [f"org.s{number:02}" for number in range(25)]
        found: list[str] = []
        while page := self.invoke(
            "list_services", service="org.*", limit=10, after=found[-1] if found else None
        ):
            self.assertLessEqual(len(page), 10)
            found += [one["service"] for one in page]
        self.assertEqual(found, names)
        odd = self.invoke("list_services", interface=CALC, tags=["odd"])
        self.assertEqual([one["service"] for one in odd], names[1::2])

    def test_long_list(self) -> None:
        """Looking for few among many takes turns with what others ask, and finds all."""
        self.fill(f"s{number:05}" for number in range(7000))
        listing = self.client.invoke("list_services", {"service": "*9999"})
        listing.addCallback(len)
        none = self.client.invoke("list_services", {"service": "*77"})
        self.network._move(*self.network.wires[0])
        self.network.advance(0)
        self.assertNoResult(listing)
        self.assertEqual(self.result(listing), 0)
        self.assertEqual(len(self.result(none)), 70)

    def test_heavy_list(self) -> None:
        """A page is short rather than long where there is much metadata; the next one goes on."""
        filler = {"filler": "x" * 4000}
        self.fill((f"s{number:03}" for number in range(600)), metadata=filler)
        first = self.invoke("list_services")
        self.assertTrue(200 < len(first) < 300, len(first))
        found = [one["service"] for one in first]
        while page := self.invoke("list_services", after=found[-1]):
            found += [one["service"] for one in page]
        self.assertEqual(found, [f"s{number:03}" for number in range(600)])

    def test_stat(self) -> None:
        """What there is, what was done, and by which version for how long."""
        held = self.registered()
        self.registered("b", interfaces=["x", "y"])
        self.invoke("renew", lease=held["lease"], secret=held["secret"])
        self.located()
        Stream(self).take()
        self.network.advance(7.0)
        stat = self.invoke("stat")
        counts = stat.pop("counts")
        self.assertEqual(
            stat,
            {
                "version": "1.2",
                "uptime": 7.0,
                "store": "memory:",
                "services": 2,
                "bytes": 2 * (len("a") + len("tcp:127.0.0.1:1")) + 3 * 64 + len(CALC) + 2,
                "interfaces": 3,
                "watches": 1,
                "connections": 1,
                "revision": 102,
                "oldest_revision": 100,
            },
        )
        self.assertEqual((counts["registered"], counts["renewed"], counts["located"]), (2, 1, 1))

    def test_introspect(self) -> None:
        """Each method says what it takes and gives."""
        described = self.result(self.client.introspect())[NAMESERVER]["methods"]
        self.assertEqual(
            set(described),
            {"register", "renew", "unregister", "locate", "list_services", "watch", "stat"}
            | {"introspect"},
        )
        self.assertTrue(all(one["doc"] for one in described.values()))
        self.assertEqual(described["renew"]["args"], {"lease": "int", "secret": "str"})
        again = {name for name, one in described.items() if one["idempotent"]}
        self.assertEqual(again, {"renew", "locate", "list_services", "introspect", "stat"})


class WatchTests(NameserverCase):
    """Watches, over a connection."""

    options = {"log_length": 200}

    def test_watch(self) -> None:
        """A snapshot, its end, and what changes, with revisions that one can go on from."""
        self.registered("a")
        stream = Stream(self)
        self.assertEqual(stream.take(), [("put", "a"), ("end-of-snapshot", "")])
        held = self.registered("b")
        self.assertEqual(stream.take(), [("put", "b")])
        assert stream.last is not None
        revision = stream.last["revision"]
        self.assertEqual(revision, held["fence"])
        self.network.cut()  # and the client comes back
        client = self.connect()
        self.invoke("unregister", client, lease=held["lease"], secret=held["secret"])
        again = Stream(self, client, revision=revision)
        self.assertEqual(again.take(), [("delete", "b")])

    def test_filters(self) -> None:
        """By patterns of name and interface, and tags."""
        stream = Stream(self, service="org.*", interface="x*", tags=["t"])
        self.assertEqual(stream.take(), [("end-of-snapshot", "")])
        self.registered("org.a", interfaces=["x1"], tags=["t"])
        self.registered("com.a", interfaces=["x1"], tags=["t"])
        self.registered("org.b", interfaces=["y1"], tags=["t"])
        self.registered("org.c", interfaces=["x1"])
        self.assertEqual(stream.take(), [("put", "org.a")])

    def test_too_old(self) -> None:
        """A revision that is not known any more is refused, with the oldest that is."""
        stream = Stream(self, revision=7)
        stream.take()
        assert isinstance(stream.problem, RevisionTooOld)
        self.assertEqual((stream.problem.revision, stream.problem.oldest), (7, 100))

    def test_slow(self) -> None:
        """A watcher that takes nothing costs the others nothing, and is told to begin anew."""
        slow = self.client.stream("watch", {})
        fast = Stream(self, self.connect())
        self.network.deliver()
        metadata = {"filler": "x" * 4000}
        count = 600  # over two megabytes: more than fits on its way
        for number in range(count):
            self.fill([f"s{number}"], metadata=metadata)
            self.network.deliver()
        self.assertEqual(len(fast.take()), count + 1)
        events, problem = 0, None
        while problem is None:
            receiving = slow.receive()
            self.network.deliver()
            results: list[Any] = []
            receiving.addBoth(results.append)
            if isinstance(results[0], dict):
                events += 1
            else:
                problem = results[0]
        problem.trap(RevisionTooOld)
        self.assertLess(events, count)

    def test_closed(self) -> None:
        """A watch that its client closes, or whose connection ends, is over here, too."""
        stream = Stream(self)
        stream.take()
        stream.stream.close()
        self.network.deliver()
        self.assertEqual((self.names._watching, self.names._waiting), (0, {}))
        Stream(self).take()
        self.assertEqual(self.names._watching, 1)
        self.network.cut()
        self.network.deliver()
        self.assertEqual((self.names._watching, dict(self.names._watches)), (0, {}))

    def test_leaving(self) -> None:
        """When the nameserver ends, watchers are told."""
        stream = Stream(self)
        stream.take()
        self.names.leave()
        stream.take()
        self.assertIsInstance(stream.problem, ServerLeaving)
        closing = self.server.close()
        self.network.deliver()
        self.successResultOf(closing)


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(), max_size=20)
    | st.text("*?[]!-a.", max_size=10)
    | st.binary(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3)
        | st.tuples(inner)
    ),
    max_leaves=5,
)
NAMES = st.sampled_from(
    [
        *("service", "interfaces", "interface", "address", "ttl", "metadata", "tags", "secret"),
        *("lease", "limit", "after", "revision", "x"),
    ]
)


class RubbishTests(NameserverCase):
    """What nobody sends who means well."""

    @settings(max_examples=300, deadline=None)
    @given(
        method=st.sampled_from(
            ["register", "renew", "unregister", "locate", "list_services", "stat", "watch"]
        ),
        args=st.dictionaries(NAMES, ANYTHING, max_size=6) | ANYTHING,
        sound=st.booleans(),
    )
    def test_arguments(self, method: str, args: Any, sound: bool) -> None:
        """Whatever the arguments, they are answered or refused by an error of their own; nothing
        unforeseen is raised, and nothing half done."""
        if sound and isinstance(args, dict):
            args = {**self.registration(), **args}
        declared = self.names.interfaces[NAMESERVER].methods[method]
        request: Any = SimpleNamespace(args=args, _call=SimpleNamespace(connection=self))
        try:
            declared.check(args)
            result = getattr(self.names, declared.attribute)(request)
        except (InvalidArguments, NameserverError, ServiceNotFound):
            return
        if method == "watch":
            result = result.__anext__()
        if inspect.isawaitable(result):
            waiting: Any = defer.ensureDeferred(result)  # type: ignore[arg-type]
            waiting.addErrback(lambda failure: failure.trap(InvalidArguments, NameserverError))
            self.network.advance(0)
            self.successResultOf(waiting)
        for held in self.names.directory.times_left():
            self.assertLessEqual(held[1], self.limits.max_ttl)


class LimitTests(NameserverCase):
    """What is refused, and that it disturbs nobody."""

    limits = Limits(services=5, watches=3, connection_watches=2)

    def test_arguments(self) -> None:
        """What can't be a registration, with what was expected."""
        for args, expected in (
            ({"service": ""}, "service"),
            ({"service": "a" * 256}, "1 to 255"),
            ({"service": "a b"}, "without spaces"),
            ({"service": "a*"}, "without"),
            ({"service": "a\nb"}, "printable"),
            ({"interfaces": []}, "1 to 64"),
            ({"interfaces": ["x"] * 65}, "1 to 64"),
            ({"interfaces": ["x", 5]}, "interfaces"),
            ({"interfaces": ["org.*"]}, "interfaces"),
            ({"address": "x" * 2000}, "1 to 1024"),
            ({"address": "nowhere"}, "endpoint string"),
            ({"tags": ["t"] * 33}, "0 to 32"),
            ({"tags": [""]}, "tags"),
            ({"ttl": 0.5}, "from 1 to 86400"),
            ({"ttl": 1e9}, "from 1 to 86400"),
            ({"ttl": float("nan")}, "from 1 to 86400"),
            ({"metadata": {"x": "y" * 5000}}, "at most 4096 bytes"),
            ({"metadata": {1: 2}}, "strings as keys"),
            ({"secret": "short"}, "16 to 128"),
        ):
            problem = self.refused(InvalidRegistration, "register", **self.registration(**args))
            self.assertIn(expected, str(problem), args)
        self.assertEqual(self.invoke("stat")["services"], 0)

    def test_types(self) -> None:
        """What is of the wrong type, missing or unknown."""
        for method, args in (
            ("register", {}),
            ("register", self.registration(interfaces=CALC)),
            ("register", self.registration(ttl="1")),
            ("register", self.registration(metadata=[])),
            ("register", self.registration(colour="red")),
            ("renew", {"lease": "1", "secret": "s"}),
            ("renew", {"lease": 1}),
            ("locate", {"interface": 5}),
            ("list_services", {"limit": "5"}),
            ("list_services", {"limit": True}),
        ):
            self.refused(InvalidArguments, method, **args)
        for method, args in (
            ("list_services", {"limit": 0}),
            ("list_services", {"limit": 1001}),
            ("list_services", {"service": "x" * 300}),
            ("locate", {"interface": CALC, "tags": ["t"] * 50}),
        ):
            self.refused(InvalidRegistration, method, **args)

    def test_services(self) -> None:
        """When it is full it says so; what is there can be renewed and replaced."""
        held = [self.registered(name, secret=OWN_SECRET) for name in "abcde"]
        self.refused(NameserverFull, "register", **self.registration("f"))
        self.registered("a", secret=OWN_SECRET)
        self.invoke("unregister", lease=held[1]["lease"], secret=OWN_SECRET)
        self.registered("f")

    def test_bytes(self) -> None:
        """So many bytes of all registrations together, whether by new ones or by longer ones."""
        self.patch(self.names, "limits", Limits(bytes=5000))
        filler = {"filler": "x" * 1400}
        for name in "abc":
            self.registered(name, metadata=filler, secret=OWN_SECRET)
        problem = self.refused(
            NameserverFull, "register", **self.registration("d", metadata=filler)
        )
        self.assertIn("bytes", str(problem))
        held = self.registered("d", secret=OWN_SECRET)
        longer = self.registration("d", metadata=filler, secret=OWN_SECRET)
        self.refused(NameserverFull, "register", **longer)
        self.registered("c", secret=OWN_SECRET)
        self.assertEqual(self.invoke("register", **longer)["lease"], held["lease"])

    def test_watches(self) -> None:
        """So many for one client, and so many for all."""
        streams = [Stream(self) for _ in range(3)]
        for one in streams:
            one.take()
        self.assertEqual([type(one.problem) for one in streams][:2], [type(None)] * 2)
        self.assertIsInstance(streams[2].problem, NameserverFull)
        other = self.connect()
        more = [Stream(self, other) for _ in range(2)]
        for one in more:
            one.take()
        self.assertIsNone(more[0].problem)
        self.assertIsInstance(more[1].problem, NameserverFull)
        streams[0].stream.close()
        again = Stream(self)
        again.take()
        self.assertIsNone(again.problem)
