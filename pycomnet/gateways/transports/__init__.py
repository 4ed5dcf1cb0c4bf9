"""The transports: their names, the spec keys of each, and its module."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import attrs

from pycomnet.wire.frames import MEDIATED_WINDOW, WIDE_WINDOW, WINDOW

if TYPE_CHECKING:
    from pycomnet.gateways.spec import Spec
    from pycomnet.gateways.transports.interface import GatewayRequest, GatewayTransport

#: The keys for all transports.
_ALL = (
    *("id", "chdir", "nice", "execmodel", "linger", "resume"),
    *("trusted", "max_value", "max_items"),
)
#: The keys for transports that start an interpreter of the user's choice.
_STARTED = ("python", "fork", "via")
#: The keys for transports that connect to a service.
_SERVED = ("python", "token", "token_file", "ca", "cert", "key")


@attrs.frozen
class Transport:
    """A way to reach a far side.

    :ivar module: its module, which is loaded on first use. The module's function
        ``gateway_transport(request)`` makes a :class:`~.interface.GatewayTransport`, and starts
        nothing yet.
    :ivar target: the meaning of the text after ``transport=``; None if there is none.
    :ivar keys: the other keys of its specs.
    """

    module: str
    target: str | None
    keys: tuple[str, ...]


TRANSPORTS = {
    "popen": Transport("pycomnet.gateways.transports.popen", None, (*_ALL, *_STARTED)),
    "ssh": Transport(
        "pycomnet.gateways.transports.ssh",
        "host, or the arguments of ssh",
        (*_ALL, *_STARTED, "ssh_config", "keepalive"),
    ),
    "socket": Transport(
        "pycomnet.gateways.transports.socket", "an endpoint", (*_ALL, *_SERVED, "keepalive")
    ),
    "http": Transport(
        "pycomnet.mediator.client.gatewaytransport",
        "host:port/prefix",
        (*_ALL, *_SERVED, "websocket"),
    ),
    "https": Transport(
        "pycomnet.mediator.client.gatewaytransport",
        "host:port/prefix",
        (*_ALL, *_SERVED, "websocket"),
    ),
}

#: The transports whose own server keeps a far side, for ``//linger=`` seconds, without its client.
KEEPING = frozenset({"http", "https"})

#: The transports to other machines, or through other processes: more data is in flight there than
#: between two processes.
DISTANT = frozenset({"ssh", "socket", "http", "https"})


def is_distant(spec: Spec) -> bool:
    """Whether a gateway may be on another machine."""
    return spec.via is not None or spec.transport in DISTANT


def window_of(spec: Spec) -> int:
    """The window of a gateway's channels, in bytes."""
    if spec.transport in KEEPING:
        return MEDIATED_WINDOW
    return WIDE_WINDOW if is_distant(spec) else WINDOW


def gateway_transport(request: GatewayRequest) -> GatewayTransport:
    """Make the transport for a request; nothing is started yet."""
    module = import_module(TRANSPORTS[request.spec.transport].module)
    made: GatewayTransport = module.gateway_transport(request)
    return made
