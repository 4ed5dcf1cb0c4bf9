"""The transport of a gateway over a raw channel of another gateway."""

from __future__ import annotations

from twisted.internet import defer
from twisted.python.failure import Failure

from pycomnet.channels.channel import Channel
from pycomnet.channels.connection import Connection
from pycomnet.channels.transport import ChannelTransport
from pycomnet.errors import ChannelClosed, PycomnetError
from pycomnet.gateways.transports.unseenfarside import UnseenFarSide


class ChannelGatewayTransport(UnseenFarSide):
    """Carries a connection over a raw channel; the process at its other end can't be seen."""

    def __init__(self, channel: Channel, what: str) -> None:
        super().__init__()
        self.what = what
        self._channel = channel
        self._core = channel.core

    def connect(self, connection: Connection) -> defer.Deferred[None]:
        """Make the channel the connection's transport."""
        connection.when_closed.append(self._closed)
        try:
            ChannelTransport(self._channel, connection).start()
        except PycomnetError as problem:
            self._over.fire(None)
            return defer.fail(problem)
        return defer.succeed(None)

    def _closed(self, reason: Failure) -> None:
        if not reason.check(ChannelClosed):
            self._reason = reason.getErrorMessage()
        self._over.fire(None)

    def kill(self, number: int) -> None:
        """Close the channel."""
        self._core.close(ChannelClosed("the gateway was ended"))
        self._over.fire(None)
