"""Gateways of the local factory service: the program's end.

A group that uses a factory (:meth:`Group.setlocalfactory`) has one connection to it. Each gateway
has two channels of that connection: a raw one, which carries the gateway's own connection unless it
has pipes, and a *control channel* for everything else. docs/protocol.rst, "The factory", has both.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
from twisted.internet import defer
from twisted.internet.interfaces import IFileDescriptorReceiver
from twisted.internet.protocol import Factory, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from pycomnet.auth import tokens
from pycomnet.auth.admission import peer_credentials
from pycomnet.channels.channel import ChannelOwner
from pycomnet.channels.connection import Connection
from pycomnet.deferred import OneShot, deferred
from pycomnet.errors import ConnectionLost, FactoryUnreachable, PycomnetError
from pycomnet.far.live import Live
from pycomnet.gateways.factorytransport import FactoryGatewayTransport
from pycomnet.gateways.limits import fork_server_limits
from pycomnet.gateways.transports.interface import GatewayRequest
from pycomnet.net import endpoints
from pycomnet.net.descriptors import ReceivedDescriptors, passes_descriptors
from pycomnet.net.reactors import EndpointReactor

#: The service's name, for its token's file.
NAME = "factory"
#: Seconds of silence after which the service is sent a PING.
KEEPALIVE = 30.0
#: The window of the raw channels. Each channel of a gateway's own connection has a window, too.
#: This one is larger, so that those rarely wait for it.
FACTORY_WINDOW = 2 << 20
#: Seconds within which the service has to send its hello, unless its address has ``timeout=``.
CONNECT_TIMEOUT = 20.0


def default_path(environ: Mapping[str, str] = os.environ) -> Path:
    """The path of the service's socket, in the user's runtime directory.

    If there is no such directory, the socket is in a directory of the user's in ``TMPDIR``. Both
    ends check the owner of the directory and the socket.
    """
    runtime = environ.get("XDG_RUNTIME_DIR")
    if runtime:
        return Path(runtime) / "pycomnet" / "factory.sock"
    temporary = environ.get("TMPDIR") or "/tmp"
    return Path(temporary) / f"pycomnet-{os.geteuid()}" / "factory.sock"


@attrs.frozen
class Resumable:
    """A gateway that the factory keeps, and that no program uses.

    :ivar id: the name that it is resumed by.
    :ivar spec: the spec that it was made with.
    :ivar age: seconds since it was started.
    :ivar left: seconds until it is ended.
    :ivar channels: how many of its channels are open, or have values that no program has taken.
    :ivar alive: whether its far side still runs. If not, its last values are still there.
    """

    id: str
    spec: str
    age: float
    left: float
    channels: int
    alive: bool


@implementer(IFileDescriptorReceiver)
class FactoryConnection(Connection):
    """A connection that sends nothing to another user's process, as its hello may have a token.

    :ivar descriptors: those that have arrived and that no gateway transport has taken yet.
    :ivar takes_pipes: whether descriptors can arrive.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.descriptors = ReceivedDescriptors(self.reactor)
        self.takes_pipes = False

    def fileDescriptorReceived(self, descriptor: int) -> None:
        self.descriptors.add(descriptor)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.descriptors.close()
        super().connectionLost(reason)

    def forked(self) -> None:
        self.descriptors.close()
        super().forked()

    def connectionMade(self) -> None:
        peer = peer_credentials(self.transport)
        if peer is not None and peer.uid not in (os.geteuid(), 0):
            self.abort(ConnectionLost(f"it is another user's (uid {peer.uid})"))
            return
        self.takes_pipes = passes_descriptors(self.transport)
        super().connectionMade()


