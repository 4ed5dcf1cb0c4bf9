"""To whom a client gives its credentials: not to whoever a record or a caller names."""

from __future__ import annotations

import json
import shlex
from ast import literal_eval
from random import Random
from typing import Any

from twisted.internet import defer
from twisted.internet.address import IPv4Address
from twisted.internet.testing import StringTransport

from pycomnet.errors import (
    CredentialsNotSent,
    EndpointError,
    ServiceNotFound,
    ServiceUnreachable,
    Unauthenticated,
)
from pycomnet.ext import access
from pycomnet.ext.access.rules import Rule
from pycomnet.net import endpoints
from pycomnet.services.client.context import NAMESERVER, Context
from pycomnet.services.client.login import LOGIN_TIMEOUT, choose, withheld
from pycomnet.services.client.reference import ServiceReference
from pycomnet.services.interface import INTROSPECTION, Service, interface, method
from pycomnet.services.server.server import ServiceServer
from pycomnet.test.ext.access.kit import SHOP, AccessCase, Table, make_shop
from pycomnet.test.net.test_destinations import OTHERS, PATTERN
from pycomnet.test.services.client.test_restarts import Names, serve

PASSWORD = access.Password("alice", "a password")


class SuitsTests(AccessCase):
    """Which servers credentials are for."""

    def test_pattern_is_not_tricked_by_options(self) -> None:
        """An address that a record has leads where it leads, whatever it looks like."""
        found = access.AtAddress(PATTERN, PASSWORD)
        self.assertTrue(found.suits("tls:db.example.org:443"))
        for address in OTHERS:
            self.assertFalse(found.suits(address), address)

    def test_secrets_without_a_pattern_are_for_what_the_program_names(self) -> None:
        """What shows nothing that others could use is for any."""
        for one, secret in (
            (PASSWORD, True),
            (access.Token("a-token-of-nobody-here"), True),
            (access.PeerUser(), False),
            (access.ClientCertificate(), False),
        ):
            self.assertTrue(one.suits("tls:a:1", True))
            self.assertEqual(one.suits("tls:a:1"), not secret)


class AskTests(AccessCase):
    """Functions that ask for a password."""

    def test_function_that_needs_an_argument_gets_the_address(self) -> None:
        """One with a default remembers something by it, and is not for whom a record names."""

        def keyword(*, prompt: str = "") -> str:
            return "a password"

        for function, shows in (
            (lambda address: "a password", True),
            (lambda: "a password", False),
            (lambda password="a password": password, False),
            (keyword, False),
        ):
            given = access.Password("alice", function)
            self.assertEqual(given.suits("tcp:127.0.0.1:1"), shows)
            message = self.successResultOf(given.message("tcp:127.0.0.1:1"))
            self.assertEqual(list(message), ["password", "alice", "a password"])


