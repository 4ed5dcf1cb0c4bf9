"""Calls of users: who gets in, who does not, and what each is told."""

from __future__ import annotations

from random import Random
from typing import Any

from pycomnet.errors import (
    CredentialsNotSent,
    Forbidden,
    ProtocolViolation,
    Unauthenticated,
    UnknownMethod,
)
from pycomnet.ext import access
from pycomnet.services.client.context import Context
from pycomnet.services.interface import INTROSPECTION, Service, interface, method
from pycomnet.services.server.server import ServiceServer
from pycomnet.test.ext.access.kit import SHOP, AccessCase, Foreign, Table, make_shop
from pycomnet.test.services.network import ServiceCase
from pycomnet.wire.hello import PLAIN


class LoginTests(AccessCase):
    """Who may call."""

    def test_user_calls_what_the_rules_allow(self) -> None:
        """After one check of the password, however many calls there are."""
        shop = self.shop_for("alice")
        for _ in range(20):
            self.assertEqual(self.result(shop.invoke("buy")), "alice")
        self.assertEqual(self.table.checked, ["alice"])

    def test_nobody_calls_without_credentials(self) -> None:
        """The call is refused, and its method does not run."""
        problem = self.failure(self.shop_for().invoke("buy"), Unauthenticated)
        self.assertEqual(problem.reason, "missing")
        self.assertIn("none of those that it takes were given: password", str(problem))
        self.assertEqual(self.shop.ran, [])

    def test_public_method_is_everybodys(self) -> None:
        """A method's own rule replaces its interface's."""
        self.assertEqual(self.result(self.shop_for().invoke("hours")), "9 to 5")

    def test_wrong_password_is_refused(self) -> None:
        """So is an unknown user, in the same words; nothing runs."""
        texts = set()
        for user, password in (("alice", "wrong"), ("mallory", "wrong"), ("alice", "")):
            calling = self.shop_for(user, password).invoke("buy")
            self.network.wait(1)
            problem = self.failureResultOf(calling, Unauthenticated).value
            self.assertEqual(problem.reason, "refused")
            texts.add(str(problem))
        self.assertEqual(len(texts), 1, texts)
        self.assertEqual(self.shop.ran, [])

    def test_role_is_needed_or_a_name_that_is_allowed(self) -> None:
        """The error names the role that lacks, and nobody who has it."""
        self.assertEqual(self.result(self.shop_for("bob").invoke("stock")), ["clerk", "reader"])
        self.assertEqual(self.result(self.shop_for("boss").invoke("stock")), [])
        problem = self.failure(self.shop_for("alice").invoke("stock"), Forbidden)
        self.assertEqual(
            (problem.interface, problem.method, problem.role), (SHOP, "stock", "clerk")
        )
        self.assertNotIn("bob", str(problem))
        self.assertNotIn("boss", str(problem))

    def test_function_of_a_rule_decides_on_each_call(self) -> None:
        """It sees the size of a request, and not its arguments; the interface's rule holds too."""
        shop = self.shop_for("alice")
        self.assertEqual(self.result(shop.invoke("note", "short")), 5)
        problem = self.failure(shop.invoke("note", "long" * 100), Forbidden)
        self.assertEqual((problem.method, problem.role), ("note", ""))
        self.assertEqual(self.result(shop.invoke("note", "short")), 5)
        self.failure(self.shop_for().invoke("note", "short"), Unauthenticated)
        self.assertEqual(self.shop.ran, ["note", "note"])

    def test_long_requests_and_blocks_are_judged_as_well(self) -> None:
        """Whatever way a call takes into the server."""
        from pycomnet.services.binary import Binary

        for user, error in ((None, Unauthenticated), ("alice", Forbidden)):
            shop = self.shop_for(user)
            self.failure(shop.invoke("stock", "x" * 100_000), error)
            self.failure(shop.invoke("stock", "x", attachments=[Binary(b"x")]), error)
            self.failure(shop.invoke("stock", [None] * 5000), error)
        self.failure(self.shop_for().stream("news").receive(), Unauthenticated)
        self.assertEqual(self.shop.ran, [])

    def test_arguments_of_refused_calls_are_not_decoded(self) -> None:
        """No type's code runs for whoever may not call."""
        decoded: list[Any] = []
        shop = self.shop_for()
        self.result(shop.invoke("hours"))
        ((_, side),) = self.network.wires
        side.protocol.decode = decoded.append
        self.failure(shop.invoke("buy", "arguments"), Unauthenticated)
        self.assertEqual(decoded, [])

    def test_wrong_password_from_ask_is_asked_again(self) -> None:
        """The function is called once for all connections, and again after a refusal."""
        answers = ["wrong", "a password"]
        asked: list[str] = []

        def ask() -> str:
            asked.append("asked")
            return answers[len(asked) - 1]

        context = Context(self.network, credentials=access.Password("alice", ask))
        calling = context.at(self.address, SHOP).invoke("buy")
        self.network.wait(1)
        self.failureResultOf(calling, Unauthenticated)
        self.assertEqual(self.result(context.at(self.address, SHOP).invoke("buy")), "alice")
        self.network.cut()
        self.assertEqual(self.result(context.at(self.address, SHOP).invoke("buy")), "alice")
        self.assertEqual(len(asked), 2)

    def test_credentials_stay_here_where_others_can_read_them(self) -> None:
        """They are not sent to an address elsewhere without TLS."""
        from twisted.internet.address import IPv4Address

        shop = self.shop_for("alice")
        calling = shop.invoke("buy")
        self.network.advance(0)
        ((client, _),) = self.network.wires
        client.transport.peerAddr = IPv4Address("TCP", "192.0.2.7", 2013)
        problem = self.failure(calling, CredentialsNotSent)
        self.assertIn("tls:", str(problem))
        self.assertNotIn(b"a password", b"".join(client.transport.writes))

    def test_server_takes_no_password_where_others_can_read_it(self) -> None:
        """Whatever the client thinks of that: a wrong setup is found by its first test."""
        from twisted.internet.address import IPv4Address

        calling = self.shop_for("alice").invoke("buy")
        self.network.advance(0)
        ((_, server),) = self.network.wires
        server.transport.peerAddr = IPv4Address("TCP", "192.0.2.7", 2013)
        problem = self.failure(calling, Unauthenticated)
        self.assertEqual(problem.reason, "kind")
        self.assertEqual(self.table.checked, [])

    def test_first_credentials_are_given_that_the_server_takes(self) -> None:
        """Of several; a server that takes none of them is called without."""
        token = access.Token("a-token-of-nobody-here")
        both = [token, access.Password("alice", "a password")]
        shop = Context(self.network, credentials=both).at(self.address, SHOP)
        self.assertEqual(self.result(shop.invoke("buy")), "alice")
        shop = Context(self.network, credentials=token).at(self.address, SHOP)
        self.assertEqual(self.result(shop.invoke("hours")), "9 to 5")
        self.assertEqual(self.failure(shop.invoke("buy"), Unauthenticated).reason, "missing")

    def test_session_is_the_users_own(self) -> None:
        """Nobody gets another's by saying the same client's id."""
        alice, bob = self.context_of("alice"), self.context_of("bob")
        bob.client_id = alice.client_id
        both = [
            self.result(context.at(self.address, SHOP).invoke("basket", name))
            for context, name in ((alice, "apple"), (bob, "pear"))
        ]
        self.assertEqual(both, [["apple"], ["pear"]])

    def test_secrets_show_in_no_repr(self) -> None:
        """Of what a client gives."""
        shown = repr([access.Password("alice", "a secret"), access.Token("a-secret-token-1234")])
        self.assertIn("alice", shown)
        self.assertNotIn("secret", shown)


