"""The bound: bare Twisted echoing as many bytes as a call of pycomnet's is on the wire.

Both ends are Twisted protocols on the epoll reactor. The server writes back what it reads. The
client has so many messages under way; one counts as answered when as many bytes as it has are back,
and then the next is written. Nothing is encoded, looked up or awaited.
"""

from __future__ import annotations

import socket
import statistics
import sys
import time
from collections import deque
from typing import Any

import bare_loop
import calls
import measure
from measure import Amounts
from twisted.internet import endpoints, epollreactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import react
from twisted.python.failure import Failure

#: As large as pycomnet's own, or a megabyte would be read in sixteen pieces.
BULK = 1 << 20


class Echo(Protocol):
    """The server."""

    def connectionMade(self) -> None:
        self.transport.bufferSize = self.transport.SEND_LIMIT = BULK

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


class Client(Protocol):
    """Writes messages and counts bytes."""

    def connectionMade(self) -> None:
        self.transport.bufferSize = self.transport.SEND_LIMIT = BULK

        self._waiting: deque[Deferred[None]] = deque()
        self._bytes = self._unanswered = self._unsent = 0

    def start(self, message: bytes, count: int, flight: int) -> Deferred[None]:
        """Have so many messages answered, so many of them under way at a time."""
        self._message = message
        self._size = len(message)
        self._unsent = count - min(flight, count)
        self._unanswered = count
        self._done: Deferred[None] = Deferred()
        for _ in range(min(flight, count)):
            self.transport.write(message)
        return self._done

    def ask(self, message: bytes) -> Deferred[None]:
        """Write a message whose answer somebody awaits."""
        self._size = len(message)
        self.transport.write(message)
        answer: Deferred[None] = Deferred()
        self._waiting.append(answer)
        return answer

    def dataReceived(self, data: bytes) -> None:
        answered, self._bytes = divmod(self._bytes + len(data), self._size)
        for _ in range(answered):
            if self._waiting:
                self._waiting.popleft().callback(None)
                continue
            self._unanswered -= 1
            if self._unsent:
                self._unsent -= 1
                self.transport.write(self._message)
            if not self._unanswered:
                self._done.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._unanswered:
            self._done.errback(reason)


def greet(connection: socket.socket) -> None:
    """Have a byte echoed, so that the server has taken the connection."""
    connection.sendall(b"x")
    connection.recv(1)


def serve() -> None:
    if sys.argv[2:] in ([bare_loop.LOOP], [bare_loop.OBJECTS]):
        bare_loop.serve()
        return
    epollreactor.install()

    async def main(reactor: Any) -> None:
        endpoint = endpoints.TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        port = await endpoint.listen(Factory.forProtocol(Echo))
        calls.announce(str(port.getHost().port))
        await Deferred()

    react(main)


def _gather(callers: list[Any]) -> Deferred[Any]:
    return gatherResults([Deferred.fromCoroutine(caller) for caller in callers])


def run(job: str, amounts: Amounts) -> calls.Figures:
    if job == "idle":
        with calls.server(__file__) as port:
            return calls.idle_memory(port, amounts, greet)
    if job in bare_loop.JOBS:
        return bare_loop.run(job, __file__, amounts)
    one, flying = calls.amount(job, amounts)
    message = bytes(calls.WIRE_SIZES[job])
    found: calls.Figures = {}

    async def main(reactor: Any) -> None:
        with calls.server(__file__) as port:
            endpoint = endpoints.TCP4ClientEndpoint(reactor, "127.0.0.1", int(port))
            client = await endpoints.connectProtocol(endpoint, Client())
            for count in measure.both(one):
                times = []
                for _ in range(count):
                    start = time.perf_counter()
                    await client.start(message, 1, 1)
                    times.append(time.perf_counter() - start)
            alone = statistics.median(times)
            for count in measure.both(flying):
                start = time.perf_counter()
                await client.start(message, count, calls.FLIGHT)
                took = time.perf_counter() - start
            found.update(calls.figures(job, alone, flying / took))
            awaited = await calls.flight(lambda: client.ask(message), flying, _gather)
            found[f"{job}_flight_awaited"] = awaited

    measure.run_reactor(main)
    return found


if __name__ == "__main__":
    calls.program(serve, run)
