"""A gateway's connection over a raw channel of another gateway."""

from __future__ import annotations

from twisted.internet import defer
from twisted.python.failure import Failure

from pycomnet.channels.channel import Channel
from pycomnet.channels.connection import Connection
from pycomnet.channels.transport import ChannelTransport
from pycomnet.deferred import OneShot
from pycomnet.errors import ChannelClosed, PycomnetError
from pycomnet.gateways.transports.interface import GatewayRequest


class ChannelGatewayTransport:
    """Carries a connection over a raw channel: what is at its other end can't be seen."""

    status: int | None = None

    def __init__(self, request: GatewayRequest, channel: Channel, what: str) -> None:
        self.what = what
        self._channel = channel
        self._core = channel.core
        self._reason = ""
        self._over: OneShot[int | None] = OneShot()

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

    def when_ended(self) -> defer.Deferred[int | None]:
        """Fires once the channel is closed."""
        return self._over.when_fired()

    def kill(self, number: int) -> None:
        """Close the channel."""
        self._core.close(ChannelClosed("the gateway was ended"))
        self._over.fire(None)

    def describe_end(self, status: int | None) -> str:
        """What closed the channel."""
        return self._reason

    def keep(self, text: str) -> None:
        """Its standard error is not ours."""

    def stderr_tail(self) -> str:
        """It is shown by the gateway that the channel is of."""
        return ""


__all__ = ["ChannelGatewayTransport"]
