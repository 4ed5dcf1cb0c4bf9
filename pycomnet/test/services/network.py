"""A network in memory, for servers and clients: bytes and time move only when the test says so."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet import defer, error
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IReactorThreads
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides

from pycomnet.services.client.context import Context
from pycomnet.services.interface import Service
from pycomnet.services.server.server import ServiceServer
from pycomnet.test.kit import ROUNDS, MemoryTransport, TurnClock


class Port:
    """What listens."""

    def __init__(self, network: Network, number: int, factory: Any, interface: str) -> None:
        self._network = network
        self._interface = interface or "127.0.0.1"
        self.number = number
        self.factory = factory

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", self._interface, self.number)

    def stopListening(self) -> defer.Deferred[None]:
        self._network.ports.pop(self.number, None)
        return defer.succeed(None)


class Side:
    """One end of a wire: a protocol and its transport."""

    def __init__(self, protocol: Any, host: int, peer: int) -> None:
        #: the connection itself, and not what Twisted's endpoints put round it
        self.protocol = getattr(protocol, "_wrappedProtocol", protocol)
        self.transport = MemoryTransport()
        self.transport.hostAddr = IPv4Address("TCP", "127.0.0.1", host)
        self.transport.peerAddr = IPv4Address("TCP", "127.0.0.1", peer)

    def lose(self, reason: Exception) -> None:
        if not self.transport.closed:
            self.transport.closed = True
            self.protocol.connectionLost(Failure(reason))


class Network(TurnClock):
    """A reactor whose sockets are in memory.

    :ivar ports: what listens, by its number.
    :ivar wires: the connections that there are, each as its client's and its server's side.
    :ivar threads: what was given to the thread pool, until :meth:`run_threads`.
    """

    def __init__(self) -> None:
        super().__init__()
        # Of IReactorThreads it has what is called, and its thread pool is the test's.
        alsoProvides(self, IReactorThreads)
        self.ports: dict[int, Port] = {}
        self.wires: list[tuple[Side, Side]] = []
        self.threads: list[Callable[[], None]] = []
        #: whether :meth:`deliver` runs those, too
        self.runs_threads = False
        #: ends of wires that lead to nobody
        self.lonely: list[Side] = []
        self._number = 40_000
        self._from_threads: deque[tuple[Callable[..., Any], Any, Any]] = deque()

    # -- what code under test calls --------------------------------------------------------------

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Port:
        if not port:
            self._number += 1
            port = self._number
        if port in self.ports:
            raise error.CannotListenError(interface, port, OSError("in use"))
        self.ports[port] = Port(self, port, factory, interface)
        factory.doStart()
        return self.ports[port]

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None
    ) -> Any:
        self.callLater(0, self._connect, port, factory)
        return Connector()

    def _connect(self, port: int, factory: Any) -> None:
        listening = self.ports.get(port)
        if listening is None:
            failure = Failure(error.ConnectionRefusedError())
            factory.clientConnectionFailed(None, failure)
            return
        self._number += 1
        address = IPv4Address("TCP", "127.0.0.1", self._number)
        accepted = listening.factory.buildProtocol(address)
        protocol = factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", port))
        if protocol is None:
            return
        client = Side(protocol, self._number, port)
        server = Side(accepted, port, self._number)
        if accepted is None:
            protocol.makeConnection(client.transport)
            client.lose(error.ConnectionDone())
            return
        self.wires.append((client, server))
        protocol.makeConnection(client.transport)
        accepted.makeConnection(server.transport)

    def join(self, accepted: Any) -> Side:
        """Connect a server's protocol to nobody; its side of the wire."""
        side = Side(accepted, 1, self._number)
        accepted.makeConnection(side.transport)
        self.lonely.append(side)
        return side

    def getThreadPool(self) -> Network:
        return self

    def callInThreadWithCallback(
        self, done: Callable[[bool, Any], None], function: Callable[..., Any], *args: Any, **kw: Any
    ) -> None:
        def run() -> None:
            try:
                result = function(*args, **kw)
            except BaseException:
                done(False, Failure())
            else:
                done(True, result)

        self.threads.append(run)

    def callFromThread(self, function: Callable[..., Any], *args: Any, **kw: Any) -> None:
        # The garbage collector may call this at any time, as when the clock sorts its calls.
        self._from_threads.append((function, args, kw))

    def advance(self, amount: float) -> None:
        while self._from_threads:
            function, args, kw = self._from_threads.popleft()
            self.callLater(0, function, *args, **kw)
        super().advance(amount)

    # -- what tests call -------------------------------------------------------------------------

    def run_threads(self) -> None:
        """Run what the thread pool was given."""
        threads, self.threads = self.threads, []
        for run in threads:
            run()

    def deliver(self) -> None:
        """Deliver all that is written, and what is due now, until there is nothing more."""
        for _ in range(ROUNDS):
            self.advance(0)
            moved = 0
            if self.runs_threads:
                self.run_threads()
            for client, server in list(self.wires):
                moved += self._move(client, server) + self._move(server, client)
                for side in (client, server):
                    transport = side.transport
                    if transport.disconnecting and not transport.value():
                        self.cut((client, server))
                        break
            for side in list(self.lonely):
                side.transport.take()
                if side.transport.disconnecting or side.transport.disconnected:
                    self.lonely.remove(side)
                    side.lose(error.ConnectionDone())
            if self.runs_threads and self.threads:
                continue
            if not moved and not self._is_due():
                return
        raise AssertionError("they never stop talking")

    def _is_due(self) -> bool:
        now = self.seconds()
        return bool(self._from_threads) or any(call.getTime() <= now for call in self.calls)

    def _move(self, source: Side, target: Side) -> int:
        data = source.transport.take()
        if data and not target.transport.closed:
            target.protocol.dataReceived(data)
        return len(data)

    def cut(self, wire: tuple[Side, Side] | None = None, reason: Exception | None = None) -> None:
        """End a connection at both ends; by default, all of them."""
        for one in [wire] if wire else list(self.wires):
            if one in self.wires:
                self.wires.remove(one)
                for side in one:
                    side.lose(reason or error.ConnectionDone())

    def wait(self, seconds: float, step: float = 0.25) -> None:
        """Let time pass, and deliver what is written meanwhile."""
        end = self.seconds() + seconds
        while self.seconds() < end:
            self.advance(min(step, end - self.seconds()))
            self.deliver()


