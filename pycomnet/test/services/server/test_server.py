"""The server: sessions, overload, tracebacks, strangers, and what its services do."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone

from pycomnet.errors import (
    DeadlineExceeded,
    EndpointError,
    InvalidArguments,
    Overloaded,
    ProtocolViolation,
    PycomnetError,
    RemoteError,
    ServiceUnreachable,
    SessionTooLarge,
    UnknownInterface,
    UnknownMethod,
)
from pycomnet.services.client.context import Context
from pycomnet.services.interface import Service, interface, method
from pycomnet.services.server.limits import ServerLimits
from pycomnet.services.server.server import ServiceServer
from pycomnet.services.server.sessions import SessionLimits
from pycomnet.test.services.network import Network, ServiceCase
from pycomnet.wire.frames import FIRST, FIRST_MORE, HEADER, MORE, OPEN
from pycomnet.wire.mux import Mux


@interface("org.example.counter", stateful=True)
class Counter(Service):
    """Counts its clients' calls."""

    @method()
    def count(self, request: Any) -> int:
        request.session["n"] = request.session.get("n", 0) + 1
        return int(request.session["n"])

    @method()
    def keep(self, request: Any) -> list[str]:
        request.session["kept"] = request.args
        return sorted(request.session)

    @method()
    def append(self, request: Any) -> int:
        kept = request.session.setdefault("list", [])
        kept.append(request.args)
        return len(kept)


@interface("org.example.stateless")
class Stateless(Service):
    """Has no sessions."""

    def __init__(self) -> None:
        self.waiting: list[defer.Deferred[Any]] = []
        self.events: list[str] = []

    def started(self, server: Any) -> None:
        self.events.append("started")

    def stopped(self) -> defer.Deferred[None]:
        self.events.append("stopped")
        return defer.succeed(None)

    @method()
    async def at_once(self, request: Any) -> Any:
        return request.args

    @method()
    def session(self, request: Any) -> Any:
        return dict(request.session)

    @method()
    def wait(self, request: Any) -> defer.Deferred[Any]:
        self.waiting.append(defer.Deferred())
        return self.waiting[-1]

    @method()
    def quick(self, request: Any) -> str:
        return "quick"

    @method()
    def who(self, request: Any) -> Any:
        return [request.user, request.peer, request.deadline]

    @method()
    async def ask(self, request: Any) -> Any:
        other = await request.context().connect(request.args, "org.example.stateless")
        return await other.invoke("who", timeout=100)


class SessionTests(ServiceCase):
    """Stateful interfaces."""

    services = (Counter, Stateless)

    def make_server(self) -> ServiceServer:
        sessions = SessionLimits(idle=100, size=1000, count=3)
        return ServiceServer(self.network, limits=ServerLimits(sessions=sessions))

    def count(self, context: Context) -> Any:
        remote = self.result(context.connect(self.address, "org.example.counter"))
        return self.result(remote.invoke("count"))

    def test_each_client_has_its_own_session(self) -> None:
        """Each client has its own, on whichever connection."""
        other = Context(self.network)
        self.assertEqual([self.count(self.context) for _ in range(3)], [1, 2, 3])
        self.assertEqual(self.count(other), 1)
        self.network.cut()
        self.assertEqual(self.count(self.context), 4)

    def test_unused_session_expires(self) -> None:
        """One that is not used is forgotten, by itself."""
        self.count(self.context)
        self.network.wait(90, 10)
        self.assertEqual(self.count(self.context), 2)
        self.network.wait(90, 10)
        self.assertEqual(len(self.server._sessions), 1)
        self.network.wait(20, 10)
        self.assertEqual(len(self.server._sessions), 0)
        self.assertEqual(self.count(self.context), 1)

    def test_least_recently_used_session_goes_first(self) -> None:
        """When there are too many, the one that was not used for the longest goes."""
        contexts = [Context(self.network) for _ in range(4)]
        for context in contexts:
            self.count(context)
        self.assertEqual(len(self.server._sessions), 3)
        self.assertEqual(self.count(contexts[3]), 2)
        self.assertEqual(self.count(contexts[0]), 1)

    def test_session_over_its_size_is_refused(self) -> None:
        """What is too much is refused, also what grows where it is."""
        remote = self.connect("org.example.counter")
        self.assertEqual(self.result(remote.invoke("keep", "x" * 900)), ["kept"])
        self.failure(remote.invoke("keep", "x" * 1001), SessionTooLarge)
        self.assertEqual(self.result(remote.invoke("keep", "x")), ["kept"])
        self.assertEqual(self.result(remote.invoke("append", "x" * 900)), 1)
        self.assertEqual(self.result(remote.invoke("append", "x" * 900)), 2)
        self.failure(remote.invoke("append", "x"), SessionTooLarge)
        self.assertEqual(self.result(remote.invoke("append", "x")), 1)

    def test_another_interface_has_no_session(self) -> None:
        """Another interface has none."""
        remote = self.connect("org.example.stateless")
        problem = self.failure(remote.invoke("session"), RemoteError)
        self.assertIn("not stateful", problem.message)


