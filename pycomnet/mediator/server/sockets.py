"""The server's WebSockets: one for a subprocess's streams, one for a user's list of them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from h11 import ProtocolError
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.python.failure import Failure
from twisted.web.websocket import WebSocketResource
from wsproto.connection import ConnectionState
from zope.interface import implementer

from pycomnet.mediator.frames import HEADER, Frames, TooLong, frame
from pycomnet.mediator.server.model import HttpError, User
from pycomnet.mediator.server.session import MediatorSession
from pycomnet.net import _twisted, eager
from pycomnet.net.reactorpoll import BusyPoll
from pycomnet.text.logs import Logger

if TYPE_CHECKING:
    from pycomnet.mediator.server.subprocesses import Mediator

log = Logger()

#: The most bytes of one message. One read of a subprocess's output makes one message.
MESSAGE_SIZE = 1 << 18
#: The most bytes of a received message. A longer one ends the connection.
MAX_MESSAGE = 1 << 20
#: Received bytes are confirmed when there are this many.
CONFIRM_EVERY = 1 << 18
#: Bytes of messages that need an answer (pings and JSON) which are taken from a peer that does not
#: read what it was sent.
MAX_UNREAD = 1 << 20
#: Seconds between two checks whether the peer still answers.
PING_INTERVAL = 20.0
#: Close codes of RFC 6455, section 7.4.1.
NORMAL, GOING_AWAY, UNSUPPORTED, POLICY, TOO_BIG = 1000, 1001, 1003, 1008, 1009
#: The states in which wsproto may be given bytes.
READABLE = (ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING)
STDIN, STDOUT, STDERR = 0, 1, 2
NUMBERS = {"stdin": STDIN, "stdout": STDOUT, "stderr": STDERR}


class _Bounded:
    """Collects the pieces of a message, up to a bound.

    Twisted's own collector has no bound. ``negotiationStarted`` replaces it by this one.
    """

    def __init__(self, empty: Any, refuse: Any) -> None:
        self._empty = empty
        self._parts: list[Any] = []
        self._size = 0
        self._refuse = refuse

    def add(self, data: Any) -> None:
        self._size += len(data)
        if self._size > MAX_MESSAGE:
            self._parts.clear()
            self._refuse()
        else:
            self._parts.append(bytes(data) if isinstance(data, bytearray) else data)

    def done(self) -> Any:
        parts, self._parts, self._size = self._parts, [], 0
        return parts[0] if len(parts) == 1 else self._empty.join(parts)


@implementer(IPushProducer)
class Socket:
    """One end of a WebSocket, which checks that its peer answers; client and server use it.

    It puts bytes of streams into frames and takes them out, see :mod:`pycomnet.mediator.frames`.
    All else is Twisted's.

    :ivar client: whether it is the client's end.
    :ivar over: it is closed, or being closed.
    :ivar congested: the peer does not read: send nothing more until :meth:`wake` is called.
    """

    client = False

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._wire: Any = None
        self._frames = Frames(not self.client, MAX_MESSAGE)
        self._busy_poll: BusyPoll | None = None
        self._write: Callable[[eager.Pieces], None] = eager.nowhere
        #: whether the transport reads much at a time
        self._much = False
        #: whether anything has arrived since the last ping
        self._heard = True
        self._pinging: Any = None
        self.congested = False
        #: bytes received while congested that need an answer
        self._unread = 0
        #: whether this object bounds the length of a message, as Twisted does not let it be set
        self._counts = False
        #: bytes that were given to Twisted since the last message
        self._uncounted = 0
        #: whether the handshake is done
        self.negotiated = False
        self.over = False

    def negotiationStarted(self, transport: Any) -> None:
        self._wire = transport
        refuse = self._too_big
        self._counts = not _twisted.bound_messages(
            transport, _Bounded(b"", refuse), _Bounded("", refuse)
        )

    def negotiationFinished(self) -> None:
        self.negotiated = True
        transport = self._wire.transport
        self._write = eager.writer(transport)
        self._busy_poll = BusyPoll.of(transport)
        self._wire.attachProducer(self)
        self._pinging = self._reactor.callLater(PING_INTERVAL, self._ping)
        self.opened()

    def _ping(self) -> None:
        if not self._heard:
            self.abort()
            return
        self._heard = False
        if not self.over:  # else it is being closed, which the peer has to confirm by then
            self._wire.ping()
        self._pinging = self._reactor.callLater(PING_INTERVAL, self._ping)

    def pongReceived(self, payload: bytes) -> None:
        self._heard = True

    def dataReceived(self, data: bytes) -> None:
        """Receive bytes of the connection, once it is a WebSocket."""
        self._heard = True
        whole = self._frames.whole(data)
        if whole is not None:
            if not self.over:
                self.received(*whole)
            return
        much = len(data) >= eager.SMALL_SIZE
        if much is not self._much:
            self._much = much
            eager.tune_reading(self._wire.transport, len(data))
        try:
            for number, offset, piece in self._frames.feed(data):
                if number < 0:
                    self._pass(piece)
                elif not self.over:
                    self.received(number, offset, bytes(piece))
        except TooLong:
            self._too_big()

    def _pass(self, data: bytes | bytearray | memoryview) -> None:
        """Pass bytes to Twisted."""
        wire = self._wire
        if self.congested:
            self._unread += len(data)
            if self._unread > MAX_UNREAD:
                self.abort()
                return
        self._uncounted += len(data)
        if self._counts and self._uncounted > MAX_MESSAGE:
            self._too_big()
        elif _twisted.websocket_state(wire) in READABLE:
            type(wire).dataReceived(wire, bytes(data))
            if _twisted.websocket_state(wire) is not ConnectionState.OPEN:
                # The other end has closed it, or has broken the protocol.
                self.over = True

    def bytesMessageReceived(self, data: bytes | bytearray) -> None:
        self._heard = True
        self._uncounted = 0
        if self.over:
            return
        if len(data) < HEADER.size:
            self.close(UNSUPPORTED)
            return
        number, offset = HEADER.unpack_from(data)
        self.received(number, offset, bytes(data[HEADER.size :]))

    def textMessageReceived(self, message: str) -> None:
        self._heard = True
        self._uncounted = 0
        if self.over:
            return
        try:
            value = json.loads(message)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            self.close(UNSUPPORTED)
            return
        self.told(value)

    def _too_big(self) -> None:
        if not self.over:
            self.close(TOO_BIG)

    def connectionLost(self, reason: Failure) -> None:
        if self._pinging is not None and self._pinging.active():
            self._pinging.cancel()
        if self._busy_poll is not None:
            self._busy_poll.stop()
        self._write = eager.nowhere
        self.over = True
        self.lost(reason)

    def send(self, stream: str, offset: int, data: bytes | memoryview) -> None:
        """Send bytes of a stream."""
        if not self.over:
            if self._busy_poll is not None:
                self._busy_poll.wrote = True
            self._write(frame(NUMBERS[stream], offset, data, self.client))

    def tell(self, value: dict[str, Any]) -> None:
        """Send JSON."""
        if not self.over:
            self._wire.sendTextMessage(json.dumps(value))
            eager.flush_now(self._wire.transport)

    def close(self, code: int = NORMAL) -> None:
        """Close it once all messages are written."""
        if not self.over:
            self.over = True
            self._wire.detachProducer()
            self._wire.loseConnection(code)

    def abort(self) -> None:
        """Abort the connection."""
        self.over = True
        self._wire.transport.abortConnection()

    # -- for subclasses --------------------------------------------------------------------------

    def opened(self) -> None:
        """Called when the handshake is done."""

    def received(self, number: int, offset: int, data: bytes) -> None:
        """Called with bytes of a stream."""
        self.close(UNSUPPORTED)

    def told(self, value: dict[str, Any]) -> None:
        """Called with a JSON message."""

    def lost(self, reason: Failure) -> None:
        """Called when it is closed."""

    def wake(self) -> None:
        """Called when there may be more to send."""

    # -- called by the transport; not to be overridden -------------------------------------------

    def pauseProducing(self) -> None:
        self.congested = True

    def resumeProducing(self) -> None:
        self.congested = False
        self._unread = 0
        self.wake()

    def stopProducing(self) -> None:
        """It is closed."""


class ExecSocket(Socket):
    """A subprocess's streams over a WebSocket.

    :param positions: the client's offset in each stream.
    """

    def __init__(
        self, session: MediatorSession, positions: dict[str, int], key: str, reactor: IReactorTime
    ) -> None:
        super().__init__(reactor)
        self.key = key
        self._session = session
        self._positions = positions
        self._confirmed = session.stdin.received
        self._said_end = False
        self._attached = False

    def opened(self) -> None:
        session = self._session
        try:
            for stream, offset in self._positions.items():
                session.confirm(stream, offset)
                session.read(stream, offset, 1)
                session.add_reader(stream, self)
        except HttpError as problem:
            for stream in self._positions:
                session.remove_reader(stream, self)
            self.refuse(problem)
            return
        self._attached = True
        session.attach()
        session.listeners.add(self.tell)
        session.took.add(self.took)
        self.tell({"received": session.stdin.received})
        session.add_writer(self)
        self.wake()

    def refuse(self, problem: HttpError) -> None:
        """Send an error, and close."""
        self.tell({**problem.as_map(), "status": problem.status})
        self.close(POLICY)

    def received(self, number: int, offset: int, data: bytes) -> None:
        if number != STDIN:
            self.close(UNSUPPORTED)
            return
        session = self._session
        try:
            session.write(offset, data)
        except HttpError as problem:
            self.refuse(problem)

    def took(self) -> None:
        """More was received, here or in a POST: confirm it, so that the client drops it."""
        received = self._session.stdin.received
        if received - self._confirmed >= CONFIRM_EVERY:
            self._confirmed = received
            self.tell({"received": received})

    def told(self, value: dict[str, Any]) -> None:
        session = self._session
        try:
            for name, stream in (("received", "stdout"), ("stderr_received", "stderr")):
                if name in value:
                    offset = value[name]
                    if type(offset) is not int:
                        raise HttpError(400, "argument", f"{name} must be a whole number")
                    session.confirm(stream, offset)
        except HttpError as problem:
            self.refuse(problem)
            return
        if "ask" in value:
            self._confirmed = session.stdin.received
            self.tell({"received": self._confirmed})
        if value.get("end"):
            session.end_input()
        if self._said_end and session.delivered():
            self.close()

    def wake(self) -> None:
        if self.congested or self.over or not self._attached:
            return
        session, positions = self._session, self._positions
        for stream in ("stderr", "stdout"):
            queue = session.streams[stream]
            if positions[stream] < queue.base:  # its client has the bytes between
                positions[stream] = queue.base
            while positions[stream] < queue.end and not self.congested:
                piece = queue.read(positions[stream], MESSAGE_SIZE)
                self.send(stream, positions[stream], piece)
                positions[stream] += len(piece)
        if session.end is not None and not self._said_end and not self.congested:
            self._said_end = True
            self.tell({"ended": session.end.as_map()})

    def replace(self) -> None:
        self._detach()
        self.close(GOING_AWAY)

    def pause(self) -> None:
        self._wire.transport.pauseProducing()

    def resume(self) -> None:
        if not self.over:
            self._wire.transport.resumeProducing()

    def lost(self, reason: Failure) -> None:
        self._detach()

    def _detach(self) -> None:
        session = self._session
        if not self._attached:
            return
        self._attached = False
        for stream in self._positions:
            session.remove_reader(stream, self)
        session.remove_writer(self)
        session.listeners.discard(self.tell)
        session.took.discard(self.took)
        session.detach()
        if self._said_end and session.delivered():
            session.forget()


class StatusSocket(Socket):
    """A user's subprocesses, for the status page: the list, once per interval.

    :param interval: seconds between two messages.
    """

    def __init__(
        self, mediator: Mediator, user: User, reactor: IReactorTime, interval: float = 1.0
    ) -> None:
        super().__init__(reactor)
        self._mediator = mediator
        self._user = user
        self._interval = interval
        self._look: Any = None

    def opened(self) -> None:
        self._mediator.watchers.add(self)
        self._send_list()

    def withdraw(self, names: Collection[str]) -> None:
        """Close it if its user is one of those whose tokens are withdrawn."""
        if self._user.name in names:
            self.close(POLICY)

    def _send_list(self) -> None:
        self._look = self._reactor.callLater(self._interval, self._send_list)
        if not self.congested:
            self.tell(overview(self._mediator, self._user))

    def lost(self, reason: Failure) -> None:
        self._mediator.watchers.discard(self)
        if self._look is not None and self._look.active():
            self._look.cancel()


#: The most ended subprocesses that the list shows.
SHOWN_ENDED = 20


def overview(mediator: Mediator, user: User) -> dict[str, Any]:
    """The map of a user's running and ended subprocesses, for the list and the status page."""
    return {
        "user": user.name,
        "time": time.time(),
        "draining": mediator.draining,
        "processes": [session.as_map() for session in mediator.of(user)],
        "ended": [session.as_map() for session in mediator.past_of(user, SHOWN_ENDED)],
    }


