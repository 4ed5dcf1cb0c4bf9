"""The client's end of a far side's streams: a transport that outlives the connections it uses."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, ClassVar

from twisted.internet import defer, error
from twisted.internet.interfaces import IPushProducer, IReactorTime, ITransport
from twisted.python.failure import Failure
from zope.interface import implementer

from pycomnet.deferred import OneShot, deferred
from pycomnet.gateways.lifecycle import step
from pycomnet.mediator.client.errortext import RemoteErrorText
from pycomnet.mediator.client.outages import Outages
from pycomnet.mediator.client.pausableinput import PausableInput
from pycomnet.mediator.client.posting import MAX_DROPS, Posting
from pycomnet.mediator.client.requests import MediatorClient, RequestRefused
from pycomnet.mediator.client.states import STREAM, StreamEffect, StreamEvent, StreamState
from pycomnet.mediator.client.websocket import Lost, NoWebSocket, over_websocket
from pycomnet.mediator.queues import OutgoingQueue
from pycomnet.net.backoff import Backoff
from pycomnet.text.logs import Logger

log = Logger()

#: Bytes of standard error that are received before they are confirmed; the server keeps less of it.
STDERR_CONFIRM = 1 << 16
#: Unconfirmed bytes at which the writer is paused.
OUT_LIMIT = 8 << 20
#: Bytes of a request, at first; a proxy that takes less returns status 413. A request ends sooner
#: if nothing confirms its bytes and the queue is full.
POST_SIZE = 16 << 20
MIN_POST_SIZE = 1 << 16
#: Seconds before a failed request is repeated: the first time, and at most.
FIRST_DELAY, MAX_DELAY = 0.05, 5.0
#: Seconds after which an open connection counts as working, even without traffic.
STEADY = 5.0
#: The states in which writes are accepted.
_OPEN, _CLOSING = StreamState.OPEN, StreamState.CLOSING


class _Nobody:
    """A protocol that drops the bytes of a stream without a reader."""

    def makeConnection(self, transport: object) -> None:
        """Nothing to do."""

    def dataReceived(self, data: bytes) -> None:
        """Drop the bytes."""

    def connectionLost(self, reason: object) -> None:
        """Nothing to do."""


@implementer(ITransport, IPushProducer)
class HTTPTransport:
    """A transport to the standard input and output of a far side on a server.

    :param about: the server's response when it started the far side.
    :param websocket: ``yes``, ``no`` or ``auto``.
    :param output: called with what it writes to standard error; it waits for a returned Deferred.
    :ivar state: the state in the table of :mod:`pycomnet.mediator.client.states`.
    :ivar out: the queue of bytes for the far side.
    :ivar inputs: what arrives from it, by stream.
    :ivar stderr: its standard error.
    :ivar key: identifies this client, so that its next connection may replace the last one.
    :ivar queue: the most bytes of output that the server keeps for it.
    :ivar alive: called when the server has answered; see :meth:`.Outages.alive`.
    :ivar failed: called when a request has failed; see :meth:`.Outages.failed`.
    """

    def __init__(
        self,
        client: MediatorClient,
        about: dict[str, Any],
        websocket: str,
        output: Callable[[str], Any],
        reactor: IReactorTime,
    ) -> None:
        self.client = client
        self.reactor = reactor
        self.pid = str(about["pid"])
        self.path = f"exec/{self.pid}"
        self.key = secrets.token_urlsafe(9)
        self.queue = int(about.get("queue", 1 << 20))
        self._stderr_confirm = min(STDERR_CONFIRM, self.queue // 4)
        #: bytes of a request
        self.post_size = min(POST_SIZE, int(about.get("request", POST_SIZE)))
        self.out = OutgoingQueue(OUT_LIMIT)
        self.stderr = RemoteErrorText(output, self._taken)
        self.inputs = {"stdout": PausableInput(self._arrived), "stderr": self.stderr.input}
        self._confirmed = {"stdout": 0, "stderr": 0}
        self.state = StreamState.OPEN
        #: whether a connection has carried it yet
        self.used = False
        linger = float(about.get("linger", 60.0))
        #: seconds after which an open connection counts as working: less than ``linger``, after
        #: which the gateway ends
        self.steady = min(STEADY, linger / 2)
        self._websocket = websocket != "no" and bool(about.get("websocket"))
        self._only_websocket = websocket == "yes"
        #: WebSockets in a row that were closed before they worked
        self._drops = 0
        self._protocol: Any = _Nobody()
        self._producer: Any = None
        self._paused = False
        #: the link that carries it now, or None
        self._link: Any = None
        self._running: defer.Deferred[None] | None = None
        #: the requests to end the far side
        self._end_requests: list[defer.Deferred[None]] = []
        self._outages = Outages(
            client.server.url, linger, lambda words: self.over(None, words), reactor
        )
        self.alive = self._outages.alive
        self.failed = self._outages.failed
        self._end: tuple[int | None, str] | None = None
        self._over: OneShot[tuple[int | None, str]] = OneShot()
        self._terminating: Any = None

    # -- its life --------------------------------------------------------------------------------

    def connect(self, protocol: Any) -> None:
        """Connect a protocol to this transport."""
        self._protocol = protocol
        protocol.makeConnection(self)

    def hand_over(self, protocol: Any) -> None:
        """Pass all further bytes to another protocol."""
        self._protocol = protocol

    def start(self) -> None:
        """Carry bytes until the far side has ended, or the server was out of reach for too long."""
        self._outages.look()
        self._running = self._run()
        self._running.addErrback(self._crashed)

    def when_over(self) -> defer.Deferred[tuple[int | None, str]]:
        """Fires with the status and the reason when the far side has ended or can't be reached."""
        return self._over.when_fired()

    @deferred
    async def _run(self) -> None:
        backoff = self.backoff()
        while self._end is None:
            try:
                await self._carry()
            except RequestRefused as problem:
                if not problem.is_transient:
                    self._refused(problem)
                    return
                self.failed(problem)
            except Exception as problem:
                self.failed(problem)
            if self._end is not None:
                return
            await backoff.wait()

    def backoff(self) -> Backoff:
        """The delays between failing requests. They start again after any progress."""
        return Backoff(self.reactor, FIRST_DELAY, MAX_DELAY, self.progress)

    def progress(self) -> int:
        """A number that grows with the bytes moved, in both directions."""
        return self.out.base + sum(one.incoming.received for one in self.inputs.values())

    async def _carry(self) -> None:
        """Carry bytes over a WebSocket, or over requests, until that fails."""
        if self._websocket:
            try:
                await self._over_websocket()
                return
            except NoWebSocket as problem:
                if self._only_websocket:
                    raise RequestRefused(
                        f"no WebSocket: {problem}", 426, {"error": "websocket"}
                    ) from None
                log.info("no WebSocket to {url}: {why}", url=self.client.server.url, why=problem)
                self._websocket = False
                self.alive("websocket")
        posting = Posting(self)
        self.carried_by(posting)
        try:
            await posting.run()
        finally:
            self.carried_by(None)

    async def _over_websocket(self) -> None:
        """Carry bytes over a WebSocket until it is lost.

        :raises NoWebSocket: none can be opened, or each is cut before it works.
        """
        try:
            await over_websocket(self)
        except Lost as problem:
            if problem.worked:
                self._drops = 0
                raise
            self._drops += 1
            self.failed(problem, "websocket")
            if self._only_websocket or self._drops < MAX_DROPS:
                raise
            raise NoWebSocket(f"{self._drops} in a row did not work: {problem}") from None

    def _crashed(self, failure: Failure) -> None:
        if self.state is not StreamState.OVER:
            log.failure("a connection through HTTP failed", failure)
            self.over(None, f"an error here: {failure.getErrorMessage()}")

    def carried_by(self, link: Any) -> None:
        """Note which link carries the bytes written from now on; None if there is none."""
        self._link = link
        self.used = self.used or link is not None

    def too_large(self, problem: RequestRefused) -> bool:
        """Whether a request was refused for its size. Then later requests are smaller."""
        if problem.status != 413 or self.post_size <= MIN_POST_SIZE:
            return False
        self.post_size = max(self.post_size // 8, MIN_POST_SIZE)
        return True

    def not_taken(self) -> None:
        """A request was lost, and nothing of it arrived. It may have been too long for a proxy,
        which then closed the connection without a response."""
        self.post_size = max(self.post_size // 4, min(self.post_size, MIN_POST_SIZE))

    def _refused(self, problem: RequestRefused) -> None:
        if problem.status == 410:
            self.ended(problem.about)
        else:
            self.over(None, f"{self.client.server.url}: {problem}")

    def ended(self, about: dict[str, Any]) -> None:
        """The far side has ended, and all its output was received."""
        number, status = about.get("signal"), about.get("exit_status")
        self.over(-number if isinstance(number, int) else status, str(about.get("reason", "")))

    def over(self, status: int | None, reason: str) -> None:
        """The stream is over. The first report of the end counts."""
        self._end = self._end or (status, reason)
        self._happens(StreamEvent.END)

    def _finish(self) -> None:
        assert self._end is not None
        self.deliver_held()
        status, reason = self._end
        self._outages.stop()
        if self._terminating is not None and self._terminating.active():
            self._terminating.cancel()
        self.stderr.finish()
        self._over.fire(self._end)
        link, self._link = self._link, None
        if link is not None:
            link.stop()
        self.reactor.callLater(0, self._stop_running)
        if status is None:
            self._disconnect(error.ConnectionLost(reason))
        else:
            self._disconnect(error.ConnectionDone())

    def _stop_running(self) -> None:
        if self._running is not None:
            self._running.cancel()
        for requesting in list(self._end_requests):
            requesting.cancel()

    def terminate(self, signal: str | None, timeout: float | None = None) -> None:
        """Ask the server to end the far side.

        :param signal: ``TERM`` or ``KILL``; None closes its input, and gives it some seconds.
        :param timeout: seconds after ``KILL`` to wait for the server.
        """
        if self.state is StreamState.OVER:
            return
        requesting = self._ask_to_end(signal)
        self._end_requests.append(requesting)
        requesting.addBoth(self._end_requested, requesting)
        if signal == "KILL" and timeout is not None and self._terminating is None:
            words = f"{self.client.server.url} has not reported that it has ended"
            self._terminating = self.reactor.callLater(timeout, self.over, None, words)

    def _end_requested(self, result: Any, requesting: defer.Deferred[None]) -> Any:
        self._end_requests.remove(requesting)
        if isinstance(result, Failure):
            result.trap(defer.CancelledError)  # it has ended in the meantime
        return None

    @deferred
    async def _ask_to_end(self, signal: str | None) -> None:
        backoff = Backoff(self.reactor, FIRST_DELAY, MAX_DELAY)
        while self.state is not StreamState.OVER:
            try:
                await self.client.ask("DELETE", self.path, signal=signal)
                return
            except RequestRefused as problem:
                if not problem.is_transient:
                    return  # it has ended: the connection of its streams reports how
            except Exception as problem:
                self.failed(problem, "end")
            await backoff.wait()

    # -- what arrives ----------------------------------------------------------------------------

    def received(self, stream: str, offset: int, data: bytes) -> None:
        """Bytes of one of its streams have arrived.

        :raises PycomnetError: bytes before them are missing.
        """
        self.alive(stream)
        self.inputs[stream].received(offset, data)

    def _arrived(self, data: bytes) -> None:
        self._protocol.dataReceived(data)

    def unconfirmed(self, limit: int) -> bool:
        """Whether enough was received to confirm it now.

        :param limit: bytes of standard output that may be unconfirmed.
        """
        confirmed, inputs = self._confirmed, self.inputs
        if inputs["stdout"].incoming.received - confirmed["stdout"] >= limit:
            return True
        return inputs["stderr"].incoming.received - confirmed["stderr"] >= self._stderr_confirm

    def confirming(self) -> dict[str, int]:
        """The acknowledgement of the received bytes, for the server."""
        self._confirmed = {name: one.incoming.received for name, one in self.inputs.items()}
        return {"received": self._confirmed["stdout"], "stderr_received": self._confirmed["stderr"]}

    def _taken(self) -> None:
        if self._link is not None:
            self._link.confirm()

    def deliver_held(self) -> None:
        """All has arrived: deliver the held bytes even to a paused reader."""
        self.inputs["stdout"].resume()

    def confirmed(self, offset: int) -> None:
        """The server has received all bytes before this offset.

        :raises OffsetError: that much was not written.
        """
        self.alive()
        out = self.out
        base = out.base
        out.confirm(offset)
        if out.base > base or not out:
            self.alive("write")
        if self._paused and not out.full and self._producer is not None:
            self._paused = False
            self._producer.resumeProducing()
        if not out and self.state is StreamState.CLOSING:
            self._happens(StreamEvent.WRITTEN)

    # -- ITransport, a producer and a consumer ---------------------------------------------------

    def pauseProducing(self) -> None:
        """Hold what arrives, and let the server stop reading from the far side."""
        self.inputs["stdout"].pause()

    def resumeProducing(self) -> None:
        """Deliver the held bytes, and those that arrive from now on."""
        if self.inputs["stdout"].resume():
            self._taken()

    def stopProducing(self) -> None:
        self.loseConnection()

    def write(self, data: bytes) -> None:
        if not data or not (self.state is _OPEN or self.state is _CLOSING):
            return
        self.out.append(data)
        if self._link is not None:
            self._link.wake()
        if self.out.full and not self._paused and self._producer is not None:
            self._paused = True
            self._producer.pauseProducing()

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._producer = producer
        self._paused = False

    def unregisterProducer(self) -> None:
        self._producer = None

    def loseConnection(self) -> None:
        """Close it once the server has reported that it received all that was written."""
        self._happens(StreamEvent.LOSE)

    def abortConnection(self) -> None:
        """Close it now, and ask the server to end the far side."""
        self._happens(StreamEvent.ABORT)

    @property
    def disconnecting(self) -> bool:
        """Whether its protocol has closed it, but has not got ``connectionLost`` yet."""
        return self.state is StreamState.CLOSING

    def _happens(self, event: StreamEvent) -> None:
        self.state, effect = step(STREAM, self.state, event)
        if effect is not None:
            self._effects[effect](self)

    def _ask(self) -> None:
        if not self.out:
            self.reactor.callLater(0, self._check_written)
        elif self._link is not None:
            self._link.confirm(ask=True)

    def _check_written(self) -> None:
        if self.state is not StreamState.CLOSING:
            return
        if self.out:  # more was written meanwhile
            self._ask()
        else:
            self._happens(StreamEvent.WRITTEN)

    def _close(self) -> None:
        if self._link is not None:
            self._link.wake()
        self._disconnect(error.ConnectionDone())

    def _abort(self) -> None:
        self.terminate(None)
        self._disconnect(error.ConnectionAborted())

    def _disconnect(self, reason: Exception) -> None:
        """Tell the protocol that the connection is closed, and drop it."""
        self._producer = None
        protocol, self._protocol = self._protocol, _Nobody()
        protocol.connectionLost(Failure(reason))

    #: the function for each effect in the table of states
    _effects: ClassVar[dict[StreamEffect, Callable[[HTTPTransport], None]]] = {
        StreamEffect.ASK: _ask,
        StreamEffect.CLOSE: _close,
        StreamEffect.ABORT: _abort,
        StreamEffect.FINISH: _finish,
    }

    def getPeer(self) -> Any:
        return self.client.server.url

    def getHost(self) -> Any:
        return "http"
