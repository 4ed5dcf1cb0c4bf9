"""Batches at the server: what a client can send, and that each call is admitted as if by itself."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer
from twisted.python.failure import Failure

from pycomnet.errors import (
    CallInterrupted,
    CallSkipped,
    DeadlineExceeded,
    InvalidArguments,
    Overloaded,
    PycomnetError,
    RemoteError,
    ResultNotSendable,
    ServiceError,
    UnknownInterface,
    UnknownMethod,
)
from pycomnet.services.client.context import Context
from pycomnet.services.interface import Service, interface, method
from pycomnet.services.server.batches import LOOK_EVERY
from pycomnet.services.server.batchturns import SLICE
from pycomnet.services.server.limits import ServerLimits
from pycomnet.services.server.server import ServiceServer
from pycomnet.test.services.network import ServiceCase
from pycomnet.wire.values import ValueNotReceivable


@interface("t.batch")
class Worker(Service):
    """Does what batches are tested with."""

    def __init__(self) -> None:
        self.clock: Any = None
        self.ran: list[Any] = []
        self.waiting: list[defer.Deferred[Any]] = []
        self.cancelled = 0
        self.state: list[int] = []
        self.fail_at = -1

    @method(args={"n": int})
    def note(self, request: Any) -> Any:
        """Notes a number."""
        self.ran.append(request.args["n"])
        return request.args["n"]

    @method(args={"n": int})
    def note_or_fail(self, request: Any) -> Any:
        """Notes a number; one raises what ends a program, and the next can't be sent."""
        n = request.args["n"]
        if n == self.fail_at:
            raise SystemExit("not this one")
        return object() if n == self.fail_at + 1 else n

    @method()
    def said(self, request: Any) -> Any:
        """What the caller says of the call."""
        return [request.key, request.on_behalf_of]

    @method()
    def echo(self, request: Any) -> Any:
        """What came."""
        self.ran.append("echo")
        return request.args

    @method()
    def fail(self, request: Any) -> Any:
        """Raises what ends a program."""
        raise SystemExit("not this one")

    @method()
    def unsendable(self, request: Any) -> Any:
        """Returns what can't be sent."""
        return [object()]

    @method()
    def grow(self, request: Any) -> Any:
        """The same list each time, longer by one."""
        self.state.append(len(self.state))
        return self.state

    @method(idempotent=True)
    def wait(self, request: Any) -> Any:
        """Waits for the test."""

        def cancel(_: object) -> None:
            self.cancelled += 1

        self.ran.append("wait")
        self.waiting.append(defer.Deferred(cancel))
        return self.waiting[-1]

    @method(thread=True)
    def block(self, request: Any) -> Any:
        """In a thread."""
        self.ran.append("block")
        return "blocked"

    @method(stream=True)
    def ticks(self, request: Any) -> Any:
        """A stream."""
        return [1]

    @method()
    def slow(self, request: Any) -> Any:
        """Takes a millisecond."""
        self.clock.rightNow += 0.001
        self.ran.append(request.args)
        return request.args

    @method()
    def big(self, request: Any) -> Any:
        """A long result."""
        self.ran.append("big")
        return bytes(40_000)


class Taken:
    """Keeps a call's outcome."""

    def __init__(self) -> None:
        self.outcome: Any = None

    def callback(self, result: Any) -> None:
        self.outcome = ["ok", result]

    def errback(self, fail: Failure) -> None:
        self.outcome = fail.value

    @property
    def kind(self) -> Any:
        """The result, or the class of the error."""
        if isinstance(self.outcome, list):
            return self.outcome[1]
        return None if self.outcome is None else type(self.outcome)


