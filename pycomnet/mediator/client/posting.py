"""A far side's streams over requests alone: POST to send, GET to receive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet import defer
from twisted.python.failure import Failure

from pycomnet.deferred import deferred
from pycomnet.mediator.client.requests import (
    ANSWER_TIMEOUT,
    Body,
    RequestRefused,
    read_json,
    refused,
    timed_out,
)
from pycomnet.mediator.client.states import StreamState
from pycomnet.mediator.client.streamingresponse import SLACK, WAIT, StreamingResponse
from pycomnet.mediator.client.uploads import OCTETS, StreamingBody
from pycomnet.net import eager

if TYPE_CHECKING:
    from pycomnet.mediator.client.httptransport import HTTPTransport
    from pycomnet.net.backoff import Backoff

#: Seconds for the first byte of a streaming response, which is sent at once. If it does not come, a
#: proxy holds responses back until they are complete.
PROBE_TIMEOUT = 2.0
#: Seconds after which the client checks whether the first bytes of a streaming request have
#: arrived. If not, a proxy in between holds requests back.
TRIAL = 0.1
#: After this many connections in a row that are lost before they worked, it tries another kind.
MAX_DROPS = 5

CLOSED = StreamState.CLOSED


class Posting:
    """Carries a stream over requests.

    Four requests run at the same time: one sends, one reads each of the two streams, one confirms.
    Each is repeated if it fails, and has flags of its own here. The lifecycle is the stream's
    ``state``.

    :ivar position: everything before this offset has been sent.
    """

    def __init__(self, stream: HTTPTransport) -> None:
        self.stream = stream
        self.position = 0
        self._stopped = False
        self._answers: set[StreamingResponse] = set()
        #: whether proxies pass on a response, and a request, before it is complete; None: not tried
        self._down: bool | None = None
        self._up: bool | None = None
        #: the call that checks whether an incomplete request has arrived
        self._trial: Any = None
        #: responses in a row that were lost before they worked
        self._drops = 0
        self._upload: StreamingBody | None = None
        #: whether the server has to be asked how much it has received before more is sent
        self._must_ask = stream.used
        #: the offset at which a lost request began
        self._lost_at = -1
        self._said_end = False
        #: whether a request that confirms is under way, and whether another is to follow it
        self._confirming = False
        self._wanted = False
        self._woken: defer.Deferred[None] | None = None
        self._tasks: list[defer.Deferred[Any]] = []

    async def run(self) -> None:
        """Carry the stream until the far side has ended.

        :raises RequestRefused: the server refused to continue.
        """
        writer = defer.Deferred.fromCoroutine(self._write())
        readers = [defer.Deferred.fromCoroutine(self._read(name)) for name in ("stdout", "stderr")]
        self._tasks = [writer, *readers]
        result: defer.Deferred[list[dict[str, Any]]] = defer.Deferred()

        def failed(failure: Failure) -> None:
            while isinstance(failure.value, defer.FirstError):
                failure = failure.value.subFailure
            if not result.called:
                result.errback(failure)

        def ended(ends: list[dict[str, Any]]) -> None:
            if not result.called:
                result.callback(ends)

        writer.addErrback(failed)
        defer.gatherResults(readers, consumeErrors=True).addCallbacks(ended, failed)
        try:
            ends = await result
        finally:
            self.stop()
        self.stream.ended(ends[0])

    def stop(self) -> None:
        """Stop all requests."""
        if self._stopped:
            return
        self._stopped = True
        if self._upload is not None:
            self._upload.finish()
        for answer in list(self._answers):
            answer.drop()
        self.wake()
        for one in self._tasks:
            one.addErrback(lambda _: None)
            one.cancel()

    # -- what is sent ----------------------------------------------------------------------------

    def wake(self) -> None:
        """There is more to send."""
        woken, self._woken = self._woken, None
        if woken is not None:
            woken.callback(None)
        elif self._upload is not None:
            self._upload.wake()

    def must_end(self) -> bool:
        """Whether to tell the server that no more will be written."""
        stream = self.stream
        return stream.state is CLOSED and not self._said_end and self.position == stream.out.end

    async def _write(self) -> None:
        stream = self.stream
        backoff = stream.backoff()
        while not self._stopped:
            begin = self.position
            if not (self._must_ask or self.position < stream.out.end or self.must_end()):
                self._woken = defer.Deferred()
                await self._woken
                continue
            try:
                about = await self._send()
                received = int(about["received"])
                self._must_ask = False
                if received == self._lost_at:
                    stream.not_taken()
                self._lost_at = -1
                self.position = received
                stream.confirmed(received)
            except RequestRefused as problem:
                if problem.status == 409 and "received" in problem.about:
                    self.position = int(problem.about["received"])
                    continue
                if stream.too_large(problem):
                    self._must_ask = True
                    continue
                if problem.status in (409, 410):
                    return  # it has ended: the reader gets the reason
                if not problem.is_transient:
                    raise
                await self._failed(problem, "write", backoff)
            except Exception as problem:
                if not self._must_ask:
                    self._lost_at = begin
                await self._failed(problem, "write", backoff)

    async def _failed(self, problem: BaseException, way: str, backoff: Backoff) -> None:
        """Wait before a request is repeated."""
        if self._stopped:
            raise defer.CancelledError
        self._must_ask = True
        self.stream.failed(problem, way)
        await backoff.wait()

    async def _send(self) -> dict[str, Any]:
        """Send some of the written bytes. Returns the server's response."""
        stream = self.stream
        if self._must_ask:
            about: dict[str, Any] = await stream.client.ask("POST", stream.path, Body(b""), OCTETS)
            return about
        if self.must_end():
            about = await stream.client.ask(
                "POST", stream.path, Body(b""), OCTETS, offset=self.position, end=1
            )
            self._said_end = True
            return about
        if self._up is False:
            return await self._send_complete()
        return await self._send_streaming()

    async def _send_complete(self) -> dict[str, Any]:
        stream = self.stream
        parts, begin = [], self.position
        size = stream.post_size
        while self.position < stream.out.end and self.position - begin < size:
            piece = stream.out.read(self.position, size - (self.position - begin))
            parts.append(piece)
            self.position += len(piece)
        body = Body(b"".join(parts))
        about: dict[str, Any] = await stream.client.ask(
            "POST", stream.path, body, OCTETS, offset=begin, timeout=3600.0
        )
        return about

    async def _send_streaming(self) -> dict[str, Any]:
        stream = self.stream
        self._upload = upload = StreamingBody(self)
        if self._up is None:
            self._trial = stream.reactor.callLater(TRIAL, self._try)
        try:
            response = await stream.client.request(
                "POST", stream.path, upload, OCTETS, offset=self.position
            )
            about = await read_json(response, ANSWER_TIMEOUT, stream.reactor)
        finally:
            upload.finish()
            self._upload = None
            if self._trial is not None:
                self._trial.cancel()
                self._trial = None
        if response.code != 200:
            raise refused(response.code, about)
        return about

    def _try(self, last: int | None = None) -> None:
        """Ask whether the bytes of a request that is not complete have arrived.

        :param last: how much had arrived at the last check. If that grows, the server is only slow.
        """
        self._trial = None
        upload, position = self._upload, self.position
        asking = self.stream.client.ask("POST", self.stream.path, Body(b""), OCTETS)

        def tried(about: dict[str, Any]) -> None:
            received = int(about.get("received", 0))
            if self._up is not None or upload is None or self._upload is not upload:
                return  # all of it has been sent, so this check is of no use
            if received >= position:
                self._up = True
            elif received == last:
                self._up = False
                upload.finish()
            else:
                self._trial = self.stream.reactor.callLater(TRIAL, self._try, received)

        def failed(_: Failure) -> None:
            if not self._up and upload is not None:
                upload.finish()

        asking.addCallbacks(tried, failed)

    # -- received --------------------------------------------------------------------------------

    async def _read(self, name: str) -> dict[str, Any]:
        """Read a stream up to its end. Returns the server's report of how the far side ended."""
        stream = self.stream
        backoff = stream.backoff()
        while True:
            await stream.inputs[name].when_resumed()
            try:
                if self._down is False:
                    await self._poll(name)
                else:
                    await self._follow(name)
            except RequestRefused as problem:
                if problem.status == 410:
                    return problem.about
                if not problem.is_transient:
                    raise
                await self._failed(problem, name, backoff)
            except Exception as problem:
                await self._failed(problem, name, backoff)
            if self._stopped:
                raise defer.CancelledError

    def _path(self, name: str) -> str:
        return self.stream.path if name == "stdout" else f"{self.stream.path}/stderr"

    def _get(self, name: str, offset: int, **query: int) -> defer.Deferred[Any]:
        """Request a stream's bytes from an offset on."""
        stream = self.stream
        path = self._path(name)
        return stream.client.request(
            "GET", path, None, None, offset=offset, reader=stream.key, wait=WAIT, **query
        )

    async def _follow(self, name: str) -> None:
        """Read a streaming response."""
        stream = self.stream
        offset = stream.inputs[name].incoming.received
        asking = self._get(name, offset, probe=1)
        timeout = PROBE_TIMEOUT if self._down is None else ANSWER_TIMEOUT
        try:
            response = await asking.addTimeout(timeout, stream.reactor, timed_out)
        except defer.TimeoutError:
            if self._down:
                raise
            self._down = False
            return
        await self._check(response)
        answer = StreamingResponse(self, name, offset)
        self._answers.add(answer)
        try:
            response.original.deliverBody(answer)
            if self._down is None:
                try:
                    await answer.begun.addTimeout(timeout, stream.reactor)
                except defer.TimeoutError:
                    self._down = False
                    answer.drop()
                    await answer.done
                    return
                self._down = True
            await answer.done
            self._drops = 0 if answer.worked else self._drops + 1
            if self._drops >= MAX_DROPS:
                self._down = False  # perhaps short responses get through
            if answer.problem is not None:
                answer.problem.raiseException()
        finally:
            answer.drop()
            self._answers.discard(answer)

    async def _poll(self, name: str) -> None:
        """Read a complete response."""
        stream = self.stream
        offset = stream.inputs[name].incoming.received
        timeout = WAIT + SLACK
        asking = self._get(name, offset, max=eager.BULK_SIZE)
        response = await asking.addTimeout(timeout, stream.reactor, timed_out)
        await self._check(response)
        data: bytes = await response.content().addTimeout(timeout, stream.reactor, timed_out)
        stream.alive(name)
        if data:
            self.received(name, offset, data)

    async def _check(self, response: Any) -> None:
        if response.code != 200:
            about = await read_json(response, ANSWER_TIMEOUT, self.stream.reactor)
            raise refused(response.code, about)
        self.stream.alive()
        received = response.headers.getRawHeaders("x-pycomnet-received", [])
        if len(received) == 1 and received[0].isascii() and received[0].isdigit():
            self.stream.confirmed(int(received[0]))

    def received(self, name: str, offset: int, data: bytes) -> None:
        """Bytes of a stream have arrived."""
        stream = self.stream
        stream.received(name, offset, data)
        if stream.unconfirmed(3 * stream.queue // 4):
            self.confirm()

    def confirm(self, ask: bool = False) -> None:
        """Confirm received bytes to the server.

        :param ask: also ask how much the server has received.
        """
        if ask and self._upload is not None:
            self._upload.finish()
        elif not self._stopped:
            self._wanted = True
            if not self._confirming:
                self._confirm()

    @deferred
    async def _confirm(self) -> None:
        stream = self.stream
        self._confirming = True
        backoff = stream.backoff()
        try:
            while self._wanted and not self._stopped:
                self._wanted = False
                said = stream.confirming()
                try:
                    await stream.client.ask("POST", stream.path, Body(b""), OCTETS, **said)
                    stream.alive("confirm")
                except Exception as problem:
                    if self._stopped or (
                        isinstance(problem, RequestRefused) and not problem.is_transient
                    ):
                        return  # the reader gets the reason
                    stream.failed(problem, "confirm")
                    self._wanted = True
                    await backoff.wait()
        finally:
            self._confirming = False
