"""Calls, from ``invoke`` to the method and back, on a network in memory."""

from __future__ import annotations

import datetime
import gc
from typing import Any

from twisted.internet import defer

import pycomnet
from pycomnet.channels.connection import EAGER
from pycomnet.errors import (
    CallInterrupted,
    ChannelClosed,
    DeadlineExceeded,
    InvalidArguments,
    ProtocolViolation,
    PycomnetError,
    RemoteError,
    ResultNotSendable,
    ServiceUnreachable,
    UnknownInterface,
    UnknownMethod,
)
from pycomnet.services.client.context import Context
from pycomnet.services.interface import Service, interface, method
from pycomnet.test.garbage import collects
from pycomnet.test.kit import first_cancels_rest
from pycomnet.test.services.network import ServiceCase
from pycomnet.test.wire.vectors import nested
from pycomnet.wire.values import ValueNotReceivable, ValueNotSendable


class Coin:
    """Registered by a test."""

    def __init__(self, cents: int) -> None:
        self.cents = cents


def made_of(cents: Any) -> Coin:
    """A ``from_value`` that checks what it gets."""
    if cents == 13:
        raise ValueError("13 is bad luck")
    return Coin(cents)


class OutOfPaper(PycomnetError):
    """An error of a service's own."""

    code = "test.out-of-paper"
    fields = ("tray",)

    def __init__(self, message: str, tray: int) -> None:
        super().__init__(message)
        self.tray = tray


@interface("org.example.calc")
class Calc(Service):
    """Calculates."""

    def __init__(self) -> None:
        self.cancelled: list[str] = []
        self.waiting: list[defer.Deferred[Any]] = []
        self.deadlines: list[float | None] = []

    @method("add", args={"a": (int, float), "b": (int, float)}, results="the sum")
    def add(self, request: Any) -> Any:
        """Add two numbers."""
        return request.args["a"] + request.args["b"]

    @method()
    def echo(self, request: Any) -> Any:
        return request.args

    @method(idempotent=True)
    def wait(self, request: Any) -> defer.Deferred[Any]:
        self.deadlines.append(request.deadline)
        deferred: defer.Deferred[Any] = defer.Deferred(lambda _: self.cancelled.append("wait"))
        self.waiting.append(deferred)
        return deferred

    @method()
    async def wait_as_coroutine(self, request: Any) -> Any:
        try:
            return await self.wait(request)
        finally:
            self.cancelled.append("finally")

    @method()
    def fail(self, request: Any) -> None:
        raise ValueError(request.args)

    @method()
    def print(self, request: Any) -> None:
        raise OutOfPaper("no paper", tray=2)

    @method()
    def unsendable(self, request: Any) -> Any:
        return {"a": [object()]}

    @method()
    def holds_itself(self, request: Any) -> Any:
        value: list[Any] = []
        value.append(value)
        return value

    @method()
    def coin(self, request: Any) -> Any:
        return Coin(13)

    @method(thread=True)
    def block(self, request: Any) -> Any:
        return request.args

    @method(stream=True)
    async def count(self, request: Any) -> Any:
        try:
            for number in range(request.args):
                yield number
        finally:
            self.cancelled.append("count")

    @method(stream=True)
    async def slow(self, request: Any) -> Any:
        try:
            yield await self.wait(request)
        finally:
            self.cancelled.append("slow")

    @method(stream=True)
    def letters(self, request: Any) -> Any:
        return iter(request.args)


