"""``/metrics`` for Prometheus: a small HTTP server beside a daemon's own connections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.application import service
from twisted.internet import defer
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import Site

from pycomnet.deferred import deferred
from pycomnet.errors import PycomnetError
from pycomnet.net import endpoints
from pycomnet.net.reactors import EndpointReactor
from pycomnet.text.logs import Logger

log = Logger()

#: Seconds after which a connection without a request is closed.
TIMEOUT = 30
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class _Page(Resource):
    """The metrics."""

    isLeaf = True

    def __init__(self, text: Callable[[], bytes]) -> None:
        super().__init__()
        self._text = text

    def render_GET(self, request: Any) -> bytes:
        request.setHeader("content-type", CONTENT_TYPE)
        return self._text()


class _QuietSite(Site):
    """A site that has no line in the log for each request."""

    noisy = False

    def log(self, request: Any) -> None:
        """Nothing: Prometheus asks every few seconds."""


class MetricsService(service.Service):
    """Serves the metrics, as long as the application runs.

    :param listen: the endpoint to listen on.
    :param text: returns the metrics.
    :param failed: called with the error if it can't listen.
    :ivar port: its listening port, once it listens.
    """

    def __init__(
        self,
        listen: str,
        text: Callable[[], bytes],
        failed: Callable[[PycomnetError], object],
        reactor: EndpointReactor,
    ) -> None:
        self.port: Any = None
        self._listen = listen
        self._text = text
        self._failed = failed
        self._reactor = reactor

    def startService(self) -> None:
        super().startService()
        self._start().addErrback(self._not_started)

    def _not_started(self, failure: Failure) -> None:
        problem: Any = failure.value
        self._failed(problem)

    @deferred
    async def _start(self) -> None:
        root = Resource()
        root.putChild(b"metrics", _Page(self._text))
        site: Any = _QuietSite(root, timeout=TIMEOUT, reactor=self._reactor)
        site.displayTracebacks = False
        self.port = await endpoints.listen(self._reactor, self._listen, site)
        where = endpoints.describe_address(self.port.getHost())
        log.info("metrics are at {where}, /metrics", where=where)

    @deferred
    async def stopService(self) -> None:
        super().stopService()
        if self.port is not None:
            await defer.maybeDeferred(self.port.stopListening)


__all__ = ["MetricsService"]
