"""Calls that are made together: how they are sent, and servers that answer them in other ways."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer

from pycomnet.errors import (
    CallInterrupted,
    CallSkipped,
    ProtocolViolation,
    PycomnetError,
    RemoteError,
    ServerLeaving,
    error_map,
)
from pycomnet.services.client import callgroup
from pycomnet.services.client.callgroup import requests
from pycomnet.services.client.pendingbatch import BatchRequest
from pycomnet.services.interface import Service, interface, method
from pycomnet.test.services.network import ServiceCase
from pycomnet.test.services.server.test_batches import BatchCase, Taken
from pycomnet.wire.codec import make_codec
from pycomnet.wire.frames import ERROR, NORMAL
from pycomnet.wire.values import ValueNotSendable


def split(*calls: Any, most: int = 1000, longest: int = 1 << 20) -> list[BatchRequest]:
    triples = [(name, args, Taken()) for name, args in calls]
    return list(requests(triples, make_codec().encode, most, longest))


class RequestTests(ServiceCase):
    """Which requests calls go in."""

    def test_calls_are_one_request(self) -> None:
        """Their methods are numbered as they come."""
        (one,) = split(("a", 1), ("b", 2), ("a", 3))
        self.assertEqual((one.names, one.which, one.problem), (["a", "b"], [0, 1, 0], None))
        self.assertEqual([make_codec().decode(each) for each in one.encoded], [1, 2, 3])

    def test_order_is_kept(self) -> None:
        """By calls that go by themselves, and by those that can't be sent."""
        calls = [("a", 1), ("a\nb", 2), ("a", 3), ("a", object()), ("c", 4), ("c", 5)]
        found = split(*calls)
        self.assertEqual([call[:2] for one in found for call in one.calls], calls)
        self.assertEqual([one.names for one in found], [["a"], [], ["a"], [], ["c"]])
        self.assertIsInstance(found[3].problem, ValueNotSendable)

    def test_limits_begin_a_new_request(self) -> None:
        """Of calls, bytes and methods; a longer call has one of its own."""
        found = split(*[("a", n) for n in range(25)], most=10)
        self.assertEqual([len(one.calls) for one in found], [10, 10, 5])
        found = split(*[("a", "x" * 300)] * 5, ("a", "x" * 5000), ("a", 1), longest=2000)
        self.assertEqual([len(one.calls) for one in found], [3, 2, 1, 1])
        found = split(*[(f"m{n}", n) for n in range(callgroup.MOST_METHODS + 1)])
        self.assertEqual([len(one.calls) for one in found], [callgroup.MOST_METHODS, 1])

    def test_no_call_is_encoded_often(self) -> None:
        """Whatever their lengths are, and wherever one is that can't be sent."""
        for arguments in (
            ["x", "x" * 3000] * 300,
            [*"x" * 255, object()] * 3,
            [*"x" * 100, "x" * 5000] * 6,
            ["x"] * 600,
        ):
            encoded = 0

            def encode(value: Any) -> bytes:
                nonlocal encoded
                encoded += len(value) if type(value) is list else 1
                return make_codec().encode(value)

            calls = [("a", one, Taken()) for one in arguments]
            found = list(requests(calls, encode, 1000, 1 << 20, 4096))
            self.assertEqual([call for one in found for call in one.calls], calls)
            self.assertLess(encoded, 8 * len(calls))

    def test_no_batches_are_single_calls(self) -> None:
        """Where the server takes none."""
        found = split(("a", 1), ("b", 2), most=0)
        self.assertEqual([(one.names, len(one.calls)) for one in found], [([], 1), ([], 1)])


