"""The transport of a gateway that a fork server forks, or starts.

On this machine, the process gets the ends of pipes, so the gateway's bytes go straight to it. On
other machines they go through raw channels of the fork server's connection, and of those of the
fork servers behind it (docs/architecture.rst).
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from typing import Any

from twisted.internet import defer
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from pycomnet.channels.channel import Channel, ChannelCore
from pycomnet.channels.connection import Connection
from pycomnet.channels.core import NO_ENDMARKER
from pycomnet.channels.transport import ChannelTransport
from pycomnet.deferred import OneShot, deferred
from pycomnet.errors import ConnectionLost, GatewayNotStarted, PycomnetError
from pycomnet.far.preamble import died_early
from pycomnet.gateways.boot import worker_config
from pycomnet.gateways.environment import divide
from pycomnet.gateways.forkserver.client import ForkServerClient
from pycomnet.gateways.forkserver.route import Route
from pycomnet.gateways.transports.interface import GatewayRequest
from pycomnet.gateways.transports.pipes import ProcessTransport
from pycomnet.gateways.transports.process import describe_status
from pycomnet.gateways.transports.processgateway import ProcessGatewayTransport
from pycomnet.gateways.transports.stderr import ErrorPipe, ErrorText

#: The exit status of a fork server whose interpreter can't fork (far/forkserver/server.py).
NO_FORK = 78
#: Seconds between SIGKILL for a gateway and for its fork server, when that does not answer.
KILL_TIMEOUT = 4.0
#: Seconds between two attempts to pass descriptors while the fork server's socket is full.
FULL_PAUSE = 0.005


class ForkedGatewayTransport:
    """Carries the connection of a gateway that a fork server forks, or starts.

    :param route: finds the route.
    :param alone: makes the transport that is used instead if forking is not possible.
    :param first_alone: whether the first of its kind is started with that, too.
    """

    def __init__(
        self,
        request: GatewayRequest,
        route: Callable[[GatewayRequest], Route],
        alone: Callable[[GatewayRequest], ProcessGatewayTransport] | None = None,
        first_alone: bool = False,
    ) -> None:
        self.id = request.id
        self.what = "its process"
        self.fork_server: ForkServerClient | None = None
        self.route: Route | None = None
        self._request = request
        self._find = route
        self._alone = alone
        self._first_alone = first_alone
        self._instead: ProcessGatewayTransport | None = None
        self._connection: Connection | None = None
        self._text = ErrorText(request.output)
        self._pipe: ErrorPipe | None = None
        self._control: ChannelCore | None = None
        self._reason = ""
        self._over: OneShot[int | None] = OneShot()
        self._kill: IDelayedCall | None = None

    # -- connecting ------------------------------------------------------------------------------

    @deferred
    async def connect(self, connection: Connection) -> None:
        """Let the fork server fork it."""
        request = self._request
        self._connection = connection
        try:
            self.route = route = self._find(request)
        except (PycomnetError, OSError) as problem:
            self._end(None)
            raise request.not_started(str(problem)) from None
        fork_servers = request.group.fork_servers
        if self._alone is not None and fork_servers.starts_alone(
            route.first_hop, self._first_alone and request.spec.fork is None
        ):
            await self._connect_alone()
            return
        try:
            self.fork_server = fork_server = fork_servers.find(route.first_hop, request)
            fork_server.enter(self)
            await fork_server.when_ready()
            async with fork_server.turns:
                await self._ask(fork_server, route, connection)
        except GatewayNotStarted as problem:
            if problem.exit_status == NO_FORK and self._alone is not None and fork_server.failed:
                fork_servers.without_fork.add(route.first_hop.key)
                self.fork_server = None
                await self._connect_alone()
                return
            self._end(None)
            raise request.not_started(problem.words, problem.status, problem.stderr) from None
        except (ConnectionLost, PycomnetError, OSError) as problem:
            self._end(None)
            raise request.not_started(str(problem)) from None
        if route.master is not None:
            self._bind(route.master)

    async def _connect_alone(self) -> None:
        assert self._alone is not None
        assert self._connection is not None
        self._instead = self._alone(self._request)
        self.what = self._instead.what
        await self._instead.connect(self._connection)

    async def _ask(
        self, fork_server: ForkServerClient, route: Route, connection: Connection
    ) -> None:
        spec, near = self._request.spec, fork_server.link.connection
        config = worker_config(spec, self.id)
        if isinstance(connection, Connection):  # a factory's keeps the default
            config["window"] = connection.mux.limits.window
        asked: dict[str, Any] = {"config": config}
        if route.path:
            asked["path"] = [hop.as_map() for hop in route.path]
        if route.argv:
            asked["argv"] = list(route.argv)
        here = route.first_hop.passes_descriptors and not (route.path or route.argv or route.master)
        if here:  # on this machine: the present environment and directory
            asked.update(fork_server.surroundings({**route.first_hop.env, **spec.env}))
        elif route.argv:
            asked["env"], more = divide(spec.env)
            if more:
                config["update"] = more
        else:
            asked["update"] = spec.env
        if not here or fork_server.descriptor_socket is None:
            core = near.open("channel", raw=True)
            channel = Channel(core, fork_server)
            asked["io"] = channel
            self._open(near, asked)
            ChannelTransport(channel, connection).start()
            return
        fds: list[int] = []
        try:
            for _ in range(3):
                fds.extend(os.pipe())
            stdin, write_fd, read_fd, stdout, err_fd, stderr = fds
            while True:
                try:
                    asked["descriptors"] = fork_server.send([stdin, stdout, stderr])
                    break
                except BlockingIOError:
                    await deferLater(self._request.reactor, FULL_PAUSE)
        except BaseException:
            for fd in fds:
                os.close(fd)
            raise
        for fd in (stdin, stdout, stderr):
            os.close(fd)
        self._pipe = ErrorPipe(err_fd, self._text, self._request.reactor)
        ProcessTransport(write_fd, read_fd, connection, self._request.reactor)
        self._open(near, asked)

    def _open(self, near: Connection, asked: dict[str, Any]) -> None:
        self._control = near.open("start", near.encode(asked))
        self._control.set_callback(self._told, self._failed, NO_ENDMARKER)

    def _bind(self, master: str) -> None:
        """End when the gateway from which it was started ends."""
        outer = self._request.group[master].link.transport

        def gone(status: int | None) -> None:
            if not self._over.fired and self._connection is not None:
                why = outer.describe_end(status)
                words = f"the gateway {master}, through which it was reached, is gone"
                self._lose(f"{words}: {why}" if why else words)
                self._connection.abort(ConnectionLost(words))
                self.kill(signal.SIGTERM)

        outer.when_ended().addCallback(gone)

    # -- reports of the fork server --------------------------------------------------------------

    def _told(self, value: Any) -> Any:
        if isinstance(value, bytes):
            return self._text.feed(value)
        if "preamble" in value:
            preamble = value["preamble"].decode("utf-8", "replace").strip()
            self._reason = died_early("", preamble)
        if "status" in value:
            self._end(value["status"])
        return None

    def _failed(self, failure: Failure) -> None:
        error: Any = failure.value
        if not self._over.fired:
            self._lose(getattr(error, "message", None) or str(error))
            self._end(None)
            if self._connection is not None:
                self._connection.abort(ConnectionLost(self._reason))

    def _lose(self, reason: str) -> None:
        self.what = "the route to it"
        self._reason = self._reason or reason

    def _end(self, status: int | None) -> None:
        if self._over.fired:
            return
        if self._kill is not None:
            self._kill.cancel()
            self._kill = None
        if self._pipe is not None:
            self._pipe.finish()
        if self.fork_server is not None:
            self.fork_server.leave(self)
        self._over.fire(status)

    # -- GatewayTransport ------------------------------------------------------------------------

    @property
    def status(self) -> int | None:
        """How the process ended."""
        return self._over.result if self._instead is None else self._instead.status

    def when_ended(self) -> defer.Deferred[int | None]:
        """Fires with the process's status once the fork server has reported its end."""
        if self._instead is not None:
            return self._instead.when_ended()
        return self._over.when_fired()

    def kill(self, number: int) -> None:
        """Let the fork server send its process a signal."""
        if self._instead is not None:
            self._instead.kill(number)
        elif self._over.fired:
            return
        elif self._control is None:
            # It was not requested yet; a fork server that starts only for it is ended.
            fork_server = self.fork_server
            if fork_server is not None and fork_server.users == {self} and not fork_server.ready:
                fork_server.users.clear()
                fork_server.end(0).addBoth(lambda _: self._end(None))
            else:
                self._end(None)
        else:
            connection = self._control.connection
            with contextlib.suppress(Exception):
                self._control.send(connection.encode(int(number))).addErrback(lambda _: None)
            if number == signal.SIGKILL and self._kill is None:
                self._kill = self._request.reactor.callLater(KILL_TIMEOUT, self._kill_fork_server)

    def _kill_fork_server(self) -> None:
        """The fork server does not respond: end it and all its processes."""
        self._kill = None
        if self.fork_server is not None:
            self.fork_server.link.transport.kill(signal.SIGKILL)

    def describe_end(self, status: int | None) -> str:
        """Its process's status in words, or what became of the route to it."""
        if self._instead is not None:
            return self._instead.describe_end(status)
        if self._reason:
            return self._reason
        return "" if status is None else describe_status(status)

    def keep(self, text: str) -> None:
        """Remember what its code wrote to standard error."""
        self._text.keep(text)

    def stderr_tail(self) -> str:
        """The last lines of its standard error, or of the program that was to start it."""
        if self._instead is not None:
            return self._instead.stderr_tail()
        if self._control is None and self.fork_server is not None:
            return self.fork_server.link.transport.stderr_tail()
        return self._text.tail()