class SeenTests(AccessCase):
    """What callers may know of."""

    def methods(self, user: str | None) -> list[str]:
        """The shop's methods, as introspection shows them to a user."""
        found = self.result(self.context_of(user).at(self.address, INTROSPECTION).introspect())
        return sorted(found.get(SHOP, {}).get("methods", ()))

    def test_introspection_shows_what_its_caller_may_call(self) -> None:
        """More to those who may more."""
        self.assertEqual(self.methods(None), ["hours"])
        mine = ["basket", "buy", "hours", "introspect", "news", "note"]
        self.assertEqual(self.methods("alice"), mine)
        self.assertEqual(self.methods("bob"), sorted([*mine, "stock"]))

    def test_errors_name_what_the_caller_may_call(self) -> None:
        """Of unknown methods and interfaces."""
        problem = self.failure(self.shop_for().invoke("nothing"), UnknownMethod)
        self.assertIn("hours", str(problem))
        self.assertNotIn("stock", str(problem))
        problem = self.failure(self.shop_for("bob").invoke("nothing"), UnknownMethod)
        self.assertIn("stock", str(problem))

    def test_hello_tells_no_more_than_introspection(self) -> None:
        """What may be repeated is in the reply to the login."""
        context = self.context_of("alice")
        service = self.result(context.connect(self.address, SHOP))
        peer = context.peer(self.address)
        self.assertIn("buy", peer.services[SHOP]["idempotent"])
        other = self.context_of()
        self.result(other.connect(self.address, SHOP))
        self.assertEqual(other.peer(self.address).services[SHOP]["idempotent"], [])
        self.assertEqual(service.interface, SHOP)


