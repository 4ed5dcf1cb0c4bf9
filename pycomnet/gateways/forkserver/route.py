"""Routes: how to reach the fork server that starts a gateway, and how it starts it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from pycomnet.gateways.forkserver.local import EarlyForkServer
    from pycomnet.gateways.transports.interface import GatewayRequest, GatewayTransport


@attrs.frozen
class HopCommand:
    """The program that a fork server starts to reach another one, and its configuration."""

    argv: tuple[str, ...]
    config: dict[str, Any] = attrs.field(factory=dict, eq=False)

    def as_map(self) -> dict[str, Any]:
        """Its form in the request to a fork server."""
        return {"argv": list(self.argv), "config": self.config}


@attrs.frozen
class FirstHop:
    """How the near side reaches a fork server directly.

    :ivar key: identifies it in a group.
    :ivar open: makes the transport of its connection; the number is the descriptor of the
        descriptor-passing socket, or None.
    :ivar passes_descriptors: whether descriptors can be passed to it.
    :ivar keepalive: seconds of silence after which it is pinged, or None.
    :ivar credential: the credential for the service there.
    :ivar env: this process's environment when this was made, if the fork server is started in that.
    :ivar adopt: makes the transport of a fork server that was started early.
    :ivar imports: whether it imports what its gateways need. Then the first is forked, too.
    """

    key: tuple[Any, ...]
    open: Callable[[GatewayRequest, int | None], GatewayTransport] = attrs.field(eq=False)
    passes_descriptors: bool = attrs.field(default=False, eq=False)
    keepalive: float | None = attrs.field(default=None, eq=False)
    credential: bytes | None = attrs.field(default=None, eq=False, repr=False)
    env: dict[str, str] = attrs.field(factory=dict, eq=False, repr=False)
    adopt: Callable[[GatewayRequest, EarlyForkServer], GatewayTransport] | None = attrs.field(
        default=None, eq=False
    )
    imports: bool = attrs.field(default=False, eq=False)


@attrs.frozen
class Route:
    """How a gateway is reached: the first fork server, those behind it, and how the last starts it.

    :ivar first_hop: how the near side reaches the first fork server.
    :ivar path: the programs by which each fork server starts the next one, in order.
    :ivar argv: an interpreter that the last fork server starts for this gateway; empty: it forks.
    :ivar master: the id of the gateway from which it is started, or None.
    """

    first_hop: FirstHop
    path: tuple[HopCommand, ...] = ()
    argv: tuple[str, ...] = ()
    master: str | None = None
