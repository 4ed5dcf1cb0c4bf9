"""Whose is what, for how long, and finding it."""

from __future__ import annotations

from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from pycomnet.errors import LeaseLost, NotLeaseOwner, ServiceNameTaken
from pycomnet.interfaces import INameFollower
from pycomnet.nameserver import directory
from pycomnet.nameserver.queries import Query
from pycomnet.nameserver.records import EXPIRED, Delete
from pycomnet.test.nameserver.kit import SECRET, Registry, record
from pycomnet.test.properties import examples, given, settings

OTHER = "somebody else's secret"
NO_TAGS: frozenset[str] = frozenset()


class DirectoryCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.registry = Registry()
        self.directory = self.registry.directory

    def located(
        self, interface: str | None = "org.example.calc", service: str | None = None
    ) -> str:
        one = self.directory.locate(interface, service, NO_TAGS, self.registry.now)
        return "" if one is None else one.service


class OwnerTests(DirectoryCase):
    """A name is its owner's while the lease lives."""

    def test_directory_provides_its_interface(self) -> None:
        verifyObject(INameFollower, self.directory)

    def test_taken_name_says_by_whom_and_for_how_long(self) -> None:
        """Another is told what holds the name and for how long."""
        self.registry.register("a", "x", "y", address="tcp:h:1", ttl=30.0)
        self.registry.clock.advance(12.5)
        problem = self.assertRaises(
            ServiceNameTaken, self.registry.register, "a", secret=OTHER, address="tcp:h:2"
        )
        self.assertEqual(
            (problem.service, problem.address, problem.interfaces, problem.ttl),
            ("a", "tcp:h:1", ["x", "y"], 17.5),
        )
        self.assertIn("tcp:h:1", str(problem))
        self.assertIn("17.5 s", str(problem))
        self.assertNotIn(SECRET, repr(problem))

    def test_owner_registers_anew_with_a_higher_fence(self) -> None:
        """Its owner can register it anew: the same lease, a higher fence, a whole ttl."""
        first = self.registry.register("a", address="tcp:h:1", ttl=30.0)
        self.registry.clock.advance(20.0)
        second = self.registry.register("a", address="tcp:h:2", ttl=10.0)
        self.assertEqual(second.lease, first.lease)
        self.assertGreater(second.fence, first.fence)
        self.assertEqual(second.time_left(self.registry.now), 10.0)
        self.assertEqual(len(self.directory), 1)
        self.registry.clock.advance(9.0)
        self.directory.renew(second.lease, SECRET, self.registry.now)

    def test_name_is_free_once_its_lease_is_over(self) -> None:
        """Once the lease is over anybody can have the name, with a higher fence; its owner of
        before is told, and can do nothing to it."""
        first = self.registry.register("a", ttl=10.0)
        self.registry.clock.advance(10.0)
        second = self.registry.register("a", secret=OTHER)
        self.assertGreater(second.fence, first.fence)
        for method in (self.directory.renew, self.directory.removal):
            self.assertRaises(LeaseLost, method, first.lease, SECRET, self.registry.now)
        self.assertRaises(ServiceNameTaken, self.registry.register, "a")
        self.assertEqual(self.located(), "a")

    def test_renewed_lives_and_not_renewed_ends_in_time(self) -> None:
        """Renewed in time it lives for ever; not renewed it is over at its time, not later."""
        one = self.registry.register("a", ttl=10.0)
        for _ in range(20):
            self.registry.clock.advance(9.0)
            self.directory.renew(one.lease, SECRET, self.registry.now)
        self.registry.clock.advance(9.99)
        self.assertEqual(self.located(), "a")
        self.registry.clock.advance(0.01)
        self.assertEqual(self.located(), "")
        self.assertRaises(LeaseLost, self.directory.renew, one.lease, SECRET, self.registry.now)

    def test_without_secret_nothing_is_renewed_or_removed(self) -> None:
        """Without the secret nobody can renew or remove it."""
        one = self.registry.register("a", ttl=10.0)
        self.registry.clock.advance(5.0)
        for method in (self.directory.renew, self.directory.removal):
            problem = self.assertRaises(NotLeaseOwner, method, one.lease, OTHER, self.registry.now)
            self.assertNotIn(SECRET, str(problem))
        self.assertEqual(one.time_left(self.registry.now), 5.0)
        self.assertRaises(LeaseLost, self.directory.renew, 10**6, SECRET, self.registry.now)

    def test_owner_removes_it_once(self) -> None:
        """Its owner can remove it, once."""
        one = self.registry.register("a")
        self.registry.unregister(one)
        self.assertEqual(self.located(), "")
        self.assertRaises(LeaseLost, self.registry.unregister, one)
        self.registry.register("a", secret=OTHER)

    def test_secret_is_not_kept(self) -> None:
        """What is kept of the secret is not the secret, nor shown."""
        one = self.registry.register("a")
        self.assertNotIn(SECRET.encode(), one.secret)
        self.assertNotIn("secret", repr(one))
        self.assertNotIn("secret", one.as_map(0.0))


