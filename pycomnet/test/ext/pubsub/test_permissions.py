"""Who may subscribe and publish: access rules, and grants for subjects."""

from __future__ import annotations

from typing import Any

from pycomnet.errors import Forbidden, Unauthenticated
from pycomnet.ext import access
from pycomnet.ext.pubsub import allow, publisher, subscriber
from pycomnet.services.client.context import Context
from pycomnet.services.server.server import ServiceServer
from pycomnet.test.ext.access.kit import Table
from pycomnet.test.services.network import ServiceCase

NAME = "org.example.guarded"


class RuleTests(ServiceCase):
    """A publisher for users, with grants by their roles and names."""

    def make_server(self) -> ServiceServer:
        self.network.runs_threads = True
        self.table = Table(alice=("a password", ""), bob=("b password", "clerk"))
        control = access.AccessControl(
            self.network, threads=self.network, clock=self.network.seconds
        )
        server = ServiceServer(self.network, threads=self.network, access=control)

        @access.auth(self.table)
        @publisher(
            NAME,
            may_subscribe=[
                allow("public.>"),
                allow("orders.*", roles="clerk"),
                allow("mail.alice.>", users="alice"),
            ],
            may_publish=[allow("mail.>", roles="clerk")],
        )
        class Guarded:
            """Publishes to users."""

        made: Any = Guarded
        self.service = made()
        self.successResultOf(server.add(self.service))
        return server

    def context_of(self, user: str | None) -> Context:
        if user is None:
            return Context(self.network)
        return Context(self.network, credentials=access.Password(user, self.table.users[user][0]))

    def subscribe(self, user: str | None, *subjects: str) -> Any:
        made = subscriber(
            NAME, subjects or None, context=self.context_of(user), address=self.address
        )
        self.addCleanup(made.close)
        return made

    def test_nobody_subscribes_without_credentials(self) -> None:
        """The rule of the interface is the rule of ``subscribe``."""
        self.failure(self.subscribe(None, "public.>").when_subscribed(), Unauthenticated)
        self.assertEqual(self.service.topic.sinks, {})

    def test_users_get_the_subjects_that_are_theirs(self) -> None:
        """By their roles and names, and what is for everybody."""
        for user, subject, may in (
            ("alice", "public.a", True),
            ("bob", "public.>", True),
            ("alice", "orders.new", False),
            ("bob", "orders.*", True),
            ("bob", "orders.>", False),
            ("alice", "mail.alice.>", True),
            ("bob", "mail.alice.inbox", False),
            ("bob", ">", False),
        ):
            subscribing = self.subscribe(user, "public.x", subject).when_subscribed()
            if may:
                self.result(subscribing)
            else:
                problem = self.failure(subscribing, Forbidden)
                self.assertIn(subject, str(problem))

    def test_users_publish_where_they_may(self) -> None:
        """And what they publish comes to those who may have it."""
        one = self.subscribe("alice", "mail.alice.>")
        self.result(one.when_subscribed())
        args = {"value": "hello", "subject": "mail.alice.inbox"}
        bob = self.context_of("bob").at(self.address, NAME)
        self.result(bob.invoke("publish", args))
        self.assertEqual(self.result(one.receive()), "hello")
        alice = self.context_of("alice").at(self.address, NAME)
        self.failure(alice.invoke("publish", args), Forbidden)
        self.failure(bob.invoke("publish", {**args, "subject": "orders.new"}), Forbidden)

    def test_groups_of_two_users_are_two(self) -> None:
        """Each has its events, whatever the other calls its group."""
        ones = []
        for user in ("alice", "bob"):
            made = subscriber(
                NAME,
                "public.>",
                context=self.context_of(user),
                address=self.address,
                group="workers",
            )
            self.addCleanup(made.close)
            self.result(made.when_subscribed())
            ones.append(made)
        for number in range(3):
            self.service.topic.publish(number, subject="public.x")
        self.network.deliver()
        for one in ones:
            self.assertEqual([self.result(one.receive()) for _ in range(3)], [0, 1, 2])

    def test_who_may_no_more_gets_no_more(self) -> None:
        """A user that is removed, and one that loses a role, within five seconds; others go on."""
        alice, bob = self.subscribe("alice", "public.>"), self.subscribe("bob", "orders.*")
        for one in (alice, bob):
            self.result(one.when_subscribed())
        del self.table.users["alice"]
        self.network.wait(5)
        self.service.topic.publish("secret", subject="public.a")
        self.failure(alice.receive(), Unauthenticated)
        self.service.topic.publish("fine", subject="orders.new")
        self.assertEqual(self.result(bob.receive()), "fine")
        self.table.users["bob"] = ("b password", "")
        self.network.wait(5)
        self.service.topic.publish("secret", subject="orders.new")
        self.failure(bob.receive(), Forbidden, Unauthenticated)
        self.assertEqual(self.service.topic.sinks, {})