class BatchCase(ServiceCase):
    """A test with a worker."""

    services = (Worker,)
    limits = ServerLimits()

    def make_server(self) -> ServiceServer:
        return ServiceServer(self.network, threads=self.network, limits=self.limits)

    def setUp(self) -> None:
        super().setUp()
        self.call_worker()
        self.worker.clock = self.network

    def send(self, *calls: Any, **options: Any) -> tuple[list[Taken], defer.Deferred[Any]]:
        """Make calls, each a method or a method and its arguments, as a batch."""
        made = [(one, None) if isinstance(one, str) else one for one in calls]
        takers = [Taken() for _ in made]
        triples = [(name, args, taker) for (name, args), taker in zip(made, takers, strict=True)]
        return takers, self.remote.invoke_together(triples, **options)

    def kinds(self, *calls: Any, **options: Any) -> list[Any]:
        """What comes of calls in a batch."""
        takers, ended = self.send(*calls, **options)
        self.result(ended)
        return [taker.kind for taker in takers]

    def assertIdle(self) -> None:
        """Nothing is held or runs at the server."""
        self.assertEqual(self.server.held.size, 0)
        self.assertEqual(self.server.running, 0)
        self.assertEqual(self.server.stat()["calls"], {"running": 0, "waiting": 0})
        self.assertEqual([one.requests for one in self.server.connections], [0])


