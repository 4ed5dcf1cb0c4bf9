"""A caller's end of a connection to a server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from pycomnet.channels.connection import Connection
from pycomnet.errors import ConnectionLost
from pycomnet.net import endpoints
from pycomnet.services.blocks import Owner

if TYPE_CHECKING:
    from pycomnet.services.client.context import Context
    from pycomnet.services.client.pool import PooledServer


class ClientConnection(Connection):
    """A caller's end of a connection."""

    def __init__(self, peer: PooledServer, context: Context) -> None:
        info = {"client": context.client_id}
        super().__init__(context.reactor, True, context.limits, info, keepalive=context.keepalive)
        self._peer = peer
        self.make_handle = Owner(self)

    def connectionMade(self) -> None:
        transport: Any = self.transport
        if hasattr(transport, "setTcpNoDelay"):
            transport.setTcpNoDelay(True)
        super().connectionMade()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        peer = self._peer
        if peer.connection is self:
            peer.connection = None
        if self._reason is None and not reason.check(ConnectionLost):
            self._reason = _lost(reason)
        super().connectionLost(reason)
        peer.left(self)

    def never_saw(self, stream_id: int | None) -> bool:
        """Whether the server's goodbye shows that it saw nothing of this call."""
        last = self.mux.last_taken
        return last is not None and stream_id is not None and stream_id > last

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is sent within is written together: at its end, or with the rest of this turn."""
        corked, self.corked = self.corked, True
        try:
            yield
        finally:
            self.corked = corked
            if self.lost is None:
                self.flush_soon()


def _lost(reason: Failure) -> ConnectionLost | None:
    value = reason.value
    if value is None or type(value).__module__.startswith("twisted.internet"):
        return None
    return ConnectionLost(f"the connection was lost: {endpoints.explain(reason)}")