class DenyTests(AccessCase):
    """A server that denies what has no rule."""

    def make_server(self) -> ServiceServer:
        server = super().make_server()

        @interface("org.example.open")
        class Open(Service):
            @method()
            def call(self, request: Any) -> str:
                return "called"

            @access.public
            @method()
            def free(self, request: Any) -> str:
                return "free"

        self.successResultOf(server.add(Open()))
        return server

    def make_control(self, **options: Any) -> access.AccessControl:
        return super().make_control(deny=True, **options)

    def test_what_has_no_rule_is_denied(self) -> None:
        """To users as well; what is public is not."""
        for user in (None, "boss"):
            remote = self.context_of(user).at(self.address, "org.example.open")
            self.failure(remote.invoke("call"), Forbidden)
            self.assertEqual(self.result(remote.invoke("free")), "free")
        self.assertEqual(self.control.unruled(), ["org.example.open"])


class EndTests(AccessCase):
    """Logins that end while the connection lasts."""

    def test_removed_user_is_out_within_seconds(self) -> None:
        """The next call says so; others stay, with their connections."""
        alice, bob = self.shop_for("alice"), self.shop_for("bob")
        self.result(alice.invoke("buy")), self.result(bob.invoke("buy"))
        connections = len(self.network.wires)
        del self.table.users["alice"]
        self.network.wait(5)
        calling = alice.invoke("buy")
        self.network.wait(1)
        self.failureResultOf(calling, Unauthenticated)
        self.assertEqual(self.result(bob.invoke("buy")), "bob")
        self.assertEqual(len(self.network.wires), connections)
        self.assertEqual(self.shop.ran, ["buy"] * 3)

    def test_expired_login_is_renewed_by_the_client(self) -> None:
        """With its credentials, which it has; the caller does not notice."""
        shop = self.shop_for("alice")
        self.table.expires = self.network.seconds() + 10
        self.assertEqual(self.result(shop.invoke("buy")), "alice")
        self.network.wait(11)
        self.table.expires = None
        self.assertEqual(self.result(shop.invoke("buy")), "alice")
        self.assertEqual(self.table.checked, ["alice", "alice"])
        self.assertEqual(len(self.network.wires), 1)

    def test_expired_login_is_an_error_of_its_own(self) -> None:
        """Which the caller gets who has no credentials any more."""
        context = self.context_of("alice")
        shop = context.at(self.address, SHOP)
        self.table.expires = self.network.seconds() + 10
        self.result(shop.invoke("buy"))
        context.credentials = ()
        self.network.wait(9)
        self.result(shop.invoke("buy"))
        self.network.wait(2)
        problem = self.failure(shop.invoke("buy"), Unauthenticated)
        self.assertEqual(problem.reason, "expired")
        self.assertEqual(self.result(shop.invoke("hours")), "9 to 5")

    def test_stream_ends_with_its_login(self) -> None:
        """A call that runs goes on; a stream is closed that could not be opened any more."""
        stream = self.shop_for("alice").stream("news")
        self.assertEqual(self.result(stream.receive()), "first")
        waiting = stream.receive()
        del self.table.users["alice"]
        self.network.wait(5)
        problem = self.failureResultOf(waiting, Unauthenticated).value
        self.assertEqual(problem.reason, "ended")

    def test_roles_are_the_current_ones(self) -> None:
        """A role that is taken away ends the login; the client logs in anew with what is left."""
        bob = self.shop_for("bob")
        self.assertEqual(self.result(bob.invoke("stock")), ["clerk", "reader"])
        self.table.users["bob"] = ("b password", "reader")
        self.network.wait(5)
        self.failure(bob.invoke("stock"), Forbidden)
        self.assertEqual(self.result(bob.invoke("buy")), "bob")

    def test_nothing_is_left_behind(self) -> None:
        """Once all clients have gone: no timer, and nobody known."""
        self.table.expires = self.network.seconds() + 1000
        self.result(self.shop_for("alice").invoke("buy"))
        self.assertEqual(len(self.control._callers), 1)
        self.network.cut()
        self.network.deliver()
        self.assertEqual(self.control._callers, {})
        self.network.wait(100, 10)  # the client's own
        self.assertEqual([call for call in self.network.calls if call.active()], [])