class RecordTests(AccessCase):
    """Servers that a nameserver has found."""

    def setUp(self) -> None:
        super().setUp()
        self.names = Names()
        self.nameserver_side, self.nameserver = serve(self.network, self.names)
        self.names.records = [{"service": "s", "interfaces": [SHOP], "address": self.address}]

    def locate(self, **options: Any) -> Any:
        """The shop, as a context finds it."""
        context = Context(self.network, nameserver=self.nameserver, **options)
        return self.result(context.locate(SHOP))

    def test_password_is_not_for_whom_a_record_names(self) -> None:
        """The call says so, and what to do; a public method is called without a login."""
        shop = self.locate(credentials=PASSWORD)
        problem = self.failure(shop.invoke("buy"), CredentialsNotSent)
        self.assertIn(f"PYCOMNET_CREDENTIALS_FOR='{self.address}'", str(problem))
        self.assertIn("AtAddress", str(problem))
        problem = self.failure(shop.stream("news").receive(), CredentialsNotSent)
        self.assertEqual(self.result(shop.invoke("hours")), "9 to 5")
        self.assertEqual(self.table.checked, [])

    def test_what_to_do_can_be_pasted(self) -> None:
        """Also if the record that somebody has made has an address with a command in it."""
        address = "unix:/a'; \"touch\" b;'"
        text = withheld([PASSWORD], [PASSWORD.kind], address)
        shell = text[text.index("PYCOMNET_CREDENTIALS_FOR=") : text.index(" in the environment")]
        self.assertEqual(shlex.split(shell), ["PYCOMNET_CREDENTIALS_FOR=" + address])
        line = text[text.index("address = ") : text.index(" in the credentials file")]
        self.assertEqual(json.loads(line.removeprefix("address = ")), address)  # as in TOML
        quoted = text[text.index("AtAddress(") + 10 : text.index(", credentials)")]
        self.assertEqual(literal_eval(quoted), address)

    def test_password_with_a_pattern_is(self) -> None:
        """As is one that is asked for by a function that shows who wants to know."""
        shop = self.locate(credentials=access.AtAddress("tcp:127.0.0.1:*", PASSWORD))
        self.assertEqual(self.result(shop.invoke("buy")), "alice")
        asked: list[str] = []

        def ask(address: str) -> str:
            asked.append(address)
            return "a password"

        shop = self.locate(credentials=access.Password("alice", ask))
        self.assertEqual(self.result(shop.invoke("buy")), "alice")
        self.assertEqual(asked, [self.address])

    def test_server_that_the_program_names_gets_it_all_the_same(self) -> None:
        """Though a record has named the same one before."""
        context = Context(self.network, nameserver=self.nameserver, credentials=PASSWORD)
        located = self.result(context.locate(SHOP))
        self.result(located.invoke("hours"))
        self.assertEqual(self.result(context.at(self.address, SHOP).invoke("buy")), "alice")
        self.failure(located.invoke("buy"), CredentialsNotSent)

    def test_options_of_a_record_do_not_count(self) -> None:
        """Neither a certificate of the client's machine nor a name to verify is taken from it."""
        context = Context(self.network, nameserver=self.nameserver)
        self.names.records[0]["address"] = f"{self.address}:bindAddress=192.0.2.7"
        self.names.records[0]["metadata"] = {"addresses": ["tls:h:1:host=evil:trustRoots=/tmp/x"]}
        shop = self.result(context.locate(SHOP))
        self.assertEqual(self.result(shop.invoke("hours")), "9 to 5")
        self.assertEqual(
            sorted(one.address for one in context.pool.peers.values()),
            sorted([self.nameserver, self.address]),
        )

    def test_local_address_of_another_machine_is_not_connected_to(self) -> None:
        """On this machine, whoever has an account here may listen there."""
        context = Context(self.network, nameserver=self.nameserver)
        context.nameserver_address = self.nameserver.replace("127.0.0.1", "192.0.2.1")
        ports = len(self.network.wires)
        problem = self.failure(context.locate(SHOP), ServiceNotFound)
        self.assertIn(self.address, str(problem))
        self.names.records[0]["address"] = "unix:/tmp/x"
        self.failure(context.locate(SHOP), ServiceNotFound)
        self.assertEqual(len(self.network.wires), ports + 1)  # the nameserver's

    def test_nameserver_has_credentials_of_its_own(self) -> None:
        """It does not get what is for services, and the services not what is for it."""
        given: list[Any] = []
        shown = access.Password("alice", "for services")
        context = Context(self.network, nameserver=self.nameserver, credentials=shown)
        self.assertEqual(self._suited(context, given), [])
        own = access.Password("alice", "for the nameserver")
        context = Context(
            self.network, nameserver=self.nameserver, credentials=shown, nameserver_credentials=own
        )
        self.assertEqual(self._suited(context, given), [own])

    def _suited(self, context: Context, given: list[Any]) -> list[Any]:
        self.patch(self.nameserver_side, "gate", None)
        del given[:]
        self.patch(self.nameserver_side, "_hello", {"services": {}, "login": ["password"]})

        def record(connection: Any, credentials: Any, address: str) -> Any:
            given.append(credentials)
            return defer.succeed({"services": {}})

        from pycomnet.services.client import pool

        self.patch(pool, "log_in", record)
        self.result(context.locate(SHOP))
        return given