@collects
class CallTests(ServiceCase):
    """A call and its result, or its error."""

    services = (Calc,)

    def setUp(self) -> None:
        super().setUp()
        self.calc = self.connect()
        self.service: Any = self.server.services[0]

    def test_any_sendable_result_arrives(self) -> None:
        """A method's result arrives, whatever sendable it is, also long ones."""
        self.assertEqual(self.result(self.calc.invoke("add", {"a": 1, "b": 2})), 3)
        for value in (None, {"a": (1, {2})}, b"x" * 3_000_000, ["long" * 50_000] * 20):
            self.assertEqual(self.result(self.calc.invoke("echo", value)), value)

    def test_one_frame_each_way(self) -> None:
        """A small call is one write with one frame each way."""
        client, server = self.network.wires[0]
        client.transport.writes.clear()
        server.transport.writes.clear()
        self.result(self.calc.invoke("echo", 1))
        self.assertEqual([len(client.transport.writes), len(server.transport.writes)], [1, 1])

    def test_deferred_and_coroutine(self) -> None:
        """A Deferred's result is the call's, and a coroutine's."""
        for name in ("wait", "wait_as_coroutine"):
            call = self.calc.invoke(name)
            self.network.deliver()
            self.assertNoResult(call)
            self.service.waiting.pop().callback("done")
            self.assertEqual(self.result(call), "done")

    def test_blocking_method_runs_in_a_thread(self) -> None:
        """A method that blocks runs in the pool."""
        call = self.calc.invoke("block", 5)
        self.network.deliver()
        self.assertNoResult(call)
        self.network.run_threads()
        self.assertEqual(self.result(call), 5)

    def test_raised_error_arrives_with_type_and_traceback(self) -> None:
        """What a method raises arrives with its type, message and, here, its traceback."""
        problem = self.failure(self.calc.invoke("fail", "why"), RemoteError)
        self.assertEqual((problem.type, problem.message), ("ValueError", "why"))
        self.assertIn("raise ValueError(request.args)", problem.formatted)

    def test_many_in_one_read(self) -> None:
        """Answers are on their way while the last of the calls are still being made, and so are
        the requests that follow answers."""
        self.result(self.calc.invoke("echo", 0))
        ((client, server),) = self.network.wires
        again: list[defer.Deferred[Any]] = []
        for number in range(4 * EAGER):
            call = self.calc.invoke("echo", number)
            call.addCallback(lambda value: again.append(self.calc.invoke("echo", value)))
        self.network.advance(0)
        before = len(server.transport.writes), len(client.transport.writes)
        server.protocol.dataReceived(client.transport.take())
        self.assertEqual(len(server.transport.writes) - before[0], 4)
        client.protocol.dataReceived(server.transport.take())
        self.assertEqual(len(client.transport.writes) - before[1], 4)
        self.network.deliver()
        self.assertEqual([self.successResultOf(call) for call in again], list(range(4 * EAGER)))

    def test_error_with_code(self) -> None:
        """An error with a code arrives as the same class, with its fields."""
        problem = self.failure(self.calc.invoke("print"), OutOfPaper)
        self.assertEqual((str(problem), problem.tray), ("no paper", 2))

    def test_unknown_method_or_interface_says_which_there_are(self) -> None:
        """An unknown method or interface is an error that says which there are."""
        problem = self.failure(self.calc.invoke("ad"), UnknownMethod)
        self.assertIn("add", str(problem))
        other = self.connect("org.example.clac")
        problem = self.failure(other.invoke("add"), UnknownInterface)
        self.assertIn("org.example.calc", str(problem))

    def test_arguments_are_checked_before_the_call(self) -> None:
        """Arguments are compared with what is declared, before the method is called."""
        for args, says in (
            ({"a": 1}, "'b' is missing"),
            ({"a": 1, "b": 2, "c": 3}, "'c'"),
            ({"a": "1", "b": 2}, "'a' is int or float, not str"),
            ({"a": True, "b": 2}, "not bool"),
            ([1, 2], "a dict, not list"),
        ):
            problem = self.failure(self.calc.invoke("add", args), InvalidArguments)
            self.assertIn(says, str(problem))

    def test_what_cannot_be_sent_fails_with_its_place(self) -> None:
        """Arguments that can't be sent fail here, results that can't be sent with their place."""
        holds_itself: list[Any] = []
        holds_itself.append(holds_itself)
        for args, place, kind in (
            (object(), "args", "object"),
            ({"x": [object()]}, 'args["x"][0]', "object"),
            ({object(): 1}, "key of args", "object"),
            (holds_itself, "args", "list"),
            ({"x": holds_itself}, "args", "dict"),
            (nested(254, 1, lambda one: [one]), None, "list"),
            (nested(900, 1, lambda one: [one]), "args", "list"),
            (nested(100_000, 1, lambda one: [one]), "args", "list"),
        ):
            if place is None:
                self.assertEqual(self.result(self.calc.invoke("echo", args)), args)
                continue
            problem = self.failureResultOf(self.calc.invoke("echo", args), ValueNotSendable).value
            self.assertTrue(str(problem).startswith(f"{place}: {kind} can't"), str(problem)[:99])
            stream = self.calc.stream("echo", args)
            problem = self.failureResultOf(stream.receive(), ValueNotSendable).value
            self.assertTrue(str(problem).startswith(f"{place}: {kind} can't"), str(problem)[:99])
        unknown = self.failureResultOf(self.calc.invoke(object()), ValueNotSendable).value
        self.assertTrue(str(unknown).startswith("method: object can't"))
        refused = self.failure(self.calc.invoke("unsendable"), ResultNotSendable)
        self.assertTrue(str(refused).startswith('result["a"][0]: object can\'t'), str(refused))
        refused = self.failure(self.calc.invoke("holds_itself"), ResultNotSendable)
        self.assertTrue(str(refused).startswith("result: list can't"), str(refused))

    def test_dates_and_registered_types_are_sent(self) -> None:
        """Dates and registered types are arguments and results; unknown ones cost that call."""
        when = datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc)
        self.assertEqual(self.result(self.calc.invoke("echo", {"when": when})), {"when": when})
        pycomnet.register_type(Coin, "test.Coin", lambda coin: coin.cents, made_of)
        # Both ends are in this process: what is 13 here is refused by whoever receives it.
        self.assertEqual(self.result(self.calc.invoke("echo", Coin(5))).cents, 5)
        for _ in range(2):
            problem = self.failure(self.calc.invoke("echo", Coin(13)), InvalidArguments)
            self.assertIn("ValueError: 13 is bad luck", str(problem))
        self.failureResultOf(self.delivered(self.calc.invoke("coin")), ValueNotReceivable)
        self.assertEqual(self.result(self.calc.invoke("echo", 1)), 1)
        self.assertEqual(len(self.network.wires), 1)

    def delivered(self, call: defer.Deferred[Any]) -> defer.Deferred[Any]:
        """A call, once all that is under way has come."""
        self.network.deliver()
        return call

    def test_call_past_its_deadline_is_not_run(self) -> None:
        """A call whose deadline has passed before it is made is not run."""
        context = self.context.until(self.network.seconds() + 1)
        late = self.result(context.connect(self.address, "org.example.calc"))
        self.network.advance(5)
        for call in (self.calc.invoke("wait", timeout=0), late.invoke("wait")):
            self.failure(call, DeadlineExceeded)
        self.assertEqual(self.service.deadlines, [])

    def test_deadline_on_the_way(self) -> None:
        """Nor is one whose deadline has passed when it comes, or is no number."""
        self.result(self.calc.invoke("echo"))
        connection: Any = next(iter(self.context.pool.peers.values())).connection
        for seconds in (0, -2.5, float("nan")):
            core = connection.open(
                "invoke", connection.encode(["org.example.calc", "wait", None, seconds]), end=True
            )
            answer = core.receive()
            self.network.deliver()
            self.assertEqual(self.failureResultOf(answer).value.code, DeadlineExceeded.code)
        self.assertEqual(self.service.deadlines, [])

    def test_deadline_tells_caller_and_cancels_method(self) -> None:
        """When the deadline passes the caller is told, and the method cancelled."""
        call = self.calc.invoke("wait_as_coroutine", timeout=2)
        self.network.deliver()
        self.assertEqual(self.service.deadlines, [2])
        self.network.wait(1.9)
        self.assertNoResult(call)
        self.network.wait(0.3)
        self.failure(call, DeadlineExceeded)
        self.assertEqual(self.service.cancelled, ["wait", "finally"])

    def test_cancelled_call_cancels_its_method(self) -> None:
        """A call that is cancelled cancels its method, and the connection goes on."""
        call = self.calc.invoke("wait_as_coroutine")
        self.network.deliver()
        call.cancel()
        self.failure(call, defer.CancelledError)
        self.assertEqual(self.service.cancelled, ["wait", "finally"])
        self.assertEqual(self.result(self.calc.invoke("echo", 1)), 1)

    def test_call_leaves_nothing_at_either_end(self) -> None:
        """A call that is over leaves nothing at either end."""
        for name, args in (("echo", 1), ("fail", "x"), ("nope", None), ("letters", "x")):
            call = self.calc.invoke(name, args)
            self.network.deliver()
            call.addErrback(lambda _: None)
        for side in self.network.wires[0]:
            self.assertEqual(side.protocol.mux.streams, {})
        self.assertEqual(self.server._active, set())

    def test_call_leaves_no_garbage(self) -> None:
        """What a call needed is gone at once at both ends, without the garbage collector."""

        def call() -> None:
            calls = [self.calc.invoke("echo", 1), self.calc.invoke("wait")]
            self.network.deliver()
            self.service.waiting.pop().callback(None)
            self.network.deliver()
            for one in calls:
                self.successResultOf(one)

        call()
        self.addCleanup(gc.enable)
        gc.collect()
        gc.disable()
        for _ in range(100):
            call()
        self.assertLess(gc.collect(), 100)

    def test_interfaces_and_server_describe_themselves(self) -> None:
        """Each interface says what it is; so does the server, of all of them."""
        found = self.result(self.calc.introspect())
        self.assertEqual(found["org.example.calc"]["doc"], "Calculates.")
        add = found["org.example.calc"]["methods"]["add"]
        self.assertEqual(add["doc"], "Add two numbers.")
        self.assertEqual(add["args"], {"a": "int or float", "b": "int or float"})
        self.assertEqual(add["results"], "the sum")
        server = self.connect("org.pycom.introspection")
        self.assertEqual(self.result(server.introspect()), found)

    def test_class_without_a_docstring_describes_nothing(self) -> None:
        """It does not show that of the base class of services."""

        @interface("org.example.silent")
        class Silent(Service):
            pass

        self.assertEqual(Silent.interfaces["org.example.silent"].doc, "")


