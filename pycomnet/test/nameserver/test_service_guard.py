"""The nameserver doubts it when over half of all leases end at once."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.logger import LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.errors import LeaseLost, ServiceNotFound, TooManyRegistrations
from pycomnet.nameserver import directory
from pycomnet.nameserver.directory import Directory
from pycomnet.nameserver.endedleases import FEWEST
from pycomnet.nameserver.expiry import Expiry
from pycomnet.nameserver.records import Put
from pycomnet.nameserver.requests import NameserverLimits
from pycomnet.nameserver.stores.memory import MemoryStore
from pycomnet.test.nameserver.kit import SECRET, record
from pycomnet.test.nameserver.servicecase import CALC, NameserverCase, Stream

OTHER = "org.example.other"
TTL = 30.0
#: after this the leases of who has not renewed are over
OVER = TTL + 1.0


def names_of(first: str, count: int) -> list[str]:
    return [f"{first}-{number:04}" for number in range(count)]


class GuardCase(NameserverCase):
    """A nameserver with a dozen services.

    :cvar count: how many.
    """

    count = 12

    def setUp(self) -> None:
        super().setUp()
        self.said: list[Any] = []
        observer: Any = self._observe
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.owners: dict[str, dict[str, Any]] = {}
        for name in names_of("a", self.count):
            self.have(name)

    def _observe(self, event: Any) -> None:
        if event["log_level"] >= LogLevel.warn and event["log_namespace"].endswith("expiry"):
            self.said.append(event)

    def have(self, name: str, **args: Any) -> None:
        given = self.registered(name, ttl=TTL, **args)
        self.owners[name] = {"lease": given["lease"], "secret": given["secret"]}

    def renew(self, *names: str) -> None:
        for name in names:
            self.invoke("renew", **self.owners[name])

    def listed(self) -> dict[str, bool]:
        """Each service, and whether it is doubtful."""
        return {one["service"]: one.get("doubtful", False) for one in self.invoke("list_services")}

    @property
    def doubtful(self) -> int:
        count: int = self.invoke("stat")["doubtful"]
        return count

    def levels(self) -> list[str]:
        return [event["log_level"].name for event in self.said]


class GuardTests(GuardCase):
    """All of a dozen services are cut off from it."""

    def test_keeps_for_one_more_ttl_what_would_end_and_says_so_twice(self) -> None:
        self.network.advance(OVER)
        self.assertEqual(self.listed(), dict.fromkeys(names_of("a", 12), True))
        self.assertEqual(self.doubtful, 12)
        self.assertEqual(self.levels(), ["critical"])
        self.network.advance(TTL - 2.0)
        self.assertEqual(self.doubtful, 12)
        self.network.advance(3.0)
        self.assertEqual(self.listed(), {})
        self.assertEqual(self.doubtful, 0)
        self.assertEqual(self.invoke("stat")["counts"]["expired"], 12)
        self.assertEqual(self.levels(), ["critical", "warn"])
        self.assertEqual((self.said[1]["marked"], self.said[1]["healed"]), (12, 0))

    def test_is_located_only_where_no_other_is(self) -> None:
        self.network.advance(OVER)
        found = self.invoke("locate", interface=CALC)
        self.assertIs(found["doubtful"], True)
        self.assertEqual(found["ttl"], 0.0)
        self.assertGreater(len({self.located() for _ in range(50)}), 3)
        self.have("b")
        self.assertEqual({self.located() for _ in range(30)}, {"b"})
        self.assertNotIn("doubtful", self.invoke("locate", interface=CALC))
        self.assertIs(self.invoke("locate", service="a-0003")["doubtful"], True)
        self.refused(ServiceNotFound, "locate", interface=CALC, tags=["x"])

    def test_draining_is_not_located_either_way(self) -> None:
        for name in names_of("a", 12)[1:]:
            self.invoke("adjust", **self.owners[name], draining=True)
        self.network.advance(OVER)
        self.assertEqual({self.located() for _ in range(30)}, {"a-0000"})

    def test_renewal_heals(self) -> None:
        self.network.advance(OVER)
        self.renew(*names_of("a", 12))
        self.assertEqual(self.listed(), dict.fromkeys(names_of("a", 12), False))
        self.assertEqual(self.doubtful, 0)
        self.network.advance(TTL * 0.6)
        self.renew(*names_of("a", 12))
        self.network.advance(TTL * 0.6)
        self.assertEqual(self.doubtful, 0)
        self.assertEqual(self.levels(), ["critical", "warn"])
        self.assertEqual((self.said[1]["marked"], self.said[1]["healed"]), (12, 12))

    def test_healed_may_be_doubted_again(self) -> None:
        self.network.advance(OVER)
        self.renew(*names_of("a", 12))
        self.network.advance(OVER)
        self.assertEqual(self.doubtful, 12)
        self.network.advance(OVER)
        self.assertEqual(self.doubtful, 0)
        self.refused(LeaseLost, "renew", **self.owners["a-0000"])

    def test_another_owner_takes_the_name_at_once(self) -> None:
        self.network.advance(OVER)
        before = self.invoke("locate", service="a-0000")["fence"]
        loser = self.owners["a-0000"]
        self.have("a-0000")
        found = self.invoke("locate", service="a-0000")
        self.assertGreater(found["fence"], before)
        self.assertNotIn("doubtful", found)
        self.assertEqual(self.doubtful, 11)
        self.refused(LeaseLost, "renew", **loser)
        self.renew("a-0000")

    def test_owner_changes_it_and_takes_it_away(self) -> None:
        self.network.advance(OVER)
        self.invoke("adjust", **self.owners["a-0000"], weight=5)
        self.assertIs(self.listed()["a-0000"], True)  # that does not renew
        self.assertEqual(self.doubtful, 12)
        self.invoke("unregister", **self.owners["a-0001"])
        self.assertNotIn("a-0001", self.listed())
        self.assertEqual(self.doubtful, 11)
        self.network.advance(OVER)
        self.assertEqual((self.listed(), self.doubtful), ({}, 0))

    def test_watchers_hear_of_the_end_alone(self) -> None:
        stream = Stream(self, service="a-0000")
        stream.take()
        self.network.advance(OVER)
        self.assertEqual(stream.take(), [])
        self.network.advance(TTL + 1.0)
        self.assertEqual(stream.take(), [("delete", "a-0000")])
        late = Stream(self, service="a-*")
        self.assertEqual(late.take(), [("end-of-snapshot", "")])

    def test_suspended_nameserver_loses_nobody(self) -> None:
        """It was stopped for an hour, and goes on: everybody renews, sooner or later."""
        self.network.advance(3600.0)
        self.assertEqual(self.doubtful, 12)
        self.network.advance(TTL * 0.5)
        self.renew(*names_of("a", 12))
        self.assertEqual(self.listed(), dict.fromkeys(names_of("a", 12), False))

    def test_as_they_go_one_by_one(self) -> None:
        """Who is cut off together does not end together: each was renewed at another time."""
        for name in names_of("a", 12):
            self.renew(name)
            self.network.advance(1.0)
        for _ in range(41):
            self.network.advance(0.5)
        self.assertEqual(self.doubtful, 3)
        self.assertEqual(len(self.listed()), 12)
        self.assertEqual(self.levels(), ["critical"])


class LimitTests(GuardCase):
    """What is doubtful counts for its client: else it could have twice as many as it may."""

    limits = NameserverLimits(client_services=12)

    def test_client_has_no_room_for_others(self) -> None:
        self.network.advance(OVER)
        self.refused(TooManyRegistrations, "register", **self.registration("new"))
        self.renew("a-0000")
        self.have("a-0001", secret=self.owners["a-0001"]["secret"])
        self.invoke("unregister", **self.owners["a-0002"])
        self.have("new")
        self.refused(TooManyRegistrations, "register", **self.registration("newer"))
        self.network.advance(TTL * 0.9)
        self.renew("a-0000", "a-0001", "new")
        self.network.advance(TTL * 0.2)
        for name in names_of("newer", 9):
            self.have(name)
        self.refused(TooManyRegistrations, "register", **self.registration("newest"))

    def test_client_may_register_its_own_again_with_another_secret(self) -> None:
        """Most clients have the nameserver choose it; there are no more of theirs then."""
        self.network.advance(OVER)
        for name in self.owners:
            self.invoke("register", **self.registration(name, ttl=TTL))
        self.assertEqual((self.doubtful, len(self.listed())), (0, 12))

    def test_names_of_others_count_for_who_takes_them(self) -> None:
        other = self.connect()
        for name in names_of("other", 12):
            self.invoke("register", client=other, **self.registration(name, ttl=TTL * 1.1))
        self.network.advance(OVER)
        self.refused(TooManyRegistrations, "register", client=other, **self.registration("a-0000"))


class OrdinaryTests(GuardCase):
    """Less than half of all end: each is removed at its time."""

    def test_half_is_not_most(self) -> None:
        live = names_of("a", 12)[6:]
        self.network.advance(TTL * 0.6)
        self.renew(*live)
        self.network.advance(TTL * 0.5)
        self.assertEqual(self.listed(), dict.fromkeys(live, False))
        self.assertEqual(self.said, [])

    def test_just_over_half_is_most(self) -> None:
        self.network.advance(TTL * 0.6)
        self.renew(*names_of("a", 12)[7:])
        self.network.advance(TTL * 0.5)
        self.assertEqual(self.doubtful, 7)


class FewTests(GuardCase):
    """A handful of services are not guarded."""

    count = FEWEST - 1

    def test_a_handful_is_removed_in_time(self) -> None:
        self.network.advance(OVER)
        self.assertEqual(self.listed(), {})
        self.assertEqual(self.said, [])


class NoGuardTests(GuardCase):
    """With --no-mass-expiry-guard."""

    options = {"guard": False}

    def test_all_are_removed_in_time(self) -> None:
        self.network.advance(OVER)
        self.assertEqual((self.listed(), self.doubtful, self.said), ({}, 0, []))


class ManyTests(NameserverCase):
    """More than are looked at one by one."""

    limits = NameserverLimits(services=100_000)

    def test_some_of_many_are_looked_at(self) -> None:
        self.patch(directory, "STRIDE", 50)
        self.fill(names_of("dead", 400), ttl=TTL)
        self.fill(names_of("live", 300), ttl=600.0)
        self.assertEqual(self.names.directory.ending(), 0.0)
        self.network.advance(TTL * 0.9)
        self.assertApproximates(self.names.directory.ending(), 4 / 7, 0.03)
        self.network.advance(TTL * 0.2)
        # All at once, though no more than 50 are due at a time.
        self.assertEqual(self.invoke("stat")["doubtful"], 400)


class RestartTests(SynchronousTestCase):
    """The leases end soon after a start, before the services are back."""

    def test_loaded_ones_are_kept(self) -> None:
        clock = Clock()
        clock.advance(1000.0)
        names = Directory(clock.seconds)
        store = MemoryStore(lambda: 100)
        store.open(names)
        loaded = [record(name, CALC, ttl=TTL) for name in names_of("a", 12)]
        for one in loaded:
            one.fence = 7
        names.load((one, 0.0) for one in loaded)
        names.loaded(100)
        expiry = Expiry(names, store, clock, clock.seconds)
        self.addCleanup(expiry.stop)
        names.listen(expiry.schedule)
        expiry.schedule()
        clock.advance(1.0)
        self.assertEqual(names.doubtful, 12)
        self.assertEqual(len(names), 12)
        for one in loaded:
            names.renew(one.lease, SECRET, clock.seconds())
        self.assertEqual((names.doubtful, names.healed), (0, 12))
        store.commit(Put(record("b", OTHER, ttl=TTL)))
        clock.advance(TTL / 2)
        self.assertEqual(len(names), 13)
