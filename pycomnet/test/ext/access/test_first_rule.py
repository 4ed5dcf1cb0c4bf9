"""Clients that are connected before a server has its first rule: they log in when they need to."""

from __future__ import annotations

from typing import Any

from pycomnet.errors import Unauthenticated
from pycomnet.ext import access
from pycomnet.ext.access.rules import Rule
from pycomnet.services.binary import Binary
from pycomnet.services.client.context import Context
from pycomnet.services.interface import Service, interface, method
from pycomnet.services.server.server import ServiceServer
from pycomnet.test.ext.access.kit import SHOP, AccessCase, Table, make_shop


class FirstRuleTests(AccessCase):
    """The shop is added to a server without rules, to which the clients are connected."""

    def setUp(self) -> None:
        super().setUp()
        # As its own, but with this network's threads.
        self.patch(Rule, "make_gate", lambda rule, server: self.make_control())
        self.open_server = ServiceServer(self.network, threads=self.network)
        self.open_address = self.successResultOf(
            self.open_server.listen("tcp:0:interface=127.0.0.1")
        )
        self.users = Table(alice=("a password", ""))

    def connected(self, *credentials: Any) -> Any:
        """The shop of a client that is connected already."""
        context = Context(self.network, credentials=credentials)
        remote = self.result(context.connect(self.open_address, SHOP))
        self.wires = len(self.network.wires)
        return remote

    def open_shop(self, checker: Any = None) -> Any:
        shop = make_shop(checker or self.users)()
        self.successResultOf(self.open_server.add(shop))
        return shop

    def test_call_logs_in(self) -> None:
        """The caller does not notice, and there is no other connection."""
        remote = self.connected(access.Password("alice", "a password"))
        self.open_shop()
        self.assertEqual(self.result(remote.invoke("hours")), "9 to 5")
        self.assertEqual(self.users.checked, [])
        self.assertEqual(self.result(remote.invoke("buy")), "alice")
        self.assertEqual(self.result(remote.invoke("buy")), "alice")
        self.assertEqual(self.users.checked, ["alice"])
        self.assertEqual(len(self.network.wires), self.wires)

    def test_login_while_the_server_drains(self) -> None:
        """Its answer is a login's, not a call's: the connection stays."""
        remote = self.connected(access.Password("alice", "a password"))
        self.open_shop()
        draining = self.open_server.drain(10.0)
        self.assertEqual(self.result(remote.invoke("buy")), "alice")
        self.assertEqual(len(self.network.wires), self.wires)
        self.network.wait(11)
        self.successResultOf(draining)

    def test_calls_at_once_log_in_once(self) -> None:
        """However many were refused."""
        remote = self.connected(access.Password("alice", "a password"))
        self.open_shop()
        calls = [remote.invoke("buy") for _ in range(20)]
        self.network.deliver()
        self.assertEqual([self.result(call) for call in calls], ["alice"] * 20)
        self.assertEqual(self.users.checked, ["alice"])

    def test_batch_logs_in(self) -> None:
        """Its calls are made again."""
        remote = self.connected(access.Password("alice", "a password"))
        self.open_shop()
        takers = [Taken(), Taken()]
        self.result(remote.invoke_together([("buy", None, one) for one in takers]))
        self.assertEqual([one.found for one in takers], ["alice", "alice"])
        self.assertEqual(self.users.checked, ["alice"])

    def test_call_with_blocks_logs_in(self) -> None:
        """The blocks are sent again."""
        remote = self.connected(access.Password("alice", "a password"))
        self.open_shop()
        self.assertEqual(self.result(remote.invoke("buy", attachments=[Binary(b"x")])), "alice")
        self.assertEqual(self.users.checked, ["alice"])

    def test_stream_logs_in(self) -> None:
        """It is opened again; who waits for values gets them in their order."""
        remote = self.connected(access.Password("alice", "a password"))
        shop = self.open_shop()
        stream = remote.stream("news")
        first, second = stream.receive(), stream.receive()
        self.assertEqual(self.result(first), "first")
        shop.streaming.pop().callback("second")
        self.assertEqual(self.result(second), "second")
        self.assertEqual(self.users.checked, ["alice"])
        self.assertEqual(len(self.network.wires), self.wires)

    def test_stream_without_what_helps_fails_once(self) -> None:
        """Each of its receives fails with what the server says."""
        remote = self.connected()
        self.open_shop()
        stream = remote.stream("news")
        for waiting in [stream.receive(), stream.receive()]:
            problem = self.failure(waiting, Unauthenticated)
            self.assertEqual(problem.reason, "missing")

    def test_wrong_password_and_none(self) -> None:
        """Each is told what it would be told on a new connection."""
        wrong = self.connected(access.Password("alice", "wrong"))
        nothing = self.connected()
        other = self.connected(access.Token("token"))
        self.open_shop()
        for remote, reason in ((wrong, "refused"), (nothing, "missing"), (other, "missing")):
            calling = remote.invoke("buy")
            self.network.wait(1)
            problem = self.failureResultOf(calling, Unauthenticated).value
            self.assertEqual(problem.reason, reason)

    def test_further_kind(self) -> None:
        """A rule that takes another kind than those that the hello named."""
        tokens: Any = Table()
        tokens.credentialInterfaces = access.TokenFile.credentialInterfaces
        self.successResultOf(self.open_server.add(make_plain("first", tokens)()))
        remote = self.connected(access.Password("alice", "a password"))
        self.open_shop()
        self.assertEqual(self.result(remote.invoke("buy")), "alice")


class Taken:
    """Takes the outcome of a call of a batch."""

    found: Any = None

    def callback(self, result: Any) -> None:
        self.found = result

    def errback(self, failure: Any) -> None:
        self.found = failure


def make_plain(name: str, checker: Any) -> type[Service]:
    """A service with a rule and one method."""

    @access.auth(checker)
    @interface(f"org.example.{name}")
    class Plain(Service):
        @method(idempotent=True)
        def call(self, request: Any) -> str:
            return str(request.user.name)

    return Plain
