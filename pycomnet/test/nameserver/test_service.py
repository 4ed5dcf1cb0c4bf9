"""The nameserver as clients see it: on a network in memory, by a clock that the test turns."""

from __future__ import annotations

import importlib
import sys

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.errors import (
    InvalidRegistration,
    LeaseLost,
    NotLeaseOwner,
    ServiceNameTaken,
    ServiceNotFound,
)
from pycomnet.nameserver.records import EXPIRED
from pycomnet.nameserver.service import NameService
from pycomnet.nameserver.stores.memory import MemoryStore
from pycomnet.services.client.context import NAMESERVER, Context
from pycomnet.test.nameserver.servicecase import CALC, OWN_SECRET, NameserverCase, Stream
from pycomnet.test.services.network import Network


class OwnerTests(NameserverCase):
    """Registering, renewing, unregistering."""

    def test_registered_is_found_by_others(self) -> None:
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

    def test_ttl_has_a_default(self) -> None:
        """Without a ttl there is a usual one."""
        self.assertEqual(self.registered()["ttl"], self.limits.ttl)

    def test_taken_name_raises_with_its_holder(self) -> None:
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

    def test_owner_registers_again_with_its_secret(self) -> None:
        """An owner with a secret of its own may register again: if an answer got lost, say."""
        first = self.registered(secret=OWN_SECRET)
        second = self.registered(secret=OWN_SECRET, address="tcp:h:2")
        self.assertEqual(second["secret"], OWN_SECRET)
        self.assertEqual(second["lease"], first["lease"])
        self.assertGreater(second["fence"], first["fence"])
        self.assertEqual(self.invoke("locate", service="a")["address"], "tcp:h:2")
        self.assertEqual(len(self.invoke("list_services")), 1)

    def test_one_of_those_in_the_same_turn_has_the_name(self) -> None:
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

    def test_renewed_lives_and_not_renewed_ends(self) -> None:
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

    def test_dead_ones_name_is_free_once_its_lease_is_over(self) -> None:
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

    def test_unregistered_is_gone_at_once(self) -> None:
        """It is gone at once, and the name free."""
        held = self.registered()
        answer = self.invoke("unregister", lease=held["lease"], secret=held["secret"])
        self.assertEqual(answer, {"service": "a"})
        self.assertEqual(self.located(), "")
        self.registered(address="tcp:h:2")

    def test_lease_number_alone_is_worth_nothing(self) -> None:
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

    def test_located_by_its_interface(self) -> None:
        """By its interface, as any service."""
        context = Context(self.network, nameserver=self.address)
        found = self.result(context.locate(NAMESERVER))
        self.assertEqual(self.result(found.invoke("stat"))["services"], 0)

    def test_nameserver_is_a_function_once_its_package_is_loaded(self) -> None:
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

    def test_leases_and_secrets_are_random(self) -> None:
        """Leases fit into 53 bits, and secrets into no list that somebody could try."""
        names = NameService(MemoryStore(), Network())
        leases = {names._random_lease() for _ in range(100)}
        secrets = {names._random_secret() for _ in range(100)}
        self.assertEqual((len(leases), len(secrets)), (100, 100))
        self.assertTrue(all(0 <= one < 2**53 for one in leases))
        self.assertTrue(all(len(one) >= 21 for one in secrets))


class ExpiryTests(NameserverCase):
    """Leases that end, by themselves."""

    def test_ended_is_removed_and_watchers_told_why(self) -> None:
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

    def test_thousands_end_while_others_are_answered(self) -> None:
        """Thousands that end together are removed, and others are answered meanwhile."""
        self.fill((f"s{number}" for number in range(4500)), ttl=5.0)
        self.network.advance(5.5)  # from then on they are doubtful
        self.network.wait(0.5)
        self.network.advance(5.5)
        self.network.wait(0.5)
        self.assertEqual(self.invoke("stat")["services"], 0)

    def test_no_timer_with_nothing_registered(self) -> None:
        """With nothing registered there is no timer that wakes it."""
        held = self.registered(ttl=5)
        self.invoke("unregister", lease=held["lease"], secret=held["secret"])
        self.network.wait(6.0)
        self.assertIsNone(self.names._expiry.timer)


class QuestionTests(NameserverCase):
    """Finding services."""

    def test_instances_are_given_in_turn(self) -> None:
        """Several instances are given in turn."""
        for name in "abc":
            self.registered(name)
        self.assertEqual([self.located() for _ in range(4)], ["a", "b", "c", "a"])

    def test_all_tags_have_to_be_there(self) -> None:
        """All the tags have to be there."""
        self.registered("a", tags=["x"])
        self.registered("b", tags=["x", "y"])
        self.assertEqual(self.invoke("locate", interface=CALC, tags=["y", "x"])["service"], "b")
        problem = self.refused(ServiceNotFound, "locate", interface=CALC, tags=["z"])
        self.assertIn("with the tags z", str(problem))

    def test_not_found_says_what_was_looked_for(self) -> None:
        """The error says what was looked for, and that patterns are for lists."""
        problem = self.refused(ServiceNotFound, "locate", interface="org.x", service="b")
        self.assertEqual(
            str(problem), "no service of the name 'b' with the interface 'org.x' is registered"
        )
        problem = self.refused(ServiceNotFound, "locate", interface="org.*")
        self.assertIn("list_services does", str(problem))
        self.refused(InvalidRegistration, "locate")

    def test_lists_by_pattern_and_tags_in_pages(self) -> None:
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

    def test_long_list_takes_turns_with_others(self) -> None:
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

    def test_page_with_much_metadata_is_short(self) -> None:
        """A page is short rather than long where there is much metadata; the next one goes on."""
        filler = {"filler": "x" * 4000}
        self.fill((f"s{number:03}" for number in range(600)), metadata=filler)
        first = self.invoke("list_services")
        self.assertTrue(200 < len(first) < 300, len(first))
        found = [one["service"] for one in first]
        while page := self.invoke("list_services", after=found[-1]):
            found += [one["service"] for one in page]
        self.assertEqual(found, [f"s{number:03}" for number in range(600)])

    def test_stat_has_contents_counts_and_version(self) -> None:
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
                "draining": 0,
                "failing": 0,
                "doubtful": 0,
                "watches": 1,
                "connections": 1,
                "memory": {"held": 0, "most": 512 << 20, "largest": 0, "refused": 0},
                "revision": 102,
                "oldest_revision": 100,
            },
        )
        self.assertEqual((counts["registered"], counts["renewed"], counts["located"]), (2, 1, 1))

    def test_methods_say_what_they_take_and_give(self) -> None:
        """Each method says what it takes and gives."""
        described = self.result(self.client.introspect())[NAMESERVER]["methods"]
        self.assertEqual(
            set(described),
            {"register", "renew", "unregister", "locate", "list_services", "watch", "stat"}
            | {"introspect", "remove", "cluster", "adjust", "override"},
        )
        self.assertTrue(all(one["doc"] for one in described.values()))
        self.assertEqual(described["renew"]["args"], {"lease": "int", "secret": "str"})
        again = {name for name, one in described.items() if one["idempotent"]}
        self.assertEqual(
            again,
            {"renew", "locate", "list_services", "introspect", "stat", "cluster"}
            | {"adjust", "override"},
        )
