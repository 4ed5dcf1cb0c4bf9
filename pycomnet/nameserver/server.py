"""The server of a nameserver, with the limits that it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycomnet.net.reactors import EndpointReactor
from pycomnet.services.server.limits import ServerLimits
from pycomnet.services.server.server import ServiceServer

if TYPE_CHECKING:
    from pycomnet.services.server.accessgate import AccessGate

#: The limits of a nameserver's server. Requests are short. Watches and registrations that wait for
#: the disk are running calls, of which there may be many. About 200 requests are answered in a turn
#: of the reactor, within milliseconds.
SERVER_LIMITS = ServerLimits(
    running=100_000, queued=1_000, request=256 << 10, channels=4_096, read=16 << 10
)


def make_server(reactor: EndpointReactor, access: AccessGate | None = None) -> ServiceServer:
    """A server for a :class:`NameService`, with the limits that it needs."""
    return ServiceServer(reactor, limits=SERVER_LIMITS, access=access)