class OverloadTests(ServiceCase):
    """More calls than there is room for."""

    services = (Stateless,)

    def make_server(self) -> ServiceServer:
        return ServiceServer(self.network, limits=ServerLimits(running=2, queued=2))

    def test_calls_wait_and_beyond_the_queue_are_refused(self) -> None:
        """Calls wait for their turn; those beyond the queue are refused at once."""
        remote = self.connect()
        service: Any = self.server.services[0]
        calls = [remote.invoke("wait") for _ in range(4)]
        self.network.deliver()
        self.assertEqual(len(service.waiting), 2)
        problem = self.failure(remote.invoke("quick"), Overloaded)
        self.assertIn("2 calls run here and 2 wait", str(problem))
        for number in range(4):
            service.waiting[number].callback(number)
            self.network.deliver()
        self.assertEqual([self.successResultOf(call) for call in calls], [0, 1, 2, 3])
        self.assertEqual(self.result(remote.invoke("quick")), "quick")
        self.assertEqual((self.server.running, self.server._active), (0, set()))

    def test_queued_calls_do_not_nest(self) -> None:
        """Thousands of calls that return at once when it is their turn do not nest."""
        self.server.limits = ServerLimits(running=2, queued=5000)
        remote = self.connect()
        service: Any = self.server.services[0]
        first = [remote.invoke("wait") for _ in range(2)]
        calls = [remote.invoke("at_once", number) for number in range(3000)]
        self.network.deliver()
        self.assertEqual(len(self.server._queue), 3000)
        service.waiting[0].callback(None)
        self.network.deliver()
        self.assertEqual([self.successResultOf(call) for call in calls], list(range(3000)))
        service.waiting[1].callback(None)
        self.network.deliver()
        for call in first:
            self.successResultOf(call)
        self.assertEqual((self.server.running, self.server._active), (0, set()))

    def test_close_with_a_queue(self) -> None:
        """A server that closes waits for the calls that wait, and not longer."""
        remote = self.connect()
        service: Any = self.server.services[0]
        calls = [remote.invoke("wait"), remote.invoke("wait"), remote.invoke("quick")]
        self.network.deliver()
        closing = self.server.close(5.0)
        self.network.deliver()
        for waiting in service.waiting:
            waiting.callback(None)
        self.network.deliver()
        for call in calls:
            self.successResultOf(call)
        self.successResultOf(closing)

    def test_late_in_the_queue(self) -> None:
        """A call whose deadline passes while it waits is not run; nor one that is cancelled."""
        remote = self.connect()
        service: Any = self.server.services[0]
        for _ in range(2):
            remote.invoke("wait", timeout=None)
        late = remote.invoke("wait", timeout=1)
        cancelled = remote.invoke("wait")
        self.network.deliver()
        cancelled.cancel()
        self.failure(cancelled, defer.CancelledError)
        self.network.wait(2)
        self.failure(late, DeadlineExceeded)
        service.waiting[0].callback(None)
        self.network.deliver()
        self.assertEqual(len(service.waiting), 2)
        self.assertEqual(len(self.server._active), 1)

    def test_bytes_of_waiting_calls_are_bounded(self) -> None:
        """What calls hold that run or wait is bounded in bytes, too; others are not disturbed."""
        self.server.limits = ServerLimits(running=2, queued=100)
        self.server.held.most = 3_500_000
        remote = self.connect()
        service: Any = self.server.services[0]
        calls = [remote.invoke("wait", bytes(1_000_000)) for _ in range(3)]
        self.network.deliver()
        self.assertEqual(len(service.waiting), 2)
        for _ in range(10):
            problem = self.failure(remote.invoke("wait", bytes(1_000_000)), Overloaded)
            self.assertIn("the limit is 3500000", str(problem))
        calls.append(remote.invoke("quick"))
        late = remote.invoke("wait", bytes(400_000))
        self.network.deliver()
        late.cancel()
        self.failure(late, defer.CancelledError)
        for number in range(3):
            service.waiting[number].callback(None)
            self.network.deliver()
        for call in calls:
            self.successResultOf(call)
        self.assertEqual(self.server.held.size, 0)

    def test_parts_of_arguments(self) -> None:
        """So are requests that never come to their end. Who has most of them loses them first, so
        others still get through.
        """
        self.server.held.most = 8_000_000
        remote = self.connect()
        accepted: Any = self.server.connected()
        flood = self.network.join(accepted)
        accepted.dataReceived(Mux(True).data_to_send())
        head = bytes((FIRST | FIRST_MORE, 6)) + b"invoke"
        piece = bytes(60_000)
        for id in range(1, 200, 2):
            frame = HEADER.pack(len(head + piece), OPEN, id) + head + piece
            accepted.dataReceived(frame + 4 * (HEADER.pack(len(piece), MORE, id) + piece))
            self.assertLessEqual(self.server.held.size, 8_000_000)
        self.assertGreater(flood.transport.value().count(b"overloaded"), 60)
        self.assertLess(len(accepted.long), 30)
        self.assertEqual(self.result(remote.invoke("quick", bytes(1_000_000))), "quick")
        self.assertEqual(self.result(remote.invoke("quick")), "quick")
        flood.lose(ConnectionDone())
        self.assertEqual(self.server.held.size, 0)
        self.assertEqual(self.result(remote.invoke("quick", bytes(5_000_000))), "quick")
        self.assertEqual(self.server.held.size, 0)

    def test_clients_beyond_the_limit_are_turned_away(self) -> None:
        """Clients beyond the limit are turned away, and the others are not disturbed."""
        self.server.limits = ServerLimits(connections=1)
        remote = self.connect()
        self.failure(Context(self.network).connect(self.address), ServiceUnreachable)
        self.assertEqual(self.result(remote.invoke("quick")), "quick")