class LocalFactory(Live):
    """The connection of one group to the service.

    :param address: an endpoint string.
    :param token: the user's token, or None if the service sees who the user is.
    :param token_file: a file with the token.
    """

    def __init__(
        self,
        address: str,
        reactor: EndpointReactor,
        token: str | None = None,
        token_file: str | os.PathLike[str] | None = None,
    ) -> None:
        self.address = endpoints.clean(address)
        self._reactor = reactor
        self._token = token
        self._token_file = token_file
        self._connection: FactoryConnection | None = None
        self._connecting: OneShot[FactoryConnection] | None = None
        #: fires when the connection that was made last is closed
        self._closed: OneShot[None] = OneShot()
        #: the owner of the channels to the service; the gateway transports close them
        self.owner = ChannelOwner(NAME)

    def connected(self) -> defer.Deferred[FactoryConnection]:
        """Connect, if there is no connection.

        :returns: fires with the connection, or fails with :class:`FactoryUnreachable`. Cancelling
            it only stops waiting.
        """
        known = self._connection
        if known is not None and known.lost is None and known.mux.failed is None:
            return defer.succeed(known)
        if self._connecting is not None:
            return self._connecting.when_fired()
        connecting: OneShot[FactoryConnection] = OneShot()
        self._connecting = connecting
        waiter = connecting.when_fired()
        connecting.follow(self._connect().addBoth(self._attempt_ended))
        return waiter

    def _attempt_ended(self, result: Any) -> Any:
        self._connecting = None
        if not isinstance(result, Failure):
            self._connection = result
        return result

    @deferred
    async def _connect(self) -> FactoryConnection:
        where = f"the factory at {self.address}"
        try:
            token = self._find_token()
            endpoint = endpoints.client_endpoint(self._reactor, self.address)
            connection = FactoryConnection(
                self._reactor,
                limits=fork_server_limits(FACTORY_WINDOW),
                credential=None if token is None else token.encode(),
                keepalive=KEEPALIVE,
            )
            over: OneShot[None] = OneShot()
            self._closed = over
            connection.when_closed.append(lambda _: over.fire(None))
            await endpoint.connect(Factory.forProtocol(lambda: connection))
        except PycomnetError as problem:
            raise FactoryUnreachable(f"{where}: {problem}") from problem
        except Exception as problem:
            raise FactoryUnreachable(
                f"{where}: {endpoints.explain(problem)}; is `twistd pycomnet-factory` running?"
            ) from problem
        hello = connection.when_ready()
        timeout = endpoints.seconds(
            self.address, endpoints.parse(self.address).options, CONNECT_TIMEOUT
        )
        hello.addTimeout(timeout, self._reactor)
        try:
            await hello
            # The service refuses a peer after its hello. Other peers get an answer.
            await connection.open("resumable", end=True).receive()
        except defer.TimeoutError:
            connection.abort(ConnectionLost("no hello"))
            raise FactoryUnreachable(f"{where}: no hello in {timeout:g} seconds") from None
        except ConnectionLost as lost:
            raise FactoryUnreachable(f"{where}: {lost.reason}") from lost
        except PycomnetError as problem:
            connection.goodbye()
            raise FactoryUnreachable(f"{where}: {problem}") from problem
        return connection

    def _find_token(self) -> str | None:
        token = tokens.find_token(self._token, self._token_file)
        if token is None and endpoints.parse(self.address).kind != "unix":
            path = tokens.default_token_path(NAME)
            if path.exists():
                token = tokens.load_token(path)
        return token

    def gateway_transport(self, request: GatewayRequest) -> FactoryGatewayTransport:
        """The transport for a gateway."""
        return FactoryGatewayTransport(self, request)

    @deferred
    async def resumable(self) -> list[Resumable]:
        """Ask for the gateways that the service keeps and that no program uses."""
        connection = await self.connected()
        found = await connection.open("resumable", end=True).receive()
        return [Resumable(*item) for item in found]

    def close(self) -> defer.Deferred[None]:
        """Close the connection; fires when it is closed."""
        if self._connection is None or self._connection.lost is not None:
            return defer.succeed(None)
        self._connection.goodbye()
        return self._closed.when_fired()
