"""The client of a mediator: makes requests over kept connections, and starts far sides."""

from __future__ import annotations

import json
import re
import secrets
import shlex
from typing import Any, NoReturn
from urllib.parse import urlencode

import attrs
import treq
from treq.client import HTTPClient
from twisted.internet import defer, error, task
from twisted.internet.endpoints import quoteStringArgument
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.iweb import IAgentEndpointFactory, IBodyProducer
from zope.interface import implementer

from pycomnet.deferred import deferred
from pycomnet.errors import CertificateRefused, EndpointError, PeerSilent, PycomnetError
from pycomnet.gateways.spec import Spec
from pycomnet.mediator.chunks import Chunks
from pycomnet.net import _twisted, endpoints
from pycomnet.net.eager import tune_reading
from pycomnet.net.reactorpoll import BusyPoll
from pycomnet.net.reactors import EndpointReactor
from pycomnet.ranges import NumberRefused, real, whole

#: The most bytes that an error shows of a response that isn't HTTP.
MOST_SAID = 60
#: Seconds for the response to a request that the server answers at once.
ANSWER_TIMEOUT = 30.0
#: Seconds to make a connection.
CONNECT_TIMEOUT = 15.0
#: How often the request that starts a far side is repeated if its response was lost.
START_TRIES = 3
#: The most idle connections that are kept.
KEPT = 4
#: Statuses that a proxy returns by itself: they say nothing about the far side.
PROXY_STATUSES = frozenset({408, 425, 502, 504})
#: The whole numbers in a mediator's responses.
COUNTS = ("received", "queue", "request", "low", "high")
#: The error if the server does not speak HTTP, or was killed.
CLOSED = "the connection was closed before the answer"

_TARGET = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:/?#\[\]@\s]+)(?::([0-9]{1,5}))?(/[^?#\s]*)?")


class RequestRefused(PycomnetError):
    """The server refused a request.

    :ivar status: the HTTP status.
    :ivar about: the JSON of the response.
    """

    def __init__(self, message: str, status: int, about: dict[str, Any]) -> None:
        super().__init__(message)
        self.status = status
        self.about = about

    @property
    def is_transient(self) -> bool:
        """Whether a repetition may help: a proxy returned the status, or the server is too busy."""
        return self.status in PROXY_STATUSES or (
            self.status in (429, 500, 503) and "error" not in self.about
        )


@attrs.frozen
class Server:
    """The address of a mediator.

    :ivar url: the URL before the paths of its interface.
    :ivar endpoint: the endpoint string to connect to.
    """

    url: str
    endpoint: str

    @classmethod
    def of(cls, spec: Spec) -> Server:
        """The address that a spec has.

        :raises EndpointError: the address is not valid.
        """
        match = _TARGET.fullmatch(spec.target or "")
        scheme = spec.transport
        if match is None:
            raise EndpointError(f"expected {scheme}=HOST:PORT/PREFIX, not {scheme}={spec.target}")
        host, port, prefix = match.groups()
        number = int(port) if port else {"http": 80, "https": 443}[scheme]
        if number > 65535:
            raise EndpointError(f"{scheme}={spec.target}: there is no port {number}")
        parts = ["tls" if scheme == "https" else "tcp", quoteStringArgument(host.strip("[]"))]
        parts.append(str(number))
        if scheme == "https":
            for key, name in (("ca", "trustRoots"), ("cert", "certificate"), ("key", "privateKey")):
                value = getattr(spec, key)
                if value is not None:
                    parts.append(f"{name}={quoteStringArgument(value)}")
        elif spec.ca or spec.cert or spec.key:
            raise EndpointError("ca, cert and key are for https")
        url = f"{scheme}://{host}{f':{port}' if port else ''}{(prefix or '').rstrip('/')}"
        return cls(url, ":".join(parts))


@implementer(IStreamClientEndpoint)
class _Endpoint:
    """Connects, and tells the client about each transport."""

    def __init__(self, client: MediatorClient) -> None:
        self._client = client

    def connect(self, factory: Any) -> defer.Deferred[Any]:
        connecting = endpoints.client_endpoint(
            self._client.reactor, self._client.server.endpoint
        ).connect(factory)
        connecting.addTimeout(CONNECT_TIMEOUT, self._client.reactor)
        connecting.addCallback(self._client.connected)
        return connecting


@implementer(IAgentEndpointFactory)
class _Endpoints:
    """Returns the same endpoint for any address."""

    def __init__(self, client: MediatorClient) -> None:
        self._client = client

    def endpointForURI(self, uri: object) -> _Endpoint:
        return _Endpoint(self._client)