class RequestTests(AccessCase):
    """What a method connects to may be its caller's."""

    def test_method_does_not_give_its_servers_password_to_its_caller(self) -> None:
        """Who passes an address of its own gets a call, and no login."""
        found: list[Any] = []

        @interface("org.example.relay")
        class Relay(Service):
            @method()
            async def relay(self, request: Any) -> Any:
                context = request.context()
                found.append(context)
                return await context.at(request.args, SHOP).invoke("hours")

        own = Context(self.network, credentials=PASSWORD)
        relay = ServiceServer(self.network, threads=self.network, context=own)
        self.successResultOf(relay.add(Relay()))
        address = self.successResultOf(relay.listen("tcp:0:interface=127.0.0.1"))
        remote = Context(self.network).at(address, "org.example.relay")
        self.assertEqual(self.result(remote.invoke("relay", self.address)), "9 to 5")
        self.assertEqual(self.table.checked, [])
        self.failure(found[0].at(self.address, SHOP).invoke("buy"), CredentialsNotSent)
        self.assertEqual(self.result(own.at(self.address, SHOP).invoke("buy")), "alice")

    def guarded(self, names: Names, rule: Rule, *methods: str) -> str:
        """The address of a nameserver with a rule on some methods."""
        control = access.AccessControl(
            self.network,
            rules={(NAMESERVER, one): rule for one in methods},
            threads=self.network,
            clock=self.network.seconds,
        )
        server = ServiceServer(self.network, threads=self.network, access=control)
        self.successResultOf(server.add(names))
        return str(self.successResultOf(server.listen("tcp:0:interface=127.0.0.1")))

    def test_who_may_not_list_is_told_of_some(self) -> None:
        """An interface is found all the same, by asking for one."""
        names = Names()
        names.records = [{"service": "s", "interfaces": [SHOP], "address": self.address}]
        address = self.guarded(names, Rule((self.table,)), "list_services")
        for credentials in (None, PASSWORD):  # the password is for no nameserver
            context = Context(self.network, nameserver=address, credentials=credentials)
            shop = self.result(context.locate(SHOP))
            self.assertEqual(self.result(shop.invoke("hours")), "9 to 5")
        self.assertEqual((names.asked, self.table.checked), (0, []))
        names.records.clear()
        context = Context(self.network, nameserver=address)
        self.failure(context.locate(SHOP), ServiceNotFound)

    def test_nameserver_that_a_caller_names_gets_no_credentials(self) -> None:
        """Those for the context's own nameserver are for no other."""
        names = Names()
        names.records = [{"service": "s", "interfaces": [SHOP], "address": self.address}]
        table = Table(alice=("a password", ""))
        evil = self.guarded(names, Rule((table,)), "list_services", "locate")
        own = Context(self.network, nameserver="tcp:127.0.0.1:9", nameserver_credentials=PASSWORD)
        reference = ServiceReference(SHOP, nameserver=evil)
        for context in (own, own.for_request(None)):
            self.failure(context.refers_to(reference).invoke("hours"), Unauthenticated)
            self.failure(context.asking(evil).locate(SHOP), Unauthenticated)
        self.assertEqual(table.checked, [])
        same = Context(
            self.network, nameserver=f"{evil}:timeout=5", nameserver_credentials=PASSWORD
        )
        self.assertEqual(self.result(same.asking(evil).locate(SHOP)).interface, SHOP)
        self.assertEqual(table.checked, ["alice"])

    def test_service_that_a_reference_names_gets_no_password(self) -> None:
        """It may be anybody's, so only a pattern may mean it."""
        reference = ServiceReference(SHOP, address=self.address)
        own = Context(self.network, credentials=PASSWORD)
        self.failure(own.refers_to(reference).invoke("buy"), CredentialsNotSent)
        self.assertEqual(self.table.checked, [])
        own = Context(self.network, credentials=access.AtAddress("tcp:127.0.0.1:*", PASSWORD))
        self.assertEqual(self.result(own.refers_to(reference).invoke("buy")), "alice")

    def test_address_that_hides_that_it_leads_here_gets_no_password(self) -> None:
        """Others may have a server on this machine."""
        given = (access.AtAddress("tcp:*", PASSWORD),)
        transport = StringTransport(peerAddress=IPv4Address("TCP", "127.0.0.1", 1))
        for address, own, right in (
            ("tcp:127.0.0.1:1", False, True),
            ("tcp:localhost:1", False, True),
            ("tcp:name.example:1", False, False),
            ("tcp:127.1:1", False, False),
            ("tcp:name.example:1", True, True),
        ):
            if right:
                self.assertIs(choose(given, ["password"], transport, address, own), given[0])
            else:
                with self.assertRaisesRegex(CredentialsNotSent, "without saying so"):
                    choose(given, ["password"], transport, address, own)
        for address in ("tcp:0.0.0.0:1", "tcp:localhost.:1", "tcp:\\:\\::1"):
            self.assertTrue(endpoints.is_local_client(address), address)


