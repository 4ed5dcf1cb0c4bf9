"""Members in memory: h2's server half answers the client, and bytes move when the test says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamReset
from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.etcd import EtcdClient
from pycomnet.etcd.grpc import framed
from pycomnet.etcd.protobuf import fields, message_field, number_field

ANSWER = [(":status", "200"), ("content-type", "application/grpc")]
#: Rounds of delivery after which two ends that still have something to say never stop.
ROUNDS = 1000


class PeerTransport(StringTransport):
    """What the client writes to; it may be aborted, and then tells nobody anything."""

    def __init__(self) -> None:
        super().__init__()
        self.is_aborted = False

    def setTcpNoDelay(self, enabled: bool) -> None:
        """It is memory."""

    def abortConnection(self) -> None:
        self.is_aborted = True


class Call:
    """A request that a member has got."""

    def __init__(self, peer: Peer, stream: int, headers: dict[str, str]) -> None:
        self.peer = peer
        self.stream = stream
        self.headers = headers
        self.data = b""
        self.is_reset = False
        self.has_answered = False

    @property
    def method(self) -> str:
        """The last part of its path."""
        return self.headers[":path"].rpartition("/")[2]

    @property
    def message(self) -> bytes:
        """Its first message."""
        return self.messages()[0]

    def messages(self) -> list[bytes]:
        """All that came yet."""
        found, data = [], self.data
        while len(data) >= 5:
            size = int.from_bytes(data[1:5], "big")
            found.append(data[5 : 5 + size])
            data = data[5 + size :]
        return found

    def number(self, field: int) -> int:
        """A field of its message that is a number; 0: it is not there."""
        return numbers_of(self.message).get(field, 0)

    def send(self, message: bytes) -> None:
        """Answer with a message, of a call that has more."""
        server = self.peer.server
        if not self.has_answered:
            self.has_answered = True
            server.send_headers(self.stream, ANSWER)
        server.send_data(self.stream, framed(message))

    def answer(self, message: bytes) -> None:
        """Answer with a message, and end the call."""
        self.send(message)
        self.end()

    def end(self, status: int = 0, text: str = "") -> None:
        """End the call with a status."""
        trailers = [("grpc-status", str(status)), ("grpc-message", text)]
        if not self.has_answered:
            trailers = ANSWER + trailers
        self.peer.server.send_headers(self.stream, trailers, end_stream=True)


class Peer:
    """A member's end of a connection.

    :ivar calls: what it was asked, and has not been taken by :meth:`take`.
    :ivar is_frozen: it reads nothing and writes nothing.
    """

    def __init__(self, factory: Any, port: int) -> None:
        self.port = port
        self.transport = PeerTransport()
        self.protocol = factory.buildProtocol(None)
        self.server = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.server.initiate_connection()
        self.streams: dict[int, Call] = {}
        self.calls: list[Call] = []
        self.is_frozen = False
        self.is_lost = False
        self.protocol.makeConnection(self.transport)

    def pump(self) -> bool:
        """Deliver what both ends have written. Returns whether there was something."""
        if self.is_frozen or self.is_lost:
            return False
        if self.transport.is_aborted:
            self.lose()
            return True
        sent = self.transport.value()
        self.transport.clear()
        for event in self.server.receive_data(sent) if sent else ():
            self.happened(event)
        received = self.server.data_to_send()
        if received:
            self.protocol.dataReceived(received)
        return bool(sent or received)

    def happened(self, event: Any) -> None:
        """Keep what a request says."""
        if isinstance(event, RequestReceived):
            headers: Any = dict(event.headers)
            call = Call(self, event.stream_id, headers)
            self.streams[event.stream_id] = call
            self.calls.append(call)
        elif isinstance(event, DataReceived):
            self.streams[event.stream_id].data += event.data
            if event.flow_controlled_length:
                self.server.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamReset):
            self.streams[event.stream_id].is_reset = True

    def lose(self) -> None:
        """The connection is lost."""
        if not self.is_lost:
            self.is_lost = True
            self.protocol.connectionLost(Failure(error.ConnectionLost()))


class EtcdTestCase(SynchronousTestCase):
    """A client, and the members to which it connects.

    :ivar peers: the connections, in the order in which they were made.
    """

    #: How many members there are: the ids of those that a status says are 1, 2 ...
    members = 1

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.peers: list[Peer] = []
        self.by_port: dict[int, list[Peer]] = {}
        self.leader = 1
        self.term = 1
        #: methods that are answered at once
        self.answers: dict[str, Callable[[Call], object]] = {"Status": self.answer_status}
        #: ports where nothing listens
        self.closed: set[int] = set()

    def client(self, **options: Any) -> EtcdClient:
        """A client, which is not connected."""
        endpoints = [f"tcp:127.0.0.1:{number}" for number in range(1, self.members + 1)]
        client = EtcdClient(endpoints, self.reactor, **options)
        self.addCleanup(client.close)
        return client

    def connected(self, **options: Any) -> EtcdClient:
        """A client that is connected to all members, and knows the leader."""
        client = self.client(**options)
        connecting = client.connect()
        self.run_all()
        self.successResultOf(connecting)
        return client

    def run_all(self, seconds: float = 0) -> None:
        """Let time pass, and everybody do what they can; statuses are answered."""
        self.reactor.advance(seconds)
        for _ in range(ROUNDS):
            moved = self.accept()
            for peer in list(self.peers):
                moved = peer.pump() or moved
            for peer in self.peers:
                moved = self.answer_statuses(peer) or moved
            if not moved:
                return
            self.reactor.advance(0)
        self.fail("the two ends never stop")

    def run_for(self, seconds: float, step: float = 0.25) -> None:
        """Let time pass in steps."""
        for _ in range(round(seconds / step)):
            self.run_all(step)

    def accept(self) -> bool:
        """Accept the connections that were asked for."""
        asked: list[Any] = list(self.reactor.tcpClients)
        del self.reactor.tcpClients[:]
        for _, port, factory, *_ in asked:
            if port in self.closed:
                factory.clientConnectionFailed(None, Failure(error.ConnectionRefusedError()))
                continue
            peer = Peer(factory, port)
            self.peers.append(peer)
            self.by_port.setdefault(port, []).append(peer)
        return bool(asked)

    def answer_statuses(self, peer: Peer) -> bool:
        """Answer what is answered always: who is the leader."""
        if peer.is_frozen or peer.is_lost:
            return False
        asked = [call for call in peer.calls if call.method in self.answers]
        for call in asked:
            peer.calls.remove(call)
            self.answers[call.method](call)
        return bool(asked)

    def answer_status(self, call: Call) -> None:
        """Say who is the leader."""
        call.answer(self.status(call.peer.port))

    def status(self, member: int) -> bytes:
        """A StatusResponse."""
        parts = header(5, member) + message_field(2, b"3.4.23") + number_field(4, self.leader)
        return parts + number_field(6, self.term)

    def peer(self, port: int = 1) -> Peer:
        """The newest connection to a member."""
        return self.by_port[port][-1]

    def call(self, method: str, port: int = 1) -> Call:
        """Take a call that a member has got."""
        self.run_all()
        peer = self.peer(port)
        found = [call for call in peer.calls if call.method == method and not call.is_reset]
        self.assertTrue(found, f"member {port} got {[call.method for call in peer.calls]}")
        peer.calls.remove(found[0])
        return found[0]

    def has_call(self, method: str, port: int = 1) -> bool:
        """Whether a member has got a call that was not taken."""
        self.run_all()
        return any(
            call.method == method and not call.is_reset
            for peer in self.by_port.get(port, [])
            for call in peer.calls
            if not peer.is_lost
        )

    def fails(self, deferred: Deferred[Any], kind: type[Exception]) -> Any:
        """The error of a Deferred that has failed with it, and with no subclass."""
        problem = self.failureResultOf(deferred).value
        self.assertIs(type(problem), kind, repr(problem))
        return problem


def header(revision: int, member: int = 1, field: int = 1) -> bytes:
    """A field with a ResponseHeader."""
    ids = number_field(1, 0xCDF818194E3A8C32) + number_field(2, member)
    return message_field(field, ids + number_field(3, revision) + number_field(4, 1))


def key_value(key: bytes, value: bytes, revision: int, lease: int = 0) -> bytes:
    """A KeyValue."""
    numbers = number_field(2, revision) + number_field(3, revision) + number_field(4, 1)
    return message_field(1, key) + numbers + message_field(5, value) + number_field(6, lease)


def events(*found: bytes, revision: int = 5, fragment: bool = False) -> bytes:
    """A WatchResponse with events."""
    parts = header(revision) + number_field(7, fragment)
    return parts + b"".join(b"\x5a" + _sized(event) for event in found)


def put_event(key: bytes, value: bytes, revision: int) -> bytes:
    """An Event of a put."""
    return message_field(2, key_value(key, value, revision))


def _sized(data: bytes) -> bytes:
    return message_field(1, data)[1:]


def numbers_of(message: bytes) -> dict[int, int]:
    """The fields of a message that are numbers."""
    found = fields(message, 0, len(message))
    return {tag >> 3: value for tag, value, _ in found if not tag & 7}


def bytes_of(message: bytes) -> dict[int, bytes]:
    """The fields of a message that are bytes."""
    found = fields(message, 0, len(message))
    return {tag >> 3: message[start:end] for tag, start, end in found if tag & 7 == 2}
