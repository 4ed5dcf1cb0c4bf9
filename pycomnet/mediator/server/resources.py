"""The resources: the response of each path (docs/protocol.rst, "The HTTP interface")."""

from __future__ import annotations

import signal
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from twisted.internet import defer
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from pycomnet.mediator.server.access import TICKET_TIME, Access
from pycomnet.mediator.server.arguments import (
    confirm_arguments,
    header_text,
    number_argument,
    seconds_argument,
    text_argument,
)
from pycomnet.mediator.server.model import HttpError, User
from pycomnet.mediator.server.session import MediatorSession
from pycomnet.mediator.server.site import HTTPRequest
from pycomnet.mediator.server.sockets import ExecSocket, StatusSocket, overview, upgrade
from pycomnet.mediator.server.streamreader import StreamReader, wait_for_output
from pycomnet.net.endpoints import describe_address
from pycomnet.net.webpages import HEADERS, PAGE_POLICY
from pycomnet.text.logs import Logger

if TYPE_CHECKING:
    from pycomnet.mediator.server.subprocesses import Mediator

log = Logger()

#: Seconds after which a silent streaming response ends, unless its request sets another time:
#: proxies drop a connection that is silent for a minute.
WAIT = 25.0
MAX_WAIT = 3600.0
#: The most bytes of a response that does not stream. A request may ask for less.
MAX_ANSWER = 1 << 20
#: Signals that DELETE may send.
SIGNALS = {"TERM": signal.SIGTERM, "KILL": signal.SIGKILL, "INT": signal.SIGINT}


class Guarded(Resource):
    """A resource whose requests need a token.

    A subclass has a coroutine ``respond_METHOD(request, user)`` for each HTTP method. An
    :class:`HttpError` that it raises becomes the response.

    :cvar ticket_for: the path of the WebSocket, if a ticket is accepted in place of a token.
    """

    ticket_for: str | None = None

    def __init__(self, mediator: Mediator, access: Access) -> None:
        super().__init__()
        self.mediator = mediator
        self.access = access

    def getChild(self, path: bytes, request: Any) -> Resource:
        return Guarded(self.mediator, self.access)

    def render(self, request: Any) -> Any:
        for name, value in HEADERS.items():
            request.setHeader(name, value)
        answering = defer.Deferred.fromCoroutine(self._respond(request))
        answering.addErrback(_failed, request)
        return NOT_DONE_YET

    async def _respond(self, request: HTTPRequest) -> None:
        user: Any = await self.access.login(request, self.ticket_for)
        if request.channel is not None:
            request.channel.known()
        name = request.method.decode("ascii", "replace")
        respond = getattr(self, f"respond_{'GET' if name == 'HEAD' else name}", None)
        if respond is None:
            allowed = [one[8:] for one in dir(self) if one.startswith("respond_")]
            if not allowed:
                raise HttpError(404, "path", "there is nothing here")
            request.setHeader("allow", ", ".join(allowed))
            raise HttpError(405, "method", f"allowed methods: {', '.join(allowed)}")
        await respond(request, user)


def _failed(failure: Any, request: HTTPRequest) -> None:
    problem = failure.value
    if not isinstance(problem, HttpError):
        log.failure("a request failed", failure)
        problem = HttpError(500, "internal", "an internal error; the server's log has the details")
    if not request.disconnected and not request.startedWriting:
        request.respond_error(problem)


class RunningResource(Guarded):
    """``/``: the list of what runs; for a browser the status page, which asks for the token."""

    def render(self, request: Any) -> Any:
        accept = request.requestHeaders.getRawHeaders(b"accept", [b""])[0]
        bearer = request.requestHeaders.hasHeader("authorization")
        if request.method in (b"GET", b"HEAD") and b"text/html" in accept and not bearer:
            return StatusPageFile(self.access, "status.html", "text/html; charset=utf-8").render(
                request
            )
        return super().render(request)

    async def respond_GET(self, request: HTTPRequest, user: User) -> None:
        request.respond(200, overview(self.mediator, user))


