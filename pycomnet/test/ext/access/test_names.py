"""Who may register which names at a nameserver, list and watch."""

from __future__ import annotations

from typing import Any

import attrs

from pycomnet.errors import (
    AccessConfigError,
    Forbidden,
    TooManyRegistrations,
    Unauthenticated,
)
from pycomnet.ext import access
from pycomnet.ext.access.names import MAX_FILE, NameAccess, NameGrant, make_access, read_access
from pycomnet.ext.access.rules import Rule
from pycomnet.nameserver import server
from pycomnet.services.client.context import NAMESERVER, Context
from pycomnet.test.ext.access.kit import Table
from pycomnet.test.ext.access.test_passwords import FileCase
from pycomnet.test.nameserver import servicecase
from pycomnet.test.nameserver.servicecase import NameserverCase


class NameAccessTests(NameserverCase):
    """A nameserver with rules."""

    def setUp(self) -> None:
        self.table = table = Table(alice=("a", "shop"), bob=("b", ""), watcher=("w", "monitor"))
        everybody = (table,)
        names = NameAccess(
            everybody,
            [
                NameGrant(("/shop/*",), ("x", "org.shop.*"), roles=frozenset({"shop"})),
                NameGrant(("/bob/*", "bob"), ("*",), allow=frozenset({"bob"})),
            ],
            {
                "list": Rule(everybody),
                "watch": Rule(everybody, frozenset({"monitor"})),
                "remove": Rule(everybody, allow=frozenset({"watcher"})),
            },
        )
        self.options = {"may_register": names.may_register}

        def make_server(reactor: Any) -> Any:
            self.control = names.control(reactor, threads=reactor, clock=reactor.seconds)
            return server.make_server(reactor, self.control)

        self.patch(servicecase, "make_server", make_server)
        super().setUp()
        self.network.runs_threads = True

    def as_user(self, user: str | None) -> Any:
        """The nameserver, as a user calls it."""
        credentials = None if user is None else access.Password(user, user[0])
        context = Context(self.network, credentials=credentials)
        return context.at(self.address, NAMESERVER)

    def call(self, user: str | None, method: str, **args: Any) -> Any:
        """What comes of a call: its result, or its error."""
        found: list[Any] = []
        self.as_user(user).invoke(method, args).addBoth(found.append)
        self.network.deliver()
        (result,) = found
        return getattr(result, "value", result)

    def test_names_are_registered_by_those_who_may(self) -> None:
        """By a role or by name; the error has the role that lacks."""
        for user, name, right in (
            ("alice", "/shop/1", True),
            ("alice", "/shop/deep/1", True),
            ("alice", "/other/1", False),
            ("alice", "bob", False),
            ("bob", "bob", True),
            ("bob", "/bob/1", True),
            ("bob", "/shop/2", False),
            ("watcher", "/shop/2", False),
        ):
            found = self.call(
                user, "register", service=name, interfaces=["x"], address="tcp:127.0.0.1:1"
            )
            if right:
                self.assertIn("lease", found, (user, name))
            else:
                self.assertIsInstance(found, Forbidden, (user, name))
                self.assertEqual(found.role, "shop" if name.startswith("/shop") else "")
        found = self.call(
            None, "register", service="bob", interfaces=["x"], address="tcp:127.0.0.1:1"
        )
        self.assertIsInstance(found, Unauthenticated)
        self.assertEqual(len(self.names.directory), 4)

    def test_interfaces_are_registered_by_those_who_may(self) -> None:
        """Clients look for these, so a name alone is no grant."""
        for interfaces, right in (
            (["x"], True),
            (["x", "org.shop.buy"], True),
            (["x", "com.example.bank"], False),
            ([NAMESERVER], False),
        ):
            found = self.call(
                "alice",
                "register",
                service="/shop/1",
                interfaces=interfaces,
                address="tcp:127.0.0.1:1",
                secret="a secret of sixteen",
            )
            self.assertEqual(isinstance(found, dict), right, interfaces)
        self.assertIsInstance(found, Forbidden)

    def test_registration_is_kept_by_those_who_may(self) -> None:
        """The secret of a lease is not enough: neither without a login nor by another."""
        made = self.call(
            "alice", "register", service="/shop/1", interfaces=["x"], address="tcp:127.0.0.1:1"
        )
        owner = {"lease": made["lease"], "secret": made["secret"]}
        self.assertIn("ttl", self.call("alice", "renew", **owner))
        self.assertIsInstance(self.call(None, "renew", **owner), Unauthenticated)
        self.assertIsInstance(self.call("bob", "renew", **owner), Forbidden)
        alice = self.as_user("alice")
        self.result(alice.invoke("renew", owner))
        self.table.users["alice"] = ("a", "")  # the role has gone
        self.network.wait(3)
        self.failure(alice.invoke("renew", owner), Forbidden)
        del self.table.users["alice"]
        self.network.wait(3)
        calling = alice.invoke("renew", owner)
        self.network.wait(1)
        self.failureResultOf(calling, Unauthenticated)

    def test_limit_is_the_users(self) -> None:
        """However many connections they have; another user has room."""
        self.names.limits = attrs.evolve(self.names.limits, client_services=2)
        for number, error in ((1, None), (2, None), (3, TooManyRegistrations)):
            found = self.call(
                "bob",
                "register",
                service=f"/bob/{number}",
                interfaces=["x"],
                address="tcp:127.0.0.1:1",
            )
            self.assertIsInstance(found, error or dict)
        found = self.call(
            "alice", "register", service="/shop/1", interfaces=["x"], address="tcp:127.0.0.1:1"
        )
        self.assertIn("lease", found)

    def test_operators_are_the_users_of_the_rule(self) -> None:
        """They end what others have registered, and nobody else does."""
        self.call("bob", "register", service="bob", interfaces=["x"], address="tcp:127.0.0.1:1")
        self.assertIsInstance(self.call(None, "remove", service="bob"), Unauthenticated)
        for user in ("bob", "alice"):
            self.assertIsInstance(self.call(user, "remove", service="bob"), Forbidden)
        self.assertEqual(self.call("watcher", "remove", service="bob"), {"service": "bob"})
        self.assertEqual(len(self.names.directory), 0)

    def test_listing_and_watching_are_for_those_who_may(self) -> None:
        """Locating is for everybody, as nothing is said of it."""
        self.call("bob", "register", service="bob", interfaces=["x"], address="tcp:127.0.0.1:1")
        self.assertEqual(self.call(None, "locate", interface="x")["service"], "bob")
        self.assertIsInstance(self.call(None, "list_services"), Unauthenticated)
        self.assertEqual(len(self.call("alice", "list_services")), 1)
        for user, error in ((None, Unauthenticated), ("bob", Forbidden)):
            watching = self.as_user(user).stream("watch", {}).receive()
            self.network.deliver()
            self.failureResultOf(watching, error)
        watching = self.as_user("watcher").stream("watch", {}).receive()
        self.network.deliver()
        self.successResultOf(watching)