@implementer(IBodyProducer)
class Body:
    """A request's body that is complete, and is written at once."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.length = len(data)

    def startProducing(self, consumer: Any) -> defer.Deferred[None]:
        consumer.write(self._data)
        return defer.succeed(None)

    def pauseProducing(self) -> None:
        """It is written."""

    def resumeProducing(self) -> None:
        """It is written."""

    def stopProducing(self) -> None:
        """It is written."""


def _read_quickly(protocol: Any) -> None:
    """Have a connection of the pool read much at a time, and copy chunks less often."""
    _twisted.decode_answers(protocol, Chunks)
    received = protocol.dataReceived

    def data_received(data: bytes) -> None:
        tune_reading(protocol.transport, len(data))
        received(data)

    protocol.dataReceived = data_received


class MediatorClient:
    """Makes requests to one server.

    :param token: the bearer token.
    """

    def __init__(self, server: Server, token: str, reactor: EndpointReactor) -> None:
        self.server = server
        self.reactor = reactor
        #: for the WebSocket's endpoint
        self.endpoints = _Endpoints(self)
        self._token = token
        self._transports: list[Any] = []
        self._busy_polls: dict[Any, BusyPoll] = {}
        self._closed = False
        endpoints.client_endpoint(reactor, server.endpoint)  # raises now if it is not valid
        self._pool = HTTPConnectionPool(reactor, persistent=True)
        self._pool.maxPersistentPerHost = KEPT
        self._pool.cachedConnectionTimeout = 30
        self._pool.retryAutomatically = False
        agent = Agent.usingEndpointFactory(reactor, self.endpoints, self._pool)
        self._http = HTTPClient(agent)

    def connected(self, protocol: Any) -> Any:
        """Keep a connection that was made. Returns its protocol."""
        self._transports = [one for one in self._transports if getattr(one, "connected", True)]
        for one in [*self._busy_polls]:
            if not one.connected:
                self._busy_polls.pop(one).stop()
        if hasattr(protocol, "request"):  # otherwise it is for a WebSocket
            _read_quickly(protocol)
        transport = protocol.transport
        if self._closed:
            transport.abortConnection()
        self._transports.append(transport)
        busy_poll = BusyPoll.of(transport)
        if busy_poll is not None:
            self._busy_polls[transport] = busy_poll
        no_delay = getattr(transport, "setTcpNoDelay", None)
        if no_delay is not None:
            no_delay(True)
        return protocol

    def asked(self) -> None:
        """Use busy polling for the reply to the request just sent, on any connection."""
        for busy_poll in self._busy_polls.values():
            busy_poll.wrote = True

    @property
    def newest(self) -> Any:
        """The transport of the newest connection."""
        return self._transports[-1] if self._transports else None

    def request(
        self, method: str, path: str, body: Any = None, headers: Any = None, **query: Any
    ) -> defer.Deferred[Any]:
        """Make a request. Fires with the response once its headers have arrived."""
        url = f"{self.server.url}/{path}"
        wanted = {key: value for key, value in query.items() if value is not None}
        if wanted:
            url += "?" + urlencode(wanted)
        sent: dict[bytes | str, bytes | str] = {
            "Authorization": f"Bearer {self._token}",
            "User-Agent": "pycomnet",
            "Accept": "application/json",
            **(headers or {}),
        }
        options: dict[str, Any] = {}
        if body is not None:
            options["data"] = body
        return self._http.request(
            method,
            url,
            headers=sent,
            unbuffered=True,
            allow_redirects=False,
            browser_like_redirects=False,
            **options,
        )

    @deferred
    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Any = None,
        timeout: float = ANSWER_TIMEOUT,
        **query: Any,
    ) -> dict[str, Any]:
        """Make a request whose response is JSON.

        :param timeout: seconds for the response's head, and for its body.
        :returns: fires with the JSON; fails with :class:`RequestRefused` when the status is not
            2xx.
        """
        response = await self.request(method, path, body, headers, **query).addTimeout(
            timeout, self.reactor, timed_out
        )
        about = await read_json(response, timeout, self.reactor)
        if not 200 <= response.code < 300:
            raise refused(response.code, about)
        return about

    @deferred
    async def start(self, spec: Spec, id: str) -> dict[str, Any]:
        """Ask the server to start a far side.

        :returns: fires with the server's description of it: ``pid`` and so on.
        """
        options: dict[str, Any] = {"id": id}
        if spec.python is not None:
            options["python"] = shlex.join(spec.python)
        for key in ("chdir", "linger"):
            if getattr(spec, key) is not None:
                options[key] = getattr(spec, key)
        if spec.nice:
            options["nice"] = spec.nice
        if spec.execmodel != "thread":
            options["execmodel"] = spec.execmodel
        if spec.env:
            options["env"] = spec.env
        body = json.dumps(options).encode()
        headers = {
            "Idempotency-Key": secrets.token_urlsafe(18),
            "Content-Type": "application/json",
        }
        tries = START_TRIES
        while True:
            tries -= 1
            try:
                return await self.ask("POST", "popen", Body(body), headers)
            except RequestRefused as problem:
                if not problem.is_transient or not tries:
                    raise
            except Exception as problem:
                if not tries or not can_pass(problem):
                    words = explain(problem)
                    if words == CLOSED and self.server.url.startswith("http:"):
                        words += ": it may want https="
                    raise PycomnetError(words) from problem
            await task.deferLater(self.reactor, 0.2)

    def abort(self) -> None:
        """Drop all connections."""
        transports, self._transports = self._transports, []
        busy_polls, self._busy_polls = self._busy_polls, {}
        for busy_poll in busy_polls.values():
            busy_poll.stop()
        for transport in transports:
            transport.abortConnection()

    @deferred
    async def close(self) -> None:
        """Drop all connections; fires when they are closed."""
        self._closed = True
        closing = self._pool.closeCachedConnections()
        self.abort()
        # A descriptor that is aborted is closed in the next turn.
        await task.deferLater(self.reactor, 0)
        await closing


async def read_json(response: Any, timeout: float, reactor: IReactorTime) -> dict[str, Any]:
    """The JSON of a response; if it is not JSON, a map without ``error``."""
    parts: list[bytes] = []

    def collect(data: bytes) -> None:
        if sum(map(len, parts)) < 1 << 24:
            parts.append(data)

    await treq.collect(response, collect).addTimeout(timeout, reactor, timed_out)
    try:
        value = json.loads(b"".join(parts))
    except (ValueError, RecursionError):
        value = None
    return numbers_checked(value) if isinstance(value, dict) else {}


def numbers_checked(about: dict[str, Any]) -> dict[str, Any]:
    """Check the numbers of a mediator's response, and return it.

    :raises PycomnetError: one is not valid.
    """
    try:
        for name in COUNTS:
            if name in about:
                whole(name, about[name])
        if "linger" in about:
            real("linger", about["linger"])
    except NumberRefused as problem:
        raise PycomnetError(f"the server's answer has {problem}") from None
    return about


def timed_out(value: object, timeout: float) -> NoReturn:
    """Raise the error of a request that took too long, in place of Twisted's own.

    :raises TimeoutError: always.
    """
    raise defer.TimeoutError(f"no answer in {timeout:g} seconds")


def refused(status: int, about: dict[str, Any]) -> RequestRefused:
    """Make the error of a response whose status is not 2xx.

    :param about: its JSON; a proxy's has no ``message``.
    """
    message = about.get("message")
    if message is None:
        text = f"the answer was HTTP status {status}, and not the mediator's"
    else:
        text = f"{message} ({status})"
    return RequestRefused(text, status, about)


#: The errors of a TLS connection that another attempt would have, too.
_TLS_ERRORS = (CertificateRefused, PeerSilent)


def can_pass(problem: BaseException) -> bool:
    """Whether the cause of a failed request may be temporary."""
    if isinstance(problem, (error.ConnectError, error.DNSLookupError, *_TLS_ERRORS)):
        return False
    return not _is_tls(problem)


def _is_tls(problem: BaseException) -> bool:
    for reason in getattr(problem, "reasons", ()):
        if isinstance(reason.value, _TLS_ERRORS) or _is_tls(reason.value):
            return True
    return type(problem).__module__.startswith("OpenSSL")


def explain(problem: BaseException) -> str:
    """Why a request failed, in words."""
    for reason in getattr(problem, "reasons", ()):
        return explain(reason.value)
    if isinstance(problem, defer.TimeoutError):
        return "it does not answer"
    if isinstance(problem, error.ConnectionDone):
        return CLOSED
    if type(problem).__module__.startswith("twisted.web.") and problem.args:
        # Its errors have the bytes that could not be read, and no public class.
        said = next((arg for arg in problem.args if isinstance(arg, bytes)), b"")[:MOST_SAID]
        what = f" (it said {said.decode('utf-8', 'replace')!r})" if said else ""
        return f"what listens there does not speak HTTP{what}"
    return endpoints.explain(problem, "http=")