class AdmissionTests(BatchCase):
    """Each call in a batch is checked, limited and answered by itself."""

    def test_each_call_has_its_own_outcome(self) -> None:
        """Of whatever kind; none stops those behind it."""
        found = self.kinds(
            ("note", {"n": 1}),
            ("note", {"n": "x"}),
            ("note", {}),
            "nothing",
            "fail",
            "unsendable",
            "ticks",
            "block",
            "echo",
            ("note", {"n": 2}),
        )
        self.assertEqual(
            found,
            [
                1,
                InvalidArguments,
                InvalidArguments,
                UnknownMethod,
                RemoteError,
                ResultNotSendable,
                UnknownMethod,
                "blocked",
                None,
                2,
            ],
        )
        self.assertEqual(self.worker.ran, [1, "echo", 2, "block"])
        self.assertIdle()

    def test_errors_are_those_of_single_calls(self) -> None:
        """The same class and the same words."""
        self.patch(self.server, "_tracebacks", False)  # those are of where it was called
        calls: list[Any] = ["nothing", "fail", "unsendable", "ticks", ("note", {"m": 1})]
        takers, ended = self.send(*calls)
        self.result(ended)
        for call, taker in zip(calls, takers, strict=True):
            name, args = (call, None) if isinstance(call, str) else call
            single = self.failure(self.remote.invoke(name, args), PycomnetError)
            self.assertEqual((type(taker.outcome), str(taker.outcome)), (type(single), str(single)))

    def test_result_is_what_it_was_when_its_method_returned(self) -> None:
        """Also if a later call of the batch changes it."""
        self.assertEqual(self.kinds("grow", "grow", "grow"), [[0], [0, 1], [0, 1, 2]])

    def test_unknown_methods_alone_are_refused_undecoded(self) -> None:
        """No argument is looked at; each call has the error for its own method."""
        decoded: list[bytes] = []
        (connection,) = self.server.connections
        decode = connection.decode

        def watch(payload: bytes) -> Any:
            decoded.append(payload)
            return decode(payload)

        connection.decode = watch
        self.patch(connection, "decode_run", lambda payloads: self.fail("decoded"))
        takers, ended = self.send(*[("nothing", {"n": n}) for n in range(3)])
        self.result(ended)
        self.assertEqual([taker.kind for taker in takers], [UnknownMethod] * 3)
        self.assertEqual(decoded, [])
        connection.decode = decode
        takers, ended = self.send("one", "other")
        self.result(ended)
        self.assertIn("'one'", str(takers[0].outcome))
        self.assertIn("'other'", str(takers[1].outcome))

    def test_arguments_of_a_refused_method_are_not_decoded(self) -> None:
        """If others of the batch are called."""
        (connection,) = self.server.connections
        decode = connection.decode

        def watch(payload: bytes) -> Any:
            value = decode(payload)
            self.assertNotEqual(value, "secret")
            return value

        connection.decode = watch
        connection.decode_run = lambda payloads: None
        self.assertEqual(self.kinds(("nothing", "secret"), ("note", {"n": 1})), [UnknownMethod, 1])

    def test_each_call_is_asked_for(self) -> None:
        """One function says of each whether it may begin, when its turn comes; unless all of a
        method are allowed to this client.
        """
        (connection,) = self.server.connections
        self.patch(connection, "may_all", lambda *_: False)
        refusal = self.server.refusal
        asked: list[str] = []

        def ask(call: Any, interface: str, name: str, *rest: Any) -> Any:
            asked.append(name)
            if name == "echo" and asked.count(name) > 2:
                return InvalidArguments("no more")
            return refusal(call, interface, name, *rest)

        self.patch(self.server, "refusal", ask)
        self.assertEqual(
            self.kinds("echo", "echo", ("note", {"n": 1})), [None, InvalidArguments, 1]
        )
        self.assertEqual(asked, ["echo", "echo", "echo", "note"])
        asked.clear()
        self.patch(connection, "may_all", lambda *_: True)
        self.patch(self.server, "refusal", lambda _, __, name, *rest: asked.append(name))
        self.assertEqual(self.kinds("echo", "echo", ("note", {"n": 1})), [None, None, 1])
        self.assertEqual(asked, ["echo", "echo", "note"])

    def test_call_that_waits_for_its_turn_is_asked_for_then(self) -> None:
        """Who may call when the batch came may not call any more when the call begins."""
        takers, ended = self.send("wait", "echo", "echo", one_by_one=True)
        self.network.deliver()
        self.assertEqual(self.worker.ran, ["wait"])
        self.patch(self.server, "refusal", lambda *_: InvalidArguments("no more"))
        self.worker.waiting[0].callback("waited")
        self.assertFalse(self.result(ended))
        self.assertEqual(self.worker.ran, ["wait"])
        kinds = [taker.kind for taker in takers]
        self.assertEqual(kinds, ["waited", InvalidArguments, CallSkipped])

    def test_value_that_cannot_be_received_fails_its_call_alone(self) -> None:
        """As it does alone."""
        (connection,) = self.server.connections
        decode = connection.decode

        def refuse(payload: bytes) -> Any:
            if b"odd" in payload and len(payload) < 20:
                raise ValueNotReceivable("it is odd")
            return decode(payload)

        connection.decode = refuse
        connection.decode_run = lambda payloads: None
        self.assertEqual(self.kinds(("echo", "odd"), ("note", {"n": 1})), [InvalidArguments, 1])

    def test_unknown_interface_is_an_error_of_each(self) -> None:
        """Nothing runs."""
        self.remote.interface = "t.other"
        self.assertEqual(self.kinds("echo", "echo"), [UnknownInterface] * 2)


class LimitTests(BatchCase):
    """The limits of calls hold for those in batches."""

    limits = ServerLimits(running=2, queued=2, items=100, request=20_000)

    def test_calls_wait_and_beyond_the_queue_are_refused(self) -> None:
        """Two run, two wait, and the others are not run."""
        takers, ended = self.send(*["wait"] * 6)
        self.network.deliver()
        self.assertEqual(self.server.stat()["calls"], {"running": 2, "waiting": 2})
        self.assertEqual([one.kind for one in takers], [None] * 4 + [Overloaded] * 2)
        self.assertGreater(self.server.held.size, 0)
        while self.worker.waiting:
            self.worker.waiting.pop(0).callback("done")
        self.result(ended)
        self.assertEqual([one.kind for one in takers], ["done"] * 4 + [Overloaded] * 2)
        self.assertIdle()

    def test_too_many_items_fail_their_call_alone(self) -> None:
        """The others run."""
        found = self.kinds(("echo", [0] * 101), ("note", {"n": 1}))
        self.assertEqual(found, [InvalidArguments, 1])

    def test_long_batch_is_several(self) -> None:
        """By calls, by bytes, and by methods."""
        found = self.kinds(*[("note", {"n": n}) for n in range(45)])
        self.assertEqual(found, list(range(45)))
        found = self.kinds(*[("echo", "x" * 5000)] * 3, ("echo", "x" * 30_000))
        self.assertEqual(found, ["x" * 5000] * 3 + [InvalidArguments])

    def test_no_more_is_held_than_allowed(self) -> None:
        """A batch that does not fit is refused as a whole, with what a call is refused with."""
        self.server.held.most = 1000
        found = self.kinds(*[("echo", "x" * 500)] * 4)
        self.assertEqual(found, [Overloaded] * 4)
        self.assertIdle()


