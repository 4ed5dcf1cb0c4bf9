"""Which rule holds: of classes and their bases, of methods, and of names that nothing has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import capturedLogs

from pycomnet.errors import AccessConfigError, Forbidden, PycomnetError, Unauthenticated
from pycomnet.ext import access
from pycomnet.ext.access.rules import Rule
from pycomnet.services.client.context import Context
from pycomnet.services.interface import Service, interface, method
from pycomnet.services.server.server import ServiceServer
from pycomnet.test.ext.access.kit import AccessCase, Table

NAME = "org.example.folded"


class FoldingTests(AccessCase):
    """A rule is taken away by nothing but a rule that says so."""

    def add(self, cls: type) -> None:
        """Add a service."""
        self.successResultOf(self.server.add(cls()))

    def call(self, user: str | None, name: str = NAME) -> Any:
        """Call as a user."""
        return self.context_of(user).at(self.address, name).invoke("call")

    def plain(self) -> type:
        """A class with one method and no rule."""

        class Plain:
            def call(self, request: Any) -> str | None:
                return None if request.user is None else str(request.user.name)

        Plain.call = method()(Plain.call)  # type: ignore[method-assign]
        return Plain

    def test_function_of_a_subclass_leaves_its_bases_auth(self) -> None:
        """At any depth."""

        @access.auth(self.table)
        class Base(Service):
            @method()
            def call(self, request: Any) -> str:
                return str(request.user.name)

        @access.rule(lambda call: call.size < 100)
        class Middle(Base):
            pass

        @interface(NAME)
        class Lowest(Middle):
            pass

        self.add(Lowest)
        self.failure(self.call(None), Unauthenticated)
        self.assertEqual(self.result(self.call("alice")), "alice")
        remote = self.context_of("alice").at(self.address, NAME)
        self.failure(remote.invoke("call", "x" * 100), Forbidden)

    def test_auth_of_a_subclass_leaves_its_bases_function(self) -> None:
        """So a quota, say, holds for all."""

        @access.rule(lambda call: False)
        class Base(Service):
            @method()
            def call(self, request: Any) -> None:
                raise AssertionError("it runs")

        @access.auth(self.table)
        @interface(NAME)
        class Lower(Base):
            pass

        self.add(Lower)
        self.failure(self.call("alice"), Forbidden)

    def test_order_of_decorators_does_not_matter(self) -> None:
        """On a class that @interface makes a service of, in particular."""
        marks: list[Callable[[Any], Any]] = [
            access.auth(self.table),
            access.rule(lambda call: True),
            interface(NAME),
        ]
        for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
            control = self.make_control()
            server = ServiceServer(self.network, threads=self.network, access=control)
            cls = self.plain()
            for number in order:
                cls = marks[number](cls)
            self.successResultOf(server.add(cls()))
            address = self.successResultOf(server.listen("tcp:0:interface=127.0.0.1"))
            context = Context(self.network)
            self.failure(context.at(address, NAME).invoke("call"), Unauthenticated)
            context = self.context_of("bob")
            self.assertEqual(self.result(context.at(address, NAME).invoke("call")), "bob", order)
        marked = interface(NAME)(access.auth(self.table)(self.plain()))
        self.assertRaises(TypeError, access.auth(self.table), marked)

    def test_method_that_has_lost_its_rule_by_an_override_is_an_error(self) -> None:
        """It says which, and what to say."""

        class Base(Service):
            @access.auth(self.table)
            @method()
            def call(self, request: Any) -> None:
                pass

        @interface(NAME)
        class Lower(Base):
            @method()
            def call(self, request: Any) -> None:
                pass

        problem = self.failure(self.server.add(Lower()), AccessConfigError)
        self.assertIn("Lower.call", str(problem))

        @interface(NAME)
        class Open(Base):
            @access.public
            @method()
            def call(self, request: Any) -> None:
                pass

        self.add(Open)
        self.result(self.call(None))

    def test_rule_that_another_decorator_hides_is_warned_of(self) -> None:
        """It makes a function of its own, without functools.wraps."""

        def hiding(function: Any) -> Any:
            return lambda self, request: function(self, request)

        @interface(NAME)
        class Hidden(Service):
            @method()
            @hiding
            @access.auth(self.table)
            def call(self, request: Any) -> None:
                pass

        with capturedLogs() as events:
            self.add(Hidden)
        (format,) = [event["log_format"] for event in events if "name" in event]
        self.assertIn("functools.wraps", format)

    def test_rule_for_no_method_is_an_error(self) -> None:
        """A name that was mistyped protects nothing."""
        rules = {("org.example.shop", "sell"): Rule((self.table,))}
        control = access.AccessControl(self.network, rules=rules, threads=self.network)
        server = ServiceServer(self.network, threads=self.network, access=control)
        self.successResultOf(server.add(self.shop))
        problem = self.failure(server.listen("tcp:0"), AccessConfigError)
        self.assertIn("sell", str(problem))

    def test_interface_that_is_being_added_is_not_added_again(self) -> None:
        """The rules of the one would stand with the methods of the other."""
        from twisted.internet import defer

        waiting: defer.Deferred[None] = defer.Deferred()

        @interface(NAME)
        class Slow(Service):
            def started(self, server: Any) -> Any:
                return waiting

        adding = self.server.add(Slow())
        self.failure(self.server.add(Slow()), PycomnetError)
        waiting.callback(None)
        self.successResultOf(adding)


class WhoTests(AccessCase):
    """Whose name a rule sees."""

    def test_name_is_of_the_rules_own_checker(self) -> None:
        """Another checker's user of the same name is nobody."""
        customers = Table(admin=("mine", ""))
        seen: list[Any] = []

        @access.auth(customers)
        @interface("org.example.customers")
        class Customers(Service):
            @method()
            def call(self, request: Any) -> str:
                return str(request.user.name)

        def admin(call: access.AskedCall) -> bool:
            seen.append((call.user, [user.name for user in call.users.values()]))
            return call.user is not None and call.user.name == "admin"

        @access.rule(admin)
        @interface("org.example.admin")
        class Admin(Service):
            @method()
            def call(self, request: Any) -> None:
                raise AssertionError("it runs")

        for cls in (Customers, Admin):
            self.successResultOf(self.server.add(cls()))
        context = Context(self.network, credentials=access.Password("admin", "mine"))
        remote = context.at(self.address, "org.example.customers")
        self.assertEqual(self.result(remote.invoke("call")), "admin")
        self.failure(context.at(self.address, "org.example.admin").invoke("call"), Forbidden)
        self.assertEqual(seen, [(None, ["admin"])])

    def test_certificate_is_nobodys_name_where_there_is_a_rule(self) -> None:
        """The client has not said that these are its credentials."""
        seen: list[Any] = []

        @access.rule(lambda call: bool(seen.append(call.user)) or True)
        @interface(NAME)
        class Judged(Service):
            @method()
            def call(self, request: Any) -> bool:
                return request.user is None

        @interface("org.example.unruled")
        class Unruled(Service):
            @method()
            def call(self, request: Any) -> str:
                return str(request.user)

        for cls in (Judged, Unruled):
            self.successResultOf(self.server.add(cls()))
        context = self.context_of("alice")
        self.result(context.at(self.address, NAME).invoke("call"))
        for _, side in self.network.wires:
            side.protocol._user, side.protocol._user_known = "admin", True
        self.assertTrue(self.result(context.at(self.address, NAME).invoke("call")))
        self.assertEqual(seen, [None, None])
        remote = context.at(self.address, "org.example.unruled")
        self.assertEqual(self.result(remote.invoke("call")), "admin")

    def test_public_method_knows_the_users_of_its_interface(self) -> None:
        """And runs for nobody as well."""
        seen: list[Any] = []

        @access.auth(self.table)
        @interface(NAME)
        class Greeter(Service):
            @access.public
            @method()
            def call(self, request: Any) -> None:
                seen.append(request.user and request.user.name)

            @method()
            def other(self, request: Any) -> None:
                pass

        self.successResultOf(self.server.add(Greeter()))
        for user in ("alice", None):
            self.result(self.context_of(user).at(self.address, NAME).invoke("call"))
        self.assertEqual(seen, ["alice", None])
