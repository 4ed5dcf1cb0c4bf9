"""A gateway over a channel of another gateway."""

from __future__ import annotations

from typing import Any

from pycomnet.channels.channel import Channel
from pycomnet.deferred import deferred
from pycomnet.errors import PycomnetError
from pycomnet.gateways.connection import START_TIMEOUT
from pycomnet.gateways.gateway import Gateway
from pycomnet.gateways.group import Group
from pycomnet.gateways.spec import Spec
from pycomnet.gateways.transports.channel import ChannelGatewayTransport


@deferred
async def ChannelGateway(
    channel: Channel, *, group: Group | None = None, id: str | None = None, timeout: Any = None
) -> Gateway:
    """Make a gateway over a channel of another gateway.

    Code at the other gateway's far side has started a further far side, and connected its input and
    output to its end of the channel, as ``gatewaymaker`` does (docs/howto/hierarchy.rst).

    :param channel: a raw channel without any other use.
    :param group: the new gateway's group; by default that of the channel's gateway.
    :param id: its name; by default the group makes one.
    :param timeout: seconds within which the far side's hello has to come.
    :returns: fires with the :class:`Gateway`; fails with :class:`GatewayNotStarted`. Cancelling it
        closes the channel.
    """
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
        lambda request: ChannelGatewayTransport(channel, what),
    )