@interface("t.old")
class Old(Service):
    """Has a method with a line feed in its name."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.waiting: list[defer.Deferred[Any]] = []

    @method("two\nlines")
    def two(self, request: Any) -> str:
        """Has an odd name."""
        self.ran.append("two")
        return "two"

    @method()
    def one(self, request: Any) -> str:
        """Has a usual name."""
        self.ran.append("one")
        return "one"

    @method()
    def wait(self, request: Any) -> Any:
        """Waits for the test."""
        self.ran.append("wait")
        self.waiting.append(defer.Deferred())
        return self.waiting[-1]


class OlderServerTests(ServiceCase):
    """A server that does not know batches, and methods that can't be in one."""

    services = (Old,)

    def make(self, *names: str, **options: Any) -> tuple[list[Taken], defer.Deferred[Any]]:
        remote = self.connect()
        takers = [Taken() for _ in names]
        calls = [(name, None, taker) for name, taker in zip(names, takers, strict=True)]
        return takers, remote.invoke_together(calls, **options)

    def older(self) -> Old:
        """The service, on a server whose hello has no batches."""
        said = dict(self.server.hello())
        del said["batch"]
        self.server._hello = said
        (service,) = self.server.services
        assert isinstance(service, Old)
        return service

    def test_server_without_batches_gets_single_calls(self) -> None:
        """In one write, and all at a time."""
        service = self.older()
        takers, ended = self.make("wait", "one", "nothing")
        client, _ = self.network.wires[0]
        self.network.deliver()
        self.assertEqual(service.ran, ["wait", "one"])
        service.waiting[0].callback("waited")
        self.assertFalse(self.result(ended))
        self.assertEqual([one.kind for one in takers][:2], ["waited", "one"])
        self.assertNotIn("batch", client.protocol.mux.calls._heads)

    def test_one_by_one_without_batches(self) -> None:
        """Each waits for the one before it."""
        service = self.older()
        takers, ended = self.make("wait", "one", "nothing", "one", one_by_one=True)
        self.network.deliver()
        self.assertEqual(service.ran, ["wait"])
        service.waiting[0].callback("waited")
        self.assertFalse(self.result(ended))
        self.assertEqual(service.ran, ["wait", "one"])
        self.assertEqual(takers[3].kind, CallSkipped)

    def test_one_by_one_in_several_requests(self) -> None:
        """Each request waits for the one before it."""
        service: Any = self.server.services[0]
        takers, ended = self.make("one", "wait", "two\nlines", "one", one_by_one=True)
        self.network.deliver()
        self.assertEqual(service.ran, ["one", "wait"])
        service.waiting[0].callback("waited")
        self.assertTrue(self.result(ended))
        self.assertEqual([one.kind for one in takers], ["one", "waited", "two", "one"])

    def test_cancelled_between_requests(self) -> None:
        """What was not sent is not sent."""
        service: Any = self.server.services[0]
        _, ended = self.make("wait", "two\nlines", one_by_one=True)
        self.network.deliver()
        ended.cancel()
        self.failure(ended, defer.CancelledError)
        self.assertEqual(service.ran, ["wait"])
        self.assertEqual(self.server.running, 0)


class Answering:
    """A server's end of a batch that answers as the test says."""

    def __init__(self, case: AnswerTests, connection: Any, stream: Any) -> None:
        self.case, self.connection, self.stream = case, connection, stream
        stream.app = self

    def arrived(self, payload: bytes, cost: int) -> None:
        mux, encode = self.connection.mux, self.connection.encode
        for value in self.case.values:
            mux.send(self.stream, encode(value))
        if self.case.end is None:
            mux.reply_on(self.stream, encode(self.case.last))
        elif self.case.end == ERROR:
            mux.close(self.stream, ERROR, encode(self.case.last))
        elif self.case.end != NEVER:
            mux.close(self.stream, self.case.end)
        self.connection.flush_soon()

    def ended(self) -> None:
        """There is one value."""

    def closed(self, kind: int, payload: bytes) -> None:
        """The client has given up."""

    def connection_lost(self, lost: Any) -> None:
        """So has the connection."""


