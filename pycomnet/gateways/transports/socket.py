"""The socket transport: far sides that a listening service starts: ``twistd pycomnet-gateway``.

The service authenticates this program by its hello and starts a fork server for it
(:mod:`pycomnet.gateways.forkserver.client`), so all gateways of a group at one service share a
connection.
"""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet import error
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from pycomnet.auth import tokens
from pycomnet.channels.connection import Connection
from pycomnet.deferred import deferred
from pycomnet.errors import PycomnetError
from pycomnet.gateways.boot import boot_argv
from pycomnet.gateways.forkserver.route import FirstHop, HopCommand, Route
from pycomnet.gateways.spec import Spec
from pycomnet.gateways.transports.forked import ForkedGatewayTransport
from pycomnet.gateways.transports.interface import GatewayRequest, GatewayTransport
from pycomnet.gateways.transports.unseenfarside import UnseenFarSide
from pycomnet.net import endpoints

#: Seconds of silence after which the other end is pinged.
KEEPALIVE = 20.0


class SocketGatewayTransport(UnseenFarSide):
    """Carries a connection to a service; the processes there can't be seen otherwise."""

    what = "the connection to the service"

    def __init__(self, request: GatewayRequest, address: str) -> None:
        super().__init__()
        self._request = request
        self._address = address
        self._connection: Connection | None = None

    @deferred
    async def connect(self, connection: Connection) -> None:
        """Connect to the service."""
        connection.when_closed.append(self._closed)
        self._connection = connection
        where = f"the service at {self._address}"
        try:
            endpoint = endpoints.client_endpoint(self._request.reactor, self._address)
            await endpoint.connect(Factory.forProtocol(lambda: connection))
        except PycomnetError as problem:
            self._over.fire(None)
            raise self._request.not_started(f"{where}: {problem}") from problem
        except Exception as problem:
            self._over.fire(None)
            words = f"{where}: {endpoints.explain(problem)}"
            raise self._request.not_started(words) from problem

    def _closed(self, reason: Failure) -> None:
        if not reason.check(error.ConnectionDone):
            self._reason = endpoints.explain(reason)
        elif self._connection is not None and not self._connection.heard:
            self._reason = endpoints.silence_hint(self._address)
        self._over.fire(None)

    def kill(self, number: int) -> None:
        """Drop the connection: then the service ends the processes for it."""
        transport: Any = None if self._connection is None else self._connection.transport
        if transport is not None:
            transport.abortConnection()
        else:
            self._over.fire(None)


def address(spec: Spec) -> str:
    """The endpoint string to connect to: the spec's target, with its certificates.

    :raises EndpointError: it is not a valid endpoint string.
    :raises PycomnetError: it has certificates without TLS.
    """
    assert spec.target is not None
    endpoint = endpoints.parse(spec.target)
    given = {"trustRoots": spec.ca, "certificate": spec.cert, "privateKey": spec.key}
    options = {name: value for name, value in given.items() if value is not None}
    if options and endpoint.kind not in endpoints.TLS:
        raise PycomnetError(f"{spec.target!r} has no TLS, so no certificates: tls:HOST:PORT")
    return str(attrs.evolve(endpoint, options={**endpoint.options, **options}))


def route(request: GatewayRequest) -> Route:
    """The fork server that the service starts for this program."""
    spec = request.spec
    where = address(spec)
    token = tokens.find_token(spec.token, spec.token_file)
    credential = None if token is None else token.encode()

    def opened(asked: GatewayRequest, descriptor_socket: int | None) -> GatewayTransport:
        return SocketGatewayTransport(asked, where)

    key = ("socket", where, token and tokens.digest(token))
    first_hop = FirstHop(key, opened, keepalive=spec.keepalive or KEEPALIVE, credential=credential)
    path = (HopCommand(boot_argv(spec.python), {"fork_server": {}}),) if spec.python else ()
    return Route(first_hop, path)


def gateway_transport(request: GatewayRequest) -> GatewayTransport:
    """The transport of a socket gateway's connection."""
    return ForkedGatewayTransport(request, route)
