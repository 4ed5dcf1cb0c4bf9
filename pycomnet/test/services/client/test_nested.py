"""Errors of calls that a method makes itself: they say nothing of the method's own call."""

from __future__ import annotations

import copy
import pickle
from typing import Any

from twisted.internet import defer

from pycomnet.errors import (
    CallInterrupted,
    CallSkipped,
    DeadlineExceeded,
    InvalidArguments,
    PycomnetError,
    RemoteError,
    ServerLeaving,
    ServiceUnreachable,
    Unauthenticated,
    UnknownInterface,
    error_map,
    from_map,
)
from pycomnet.services.client.context import Context
from pycomnet.services.interface import Service, interface, method
from pycomnet.test.services.client.test_restarts import serve
from pycomnet.test.services.network import Network, ServiceCase


class Elsewhere(PycomnetError):
    """Another server can do it."""

    code = "org.example.elsewhere"
    elsewhere = True


@interface("org.example.back")
class Back(Service):
    """What a method calls: it fails with an error of its own."""

    problem: Any = None

    @method()
    def fail(self, request: Any) -> None:
        raise self.problem

    @method()
    def wait(self, request: Any) -> defer.Deferred[Any]:
        return defer.Deferred()

    @method(stream=True)
    async def values(self, request: Any) -> Any:
        yield await defer.Deferred()


@interface("org.example.worker")
class Front(Service):
    """Has an effect, and then calls another service.

    :ivar ran: how often a method has run.
    :ivar way: what its call is made by.
    """

    way: Any = None

    def __init__(self, back: Any) -> None:
        self.back = back
        self.ran = 0

    @method()
    async def pay(self, request: Any) -> Any:
        self.ran += 1
        return await self.back.invoke("fail", None, timeout=100)

    @method()
    async def try_to_pay(self, request: Any) -> Any:
        """Have its call fail in this way, before it is sent or without an answer."""
        return await self.way(self.back)


class NestedTests(ServiceCase):
    """A method that is called over one connection calls over another one."""

    def setUp(self) -> None:
        self.network = Network()
        self.back = Back()
        self.context = Context(self.network)
        self.back_server, self.address = serve(self.network, self.back)
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

    def test_errors_that_the_caller_makes_itself(self) -> None:
        """Also those of calls that were not sent, or have no answer, are of the nested call."""
        self.back_server.add(Front(None))
        other = Context(self.network).at(self.address)
        expired = self.context.until(self.network.seconds() - 1)

        async def skipped(back: Any) -> None:
            takers: list[defer.Deferred[Any]] = [defer.Deferred(), defer.Deferred()]
            calls = [("fail", None, taker) for taker in takers]
            back.invoke_together(calls, one_by_one=True)
            takers[0].addErrback(lambda _: None)
            await takers[1]

        self.back.problem = ValueError("no")
        ways: list[tuple[Any, type[PycomnetError]]] = [
            (lambda back: back.invoke("fail", "x" * 1000), InvalidArguments),
            (lambda back: other.invoke("fail"), UnknownInterface),
            (lambda back: other.stream("fail").receive(), UnknownInterface),
            (lambda back: back.invoke("wait", timeout=0), DeadlineExceeded),
            (lambda back: back.invoke("wait", timeout=1), DeadlineExceeded),
            (lambda back: back.stream("values", timeout=0.1).receive(), DeadlineExceeded),
            (lambda back: expired.at(self.address).invoke("wait"), DeadlineExceeded),
            (skipped, CallSkipped),
            (lambda back: back.invoke("fail"), RemoteError),
        ]
        self.failure(self.front.back.invoke("fail"), RemoteError)
        self.context.peer(self.address).longest = 1000
        for way, kind in ways:
            self.front.way = way
            call = self.remote.invoke("try_to_pay", timeout=100)
            self.network.deliver()
            self.network.wait(2)
            problem = self.failureResultOf(call, kind).value
            self.assertTrue(problem.nested, f"{problem!r} of {kind}")

    def test_code_that_only_the_first_caller_knows(self) -> None:
        """It means for its call what it says only if it is of that call."""
        sent = {**error_map(Elsewhere("not here")), "fields": {"place": "there"}}
        self.assertNotIn("nested", sent)
        passed_on = error_map(RemoteError.from_map(sent))
        found = from_map(passed_on)
        self.assertEqual((type(found), found.nested), (Elsewhere, True))

    def test_server_that_ends_speaks_of_its_own_call(self) -> None:
        """A call that it cancels was interrupted itself."""
        call = self.context.at(self.address, "org.example.back").invoke("wait", timeout=100)
        self.network.deliver()
        self.back_server.close(0)
        self.network.deliver()
        self.network.wait(1)
        self.assertFalse(self.failure(call, CallInterrupted).nested)

    def test_copies(self) -> None:
        """A copy of an error is of the same call."""
        for code in ("forbidden", "interrupted", "not known here", "remote"):
            problem = from_map({"code": code, "message": "no", "nested": True})
            for other in (copy.copy(problem), pickle.loads(pickle.dumps(problem))):
                self.assertEqual((other.nested, other.of_call), (True, True))
                self.assertEqual((repr(other), str(other)), (repr(problem), str(problem)))

    def test_what_is_not_true_is_not_nested(self) -> None:
        """A server sends true or nothing."""
        for odd in (None, False, 0, 1, "yes", [True], {"nested": True}):
            for code in ("forbidden", "remote", "not known here"):
                self.assertIs(from_map({"code": code, "nested": odd}).nested, False)

    def test_login_that_the_nested_call_needs_is_not_the_caller_s(self) -> None:
        """The caller gets the error, and does not log in for it."""
        problem = self.fails(Unauthenticated("who are you?", "missing"))
        self.assertTrue(problem.nested)
        self.assertEqual(self.front.ran, 1)
