"""Receives streaming responses: a far side's output, passed on as it arrives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet import defer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss

from pycomnet.errors import PycomnetError

if TYPE_CHECKING:
    from pycomnet.mediator.client.posting import Posting

#: Seconds that the server may be silent on a response; it ends the response then.
WAIT = 25.0
#: Seconds more before the connection counts as dead.
SLACK = 15.0


class StreamingResponse(Protocol):
    """The body of a streaming response, passed on as it arrives.

    :param stream: ``stdout`` or ``stderr``.
    :param offset: that of the first byte.
    :ivar worked: whether bytes have arrived, it was open for a while, or it is complete.
    :ivar begun: fires when its first byte has arrived.
    :ivar done: fires when no more will arrive.
    :ivar problem: the reason why it is not complete, or None.
    """

    def __init__(self, posting: Posting, stream: str, offset: int) -> None:
        self._posting = posting
        self._stream = stream
        self._offset = offset
        self._timer: Any = None
        self._steady: Any = None
        self.worked = False
        self.problem: Failure | None = None
        self.begun: defer.Deferred[None] = defer.Deferred()
        self.done: defer.Deferred[None] = defer.Deferred(lambda _: self.drop())

    def connectionMade(self) -> None:
        stream = self._posting.stream
        self._timer = stream.reactor.callLater(WAIT + SLACK, self.drop)
        self._steady = stream.reactor.callLater(stream.steady, self._works)

    def _works(self) -> None:
        """Note that it works. To have begun is not enough: a proxy may cut each one at once."""
        self.worked = True
        self._posting.stream.alive(self._stream)

    def dataReceived(self, data: bytes) -> None:
        self._timer.reset(WAIT + SLACK)
        if not self.begun.called:
            self.begun.callback(None)
            data = data[1:]
            if not data:
                return
        self.worked = True
        try:
            self._posting.received(self._stream, self._offset, data)
        except PycomnetError:
            self.drop()
        self._offset += len(data)

    def drop(self) -> None:
        """Close the connection."""
        if self.transport is not None:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        for call in (self._timer, self._steady):
            if call.active():
                call.cancel()
        if not reason.check(ResponseDone, PotentialDataLoss):
            self.problem = reason
        elif not self.worked:
            self._works()
        for waiting in (self.begun, self.done):
            if not waiting.called:
                waiting.callback(None)