class TurnTests(BatchCase):
    """A batch does not keep others waiting."""

    def test_long_batch_yields(self) -> None:
        """In a turn, calls begin for some milliseconds only; another client is answered between."""
        other = self.result(Context(self.network).connect(self.address, "t.batch"))
        takers, ended = self.send(*[("slow", n) for n in range(100)])
        client, server = self.network.wires[0]
        self.network._move(client, server)
        begun = len(self.worker.ran)
        self.assertGreater(begun, 0)
        self.assertLessEqual(begun, SLICE * 1000 + LOOK_EVERY)
        quick = other.invoke("note", {"n": -1})
        self.result(ended)
        self.assertEqual(self.successResultOf(quick), -1)
        self.assertLess(self.worker.ran.index(-1), 60)
        self.worker.ran.remove(-1)
        self.assertEqual(self.worker.ran, list(range(100)))
        self.assertEqual([one.kind for one in takers], list(range(100)))

    def test_batches_of_clients_take_turns(self) -> None:
        """And those of one client begin in their order."""
        other = self.result(Context(self.network).connect(self.address, "t.batch"))
        ends = [self.send(*[("slow", n) for n in range(40)])[1]]
        ends += [self.send(*[("slow", n) for n in range(100, 110)])[1]]
        calls = [("slow", n, Taken()) for n in range(200, 210)]
        ends += [other.invoke_together(calls)]
        self.network.deliver()
        for ended in ends:
            self.successResultOf(ended)
        ran = self.worker.ran
        self.assertLess(ran.index(209), ran.index(39))
        self.assertEqual([n for n in ran if n < 200], [*range(40), *range(100, 110)])

    def test_client_that_does_not_read_stops_its_batch(self) -> None:
        """Its results wait in the server up to a window."""
        takers, ended = self.send(*["big"] * 500)
        client, server = self.network.wires[0]
        server.transport.capacity = 200_000
        for _ in range(100):
            self.network.advance(0)
            self.network._move(client, server)
        self.assertLess(len(self.worker.ran), 100)
        server.transport.capacity = 1 << 30
        server.protocol.resumeProducing()
        self.result(ended)
        self.assertEqual([len(one.kind) for one in takers], [40_000] * 500)
        self.assertIdle()