class ExpiryTests(DirectoryCase):
    """Leases that end."""

    def test_ended_is_due_once_and_gone_once_removed(self) -> None:
        """What has ended is due once, and gone once the store has removed it."""
        self.registry.register("a", ttl=10.0)
        self.registry.register("b", ttl=60.0)
        self.registry.clock.advance(11.0)
        (ended,) = self.directory.due(self.registry.now)
        self.assertEqual(ended.service, "a")
        self.assertEqual(self.directory.due(self.registry.now), [])
        self.registry.store.commit(Delete("a", ended.fence, EXPIRED))
        self.assertEqual(len(self.directory), 1)
        self.assertEqual(self.directory.log.after(0, 100)[-1].why, EXPIRED)

    def test_what_was_not_removed_is_due_again(self) -> None:
        """What the store could not remove is due again, and nobody sees it meanwhile."""
        self.registry.register("a", ttl=10.0)
        self.registry.clock.advance(11.0)
        (ended,) = self.directory.due(self.registry.now)
        self.directory.put_off(ended, self.registry.now, 5.0)
        self.registry.clock.advance(4.0)
        self.assertEqual(self.directory.due(self.registry.now), [])
        self.assertEqual(self.located(), "")
        self.registry.clock.advance(1.5)
        self.assertEqual(self.directory.due(self.registry.now), [ended])

    def test_taken_over_meanwhile(self) -> None:
        """The removal of what was taken over in the meantime removes nothing."""
        old = self.registry.register("a", ttl=10.0)
        self.registry.clock.advance(11.0)
        self.directory.due(self.registry.now)
        self.registry.register("a", secret=OTHER)
        refused = self.registry.store.commit(Delete("a", old.fence, EXPIRED))
        self.failureResultOf(refused)
        self.directory.put_off(old, self.registry.now, 1.0)
        self.registry.clock.advance(2.0)
        self.assertEqual(self.directory.due(self.registry.now), [])
        self.assertEqual(self.located(), "a")

    def test_store_ends_leases(self) -> None:
        """Where the store ends leases, nothing is due here."""
        registry = Registry(ends_leases=False)
        registry.register("a", ttl=10.0)
        self.assertIsNone(registry.directory.next_time())

    def test_loaded_has_the_time_it_had_left(self) -> None:
        """What is loaded has the time that it had left."""
        one = record("a", ttl=30.0)
        one.fence = 7
        self.directory.load([(one, 4.0)])
        self.directory.loaded(7)
        self.registry.clock.advance(3.9)
        self.assertEqual(self.located(), "a")
        self.assertEqual(dict(self.directory.times_left()), {"a": 0.1})
        self.registry.clock.advance(0.2)
        self.assertEqual(self.located(), "")
        self.assertEqual(self.directory.due(self.registry.now + 1), [one])


class LocateTests(DirectoryCase):
    """One of those that match."""

    def test_instances_take_turns(self) -> None:
        """Instances of an interface take turns."""
        for name in "abc":
            self.registry.register(name)
        self.assertEqual([self.located() for _ in range(6)], [*"abcabc"])

    def test_named_service_must_match_interface_and_tags(self) -> None:
        """By its name, and then the interface and tags have to be right."""
        self.registry.register("a", "x", tags=("t",))
        now = self.registry.now
        for interface, tags, found in (
            (None, (), True),
            ("x", ("t",), True),
            ("y", (), False),
            (None, ("u",), False),
        ):
            one = self.directory.locate(interface, "a", frozenset(tags), now)
            self.assertEqual(one is not None, found, (interface, tags))
        self.assertIsNone(self.directory.locate(None, "b", NO_TAGS, now))


