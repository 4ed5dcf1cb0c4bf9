"""The ends of logins: whoever has noticed the change, and whatever was under way."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet import defer
from twisted.logger import capturedLogs

from pycomnet.errors import Unauthenticated
from pycomnet.ext import access
from pycomnet.ext.access.rules import Rule
from pycomnet.services.client.context import Context
from pycomnet.services.interface import Service, interface, method
from pycomnet.services.server.limits import ServerLimits
from pycomnet.services.server.server import ServiceServer
from pycomnet.test.ext.access.kit import SHOP, AccessCase, make_shop
from pycomnet.test.ext.access.test_passwords import FileCase
from pycomnet.test.services.network import Network
from pycomnet.wire.hello import PLAIN

#: bcrypt of "a", with the fewest rounds.
HASH = "$2b$04$ZWe68yNy2INgYKPRGdrGCOJZ82/xdDcZWWfE2md7aVTFfa4fZg5cS"


class LoginCase(AccessCase):
    """Logins that are sent by hand."""

    def connection(self, context: Context) -> Any:
        """A context's connection to the server."""
        self.result(context.connect(self.address, SHOP))
        return context.peer(self.address).connection

    def login(self, connection: Any, *message: str) -> Any:
        """Send a login; what comes of it."""
        received = connection.open("login", PLAIN.encode(list(message)), end=True).receive()
        received.addErrback(lambda failure: failure.value)
        return received


class NoticeTests(FileCase):
    """A change is acted on, whoever has found it first."""

    def setUp(self) -> None:
        super().setUp()
        self.network = Network()
        self.network.runs_threads = True

    def serve(self, checker: Any) -> str:
        """A server whose shop goes by a checker; its address."""
        control = access.AccessControl(
            self.network, threads=self.network, clock=self.network.seconds
        )
        server = ServiceServer(self.network, threads=self.network, access=control)
        server.add(make_shop(checker)())
        return str(self.successResultOf(server.listen("tcp:0:interface=127.0.0.1")))

    def call(self, address: str, credentials: Any) -> Any:
        """A context that has called, with its result."""
        context = Context(self.network, credentials=credentials)
        calling = context.at(address, SHOP).invoke("buy")
        self.network.wait(1)
        return context, calling

    def check_removal(self, checker: Any, give: Any, write: Any, *servers: str) -> None:
        """alice is removed, and others log in before the next look: she is out all the same.

        :param give: user -> credentials.
        :param write: writes the users.
        """
        write("alice", "bob")
        addresses = [self.serve(checker) for _ in range(2)]
        inside = [self.call(address, give("alice")) for address in addresses]
        for _, calling in inside:
            self.assertEqual(self.successResultOf(calling), "alice")
        write("bob")
        for address in addresses:
            for user, right in (("bob", True), ("nobody", False)):
                _, calling = self.call(address, give(user))
                calling.addErrback(lambda failure: failure.value)
                self.assertEqual(self.successResultOf(calling) == "bob", right)
        self.network.wait(2.5)
        for address, (context, _) in zip(addresses, inside, strict=True):
            context.credentials = ()
            calling = context.at(address, SHOP).invoke("buy")
            self.network.deliver()
            self.assertEqual(self.failureResultOf(calling, Unauthenticated).value.reason, "expired")

    def test_user_of_a_password_file_is_out(self) -> None:
        """At both servers that use it."""
        path = self.directory / "passwd"

        def write(*users: str) -> None:
            self.replace(path, "".join(f"{user}:{HASH}\n" for user in users))

        self.check_removal(
            access.PasswordFile(path), lambda user: access.Password(user, "a"), write
        )

    def test_token_is_withdrawn(self) -> None:
        """Whose section has gone."""
        path = self.directory / "tokens"

        def write(*users: str) -> None:
            self.replace(path, "".join(f"[{user}]\ntoken = {user * 8}\n" for user in users))

        self.check_removal(
            access.TokenFile(path), lambda user: access.Token((user * 8)[:40]), write
        )

    def replace(self, path: Any, text: str) -> None:
        """Write a file as an editor does."""
        new = path.with_name("new")
        new.write_text(text)
        new.chmod(0o600)
        os.replace(new, path)

    def test_file_that_is_written_in_place_withdraws_nobody(self) -> None:
        """While it is empty, as > leaves it for a moment."""
        path = self.directory / "passwd"
        self.replace(path, f"alice:{HASH}\n")
        address = self.serve(access.PasswordFile(path))
        context, calling = self.call(address, access.Password("alice", "a"))
        self.successResultOf(calling)
        context.credentials = ()
        path.write_text("")
        self.network.wait(5)
        calling = context.at(address, SHOP).invoke("buy")
        self.network.deliver()
        self.assertEqual(self.successResultOf(calling), "alice")
        path.write_text(f"bob:{HASH}\n")
        self.network.wait(5)
        calling = context.at(address, SHOP).invoke("buy")
        self.network.deliver()
        self.failureResultOf(calling, Unauthenticated)