OK = b"\x91\x01"
#: No end: the batch stays open.
NEVER = -1
BAD: list[Any] = [
    None,
    [],
    [0],
    [0, 5],
    [0, [5, 5]],
    [0, [OK, OK, OK]],
    [1, [OK, OK]],
    [-1, [OK, OK]],
    [2, [OK]],
    [1 << 70, [OK]],
    [[0, 0], [OK, OK]],
    [[0], [OK, OK]],
    [[0, -1], [OK, OK]],
    [["0", 1], [OK, OK]],
    [[[], 1], [OK, OK]],
    [0.0, [OK, OK]],
    [0, [b"", OK]],
    [0, [b"\xc1", OK]],
    [0, [b"\x90", OK]],
    [0, [b"\x01", OK]],
    [0, [b"\xc0", OK]],
    [0, {"a": 1}],
    {"a": 1},
    [0, [], 5],
    [0, [], [0]],
    [0, [], [0, 5]],
    [0, [], ["0", [1, 2]]],
    [0, [], [0, [1, 2, 3]]],
    [0, [], [-1, [1, 2]]],
    [0, [], [0, [1], 0, [1]]],
    [0, [OK], [0, [1], 1, [2]]],
    [0, [OK, OK], [0, [1]]],
    [5, [OK], [0, [1, 2]]],
]


