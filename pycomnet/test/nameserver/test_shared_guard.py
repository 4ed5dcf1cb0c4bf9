"""Nameservers that share a store doubt it when over half of all leases end at once, all alike."""

from __future__ import annotations

from typing import Any

from twisted.logger import LogLevel, globalLogPublisher

from pycomnet.errors import LeaseLost, ServiceNotFound, TooManyRegistrations
from pycomnet.etcd import EtcdUnavailable
from pycomnet.nameserver import sharedexpiry
from pycomnet.nameserver.endedleases import FEWEST
from pycomnet.nameserver.requests import NameserverLimits
from pycomnet.nameserver.standing import Standing
from pycomnet.nameserver.stores.etcd import mirror
from pycomnet.nameserver.stores.etcd.keys import KeyLayout
from pycomnet.nameserver.stores.etcd.massexpirynote import read_note
from pycomnet.test.nameserver.servicecase import Stream
from pycomnet.test.nameserver.test_service_shared import CALC, SECRET, Front, SharedCase

TTL = 12.0
NOTE = KeyLayout(b"/pycomnet/names/").doubt


class SharedGuardCase(SharedCase):
    """Two nameservers, with a dozen services that were registered at the first."""

    count = 12

    def setUp(self) -> None:
        super().setUp()
        self.said: list[Any] = []
        observer: Any = self._observe
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.all = [f"a-{number:02}" for number in range(self.count)]
        self.owners: dict[str, dict[str, Any]] = {}
        for name in self.all:
            self.have(name)

    def _observe(self, event: Any) -> None:
        if event["log_level"] >= LogLevel.warn and "expiry" in event["log_namespace"]:
            self.said.append(event)

    def have(self, name: str, front: Front | None = None, **more: Any) -> None:
        given = self.register(front or self.a, name, **{"ttl": TTL, "secret": SECRET, **more})
        self.owners[name] = {"lease": given["lease"], "secret": given["secret"]}

    def renew_for(self, seconds: float, *names: str) -> None:
        """Let time pass, in which some are renewed."""
        until = self.network.seconds() + seconds
        while self.network.seconds() < until:
            for name in names:
                self.invoke(self.b, "renew", **self.owners[name])
            self.run_for(2.0)

    def listed(self, front: Front) -> dict[str, bool]:
        """Each service, and whether it is doubtful."""
        found = self.invoke(front, "list_services")
        return {one["service"]: one.get("doubtful", False) for one in found}

    def doubtful(self, front: Front) -> int:
        count: int = self.invoke(front, "stat")["doubtful"]
        return count

    def check_alike(self, expected: dict[str, bool]) -> None:
        for front in (self.a, self.b):
            self.assertEqual(self.listed(front), expected)


