"""The near side's connections to fork servers: processes that fork gateways.

The first gateway on a route starts the fork server (far/forkserver/server.py) and connects to it.
Further gateways are requested over the same connection (gateways/transports/forked.py).
gateways/transports/routes.py finds the routes.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet import defer
from twisted.internet.interfaces import IDelayedCall, IReactorFromThreads
from twisted.python.failure import Failure

from pycomnet.channels.channel import ChannelCore
from pycomnet.channels.connection import Connection
from pycomnet.deferred import OneShot, deferred
from pycomnet.errors import GatewayNotStarted, PycomnetError
from pycomnet.far.live import Live
from pycomnet.gateways.connection import GatewayConnection
from pycomnet.gateways.environment import working_directory
from pycomnet.gateways.forkserver.local import (
    EarlyForkServer,
    Imports,
    current_umask,
    directory_id,
)
from pycomnet.gateways.forkserver.route import FirstHop
from pycomnet.gateways.limits import fork_server_limits
from pycomnet.net.reactors import GatewayReactor
from pycomnet.wire.frames import HOP_WINDOW, RAW_FRAGMENT

if TYPE_CHECKING:
    from pycomnet.gateways.transports.forked import ForkedGatewayTransport
    from pycomnet.gateways.transports.interface import GatewayRequest, GatewayTransport

#: The most gateways that one fork server starts at a time, as each has descriptors in flight to it.
AT_A_TIME = 32
#: Seconds that a fork server lives on after its last gateway.
IDLE_TIMEOUT = 30.0
#: Seconds that a fork server has to end.
END_TIMEOUT = 5.0


class ForkServerClient(Live):
    """The near side's connection to a fork server.

    :ivar link: the connection and its process.
    """

    id = "fork server"

    def __init__(
        self, first_hop: FirstHop, request: GatewayRequest, early: EarlyForkServer | None = None
    ) -> None:
        self.first_hop = first_hop
        #: its environment
        self._env = first_hop.env if early is None else early.start.env
        self.users: set[ForkedGatewayTransport] = set()
        self.ready = False
        #: the descriptor-passing socket, if the fork server's Python can receive descriptors
        self.descriptor_socket: socket.socket | None = None
        self.turns = defer.DeferredSemaphore(AT_A_TIME)
        self._number = 0
        self._reactor = request.reactor
        self._begun: OneShot[None] = OneShot()
        self._idle: IDelayedCall | None = None
        self._theirs: socket.socket | None = None
        number = None
        self._directory: tuple[int, int] | None = None
        self._umask: int | None = None
        if early is not None:
            self._directory, self._umask = early.directory, early.umask
            self.descriptor_socket = early.socket
        elif first_hop.passes_descriptors:
            self._directory = directory_id()
            self._umask = current_umask()
            self.descriptor_socket, self._theirs = socket.socketpair()
            self.descriptor_socket.setblocking(False)
            number = self._theirs.fileno()

        def opened(asked: GatewayRequest) -> GatewayTransport:
            if early is not None and first_hop.adopt is not None:
                return first_hop.adopt(asked, early)
            return first_hop.open(asked, number)

        self.link = GatewayConnection(
            attrs.evolve(request.spec, id=None),
            request.id,
            lambda output: request.output(output.text),
            request.group,
            request.reactor,
            opened,
            Connection(
                request.reactor,
                limits=fork_server_limits(HOP_WINDOW, RAW_FRAGMENT),
                credential=first_hop.credential,
                keepalive=first_hop.keepalive,
            ),
        )
        self.link.prefix = ""

    @property
    def failed(self) -> bool:
        """Whether it could not be started."""
        return self._begun.error is not None

    @property
    def over(self) -> bool:
        """Whether it takes no more requests."""
        return self.failed or self.link.ending or self.link.connection.lost is not None

    def start(self) -> None:
        """Start it; :meth:`when_ready` gives the outcome."""
        # The gateways that wait for it have timeouts of their own.
        starting = self.link.start(1e6)
        if self._theirs is not None:
            self._theirs.close()
        starting.addCallbacks(self._started, self._not_started)

    def _started(self, hello: dict[str, Any]) -> None:
        self.ready = True
        if not hello.get("info", {}).get("descriptor_socket"):
            self._close_descriptor_socket()  # its Python can't receive descriptors
        self._begun.fire(None)

    def _not_started(self, failure: Failure) -> None:
        error = failure.value
        if not isinstance(error, GatewayNotStarted):
            error = GatewayNotStarted(str(error) or type(error).__name__)
        self._close_descriptor_socket()
        self._begun.fail(error)

    def when_ready(self) -> defer.Deferred[None]:
        """Fires once it takes requests; fails with :class:`GatewayNotStarted`."""
        return self._begun.when_fired()

    def surroundings(self, now: dict[str, str]) -> dict[str, Any]:
        """How the environment, directory and umask differ from those at the fork server's start.

        :param now: the environment of the new gateway.
        """
        then = self._env
        found: dict[str, Any] = {}
        if now != then:
            found["update"] = {name: now[name] for name in now if then.get(name) != now[name]}
            found["unset"] = [name for name in then if name not in now]
        if directory_id() != self._directory:
            found["cwd"] = working_directory()
        umask = current_umask()
        if umask != self._umask:
            found["umask"] = umask
        return found

    def send(self, fds: list[int]) -> int:
        """Pass it descriptors; return the number by which it knows them.

        :raises BlockingIOError: its socket is full.
        :raises OSError: they can't be passed.
        :raises PycomnetError: it is being ended.
        """
        if self.descriptor_socket is None:
            raise PycomnetError("the fork server was ended")
        self._number += 1
        socket.send_fds(self.descriptor_socket, [self._number.to_bytes(4, "big")], fds)
        return self._number

    def enter(self, user: ForkedGatewayTransport) -> None:
        """Register a gateway of this fork server."""
        self.users.add(user)
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def leave(self, user: ForkedGatewayTransport) -> None:
        """Unregister a gateway: it has ended."""
        self.users.discard(user)
        if self.users or self.over:
            return
        if not self.ready:
            self.end(0)
        elif self._idle is None:
            self._idle = self._reactor.callLater(IDLE_TIMEOUT, self._idle_out)

    def _idle_out(self) -> None:
        self._idle = None
        self.end()

    def end(self, timeout: float = END_TIMEOUT) -> defer.Deferred[Any]:
        """End it; fires when it is gone."""
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        self._close_descriptor_socket()
        return self.link.end(timeout)

    def _close_descriptor_socket(self) -> None:
        if self.descriptor_socket is not None:
            self.descriptor_socket.close()
            self.descriptor_socket = None

    def abandoned(self, core: ChannelCore) -> None:
        """A channel to which no reference is left; as for gateways."""


class ForkServerClients(Live):
    """The fork servers of one group. The group refers to it, and it does not refer to the group."""

    def __init__(self, reactor: GatewayReactor) -> None:
        self._reactor = reactor
        self._fork_servers: dict[tuple[Any, ...], ForkServerClient] = {}
        #: first hops on which gateways have been started
        self._begun: set[tuple[Any, ...]] = set()
        #: the number of calls that are starting several gateways
        self._several = 0
        #: the modules that this machine's fork server imports
        self.imports = Imports()
        #: this machine's fork server, if it was started before the group; it is used once
        self.early: EarlyForkServer | None = None
        #: first hops where forking is not possible
        self.without_fork: set[tuple[Any, ...]] = set()

    def starts_alone(self, first_hop: FirstHop, first_alone: bool) -> bool:
        """Whether a gateway is started without a fork server.

        :param first_alone: whether the first one is, unless several are started together: most
            programs have only one, which so starts faster and needs one process less.
        """
        key = first_hop.key
        if key in self.without_fork:
            return True
        first = key not in self._begun
        self._begun.add(key)
        return first and first_alone and not self._several and not first_hop.imports

    @contextmanager
    def expecting(self, number: int) -> Iterator[None]:
        """In a ``with`` block of this, this many gateways are started."""
        several = number > 1
        self._several += several
        try:
            yield
        finally:
            self._several -= several

    def find(self, first_hop: FirstHop, request: GatewayRequest) -> ForkServerClient:
        """The fork server of a first hop; it is started if there is none."""
        fork_server = self._fork_servers.get(first_hop.key)
        if fork_server is None or fork_server.over:
            if fork_server is not None:
                fork_server.end()
            fork_server = ForkServerClient(first_hop, request, self._take_early(first_hop))
            self._fork_servers[first_hop.key] = fork_server
            fork_server.start()
        return fork_server

    def _take_early(self, first_hop: FirstHop) -> EarlyForkServer | None:
        """The fork server that was started early, if it is of this kind."""
        early = self.early
        if early is None or first_hop.adopt is None or early.start.key != first_hop.key:
            return None
        self.early = None
        return early if early.take() else None

    @deferred
    async def end(self) -> None:
        """End all; fires when they are gone."""
        early, self.early = self.early, None
        if early is not None:
            early.end()
        ending = [fork_server.end() for fork_server in self._fork_servers.values()]
        await defer.gatherResults(ending, consumeErrors=True)

    def abandon(self) -> None:
        """The group is gone: end all. Called from any thread."""
        IReactorFromThreads(self._reactor).callFromThread(self.end)
