"""The service that gives workers to programs that connect: ``twistd pycomnet-gateway``.

It reads only a program's hello. If that authenticates the program, the service starts a fork server
for it (far/forkserver/server.py), and from then on forwards bytes between the two. A program that
is not authorised gets an error; nothing is started or kept for it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet import defer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from pycomnet.auth.admission import (
    HELLO_TIMEOUT,
    Admission,
    ListeningService,
    NotAdmitted,
    check_exposure,
    listen_on,
)
from pycomnet.auth.reloadedtokens import ReloadedTokens
from pycomnet.auth.tokens import clean_environment
from pycomnet.auth.unauthenticated import UnauthenticatedConnections
from pycomnet.deferred import deferred
from pycomnet.errors import PycomnetError
from pycomnet.gateways.boot import boot, own_interpreter
from pycomnet.gateways.output import shown
from pycomnet.gateways.transportend import EXIT_TIMEOUT, TransportEnd
from pycomnet.gateways.transports.bootstrap import AfterMarker
from pycomnet.gateways.transports.pipes import ProcessTransport
from pycomnet.gateways.transports.process import LocalProcess, describe_status
from pycomnet.gateways.transports.socket import KEEPALIVE
from pycomnet.net import endpoints
from pycomnet.net.reactors import GatewayReactor
from pycomnet.ranges import check_fields
from pycomnet.text.logs import Logger
from pycomnet.wire.mux import EV_FAILED, EV_HELLO, Limits, Mux

log = Logger("pycomnet.gateway")

#: The service's name, for its token's file.
NAME = "gateway"
#: Where it listens by default: only on this machine.
LISTEN = "tcp:8888:interface=127.0.0.1"
#: The most programs that are connected at a time.
MAX_CLIENTS = 64
#: The most processes of each of them at a time.
MAX_WORKERS = 64
#: For how many keepalive intervals a program may be silent.
PATIENCE = 3


@attrs.frozen
class SocketServiceConfiguration:
    """The configuration of a service.

    :ivar listen: an endpoint string.
    :ivar tokens: an INI file with a section for each user's token (:mod:`pycomnet.auth.tokens`).
        It is read again when it changes, and what the user of a withdrawn token runs is ended.
    :ivar token_file: otherwise, a file with one token; it is created if it does not exist.
    :ivar insecure: whether it may listen without TLS where other machines can reach it.
    :ivar python: the interpreter of the workers and its arguments.
    :ivar clients: the most programs that are connected at a time.
    :ivar workers: the most processes of each program at a time.
    :ivar keepalive: seconds of silence after which a program is pinged.
    :ivar drain: seconds for programs to end their gateways when the service stops.
    """

    listen: str = LISTEN
    tokens: str | None = None
    token_file: str | None = None
    insecure: bool = False
    python: tuple[str, ...] = attrs.field(factory=lambda: tuple(own_interpreter()))
    clients: int = MAX_CLIENTS
    workers: int = MAX_WORKERS
    keepalive: float = KEEPALIVE
    drain: float = 0.0

    def __attrs_post_init__(self) -> None:
        check_fields(self)

    def check(self) -> None:
        """Check that nobody can read the traffic.

        :raises EndpointError: other machines could reach it without TLS, and ``insecure`` is not
            set.
        """
        check_exposure(self.listen, self.insecure)


class _Inner(Protocol):
    """The fork server's end."""

    def __init__(self, client: SocketClient) -> None:
        self._client = client

    def dataReceived(self, data: bytes) -> None:
        transport: Any = self._client.transport
        if transport is not None:
            transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.transport = None
        self._client.inner_lost()