class StatusPageFile(Resource):
    """A file of the status page. It has no secrets, and needs no token."""

    isLeaf = True

    def __init__(self, access: Access, name: str, content_type: str) -> None:
        super().__init__()
        self._access = access
        self._type = content_type
        self._data = (files("pycomnet.mediator.server") / "page" / name).read_bytes()

    def render(self, request: Any) -> Any:
        for name, value in HEADERS.items():
            request.setHeader(name, value)
        try:
            self._access.check_source(request)
            if request.method not in (b"GET", b"HEAD"):
                raise HttpError(405, "method", "allowed methods: GET")
        except HttpError as problem:
            request.respond_error(problem)
            return NOT_DONE_YET
        request.setHeader("content-type", self._type)
        request.setHeader("content-security-policy", PAGE_POLICY)
        request.respond_bytes(self._data)
        return NOT_DONE_YET


class Popen(Guarded):
    """``/popen``: start a subprocess."""

    async def respond_POST(self, request: HTTPRequest, user: User) -> None:
        key = header_text(request, b"idempotency-key")
        peer = describe_address(request.getClientAddress())
        session = self.mediator.start(user, request.body(), key, peer)
        request.setHeader("location", f"exec/{session.pid}")
        request.respond(
            201,
            {
                "pid": session.pid,
                "websocket": self.mediator.websocket,
                "linger": session.linger,
                "queue": session.streams["stdout"].limit,
                "request": user.limits.request,
            },
        )


class Exec(Guarded):
    """``/exec``: the parent of the subprocesses' paths."""

    def getChild(self, path: bytes, request: Any) -> Resource:
        return SubprocessResource(self.mediator, self.access, path.decode("ascii", "replace"))


class SubprocessResource(Guarded):
    """``/exec/PID``: a subprocess's standard input and output, and its end."""

    stream = "stdout"

    def __init__(self, mediator: Mediator, access: Access, pid: str) -> None:
        super().__init__(mediator, access)
        self.pid = pid

    def getChild(self, path: bytes, request: Any) -> Resource:
        below = {b"status": Status, b"stderr": Stderr, b"ws": ExecWebSocket}
        kind: Any = below.get(path)
        if kind is not None:
            found: Resource = kind(self.mediator, self.access, self.pid)
            return found
        return super().getChild(path, request)

    async def respond_POST(self, request: HTTPRequest, user: User) -> None:
        if request.upload is None:  # a path that is only similar
            raise HttpError(404, "path", "there is nothing here")
        session = await request.upload.result()
        if text_argument(request, b"end"):
            session.end_input()
        request.respond(200, {"received": session.stdin.received})

    async def respond_GET(self, request: HTTPRequest, user: User) -> None:
        session = self.mediator.find(user, self.pid)
        stream = self.stream
        queue = session.streams[stream]
        confirm_arguments(request, session)
        offset = number_argument(request, b"offset", queue.base)
        session.confirm(stream, offset)
        if session.end is not None and offset == queue.end:
            if session.delivered():
                session.forget()
            raise session.end.gone_error()
        wait = seconds_argument(request, b"wait", WAIT, MAX_WAIT)
        key = text_argument(request, b"reader")
        request.setHeader("content-type", "application/octet-stream")
        request.setHeader("x-accel-buffering", "no")
        request.setHeader("x-pycomnet-offset", str(offset))
        request.setHeader("x-pycomnet-received", str(session.stdin.received))
        if b"max" in request.args:
            most = min(number_argument(request, b"max"), MAX_ANSWER) or MAX_ANSWER
            reactor = self.mediator.reactor
            await wait_for_output(session, stream, offset, key, wait, request, reactor)
            if request.disconnected:
                return
            request.setHeader("x-pycomnet-received", str(session.stdin.received))
            request.respond_bytes(session.read_all(stream, offset, most))
            return
        probe = bool(text_argument(request, b"probe"))
        reader = StreamReader(session, stream, offset, key, wait, self.mediator.reactor)
        await reader.run(request, probe)

    async def respond_DELETE(self, request: HTTPRequest, user: User) -> None:
        session = self.mediator.find(user, self.pid)
        name = text_argument(request, b"signal").upper().removeprefix("SIG")
        if name and name not in SIGNALS:
            raise HttpError(400, "signal", f"the signal must be one of {', '.join(SIGNALS)}")
        session.terminate("its client ended it", SIGNALS.get(name))
        request.respond(202, session.as_map())


