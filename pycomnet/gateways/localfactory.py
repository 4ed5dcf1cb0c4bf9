"""Gateways of the local factory service: the program's end.

A group that uses a factory (:meth:`Group.setlocalfactory`) has one connection to it. Each gateway
has two channels of that connection: a raw one, which carries the gateway's own connection unless it
has pipes, and a *control channel* for everything else. docs/protocol.rst, "The factory", has both.
"""

from __future__ import annotations

import contextlib
import os
import signal
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
from pycomnet.channels.channel import Channel, ChannelCore
from pycomnet.channels.connection import Connection
from pycomnet.channels.core import NO_ENDMARKER
from pycomnet.channels.transport import ChannelTransport
from pycomnet.deferred import OneShot, deferred
from pycomnet.errors import ConnectionLost, FactoryUnreachable, PycomnetError
from pycomnet.far.live import Live
from pycomnet.gateways.environment import working_directory
from pycomnet.gateways.handed import HandedPipes, open_journal
from pycomnet.gateways.limits import fork_server_limits
from pycomnet.gateways.resumable import ResumableConnection
from pycomnet.gateways.spec import Spec
from pycomnet.gateways.transports.boot import own_interpreter
from pycomnet.gateways.transports.interface import GatewayRequest
from pycomnet.gateways.transports.process import ErrorText, ProcessTransport
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
#: Seconds that the service has to say hello.
CONNECT_TIMEOUT = 20.0
#: Seconds between SIGKILL for a gateway and giving up on the service's answer.
KILL_TIMEOUT = 5.0
#: Seconds that the service has to confirm that a gateway is left.
LEAVE_TIMEOUT = 5.0
#: The options of a spec that are names of files. The service runs in another directory.
_FILES = ("ssh_config", "token_file", "ca", "cert", "key")

#: The keys of the service's first value.
_ANSWERS = frozenset(("state", "pipes", "failed"))
#: Channels on which code runs.
_CODE = ("exec", "call")


def default_path(environ: Mapping[str, str] = os.environ) -> Path:
    """The path of the service's socket, in the user's runtime directory.

    If there is no such directory, the socket is in a directory of the user's in ``TMPDIR``. Both
    ends check who owns what they find there.
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
    :ivar alive: whether its far side still runs. If not, what it sent last is still there.
    """

    id: str
    spec: str
    age: float
    left: float
    channels: int
    alive: bool


class _Owner:
    """The gateway of the channels to the service, which have none."""

    id = "factory"

    def abandoned(self, core: ChannelCore) -> None:
        """No action needed: a gateway transport closes its own channels."""


@implementer(IFileDescriptorReceiver)
class _OwnConnection(Connection):
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
        self._connection: _OwnConnection | None = None
        self._connecting: OneShot[_OwnConnection] | None = None
        #: fires when the connection that was made last is closed
        self._over: OneShot[None] = OneShot()
        self.owner = _Owner()

    def connected(self) -> defer.Deferred[_OwnConnection]:
        """Connect, if there is no connection.

        :returns: fires with the connection, or fails with :class:`FactoryUnreachable`. Cancelling
            it only stops waiting.
        """
        known = self._connection
        if known is not None and known.lost is None and known.mux.failed is None:
            return defer.succeed(known)
        if self._connecting is not None:
            return self._connecting.when_fired()
        connecting: OneShot[_OwnConnection] = OneShot()
        self._connecting = connecting
        waiter = connecting.when_fired()
        connecting.follow(self._connect().addBoth(self._tried))
        return waiter

    def _tried(self, result: Any) -> Any:
        self._connecting = None
        if not isinstance(result, Failure):
            self._connection = result
        return result

    @deferred
    async def _connect(self) -> _OwnConnection:
        where = f"the factory at {self.address}"
        try:
            token = self._find_token()
            endpoint = endpoints.client_endpoint(self._reactor, self.address)
            connection = _OwnConnection(
                self._reactor,
                limits=fork_server_limits(FACTORY_WINDOW),
                credential=None if token is None else token.encode(),
                keepalive=KEEPALIVE,
            )
            ready = connection.when_ready()
            ready.addErrback(lambda _: None)
            over: OneShot[None] = OneShot()
            self._over = over
            connection.when_closed.append(lambda _: over.fire(None))
            await endpoint.connect(Factory.forProtocol(lambda: connection))
        except PycomnetError as problem:
            raise FactoryUnreachable(f"{where}: {problem}") from problem
        except Exception as problem:
            raise FactoryUnreachable(
                f"{where}: {endpoints.explain(problem)}; is `twistd pycomnet-factory` running?"
            ) from problem
        hello = connection.when_ready()
        hello.addTimeout(CONNECT_TIMEOUT, self._reactor)
        try:
            await hello
            # The service refuses a peer after its hello. Other peers get an answer.
            await connection.open("resumable", end=True).receive()
        except defer.TimeoutError:
            connection.abort(ConnectionLost("no hello"))
            raise FactoryUnreachable(f"{where}: no hello in {CONNECT_TIMEOUT:g} seconds") from None
        except ConnectionLost as lost:
            raise FactoryUnreachable(f"{where}: {lost.reason}") from lost
        except PycomnetError as problem:
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
        return self._over.when_fired()


