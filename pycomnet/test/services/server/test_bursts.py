"""Many calls in one read: the short way of each, and where it ends."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer

from pycomnet.errors import (
    CallInterrupted,
    DeadlineExceeded,
    InvalidArguments,
    Overloaded,
    RemoteError,
    ResultNotSendable,
    UnknownMethod,
)
from pycomnet.services.interface import Service, interface, method
from pycomnet.services.server.limits import ServerLimits
from pycomnet.services.server.server import ServiceServer
from pycomnet.test.services.network import ServiceCase, Side


@interface("org.example.burst")
class Burst(Service):
    """Answers in each of the ways that there are."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.cancelled: list[Any] = []
        self.waiting: list[defer.Deferred[Any]] = []

    @method()
    def echo(self, request: Any) -> Any:
        self.seen.append(request.args)
        return request.args

    @method(args={"n": int})
    def declared(self, request: Any) -> Any:
        return request.args["n"]

    @method()
    def empty(self, request: Any) -> Any:
        return ()

    @method()
    def fail(self, request: Any) -> None:
        raise ValueError(request.args)

    @method()
    def unsendable(self, request: Any) -> Any:
        return [object()]

    @method()
    def long(self, request: Any) -> Any:
        return b"x" * request.args

    @method()
    def deadline(self, request: Any) -> Any:
        return request.deadline

    @method()
    def wait(self, request: Any) -> defer.Deferred[Any]:
        waiting: defer.Deferred[Any] = defer.Deferred(lambda _: self.cancelled.append(request.args))
        self.waiting.append(waiting)
        return waiting

    @method()
    async def coroutine(self, request: Any) -> Any:
        return request.args

    @method()
    def leave(self, request: Any) -> Any:
        """The client is gone before the answer."""
        request.connection.goodbye()
        return "too late"