class ServerTests(ServiceCase):
    """The rest."""

    services = (Stateless,)

    def test_service_is_told_of_its_begin_and_end(self) -> None:
        """A service is told when it begins and when it ends."""
        service: Any = self.server.services[0]
        self.assertEqual(service.events, ["started"])
        self.result(self.server.close())
        self.assertEqual(service.events, ["started", "stopped"])
        self.failure(self.server.listen("tcp:0"), PycomnetError)

    def test_what_cannot_be_added_or_listened_on_is_an_error(self) -> None:
        """What can't be added, or listened on, is an error."""
        self.failure(self.server.add(Service()), PycomnetError)
        self.failure(self.server.add(Stateless()), PycomnetError)
        port = self.address.rpartition(":")[2]
        self.failure(self.server.listen(f"tcp:{port}:interface=127.0.0.1"), EndpointError)

    def test_tracebacks_are_for_local_callers(self) -> None:
        """Far tracebacks are for callers on this machine, unless the server says otherwise."""
        for shown in (True, False):
            self.server._tracebacks = shown
            problem = self.failure(self.connect().invoke("session"), RemoteError)
            self.assertEqual("Traceback" in problem.formatted, shown)
        self.server._tracebacks = None
        _, server = self.network.wires[0]
        server.transport.peerAddr = IPv4Address("TCP", "192.0.2.7", 1)
        problem = self.failure(self.connect().invoke("session"), RemoteError)
        self.assertEqual(problem.formatted, "")
        self.assertIn("not stateful", problem.message)

    def test_request_knows_caller_and_time_left(self) -> None:
        """A request knows who calls and how long there is."""
        user, peer, deadline = self.result(self.connect().invoke("who", timeout=7))
        self.assertEqual((user, deadline), (None, 7))
        self.assertRegex(peer, r"^tcp:127\.0\.0\.1:\d+$")

    def test_nested_call_ends_with_its_method(self) -> None:
        """What a method calls ends when it has to end itself."""
        call = self.connect().invoke("ask", self.address, timeout=9)
        self.assertEqual(self.result(call)[2], 9)

    def test_rubbish_costs_its_client_alone_the_connection(self) -> None:
        """A client that talks rubbish, or nothing, loses its connection; nobody else does."""
        remote = self.connect()
        for rubbish in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 100, b""):
            port = self.network.ports[int(self.address.rpartition(":")[2])]
            stranger = port.factory.buildProtocol(None)
            wire = self.network.join(stranger)
            if rubbish:
                stranger.dataReceived(rubbish)
            self.network.wait(30, 10)
            self.assertTrue(wire.transport.closed, rubbish)
        self.assertEqual(self.result(remote.invoke("quick")), "quick")
        self.assertEqual(len(self.server.connections), 1)

    def test_bad_request_is_refused_by_itself(self) -> None:
        """Requests that are none are refused, each by itself."""
        remote = self.connect()
        peer = self.context.peer(self.address)
        for request in ([], 5, ["a"], [1, 2, 3, 4], ["org.example.stateless", "quick", 0, "x"]):
            connection: Any = peer.connection
            core = connection.open("invoke", connection.encode(request), end=True)
            problem = self.failure(core.receive(), RemoteError)
            self.assertIn("not a valid request", problem.message)
        self.assertEqual(self.result(remote.invoke("quick")), "quick")

    def test_network_is_clean(self) -> None:
        """Closing both ends leaves no delayed call."""
        self.result(self.connect().invoke("quick"))
        self.result(self.context.close())
        self.result(self.server.close())
        self.assertEqual(self.network.getDelayedCalls(), [])
        self.assertIsInstance(self.network, Network)