class FileTests(FileCase):
    """The file that says who may."""

    def test_file_says_who_may(self) -> None:
        """With the checkers that it names."""
        path = self.file(
            "access.toml",
            """
            password_file = "/etc/pycomnet/passwd"
            groups = "/etc/pycomnet/groups"
            peers = true
            certificates = "/etc/pycomnet/certificates"

            [[register]]
            names = ["/shop/*"]
            interfaces = ["org.shop.*"]
            roles = "shop"

            [[register]]
            names = ["/any/*"]
            interfaces = ["*"]

            [watch]
            allow = ["monitor"]

            [list]
            roles = ["admin"]
            """,
        )
        found = read_access(path)
        kinds = [type(one).__name__ for one in found.checkers]
        self.assertEqual(kinds, ["PasswordFile", "Certificates", "PeerUsers"])
        assert found.register is not None
        self.assertEqual(
            found.register[0], NameGrant(("/shop/*",), ("org.shop.*",), frozenset({"shop"}))
        )
        self.assertEqual(
            {method: rule.roles | rule.allow for (_, method), rule in found.rules.items()},
            {
                "register": set(),
                "renew": set(),
                "adjust": set(),
                "watch": {"monitor"},
                "list_services": {"admin"},
                "stat": {"admin"},
                "cluster": {"admin"},
            },
        )

    def test_file_that_is_too_long_is_refused(self) -> None:
        """It is not cut: what is behind the limit may be who may watch."""
        path = self.file("access.toml", f"peers = true\n#{'x' * MAX_FILE}\n[watch]\nallow = []\n")
        problem = self.assertRaises(AccessConfigError, read_access, path)
        self.assertIn(f"longer than {MAX_FILE} bytes", str(problem))

    def test_file_that_no_parser_takes_is_an_error(self) -> None:
        """Not only one with wrong syntax."""
        for text in ("peers =", f"peers = {'1' * 5000}", f"peers = {'[' * 100_000}"):
            path = self.file("access.toml", text)
            self.assertIn(str(path), str(self.assertRaises(AccessConfigError, read_access, path)))

    def test_wrong_key_is_named(self) -> None:
        """And where it is."""
        good: dict[str, Any] = {"peers": True}
        for settings, says in (
            ({}, "names no checker"),
            ({**good, "lists": {}}, "no key 'lists'"),
            ({**good, "register": {"names": ["x"]}}, "[[register]]"),
            ({**good, "register": [{"roles": ["x"]}]}, "register 1: it needs names"),
            ({**good, "register": [{"names": [1]}]}, "register 1: names"),
            ({**good, "register": [{"names": ["x"]}]}, "register 1: it needs interfaces"),
            ({**good, "watch": {"users": ["x"]}}, "watch: no key 'users'"),
            ({"peers": 7}, "peers"),
            ({"jwt": {"keys": "x"}}, "jwt"),
            ({"jwt": {"keys": "http://x/y", "issuer": "x", "audience": "y"}}, "https"),
        ):
            problem = self.assertRaises(AccessConfigError, make_access, settings, "a.toml")
            self.assertIn(says, str(problem), settings)