class BurstTests(ServiceCase):
    """Calls that come together."""

    services = (Burst,)

    def setUp(self) -> None:
        super().setUp()
        self.burst = self.connect("org.example.burst")
        self.service: Any = self.server.services[0]
        self.client: Side
        self.client, self.far = self.network.wires[0]

    def sent(self) -> bytes:
        """What the client has written since."""
        self.network.advance(0)
        return bytes(self.client.transport.take())

    def answered(self) -> bytes:
        """What the server has written since."""
        self.network.advance(0)
        return bytes(self.far.transport.take())

    def test_each_call_of_a_burst_gets_its_own_answer(self) -> None:
        """In a burst each call gets its own answer, whatever the others are."""
        calls = [
            self.burst.invoke(name, args)
            for _ in range(3)
            for name, args in (
                ("echo", 1),
                ("fail", "no"),
                ("echo", 2),
                ("declared", {"n": 3}),
                ("declared", {"n": "x"}),
                ("unsendable", None),
                ("nope", None),
                ("empty", None),
                ("coroutine", 4),
                ("echo", None),
            )
        ]
        self.network.deliver()
        for number in (0, 10, 20):
            found = calls[number : number + 10]
            self.assertEqual(self.successResultOf(found[0]), 1)
            self.failureResultOf(found[1], RemoteError)
            self.assertEqual(self.successResultOf(found[2]), 2)
            self.assertEqual(self.successResultOf(found[3]), 3)
            self.failureResultOf(found[4], InvalidArguments)
            problem = self.failureResultOf(found[5], ResultNotSendable).value
            self.assertIn("result[0]: object", str(problem))
            self.failureResultOf(found[6], UnknownMethod)
            self.assertEqual(self.successResultOf(found[7]), ())
            self.assertEqual(self.successResultOf(found[8]), 4)
            self.assertIsNone(self.successResultOf(found[9]))
        self.assert_nothing_left()

    def test_bursts_may_be_cut_anywhere(self) -> None:
        """It does not matter where the bytes are cut, on the way there and back."""
        for cut in range(1, 130, 3):
            calls = [self.burst.invoke("echo", {"n": number}) for number in range(4)]
            data = self.sent()
            for piece in (data[:cut], data[cut:]):
                self.far.protocol.dataReceived(piece)
            data = self.answered()
            cut %= len(data)
            for piece in (data[:cut], data[cut:]):
                self.client.protocol.dataReceived(piece)
            for number, call in enumerate(calls):
                self.assertEqual(self.successResultOf(call), {"n": number})
        self.assert_nothing_left()

    def test_byte_by_byte(self) -> None:
        """Nor into how many pieces."""
        calls = [self.burst.invoke("echo", number) for number in range(3)]
        for byte in self.sent():
            self.far.protocol.dataReceived(bytes((byte,)))
        for byte in self.answered():
            self.client.protocol.dataReceived(bytes((byte,)))
        self.assertEqual([self.successResultOf(call) for call in calls], [0, 1, 2])
        self.assert_nothing_left()

    def test_cancelled_in_the_same_read(self) -> None:
        """A call and its cancelling that come in one read: what waits is cancelled, what was
        answered at once stays so, and the others don't notice.
        """
        calls = [self.burst.invoke(name, name) for name in ("echo", "wait", "echo", "wait", "echo")]
        for call in calls[1:4]:
            call.cancel()
        self.network.deliver()
        self.assertEqual(self.service.cancelled, ["wait", "wait"])
        self.assertEqual(self.service.seen, ["echo"] * 3)
        for call in calls[1:4]:
            self.failureResultOf(call, defer.CancelledError)
        self.assertEqual(self.successResultOf(calls[0]), "echo")
        self.assertEqual(self.successResultOf(calls[4]), "echo")
        self.assert_nothing_left()

    def test_cancelled_when_answered(self) -> None:
        """A result that crosses the cancelling of its call is dropped."""
        calls = [self.burst.invoke("echo", number) for number in range(3)]
        self.far.protocol.dataReceived(self.sent())
        calls[1].cancel()
        self.network.deliver()
        self.failureResultOf(calls[1], defer.CancelledError)
        self.assertEqual([self.successResultOf(calls[n]) for n in (0, 2)], [0, 2])
        self.assert_nothing_left()

    def test_long_result_comes_amid_short_ones(self) -> None:
        """A result that is too long for a frame comes amid those that are not."""
        sizes = [10, 65_530, 65_536, 200_000, 3_000_000, 10]
        calls = [self.burst.invoke("long", size) for size in sizes]
        self.network.deliver()
        self.assertEqual([len(self.successResultOf(call)) for call in calls], sizes)
        self.assert_nothing_left()

    def test_cancelled_within_a_long_result(self) -> None:
        """A call may be cancelled when the first pieces of its result are there."""
        call, other = self.burst.invoke("long", 3_000_000), self.burst.invoke("echo", 1)
        self.far.protocol.dataReceived(self.sent())
        data = self.answered()
        self.client.protocol.dataReceived(data[:100_000])
        call.cancel()
        self.client.protocol.dataReceived(data[100_000:])
        self.network.deliver()
        self.failureResultOf(call, defer.CancelledError)
        self.assertEqual(self.successResultOf(other), 1)
        self.assert_nothing_left()

    def test_transport_is_full(self) -> None:
        """Answers wait while the client does not read, and come then."""
        calls = [self.burst.invoke("echo", number) for number in range(50)]
        data = self.sent()
        self.far.protocol.pauseProducing()
        self.far.protocol.dataReceived(data)
        self.assertEqual(self.answered(), b"")
        self.far.protocol.resumeProducing()
        self.network.deliver()
        self.assertEqual([self.successResultOf(call) for call in calls], list(range(50)))
        self.assert_nothing_left()

    def test_each_call_of_a_burst_has_its_own_deadline(self) -> None:
        """Each call has its own deadline, seen by its method and kept by both ends."""
        calls = [self.burst.invoke("deadline", timeout=seconds) for seconds in (1, 2.5, None)]
        late = [self.burst.invoke("wait", seconds, timeout=seconds) for seconds in (1, 1, 4)]
        self.network.deliver()
        self.assertEqual([self.successResultOf(call) for call in calls], [1, 2.5, None])
        self.network.wait(1.2)
        for call in late[:2]:
            self.failureResultOf(call, DeadlineExceeded)
        self.assertEqual(self.service.cancelled, [1, 1])
        self.service.waiting[2].callback("in time")
        self.assertEqual(self.result(late[2]), "in time")
        self.assert_nothing_left()

    def test_calls_with_one_deadline_share_timers(self) -> None:
        """Calls with the same deadline share their timers, at both ends."""
        self.network.deliver()
        before = len(self.network.calls)
        calls = [self.burst.invoke("wait", timeout=60) for _ in range(200)]
        self.network.deliver()
        self.assertLessEqual(len(self.network.calls) - before, 3)  # and the look for signs of life
        for call in calls:
            call.cancel()
            call.addErrback(lambda _: None)
        self.network.deliver()
        self.assert_nothing_left()

    def test_calls_in_flight_fail_when_connection_breaks(self) -> None:
        """Calls in flight fail when the connection breaks, those that the server has seen and
        those that it has not.
        """
        calls = [self.burst.invoke("wait", number) for number in range(3)]
        self.network.deliver()
        calls += [self.burst.invoke("echo", number) for number in range(3)]
        self.network.cut()
        for call in calls:
            self.failureResultOf(call, CallInterrupted)
        self.assertEqual(self.service.cancelled, [0, 1, 2])
        self.assertEqual(self.server._active, set())

    def test_method_ends_the_connection(self) -> None:
        """A method may end the connection that it is called on, amid a burst."""
        calls = [self.burst.invoke(name, 1) for name in ("echo", "leave", "echo")]
        self.network.deliver()
        self.assertEqual(self.successResultOf(calls[0]), 1)
        for call in calls[1:]:
            self.failureResultOf(call, CallInterrupted)
        self.assertEqual(self.server.connections, set())

    def assert_nothing_left(self) -> None:
        """Neither end keeps anything of a call."""
        for side in self.network.wires[0]:
            mux = side.protocol.mux
            self.assertEqual(mux.streams, {})
            self.assertEqual((mux.table.local_open, mux.table.peer_open), (0, 0))
        self.assertEqual(self.server._active, set())
        self.assertEqual((self.server.running, self.server.held.size), (0, 0))
        self.assertEqual(self.context.peer(self.address).pending, 0)


class FullTests(ServiceCase):
    """A burst at a server that takes few calls at a time."""

    services = (Burst,)

    def make_server(self) -> ServiceServer:
        return ServiceServer(self.network, limits=ServerLimits(running=2, queued=2))

    def test_calls_at_the_limit_wait_or_are_refused(self) -> None:
        """What would be answered at once waits behind what runs, or is refused."""
        burst = self.connect("org.example.burst")
        service: Any = self.server.services[0]
        names = ("echo", "wait", "wait", "echo", "wait", "echo")
        calls = [burst.invoke(name, number) for number, name in enumerate(names)]
        self.network.deliver()
        self.assertEqual(self.successResultOf(calls[0]), 0)
        self.assertNoResult(calls[3])
        self.failureResultOf(calls[5], Overloaded)
        service.waiting[0].callback("a")
        self.network.deliver()
        self.assertEqual(self.successResultOf(calls[1]), "a")
        self.assertEqual(self.successResultOf(calls[3]), 3)
        for waiting in service.waiting[1:]:
            waiting.callback("b")
        self.network.deliver()
        self.assertEqual([self.successResultOf(calls[n]) for n in (2, 4)], ["b", "b"])
        self.assertEqual((self.server.running, self.server._active), (0, set()))