class Connector:
    """What ``connectTCP`` returns."""

    def stopConnecting(self) -> None:
        """Nothing is under way for longer than a turn."""


class ServiceCase(SynchronousTestCase):
    """A test with a network, a server on it and a context that calls it."""

    services: tuple[type[Service], ...] = ()

    def setUp(self) -> None:
        self.network = Network()
        self.server = self.make_server()
        for service in self.services:
            self.successResultOf(self.server.add(service()))
        self.address = self.successResultOf(self.server.listen("tcp:0:interface=127.0.0.1"))
        self.context = Context(self.network)

    def call_worker(self) -> None:
        """Connect to the only service, whose threads run, as :attr:`remote`."""
        self.network.runs_threads = True
        self.remote = self.connect()
        self.worker: Any = self.server.services[0]

    def make_server(self) -> ServiceServer:
        """The server of the test."""
        return ServiceServer(self.network, threads=self.network)

    def result(self, deferred: defer.Deferred[Any]) -> Any:
        """What fires once all is delivered."""
        self.network.deliver()
        return self.successResultOf(deferred)

    def failure(self, deferred: defer.Deferred[Any], *types: type[Exception]) -> Any:
        """The error that it fails with once all is delivered."""
        self.network.deliver()
        return self.failureResultOf(deferred, *types).value

    def connect(self, interface: str | None = None) -> Any:
        """A remote service at the server."""
        return self.result(self.context.connect(self.address, interface))
