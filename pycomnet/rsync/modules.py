"""The far side's part of rsync, as modules that a gateway is offered when it first needs them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from twisted.internet.defer import TimeoutError as WaitedTooLong

from pycomnet.far import rsync
from pycomnet.gateways.modules import ModuleOffer
from pycomnet.gateways.transports import is_distant

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from pycomnet.channels.channel import Channel
    from pycomnet.gateways.gateway import Gateway

#: The name of the package there.
NAME = "_pycomnet_rsync"
SEND = f"from {NAME}.send import send\nsend(channel, data, options)\n"
RECEIVE = f"from {NAME}.receive import receive\nreceive(channel, data, options)\n"
#: Seconds to wait for the end of far code that has ended sending.
REASON = 30.0


def offer(gateway: Gateway) -> None:
    """Offer the far side's modules to a gateway."""
    # Whoever uses the gateway finds out if it is gone.
    gateway.offer_modules(ModuleOffer.far_package(NAME, rsync)).addErrback(lambda _: None)


def compression(gateway: Gateway, compress: bool | None) -> bool | None:
    """Whether content to or from a gateway is compressed; None: where the line is slow.

    A far side on this machine has no line. If it is slow, it has too little of the processors, of
    which compression would take even more. An interpreter that is started by another program
    (``python=docker exec web python3``) may be elsewhere.
    """
    program = gateway.spec.python or ()
    if compress is None and not is_distant(gateway.spec) and len(program) < 2:
        return False
    return compress


async def wait_for_reason(channel: Channel, reactor: IReactorTime) -> None:
    """Wait for the end of far code that has ended sending, so that what it raised is known.

    It is given up after some time, as the other end may never end it.

    :raises PycomnetError: how it has ended.
    """
    with contextlib.suppress(WaitedTooLong):
        await channel.waitclose().addTimeout(REASON, reactor)
