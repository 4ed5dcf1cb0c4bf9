"""A proxy on a long line: bytes arrive later, and it counts how often somebody waits for them."""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.protocols import portforward


class _Half:
    """Half of a proxied connection."""

    peer: Any
    transport: Any

    def dataReceived(self, data: bytes) -> None:
        self.proxy().carry(self, self.peer, data)

    def proxy(self) -> DelayProxy:
        raise NotImplementedError


class _Client(_Half, portforward.ProxyClient):
    def proxy(self) -> DelayProxy:
        made: DelayProxy = self.peer.factory
        return made


class _ClientFactory(portforward.ProxyClientFactory):
    protocol = _Client


class _Server(_Half, portforward.ProxyServer):
    clientProtocolFactory = _ClientFactory
    factory: Any

    def proxy(self) -> DelayProxy:
        made: DelayProxy = self.factory
        return made


class DelayProxy(portforward.ProxyFactory):
    """Forwards one connection to a port of this machine; each byte takes a while.

    Each end has a clock of its own. What it sends is stamped with its time plus one, and the other
    end's clock is set to that stamp, if it is behind, when it arrives. So a clock says how many
    times in turn one end has waited for the other, however long each takes to do its work.

    :param delay: seconds, each way: longer than an end takes to send all that it can.
    :ivar turns: the later one of the clocks.
    """

    protocol = _Server
    noisy = False

    def __init__(self, port: int, delay: float, reactor: Any) -> None:
        super().__init__("127.0.0.1", port)
        self._delay = delay
        self._reactor = reactor
        self._clocks: dict[Any, int] = {}

    @property
    def turns(self) -> int:
        return max(self._clocks.values(), default=0)

    def carry(self, sender: Any, receiver: Any, data: bytes) -> None:
        """Some bytes came from an end."""
        stamp = self._clocks.setdefault(sender, 0) + 1

        def deliver() -> None:
            self._clocks[receiver] = max(self._clocks.get(receiver, 0), stamp)
            receiver.transport.write(data)

        self._reactor.callLater(self._delay, deliver)

    def start_again(self) -> None:
        """Set both clocks to zero; nothing is on its way."""
        self._clocks = dict.fromkeys(self._clocks, 0)

    async def listen(self) -> Any:
        """Listen on a free port, which is returned."""
        return await TCP4ServerEndpoint(self._reactor, 0, interface="127.0.0.1").listen(self)
