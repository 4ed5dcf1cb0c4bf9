"""The factory service: it listens, lets programs in, and keeps their far sides."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet import defer
from twisted.internet.protocol import Factory

from pycomnet.auth.admission import (
    HELLO_TIMEOUT,
    Admission,
    ListeningService,
    NotAdmitted,
    check_exposure,
    listen_on,
)
from pycomnet.auth.unauthenticated import UnauthenticatedConnections
from pycomnet.channels.channel import Channel, ChannelCore
from pycomnet.channels.connection import Connection
from pycomnet.channels.memory import MemoryAccount
from pycomnet.deferred import deferred
from pycomnet.errors import ConnectionLost, GatewayNotStarted, PycomnetError
from pycomnet.factory.keptfarside import KeptFarSide
from pycomnet.factory.programconnection import ProgramConnection
from pycomnet.factory.settings import Settings
from pycomnet.gateways.forkserver.client import ForkServerClients
from pycomnet.gateways.limits import fork_server_limits
from pycomnet.gateways.localfactory import FACTORY_WINDOW, NAME, default_path
from pycomnet.gateways.spec import Spec
from pycomnet.net import _twisted, endpoints
from pycomnet.net.eager import is_plain
from pycomnet.net.reactors import GatewayReactor
from pycomnet.ranges import check_fields
from pycomnet.text.logs import Logger
from pycomnet.wire.frames import RESULT

log = Logger("pycomnet.factory")

#: The most programs that are connected at a time.
MAX_PROGRAMS = 256
#: The most gateways.
MAX_GATEWAYS = 1000
#: Seconds of silence after which a program is sent a PING. If it stays silent for as long again,
#: its connection is closed, and its gateways linger.
KEEPALIVE = 30.0
#: Bytes of one read of what a killed program has sent.
READ = 1 << 16


@attrs.frozen
class FactoryConfiguration:
    """The configuration of a factory.

    :ivar listen: endpoint strings; by default a unix socket in the user's runtime directory.
    :ivar token_file: a file with the token, which a program needs if the system does not report its
        user. It is created if it does not exist.
    :ivar insecure: whether to listen without TLS on addresses that other machines can reach.
    :ivar max_programs: the most programs that are connected at a time.
    :ivar max_gateways: the most gateways in all.
    :ivar max_each: the most gateways of one program; None: no limit of its own.
    :ivar keepalive: seconds of silence after which a program is sent a PING.
    :ivar settings: the limits of each far side.
    """

    listen: tuple[str, ...] = ()
    token_file: str | None = None
    insecure: bool = False
    max_programs: int = MAX_PROGRAMS
    max_gateways: int = MAX_GATEWAYS
    max_each: int | None = None
    keepalive: float = KEEPALIVE
    settings: Settings = attrs.field(factory=Settings)

    def __attrs_post_init__(self) -> None:
        check_fields(self)

    def check(self) -> None:
        """Check that nobody else can read or change the traffic.

        :raises EndpointError: an address needs TLS, and ``insecure`` is not set.
        """
        for listen in self.listen:
            check_exposure(listen, self.insecure)


class Scope:
    """The far sides of one program, in the place of the gateways' group.

    :param fork_servers: shared by all programs, so that their gateways on one host share one.
    """

    def __init__(self, fork_servers: ForkServerClients) -> None:
        self.fork_servers = fork_servers
        self.far_sides: dict[str, KeptFarSide] = {}

    def __contains__(self, id: str) -> bool:
        return id in self.far_sides

    def __getitem__(self, id: str) -> _Master:
        return _Master(self.far_sides[id])


class _Master:
    """A far side through which another one is started (``//via=``), in the place of a gateway."""

    def __init__(self, far: KeptFarSide) -> None:
        self.link = self
        self.transport = far.gateway_transport
        self.id = far.id
        self.info = (far.relay.far or {"info": {"executable": None}})["info"]

    @property
    def connection(self) -> Connection:
        """Fail: the service has no connection of its own to the worker.

        :raises PycomnetError: always.
        """
        raise PycomnetError(f"gateway {self.id} has no fork server that could start another one")


class FactoryProgram:
    """A connected program.

    :ivar name: its user; None before it is admitted.
    """

    def __init__(self, service: FactoryService) -> None:
        self.name: str | None = None
        self.scope = Scope(service.fork_servers)
        self._service = service
        self.connection = ProgramConnection(
            service.reactor,
            initiator=False,
            limits=fork_server_limits(FACTORY_WINDOW),
            keepalive=service.configuration.keepalive,
        )
        self.connection.unauthenticated = service.unauthenticated
        self.connection.account = service.memory
        self.connection.when_ready().addCallbacks(self._hello, lambda _: None)
        self.connection.explain = self._over
        self._timeout = service.reactor.callLater(HELLO_TIMEOUT, self._too_late)

    def _too_late(self) -> None:
        self.connection.abort(ConnectionLost("it sent no hello"))

    def _hello(self, hello: dict[str, Any]) -> None:
        self._timeout.cancel()
        service, connection = self._service, self.connection
        try:
            name = service.admission.admit(connection.transport, hello["credential"])
        except NotAdmitted as problem:
            log.warn("somebody was refused: {why}", why=str(problem))
            connection.violated("credential", str(problem))
            return
        most = service.configuration.max_programs
        if sum(program.name is not None for program in service.programs) >= most:
            connection.violated("limit", f"{most} programs are connected already")
            return
        self.name = name
        service.unauthenticated.known(connection.transport)
        keep_reading(connection)
        connection.make_handle = lambda core: Channel(core, self)
        connection.purposes["gateway"] = self._gateway
        connection.purposes["resumable"] = self._resumable

    def _over(self, lost: ConnectionLost) -> defer.Deferred[ConnectionLost]:
        if self._timeout.active():
            self._timeout.cancel()
        self._service.programs.discard(self)
        return defer.succeed(lost)

    @property
    def id(self) -> str:
        """Its name, in place of a gateway's id in the reprs of its channels."""
        return self.name or ""

    def abandoned(self, core: ChannelCore) -> None:
        """No action needed: a channel's user closes it."""

    # -- its requests ----------------------------------------------------------------------------

    def _gateway(self, core: ChannelCore) -> None:
        core.receive().addCallbacks(lambda asked: self._asked(core, asked), lambda _: None)

    def _resumable(self, core: ChannelCore) -> None:
        connection = self.connection
        found = self._service.resumable()
        connection.mux.close(core.stream, RESULT, connection.encode(found))
        connection.flush_soon()

    def _asked(self, core: ChannelCore, asked: Any) -> None:
        try:
            channel: Channel = asked["io"]
            spec = Spec.parse(Spec(**asked["spec"]))  # checks each of its values
            id, shown = str(asked["id"]), str(asked["shown"])
            direct = asked.get("pipes") is True
        except (TypeError, KeyError, AttributeError, ValueError) as problem:
            core.close(PycomnetError(f"the request for a gateway is not valid: {problem}"))
            return
        self._make(core, channel, spec, id, shown, direct)

    @deferred
    async def _make(
        self,
        core: ChannelCore,
        channel: Channel,
        spec: Spec,
        id: str,
        shown: str,
        direct: bool,
    ) -> None:
        service = self._service
        far = None
        try:
            self._check_room(id)
            if spec.resume:
                far = service.find(id, spec)
                if far.is_away:
                    await self._when_back(core, far)
                    if service.find(id, spec) is not far:
                        raise PycomnetError(f"the gateway {id!r} is another one by now")
                if spec.linger is not None:
                    far.set_linger(spec.linger)
                self.scope.far_sides[id] = far
                far.attach(channel, core, direct)
                return
            far = service.new(spec, id, shown, self.scope, direct)
            self.scope.far_sides[id] = far
            starting = far.start()
            # Its program may give up, or be gone, before it has started.
            core.wait_close().addBoth(lambda _: starting.cancel())
            await starting
            if core.over is not None:
                await far.end(0)
                return
            far.attach(channel, core, direct)
        except GatewayNotStarted as problem:
            self._not_started(core, channel, problem)
        except PycomnetError as problem:
            self._not_started(core, channel, GatewayNotStarted(str(problem)))
        except defer.CancelledError:
            self._not_started(core, channel, GatewayNotStarted("it was given up"))
        except Exception as problem:
            log.failure("gateway {name} could not be made", name=id)
            words = f"an error in the factory: {type(problem).__name__}: {problem}"
            self._not_started(core, channel, GatewayNotStarted(words))

    async def _when_back(self, core: ChannelCore, far: KeptFarSide) -> None:
        """Wait until the last program has returned the far side; the next one may give up."""
        waiting = far.when_back()
        core.wait_close().addBoth(lambda _: waiting.cancel())
        await waiting
        if core.over is not None:
            raise defer.CancelledError

    def _check_room(self, id: str) -> None:
        """Check that the program may have another gateway, or resume its own.

        A gateway that it has left counts as well, until another program resumes it.
        """
        most = self._service.configuration.max_each
        if most is not None:
            others = (far for name, far in self.scope.far_sides.items() if name != id)
            count = sum(far.used_by in (None, self.connection) for far in others)
            if count >= most:
                raise PycomnetError(
                    f"this program has {count} gateways in the factory, the limit for one program"
                )

    def _not_started(self, core: ChannelCore, channel: Channel, problem: GatewayNotStarted) -> None:
        failed = {"words": problem.words, "status": problem.status, "stderr": problem.stderr}
        core.send(self.connection.encode({"failed": failed})).addErrback(lambda _: None)
        core.close()
        channel.close()


class _Listener(Factory):
    noisy = False

    def __init__(self, service: FactoryService) -> None:
        self._service = service

    def buildProtocol(self, addr: object) -> Connection | None:
        return self._service.connected()


class FactoryService(ListeningService[FactoryConfiguration]):
    """The local factory.

    :param configuration: its configuration, which was checked.
    :param failed: called with the error if it can't listen.
    :ivar ports: the ports that it listens on.
    :ivar programs: the programs that are connected.
    """

    reactor: GatewayReactor

    def __init__(
        self,
        configuration: FactoryConfiguration,
        reactor: GatewayReactor,
        failed: Callable[[PycomnetError], object],
    ) -> None:
        super().__init__(configuration, reactor, failed)
        self.fork_servers = ForkServerClients(reactor)
        self.programs: set[FactoryProgram] = set()
        self.unauthenticated = UnauthenticatedConnections(reactor)
        self.memory = MemoryAccount(reactor)
        self.ports: list[Any] = []
        self._far_sides: dict[KeptFarSide, None] = {}
        self._stopping = False
        self.listen_on = configuration.listen or (f"unix:{default_path()}",)
        self.admission = Admission.of(NAME, self.listen_on, token_file=configuration.token_file)

    # -- far sides -------------------------------------------------------------------------------

    def new(
        self, spec: Spec, id: str, shown: str, scope: Scope, direct: bool = False
    ) -> KeptFarSide:
        """Make a far side. The caller starts it.

        :param direct: whether its program takes its pipes. A far side that lingers keeps them.
        """
        if self._stopping:
            raise PycomnetError("the factory is ending")
        if len(self._far_sides) >= self.configuration.max_gateways:
            raise PycomnetError(f"the factory has {len(self._far_sides)} gateways, its limit")
        name = None
        if spec.linger is not None:
            if spec.id is None:
                raise PycomnetError("linger needs an id, by which the gateway is resumed")
            name = spec.id
            if any(far.name == name for far in self._far_sides):
                raise PycomnetError(
                    f"the factory has a gateway {name!r} already: resume=yes goes on with it"
                )
        if spec.transport == "popen" and spec.fork is None:
            # A program starts its first gateway without a fork server, to save the server's start.
            # The factory starts many, so a fork server pays off at once.
            spec = attrs.evolve(spec, fork=True)
        far = KeptFarSide(
            spec,
            shown,
            name,
            id,
            scope,
            self._gone,
            self.reactor,
            self.configuration.settings,
            direct=direct and name is None,
        )
        self._far_sides[far] = None
        return far

    def _gone(self, far: KeptFarSide) -> None:
        self._far_sides.pop(far, None)
        for program in self.programs:
            for id, other in list(program.scope.far_sides.items()):
                if other is far:
                    del program.scope.far_sides[id]

    def find(self, name: str, spec: Spec) -> KeptFarSide:
        """Find a far side for another program.

        :raises PycomnetError: there is none of that name, it is in use, or its spec differs.
        """
        for far in self._far_sides:
            if far.name != name:
                continue
            if far.attachment is not None or far.left is None:
                raise PycomnetError(f"the gateway {name!r} is in use by another program")
            if (far.spec.transport, far.spec.target) != (spec.transport, spec.target):
                raise PycomnetError(f"the gateway {name!r} is another one: {far.shown}")
            return far
        names = ", ".join(sorted(item[0] for item in self.resumable())) or "none"
        raise PycomnetError(f"there is no gateway {name!r} to resume; there are: {names}")

    def resumable(self) -> list[tuple[str, str, float, float, int, bool]]:
        """The far sides that no program uses: the fields of a
        :class:`~pycomnet.gateways.localfactory.Resumable` for each."""
        now = self.reactor.seconds()
        return [
            (
                far.name,
                far.shown,
                now - far.since,
                far.left,
                sum(record.is_for_program for record in far.relay.records.values()),
                far.ended is None,
            )
            for far in self._far_sides
            if far.name is not None and far.left is not None
        ]

    # -- listening -------------------------------------------------------------------------------

    @deferred
    async def listen(self) -> None:
        """Listen; fires once it does."""
        for listen in self.listen_on:
            port = await listen_on(self.reactor, listen, _Listener(self))
            self.ports.append(port)
            log.info("listening on {where}", where=endpoints.describe_address(port.getHost()))

    def connected(self) -> Connection:
        """A peer has connected. Returns the protocol for it."""
        program = FactoryProgram(self)
        self.programs.add(program)
        return program.connection

    @deferred
    async def stopService(self) -> None:
        """Stop listening, and end all far sides.

        :returns: fires when all have ended.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        self._stopping = True
        for port in self.ports:
            await defer.maybeDeferred(port.stopListening)
        if self._far_sides:
            log.info("stopping: {count} gateways are ended", count=len(self._far_sides))
        ending = [far.end() for far in list(self._far_sides)]
        await defer.gatherResults(ending, consumeErrors=True)
        await self.fork_servers.end()
        for program in list(self.programs):
            program.connection.goodbye("exit", "the factory is ending")
        self.memory.stop()


def keep_reading(connection: Connection) -> None:
    """Read what a killed program has sent even if a write to it fails first.

    A transport whose write fails closes its socket. Bytes that had arrived and were not read yet
    would be lost.
    """
    transport: Any = connection.transport
    sock = getattr(transport, "socket", None)
    if sock is None or not is_plain(transport):
        return
    write = transport.writeSomeData
    reading = False

    def write_some(data: bytes) -> Any:
        nonlocal reading
        result = write(data)
        if isinstance(result, Exception) and not reading:
            reading = True
            with contextlib.suppress(OSError):
                while piece := sock.recv(READ):
                    connection.dataReceived(piece)
        return result

    _twisted.replace_write(transport, write_some)
