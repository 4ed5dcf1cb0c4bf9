"""A small HTTP server beside a daemon's own connections, for browsers and for Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.application import service
from twisted.internet import defer
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from pycomnet.deferred import deferred
from pycomnet.errors import PycomnetError
from pycomnet.net import endpoints
from pycomnet.net.httpconnection import TextConnection
from pycomnet.net.reactors import EndpointReactor

#: Seconds after which a connection without a request is closed.
TIMEOUT = 30


class _WithoutBody(Request):
    """A request whose body is dropped: no page takes one, and it may be longer than the disk."""

    def gotLength(self, length: int | None) -> None:
        super().gotLength(0)  # type: ignore[no-untyped-call]

    def handleContentChunk(self, data: bytes) -> None:
        """Drop it."""


class _QuietSite(Site):
    """A site that has no line in the log for each request."""

    requestFactory = _WithoutBody
    noisy = False
    displayTracebacks = False

    def __init__(self, root: Resource, **options: Any) -> None:
        super().__init__(root, **options)  # type: ignore[no-untyped-call]
        self.protocol: Any = TextConnection

    def acceptableProtocols(self) -> list[bytes]:
        """HTTP/1.1 alone, which is what its connections speak."""
        return [b"http/1.1"]

    def log(self, request: Any) -> None:
        """Nothing: browsers and Prometheus ask every few seconds."""


class SiteService(service.Service):
    """Serves a site, as long as the application runs. Its pages get no bodies of requests.

    :param listen: the endpoint to listen on.
    :param failed: called with the error if it can't listen.
    :ivar port: its listening port, once it listens.
    """

    def __init__(
        self,
        root: Resource,
        listen: str,
        failed: Callable[[PycomnetError], object],
        reactor: EndpointReactor,
    ) -> None:
        self.port: Any = None
        self._site = _QuietSite(root, timeout=TIMEOUT, reactor=reactor)
        self._listen = listen
        self._failed = failed
        self._reactor = reactor
        self._starting: defer.Deferred[None] = defer.succeed(None)

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        self._starting = self._start()
        self._starting.addErrback(self._not_started)

    @deferred
    async def _start(self) -> None:
        self.port = await endpoints.listen(self._reactor, self._listen, self._site)
        self.listening()

    def _not_started(self, failure: Failure) -> None:
        if not failure.check(defer.CancelledError):
            problem: Any = failure.value
            self._failed(problem)

    def listening(self) -> None:
        """It listens from now on: say so."""

    def address(self) -> str:
        """The endpoint by which clients reach it."""
        return endpoints.client_string(self.port, self._listen)

    @deferred
    async def stopService(self) -> None:
        super().stopService()  # type: ignore[no-untyped-call]
        self._starting.cancel()
        if self.port is not None:
            await defer.maybeDeferred(self.port.stopListening)