class AnswerTests(BatchCase):
    """What servers can answer."""

    values: tuple[Any, ...] = ()
    last: Any = None
    end: int | None = None

    def setUp(self) -> None:
        super().setUp()
        for connection in self.server.connections:
            self.answers(connection)

    def answers(self, connection: Any) -> None:
        """Have batches of a connection be answered as the test says."""
        connection.acceptors["batch"] = lambda stream: Answering(self, connection, stream)

    def test_what_is_no_outcome_ends_the_connection(self) -> None:
        """No call waits for ever, and none has another's result."""
        for last in BAD:
            self.connect()
            for connection in self.server.connections:
                self.answers(connection)
            self.last = last
            takers, ended = self.send("echo", "echo")
            self.network.deliver()
            with self.subTest(last=repr(last)):
                self.assertFalse(self.successResultOf(ended))
                self.assertEqual([one.kind for one in takers], [ProtocolViolation] * 2)
                self.assertEqual(self.worker.ran, [])
                self.assertEqual(self.context.peer(self.address).pending, 0)

    def test_taker_may_end_the_batch(self) -> None:
        """Amid outcomes of either kind; each call is counted once."""
        for first in ([0, [b"\x91\x00", b"\x91\x01"]], [0, [], [0, [0, 1]]]):
            self.connect()
            for connection in self.server.connections:
                self.answers(connection)
            self.values, self.end = (first,), NEVER
            takers, ended = self.send("echo", "echo", "echo")
            self.patch(takers[0], "callback", lambda _, ended=ended: ended.cancel())
            peers = list(self.context.pool.peers.values())
            self.network.deliver()
            self.failure(ended, defer.CancelledError)
            self.assertEqual([one.pending for one in peers], [0] * len(peers))
            self.assertEqual(takers[2].kind, None)

    def test_outcomes_in_any_order_and_number(self) -> None:
        """Each is its call's."""
        self.values = ([[2, 0], [b"\x91\x02", b"\x91\x00"]], [0, []])
        self.last = [[1], [b"\x91\x01"]]
        takers, ended = self.send("echo", "echo", "echo")
        self.assertTrue(self.result(ended))
        self.assertEqual([one.kind for one in takers], [0, 1, 2])

    def test_calls_without_outcome_are_made_again(self) -> None:
        """Each by itself."""
        self.values, self.end = ([1, [b"\x91\x07"]],), NORMAL
        takers, ended = self.send(("echo", 5), ("echo", 6), ("note", {"n": 3}))
        self.assertTrue(self.result(ended))
        self.assertEqual([one.kind for one in takers], [5, 7, 3])

    def test_calls_that_the_server_leaves_are_made_again(self) -> None:
        """Where there is a server; in their order if they go one by one."""
        leaving = self.context_encode({"code": "leaving", "message": "it ends"})
        self.last = [0, [b"\x91\x07", leaving, leaving]]
        takers, ended = self.send(("echo", 5), ("note", {"n": 2}), ("note", {"n": 3}))
        self.assertTrue(self.result(ended))
        self.assertEqual([one.kind for one in takers], [7, 2, 3])
        for connection in self.server.connections:
            self.answers(connection)
        self.last = [0, [b"\x91\x07", leaving]]
        calls = [("echo", 5), "wait", ("note", {"n": 4})]
        takers, ended = self.send(*calls, one_by_one=True)
        self.network.deliver()
        self.assertEqual(self.worker.ran, [2, 3, "wait"])
        self.worker.waiting[0].errback(ValueError("no"))
        self.assertFalse(self.result(ended))
        self.assertEqual([one.kind for one in takers], [7, RemoteError, CallSkipped])

    def context_encode(self, value: Any) -> bytes:
        encoded: bytes = make_codec().encode(value)
        return encoded

    def test_refused_batch_is_an_error_of_each_call(self) -> None:
        """None has run; if it calls several methods, each is called for its own error."""
        self.end, self.last = ERROR, error_map(PycomnetError("not this"), "")
        takers, ended = self.send("echo", "echo")
        self.assertFalse(self.result(ended))
        for taker in takers:
            self.assertIn("not this", str(taker.outcome))
        self.assertEqual(self.worker.ran, [])
        takers, ended = self.send("echo", ("note", {"n": 1}))
        self.assertTrue(self.result(ended))
        self.assertEqual([one.kind for one in takers], [None, 1])

    def test_error_after_outcomes_repeats_nothing(self) -> None:
        """That breaks the protocol: nobody knows what has run."""
        self.values, self.end = ([0, [b"\x91\x07"]],), ERROR
        for problem in (PycomnetError("not this"), ServerLeaving("not this")):
            self.last = error_map(problem, "")
            takers, ended = self.send("echo", ("note", {"n": 1}))
            self.assertFalse(self.result(ended))
            self.assertEqual(takers[0].kind, 7)
            self.assertIn("not this", str(takers[1].outcome))
            self.assertEqual(self.worker.ran, [])

    def test_error_that_is_none_ends_the_connection(self) -> None:
        """And nothing is repeated."""
        for connection in self.server.connections:
            connection.encode = lambda value: b"\xc1"
        self.end, self.last = ERROR, None
        takers, ended = self.send("echo", ("note", {"n": 1}))
        self.assertFalse(self.result(ended))
        self.assertEqual([one.kind for one in takers], [ProtocolViolation] * 2)
        self.assertEqual(self.worker.ran, [])

    def test_leaving_server_refuses_the_whole(self) -> None:
        """The calls are made where there is another; here it is the same one."""
        self.end, self.last = ERROR, error_map(ServerLeaving("it ends"), "")
        takers, ended = self.send(("note", {"n": 1}), ("note", {"n": 2}))
        self.assertTrue(self.result(ended))
        self.assertEqual([one.kind for one in takers], [1, 2])


class SilentTests(BatchCase):
    """A server that does not answer."""

    def test_deadline_passes(self) -> None:
        """Each call has its error, and the server is told."""
        takers, ended = self.send("wait", "wait", timeout=5)
        self.network.deliver()
        self.network.wait(7)
        self.assertFalse(self.successResultOf(ended))
        self.assertEqual(self.worker.cancelled, 2)
        self.assertEqual(self.context.peer(self.address).pending, 0)
        self.assertIn("deadline", str(takers[0].outcome))

    def test_closed_context_interrupts(self) -> None:
        """Nothing is repeated then."""
        takers, ended = self.send("wait", ("note", {"n": 1}), "wait")
        self.network.deliver()
        self.result(self.context.close())
        self.assertFalse(self.successResultOf(ended))
        self.assertEqual([one.kind for one in takers], [CallInterrupted, 1, CallInterrupted])
        self.assertIn("the context was closed", str(takers[0].outcome))
