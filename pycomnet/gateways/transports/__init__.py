"""The transports: which there are, what each takes in a spec, and the module that has it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from pycomnet.gateways.transports.interface import GatewayRequest, GatewayTransport

#: Keys that a gateway may have however it is reached.
_ALL = (
    *("id", "chdir", "nice", "execmodel", "linger", "resume"),
    *("trusted", "max_value", "max_items"),
)
#: Keys of those that start an interpreter of the user's choice.
_STARTED = ("python", "fork", "via")
#: Keys of those that connect to a service.
_SERVED = ("python", "token", "token_file", "ca", "cert", "key")


@attrs.frozen
class Transport:
    """A way to reach a far side.

    :ivar module: where it is; loaded when it is first used. Its function
        ``gateway_transport(request)`` makes a :class:`~.interface.GatewayTransport`, without doing
        anything yet.
    :ivar target: what follows ``transport=``, in words; None when nothing does.
    :ivar keys: what a spec of it may have beside that.
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
        "pycomnet.mediator.client", "host:port/prefix", (*_ALL, *_SERVED, "websocket")
    ),
    "https": Transport(
        "pycomnet.mediator.client", "host:port/prefix", (*_ALL, *_SERVED, "websocket")
    ),
}

#: Those whose own server keeps a far side, for ``//linger=`` seconds, while its client is away.
KEEPING = frozenset({"http", "https"})

#: Those that lead to other machines, or through other processes: more is under way there than
#: between two processes.
DISTANT = frozenset({"ssh", "socket", "http", "https"})


def gateway_transport(request: GatewayRequest) -> GatewayTransport:
    """The transport of the connection that is asked for; nothing is started yet."""
    module = import_module(TRANSPORTS[request.spec.transport].module)
    made: GatewayTransport = module.gateway_transport(request)
    return made
