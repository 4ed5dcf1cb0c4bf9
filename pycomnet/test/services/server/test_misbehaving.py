"""Methods that raise what is no Exception, and errors whose own code raises: one run, one error."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer

from pycomnet.errors import (
    CallInterrupted,
    DeadlineExceeded,
    RemoteError,
    ResultNotSendable,
    ServiceUnreachable,
)
from pycomnet.services.client.pending import MOST_REPEATS
from pycomnet.services.interface import Service, interface, method
from pycomnet.test.services.network import ServiceCase

KINDS = {"exit": SystemExit, "interrupt": KeyboardInterrupt, "generator": GeneratorExit}


class NoText(Exception):
    """Can't be shown."""

    def __str__(self) -> str:
        raise SystemExit("no text")


class NoFields(CallInterrupted):
    """Can't be looked into."""

    fields = ("lost",)

    @property
    def lost(self) -> str:
        raise ValueError("no field")


class Raising(dict):  # type: ignore[type-arg]
    """A result that can't be read."""

    def items(self) -> Any:
        raise KeyError("no items")

    def __iter__(self) -> Any:
        raise KeyError("no items")


def problem_of(kind: str) -> BaseException:
    return {"no text": NoText, "no fields": NoFields, **KINDS}[kind]()


@interface("t.w")
class Worker(Service):
    """Raises what it is asked for, in each way that a method can."""

    def __init__(self) -> None:
        self.runs = 0

    def die(self, request: Any) -> Any:
        self.runs += 1
        raise problem_of(request.args)

    @method(idempotent=True)
    def plain(self, request: Any) -> Any:
        self.die(request)

    @method(idempotent=True, thread=True)
    def threaded(self, request: Any) -> Any:
        self.die(request)

    @method(idempotent=True)
    async def coroutine(self, request: Any) -> Any:
        self.die(request)

    @method(stream=True)
    def stream(self, request: Any) -> Any:
        self.die(request)
        yield 1

    @method(stream=True)
    async def async_stream(self, request: Any) -> Any:
        self.die(request)
        yield 1

    @method()
    def raising(self, request: Any) -> Any:
        return Raising(a=1)

    @method()
    def ping(self, request: Any) -> str:
        return "pong"


class MisbehavingTests(ServiceCase):
    """One server, one connection."""

    services = (Worker,)

    def setUp(self) -> None:
        super().setUp()
        self.call_worker()

    def assert_kept(self) -> None:
        """The connection is the same, and works."""
        self.assertEqual(len(self.network.wires), 1)
        self.assertEqual(self.result(self.remote.invoke("ping")), "pong")

    def break_after(self, seconds: float) -> None:
        """Have calls of ``coroutine`` break their connection."""

        def breaks(request: Any) -> defer.Deferred[Any]:
            self.worker.runs += 1
            self.network.callLater(seconds, self.network.cut)
            return defer.Deferred()

        self.server.methods["t.w"]["coroutine"].function = breaks

    def test_any_error_in_any_method_costs_that_call_alone(self) -> None:
        """Whatever is raised, in whatever kind of method, is an error of that one call."""
        for name in ("plain", "threaded", "coroutine"):
            for kind in (*KINDS, "no text"):
                self.worker.runs = 0
                problem = self.failure(self.remote.invoke(name, kind, timeout=3), RemoteError)
                self.assertIn(type(problem_of(kind)).__name__, problem.type, (name, kind))
                self.assertEqual(self.worker.runs, 1)
                self.assert_kept()

    def test_misbehaving_stream_is_an_error(self) -> None:
        """In a stream, too."""
        for name in ("stream", "async_stream"):
            for kind in (*KINDS, "no text"):
                stream = self.remote.stream(name, kind)
                problem = self.failure(stream.receive(), RemoteError)
                self.assertIn(type(problem_of(kind)).__name__, problem.type, (name, kind))
                self.assert_kept()

    def test_error_that_cannot_be_shown_says_so(self) -> None:
        """An error that can't be shown says so, as the far side of a gateway has it."""
        problem = self.failure(self.remote.invoke("plain", "no text"), RemoteError)
        self.assertEqual(problem.message, "<the exception's own __str__ raised>")
        self.failure(self.remote.invoke("plain", "no fields"), RemoteError, CallInterrupted)
        self.assert_kept()

    def test_result_that_raises(self) -> None:
        """A result whose own code raises while it is encoded is that call's error."""
        self.failure(self.remote.invoke("raising"), RemoteError, ResultNotSendable)
        self.assert_kept()

    def test_call_that_breaks_connections_is_repeated_a_few_times(self) -> None:
        """A call that breaks its connection each time is made again a few times, and no more."""
        self.break_after(0)
        call = self.remote.invoke("coroutine", None, timeout=60)
        self.network.wait(20)
        problem = self.failureResultOf(call, CallInterrupted).value
        self.assertEqual(self.worker.runs, 1 + MOST_REPEATS)
        self.assertIn(f"{MOST_REPEATS} times before", str(problem))

    def test_bounded_in_time(self) -> None:
        """Its deadline holds while it is repeated."""
        self.break_after(0.4)
        call = self.remote.invoke("coroutine", None, timeout=1)
        self.network.wait(1.25)
        self.failureResultOf(call, DeadlineExceeded, ServiceUnreachable)