class SocketClient(Protocol):
    """A program that has connected.

    :ivar name: its user's name, once it is authenticated.
    :ivar token_of: the user whose token it has shown, or None.
    :ivar process: its fork server, once that is started.
    """

    def __init__(self, service: GatewayService) -> None:
        self.name: str | None = None
        self.token_of: str | None = None
        self.process: LocalProcess | None = None
        self._service = service
        self._mux = Mux(False, Limits())
        self._inner = _Inner(self)
        self._timeout: Any = None
        self._refused = False

    def connectionMade(self) -> None:
        service = self._service
        service.clients[self] = None
        self._timeout = service.reactor.callLater(HELLO_TIMEOUT, self._abort)
        service.unauthenticated.arrived(self.transport)

    def _abort(self) -> None:
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        inner = self._inner.transport
        if inner is not None:
            inner.write(data)
        elif self.name is None and not self._refused:
            self._read_hello(data)

    def _read_hello(self, data: bytes) -> None:
        hello = None
        for event in self._mux.receive_data(data):
            if event[0] == EV_HELLO:
                hello = event[1]
            elif event[0] == EV_FAILED:
                self._refuse(event[1].code, event[1].message)
                return
        if hello is None:
            return
        service = self._service
        try:
            token = service.admission.token(hello["credential"])
            if token is None:
                name = service.admission.without_token(self.transport, hello["credential"])
            else:
                name = self.token_of = token.name
        except NotAdmitted as problem:
            self._refuse("credential", str(problem))
            return
        if service.stopping:
            self._refuse("limit", "the service is ending")
        elif service.count >= service.configuration.clients:
            self._refuse("limit", f"the service has {service.count} programs, its limit")
        else:
            self._begin(name, hello)

    def withdraw(self) -> None:
        """Its token is withdrawn: drop the connection, which ends all its processes."""
        log.info("{name}: ended, as its token is withdrawn", name=self.name)
        self._abort()

    def _refuse(self, code: str, message: str) -> None:
        self._refused = True
        transport: Any = self.transport
        log.warn(
            "refused {peer}: {code}: {why}",
            peer=endpoints.describe_address(transport.getPeer()),
            code=code,
            why=message[:200],
        )
        self._mux.goaway(code, message)
        transport.write(self._mux.data_to_send())
        transport.loseConnection()

    def _begin(self, name: str, hello: dict[str, Any]) -> None:
        """Start a fork server, and forward bytes between it and the program."""
        service = self._service
        config = {
            "fork_server": {
                "near": os.getpid(),
                "silence": PATIENCE * service.configuration.keepalive,
                "most": service.configuration.workers,
            }
        }
        start = boot(service.configuration.python, clean_environment(), config)
        try:
            self.process = process = LocalProcess(
                list(start.argv), start.env, self._said, service.reactor
            )
        except OSError as problem:
            self._refuse("start", f"can't start {start.argv[0]!r}: {problem}")
            return
        self.name = name
        service.unauthenticated.known(self.transport)
        self._timeout.cancel()
        log.info("{name} is here: process {pid}", name=name, pid=process.pid)
        process.when_ended().addCallback(self._ended)
        before = AfterMarker(self._inner, self._said)
        ProcessTransport(process.stdin, process.stdout, before, service.reactor, start.message)
        inner: Any = self._inner.transport
        transport: Any = self.transport
        # The fork server gets the limits of the program's hello, but not its credential.
        limits = Limits(hello["window"], hello["frame"], hello["channels"])
        inner.write(Mux(True, limits, hello["info"]).data_to_send())
        inner.registerProducer(transport, True)
        transport.registerProducer(inner, True)

    def _said(self, text: str) -> None:
        log.info("{name}: {text}", name=self.name, text=shown(text).rstrip())

    def inner_lost(self) -> None:
        """The fork server's end of the connection is closed."""
        transport: Any = self.transport
        if transport is not None:
            transport.unregisterProducer()
            transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._service.unauthenticated.known(self.transport)
        self.transport = None
        if self._timeout.active():
            self._timeout.cancel()
        if self.process is None:
            self._service.clients.pop(self, None)
        else:
            self.end()

    def _ended(self, status: int) -> None:
        log.info("{name} is gone: {how}", name=self.name, how=describe_status(status))
        self._service.clients.pop(self, None)
        self.inner_lost()

    @deferred
    async def end(self) -> None:
        """End the fork server and all its processes; fires when they have ended."""
        process = self.process
        if process is None:
            self._abort()
            return
        inner: Any = self._inner.transport
        if inner is not None:
            inner.unregisterProducer()
            inner.loseConnection()

        def abort() -> None:
            if inner is not None:
                inner.abortConnection()

        await TransportEnd(process, abort, self._service.reactor).end(EXIT_TIMEOUT)


class GatewayService(ListeningService[SocketServiceConfiguration]):
    """Gives each authorised program a fork server of its own, and its workers.

    :param configuration: the configuration; it has been checked.
    :param failed: called with the error if it can't listen.
    :ivar port: the listening port, once it listens.
    :ivar clients: the programs that are connected, or whose processes have not ended.
    :ivar stopping: whether it takes no more programs.
    """

    reactor: GatewayReactor

    def __init__(
        self,
        configuration: SocketServiceConfiguration,
        reactor: GatewayReactor,
        failed: Callable[[PycomnetError], object],
    ) -> None:
        super().__init__(configuration, reactor, failed)
        self.port: Any = None
        self.clients: dict[SocketClient, None] = {}
        self.unauthenticated = UnauthenticatedConnections(reactor)
        self.stopping = False
        self.admission = Admission.of(
            NAME, (configuration.listen,), configuration.tokens, configuration.token_file
        )

    @property
    def count(self) -> int:
        """The number of authorised programs."""
        return sum(client.name is not None for client in self.clients)

    @deferred
    async def listen(self) -> None:
        """Listen; fires when it does."""
        factory = Factory.forProtocol(lambda: SocketClient(self))
        self.port = await listen_on(self.reactor, self.configuration.listen, factory)
        where = endpoints.client_string(self.port, self.configuration.listen)
        if isinstance(self.admission.checker, ReloadedTokens):
            self.admission.checker.watch(self.reactor, self._withdrawn)
        path = self.admission.token_path
        token = f"//token_file={path}" if path else ""
        log.info("listening; clients reach it with socket={where}{token}", where=where, token=token)

    def _withdrawn(self, names: frozenset[str]) -> None:
        for client in list(self.clients):
            if client.token_of in names:
                client.withdraw()

    @deferred
    async def stopService(self) -> None:
        """Stop listening, wait for the programs for ``drain`` seconds, and end the processes left.

        :returns: fires when no process is left.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        self.stopping = True
        if self.port is not None:
            await defer.maybeDeferred(self.port.stopListening)
        if self.count and self.configuration.drain:
            log.info("stopping: {count} programs have time to end", count=self.count)
            waiting = [
                client.process.when_ended() for client in self.clients if client.process is not None
            ]
            ended = defer.gatherResults(waiting, consumeErrors=True)
            ended.addTimeout(self.configuration.drain, self.reactor)
            ended.addErrback(lambda failure: failure.trap(defer.TimeoutError))
            await ended
        ending = [client.end() for client in list(self.clients)]
        await defer.gatherResults(ending, consumeErrors=True)
        if isinstance(self.admission.checker, ReloadedTokens):
            self.admission.checker.unwatch()
