"""gRPC calls: a request with one reply, or a stream of messages in both directions."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from pycomnet.etcd.errors import EtcdError, EtcdOverloaded, EtcdProtocolViolation
from pycomnet.etcd.grpc import (
    MAX_MESSAGE,
    MessageReader,
    check_headers,
    check_status,
    framed,
    unframed,
)
from pycomnet.etcd.headers import Headers
from pycomnet.etcd.streams import Http2Stream

if TYPE_CHECKING:
    from pycomnet.etcd.member import Member


class UnaryCall(Http2Stream):
    """A request with one reply. It may be sent to several members, one after the other.

    :param path: ``/SERVICE/METHOD``.
    :param message: the encoded request.
    :param decode: turns the reply's message into the result.
    :param finished: called with the call, the error or None, and whether the member may have
        processed the request, when a member has replied or failed.
    :param is_write: whether the request may change something. Such a request is not sent again if a
        member may have executed it.
    :param needs_leader: whether a member that knows no leader has to refuse the request.
    :param fixed: the only member that may get the request; None: any.
    :ivar result: fires with the result.
    :ivar member: the member that has the request now, or None.
    :ivar tried: the members that have failed, or None.
    """

    __slots__ = (
        "_answer",
        "_decode",
        "_finished",
        "_has_headers",
        "attempts",
        "due",
        "fixed",
        "is_write",
        "member",
        "message",
        "needs_leader",
        "path",
        "reason",
        "result",
        "timeout",
        "token",
        "tokens",
        "tried",
    )

    def __init__(
        self,
        path: str,
        message: bytes,
        decode: Callable[[bytes], Any],
        finished: Callable[[UnaryCall, EtcdError | None, bool], object],
        is_write: bool = False,
        needs_leader: bool = True,
        fixed: Member | None = None,
        cancelled: Callable[[Any], None] | None = None,
    ) -> None:
        Http2Stream.__init__(self)
        self.path = path
        self.message = framed(message)
        self._decode = decode
        self._finished = finished
        self.is_write = is_write
        self.needs_leader = needs_leader
        self.fixed = fixed
        self.member: Member | None = None
        self.tried: set[Member] | None = None
        self.attempts = 0
        self.token: bytes = b""
        self.tokens = 0
        self.timeout = 0.0
        self.due = 0.0
        #: why the last attempt failed
        self.reason: EtcdError | None = None
        self._answer = b""
        self._has_headers = False
        self.result: Deferred[Any] = Deferred(cancelled)

    def begin(self, member: Member, token: bytes) -> None:
        """Prepare for sending the request to a member."""
        self.member = member
        self.token = token
        self.attempts += 1
        self.id = 0
        self._answer = b""
        self._has_headers = False

    def headers_received(self, headers: Headers, is_end: bool) -> None:
        if not self._has_headers:
            self._has_headers = True
            wrong = check_headers(headers)
            if wrong is not None:
                self._stop(wrong, is_end)
                return
        if is_end:
            error = check_status(headers, self.is_write)
            if error is None:
                self._succeed()
            else:
                self._finished(self, error, True)

    def _succeed(self) -> None:
        try:
            result = self._decode(bytes(unframed(self._answer)))
        except EtcdProtocolViolation as problem:
            self._finished(self, problem, True)
            return
        self._answer = b""
        self._finished(self, None, True)
        self.result.callback(result)

    def data_received(self, data: bytes) -> bool:
        if not self._has_headers:
            self._stop(EtcdProtocolViolation("data before the headers"), False)
        elif not self._answer:
            # Nearly all replies come in one frame.
            self._answer = data
        elif isinstance(self._answer, bytearray):
            self._answer += data
        else:
            self._answer = bytearray(self._answer) + data  # type: ignore[assignment]
        if len(self._answer) > MAX_MESSAGE:
            text = f"the answer has more than {MAX_MESSAGE} bytes: ask for less, with a limit"
            self._stop(EtcdOverloaded(text), False)
        return True

    def _stop(self, error: EtcdError, is_end: bool) -> None:
        if not is_end and self.member is not None:
            self.member.reset(self)
        self._finished(self, error, True)

    def data_ended(self) -> None:
        self._finished(self, EtcdProtocolViolation("the answer ends without its status"), True)

    def lost(self, reason: Exception, was_processed: bool) -> None:
        error = reason if isinstance(reason, EtcdError) else EtcdError(str(reason))
        self._finished(self, error, was_processed)


class StreamCall(Http2Stream):
    """A call with messages in both directions, on one connection.

    :param message: called with each message. It returns None, or a Deferred that fires when the
        message is processed. Until then the member can send no more than the stream's window.
    :param ended: called once with the error when the stream ends, except by :meth:`stop`.
    """

    __slots__ = (
        "_ended",
        "_has_headers",
        "_held",
        "_is_delivering",
        "_is_paused",
        "_later",
        "_member",
        "_message",
        "_messages",
        "_reader",
    )

    def __init__(
        self,
        message: Callable[[bytes], Deferred[None] | None],
        ended: Callable[[EtcdError], object],
    ) -> None:
        Http2Stream.__init__(self)
        self._message = message
        self._ended: Callable[[EtcdError], object] | None = ended
        self._reader = MessageReader()
        self._member: Member | None = None
        self._has_headers = False
        #: the messages that wait until the handler is ready,
        self._messages: deque[bytes] = deque()
        #: the data after them, and the consumed bytes for which the window was not reopened yet
        self._later: deque[bytes] = deque()
        self._held = 0
        self._is_paused = False
        self._is_delivering = False

    def start(self, member: Member, path: str, token: bytes, message: bytes, leader: bool) -> None:
        """Open the stream on a member's connection and send a first message."""
        self._member = member
        member.request(self, path, leader, token, framed(message), False)

    def send(self, message: bytes) -> None:
        """Send a message."""
        self.send_framed(framed(message))

    def send_framed(self, messages: bytes) -> None:
        """Send messages that already have gRPC's length prefix."""
        if self._ended is not None and self._member is not None:
            self._member.send(self, messages)

    def stop(self) -> None:
        """End the stream. Neither function is called any more."""
        self._ended = None
        self._messages.clear()
        self._later.clear()
        if self._member is not None:
            self._member.reset(self)

    def headers_received(self, headers: Headers, is_end: bool) -> None:
        if not self._has_headers:
            self._has_headers = True
            wrong = check_headers(headers)
            if wrong is not None:
                self._end(wrong)
                return
        if is_end:
            self._end(check_status(headers, False) or EtcdError("the member has ended the stream"))

    def data_received(self, data: bytes) -> bool:
        if not self._has_headers:
            self._end(EtcdProtocolViolation("data before the headers"))
            return True
        if self._is_paused:
            self._later.append(data)
        else:
            self._read(data)
        if self._is_paused:
            self._held += len(data)
            return False
        return True

    def _read(self, data: bytes) -> None:
        try:
            self._messages += self._reader.receive(data)
        except EtcdProtocolViolation as problem:
            self._end(problem)
            return
        self._is_delivering = True
        while self._messages and not self._is_paused:
            pausing = self._message(self._messages.popleft())
            if pausing is not None:
                self._is_paused = True
                pausing.addBoth(self._resume)
        self._is_delivering = False

    def _resume(self, result: object) -> None:
        """A message is processed: deliver the next ones."""
        self._is_paused = False
        if self._is_delivering:
            return
        self._read(b"")
        while self._later and not self._is_paused:
            self._read(self._later.popleft())
        if not self._is_paused and self._held and self._member is not None:
            held, self._held = self._held, 0
            self._member.taken(self, held)

    def data_ended(self) -> None:
        self._end(EtcdProtocolViolation("the stream ends without its status"))

    def lost(self, reason: Exception, was_processed: bool) -> None:
        self._end(reason if isinstance(reason, EtcdError) else EtcdError(str(reason)))

    def going_away(self) -> None:
        self._end(EtcdError("the member goes away"))

    def _end(self, error: EtcdError) -> None:
        ended = self._ended
        self.stop()
        if ended is not None:
            ended(error)


