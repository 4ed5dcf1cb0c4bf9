"""What has to work under every reactor: ``python -m ... REACTOR`` runs all of it, and exits.

The reactor is chosen before anything imports the default one, which is why this is a program.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet import defer, endpoints, protocol, ssl, task
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

import pycomnet
from pycomnet.channels.connection import Connection
from pycomnet.test.processes import still_there

#: For bulk transfers each way.
SIZE = 20_000_000
#: Seconds that one check may take.
TIMEOUT = 120

VALUES = [None, True, -1, 2**200, 1.5, 1j, "ä\ud800", b"\0\xff", (1, [2]), {3}, {"k": (4,)}]


def install(name: str) -> None:
    """Make it the reactor of this process."""
    if name == "epoll":
        from twisted.internet import epollreactor

        epollreactor.install()
    elif name == "select":
        from twisted.internet import selectreactor

        selectreactor.install()
    elif name == "asyncio":
        import asyncio

        from twisted.internet import asyncioreactor

        asyncioreactor.install(asyncio.new_event_loop())
    elif name == "uvloop":
        import uvloop
        from twisted.internet import asyncioreactor

        asyncioreactor.install(uvloop.new_event_loop())
    else:
        raise ValueError(name)


def add(a, b):
    return a + b


def echo(channel):
    for value in channel:
        channel.send(value)


def nap(seconds):
    import time

    time.sleep(seconds)


async def fails(awaitable: Awaitable[Any], *errors: type[BaseException]) -> Any:
    """The error that it fails with, which must be one of these."""
    try:
        result = await awaitable
    except errors as error:
        return error
    raise AssertionError(f"it gave {result!r}")


async def check_call(group: pycomnet.Group, reactor: Any) -> None:
    """Functions are called, one after the other and at the same time."""
    gw = await group.makegateway("popen")
    assert await gw.call(add, 1, b=2) == 3
    results = await defer.gatherResults([gw.call(add, n, n) for n in range(100)])
    assert results == [2 * n for n in range(100)]


async def check_values(group: pycomnet.Group, reactor: Any) -> None:
    """Code is run, and values come back as they were."""
    gw = await group.makegateway("popen")
    channel = gw.remote_exec(echo)
    for value in VALUES:
        await channel.send(value)
        assert await channel.receive() == value
    channel.send_end()
    await channel.waitclose()
    assert [n async for n in gw.remote_exec("for n in range(5): channel.send(n)")] == [*range(5)]


async def check_bulk(group: pycomnet.Group, reactor: Any) -> None:
    """Megabytes go there and back, as one value and in pieces, at the same time."""
    gw = await group.makegateway("popen")
    data = os.urandom(SIZE)
    channel = gw.remote_exec(echo)
    sent, back = channel.send(data), channel.receive()
    pieces = gw.remote_exec(
        """
        data = channel.receive()
        size = 0
        for start in range(0, len(data), 50000):
            channel.send(data[start : start + 50000])
        """
    )
    await pieces.send(data)
    assert b"".join([piece async for piece in pieces]) == data
    await sent
    assert await back == data


async def check_flow(group: pycomnet.Group, reactor: Any) -> None:
    """Who sends faster than the other receives waits, both ways; others are not held up."""
    gw = await group.makegateway("popen")
    report = gw.newchannel()
    slow = gw.remote_exec(
        """
        import time
        for n in range(200):
            channel.send(bytes(20000))
            if n == 30:
                report.send("thirty")
        report.send("all")
        for value in channel:
            pass
        """,
        report=report,
    )
    assert await report.receive() == "thirty"
    sends = [slow.send(bytes(20_000)) for _ in range(200)]
    assert await gw.call(add, 1, 2) == 3
    assert not sends[-1].called
    waiting = report.receive()
    assert not waiting.called
    values: list[int] = []

    def take(value: bytes) -> defer.Deferred[None]:
        values.append(len(value))
        return task.deferLater(reactor, 0)

    slow.setcallback(take)
    assert await waiting == "all"
    await defer.gatherResults(sends)
    slow.close()


async def check_error(group: pycomnet.Group, reactor: Any) -> None:
    """What code raises arrives, and harms nothing."""
    gw = await group.makegateway("popen")
    error = await fails(gw.remote_exec("channel.send(1)\n1/0").waitclose(), pycomnet.RemoteError)
    assert (error.type, "line 2" in error.formatted) == ("ZeroDivisionError", True)
    error = await fails(gw.call("operator:truediv", 1, 0), pycomnet.RemoteError)
    assert error.type == "ZeroDivisionError"
    assert await gw.call(add, 1, 2) == 3


async def check_output(group: pycomnet.Group, reactor: Any) -> None:
    """What is printed comes here."""
    printed: defer.DeferredQueue[str] = defer.DeferredQueue()
    gw = await group.makegateway("popen")
    gw.setoutput(lambda output: printed.put(output.text))
    channel = gw.remote_exec("print('hello')")
    text = ""
    while text != "hello\n":
        text += await printed.get()
    await channel.waitclose()


async def check_cancel(group: pycomnet.Group, reactor: Any) -> None:
    """A wait can be given up, in time."""
    gw = await group.makegateway("popen")
    channel = gw.remote_exec("channel.send(channel.receive())")
    await fails(channel.receive().addTimeout(0.05, reactor), defer.TimeoutError)
    await channel.send("later")
    assert await channel.receive() == "later"


async def check_raw(group: pycomnet.Group, reactor: Any) -> None:
    """A protocol runs on a raw channel."""
    gw = await group.makegateway("popen")
    raw = gw.newchannel(raw=True)
    gw.remote_exec("for data in raw: raw.send(data.upper())", raw=raw)
    lost: defer.Deferred[bytes] = defer.Deferred()

    class Client(protocol.Protocol):
        got = b""

        def connectionMade(self) -> None:
            self.transport.write(b"x" * 200_000)  # type: ignore[union-attr]

        def dataReceived(self, data: bytes) -> None:
            self.got += data
            if len(self.got) == 200_000:
                self.transport.loseConnection()  # type: ignore[union-attr]

        def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
            lost.callback(self.got)

    raw.attach(Client())
    assert await lost == b"X" * 200_000


async def check_killed(group: pycomnet.Group, reactor: Any) -> None:
    """A far side that is killed is noticed at once, with the reason."""
    gw = await group.makegateway("popen")
    waiting = [gw.remote_exec("channel.receive()").receive(), gw.call(nap, 60), gw.ping()]
    await waiting.pop()
    os.kill(gw.info["pid"], signal.SIGKILL)
    for deferred in waiting:
        error = await fails(deferred, pycomnet.GatewayDied)
        assert error.signal == signal.SIGKILL, error
    assert not gw.isalive()


async def check_not_started(group: pycomnet.Group, reactor: Any) -> None:
    """What isn't a far side is found out, with what it said."""
    error = await fails(group.makegateway("popen//python=/bin/false"), pycomnet.GatewayNotStarted)
    assert error.exit_status == 1, error
    await fails(group.makegateway("popen//python=/nowhere"), pycomnet.GatewayNotStarted)


