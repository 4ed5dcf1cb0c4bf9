"""The http transport: a far side that a mediator started, reached through HTTP requests."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer

from pycomnet.auth import tokens
from pycomnet.deferred import OneShot, deferred
from pycomnet.errors import EndpointError, PycomnetError, TokenError
from pycomnet.gateways.transports.bootstrap import AfterMarker
from pycomnet.gateways.transports.interface import GatewayRequest, GatewayTransport
from pycomnet.gateways.transports.process import describe_status
from pycomnet.mediator.client.requests import MediatorClient, RequestRefused, Server
from pycomnet.mediator.client.stream import HTTPTransport

#: Seconds within which a server has to report the end of a far side that it was told to kill.
KILL_TIMEOUT = 10.0


class HTTPGatewayTransport:
    """A far side on a server, and the requests to it."""

    what = "its process"

    def __init__(self, request: GatewayRequest) -> None:
        self._request = request
        self._client: MediatorClient | None = None
        self._stream: HTTPTransport | None = None
        self._before: AfterMarker | None = None
        self._starting = False
        self._given_up = False
        self._ended: OneShot[int | None] = OneShot()
        self._reason = ""

    @deferred
    async def connect(self, connection: Any) -> None:
        """Ask the server to start a far side, and connect to it."""
        request = self._request
        try:
            server = Server.of(request.spec)
            token = tokens.find_token(request.spec.token, request.spec.token_file)
            if token is None:
                raise TokenError(
                    f"a token is needed: //token_file=FILE, //token=, or the environment variable "
                    f"{tokens.TOKEN_FILE_VARIABLE} or {tokens.TOKEN_VARIABLE}"
                )
            self._client = client = MediatorClient(server, token, request.reactor)
        except (TokenError, EndpointError) as problem:
            self._over(None, str(problem))
            raise request.not_started(str(problem)) from None
        starting: defer.Deferred[dict[str, Any]] = client.start(request.spec, request.id)
        self._starting = True
        reached: defer.Deferred[dict[str, Any]] = defer.Deferred(lambda _: self._give_up())
        starting.addCallbacks(
            self._started,
            self._not_started,
            callbackArgs=(connection, reached),
            errbackArgs=(reached,),
        )
        await reached

    def _started(
        self, about: dict[str, Any], connection: Any, reached: defer.Deferred[Any]
    ) -> None:
        assert self._client is not None
        self._starting = False
        spec = self._request.spec
        self._stream = stream = HTTPTransport(
            self._client, about, spec.websocket, self._request.output, self._request.reactor
        )
        stream.when_over().addCallback(self._stream_over)
        if self._given_up:
            stream.terminate("TERM")
        else:
            self._before = AfterMarker(connection, self._request.output)
            stream.connect(self._before)
        stream.start()
        if reached.called:
            return
        if self._given_up:
            reached.errback(self._request.not_started("it was ended while it started"))
        else:
            reached.callback(about)

    def _not_started(self, failure: Any, reached: defer.Deferred[Any]) -> None:
        self._starting = False
        problem = failure.value
        words = str(problem) if isinstance(problem, PycomnetError) else failure.getErrorMessage()
        assert self._client is not None
        where = self._client.server.url
        self._client.close().addBoth(lambda _: self._over(None, words))
        if not reached.called:
            reached.errback(self._request.not_started(f"{where}: {words}"))

    def _give_up(self) -> None:
        # The request can't be cancelled: the far side is ended once the server reports what
        # it started.
        self._given_up = True

    def _stream_over(self, end: tuple[int | None, str]) -> None:
        assert self._client is not None
        self._client.close().addBoth(lambda _: self._over(*end))

    def _over(self, status: int | None, reason: str) -> None:
        if not self._ended.fired:
            self._reason = reason
            self._ended.fire(status)

    @property
    def status(self) -> int | None:
        """How the process ended."""
        return self._ended.result

    def when_ended(self) -> defer.Deferred[int | None]:
        """Fires with the process's status once the server has reported that it ended."""
        if self._client is None:
            return defer.succeed(self.status)
        return self._ended.when_fired()

    def kill(self, number: int) -> None:
        """Ask the server to send it a signal."""
        import signal

        if self._stream is not None:
            name = "KILL" if number == signal.SIGKILL else "TERM"
            self._stream.terminate(name, KILL_TIMEOUT)
        elif self._starting:
            self._given_up = True
            if number == signal.SIGKILL:
                self._over(None, "the server has not answered")

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


__all__ = ["HTTPGatewayTransport", "RequestRefused", "gateway_transport"]