class AllowedTests(ServiceCase):
    """What a server may send."""

    services = (Calc,)

    def test_results_up_to_the_limit_arrive(self) -> None:
        """Results up to the limits arrive; what is over one ends the connection, by name."""
        self.context = Context(self.network, max_items=1024, max_value=65536)
        calc = self.connect()
        sent = {"x": [None] * 1000, "y": b"y" * 60000}
        self.assertEqual(self.result(calc.invoke("echo", sent)), sent)
        error = self.failure(calc.invoke("echo", {"x": [None] * 1025}), ProtocolViolation)
        self.assertEqual(error.code, "value")
        self.assertIn("more than 1024 elements", str(error))
        # It fails before all of it has come.
        error = self.failure(calc.invoke("echo", {"x": b"y" * 70000}), CallInterrupted)
        self.assertIn("a value over 65536 bytes", str(error))
        self.assertEqual(self.result(calc.invoke("add", {"a": 1, "b": 2})), 3)  # over a new one

    def test_default_limits_are_those_of_gateways(self) -> None:
        """As those of gateways; and what they can't be."""
        limits = self.context.limits
        self.assertEqual((limits.value, limits.items), (1 << 30, 1 << 22))
        for name, wrong in (
            ("max_value", 65535),
            ("max_items", 1023),
            ("max_items", float("nan")),
            ("max_items", None),
            ("max_value", 1 << 32),
        ):
            options: dict[str, Any] = {name: wrong}
            error = self.assertRaises(ValueError, Context, self.network, **options)
            self.assertIn(name, str(error))


