"""Routing of calls to one of several addresses of the same service: a nameserver's, for example."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReactorTime

from pycomnet.deferred import deferred
from pycomnet.services.client.instances import Instances
from pycomnet.services.client.race import Race
from pycomnet.services.client.reference import ServiceReference

if TYPE_CHECKING:
    from pycomnet.services.client.connection import ClientConnection
    from pycomnet.services.client.pool import PooledServer


class FailoverAddresses(Instances):
    """Several addresses, each as good as the others. One is called until it fails.

    So a client that registers at a nameserver and then asks it finds what it has registered. Which
    one it begins with is random: clients are spread over them.
    """

    interchangeable = True

    def __init__(
        self, peers: Sequence[PooledServer], reactor: IReactorTime, random: Random
    ) -> None:
        self._peers = list(peers)
        random.shuffle(self._peers)
        self._reactor = reactor
        self._current = self._peers[0]

    def __str__(self) -> str:
        return f"at {', '.join(sorted(peer.address for peer in self._peers))}"

    def pick(self) -> PooledServer:
        current = self._current
        if current.aside_until and current.aside_until > self._reactor.seconds():
            current = self._current = next(self._in_order(current, skip=1), current)
        return current

    def _in_order(self, first: PooledServer, skip: int = 0) -> Iterator[PooledServer]:
        """All of them, from one on; those that are set aside come last."""
        at = self._peers.index(first)
        turned = [*self._peers[at + skip :], *self._peers[:at]]
        now = self._reactor.seconds()
        yield from sorted(turned, key=lambda peer: peer.aside_until > now)

    @deferred
    async def reach(
        self, first: PooledServer | None = None, left: float | None = None
    ) -> tuple[PooledServer, ClientConnection]:
        order = self._in_order(first or self.pick())
        peer, connection = await Race(self._reactor, order, left).run()
        self._current = peer
        return peer, connection

    def may_return(self) -> bool:
        return any(peer.known for peer in self._peers)

    def reference(self, interface: str | None) -> ServiceReference:
        return ServiceReference(interface, address=self._current.address)