def asked_for(spec: Spec, id: str, pipes: bool = False) -> dict[str, Any]:
    """The request for a gateway: the spec, made independent of this program's environment.

    :param pipes: whether the service may give pipes.
    """
    values = {
        field.name: getattr(spec, field.name)
        for field in attrs.fields(Spec)
        if getattr(spec, field.name) != field.default
    }
    values["transport"] = spec.transport
    for key in _FILES:
        if values.get(key) is not None:
            values[key] = os.path.abspath(os.path.expanduser(values[key]))
    if spec.transport == "popen" and spec.via is None:
        values["chdir"] = os.path.normpath(os.path.join(working_directory(), spec.chdir or ""))
        values["python"] = list(spec.python or own_interpreter())
        values["env"] = {**tokens.clean_environment(), **spec.env}
    elif spec.transport in ("http", "https", "socket") and spec.token_file is None:
        values["token"] = tokens.find_token(spec.token)
    return {"id": id, "spec": values, "shown": str(spec), "pipes": pipes}


class FactoryGatewayTransport:
    """The transport of a gateway whose far side the service has started."""

    def __init__(self, factory: LocalFactory, request: GatewayRequest) -> None:
        self.what = "its process"
        self._factory = factory
        self._request = request
        self._text = ErrorText(request.output)
        self._control: ChannelCore | None = None
        self._channel: Channel | None = None
        self._answer: defer.Deferred[dict[str, Any]] | None = None
        #: the gateway's connection, if it has pipes
        self._direct: Connection | None = None
        #: those pipes, if the gateway lingers
        self._handed: HandedPipes | None = None
        self._reason = ""
        self._over: OneShot[int | None] = OneShot()
        self._kill_call: Any = None

    @deferred
    async def connect(self, connection: Connection) -> None:
        """Ask the service to start the far side, or to resume it."""
        request = self._request
        try:
            near = await self._factory.connected()
            self._check_over()
            found: dict[str, Any] = await self._ask(near, near.takes_pipes)
            pipes: tuple[int, ...] | None = ()
            journal = None
            if "pipes" in found:
                pipes = near.descriptors.take(*(tuple(pipe) for pipe in found["pipes"]))
            if pipes and isinstance(connection, ResumableConnection):
                journal = open_journal(pipes)
                pipes = pipes[:2] if journal is not None else None
            if pipes is None:
                # A proxy has dropped them, or this program has no descriptors left.
                near.takes_pipes = False
                # A far side that lingers has been started already: it is resumed.
                self._close()
                found = await self._ask(near, False, isinstance(connection, ResumableConnection))
        except PycomnetError as problem:
            self._close()
            self._end(None)
            raise request.not_started(str(problem)) from None
        except BaseException:
            self._close()
            self._end(None)
            raise
        if "failed" in found:
            failed = found["failed"]
            self._end(None)
            raise request.not_started(failed["words"], failed["status"], failed["stderr"])
        channel = self._channel
        assert channel is not None
        if journal is not None and pipes and isinstance(connection, ResumableConnection):
            channel.close()
            connection.restore(found["state"])
            self._direct = connection
            self._handed = HandedPipes(connection, pipes, journal, self._say, request.reactor)
            connection.dataReceived(found["first"])
            return
        if pipes:
            channel.close()
            self._direct = connection
            write_pipe, read_pipe = pipes
            ProcessTransport(write_pipe, read_pipe, connection, request.reactor)
            if found["first"]:
                connection.dataReceived(found["first"])
            return
        if isinstance(connection, ResumableConnection):
            connection.report = self._report
            connection.restore(found["state"])
        ChannelTransport(channel, connection).start()

    @deferred
    async def _ask(self, near: _OwnConnection, pipes: bool, resume: bool = False) -> dict[str, Any]:
        """Send a request; returns the service's first value.

        :param pipes: whether the service may give pipes.
        :param resume: whether to resume the far side, whatever the spec says.
        """
        self._channel = channel = Channel(near.open("channel", raw=True), self._factory.owner)
        spec = self._request.spec
        if resume:
            spec = attrs.evolve(spec, resume=True)
        asked = asked_for(spec, self._request.id, pipes)
        asked["io"] = channel
        self._control = control = near.open("gateway", near.encode(asked))

        def told(value: Any) -> Any:
            return self._told(value) if control is self._control else None

        def failed(failure: Failure) -> None:
            if control is self._control:
                self._failed(failure)

        control.set_callback(told, failed, NO_ENDMARKER)
        return await self._answer_to(None)

    @deferred
    async def _answer_to(self, value: dict[str, Any] | None) -> dict[str, Any]:
        """Wait for the service's next answer.

        :param value: what to send first, or None.
        """
        answer: defer.Deferred[dict[str, Any]] = defer.Deferred()
        self._answer = answer
        if value is not None:
            self._say(value)
        found: dict[str, Any] = await answer
        self._check_over()
        return found

    def _check_over(self) -> None:
        if self._over.fired:
            raise PycomnetError("it was ended before it had begun")

    def _report(self, taken: dict[int, int], done: list[int]) -> None:
        self._say({"taken": taken, "done": done})

    def _say(self, value: dict[str, Any]) -> None:
        control = self._control
        if control is not None and control.over is None:
            control.send(control.connection.encode(value)).addErrback(lambda _: None)

    # -- from the service ------------------------------------------------------------------------

    def _told(self, value: Any) -> Any:
        if self._answer is not None and not _ANSWERS.isdisjoint(value):
            answer, self._answer = self._answer, None
            if not answer.called:
                answer.callback(value)
        elif "stderr" in value:
            return self._text.feed(value["stderr"].encode())
        elif "ask" in value:
            self._asked(value["ask"])
        elif "rest" in value and self._handed is not None:
            self._handed.rest(value["rest"])
        elif "ended" in value:
            ended = value["ended"]
            self.what, self._reason = ended["what"], ended["how"]
            self._end(ended["status"])
        return None

    def _asked(self, what: str) -> None:
        """The service asks for what it can't see or do itself, as this program has pipes."""
        connection = self._direct
        if connection is None:
            return
        if what == "end":
            connection.goodbye()
        elif what == "got" and self._handed is not None:
            self._handed.ended()
        elif what == "idle":
            runs = any(stream.purpose in _CODE for stream in connection.mux.streams.values())
            self._say({"idle": not (connection.heard or runs)})
            connection.heard = False

    def _failed(self, failure: Failure) -> None:
        problem = failure.value
        lost = not self._over.fired
        if lost:
            self.what = "the factory"
            self._reason = getattr(problem, "reason", None) or str(problem)
        if self._answer is not None:
            answer, self._answer = self._answer, None
            if not answer.called:
                answer.errback(failure)
        self._end(None)
        if lost and self._direct is not None:
            self._direct.abort(ConnectionLost(self._reason))
        if self._handed is not None:
            self._handed.release()

    def _end(self, status: int | None) -> None:
        if self._kill_call is not None:
            self._kill_call.cancel()
            self._kill_call = None
        self._over.fire(status)

    def _close(self) -> None:
        control, self._control = self._control, None
        for core in (control, self._channel and self._channel.core):
            if core is not None:
                core.close()

    # -- as any gateway transport ----------------------------------------------------------------

    @property
    def status(self) -> int | None:
        """The process's exit status."""
        return self._over.result

    def when_ended(self) -> defer.Deferred[int | None]:
        """Fires with the status when the service reports the end, or is gone itself."""
        return self._over.when_fired()

    def kill(self, number: int) -> None:
        """Ask the service to send a signal."""
        if self._over.fired:
            return
        if self._control is None:
            self._end(None)
            return
        self._say({"kill": int(number)})
        if number == signal.SIGKILL and self._kill_call is None:
            self._kill_call = self._request.reactor.callLater(KILL_TIMEOUT, self._give_up)

    def _give_up(self) -> None:
        self._kill_call = None
        self._close()
        self._end(None)

    @deferred
    async def left(self) -> None:
        """The connection is closed, and the service keeps the far side.

        :returns: fires when the service knows that, so that another program can resume it.
        """
        control = self._control
        if control is not None:
            seen = control.wait_close().addTimeout(LEAVE_TIMEOUT, self._request.reactor)
            with contextlib.suppress(PycomnetError, defer.TimeoutError):
                await seen
        self._end(None)

    def describe_end(self, status: int | None) -> str:
        """How the far side ended, in the service's words."""
        return self._reason

    def keep(self, text: str) -> None:
        """Remember text that its code wrote to standard error."""
        self._text.keep(text)

    def stderr_tail(self) -> str:
        """The last lines of its standard error."""
        return self._text.tail()


__all__ = ["FactoryGatewayTransport", "LocalFactory", "Resumable", "asked_for", "default_path"]
