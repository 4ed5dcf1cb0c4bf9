"""The client's WebSocket, which carries a far side's streams."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from twisted.internet import defer
from twisted.python.failure import Failure
from twisted.web.websocket import ConnectionRejected, WebSocketClientEndpoint

from pycomnet.deferred import deferred
from pycomnet.errors import PycomnetError
from pycomnet.gateways.lifecycle import step
from pycomnet.mediator.client.requests import Body, RequestRefused, read_json, refused
from pycomnet.mediator.client.states import (
    LINK,
    LinkEffect,
    LinkEvent,
    LinkState,
    StreamState,
)
from pycomnet.mediator.client.uploads import OCTETS, StreamingBody
from pycomnet.mediator.queues import OffsetError
from pycomnet.mediator.server.sockets import NUMBERS, Socket

if TYPE_CHECKING:
    from pycomnet.mediator.client.httptransport import HTTPTransport

#: Seconds from the request for a WebSocket to the server's first message on it.
OPEN_TIMEOUT = 10.0
#: Seconds that the server has to close the WebSocket once the far side has ended.
CLOSE_TIMEOUT = 1.0
#: When at least this many bytes wait, they are sent in a POST. Over a WebSocket a client masks what
#: it sends, byte by byte, which costs both ends more than all other work.
POST_FROM = 3 << 16
#: Such a POST ends when there has been nothing to send for this many seconds.
POST_IDLE = 0.02
#: Received bytes are confirmed when there are this many.
CONFIRM_EVERY = 1 << 20
#: The most bytes of the response to the handshake, without a body.
MAX_ANSWER = 1 << 16

_SENDING, _POSTING, _CLOSED = LinkState.SENDING, LinkState.POSTING, StreamState.CLOSED
STREAMS = {number: stream for stream, number in NUMBERS.items() if stream != "stdin"}
#: The first line of an informational response, which another response follows.
_INFORMATIONAL = re.compile(rb"HTTP/1\.[0-9] 1[0-9][0-9]")


class NoWebSocket(PycomnetError):
    """No WebSocket can be opened, for example because a proxy does not support them."""


class Lost(PycomnetError):
    """The connection was lost.

    :ivar worked: whether data was transferred on it, or it was open for a while.
    """

    def __init__(self, message: str, worked: bool) -> None:
        super().__init__(message)
        self.worked = worked


class _Factory:
    """A factory that returns an existing protocol."""

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol

    def buildProtocol(self, url: str) -> Any:
        return self._protocol


async def over_websocket(stream: HTTPTransport) -> None:
    """Carry a stream over a WebSocket, until the WebSocket ends.

    :raises NoWebSocket: no WebSocket can be opened.
    :raises RequestRefused: the server refused it.
    :raises Lost: the WebSocket was closed.
    """
    client = stream.client
    body = b'{"path": "/exec/%s/ws"}' % stream.pid.encode()
    headers = {"Content-Type": "application/json"}
    ticket = (await client.ask("POST", "tickets", Body(body), headers))["ticket"]
    stream.alive()
    scheme, _, rest = client.server.url.partition("://")
    url = (
        f"{'wss' if scheme == 'https' else 'ws'}://{rest}/{stream.path}/ws?ticket={ticket}"
        f"&reader={stream.key}&offset={stream.inputs['stdout'].incoming.received}"
        f"&stderr_offset={stream.inputs['stderr'].incoming.received}"
    )
    link = WebSocketLink(stream)
    connecting: defer.Deferred[Any] = defer.Deferred.fromCoroutine(
        WebSocketClientEndpoint(client.endpoints, url).connect(_Factory(link))
    )
    # Twisted's ``connect`` does not fail when the connection is lost during the handshake.
    link.closed.addCallback(lambda _: connecting.cancel())
    connecting.addTimeout(OPEN_TIMEOUT, stream.reactor)
    try:
        await connecting
        await link.answered.addTimeout(OPEN_TIMEOUT, stream.reactor)
        link.check()
    except ConnectionRejected as rejected:
        link.drop()
        status = rejected.response.code
        if status in (401, 404, 410):
            # A plain GET returns the reason as JSON.
            await client.ask("GET", f"{stream.path}/status")
        raise NoWebSocket(f"the answer is HTTP status {status}") from None
    except defer.TimeoutError:
        link.drop()
        raise NoWebSocket("the server does not answer") from None
    except BaseException as problem:
        link.drop()
        link.check()
        if isinstance(problem, Exception):
            # The server has answered the request before: this is about WebSockets.
            stream.failed(problem, "websocket")
        raise
    try:
        await link.closed
        link.check()
    finally:
        stream.carried_by(None)
        link.drop()


class WebSocketLink(Socket):
    """The client's end of the WebSocket.

    :ivar state: the state in the table of :mod:`pycomnet.mediator.client.states`.
    :ivar worked: whether data was transferred on it, or it has been open for a while.
    :ivar answered: fires on the server's first message, or if the WebSocket is closed before it.
    :ivar closed: fires when the WebSocket is closed.
    """

    client = True

    def __init__(self, stream: HTTPTransport) -> None:
        super().__init__(stream.reactor)
        self.state = LinkState.OPENING
        #: the arrived bytes of the handshake's response that Twisted has not got yet
        self._answer = b""
        self.answered: defer.Deferred[None] = defer.Deferred()
        self.closed: defer.Deferred[None] = defer.Deferred(lambda _: self.drop())
        self.worked = False
        self._steady: Any = None
        self.stream = stream
        self._confirm_every = min(CONFIRM_EVERY, stream.queue // 4)
        self.position = 0
        self._posting: defer.Deferred[Any] | None = None
        self._upload: StreamingBody | None = None
        self._said_end = False
        #: how many bytes the server has received, by its last message about it
        self._received = 0
        self._end: dict[str, Any] | None = None
        self._closing: Any = None
        self._refused: RequestRefused | None = None
        self._problem: PycomnetError | None = None

    def check(self) -> None:
        """Check that the WebSocket is open.

        :raises RequestRefused: it is closed, and the server gave a reason.
        :raises Lost: it is closed.
        """
        if self._problem is not None:
            raise self._problem

    def drop(self) -> None:
        """Abort the connection."""
        if self._wire is not None and not self.over:
            self.abort()

    stop = drop

    def negotiationStarted(self, transport: Any) -> None:
        super().negotiationStarted(transport)
        transport.dataReceived = self._handshake

    def _handshake(self, data: bytes) -> None:
        """Give Twisted the response to the handshake, and nothing after it."""
        wire = self._wire
        self._answer += data
        while True:
            end = self._answer.find(b"\r\n\r\n") + 4
            if end < 4:
                if len(self._answer) > MAX_ANSWER:
                    self.drop()
                return
            answer, self._answer = self._answer[:end], self._answer[end:]
            type(wire).dataReceived(wire, answer)
            if self.negotiated or not _INFORMATIONAL.match(answer):
                break  # else it was informational, and the response is still to come
        rest, self._answer = self._answer, b""
        if self.negotiated:
            wire.dataReceived = self.dataReceived
        else:
            del wire.dataReceived
        if rest:
            wire.dataReceived(rest)

    def wake(self) -> None:
        """There is more to send."""
        if self.state is not _SENDING:
            if self.state is _POSTING and self._upload is not None:
                self._upload.wake()
            return
        if self.congested or self.over:
            return
        out = self.stream.out
        if out.end - self.position >= POST_FROM:
            # A request on another connection may overtake bytes on this one.
            alone = out.base == self.position
            self._happens(LinkEvent.MUCH_ALONE if alone else LinkEvent.MUCH)
            return
        while self.position < out.end and not self.congested:
            piece = out.read(self.position, POST_FROM)
            self.send("stdin", self.position, piece)
            self.position += len(piece)
        if self.stream.state is _CLOSED and self.position == out.end and not self._said_end:
            self._said_end = True
            self.tell({"end": True})

    def _post(self) -> None:
        """Send bulk in a POST, also bytes that are written meanwhile, so the order is kept."""
        self._upload = StreamingBody(self, POST_IDLE)
        self._posting = self._request(self._upload)
        self._posting.addCallbacks(self._posted, self._not_posted)

    @deferred
    async def _request(self, upload: StreamingBody) -> int:
        """Send a POST; returns how much the server has received then.

        :raises RequestRefused: the server refused it.
        :raises PycomnetError: the response is not a mediator's.
        """
        stream = self.stream
        response = await stream.client.request(
            "POST", stream.path, upload, OCTETS, offset=self.position
        )
        about = await read_json(response, OPEN_TIMEOUT, stream.reactor)
        if response.code != 200:
            raise refused(response.code, about)
        received = about.get("received", -1)
        if not stream.out.base <= received <= stream.out.end:
            raise PycomnetError("the response to a POST does not tell how much was received")
        return int(received)

    def must_end(self) -> bool:
        """Whether a POST should end as soon as everything is sent."""
        return self.stream.state is _CLOSED

    def _posted(self, received: int) -> None:
        self._posting = self._upload = None
        if self.over:
            return
        self.position = max(self.position, received)
        self.stream.confirmed(received)
        self._happens(LinkEvent.POSTED)

    def _not_posted(self, failure: Failure) -> None:
        """It is unknown how much has arrived. On a new connection the server reports it."""
        self._posting = self._upload = None
        if not self.over:
            problem = failure.value
            if isinstance(problem, RequestRefused) and not (
                problem.is_transient or problem.status == 409 or self.stream.too_large(problem)
            ):
                self._refused = problem
            elif not isinstance(problem, RequestRefused):
                self.stream.not_taken()
            self._happens(LinkEvent.NOT_POSTED)

    # -- received --------------------------------------------------------------------------------

    def opened(self) -> None:
        """Nothing to do: the server sends the first message."""

    def _works(self) -> None:
        """Note that it works. To have opened is not enough: a proxy may cut each one at once."""
        self.worked = True
        self.stream.alive("websocket")

    def received(self, number: int, offset: int, data: bytes) -> None:
        name = STREAMS.get(number)
        if name is None:
            self.drop()
            return
        try:
            self.stream.received(name, offset, data)
        except OffsetError:
            self.drop()
            return
        if not self.worked:
            self._works()
        if self.stream.unconfirmed(self._confirm_every):
            self.confirm()

    def confirm(self, ask: bool = False) -> None:
        """Tell the server how much has been received.

        :param ask: ask the server to report the same.
        """
        said: dict[str, Any] = self.stream.confirming()
        if ask:
            said["ask"] = True
        self.tell(said)

    def told(self, value: dict[str, Any]) -> None:
        stream = self.stream
        if "error" in value:
            status = value.get("status")
            message = f"{value.get('message')} ({status})"
            self._refused = RequestRefused(message, status if isinstance(status, int) else 0, value)
            self.drop()
        elif isinstance(value.get("ended"), dict):
            self._end = self._end or value["ended"]
            self._happens(LinkEvent.ENDED)
        elif isinstance(value.get("received"), int):
            base = stream.out.base
            try:
                stream.confirmed(value["received"])
            except OffsetError:
                self.drop()
                return
            if stream.out.base > base and not self.worked:
                self._works()
            self._received = value["received"]
            self._happens(LinkEvent.RECEIVED)

    def lost(self, reason: Failure) -> None:
        self._problem = self._refused or Lost(
            f"it was closed: {reason.getErrorMessage()}", self.worked
        )
        self._happens(LinkEvent.LOSE)

    # -- lifecycle -------------------------------------------------------------------------------

    def _happens(self, event: LinkEvent) -> None:
        self.state, effect = step(LINK, self.state, event)
        if effect is not None:
            self._effects[effect](self)

    def _begin(self) -> None:
        stream = self.stream
        self.position = self._received
        self._steady = stream.reactor.callLater(stream.steady, self._works)
        stream.carried_by(self)
        self.answered.callback(None)
        self.wake()
        if stream.state is StreamState.CLOSING and stream.out:
            self.confirm(ask=True)

    def _ask(self) -> None:
        self.confirm(ask=True)

    def _confirm_all(self) -> None:
        # The server closes it when it knows that everything has arrived, and then drops its state.
        self.stream.deliver_held()
        self.confirm()
        self._closing = self.stream.reactor.callLater(CLOSE_TIMEOUT, self.drop)

    def _finish(self) -> None:
        for call in (self._steady, self._closing):
            if call is not None and call.active():
                call.cancel()
        if self._upload is not None:
            self._upload.finish()
        if self._posting is not None:
            self._posting.cancel()
        if self._end is not None:
            self.stream.ended(self._end)
        for waiting in (self.answered, self.closed):
            if not waiting.called:
                waiting.callback(None)

    #: the function for each effect in the table of states
    _effects: ClassVar[dict[LinkEffect, Callable[[WebSocketLink], None]]] = {
        LinkEffect.BEGIN: _begin,
        LinkEffect.SEND: wake,
        LinkEffect.ASK: _ask,
        LinkEffect.POST: _post,
        LinkEffect.DROP: drop,
        LinkEffect.CONFIRM: _confirm_all,
        LinkEffect.FINISH: _finish,
    }