class _ExistingProtocol:
    """A factory that returns an existing protocol."""

    def __init__(self, protocol: Socket) -> None:
        self._protocol = protocol

    def buildProtocol(self, request: Any) -> Any:
        return self._protocol


def upgrade(request: Any, protocol: Socket) -> None:
    """Upgrade a request to a WebSocket.

    :raises HttpError: 426, the request has no Upgrade header, which a proxy may have removed; 400,
        the handshake is not valid.
    """
    headers = request.requestHeaders
    if b"websocket" not in headers.getRawHeaders(b"upgrade", [b""])[0].lower():
        request.setHeader("upgrade", "websocket")
        raise HttpError(426, "websocket", "a WebSocket needs the headers Upgrade and Connection")
    channel = request.channel
    channel.transport.unregisterProducer()  # the channel, which no longer has the connection
    wrong = HttpError(400, "websocket", "the WebSocket's opening handshake is not valid")
    try:
        answer = WebSocketResource(_ExistingProtocol(protocol)).render_GET(request)
    except (ValueError, ProtocolError):  # of wsproto and h11, for no ASCII or header
        raise wrong from None
    if isinstance(answer, bytes):
        raise wrong
    channel.dataReceived = protocol.dataReceived
    channel.requests.clear()  # the connection is the WebSocket's, and may last for days
    # The channel's own timer is for requests.
    channel.setTimeout(None)