@interface("org.example.taker")
class Taker(Service):
    """Takes what comes."""

    @method()
    def take(self, request: Any) -> int:
        return len(request.args)

    @method()
    def wait(self, request: Any) -> defer.Deferred[Any]:
        return defer.Deferred()

    @method(stream=True)
    def each(self, request: Any) -> Any:
        return iter(request.args)


class BudgetTests(ServiceCase):
    """What a request may be before it is decoded."""

    services = (Taker,)

    def make_server(self) -> ServiceServer:
        return ServiceServer(
            self.network, limits=ServerLimits(items=100_000, running=1, queued=2, held=10 << 20)
        )

    def setUp(self) -> None:
        super().setUp()
        self.taker = self.result(self.context.connect(self.address, "org.example.taker"))
        self.result(self.taker.invoke("take", []))
        (self.connection,) = self.server.connections
        self.decoded: list[int] = []
        decode = self.connection.decode

        def count(payload: bytes) -> Any:
            self.decoded.append(len(payload))
            return decode(payload)

        self.connection.decode = count

    def test_looked_up_first(self) -> None:
        """A long request for what is not there, or is not called so, is not decoded."""
        long: list[Any] = [{}] * 50_000
        other = self.result(self.context.connect(self.address, "org.example.nobody"))
        self.failure(self.taker.invoke("nothing", long), UnknownMethod)
        self.failure(other.invoke("take", long), UnknownInterface)
        self.failure(self.taker.invoke("each", long), UnknownMethod)
        self.assertEqual(self.decoded, [])
        self.assertEqual(self.result(self.taker.invoke("take", long)), 50_000)
        self.assertEqual(len(self.decoded), 1)

    def test_too_many_items_are_refused_and_connection_kept(self) -> None:
        """One of too many items is refused, and the connection is kept."""
        many: list[Any] = [[{}] * 100_000, [[()] * 100_000], {"a": [0] * 100_000}]
        for args in many:
            problem = self.failure(self.taker.invoke("take", args), InvalidArguments)
            self.assertIn("more than 100000", str(problem))
        self.assertEqual(self.result(self.taker.invoke("take", [1])), 1)
        self.assertEqual(len(self.server.connections), 1)

    def test_waits_as_it_came(self) -> None:
        """What has to wait waits undecoded; what there is no room for is not decoded at all."""
        running = self.taker.invoke("wait")
        long: list[Any] = [{}] * 50_000
        waiting = [self.taker.invoke("take", long), self.taker.invoke("take", [1])]
        self.network.deliver()
        kept = [type(asked) for _, _, asked in self.server._queue]
        self.assertEqual(kept, [bytes, list])
        del self.decoded[:]
        self.failure(self.taker.invoke("take", long), Overloaded)
        self.assertEqual(self.decoded, [])
        running.addErrback(lambda _: None)
        running.cancel()
        self.assertEqual([self.result(call) for call in waiting], [50_000, 1])

    def test_long_message_that_is_no_request_ends_its_connection(self) -> None:
        """A long one that does not begin as a request ends its connection."""
        peer = next(iter(self.context.pool.peers.values()))
        assert peer.connection is not None
        core = peer.connection.open("invoke", peer.connection.encode([0] * 5000), end=True)
        self.failure(core.receive(), ProtocolViolation)
        self.assertEqual(self.result(self.taker.invoke("take", [1])), 1)