class PageTests(DirectoryCase):
    """Lists, in pages."""

    def names(self, query: Query, limit: int = 100, stride: int = 7) -> list[str]:
        """All pages; that each is in its limits."""
        found: list[str] = []
        after: str | None = ""
        while after is not None:
            page = self.directory.page(query, after, limit, self.registry.now, stride)
            self.assertLessEqual(len(page.records), limit)
            found += [one.service for one in page.records]
            if page.after is not None:
                self.assertGreater(page.after, after)
            after = page.after
        self.assertEqual(found, sorted(set(found)))
        return found

    def test_name_prefix_and_pattern_match(self) -> None:
        """Names and interfaces by themselves, a prefix or a pattern."""
        for name in ("org.a.one", "org.a.two", "org.b.one", "com.a.one"):
            self.registry.register(name, f"i.{name}", "i.all", tags=(name[-3:],))
        for query, expected in (
            (Query(), ["com.a.one", "org.a.one", "org.a.two", "org.b.one"]),
            (Query("org.a.one"), ["org.a.one"]),
            (Query("org.a"), []),
            (Query("org.*"), ["org.a.one", "org.a.two", "org.b.one"]),
            (Query("*.one"), ["com.a.one", "org.a.one", "org.b.one"]),
            (Query("org.?.one"), ["org.a.one", "org.b.one"]),
            (Query("org.[!a].*"), ["org.b.one"]),
            (Query(interface="i.all"), ["com.a.one", "org.a.one", "org.a.two", "org.b.one"]),
            (Query(interface="i.org.*"), ["org.a.one", "org.a.two", "org.b.one"]),
            (Query(interface="i.none"), []),
            (Query("org.*", "i.*.one", frozenset({"one"})), ["org.a.one", "org.b.one"]),
            (Query("org.a.one", "i.org.b.one"), []),
            (Query(tags=frozenset({"one", "two"})), []),
        ):
            for limit in (1, 2, 100):
                self.assertEqual(self.names(query, limit), expected, query)

    def test_ended_is_in_no_list(self) -> None:
        """What is over is in no list."""
        self.registry.register("a", "x", ttl=10.0)
        self.registry.register("b", "x", ttl=60.0)
        self.registry.clock.advance(10.0)
        for query in (Query(), Query("a"), Query("*"), Query(interface="x")):
            self.assertNotIn("a", self.names(query), query)

    def test_one_of_many_instances_is_listed(self) -> None:
        """One of very many instances is listed as any other."""
        self.patch(directory, "FEW", 5)
        for number in range(30):
            self.registry.register(f"s{number:02}", "x" if number % 3 else "y")
        self.assertEqual(len(self.names(Query(interface="x"), 4)), 20)
        self.assertEqual(len(self.names(Query("s0*", "x"), 4)), 6)

    def test_changes_between_pages(self) -> None:
        """What comes and goes between pages neither ends nor repeats the rest."""
        for name in "bdf":
            self.registry.register(name)
        first = self.directory.page(Query(), "", 1, self.registry.now)
        self.assertEqual(first.after, "b")
        held = self.directory.find("b", self.registry.now)
        assert held is not None
        self.registry.unregister(held)
        for name in "ac":
            self.registry.register(name)
        rest = self.directory.page(Query(), "b", 100, self.registry.now)
        self.assertEqual([one.service for one in rest.records], ["c", "d", "f"])

    @settings(max_examples=examples(60), deadline=None)
    @given(
        names=st.sets(st.text("ab.", min_size=1, max_size=4), max_size=12),
        pattern=st.text("ab.*?", min_size=1, max_size=4),
        limit=st.integers(1, 5),
    )
    def test_pages_find_what_fnmatch_finds(self, names: set[str], pattern: str, limit: int) -> None:
        """Any pattern finds in pages what fnmatch finds at once."""
        from fnmatch import fnmatchcase

        registry = Registry()
        for name in names:
            registry.register(name)
        self.registry, self.directory = registry, registry.directory
        expected = sorted(name for name in names if fnmatchcase(name, pattern))
        self.assertEqual(self.names(Query(pattern), limit), expected)