class SharedGuardTests(SharedGuardCase):
    """All are cut off from all nameservers."""

    def test_both_keep_the_same_for_one_more_ttl_and_say_so(self) -> None:
        self.run_for(TTL)
        self.check_alike(dict.fromkeys(self.all, True))
        stat = self.invoke(self.a, "stat")
        self.assertEqual((stat["doubtful"], stat["services"]), (12, 12))
        self.assertEqual(stat["counts"]["expired"], 12)
        self.assertEqual([one["log_level"].name for one in self.said], ["critical"] * 2)
        self.run_for(TTL)
        self.check_alike({})
        self.assertEqual((self.doubtful(self.a), self.doubtful(self.b)), (0, 0))
        self.assertEqual([one["log_level"].name for one in self.said[2:]], ["warn"] * 2)
        self.assertEqual((self.said[2]["marked"], self.said[2]["healed"]), (12, 0))
        self.run_for(TTL)
        self.assertNotIn(NOTE, self.model.keys)

    def test_what_ended_before_it_was_noticed_is_kept_too(self) -> None:
        """Each was renewed at another time: the first half has ended when it is most."""
        self.renew_for(TTL * 0.6, *self.all[6:])
        self.run_for(TTL * 0.5)
        self.assertEqual(self.doubtful(self.b), 0)
        self.refused(self.b, ServiceNotFound, "locate", service="a-00")
        self.run_for(TTL * 0.4)
        self.assertEqual(self.doubtful(self.a), self.doubtful(self.b))
        self.assertGreaterEqual(self.doubtful(self.b), 6)

    def test_is_located_only_where_no_other_is(self) -> None:
        self.run_for(TTL)
        for front in (self.a, self.b):
            found = self.invoke(front, "locate", interface=CALC)
            self.assertIs(found["doubtful"], True)
            self.assertEqual(found["ttl"], 0.0)
            self.assertIs(self.invoke(front, "locate", service="a-03")["doubtful"], True)
        self.have("b")
        for front in (self.a, self.b):
            self.assertEqual(self.invoke(front, "locate", interface=CALC)["service"], "b")

    def test_owners_register_again(self) -> None:
        self.run_for(TTL)
        self.refused(self.b, LeaseLost, "renew", **self.owners["a-00"])
        for name in self.all:
            self.have(name, self.b)
        self.check_alike(dict.fromkeys(self.all, False))
        self.assertEqual((self.doubtful(self.a), self.doubtful(self.b)), (0, 0))
        self.assertEqual((self.said[-1]["marked"], self.said[-1]["healed"]), (12, 12))
        self.renew_for(TTL, *self.all)
        self.check_alike(dict.fromkeys(self.all, False))

    def test_another_owner_takes_the_name_at_once(self) -> None:
        self.run_for(TTL)
        self.have("a-00", self.b, secret="another of sixteen")
        self.assertNotIn("doubtful", self.invoke(self.a, "locate", service="a-00"))
        self.assertEqual((self.doubtful(self.a), self.doubtful(self.b)), (11, 11))

    def test_what_an_operator_has_set_stays(self) -> None:
        held = self.a.names.directory.live("a-00", self.network.seconds())
        standing = self.a.names.directory.restanding
        self.a.names._store.commit(standing(held, Standing(weight=7, weighed=True)))
        self.run_for(TTL)
        self.have("a-00")
        self.assertEqual(self.invoke(self.b, "locate", service="a-00")["weight"], 7)

    def test_nameserver_that_starts_meanwhile_keeps_the_same(self) -> None:
        self.run_for(TTL)
        self.have("a-00")
        third = Front(self, 2014)
        expected = {**dict.fromkeys(self.all, True), "a-00": False}
        self.assertEqual(self.listed(third), expected)
        self.check_alike(expected)

    def test_nameserver_that_starts_when_history_is_gone_has_what_lives(self) -> None:
        self.run_for(TTL)
        self.have("a-00")
        self.model.compact()
        self.assertEqual(self.listed(Front(self, 2014)), {"a-00": False})

    def test_nameserver_that_starts_when_history_is_gone_keeps_what_ends_from_then_on(self) -> None:
        self.run_for(TTL)
        self.have("short", ttl=3.0)
        self.model.compact()
        third = Front(self, 2014)
        self.run_for(4.0)
        self.assertIn(NOTE, self.model.keys)
        for front in (self.a, self.b, third):
            self.assertIs(self.listed(front)["short"], True)

    def test_nameserver_starts_though_others_keys_were_the_last_to_change(self) -> None:
        """The only one that runs hears of its own sign of life, and of nothing else for minutes."""
        self.run_for(TTL)
        self.a.etcd.cut = self.b.etcd.cut = True
        self.model.client().put(b"/another/program", b"x")
        self.run_for(0.1)
        third = Front(self, 2014)
        self.assertEqual(self.listed(third), dict.fromkeys(self.all, True))

    def test_note_that_ends_while_all_is_read_again_has_ended(self) -> None:
        """A nameserver that compares does not go by a note whose end it would not hear of."""
        self.b.etcd.cut = True
        self.run_for(TTL)
        self.model.compact()
        notes: list[Any] = []

        async def read_and_end(*args: Any) -> Any:
            found = await read_note(*args)
            notes.append(found[0])
            self.model.revoke(self.model.keys[NOTE].lease)
            return found

        self.patch(mirror, "read_note", read_and_end)
        for name in self.all:
            self.have(name)  # or it is noted again
        self.b.etcd.mend()
        self.run_for(1.0)
        self.assertIsNotNone(notes[0])
        ended = self.b.names.directory.ended
        assert ended is not None
        self.assertIs(ended.is_doubted, False)

    def test_nameserver_that_was_cut_off_notes_nothing_of_long_ago(self) -> None:
        """What it hears of late may have been registered again."""
        self.b.etcd.cut = True
        self.run_for(TTL)
        for name in self.all:
            self.have(name, ttl=100.0)
        self.run_for(TTL)
        self.assertNotIn(NOTE, self.model.keys)
        before = self.b.etcd.requests.count("grant")
        self.b.etcd.mend()
        self.run_for(5.0)
        self.check_alike(dict.fromkeys(self.all, False))
        self.assertNotIn(NOTE, self.model.keys)
        self.assertLessEqual(self.b.etcd.requests.count("grant") - before, 1)  # of its own key

    def test_nameserver_that_was_cut_off_keeps_the_same(self) -> None:
        self.b.etcd.cut = True
        self.run_for(TTL)
        self.b.etcd.mend()
        self.run_for(2.0)
        self.check_alike(dict.fromkeys(self.all, True))

    def test_nameserver_that_missed_it_all_keeps_none(self) -> None:
        """It doesn't know whether they were unregistered."""
        self.b.etcd.cut = True
        self.run_for(TTL)
        self.model.compact()
        self.b.etcd.mend()
        self.run_for(3.0)
        self.assertEqual(self.listed(self.b), {})
        self.assertEqual(len(self.listed(self.a)), 12)

    def test_watchers_hear_of_the_ends(self) -> None:
        stream = Stream(self, client=self.b.client, service="a-*")  # type: ignore[arg-type]
        self.run_for(TTL)
        told = stream.take()
        self.assertEqual(told[13:], [("delete", name) for name in self.all])
        late = Stream(self, client=self.a.client, service="a-*")  # type: ignore[arg-type]
        self.run_for(0.5)
        self.assertEqual(late.take(), [("end-of-snapshot", "")])

    def test_lists_come_in_pages(self) -> None:
        for name in ("a-005", "b-1"):
            self.have(name, ttl=100.0)
        self.run_for(TTL)
        names, after = list[str](), ""
        while page := self.invoke(self.a, "list_services", limit=3, after=after):
            names += [one["service"] for one in page]
            after = names[-1]
        self.assertEqual(names, sorted([*self.all, "a-005", "b-1"]))
        page = self.invoke(self.a, "list_services", interface=CALC, service="a-0*")
        self.assertEqual(len(page), 11)

    def test_note_that_can_not_be_written_is_written_later(self) -> None:
        self.model.refusal = EtcdUnavailable("no leader")
        self.run_for(TTL)
        self.assertEqual(self.listed(self.a), {})
        self.model.refusal = None
        self.run_for(2.0)
        self.check_alike(dict.fromkeys(self.all, True))
        # Of those whose note came too late no lease is left.
        self.assertLessEqual(sum(one.ttl == TTL for one in self.model.leases.values()), 1)

    def test_note_does_not_stay_as_long_as_the_longest_leases(self) -> None:
        self.patch(sharedexpiry, "NOTE", 5.0)
        self.run_for(TTL)
        note = self.model.keys[NOTE]
        self.assertEqual(self.model.leases[note.lease].ttl, 5)
        self.run_for(5.0)
        again = self.model.keys[NOTE]
        self.assertNotEqual(again.lease, note.lease)  # most are still gone
        self.check_alike(dict.fromkeys(self.all, True))
        for name in self.all:
            self.have(name, ttl=100.0)
        self.run_for(6.0)
        self.assertNotIn(NOTE, self.model.keys)

    def test_note_of_another_kind_is_left_alone(self) -> None:
        client = self.model.client()
        client.put(NOTE, b"x")
        self.run_for(TTL)
        self.check_alike({})
        self.assertEqual(self.listed(Front(self, 2014)), {})

    def test_note_is_asked_for_once_a_second_whatever_changes_meanwhile(self) -> None:
        """Each change wakes it, and there is a note that can't be read."""
        self.model.client().put(NOTE, b"x")
        self.run_for(TTL)
        before = self.a.etcd.requests.count("grant")
        for number in range(10):
            self.have(f"b-{number}", self.b)  # of 0.3 s each
        asked = self.a.etcd.requests.count("grant") - before
        self.assertTrue(1 <= asked <= 5, asked)


