"""Errors of calls that a method makes itself: they say nothing of the method's own call."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer

from pycomnet.errors import (
    PycomnetError,
    ServerLeaving,
    ServiceUnreachable,
    Unauthenticated,
)
from pycomnet.services.client.context import Context
from pycomnet.services.interface import Service, interface, method
from pycomnet.test.services.client.test_restarts import serve
from pycomnet.test.services.network import Network, ServiceCase


@interface("org.example.back")
class Back(Service):
    """What a method calls: it fails with an error of its own."""

    problem: Any = None

    @method()
    def fail(self, request: Any) -> None:
        raise self.problem


@interface("org.example.worker")
class Front(Service):
    """Has an effect, and then calls another service.

    :ivar ran: how often a method has run.
    """

    def __init__(self, back: Any) -> None:
        self.back = back
        self.ran = 0

    @method()
    async def pay(self, request: Any) -> Any:
        self.ran += 1
        return await self.back.invoke("fail", None, timeout=100)


class NestedTests(ServiceCase):
    """A method that is called over one connection calls over another one."""

    def setUp(self) -> None:
        self.network = Network()
        self.back = Back()
        self.context = Context(self.network)
        _, self.address = serve(self.network, self.back)
        self.front = Front(self.context.at(self.address, "org.example.back"))
        _, self.front_address = serve(self.network, self.front)
        self.remote = Context(self.network).at(self.front_address, "org.example.worker")

    def fails(self, problem: PycomnetError, **options: Any) -> Any:
        """The error of a call whose method's own call fails so."""
        self.back.problem = problem
        call = self.remote.invoke("pay", None, timeout=200, **options)
        self.network.deliver()
        self.network.wait(60)
        return self.failure(call, type(problem))

    def test_server_that_leaves_is_that_of_the_nested_call(self) -> None:
        """The nested call is repeated until it is given up; the method's own call is not."""
        problem = self.fails(ServerLeaving("it ends"))
        self.assertTrue(problem.nested)
        self.assertEqual(self.front.ran, 1)

    def test_call_with_blocks_is_not_repeated(self) -> None:
        """Nor is a call that wants the blocks of its result."""
        self.fails(ServerLeaving("it ends"), with_binary=True)
        self.assertEqual(self.front.ran, 1)

    def test_batch_is_not_repeated(self) -> None:
        """Nor is a call of a batch."""
        self.back.problem = ServerLeaving("it ends")
        taker: defer.Deferred[Any] = defer.Deferred()
        ended = self.remote.invoke_together([("pay", None, taker)], timeout=200)
        self.network.deliver()
        self.network.wait(60)
        self.assertFalse(self.result(ended))
        self.failure(taker, ServerLeaving)
        self.assertEqual(self.front.ran, 1)

    def test_own_error_is_not_nested(self) -> None:
        """What a method raises itself is its word on its own call."""
        self.back.problem = Unauthenticated("who are you?", "missing")
        call = self.context.at(self.address, "org.example.back").invoke("fail", timeout=1)
        self.assertFalse(self.failure(call, Unauthenticated).nested)

    def test_unreachable_service_is_that_of_the_nested_call(self) -> None:
        """Also an error that the client made itself is of the nested call."""
        self.front.back = self.context.at("tcp:127.0.0.1:9", "org.example.back")
        call = self.remote.invoke("pay", None, timeout=60)
        self.network.deliver()
        self.network.wait(30)
        self.assertTrue(self.failure(call, ServiceUnreachable).nested)
        self.assertEqual(self.front.ran, 1)

    def test_login_that_the_nested_call_needs_is_not_the_caller_s(self) -> None:
        """The caller gets the error, and does not log in for it."""
        problem = self.fails(Unauthenticated("who are you?", "missing"))
        self.assertTrue(problem.nested)
        self.assertEqual(self.front.ran, 1)