class HasDeadline(Protocol):
    """A call with a deadline: its timeout in seconds, and the clock's time at which it ends."""

    timeout: float
    due: float


class CallDeadlines:
    """Times out calls. Calls with the same timeout share a timer.

    :param expired: called with each call whose deadline has passed.
    """

    def __init__(self, clock: IReactorTime, expired: Callable[[Any], object]) -> None:
        self._clock = clock
        self._expired = expired
        #: timeout -> its calls, the earliest first
        self._calls: dict[float, dict[HasDeadline, None]] = {}
        self._timers: dict[float, IDelayedCall] = {}

    def add(self, call: HasDeadline, timeout: float) -> None:
        """Start the timeout of a call, in seconds."""
        call.timeout = timeout
        call.due = self._clock.seconds() + timeout
        calls = self._calls.get(timeout)
        if calls is None:
            calls = self._calls[timeout] = {}
            self._timers[timeout] = self._clock.callLater(timeout, self._expire, timeout)
        calls[call] = None

    def remove(self, call: HasDeadline) -> None:
        """Cancel the timeout of a call, if it has one."""
        calls = self._calls.get(call.timeout)
        if calls is not None:
            calls.pop(call, None)

    def _expire(self, timeout: float) -> None:
        now = self._clock.seconds()
        calls = self._calls[timeout]
        late = []
        for call in calls:
            if call.due > now:
                break
            late.append(call)
        for call in late:
            del calls[call]
        following = next(iter(calls), None)
        if following is None:
            del self._calls[timeout], self._timers[timeout]
        else:
            wait = max(following.due - now, 0.0)
            self._timers[timeout] = self._clock.callLater(wait, self._expire, timeout)
        for call in late:
            self._expired(call)

    def stop(self) -> None:
        """Cancel all timers."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._calls.clear()
