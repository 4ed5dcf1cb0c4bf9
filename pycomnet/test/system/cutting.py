"""A proxy that cuts its connections at random bytes, and what goes through it all the same."""

from __future__ import annotations

import hashlib
import os
import random
import time
from typing import Any

import attrs
from twisted.internet import defer
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import connectionDone
from twisted.protocols import portforward

import pycomnet
from pycomnet.test.processes import resident
from pycomnet.test.waiting import until

#: Descriptors that the server may have more than at the beginning: the connections there are.
LEFT = 4


class _Half:
    """Half of a proxied connection; it forwards what is left until the cut."""

    factory: Any
    peer: Any
    transport: Any

    def dataReceived(self, data: bytes) -> None:
        proxy = self.proxy()
        if self.connection() not in proxy.left:
            return  # it is cut, and this end has not seen so yet
        left = proxy.left[self.connection()] - len(data)
        proxy.left[self.connection()] = left
        if left > 0 or proxy.cuts >= proxy.most:
            proxy.carried += len(data)
            self.peer.transport.write(data)
            return
        data = data[: len(data) + left]
        proxy.carried += len(data)
        if data:
            self.peer.transport.write(data)
        proxy.cuts += 1
        del proxy.left[self.connection()]
        for transport in (self.transport, self.peer.transport):
            # With what was written before, or without; by an end, or by a reset.
            if proxy.random.random() < 0.5:
                transport.abortConnection()
            else:
                transport.unregisterProducer()
                transport.loseConnection()

    def connection(self) -> Any:
        raise NotImplementedError

    def proxy(self) -> CutProxy:
        raise NotImplementedError


class _Client(_Half, portforward.ProxyClient):
    def connection(self) -> Any:
        return self.peer

    def proxy(self) -> CutProxy:
        made: CutProxy = self.peer.factory
        return made


class _ClientFactory(portforward.ProxyClientFactory):
    protocol = _Client


class _Server(_Half, portforward.ProxyServer):
    clientProtocolFactory = _ClientFactory

    def connectionMade(self) -> None:
        self.factory.left[self] = self.factory.random.randrange(1, self.factory.size)
        super().connectionMade()

    def connectionLost(self, reason: Any = connectionDone) -> None:
        self.factory.left.pop(self, None)
        super().connectionLost(reason)

    def connection(self) -> Any:
        return self

    def proxy(self) -> CutProxy:
        made: CutProxy = self.factory
        return made


class CutProxy(portforward.ProxyFactory):
    """Forwards to a port of this machine, and cuts each connection after some bytes.

    :param size: the most bytes that one carries, both ways together.
    :param most: connections that are cut; those after them are not.
    :ivar cuts: how many were cut.
    :ivar carried: bytes that went through.
    """

    protocol = _Server
    noisy = False

    def __init__(self, port: int, size: int, most: int, seed: int) -> None:
        super().__init__("127.0.0.1", port)
        self.size = size
        self.most = most
        self.random = random.Random(seed)
        self.cuts = 0
        self.carried = 0
        #: bytes that each connection still carries
        self.left: dict[Any, int] = {}

    async def listen(self, reactor: Any) -> Any:
        """Listen on a free port, which is returned."""
        return await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(self)


@attrs.frozen
class Carried:
    """What became of it.

    :ivar grown: bytes that the server's memory grew by.
    """

    cuts: int
    blocks: int
    seconds: float
    grown: int


def mirror(channel: Any) -> None:
    """Far code: send back what comes, and at the end how much of what that was."""
    import hashlib

    total, digest = 0, hashlib.sha256()
    for block in channel:
        if block is None:
            break
        total += len(block)
        digest.update(block)
        channel.send(block)
    channel.send((total, digest.hexdigest()))


def block_of(number: int, size: int) -> bytes:
    """Bytes that no other block has."""
    return hashlib.sha256(number.to_bytes(8, "big")).digest() * (size // 32)


async def carry_through_cuts(
    reactor: Any,
    port: int,
    server: int,
    options: str,
    blocks: int,
    size: int,
    cuts: int,
    seed: int = 1,
) -> Carried:
    """Send blocks to a far side and back through a proxy that cuts, and check every byte.

    The server has to have given up what was cut: it may keep no descriptor of that.

    :param port: the mediator's.
    :param server: its process, whose memory is looked at.
    :param options: of the gateway's spec.
    """
    mean = 2 * blocks * size // max(cuts, 1)
    proxy = CutProxy(port, max(2 * mean * 3 // 4, 1000), cuts, seed)
    listening = await proxy.listen(reactor)
    spec = f"http=127.0.0.1:{listening.getHost().port}//{options}"
    group = pycomnet.Group(reactor)
    begun = time.monotonic()
    try:
        gateway = await group.makegateway(spec)
        before = resident(server), len(os.listdir(f"/proc/{server}/fd"))
        channel = gateway.remote_exec(mirror)
        whole = hashlib.sha256()

        async def send() -> None:
            number = 0
            while number < blocks or proxy.cuts < cuts:
                block = block_of(number, size)
                whole.update(block)
                await channel.send(block)
                number += 1
            await channel.send(None)

        sending = defer.Deferred.fromCoroutine(send())
        number = 0
        while True:
            got = await channel.receive()
            if isinstance(got, tuple):
                break
            assert got == block_of(number, size), f"block {number} is not what was sent"
            number += 1
        await sending
        assert got == (number * size, whole.hexdigest()), (got, number * size)
        seconds = time.monotonic() - begun
        # What was cut is over for the server, too, once it has got to know that.
        await until(
            lambda: len(os.listdir(f"/proc/{server}/fd")) - before[1] <= LEFT,
            "the server has no descriptors of what was cut",
        )
        grown = resident(server) - before[0]
    finally:
        await group.close()
        await defer.maybeDeferred(listening.stopListening)
    return Carried(proxy.cuts, number, seconds, grown)