class OtherCheckerTests(ServiceCase):
    """Checkers of others, and several of them."""

    def make_server(self) -> ServiceServer:
        self.network.runs_threads = True
        control = access.AccessControl(self.network, threads=self.network)
        return ServiceServer(self.network, threads=self.network, access=control)

    def serve(self, *services: type[Service]) -> None:
        """Add services to the server."""
        for service in services:
            self.successResultOf(self.server.add(service()))

    def test_checker_of_twisted_cred_is_enough(self) -> None:
        """It knows names only."""
        self.serve(make_shop(Foreign(alice=b"a password")))
        context = Context(self.network, credentials=access.Password("alice", "a password"))
        self.assertEqual(self.result(context.at(self.address, SHOP).invoke("buy")), "alice")

    def test_any_of_several_accepts(self) -> None:
        """Each with its own users."""
        one, two = Table(alice=("a", "")), Table(alice=("b", ""), bob=("b", "clerk"))
        self.serve(make_shop(access.AnyOf(one, two)))
        for user, password in (("alice", "a"), ("alice", "b"), ("bob", "b")):
            context = Context(self.network, credentials=access.Password(user, password))
            shop = context.at(self.address, SHOP)
            self.assertEqual(self.result(shop.invoke("buy")), user)

    def test_rule_goes_by_its_own_checker(self) -> None:
        """Who is known to one interface's is nobody to the other's."""

        @access.auth(Table(alice=("x", "clerk")))
        @interface("org.example.other")
        class Other(Service):
            @method()
            def call(self, request: Any) -> Any:
                return request.user.name

        self.serve(make_shop(Table(bob=("b", "clerk"))), Other)
        context = Context(self.network, credentials=access.Password("bob", "b"))
        self.assertEqual(self.result(context.at(self.address, SHOP).invoke("buy")), "bob")
        remote = context.at(self.address, "org.example.other")
        self.assertEqual(self.failure(remote.invoke("call"), Unauthenticated).reason, "kind")

    def test_checker_that_breaks_lets_nobody_in(self) -> None:
        """The client is told to try later, and the log why."""
        table = Table(alice=("a", ""))
        table.problem = OSError("the disk has gone")
        self.serve(make_shop(table))
        context = Context(self.network, credentials=access.Password("alice", "a"))
        problem = self.failure(context.at(self.address, SHOP).invoke("buy"), Unauthenticated)
        self.assertEqual(problem.reason, "busy")
        self.assertNotIn("disk", str(problem))
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_rule_of_a_base_class_holds(self) -> None:
        """For the interfaces of its subclasses, whatever these are called."""

        @interface("org.example.more")
        class More(make_shop(Table(alice=("a", "")))):  # type: ignore[misc]
            @method()
            def more(self, request: Any) -> str:
                return "more"

        self.serve(More)
        for name in (SHOP, "org.example.more"):
            remote = self.context.at(self.address, name)
            self.failure(remote.invoke("buy"), Unauthenticated)
        self.failure(remote.invoke("more"), Unauthenticated)

    def test_server_has_access_control_by_its_first_rule(self) -> None:
        """Also for the clients that are connected by then."""
        server = ServiceServer(self.network, threads=self.network)
        address = self.successResultOf(server.listen("tcp:0:interface=127.0.0.1"))
        remote = self.result(Context(self.network).connect(address, SHOP))
        self.assertIsNone(server.gate)
        self.successResultOf(server.add(make_shop(Table())()))
        self.failure(remote.invoke("buy"), Unauthenticated)
        self.assertEqual(self.result(remote.invoke("hours")), "9 to 5")

    def test_service_without_rules_asks_nobody(self) -> None:
        """Credentials are not sent to it."""

        @interface("org.example.plain")
        class Plain(Service):
            @method()
            def call(self, request: Any) -> bool:
                return request.user is None

        self.serve(Plain)
        credentials = access.Password("alice", lambda: self.fail("asked"))
        context = Context(self.network, credentials=credentials)
        self.assertTrue(self.result(context.at(self.address, "org.example.plain").invoke("call")))