class RaceTests(ServiceCase):
    """Many wait for one thing: the first that is told cancels the others."""

    services = (Calc,)

    def test_first_of_many_connects_cancels_the_rest(self) -> None:
        """They wait for one connection, and each has a Deferred of its own."""
        calc = first_cancels_rest(
            self, lambda: self.context.connect(self.address), self.network.deliver
        )
        self.assertEqual(self.result(calc.invoke("add", {"a": 1, "b": 2})), 3)
        self.assertEqual(len(self.network.wires), 1)

    def test_first_of_many_failed_connects_cancels_the_rest(self) -> None:
        """They wait for a connection that fails."""
        nowhere = "tcp:127.0.0.1:1"
        told = first_cancels_rest(self, lambda: self.context.connect(nowhere), self.network.deliver)
        told.trap(ServiceUnreachable)

    def test_all_give_up(self) -> None:
        """When the last one has given up, the attempt to connect is given up, too."""
        waiting = [self.context.connect(self.address) for _ in range(2)]
        self.network.advance(0)
        self.assertEqual(len(self.network.wires), 1)
        for one in waiting:
            one.cancel()
            self.failureResultOf(one, defer.CancelledError)
        self.network.deliver()
        self.assertEqual(self.network.wires, [])
        self.connect()

    def test_first_of_many_waits_for_a_stream_cancels_the_rest(self) -> None:
        """They wait for values of a stream whose connection is being made."""
        stream = self.context.at(self.address).stream("count", 3)
        self.assertEqual(first_cancels_rest(self, stream.receive, self.network.deliver), 0)
        self.assertEqual(self.result(stream.receive()), 1)

    def test_first_of_many_server_closes_cancels_the_rest(self) -> None:
        """They wait for the server to be closed."""
        self.connect()
        first_cancels_rest(self, self.server.close, self.network.deliver)
        self.assertEqual(self.server.connections, set())

    def test_first_of_many_context_closes_cancels_the_rest(self) -> None:
        """They wait for the connections of a context to end."""
        self.connect()
        first, second = self.context.close(), self.context.close()
        first.addCallback(lambda _: second.cancel())
        self.result(first)
        self.failureResultOf(second, defer.FirstError)


