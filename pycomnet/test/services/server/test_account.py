"""What a server holds for its clients, all in one account: requests, blocks, results, channels."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer

from pycomnet.channels.memory import COUNT_EVERY
from pycomnet.errors import CallInterrupted, ConnectionLost, Overloaded
from pycomnet.services.binary import IN_MEMORY, Binary
from pycomnet.services.client.context import Context
from pycomnet.services.interface import Service, interface, method
from pycomnet.services.server.limits import ServerLimits
from pycomnet.services.server.server import ServiceServer
from pycomnet.services.server.streaming import StreamFeed
from pycomnet.test.kit import Pair
from pycomnet.test.services.network import ServiceCase
from pycomnet.wire.stream import Limits

MOST = 20 << 20
PAYLOAD = b"\xc5\x27\x10" + bytes(10_000)


@interface("org.example.holder")
class Holder(Service):
    """Its calls wait, or have much to say."""

    def __init__(self) -> None:
        self.waiting: list[defer.Deferred[Any]] = []

    @method()
    def wait(self, request: Any) -> defer.Deferred[Any]:
        self.waiting.append(defer.Deferred())
        return self.waiting[-1]

    @method()
    def much(self, request: Any) -> bytes:
        return bytes(request.args)

    @method()
    def much_later(self, request: Any) -> defer.Deferred[bytes]:
        return self.wait(request)  # type: ignore[no-any-return]

    @method()
    def fail(self, request: Any) -> None:
        raise ValueError("x" * request.args)

    @method(stream=True)
    def stream(self, request: Any) -> Any:
        while True:
            self.waiting.append(defer.Deferred())
            yield bytes(request.args)

    @method(stream=True)
    def encoded(self, request: Any) -> Any:
        return Encoded()


class Encoded(StreamFeed):
    """Sends encoded values as long as it need not wait."""

    called = False

    def begin(self, call: Any) -> None:
        self.call = call
        self.callback(None)

    def callback(self, _: object) -> None:
        while self.call.connection.send_encoded(self.call, PAYLOAD, self):
            pass

    def ended(self) -> None:
        pass


class AccountTests(ServiceCase):
    """A server that may hold 20 MB, and 10 of requests."""

    services = (Holder,)

    def make_server(self) -> ServiceServer:
        limits = ServerLimits(held=MOST // 2, memory=MOST)
        return ServiceServer(self.network, limits=limits, tracebacks=False)

    def setUp(self) -> None:
        super().setUp()
        self.remote = self.connect("org.example.holder")
        self.service: Any = self.server.services[0]

    def counted(self) -> int:
        """What is held, counted now."""
        for connection in self.server.connections:
            self.server.memory.count(connection)
        return self.server.stat()["memory"]["held"]  # type: ignore[no-any-return]

    def stop_reading(self) -> Any:
        """The client takes nothing more; the server's side of its connection."""
        (wire,) = self.network.wires
        transport: Any = wire[1].transport
        transport.producer.pauseProducing()
        return wire[1].protocol

    def test_arguments_count_until_answered(self) -> None:
        """Arguments of calls that run are in it, until they are answered."""
        calls = [self.remote.invoke("wait", bytes(1_000_000)) for _ in range(5)]
        self.network.deliver()
        self.assertIn(self.counted() - 5_000_000, range(1000))
        calls[0].cancel()
        self.failure(calls.pop(0), defer.CancelledError)
        self.service.waiting[1].callback(None)
        self.result(calls.pop(0))
        self.assertIn(self.counted() - 3_000_000, range(1000))
        self.network.cut()
        for call in calls:
            self.failure(call, CallInterrupted)
        self.assertEqual((self.counted(), self.server.held.size), (0, 0))

    def test_blocks_in_memory_count_and_files_do_not(self) -> None:
        """So are the blocks that are in memory, and count among the requests; longer ones are in
        files."""
        size = IN_MEMORY - 1000
        call = self.remote.invoke("wait", None, None, [Binary(bytes(size))] * 10)
        self.network.deliver()
        self.assertIn(self.counted() - 10 * size, range(2000))
        blocks = [Binary(bytes(size))] * 15
        more = [self.remote.invoke("wait", None, None, blocks) for _ in "abcd"]
        self.network.deliver()
        refused = [call for call in more if call.called]
        self.assertIn(len(refused), (2, 3))
        for one in refused:
            self.failure(one, Overloaded)
        self.assertLess(self.server.held.size, MOST // 2)
        for waiting in self.service.waiting:
            waiting.callback(None)
        for one in [call, *more]:
            if one not in refused:
                self.result(one)
        self.assertEqual((self.counted(), self.server.held.size), (0, 0))

    def test_unread_results_count_and_cost_their_client_its_connection(self) -> None:
        """Results that a client does not read are in it, as errors are; the client that has most
        of them loses its connection, and others go on."""
        other = Context(self.network)
        good = self.result(other.connect(self.address, "org.example.holder"))
        for name in ("much", "fail"):
            self.assert_bounded(good, name)

    def assert_bounded(self, good: Any, name: str) -> None:
        context = Context(self.network)
        before = set(self.server.connections)
        remote = self.result(context.connect(self.address, "org.example.holder"))
        greedy: Any
        (greedy,) = set(self.server.connections) - before
        greedy.transport.producer.pauseProducing()
        size = 50_000
        calls = []
        for _ in range(MOST // size + 100):
            calls.append(remote.invoke(name, size))
            self.network.deliver()
            if greedy.broken:
                break
            self.assertLess(greedy.held_bytes(), MOST + COUNT_EVERY + 200_000)
        self.assertTrue(greedy.broken, "it may hold any amount")
        self.assertEqual(self.result(good.invoke("much", 10)), bytes(10))
        self.network.wait(10)
        for call in calls:
            self.failure(call, ConnectionLost, CallInterrupted)
        self.assertLess(self.counted(), 1000)

    def test_results_of_deferreds(self) -> None:
        """So do results that came later."""
        calls = [self.remote.invoke("much_later") for _ in range(MOST // 50_000 + 100)]
        self.network.deliver()
        server = self.stop_reading()
        for waiting in self.service.waiting:
            waiting.callback(bytes(50_000))
        self.assertTrue(server.broken)
        self.network.wait(10)
        for call in calls:
            self.failure(call, ConnectionLost, CallInterrupted)

    def test_streams_of_one_turn_do_not_fill_a_window_each(self) -> None:
        """Streams that begin in the same turn don't fill a window each, before the transport has
        said whether it takes that."""
        (wire,) = self.network.wires
        wire[1].transport.capacity = 100_000
        streams = [self.remote.stream("stream", 10_000) for _ in range(30)]
        server = wire[1].protocol
        self.network.advance(0)  # the client writes all but the first of them in the next turn
        self.network._move(*wire)
        self.assertLess(len(self.service.waiting), 300)
        self.assertLess(server.held_bytes(), 4 << 20)
        self.assertEqual(len(streams), 30)

    def test_streams_that_go_on_in_one_turn_do_not_fill_a_window_each(self) -> None:
        """So do those that waited for the transport, and go on all at once."""
        (wire,) = self.network.wires
        transport = wire[1].transport
        transport.capacity = 1 << 20  # more than one value of each
        streams = [self.remote.stream("stream", 10_000) for _ in range(30)]
        self.network.advance(0)
        self.network._move(*wire)
        for _ in range(10):
            transport.take()
            self.assertLess(len(transport.value()), 3 << 20)
        self.assertGreater(len(self.service.waiting), 100)
        self.assertEqual(len(streams), 30)

    def test_stream_with_much_credit_waits_for_the_transport(self) -> None:
        """A client may give 64 MB of credit, and read slowly: the limit of the transport counts."""
        for kind in ("stream", "encoded"):
            context = Context(self.network)
            context.limits = Limits(window=1 << 26)
            remote = self.result(context.connect(self.address, "org.example.holder"))
            wire = self.network.wires[-1]
            transport = wire[1].transport
            transport.capacity = 100_000
            stream = remote.stream(kind, 10_000)
            self.network._move(*wire)
            for _ in range(10):
                self.assertTrue(transport.paused)
                self.assertLess(len(transport.value()), 4 << 20)
                transport.take()
            del stream


class ClosedChannelTests(ServiceCase):
    """Channels that a peer has closed, while somebody here still has them in hands."""

    def test_closed_channels_count_until_taken(self) -> None:
        """What was left on them counts until it is taken."""
        pair = Pair()
        pair.far.account = self.server.memory
        channel: Any = pair.near.make_handle(pair.near.open("test", raw=True))
        pair.pump()
        (there,) = pair.accepted
        for _ in range(10):
            channel.send(bytes(50_000))
        pair.pump()
        self.assertGreaterEqual(pair.far.held_bytes(), 500_000)
        channel.close()
        pair.pump()
        self.assertGreaterEqual(pair.far.held_bytes(), 500_000)
        for _ in range(4):
            self.successResultOf(there.receive())
        self.assertIn(pair.far.held_bytes() - 300_000, range(5000))
        for _ in range(6):
            self.successResultOf(there.receive())
        self.assertEqual(pair.far.held_bytes(), 0)
