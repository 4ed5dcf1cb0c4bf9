"""Makes streaming requests: bytes for a far side are sent while they are being written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import defer
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface import implementer

from pycomnet.mediator.chunks import chunk_writer
from pycomnet.net import eager

#: A write of up to this many bytes may be a small call: use busy polling for the reply.
SMALL = 1 << 12
#: A streaming request ends when there has been nothing to send for this many seconds.
UPLOAD_IDLE = 10.0

#: The content type of a request's body.
OCTETS = {"Content-Type": "application/octet-stream"}


@implementer(IBodyProducer)
class StreamingBody:
    """The body of a streaming request.

    :param posting: its owner, with a ``stream``, the ``position`` in it, and ``must_end``.
    :param idle: it ends when there has been nothing to send for this many seconds.
    :ivar sent: how many bytes it consists of so far.
    """

    length: Any = UNKNOWN_LENGTH

    def __init__(self, posting: Any, idle: float = UPLOAD_IDLE) -> None:
        self._posting = posting
        self._idle = idle
        self._consumer: Any = None
        self._write: Callable[[bytes | memoryview], None]
        self._ended: defer.Deferred[None] = defer.Deferred()
        self._paused = False
        self._timer: Any = None
        self.sent = 0

    def startProducing(self, consumer: Any) -> defer.Deferred[None]:
        self._consumer = consumer
        self._write = chunk_writer(consumer.transport)
        self._timer = self._posting.stream.reactor.callLater(self._idle, self.finish)
        self.wake()
        return self._ended

    def wake(self) -> None:
        """There is more to send."""
        if self._consumer is None or self._paused or self._ended.called:
            return
        posting = self._posting
        out = posting.stream.out
        sent, size = self.sent, posting.stream.post_size
        while posting.position < out.end and not self._paused and self.sent < size:
            piece = out.read(posting.position, min(eager.BULK_SIZE, size - self.sent))
            posting.position += len(piece)
            self.sent += len(piece)
            self._write(piece)
        if self.sent > sent:
            self._timer.reset(self._idle)
            if self.sent - sent <= SMALL:
                posting.stream.client.asked()
        # The response tells how much was received, if nothing else does.
        waits = out.full and posting.position == out.end
        if self.sent >= size or waits or posting.must_end():
            self.finish()

    def finish(self) -> None:
        """End the body."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if not self._ended.called:
            self._ended.callback(None)

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        self.wake()

    def stopProducing(self) -> None:
        self.finish()
