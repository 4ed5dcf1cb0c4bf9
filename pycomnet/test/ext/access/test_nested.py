"""Logins that a call needs which a method makes itself: its caller does not log in for them."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer

from pycomnet.errors import CredentialsNotSent, Unauthenticated, from_map
from pycomnet.ext import access
from pycomnet.services.client.context import Context
from pycomnet.services.interface import Service, interface, method
from pycomnet.services.server.server import ServiceServer
from pycomnet.test.ext.access.kit import AccessCase

FRONT = "org.example.front"
#: What has the client log in if it is said of its own call.
ASKING = ({"reason": "expired"}, {"reason": "missing", "login": ["token"]})


class NestedLoginTests(AccessCase):
    """A caller that has credentials."""

    def make_server(self) -> ServiceServer:
        server = super().make_server()
        table = self.table

        @access.public
        @interface(FRONT)
        class Front(Service):
            """Its calls fail as a login is needed.

            :ivar ran: how often a method has run.
            """

            ran = 0
            fields: Any = None

            def problem(self) -> Exception:
                self.ran += 1
                code = {"code": "unauthenticated", "message": "who?"}
                return from_map({**code, "fields": self.fields})

            @method(idempotent=True)
            def pay(self, request: Any) -> None:
                raise self.problem()

            @access.auth(table)
            @method()
            def secret(self, request: Any) -> None:
                """Not called."""

            @method(stream=True)
            async def pays(self, request: Any) -> Any:
                raise self.problem()
                yield

        self.front = Front()
        self.successResultOf(server.add(self.front))
        return server

    def ways(self, front: Any) -> list[defer.Deferred[Any]]:
        """Call it in each way."""
        taker: defer.Deferred[Any] = defer.Deferred()
        front.invoke_together([("pay", None, taker)], timeout=20)
        return [
            front.invoke("pay", timeout=20),
            front.invoke("pay", timeout=20, with_binary=True),
            front.stream("pays").receive(),
            taker,
        ]

    def test_caller_does_not_log_in(self) -> None:
        """The error is the caller's, at once, and the method has run once for each call."""
        front = self.context_of("alice").at(self.address, FRONT)
        self.failure(front.invoke("nothing"), Exception)
        for fields in ASKING:
            self.front.fields, self.front.ran = fields, 0
            for call in self.ways(front):
                problem = self.failure(call, Unauthenticated)
                self.assertEqual((problem.nested, problem.reason), (True, fields["reason"]))
            self.assertEqual(self.front.ran, 4)
        self.assertEqual((self.table.checked, len(self.network.wires)), (["alice"], 1))

    def test_credentials_that_were_withheld_are_not_what_is_missing(self) -> None:
        """The caller has some, and has not given them to this server: it is not told to."""
        credentials = access.Password("alice", "a password")
        context = Context(self.network, credentials=credentials).for_request(None)
        front = context.at(self.address, FRONT)
        self.failure(front.invoke("secret"), CredentialsNotSent)
        self.front.fields = ASKING[1]
        for call in self.ways(front):
            self.assertTrue(self.failure(call, Unauthenticated).nested)
