"""Serves ``/metrics`` for Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.web.resource import Resource

from pycomnet.errors import PycomnetError
from pycomnet.net import endpoints
from pycomnet.net.reactors import EndpointReactor
from pycomnet.net.siteservice import SiteService
from pycomnet.text.logs import Logger

log = Logger()

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


class MetricsService(SiteService):
    """Serves the metrics, as long as the application runs.

    :param listen: the endpoint to listen on.
    :param text: returns the metrics.
    :param failed: called with the error if it can't listen.
    """

    def __init__(
        self,
        listen: str,
        text: Callable[[], bytes],
        failed: Callable[[PycomnetError], object],
        reactor: EndpointReactor,
    ) -> None:
        root = Resource()
        root.putChild(b"metrics", _Page(text))
        super().__init__(root, listen, failed, reactor)

    def listening(self) -> None:
        where = endpoints.describe_address(self.port.getHost())
        log.info("metrics are at {where}, /metrics", where=where)