class Stderr(SubprocessResource):
    """``/exec/PID/stderr``: a subprocess's standard error."""

    stream = "stderr"
    respond_POST = None  # type: ignore[assignment]
    respond_DELETE = None  # type: ignore[assignment]

    def getChild(self, path: bytes, request: Any) -> Resource:
        return Guarded(self.mediator, self.access)


class Status(Guarded):
    """``/exec/PID/status``: a subprocess's state."""

    def __init__(self, mediator: Mediator, access: Access, pid: str) -> None:
        super().__init__(mediator, access)
        self.pid = pid

    async def respond_GET(self, request: HTTPRequest, user: User) -> None:
        request.respond(200, self.mediator.find(user, self.pid).as_map())


def check_websockets(mediator: Mediator) -> None:
    """Check that WebSockets are available.

    :raises HttpError: 404.
    """
    if not mediator.websocket:
        raise HttpError(404, "websocket", "WebSockets are disabled on this server")


class ExecWebSocket(Guarded):
    """``/exec/PID/ws``: all streams of a subprocess over a WebSocket."""

    def __init__(self, mediator: Mediator, access: Access, pid: str) -> None:
        super().__init__(mediator, access)
        self.pid = pid
        self.ticket_for = f"/exec/{pid}/ws"

    async def respond_GET(self, request: HTTPRequest, user: User) -> None:
        session: MediatorSession = self.mediator.find(user, self.pid)
        check_websockets(self.mediator)
        positions = {
            "stdout": number_argument(request, b"offset", session.streams["stdout"].base),
            "stderr": number_argument(request, b"stderr_offset", session.streams["stderr"].base),
        }
        key = text_argument(request, b"reader")
        upgrade(request, ExecSocket(session, positions, key, self.mediator.reactor))


class StatusWebSocket(Guarded):
    """``/ws``: the list of subprocesses over a WebSocket, each second."""

    ticket_for = "/ws"

    async def respond_GET(self, request: HTTPRequest, user: User) -> None:
        check_websockets(self.mediator)
        upgrade(request, StatusSocket(self.mediator, user, self.mediator.reactor))


class Tickets(Guarded):
    """``/tickets``: makes a ticket, which opens one WebSocket within 30 seconds."""

    async def respond_POST(self, request: HTTPRequest, user: User) -> None:
        body = request.body()
        path = body.get("path") if isinstance(body, dict) else None
        if not isinstance(path, str) or not path.endswith("/ws"):
            raise HttpError(400, "ticket", 'expected {"path": "/ws"} or "/exec/PID/ws"')
        ticket = self.access.ticket(user, path)
        request.respond(201, {"ticket": ticket, "expires_in": TICKET_TIME})


class MetricsPage(Guarded):
    """``/metrics``: the metrics, for Prometheus."""

    async def respond_GET(self, request: HTTPRequest, user: User) -> None:
        request.setHeader("content-type", "text/plain; version=0.0.4; charset=utf-8")
        request.respond_bytes(self.mediator.metrics.text())


def root(mediator: Mediator, access: Access) -> Resource:
    """Make the tree of all resources."""
    top = RunningResource(mediator, access)
    top.putChild(b"", top)
    top.putChild(b"popen", Popen(mediator, access))
    top.putChild(b"exec", Exec(mediator, access))
    top.putChild(b"tickets", Tickets(mediator, access))
    top.putChild(b"ws", StatusWebSocket(mediator, access))
    top.putChild(b"metrics", MetricsPage(mediator, access))
    top.putChild(
        b"status.js", StatusPageFile(access, "status.js", "text/javascript; charset=utf-8")
    )
    top.putChild(b"status.css", StatusPageFile(access, "status.css", "text/css; charset=utf-8"))
    return top


def destination(mediator: Mediator, access: Access) -> Any:
    """Make the function that finds the subprocess that a request's body is for."""

    def find(request: HTTPRequest) -> defer.Deferred[tuple[User, MediatorSession]] | None:
        parts = request.path.split(b"/")
        if request.method != b"POST" or len(parts) != 3 or parts[1] != b"exec":
            return None

        async def look() -> tuple[User, MediatorSession]:
            user: Any = await access.login(request)
            if request.channel is not None:
                request.channel.known()
            return user, mediator.find(user, parts[2].decode("ascii", "replace"))

        return defer.Deferred.fromCoroutine(look())

    return find