class RaceTests(LoginCase):
    """Logins that are checked while their user is removed."""

    def test_login_that_was_checked_before_a_change_does_not_count(self) -> None:
        """The check has begun with the old users."""
        self.network.runs_threads = False
        connection = self.connection(Context(self.network))
        found = self.login(connection, "password", "alice", "a password")
        self.network.deliver()
        self.network.run_threads()  # the old users; the result is on its way
        del self.table.users["alice"]
        self.table.refresh()
        self.control._changes.notice()
        self.network.deliver()
        self.assertEqual(self.successResultOf(found).error["fields"], {"reason": "expired"})
        self.assertEqual([one.logins for one in self.control._callers.values()], [{}])

    def test_token_that_ends_during_its_check_does_not_count(self) -> None:
        """Not for one turn."""
        self.table.expires = self.network.seconds()
        found = self.login(self.connection(Context(self.network)), "password", "boss", "c password")
        self.network.deliver()
        self.assertEqual(self.successResultOf(found).error["fields"], {"reason": "expired"})


class UnderWayTests(LoginCase):
    """What a user has begun who is removed then."""

    def begun(self, *request: Any) -> tuple[Any, Any, Any]:
        """A call whose block never ends; its end, and the block's."""
        self.caller = self.context_of("alice")
        connection = self.connection(self.caller)
        block = connection.open("channel", raw=True)
        self.handle = connection.make_handle(block)  # which closes it once it is gone
        payload = connection.encode([*request, [[self.handle, None, None]]])
        calling = connection.open("invoke", payload, end=True).receive()
        calling.addErrback(lambda failure: failure.value)
        self.network.wait(1)
        return connection, block, calling

    def test_call_that_waits_for_its_blocks_does_not_run_later(self) -> None:
        """However long they take."""
        connection, block, calling = self.begun(SHOP, "buy", None, None)
        del self.table.users["alice"]
        self.network.wait(5)
        connection.mux.end(block.stream)
        connection.flush_soon()
        self.network.wait(1)
        self.assertEqual(self.shop.ran, [])
        self.assertEqual(self.successResultOf(calling).error["code"], "unauthenticated")

    def test_rule_is_asked_again_when_the_blocks_are_there(self) -> None:
        """It may have changed its mind: office hours are over."""
        open_now = [True]

        @interface("org.example.hours")
        class Hours(Service):
            @access.rule(lambda call: open_now[0])
            @method()
            def buy(self, request: Any) -> None:
                raise AssertionError("it runs")

        self.successResultOf(self.server.add(Hours()))
        connection, block, calling = self.begun("org.example.hours", "buy", None, None)
        open_now[0] = False
        connection.mux.end(block.stream)
        connection.flush_soon()
        self.network.wait(1)
        self.assertEqual(self.successResultOf(calling).error["code"], "forbidden")

    def test_stream_that_is_older_than_the_rules_disturbs_no_login(self) -> None:
        """It began when the server had none, and goes on; the login has its line in the log."""
        control = self.make_control()  # with the test's clock, as the one that the server makes
        self.patch(Rule, "make_gate", lambda rule, server: control)
        server = ServiceServer(self.network, threads=self.network)

        @interface("org.example.open")
        class Open(Service):
            @method(stream=True)
            async def ticks(self, request: Any) -> Any:
                yield 1
                yield await later

        later: defer.Deferred[Any] = defer.Deferred()
        self.successResultOf(server.add(Open()))
        address = self.successResultOf(server.listen("tcp:0:interface=127.0.0.1"))
        context = Context(self.network)
        stream = context.at(address, "org.example.open").stream("ticks")
        self.assertEqual(self.result(stream.receive()), 1)
        self.successResultOf(server.add(make_shop(self.table)()))
        connection = context.peer(address).connection
        with capturedLogs() as events:
            answered = self.login(connection, "password", "alice", "a password")
            self.network.wait(1)
        self.assertNotIsInstance(self.successResultOf(answered), Exception)
        logged = [event["audit"] for event in events if "audit" in event]
        self.assertEqual([(one["event"], one["user"]) for one in logged], [("login", "alice")])
        self.assertEqual(self.result(context.at(address, SHOP).invoke("buy")), "alice")
        later.callback(2)
        self.assertEqual(self.result(stream.receive()), 2)

    def test_call_that_waits_for_its_turn_does_not_run(self) -> None:
        """Nor does a stream that waits for it start; others that wait do run."""
        self.server.limits = ServerLimits(running=1)
        alice, bob = self.shop_for("alice"), self.shop_for("bob")
        self.result(alice.invoke("buy")), self.result(bob.invoke("buy"))
        busy = bob.stream("news")
        self.assertEqual(self.result(busy.receive()), "first")
        alice.context.credentials = ()
        waiting = [alice.invoke("buy"), alice.stream("news").receive(), bob.invoke("buy")]
        self.network.deliver()
        self.shop.ran.clear()
        del self.table.users["alice"]
        self.network.wait(3)
        for one in waiting[:2]:
            self.assertEqual(self.failureResultOf(one, Unauthenticated).value.reason, "expired")
        self.shop.streaming[0].callback("second")
        self.network.deliver()
        self.assertEqual(self.successResultOf(waiting[2]), "bob")
        self.assertEqual((self.shop.ran, len(self.shop.streaming)), (["buy"], 1))

    def test_stream_whose_method_has_run_is_not_repeated(self) -> None:
        """Although it has given no value, and another login would be accepted."""
        began: list[str] = []

        @interface("org.example.belt")
        @access.auth(self.table)
        class Belt(Service):
            @method(stream=True)
            async def parcels(self, request: Any) -> Any:
                began.append(request.user.name)
                yield await defer.Deferred()

        self.successResultOf(self.server.add(Belt()))
        alice = self.context_of("alice").at(self.address, "org.example.belt")
        waiting = alice.stream("parcels").receive()
        self.network.deliver()
        self.table.users["alice"] = ("a password", "clerk")
        self.network.wait(3)
        self.assertEqual(self.failureResultOf(waiting, Unauthenticated).value.reason, "ended")
        self.assertEqual(began, ["alice"])
        again = alice.stream("parcels").receive()
        self.network.wait(1)
        self.assertNoResult(again)
        self.assertEqual(began, ["alice"] * 2)

    def test_stream_ends_when_its_connection_is_anothers(self) -> None:
        """Who logs in anew has what is theirs, and not what was begun by another."""
        for user, word, goes_on in (("bob", "b password", False), ("alice", "a password", True)):
            context = self.context_of("alice")
            stream = context.at(self.address, SHOP).stream("news")
            self.assertEqual(self.result(stream.receive()), "first")
            waiting = stream.receive()
            connection = context.peer(self.address).connection
            self.result(self.login(connection, "password", user, word))
            self.shop.streaming[-1].callback("secret")
            self.network.deliver()
            if goes_on:
                self.assertEqual(self.successResultOf(waiting), "secret")
            else:
                self.failureResultOf(waiting, Unauthenticated)

    def test_method_keeps_the_user_who_called(self) -> None:
        """Though another has logged in meanwhile, or nobody is any more."""
        seen: list[Any] = []
        waiting: list[defer.Deferred[Any]] = []

        @access.auth(self.table)
        @interface("org.example.slow", stateful=True)
        class Slow(Service):
            @method()
            async def go(self, request: Any) -> None:
                seen.append(request.user.name)
                request.session["whose"] = request.user.name
                waiting.append(defer.Deferred())
                await waiting[-1]
                seen.append(request.user.name)
                seen.append(request.session["whose"])

        self.successResultOf(self.server.add(Slow()))
        context = self.context_of("alice")
        calling = context.at(self.address, "org.example.slow").invoke("go")
        self.network.wait(1)
        connection = context.peer(self.address).connection
        self.result(self.login(connection, "password", "bob", "b password"))
        waiting[0].callback(None)
        self.result(calling)
        self.assertEqual(seen, ["alice"] * 3)

    def test_thread_that_has_not_begun_does_not(self) -> None:
        """A method with thread=True waits for one."""
        ran: list[str] = []

        @access.auth(self.table)
        @interface("org.example.threads")
        class Threads(Service):
            @method(thread=True)
            def go(self, request: Any) -> None:
                ran.append(request.user.name)

        self.successResultOf(self.server.add(Threads()))
        context = self.context_of("alice")
        self.result(context.at(self.address, SHOP).invoke("buy"))
        self.network.runs_threads = False
        calling = context.at(self.address, "org.example.threads").invoke("go")
        self.network.deliver()
        threads, self.network.threads = self.network.threads, []
        context.credentials = ()
        self.network.runs_threads = True
        del self.table.users["alice"]
        self.network.wait(3)
        for run in threads:
            run()
        self.network.deliver()
        self.failureResultOf(calling, Unauthenticated)
        self.assertEqual(ran, [])