class EndTests(BatchCase):
    """How a batch ends."""

    def test_late_result_keeps_nobody_waiting(self) -> None:
        """The others' results come when they are there."""
        takers, ended = self.send("wait", ("note", {"n": 1}), "wait", "block")
        self.network.deliver()
        self.assertEqual([one.kind for one in takers], [None, 1, None, "blocked"])
        self.worker.waiting[1].callback("second")
        self.network.deliver()
        self.assertEqual(takers[2].kind, "second")
        self.assertNoResult(ended)
        self.worker.waiting[0].errback(ValueError("first"))
        self.assertFalse(self.result(ended))
        self.assertEqual(takers[0].kind, RemoteError)
        self.assertIdle()

    def test_one_by_one_ends_at_the_first_error(self) -> None:
        """Each begins when the one before has ended, at once or later."""
        takers, ended = self.send(
            ("note", {"n": 1}), "wait", "block", "fail", ("note", {"n": 2}), one_by_one=True
        )
        self.network.deliver()
        self.assertEqual(self.worker.ran, [1, "wait"])
        self.worker.waiting[0].callback("waited")
        self.assertFalse(self.result(ended))
        kinds = [one.kind for one in takers]
        self.assertEqual(kinds, [1, "waited", "blocked", RemoteError, CallSkipped])
        self.assertEqual(self.worker.ran, [1, "wait", "block"])
        self.assertIdle()

    def test_one_by_one_ends_at_a_late_error(self) -> None:
        """And goes on after late results."""
        takers, ended = self.send("wait", "wait", ("note", {"n": 2}), one_by_one=True)
        self.network.deliver()
        self.worker.waiting[0].callback(1)
        self.network.deliver()
        self.worker.waiting[1].errback(ValueError("no"))
        self.assertFalse(self.result(ended))
        self.assertEqual([one.kind for one in takers], [1, RemoteError, CallSkipped])
        self.assertIdle()

    def test_cancelled_batch_cancels_what_runs_and_begins_no_more(self) -> None:
        """Those that run and those that wait for their turn."""
        _, ended = self.send("wait", "wait", *[("slow", n) for n in range(100)])
        client, server = self.network.wires[0]
        self.network._move(client, server)
        begun = len(self.worker.ran)
        ended.cancel()
        self.failureResultOf(ended, defer.CancelledError)
        self.network.deliver()
        self.assertEqual(self.worker.cancelled, 2)
        self.assertLess(len(self.worker.ran), begun + 20)
        self.assertIdle()

    def test_deadline_ends_what_runs_and_begins_no_more(self) -> None:
        """At the server as well."""
        takers, ended = self.send("wait", *[("slow", n) for n in range(100)], timeout=0.02)
        client, server = self.network.wires[0]
        for _ in range(40):
            self.network._move(client, server)
            self.network.advance(0)
        self.assertLess(len(self.worker.ran), 60)
        self.network.wait(1)
        self.successResultOf(ended)
        self.assertEqual(takers[0].kind, DeadlineExceeded)
        self.assertEqual(takers[-1].kind, DeadlineExceeded)
        self.assertEqual(self.worker.cancelled, 1)
        self.assertIdle()

    def test_lost_connection_repeats_what_may_run_twice(self) -> None:
        """The rest is interrupted; what has its result keeps it."""
        takers, ended = self.send(("note", {"n": 1}), "wait", "slow", "wait", "big")
        self.worker.big = self.worker.wait
        client, server = self.network.wires[0]
        self.network._move(client, server)
        self.assertEqual(self.worker.ran.count("wait"), 2)
        self.network.cut()
        self.network.deliver()
        self.assertEqual(self.worker.ran.count("wait"), 4)
        for waiting in self.worker.waiting[2:]:
            waiting.callback("again")
        self.assertFalse(self.result(ended))
        kinds = [one.kind for one in takers]
        self.assertEqual(
            kinds, [CallInterrupted, "again", CallInterrupted, "again", CallInterrupted]
        )

    def test_leaving_server_ends_what_runs_and_begins_no_more(self) -> None:
        """What has not begun is called again, elsewhere if there is another."""
        takers, ended = self.send("wait", *[("slow", n) for n in range(100)])
        client, server = self.network.wires[0]
        self.network._move(client, server)
        begun = len(self.worker.ran)
        closing = self.server.close(timeout=1)
        self.network.wait(2)
        self.successResultOf(closing)
        self.assertEqual(len(self.worker.ran), begun)
        self.network.wait(60)
        self.assertFalse(self.successResultOf(ended))
        self.assertEqual(takers[0].kind, CallInterrupted)
        self.assertIsInstance(takers[-1].outcome, ServiceError)