class BadInstanceTests(AccessCase):
    """An instance that anybody may have registered, beside those that answer."""

    def setUp(self) -> None:
        super().setUp()
        self.names = Names()
        _, self.nameserver = serve(self.network, self.names)

    def put(self, *addresses: str) -> Context:
        """A context whose nameserver has these instances."""
        self.names.records = [
            {"service": f"s{n}", "interfaces": [SHOP], "address": address}
            for n, address in enumerate(addresses)
        ]
        return Context(self.network, nameserver=self.nameserver, random=Random(0))

    def test_others_answer_whatever_is_wrong_with_one(self) -> None:
        """It is set aside; the error is shown if there is no other."""
        for bad in ("nonsense:x:1", "tls:127.0.0.1:1", f"{self.address}:timeout=never"):
            for number in range(2):
                context = self.put(*[bad, self.address, bad][number : number + 2])
                shop = self.result(context.locate(SHOP))
                for _ in range(4):
                    calling = shop.invoke("hours")
                    self.network.wait(3)
                    self.assertEqual(self.successResultOf(calling), "9 to 5")
        shop = self.result(self.put("nonsense:x:1").locate(SHOP))
        self.failure(shop.invoke("hours"), EndpointError)

    def test_server_that_refuses_the_password_is_set_aside(self) -> None:
        """Another one knows the user."""
        other_table = Table(alice=("another", ""))
        control = access.AccessControl(self.network, threads=self.network)
        other = ServiceServer(self.network, threads=self.network, access=control)
        self.successResultOf(other.add(make_shop(other_table)()))
        address = self.successResultOf(other.listen("tcp:0:interface=127.0.0.1"))
        context = self.put(address, self.address)
        context.credentials = (access.AtAddress("tcp:*", PASSWORD),)
        shop = self.result(context.locate(SHOP))
        for _ in range(6):
            calling = shop.invoke("buy")
            self.network.wait(2)
            self.assertEqual(self.successResultOf(calling), "alice")
        self.assertLess(len(other_table.checked), 4)

    def test_refused_password_is_not_tried_for_each_call(self) -> None:
        """It would slow down the others of this machine; after a while it is tried again."""
        shop = self.context_of("alice", "wrong").at(self.address, SHOP)
        for _ in range(20):
            calling = shop.invoke("buy")
            calling.addErrback(lambda failure: failure.trap(Unauthenticated))
            self.network.wait(1.5)
        self.assertLess(len(self.table.checked), 7)
        self.table.users["alice"] = ("wrong", "")
        self.network.wait(40)
        self.assertEqual(self.result(shop.invoke("buy")), "alice")

    def test_credentials_that_nobody_has_asked_for_may_be_refused(self) -> None:
        """A command on a unix socket says who runs it; what is public is called all the same."""
        refused = access.Password("alice", "wrong")
        self.patch(access.Password, "optional", True)
        shop = Context(self.network, credentials=refused).at(self.address, SHOP)
        calling = shop.invoke("hours")
        self.network.wait(1)
        self.assertEqual(self.successResultOf(calling), "9 to 5")
        self.assertEqual(self.failure(shop.invoke("buy"), Unauthenticated).reason, "missing")
        self.assertTrue(access.PeerUser(if_known=True).optional)
        self.assertFalse(access.PeerUser().optional)

    def test_login_that_is_never_answered_is_given_up(self) -> None:
        """Also by a call that has no timeout."""
        self.network.runs_threads = False
        context = Context(self.network, credentials=PASSWORD, timeout=None)
        calling = context.at(self.address, SHOP).invoke("buy")
        self.network.wait(LOGIN_TIMEOUT + 20, 5)
        self.failureResultOf(calling, ServiceUnreachable)


class StrangerTests(AccessCase):
    """Clients that do not log in."""

    def make_server(self) -> ServiceServer:
        self.network.runs_threads = True
        self.table = Table(alice=("a password", ""))
        control = self.make_control()
        server = ServiceServer(self.network, threads=self.network, access=control)

        @access.auth(self.table)
        @interface(SHOP)
        class Closed(Service):
            @method()
            def buy(self, request: Any) -> str:
                return str(request.user.name)

        self.successResultOf(server.add(Closed()))
        return server

    def test_client_is_a_stranger_until_it_has_logged_in(self) -> None:
        """Where nothing is for everybody: such clients make room for others."""
        self.server.unauthenticated.most = 5
        alice = self.shop_for("alice")
        self.assertEqual(self.result(alice.invoke("buy")), "alice")
        contexts = [Context(self.network) for _ in range(20)]
        for context in contexts:
            context.at(self.address, SHOP).invoke("buy").addErrback(lambda _: None)
            self.network.deliver()
        self.assertLessEqual(len(self.server.connections), 7)
        self.assertEqual(self.result(alice.invoke("buy")), "alice")
        self.network.cut()
        self.network.deliver()
        self.assertEqual(len(self.server.unauthenticated), 0)

    def test_numbers_of_a_server_are_for_its_users(self) -> None:
        """And for who is on its machine."""
        for user in (None, "alice"):
            context = self.context_of(user)
            self.result(context.connect(self.address, INTROSPECTION))
            self.network.wires[-1][1].transport.peerAddr = IPv4Address("TCP", "192.0.2.1", 1)
            calling = context.at(self.address, INTROSPECTION).invoke("stat")
            if user is None:
                self.failure(calling, Unauthenticated)
            else:
                self.assertIn("memory", self.result(calling))
