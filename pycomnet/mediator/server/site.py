"""HTTP connections and requests of the server; an upload's body is used as it arrives."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, Any

from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web import http, server

from pycomnet.auth.unauthenticated import UnauthenticatedConnections
from pycomnet.mediator.chunks import Chunks
from pycomnet.mediator.server.model import HttpError, User
from pycomnet.mediator.server.session import MediatorSession
from pycomnet.mediator.server.uploads import ForwardedBody
from pycomnet.net import _twisted
from pycomnet.net.eager import flush_now, tune_reading
from pycomnet.net.httpconnection import TextConnection
from pycomnet.net.reactorpoll import BusyPoll
from pycomnet.text.logs import Logger

if TYPE_CHECKING:
    from pycomnet.mediator.server.access import Access

log = Logger()

#: Finds the user of a request whose body is for a subprocess, and the subprocess; returns None for
#: any other request.
Destination = Callable[["HTTPRequest"], "defer.Deferred[tuple[User, MediatorSession]] | None"]

#: The most bytes of a request that is JSON.
MAX_JSON = 1 << 16


class HTTPRequest(server.Request):
    """A request. If it carries bytes for a subprocess, it passes them on as they arrive."""

    channel: Any
    upload: ForwardedBody | None = None
    disconnected = False
    too_large = False

    def parseCookies(self) -> None:
        """Ignore cookies: they authorise nothing."""

    def process(self) -> None:
        if self.path == b"*":
            # OPTIONS of the whole server: Twisted would respond at once, without authentication.
            self.path = b"/*"
        super().process()

    def gotLength(self, length: int | None) -> None:
        self.content: Any = BytesIO()
        # The request line is parsed again when the body is complete; this is the only way to know
        # the body's purpose before that.
        self.method, uri = self.channel.request_line[:2]
        self.uri = uri
        path, _, query = uri.partition(b"?")
        self.path = path
        self.args = http.parse_qs(query, True)
        destination = self.channel.site.destination(self)
        if destination is not None:
            self.upload = ForwardedBody(self, destination, length, self.channel.site.reactor)
            if length is None:
                _twisted.decode_body(self.channel, Chunks, self.handleContentChunk)
        elif length is not None and length > MAX_JSON:
            self.too_large = True

    def handleContentChunk(self, data: bytes) -> None:
        if self.upload is not None:
            self.upload.received(data)
        elif not self.too_large:
            self.content.write(data)
            if self.content.tell() > MAX_JSON:
                self.too_large = True
                self.content = BytesIO()

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        if self.upload is not None:
            self.upload.complete()
        super().requestReceived(command, path, version)

    def connectionLost(self, reason: Any) -> None:
        self.disconnected = True
        if self.upload is not None:
            self.upload.lost()
        super().connectionLost(reason)

    def log_failure(self, failure: Any) -> None:
        """Log an internal error of the server."""
        log.failure("a request failed", failure)

    def body(self) -> Any:
        """The JSON body of a request; an empty body is an empty object.

        :raises HttpError: it is too long, or not JSON.
        """
        if self.too_large:
            raise HttpError(413, "request", f"this request has at most {MAX_JSON} bytes")
        text = self.content.getvalue()
        if not text.strip():
            return {}
        try:
            found = json.loads(text, parse_constant=_no_number)
            text.decode()
            json.dumps(found, ensure_ascii=False).encode()  # fails for half a surrogate pair
        except (ValueError, RecursionError):
            raise HttpError(400, "json", "the body isn't JSON") from None
        return found

    def respond(self, status: int, value: Any) -> None:
        """Respond with JSON."""
        data = json.dumps(value).encode() + b"\n"
        self.setResponseCode(status)
        self.setHeader("content-type", "application/json")
        self.respond_bytes(data)

    def respond_bytes(self, data: bytes | memoryview) -> None:
        """Respond with these bytes, and finish."""
        self.channel.site.answered(self.code)
        self.setHeader("content-length", str(len(data)))
        if self.method != b"HEAD":
            self.write(bytes(data))
        transport = self.channel.transport
        self.finish()
        flush_now(transport)

    def respond_error(self, problem: HttpError) -> None:
        """Respond with an error."""
        if problem.status == 401:
            self.setHeader("www-authenticate", 'Bearer realm="pycomnet"')
        if problem.status in (429, 503):
            self.setHeader("retry-after", str(self.channel.site.retry_after))
        if problem.code == "host":  # the next bytes may be for another server, too
            self.channel.persistent = False
            self.setHeader("connection", "close")
        self.respond(problem.status, problem.as_map())

    def answer_early(self, problem: HttpError) -> None:
        """Respond while the body is still arriving, and close the connection."""
        channel = self.channel
        channel.persistent = False
        channel.dataReceived = lambda data: None
        self.clientproto = b"HTTP/1.1"
        self.setHeader("connection", "close")
        self.setHeader("cache-control", "no-store")
        self.respond_error(problem)


def _no_number(text: str) -> Any:
    """Refuse ``NaN`` and ``Infinity``, which Python reads and JSON does not have."""
    raise ValueError(f"{text} is no number of JSON")


#: Digits of a Content-Length: more than any body has.
LENGTH_DIGITS = 18


@_twisted.answers_bad_requests
class HTTPConnection(TextConnection):
    """A connection of a client.

    Twisted restarts its idle timer with each piece that arrives, however small. Here a request, up
    to the end of its head or of a JSON body, must arrive within the idle timeout. The body of an
    upload may take any time, as long as some of it arrives.

    A malformed request ends the connection: it gets one 400 response, and nothing after it is read.

    :ivar busy_poll: polls for the next request, if the last was answered at once.
    :ivar request_line: the words of the first line of the request that is arriving.
    """

    # Instances of a class share the names of up to 30 attributes. Twisted has nearly as many: with
    # five more in its dictionary each connection would take a kilobyte more.
    __slots__ = ("busy_poll", "request_line", "_arrived_by", "_fresh", "_refused")

    transport: Any
    site: Any

    def __init__(self) -> None:
        super().__init__()
        self.busy_poll: BusyPoll | None = None
        self.request_line: list[bytes] | None = None
        #: whether the next bytes begin a request
        self._fresh = True
        self._refused = False
        self._arrived_by: Any = None

    def lineReceived(self, line: bytes) -> None:
        if not self._refused:
            if self.request_line is None and line:
                self.request_line = line.split()
            super().lineReceived(line)

    def rawDataReceived(self, data: bytes) -> None:
        if not self._refused:
            super().rawDataReceived(data)

    def lineLengthExceeded(self, line: bytes) -> None:
        self.bad_request()

    def headerReceived(self, line: bytes) -> bool:
        if self._refused:
            return False
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length" and len(value.strip()) > LENGTH_DIGITS:
            self.bad_request()
            return False
        right: bool = super().headerReceived(line)
        return right

    def allHeadersReceived(self) -> None:
        if self._refused:
            return
        assert self.request_line is not None
        method, target = self.request_line[:2]
        if not target.startswith(b"/") and (target, method) != (b"*", b"OPTIONS"):
            self.bad_request()
            return
        super().allHeadersReceived()

    def allContentReceived(self) -> None:
        self.request_line = None
        if not self._refused:
            super().allContentReceived()

    def refuse(self) -> None:
        self.bad_request()

    def bad_request(self) -> None:
        """Respond to a malformed request."""
        if self._refused:
            return
        self._refused = True
        for request in self.requests:  # the one at whose head or body it was found
            request.disconnected = True
            if request.upload is not None:
                request.upload.lost()
        self.length = 0
        body = json.dumps({"error": "request", "message": "not a valid HTTP/1.1 request"})
        self.site.answered(400)
        self.transport.write(
            b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncache-control: no-store\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s\n"
            % (len(body) + 1, body.encode())
        )
        self.loseConnection()

    def connectionMade(self) -> None:
        super().connectionMade()
        self.busy_poll = BusyPoll.of(self.transport)
        self.site.unauthenticated.arrived(self.transport)
        self._arrived_by = self.transport

    def known(self) -> None:
        """Count it as unauthenticated no longer: an authorised request came over it, or it is
        closed."""
        if self._arrived_by is not None:
            self.site.unauthenticated.known(self._arrived_by)
            self._arrived_by = None

    def dataReceived(self, data: bytes) -> None:
        tune_reading(self.transport, len(data))
        super().dataReceived(data)

    def resetTimeout(self) -> None:
        if self._fresh or (self.requests and self.requests[-1].upload is not None):
            self._fresh = False
            super().resetTimeout()

    def requestDone(self, request: Any) -> None:
        self._fresh = True
        super().requestDone(request)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self.known()
        if self.busy_poll is not None:
            self.busy_poll.stop()


class Site(server.Site):
    """The server's site.

    :param resource: the root.
    :param access: admits requests.
    :param destination: finds the subprocess that a request's body is for.
    :param answered: called with the status of each response.
    """

    requestFactory = HTTPRequest
    #: seconds for responses that tell the client when to try again
    retry_after = 5

    def __init__(
        self,
        resource: Any,
        access: Access,
        destination: Destination,
        reactor: IReactorTime,
        answered: Callable[[int], object] = lambda status: None,
        **options: Any,
    ) -> None:
        # A body is bytes for a subprocess, whatever content type curl sets.
        super().__init__(
            resource, HTTPRequest, parsePOSTFormSubmission=False, reactor=reactor, **options
        )
        self.protocol: Any = HTTPConnection
        self.access = access
        self.destination = destination
        self.answered = answered
        self.unauthenticated = UnauthenticatedConnections(reactor)

    def acceptableProtocols(self) -> list[bytes]:
        """HTTP/1.1 alone: bodies that are used as they arrive are those of its channel."""
        return [b"http/1.1"]

    def log(self, request: Any) -> None:
        """No access log: what matters is in the audit log, and addresses may have tickets."""