class StreamTests(ServiceCase):
    """Streams of values."""

    services = (Calc,)

    def setUp(self) -> None:
        super().setUp()
        self.calc = self.connect()
        self.service: Any = self.server.services[0]

    async def collect(self, stream: Any) -> list[Any]:
        return [value async for value in stream]

    def test_every_value_arrives_in_order(self) -> None:
        """Every value arrives in order, then the end."""
        collecting = defer.Deferred.fromCoroutine(self.collect(self.calc.stream("count", 1000)))
        self.assertEqual(self.result(collecting), list(range(1000)))
        collecting = defer.Deferred.fromCoroutine(self.collect(self.calc.stream("letters", "abc")))
        self.assertEqual(self.result(collecting), ["a", "b", "c"])

    def test_method_waits_while_nobody_takes_its_values(self) -> None:
        """A method whose values nobody takes waits, and goes on when they are taken."""
        stream = self.calc.stream("letters", ["x" * 10_000] * 1000)
        self.network.deliver()
        client, _ = self.network.wires[0]
        (core,) = [one.app for one in client.protocol.mux.streams.values()]
        self.assertLess(sum(cost for _, cost in core.queue), 1_100_000)
        self.assertLess(len(core.queue), 200)
        collecting = defer.Deferred.fromCoroutine(self.collect(stream))
        self.assertEqual(len(self.result(collecting)), 1000)

    def test_closed_stream_cancels_its_method(self) -> None:
        """Closing a stream cancels the method."""
        stream = self.calc.stream("count", 10**9)
        self.assertEqual(self.result(stream.receive()), 0)
        stream.close()
        self.network.deliver()
        self.assertEqual(self.service.cancelled, ["count"])

    def test_deadline_of_a_stream_is_told_by_a_silent_server_too(self) -> None:
        """When its deadline passes who waits is told, also by a server that says nothing."""
        stream = self.calc.stream("slow", timeout=1.0)
        waiting = stream.receive()
        self.network.deliver()
        self.assertNoResult(waiting)
        self.network.advance(2)  # nothing is delivered
        self.assertIn("stream's deadline", str(self.failureResultOf(waiting).value))
        self.failureResultOf(stream.receive(), DeadlineExceeded)
        self.network.deliver()
        self.assertEqual(self.service.cancelled, ["wait", "slow"])
        collecting = defer.Deferred.fromCoroutine(self.collect(self.calc.stream("slow", None, 1.0)))
        self.network.wait(2)
        self.failure(collecting, DeadlineExceeded)
        for side in self.network.wires[0]:
            self.assertEqual(side.protocol.mux.streams, {})

    def test_deadline_is_off(self) -> None:
        """A stream that is over, or closed, has no deadline any more."""
        stream = self.calc.stream("letters", "abc", timeout=1.0)
        self.result(defer.Deferred.fromCoroutine(self.collect(stream)))
        closed = self.calc.stream("letters", "abc", timeout=1.0)
        self.assertEqual(self.result(closed.receive()), "a")
        closed.close()
        self.network.wait(2)
        self.failure(stream.receive(), ChannelClosed)
        rest = self.result(defer.Deferred.fromCoroutine(self.collect(closed)))
        self.assertEqual(rest, ["b", "c"])  # which had come

    def test_errors_are_raised_where_values_are_taken(self) -> None:
        """What goes wrong is raised where the values are taken."""
        problem = self.failure(self.calc.stream("echo").receive(), UnknownMethod)
        self.assertIn("invoke", str(problem))
        self.failure(self.calc.stream("letters", 5).receive(), RemoteError)
        self.failure(self.calc.stream("nope").receive(), UnknownMethod)
        problem = self.failure(self.calc.invoke("count", 5), UnknownMethod)
        self.assertIn("stream", str(problem))