async def check_terminate(group: pycomnet.Group, reactor: Any) -> None:
    """Gateways start side by side, and all end, whatever their code does."""
    gateways = await defer.gatherResults([group.makegateway("popen") for _ in range(3)])
    pids = [gw.info["pid"] for gw in gateways]
    busy = gateways[0].remote_exec("while True: pass")
    waiting = gateways[1].remote_exec("channel.receive()").receive()
    await group.terminate(0.2)
    await fails(waiting, pycomnet.ConnectionLost)
    await fails(busy.receive(), pycomnet.ConnectionLost)
    assert await deferToThread(still_there, pids) == []
    assert len(group) == 0


async def connected(
    reactor: Any, server: endpoints.TCP4ServerEndpoint | Any, client: Callable[[int], Any]
) -> tuple[Connection, Connection, Any]:
    """Two connections over a socket of this machine."""
    accepted: defer.Deferred[Connection] = defer.Deferred()

    class Factory(protocol.Factory):
        def buildProtocol(self, addr: object) -> Connection:
            connection = Connection(reactor, initiator=False)
            reactor.callLater(0, accepted.callback, connection)
            return connection

    port = await server.listen(Factory())
    near = Connection(reactor)
    await endpoints.connectProtocol(client(port.getHost().port), near)
    far = await accepted
    await defer.gatherResults([near.when_ready(), far.when_ready()])
    return near, far, port


