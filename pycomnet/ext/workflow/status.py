"""The status page of a workflow service, and its metrics, over HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from twisted.internet import defer
from twisted.web.resource import NoResource, Resource
from twisted.web.server import NOT_DONE_YET

from pycomnet.errors import PycomnetError
from pycomnet.ext.workflow.records import RunQuery, StepRecord, WorkflowRun
from pycomnet.net.reactors import EndpointReactor
from pycomnet.net.siteservice import SiteService
from pycomnet.net.webpages import HEADERS, PAGE_POLICY
from pycomnet.text.logs import Logger

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from pycomnet.ext.workflow.service import WorkflowService

log = Logger()

#: Path -> the package whose ``page`` folder has the file, the file, and its type. The page is drawn
#: as the mediator's is.
PAGES = {
    b"": ("pycomnet.ext.workflow", "status.html", "text/html; charset=utf-8"),
    b"status.css": ("pycomnet.mediator.server", "status.css", "text/css; charset=utf-8"),
    b"status.js": ("pycomnet.ext.workflow", "status.js", "text/javascript; charset=utf-8"),
}
#: The names that a browser may use for this machine. Under another name a foreign page may have
#: led the browser here (DNS rebinding).
HOSTS = frozenset({"localhost", "127.0.0.1", "::1", ""})
#: The runs that the page shows.
SHOWN = 100


class StatusSite(SiteService):
    """Listens for browsers and for Prometheus. Who can connect sees all runs.

    :param failed: called with the error if it can't listen.
    """

    def __init__(
        self,
        workflows: WorkflowService,
        listen: str,
        failed: Callable[[PycomnetError], object],
        reactor: EndpointReactor,
    ) -> None:
        super().__init__(_Root(workflows), listen, failed, reactor)

    def listening(self) -> None:
        log.info("the status page is at {address}", address=self.address())


class _Root(Resource):
    """All paths of the status site."""

    def __init__(self, workflows: WorkflowService) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._workflows = workflows
        for name, (package, file, kind) in PAGES.items():
            self.putChild(name, _Page(package, file, kind))
        self.putChild(b"runs.json", _Answer(self._runs))
        self.putChild(b"run.json", _Answer(self._run))
        self.putChild(b"metrics", _Answer(self._metrics, b"text/plain; version=0.0.4"))

    def getChild(self, path: bytes, request: Any) -> Resource:
        return NoResource()

    async def _runs(self, request: Any) -> bytes:
        store = self._workflows.store
        rows = await store.list(RunQuery(limit=SHOWN))
        counts = await store.counts()
        shown = {"counts": counts, "runs": [WorkflowRun.seen(row).show() for row in rows]}
        return json.dumps(shown, default=repr).encode()

    async def _run(self, request: Any) -> bytes:
        id = request.args.get(b"id", [b""])[0].decode("utf-8", "replace")
        found = await self._workflows.store.get(id)
        if found is None:
            request.setResponseCode(404)
            return b"{}"
        row, data = found
        steps = sorted(map(StepRecord.load, data), key=lambda one: (one.began, one.order))
        shown = {**WorkflowRun.seen(row).show(), "steps": [one.show() for one in steps]}
        return json.dumps(shown, default=repr).encode()

    async def _metrics(self, request: Any) -> bytes:
        counts = await self._workflows.store.counts()
        return metrics(self._workflows, counts)


class _Page(Resource):
    """A file of the page."""

    isLeaf = True

    def __init__(self, package: str, name: str, kind: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._kind = kind
        self._data = (files(package) / "page" / name).read_bytes()

    def render_GET(self, request: Any) -> bytes:
        if not _begin(request, self._kind.encode()):
            return b""
        return self._data


class _Answer(Resource):
    """A resource whose body a function returns.

    :param function: takes the request, and gives the body.
    """

    isLeaf = True

    def __init__(self, function: Callable[[Any], Any], kind: bytes = b"application/json") -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._function = function
        self._kind = kind

    def render_GET(self, request: Any) -> Any:
        if not _begin(request, self._kind):
            return b""
        gone = request.notifyFinish()
        answering = defer.Deferred.fromCoroutine(self._function(request))
        gone.addErrback(lambda _: answering.cancel())
        answering.addCallbacks(
            self._answered, self._no_answer, callbackArgs=(request,), errbackArgs=(request,)
        )
        return NOT_DONE_YET

    def _answered(self, body: bytes, request: Any) -> None:
        request.write(body)
        request.finish()

    def _no_answer(self, failure: Failure, request: Any) -> None:
        if failure.check(defer.CancelledError):
            return
        if not failure.check(PycomnetError):
            log.failure("the status page failed", failure)
        request.setResponseCode(503)
        request.finish()


def _begin(request: Any, kind: bytes) -> bool:
    """Set the headers; return whether the request may be answered: its Host names this machine."""
    for name, value in HEADERS.items():
        request.setHeader(name, value)
    request.setHeader("content-security-policy", PAGE_POLICY)
    host = (request.requestHeaders.getRawHeaders("host") or [""])[0]
    name = host.rpartition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
    if name.lower() not in HOSTS:
        request.setResponseCode(403)
        return False
    request.setHeader(b"content-type", kind)
    return True


class _Collected:
    """The collector of the metrics' registry.

    :param stored: state -> how many runs the store has in it.
    """

    def __init__(self, workflows: WorkflowService, stored: dict[str, int]) -> None:
        self._workflows = workflows
        self._stored = stored

    def collect(self) -> Iterator[Any]:
        """The present values."""
        runner = self._workflows.runner
        if runner is None:
            return
        runs = GaugeMetricFamily(
            "pycomnet_workflow_runs", "Runs that are kept, by state.", labels=["state"]
        )
        for state, number in sorted(self._stored.items()):
            runs.add_metric([state], number)
        yield runs
        calls = sum(len(live.under_way) for live in runner.live.values())
        for name, words, value in (
            ("live_runs", "Runs in memory: not parked.", len(runner.live)),
            ("transient_runs", "Those that are not durable.", len(runner.transient)),
            ("full", "Whether runs wait for room in memory.", int(runner.is_full)),
            ("calls", "Calls that are under way.", calls),
        ):
            yield GaugeMetricFamily(f"pycomnet_workflow_{name}", words, value)
        counts = runner.counts
        yield CounterMetricFamily(
            "pycomnet_workflow_runs_started", "Runs that were started.", counts.started
        )
        for name, words, by_state in (
            ("runs_ended", "Runs that have ended, by state.", counts.runs),
            ("steps", "Calls that have ended, by state.", counts.steps),
        ):
            ended = CounterMetricFamily(f"pycomnet_workflow_{name}", words, labels=["state"])
            for state, number in sorted(by_state.items()):
                ended.add_metric([state], number)
            yield ended


def metrics(workflows: WorkflowService, stored: dict[str, int]) -> bytes:
    """All metrics in the format of Prometheus. They contain no users and no ids.

    :param stored: what ``IRunStore.counts`` gives.
    """
    registry = CollectorRegistry()
    registry.register(_Collected(workflows, stored))
    return generate_latest(registry)