class MessageTests(AccessCase):
    """Messages with credentials, as they may come."""

    def send(self, payload: bytes) -> Any:
        """Send a login on a new connection; its end."""
        context = Context(self.network)
        self.result(context.connect(self.address, SHOP))
        connection = context.peer(self.address).connection
        assert connection is not None
        core = connection.open("login", payload, end=True)
        received = core.receive()
        self.network.wait(1)
        return received

    def test_whatever_is_no_message_ends_the_connection(self) -> None:
        """With an error of the protocol; nobody is asked."""
        for value in (
            None,
            [],
            "password",
            ["password"],
            ["password", "alice"],
            ["password", "alice", b"a password"],
            ["password", "alice", "a password", "more"],
            ["peer", "root"],
            ["certificate", "alice"],
            ["nothing", "alice"],
            {"password": "alice"},
            ["password", "alice", ["a password"]],
            [["password"], "alice", "a password"],
        ):
            problem = self.failureResultOf(self.send(PLAIN.encode(value))).value
            self.assertIsInstance(problem, ProtocolViolation, value)
            self.assertEqual(problem.code, "value", value)
        problem = self.failureResultOf(self.send(PLAIN.encode(["token", "x" * 20_000]))).value
        self.assertEqual(problem.code, "channel")
        self.assertEqual(self.table.checked, [])

    def test_transport_that_has_no_such_credentials_has_none(self) -> None:
        """A certificate or a process's user is not the client's to say."""
        for kind in ("peer", "certificate"):
            problem = self.failureResultOf(self.send(PLAIN.encode([kind]))).value
            self.assertEqual(problem.code, "unauthenticated")
            self.assertEqual(problem.error["fields"], {"reason": "kind"})

    def test_mutated_messages_let_nobody_in(self) -> None:
        """Its connection may call nothing more than before, and nothing is left of it."""
        random = Random(7)
        right = PLAIN.encode(["password", "alice", "a password"])
        for _ in range(150):
            data = bytearray(right)
            for _ in range(random.randint(1, 3)):
                at = random.randrange(len(data))
                data[at : at + random.randrange(3)] = random.randbytes(random.randrange(3))
            if bytes(data) == right:
                continue
            context = Context(self.network)
            self.result(context.connect(self.address, SHOP))
            connection = context.peer(self.address).connection
            assert connection is not None
            connection.open("login", bytes(data), end=True).receive().addErrback(lambda _: None)
            self.network.deliver()
            for _, side in self.network.wires:
                self.assertEqual(side.protocol.caller.logins, {}, bytes(data))
            self.network.cut()
            self.network.deliver()
        self.network.wait(600, 30)
        self.assertEqual((self.control._callers, self.control.checks.slots.waiting), ({}, 0))
        self.assertEqual(self.shop.ran, [])

    def test_second_login_of_a_connection_replaces_the_first(self) -> None:
        """One that fails leaves what counted."""
        context = self.context_of("bob")
        shop = context.at(self.address, SHOP)
        self.result(shop.invoke("stock"))
        connection = context.peer(self.address).connection
        assert connection is not None
        for message, user in (
            (["password", "alice", "wrong"], "bob"),
            (["password", "alice", "a password"], "alice"),
        ):
            connection.open("login", PLAIN.encode(message), end=True)
            self.network.wait(1)
            self.assertEqual(self.result(shop.invoke("buy")), user)
        self.failure(shop.invoke("stock"), Forbidden)
