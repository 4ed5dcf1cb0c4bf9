"""The http transport: a far side that a mediator started, reached through HTTP requests."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from twisted.internet import defer
from twisted.python.failure import Failure

from pycomnet.auth import tokens
from pycomnet.deferred import OneShot, deferred
from pycomnet.errors import EndpointError, PycomnetError, TokenError
from pycomnet.gateways.lifecycle import step
from pycomnet.gateways.transports.bootstrap import AfterMarker
from pycomnet.gateways.transports.interface import GatewayRequest, GatewayTransport
from pycomnet.gateways.transports.process import describe_status
from pycomnet.mediator.client.httptransport import HTTPTransport
from pycomnet.mediator.client.requests import MediatorClient, Server
from pycomnet.mediator.client.states import (
    FAR_SIDE,
    FarSideEffect,
    FarSideEvent,
    FarSideState,
)

if TYPE_CHECKING:
    from pycomnet.channels.connection import Connection

#: Seconds within which a server has to report the end of a far side that it was told to kill.
KILL_TIMEOUT = 10.0


class HTTPGatewayTransport:
    """A far side on a server, and the requests to it.

    :param make_client: makes the client of its server, with a token and a reactor.
    :ivar state: the state in the table of :mod:`pycomnet.mediator.client.states`.
    """

    what = "its process"

    def __init__(
        self,
        request: GatewayRequest,
        make_client: Callable[[Server, str, Any], MediatorClient] = MediatorClient,
    ) -> None:
        self.state = FarSideState.NEW
        self._request = request
        self._new_client = make_client
        self._client: MediatorClient | None = None
        self._stream: HTTPTransport | None = None
        self._before: AfterMarker | None = None
        self._connection: Connection | None = None
        #: fires when the far side's streams are connected
        self._reached: defer.Deferred[None] = defer.Deferred(self._cancelled)
        #: how it ended, or why it could not be started
        self._end: tuple[int | None, str] = (None, "")
        self._ended: OneShot[int | None] = OneShot()
        self._reason = ""

    @deferred
    async def connect(self, connection: Connection) -> None:
        """Ask the server to start a far side, and connect to it."""
        request = self._request
        self._connection = connection
        try:
            self._client = client = self._make_client()
        except (TokenError, EndpointError) as problem:
            self._happens(FarSideEvent.CANNOT_ASK, (None, str(problem)))
            raise request.not_started(str(problem)) from None
        starting = client.start(request.spec, request.id).addCallback(self._make_stream)
        self._happens(FarSideEvent.ASK)
        starting.addCallbacks(self._started, self._not_started)
        await self._reached

    def _make_client(self) -> MediatorClient:
        """Make the client for its server.

        :raises EndpointError: the spec has no valid address.
        :raises TokenError: there is no token, or it can't be read.
        """
        spec = self._request.spec
        server = Server.of(spec)
        token = tokens.find_token(spec.token, spec.token_file)
        if token is None:
            raise TokenError(
                f"a token is needed: //token_file=FILE, //token=, or the environment variable "
                f"{tokens.TOKEN_FILE_VARIABLE} or {tokens.TOKEN_VARIABLE}"
            )
        return self._new_client(server, token, self._request.reactor)

    def _make_stream(self, about: dict[str, Any]) -> None:
        """Make the transport to the subprocess that the server has started.

        :raises PycomnetError: the server's response describes no far side.
        """
        request = self._request
        assert self._client is not None
        try:
            self._stream = HTTPTransport(
                self._client, about, request.spec.websocket, request.output, request.reactor
            )
        except (KeyError, TypeError, ValueError):
            raise PycomnetError(
                f"the response does not describe a far side, but is {about!r:.200}: is this the "
                f"address of a mediator?"
            ) from None

    # -- events ----------------------------------------------------------------------------------

    def _started(self, _: object) -> None:
        self._happens(FarSideEvent.STARTED)

    def _not_started(self, failure: Failure) -> None:
        problem = failure.value
        words = str(problem) if isinstance(problem, PycomnetError) else failure.getErrorMessage()
        self._happens(FarSideEvent.NOT_STARTED, (None, words))
        if not self._reached.called:
            assert self._client is not None
            words = f"{self._client.server.url}: {words}"
            self._reached.errback(self._request.not_started(words))

    def _cancelled(self, _: object) -> None:
        # The request can't be cancelled: the far side is ended once the server reports what
        # it started.
        self._happens(FarSideEvent.TERM)

    def kill(self, number: int) -> None:
        """Ask the server to send it a signal."""
        self._happens(FarSideEvent.KILL if number == signal.SIGKILL else FarSideEvent.TERM)

    def _happens(self, event: FarSideEvent, end: tuple[int | None, str] | None = None) -> None:
        """Go to the next state.

        :param end: its status and the reason, if it is the far side's end.
        """
        if end is not None:
            self._end = end
        self.state, effect = step(FAR_SIDE, self.state, event)
        if effect is not None:
            self._effects[effect](self)

    # -- effects ---------------------------------------------------------------------------------

    def _connect(self) -> None:
        stream = self._begin()
        self._before = AfterMarker(self._connection, self._request.output)
        stream.connect(self._before)
        stream.start()
        if not self._reached.called:
            self._reached.callback(None)

    def _end_at_once(self) -> None:
        stream = self._begin()
        stream.terminate("TERM")
        stream.start()
        if not self._reached.called:
            self._reached.errback(self._request.not_started("it was ended while it started"))

    def _begin(self) -> HTTPTransport:
        assert self._stream is not None
        self._stream.when_over().addCallback(lambda end: self._happens(FarSideEvent.OVER, end))
        return self._stream

    def _terminate(self) -> None:
        assert self._stream is not None
        self._stream.terminate("TERM")

    def _kill(self) -> None:
        assert self._stream is not None
        self._stream.terminate("KILL", KILL_TIMEOUT)

    def _give_up(self) -> None:
        words = "the server has not answered"
        if self._request.spec.transport == "https" and self._stream is None:
            words += ": it may speak no TLS, and want http="
        self._report(None, words)

    def _close(self) -> None:
        assert self._client is not None
        self._client.close().addBoth(lambda _: self._happens(FarSideEvent.CLOSED))

    def _finish(self) -> None:
        self._report(*self._end)

    def _report(self, status: int | None, reason: str) -> None:
        if not self._ended.fired:
            self._reason = reason
            self._ended.fire(status)

    #: the function for each effect in the table of states
    _effects: ClassVar[dict[FarSideEffect, Callable[[HTTPGatewayTransport], None]]] = {
        FarSideEffect.CONNECT: _connect,
        FarSideEffect.END: _end_at_once,
        FarSideEffect.TERMINATE: _terminate,
        FarSideEffect.KILL: _kill,
        FarSideEffect.GIVE_UP: _give_up,
        FarSideEffect.CLOSE: _close,
        FarSideEffect.REPORT: _finish,
    }

    # -- GatewayTransport ------------------------------------------------------------------------

    @property
    def status(self) -> int | None:
        """How the process ended."""
        return self._ended.result

    def when_ended(self) -> defer.Deferred[int | None]:
        """Fires with the process's status once the server has reported that it ended."""
        if self.state is FarSideState.NEW:
            return defer.succeed(None)
        return self._ended.when_fired()

    def describe_end(self, status: int | None) -> str:
        """How it ended, in words."""
        if status is None:
            return self._reason
        words = describe_status(status)
        if self._reason not in ("", "exited"):
            words += f": {self._reason}"
        return words if self._before is None else self._before.describe_end(words)

    def keep(self, text: str) -> None:
        """Keep what its code wrote to standard error."""
        if self._stream is not None:
            self._stream.stderr.keep(text)

    def stderr_tail(self) -> str:
        """The last lines of its standard error."""
        return "" if self._stream is None else self._stream.stderr.tail()


def gateway_transport(request: GatewayRequest) -> GatewayTransport:
    """Make the transport of an http gateway."""
    return HTTPGatewayTransport(request)