async def exchange(near: Connection, far: Connection) -> None:
    """Bulk both ways, then a goodbye that arrives behind it."""
    opened: defer.Deferred[Any] = defer.Deferred()
    far.purposes["bulk"] = opened.callback
    core = near.open("bulk")
    other = await opened
    data = os.urandom(SIZE)
    payload = near.encode(data)
    sends = [core.send(payload), other.send(payload)]
    there, back = other.receive(), core.receive()
    assert await near.ping() < TIMEOUT
    assert await there == data
    assert await back == data
    await defer.gatherResults(sends)
    waiting = [core.receive(), other.receive(), other.receive()]
    core.send(near.encode("last"))
    near.goodbye()
    assert await waiting[1] == "last"
    await fails(waiting[0], pycomnet.ConnectionLost)
    error = await fails(waiting[2], pycomnet.ConnectionLost)
    assert error.reason == "the other end said goodbye", error


async def check_tcp(group: pycomnet.Group, reactor: Any) -> None:
    """A connection runs over TCP."""
    near, far, port = await connected(
        reactor,
        endpoints.TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1"),
        lambda number: endpoints.TCP4ClientEndpoint(reactor, "127.0.0.1", number),
    )
    await exchange(near, far)
    await port.stopListening()


async def check_tls(group: pycomnet.Group, reactor: Any) -> None:
    """And over TLS."""
    import trustme

    authority = trustme.CA()
    own = authority.issue_cert("localhost")
    certificate = ssl.PrivateCertificate.loadPEM(
        own.cert_chain_pems[0].bytes() + own.private_key_pem.bytes()
    )
    root = ssl.Certificate.loadPEM(authority.cert_pem.bytes())
    near, far, port = await connected(
        reactor,
        endpoints.SSL4ServerEndpoint(reactor, 0, certificate.options(), interface="127.0.0.1"),
        lambda number: endpoints.wrapClientTLS(
            ssl.optionsForClientTLS("localhost", trustRoot=root),
            endpoints.TCP4ClientEndpoint(reactor, "127.0.0.1", number),
        ),
    )
    await exchange(near, far)
    await port.stopListening()


async def check_garbage(group: pycomnet.Group, reactor: Any) -> None:
    """A peer that sends garbage loses its connection, and this end goes on."""
    near, far, port = await connected(
        reactor,
        endpoints.TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1"),
        lambda number: endpoints.TCP4ClientEndpoint(reactor, "127.0.0.1", number),
    )
    opened: defer.Deferred[Any] = defer.Deferred()
    far.purposes["test"] = opened.callback
    waiting = near.open("test").receive()
    there = (await opened).receive()
    near.transport.write(b"GET / HTTP/1.0\r\n\r\n")  # type: ignore[union-attr]
    error = await fails(waiting, pycomnet.ProtocolViolation)
    assert (error.code, error.reason[:28]) == ("frame", "the other end refused what t"), error
    error = await fails(there, pycomnet.ProtocolViolation)
    assert error.reason.endswith("unknown frame type 47"), error
    await port.stopListening()


CHECKS: list[Callable[[pycomnet.Group, Any], Any]] = [
    value for name, value in globals().copy().items() if name.startswith("check_")
]


async def run_all(reactor: Any) -> None:
    """All checks, each with a group of its own; print the reactor's name and theirs."""
    loop = getattr(reactor, "_asyncioEventloop", None)
    print(type(reactor).__name__, type(loop).__module__.partition(".")[0])
    for check in CHECKS:
        print(check.__name__, flush=True)
        group = pycomnet.Group(reactor)
        await defer.Deferred.fromCoroutine(check(group, reactor)).addTimeout(TIMEOUT, reactor)
        await group.close()


if __name__ == "__main__":
    install(sys.argv[1])
    task.react(lambda reactor: defer.ensureDeferred(run_all(reactor)))
