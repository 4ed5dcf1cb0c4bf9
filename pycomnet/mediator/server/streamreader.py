"""Responses with bytes of a stream: a streaming one, and a complete one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet import defer
from twisted.internet.interfaces import IPushProducer, IReactorTime
from zope.interface import implementer

from pycomnet.mediator.chunks import chunk_writer
from pycomnet.mediator.server.session import MediatorSession
from pycomnet.net import eager

if TYPE_CHECKING:
    from pycomnet.mediator.server.site import HTTPRequest


@implementer(IPushProducer)
class StreamReader:
    """A streaming response: a subprocess's output, sent as it arrives.

    :param stream: ``stdout`` or ``stderr``.
    :param offset: that of the first byte to send.
    :param key: identifies the client; see :class:`~.model.OutputConnection`.
    :param wait: seconds of silence after which it ends.
    """

    def __init__(
        self,
        session: MediatorSession,
        stream: str,
        offset: int,
        key: str,
        wait: float,
        reactor: IReactorTime,
    ) -> None:
        self.key = key
        self._session = session
        self._stream = stream
        self._offset = offset
        self._wait = wait
        self._reactor = reactor
        self._request: Any = None
        self._paused = False
        self._timer: Any = None
        self._write: Callable[[bytes | memoryview], None] = self._nowhere
        self._done: defer.Deferred[None] = defer.Deferred()

    async def run(self, request: HTTPRequest, probe: bool = False) -> None:
        """Answer a request.

        :param probe: begin with a newline, at once. If the client does not get it, a proxy holds
            responses back until they are complete.
        :raises HttpError: 409, another client reads already, or there is nothing at that offset.
        """
        session = self._session
        session.read(self._stream, self._offset, 1)
        session.add_reader(self._stream, self)
        session.attach()
        self._request = request
        request.notifyFinish().addErrback(lambda _: self._finish())
        request.registerProducer(self, True)
        request.write(b"\n" if probe else b"")
        transport = request.channel.transport
        if request.chunked:
            self._write = chunk_writer(transport)
        else:
            eager.flush_now(transport)
            self._write = lambda data: request.write(bytes(data))
        self._timer = self._reactor.callLater(self._wait, self._finish)
        self.wake()
        try:
            await self._done
        finally:
            self._write = self._nowhere
            if self._timer.active():
                self._timer.cancel()
            session.remove_reader(self._stream, self)
            session.detach()
        if not request.disconnected:
            request.unregisterProducer()
            request.channel.site.answered(200)
            request.finish()

    def wake(self) -> None:
        queue = self._session.streams[self._stream]
        if self._done.called:
            return
        if self._offset < queue.base:  # its client has confirmed bytes that were not sent here
            self._finish()
            return
        wrote = False
        while self._offset < queue.end and not self._paused:
            piece = queue.read(self._offset, eager.BULK_SIZE)
            self._offset += len(piece)
            self._write(piece)
            wrote = True
        if wrote:
            self._timer.reset(self._wait)
        if queue.ended and self._offset == queue.end:
            self._finish()

    @staticmethod
    def _nowhere(data: bytes | memoryview) -> None:
        """The write function before the response has begun, and after its end: drop the bytes."""

    def replace(self) -> None:
        self._finish()

    def _finish(self) -> None:
        if not self._done.called:
            self._done.callback(None)

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        self.wake()

    def stopProducing(self) -> None:
        self._paused = True


class _Waiting:
    """The reader of a response that does not stream: waits until there is something to send.

    :param ready: returns whether there is.
    """

    def __init__(self, key: str, ready: Any) -> None:
        self.key = key
        self.done: defer.Deferred[None] = defer.Deferred()
        self._ready = ready

    def wake(self) -> None:
        if self._ready():
            self.replace()

    def replace(self, *_: object) -> None:
        if not self.done.called:
            self.done.callback(None)


async def wait_for_output(
    session: MediatorSession,
    stream: str,
    offset: int,
    key: str,
    wait: float,
    request: HTTPRequest,
    reactor: IReactorTime,
) -> None:
    """Wait until there is something at an offset, or the stream has ended.

    :param wait: the most seconds to wait.
    :raises HttpError: 409, another client reads already, or the offset does not fit.
    """
    queue = session.streams[stream]
    session.read(stream, offset, 1)
    waiting = _Waiting(key, lambda: queue.end > offset or queue.ended)
    session.add_reader(stream, waiting)
    session.attach()
    timer = reactor.callLater(wait, waiting.replace)
    request.notifyFinish().addErrback(waiting.replace)
    waiting.wake()
    try:
        await waiting.done
    finally:
        if timer.active():
            timer.cancel()
        session.remove_reader(stream, waiting)
        session.detach()