class OrdinaryTests(SharedGuardCase):
    """Less than half end."""

    def test_half_is_not_most(self) -> None:
        live = self.all[6:]
        self.renew_for(TTL * 1.5, *live)
        self.check_alike(dict.fromkeys(live, False))
        self.assertEqual(self.said, [])

    def test_what_is_unregistered_does_not_count(self) -> None:
        for name in self.all[:9]:
            self.invoke(self.a, "unregister", **self.owners[name])
        self.run_for(TTL)
        self.check_alike({})


class FewTests(SharedGuardCase):
    """A handful of services are not guarded."""

    count = FEWEST - 1

    def test_a_handful_is_removed_in_time(self) -> None:
        self.run_for(TTL)
        self.check_alike({})
        self.assertEqual(self.said, [])


class NoGuardTests(SharedGuardCase):
    """With --no-mass-expiry-guard."""

    options = {"guard": False}

    def test_all_are_gone_in_time(self) -> None:
        self.run_for(TTL)
        self.check_alike({})
        self.assertEqual((self.said, self.doubtful(self.a)), ([], 0))
        self.assertNotIn(NOTE, self.model.keys)


class LimitTests(SharedGuardCase):
    """What is doubtful counts for its client, where it has registered."""

    options = {"limits": NameserverLimits(client_services=12)}

    def test_client_has_no_room_for_others(self) -> None:
        self.run_for(TTL)
        args = {"service": "new", "interfaces": [CALC], "address": "tcp:127.0.0.1:1"}
        self.refused(self.a, TooManyRegistrations, "register", **args)
        self.have("a-00")
        self.refused(self.a, TooManyRegistrations, "register", **args)
        self.run_for(TTL)
        self.register(self.a, "new")

    def test_client_may_register_its_own_again_with_another_secret(self) -> None:
        """Most clients have the nameserver choose it; there are no more of theirs then."""
        self.run_for(TTL)
        for name in self.all:
            self.register(self.a, name, ttl=TTL)
        self.check_alike(dict.fromkeys(self.all, False))
