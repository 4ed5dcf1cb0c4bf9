"""The nameserver's methods for draining, weights and health."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.errors import (
    InvalidArguments,
    InvalidRegistration,
    LeaseLost,
    NotLeaseOwner,
    ServiceNotFound,
)
from pycomnet.ext.access.names import make_access
from pycomnet.nameserver import registrationchanges
from pycomnet.test.nameserver.servicecase import CALC, OWN_SECRET, NameserverCase, Stream


class OwnerTests(NameserverCase):
    """What an owner says of its registration."""

    def owner(self, service: str = "a", **args: Any) -> dict[str, Any]:
        given = self.registered(service, **args)
        return {"lease": given["lease"], "secret": given["secret"]}

    def listed(self) -> dict[str, dict[str, Any]]:
        return {one["service"]: one for one in self.invoke("list_services")}

    def test_registers_with_a_weight(self) -> None:
        self.owner("a", weight=0)
        self.owner("b")
        self.assertEqual({self.located() for _ in range(9)}, {"b"})
        self.assertEqual(self.listed()["a"]["weight"], 0)
        self.assertNotIn("weight", self.listed()["b"])

    def test_changes_the_weight_of_a_live_registration(self) -> None:
        owner = self.owner("a")
        self.owner("b")
        self.assertEqual({self.located() for _ in range(9)}, {"a", "b"})
        changed = self.invoke("adjust", **owner, weight=0)
        self.assertEqual({self.located() for _ in range(9)}, {"b"})
        self.assertEqual(self.listed()["a"]["fence"], changed["fence"])
        self.invoke("adjust", **owner, weight=100)
        self.assertEqual({self.located() for _ in range(9)}, {"a", "b"})

    def test_drains_and_takes_callers_again(self) -> None:
        owner = self.owner()
        self.invoke("adjust", **owner, draining=True)
        self.assertEqual(self.located(), "")
        self.assertIs(self.listed()["a"]["draining"], True)
        problem = self.refused(ServiceNotFound, "locate", interface=CALC)
        self.assertIn("'a' takes no callers: it is draining or failing", str(problem))
        self.assertEqual(self.invoke("stat")["draining"], 1)
        self.invoke("renew", **owner)
        self.invoke("adjust", **owner, draining=False)
        self.assertEqual(self.located(), "a")

    def test_says_that_its_check_fails(self) -> None:
        owner = self.owner()
        self.invoke("adjust", **owner, failing=True, said="no database")
        self.assertEqual(self.located(), "")
        shown = self.listed()["a"]
        self.assertEqual((shown["failing"], shown["said"]), (True, "no database"))
        self.assertEqual(self.invoke("stat")["failing"], 1)

    def test_registers_again_as_it_is(self) -> None:
        self.registered("a", secret=OWN_SECRET)
        self.registered("a", secret=OWN_SECRET, draining=True, failing=True, said="x")
        self.assertEqual(self.located(), "")

    def test_the_same_again_changes_nothing(self) -> None:
        owner = self.owner(weight=5)
        before = self.listed()["a"]["fence"]
        self.assertEqual(self.invoke("adjust", **owner, weight=5)["fence"], before)

    def test_watchers_see_it(self) -> None:
        owner = self.owner()
        stream = Stream(self)
        stream.take()
        self.invoke("adjust", **owner, draining=True)
        self.assertEqual(stream.take(), [("put", "a")])
        assert stream.last is not None
        self.assertIs(stream.last["record"]["draining"], True)
        self.invoke("adjust", **owner, draining=False)
        stream.take()
        assert stream.last is not None
        self.assertNotIn("draining", stream.last["record"])

    def test_only_the_owner(self) -> None:
        owner = self.owner()
        self.refused(NotLeaseOwner, "adjust", **{**owner, "secret": "another"}, draining=True)
        self.refused(LeaseLost, "adjust", lease=99, secret="x", draining=True)
        self.assertEqual(self.located(), "a")

    def test_what_is_no_standing(self) -> None:
        owner = self.owner()
        for wrong in ({"weight": -1}, {"weight": 1001}, {"said": "x" * 201}, {"said": "a\nb"}):
            self.refused(InvalidRegistration, "adjust", **owner, **wrong)
            self.refused(InvalidRegistration, "register", **self.registration("b", **wrong))
        self.refused(InvalidArguments, "register", **self.registration("b", other=1))


class OperatorTests(NameserverCase):
    """What an operator changes."""

    def setUp(self) -> None:
        super().setUp()
        self.let_in = True
        self.patch(registrationchanges, "is_operator", lambda request, operators: self.let_in)

    def test_drains_what_others_have_registered(self) -> None:
        given = self.registered("a", ttl=10.0)
        self.invoke("override", service="a", draining=True)
        self.assertEqual(self.located(), "")
        owner = {"lease": given["lease"], "secret": given["secret"]}
        self.invoke("renew", **owner)
        # The owner's own word is another.
        self.invoke("adjust", **owner, draining=False)
        self.assertEqual(self.located(), "")
        self.invoke("override", service="a", draining=False)
        self.assertEqual(self.located(), "a")

    def test_stays_when_the_owner_registers_again(self) -> None:
        self.registered("a", secret=OWN_SECRET)
        self.invoke("override", service="a", draining=True, weight=7)
        self.registered("a", secret=OWN_SECRET)
        self.assertEqual(self.located(), "")
        shown = self.invoke("list_services")[0]
        self.assertEqual((shown["draining"], shown["weight"]), (True, 7))

    def test_does_not_stay_for_another_owner(self) -> None:
        self.registered("a", secret=OWN_SECRET, ttl=2.0)
        self.invoke("override", service="a", draining=True)
        self.network.advance(3.0)
        self.registered("a")
        self.assertEqual(self.located(), "a")

    def test_does_not_keep_a_dead_service(self) -> None:
        self.registered("a", ttl=10.0)
        self.network.advance(9.0)
        self.invoke("override", service="a", weight=7)
        self.network.advance(2.0)
        self.assertEqual(self.invoke("list_services"), [])
        self.refused(ServiceNotFound, "override", service="a", weight=7)

    def test_nobody_else(self) -> None:
        self.registered("a")
        self.let_in = False
        problem = self.refused(NotLeaseOwner, "override", service="a", draining=True)
        self.assertIn("only an operator", str(problem))
        self.refused(InvalidArguments, "override", service="a", failing=True)
        self.assertEqual(self.located(), "a")


class AccessTests(SynchronousTestCase):
    """The access file's rules for it."""

    def test_who_may_remove_may_drain_and_owners_log_in_to_adjust(self) -> None:
        settings = {"peers": True, "remove": {"allow": ["ann"]}, "register": []}
        rules = make_access(settings, "test").rules
        names = {method: rule for (_, method), rule in rules.items()}
        self.assertEqual(names["override"], names["remove"])
        self.assertIn("adjust", names)

    def test_own_table(self) -> None:
        settings = {
            "peers": True,
            "remove": {"allow": ["ann"]},
            "override": {"allow": ["bob"]},
            "register": [],
        }
        rules = make_access(settings, "test").rules
        names = {method: rule for (_, method), rule in rules.items()}
        self.assertIn("bob", names["override"].allow)
        self.assertNotIn("ann", names["override"].allow)
