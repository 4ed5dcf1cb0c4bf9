"""A gateway that operates on a channel of another one."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer
from twisted.python.failure import Failure

from pycomnet.channels.channel import Channel
from pycomnet.channels.connection import Connection
from pycomnet.channels.transport import ChannelTransport
from pycomnet.deferred import OneShot, deferred
from pycomnet.errors import ChannelClosed, PycomnetError
from pycomnet.gateways.gateway import START_TIMEOUT, Gateway
from pycomnet.gateways.group import Group
from pycomnet.gateways.spec import Spec
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


def ChannelGateway(
    channel: Channel, *, group: Group | None = None, id: str | None = None, timeout: Any = None
) -> defer.Deferred[Gateway]:
    """A gateway that operates on a channel of another one.

    Code at that one's far side has connected its end with the input and output of a far side that
    it started, as ``gatewaymaker`` does (docs/howto/hierarchy.rst).

    :param channel: raw, and not used in another way.
    :param group: the group that it shall be in; by default that of the channel's gateway.
    :param id: its name; by default the group makes one.
    :param timeout: seconds that the far side has to say hello.
    :returns: fires with the :class:`Gateway`; fails with :class:`GatewayNotStarted`. Cancelling it
        closes the channel.
    """
    return _make(channel, group, id, timeout)


@deferred
async def _make(channel: Channel, group: Group | None, id: str | None, timeout: Any) -> Gateway:
    if not channel.core.stream.raw:
        raise PycomnetError("a gateway operates on a raw channel: newchannel(raw=True)")
    outer = channel.gateway
    group = group or outer.group
    assert group is not None
    target = f"{outer.id}:{channel.id}"
    spec = Spec(transport="channel", target=target, id=id)
    what = f"the channel of gateway {outer.id} that carried it"
    return await group._make(
        spec,
        START_TIMEOUT if timeout is None else timeout,
        lambda request: ChannelGatewayTransport(request, channel, what),
    )


__all__ = ["ChannelGatewayTransport", "ChannelGateway"]
