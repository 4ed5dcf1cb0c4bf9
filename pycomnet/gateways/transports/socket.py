"""The socket transport: far sides of a service that listens: ``twistd pycomnet-gateway``.

The service lets this program in by its hello and starts a fork server for it
(:mod:`pycomnet.gateways.forkserver.client`), so all of a group's gateways at a service share one
connection.
"""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet import defer, error
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from pycomnet.auth import tokens
from pycomnet.channels.connection import Connection
from pycomnet.deferred import OneShot, deferred
from pycomnet.errors import PycomnetError
from pycomnet.gateways.forkserver.route import FirstHop, HopCommand, Route
from pycomnet.gateways.spec import Spec
from pycomnet.gateways.transports.boot import boot_argv
from pycomnet.gateways.transports.forked import ForkedGatewayTransport
from pycomnet.gateways.transports.interface import GatewayRequest, GatewayTransport
from pycomnet.net import endpoints

#: Seconds of silence after which the other end is asked for a sign of life.
KEEPALIVE = 20.0


class SocketGatewayTransport:
    """Carries a connection to a service: what runs there is seen only through it."""

    what = "the connection to the service"
    status: int | None = None

    def __init__(self, request: GatewayRequest, address: str) -> None:
        self._request = request
        self._address = address
        self._connection: Connection | None = None
        self._reason = ""
        self._over: OneShot[int | None] = OneShot()

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
        self._over.fire(None)

    def when_ended(self) -> defer.Deferred[int | None]:
        """Fires once the connection is closed."""
        return self._over.when_fired()

    def kill(self, number: int) -> None:
        """Drop the connection: the service ends what it has for it."""
        transport: Any = None if self._connection is None else self._connection.transport
        if transport is not None:
            transport.abortConnection()
        else:
            self._over.fire(None)

    def describe_end(self, status: int | None) -> str:
        """Only what ended the connection is known."""
        return self._reason

    def keep(self, text: str) -> None:
        """It has no standard error of its own."""

    def stderr_tail(self) -> str:
        """Likewise."""
        return ""


def address(spec: Spec) -> str:
    """The endpoint string to connect to: the spec's target, with its certificates.

    :raises EndpointError: it is none, or has no TLS and certificates.
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
    """The transport of a socket gateway\'s connection."""
    return ForkedGatewayTransport(request, route)
