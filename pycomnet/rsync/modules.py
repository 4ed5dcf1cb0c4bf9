"""The far side's part of rsync, as modules that a gateway is offered when it first needs them."""

from __future__ import annotations

from pycomnet.far import rsync
from pycomnet.gateways.modules import ModuleOffer

#: The name of the package there.
NAME = "_pycomnet_rsync"
SEND = f"from {NAME}.send import send\nsend(channel, data, options)\n"
RECEIVE = f"from {NAME}.receive import receive\nreceive(channel, data, options)\n"


def far_modules() -> ModuleOffer:
    """The offer of the far side's modules."""
    return ModuleOffer.far_package(NAME, rsync)
