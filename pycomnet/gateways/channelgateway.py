"""A gateway that operates on a channel of another one."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer

from pycomnet.channels.channel import Channel
from pycomnet.deferred import deferred
from pycomnet.errors import PycomnetError
from pycomnet.gateways.connection import START_TIMEOUT
from pycomnet.gateways.gateway import Gateway
from pycomnet.gateways.group import Group
from pycomnet.gateways.spec import Spec
from pycomnet.gateways.transports.channel import ChannelGatewayTransport


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


__all__ = ["ChannelGateway"]
