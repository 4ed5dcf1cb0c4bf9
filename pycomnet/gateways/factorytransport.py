"""The transport of a gateway whose far side the local factory has started.

docs/protocol.rst, "The factory", describes the values on the two channels.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet import defer
from twisted.python.failure import Failure

from pycomnet.auth import tokens
from pycomnet.channels.channel import Channel, ChannelCore
from pycomnet.channels.connection import Connection
from pycomnet.channels.core import NO_ENDMARKER
from pycomnet.channels.transport import ChannelTransport
from pycomnet.deferred import OneShot, deferred
from pycomnet.errors import ConnectionLost, PycomnetError
from pycomnet.gateways.boot import own_interpreter
from pycomnet.gateways.environment import working_directory
from pycomnet.gateways.handedpipes import HandedPipes, open_journal
from pycomnet.gateways.resumable import ResumableConnection
from pycomnet.gateways.spec import Spec
from pycomnet.gateways.transports.interface import GatewayRequest
from pycomnet.gateways.transports.pipes import ProcessTransport
from pycomnet.gateways.transports.stderr import ErrorText

if TYPE_CHECKING:
    from pycomnet.gateways.localfactory import FactoryConnection, LocalFactory

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


class FactoryGatewayTransport:
    """The transport of a gateway whose far side the service has started."""

    def __init__(self, factory: LocalFactory, request: GatewayRequest) -> None:
        self.what = "its process"
        self._factory = factory
        self._request = request
        self._text = ErrorText(request.output)
        self._control: ChannelCore | None = None
        self._channel: Channel | None = None
        #: the service's first value
        self._answer: OneShot[dict[str, Any]] = OneShot()
        #: the gateway's connection, if it has pipes
        self._direct: Connection | None = None
        #: those pipes, if the gateway lingers
        self._handed: HandedPipes | None = None
        self._reason = ""
        self._ended: OneShot[int | None] = OneShot()
        self._kill_call: Any = None

    @deferred
    async def connect(self, connection: Connection) -> None:
        """Ask the service to start the far side, or to resume it."""
        request = self._request
        try:
            near = await self._factory.connected()
            self._check_not_ended()
            found: dict[str, Any] = await self._send_request(near, near.takes_pipes)
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
                self._close_channels()
                found = await self._send_request(
                    near, False, isinstance(connection, ResumableConnection)
                )
        except PycomnetError as problem:
            self._close_channels()
            self._has_ended(None)
            raise request.not_started(str(problem)) from None
        except BaseException:
            self._close_channels()
            self._has_ended(None)
            raise
        if "failed" in found:
            failed = found["failed"]
            self._has_ended(None)
            raise request.not_started(failed["words"], failed["status"], failed["stderr"])
        channel = self._channel
        assert channel is not None
        if journal is not None and pipes and isinstance(connection, ResumableConnection):
            channel.close()
            connection.restore(found["state"])
            self._direct = connection
            self._handed = HandedPipes(connection, pipes, journal, self._send, request.reactor)
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
    async def _send_request(
        self, near: FactoryConnection, pipes: bool, resume: bool = False
    ) -> dict[str, Any]:
        """Send a request; returns the service's first value.

        :param pipes: whether the service may give pipes.
        :param resume: whether to resume the far side, whatever the spec says.
        """
        self._channel = channel = Channel(near.open("channel", raw=True), self._factory.owner)
        spec = self._request.spec
        if resume:
            spec = attrs.evolve(spec, resume=True)
        asked = request_of(spec, self._request.id, pipes)
        asked["io"] = channel
        self._control = control = near.open("gateway", near.encode(asked))

        def received(value: Any) -> Any:
            return self._received(value) if control is self._control else None

        def failed(failure: Failure) -> None:
            if control is self._control:
                self._control_failed(failure)

        # The answer, or an error, may come at once.
        self._answer = OneShot()
        control.set_callback(received, failed, NO_ENDMARKER)
        found: dict[str, Any] = await self._answer.when_fired()
        self._check_not_ended()
        return found

    def _check_not_ended(self) -> None:
        if self._ended.fired:
            raise PycomnetError("it was ended before it had begun")

    def _report(self, taken: dict[int, int], done: list[int]) -> None:
        self._send({"taken": taken, "done": done})

    def _send(self, value: dict[str, Any]) -> None:
        control = self._control
        if control is not None and control.over is None:
            control.send(control.connection.encode(value)).addErrback(lambda _: None)

    # -- from the service ------------------------------------------------------------------------

    def _received(self, value: Any) -> Any:
        """A value of the service on the control channel."""
        if not self._answer.fired and not _ANSWERS.isdisjoint(value):
            self._answer.fire(value)
        elif "stderr" in value:
            return self._text.feed(value["stderr"].encode())
        elif "ask" in value:
            self._reply(value["ask"])
        elif "rest" in value and self._handed is not None:
            self._handed.rest(value["rest"])
        elif "ended" in value:
            ended = value["ended"]
            self.what, self._reason = ended["what"], ended["how"]
            self._has_ended(ended["status"])
        return None

    def _reply(self, what: str) -> None:
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
            self._send({"idle": not (connection.heard or runs)})
            connection.heard = False

    def _control_failed(self, failure: Failure) -> None:
        """The control channel has ended with an error, or with the service's connection."""
        problem: Any = failure.value
        lost = not self._ended.fired
        if lost:
            self.what = "the factory"
            self._reason = getattr(problem, "reason", None) or str(problem)
        self._answer.fail(problem)
        self._has_ended(None)
        if lost and self._direct is not None:
            self._direct.abort(ConnectionLost(self._reason))
        if self._handed is not None:
            self._handed.release()

    def _has_ended(self, status: int | None) -> None:
        """The far side has ended, or is out of reach: tell who waits for that."""
        if self._kill_call is not None:
            self._kill_call.cancel()
            self._kill_call = None
        self._ended.fire(status)

    def _close_channels(self) -> None:
        """Close both channels to the service."""
        control, self._control = self._control, None
        for core in (control, self._channel and self._channel.core):
            if core is not None:
                core.close()

    # -- as any gateway transport ----------------------------------------------------------------

    @property
    def status(self) -> int | None:
        """The process's exit status."""
        return self._ended.result

    def when_ended(self) -> defer.Deferred[int | None]:
        """Fires with the status when the service reports the end, or is gone itself."""
        return self._ended.when_fired()

    def kill(self, number: int) -> None:
        """Ask the service to send a signal."""
        if self._ended.fired:
            return
        if self._control is None:
            self._has_ended(None)
            return
        self._send({"kill": int(number)})
        if number == signal.SIGKILL and self._kill_call is None:
            self._kill_call = self._request.reactor.callLater(KILL_TIMEOUT, self._give_up)

    def _give_up(self) -> None:
        """The service does not say that it has ended the far side."""
        self._kill_call = None
        self._close_channels()
        self._has_ended(None)

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
        self._has_ended(None)

    def describe_end(self, status: int | None) -> str:
        """How the far side ended, in the service's words."""
        return self._reason

    def keep(self, text: str) -> None:
        """Remember text that its code wrote to standard error."""
        self._text.keep(text)

    def stderr_tail(self) -> str:
        """The last lines of its standard error."""
        return self._text.tail()


def request_of(spec: Spec, id: str, pipes: bool = False) -> dict[str, Any]:
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
