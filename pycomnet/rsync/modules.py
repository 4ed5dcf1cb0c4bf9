"""The far side's part of rsync, as modules that a gateway is offered when it first needs them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycomnet.far import rsync
from pycomnet.gateways.modules import ModuleOffer

if TYPE_CHECKING:
    from pycomnet.gateways.gateway import Gateway

#: The name of the package there.
NAME = "_pycomnet_rsync"
SEND = f"from {NAME}.send import send\nsend(channel, data, options)\n"
RECEIVE = f"from {NAME}.receive import receive\nreceive(channel, data, options)\n"


def offer(gateway: Gateway) -> None:
    """Offer the far side's modules to a gateway."""
    # Whoever uses the gateway finds out if it is gone.
    gateway.offer_modules(ModuleOffer.far_package(NAME, rsync)).addErrback(lambda _: None)
