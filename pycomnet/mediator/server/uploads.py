"""Passes the bodies of requests to subprocesses as they arrive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime

from pycomnet.mediator.server.arguments import confirm_arguments, number_argument
from pycomnet.mediator.server.model import HttpError, User
from pycomnet.mediator.server.session import MediatorSession

if TYPE_CHECKING:
    from pycomnet.mediator.server.site import HTTPRequest

#: Bytes of a body that are read and dropped, so that its sender can read the response.
MAX_DROPPED = 1 << 20


class ForwardedBody:
    """The body of a request, passed to a subprocess as it arrives.

    :param destination: fires with the user and the session.
    :param length: the body's length, if the request has it.
    """

    def __init__(
        self,
        request: HTTPRequest,
        destination: defer.Deferred[tuple[User, MediatorSession]],
        length: int | None,
        reactor: IReactorTime,
    ) -> None:
        self._request = request
        self._reactor = reactor
        self._length = length
        self._session: MediatorSession | None = None
        self._early: list[bytes] = []
        self._offset = 0
        self._size = 0
        self._limit = 0
        self._complete = False
        self._paused = False
        self._busy_poll = request.channel.busy_poll
        self._timeout: Any = None
        self._answered = False
        self.error: HttpError | None = None
        #: fires once all of the body was passed on, or fails
        self._done: defer.Deferred[MediatorSession | None] = defer.Deferred()
        destination.addCallbacks(self._begin, self._failed)
        if self._session is None and self.error is None:
            self.pause()

    def _begin(self, found: tuple[User, MediatorSession]) -> None:
        user, session = found
        request = self._request
        self._limit = user.limits.request
        if request.disconnected:
            return
        try:
            self._offset = number_argument(request, b"offset", session.stdin.received)
            if self._length is not None and self._length > self._limit:
                raise HttpError(
                    413, "request", f"a request has at most {self._limit} bytes", limit=self._limit
                )
            confirm_arguments(request, session)
        except HttpError as problem:
            self._fail(problem)
            return
        self._session = session
        session.attach()
        self.resume()
        session.add_writer(self)
        early, self._early = self._early, []
        for data in early:
            self.received(data)
        if self._complete:
            self._end()

    def _failed(self, failure: Any) -> None:
        problem = failure.value
        if not isinstance(problem, HttpError):
            self._request.log_failure(failure)
            problem = HttpError(
                500, "internal", "an internal error; the server's log has the details"
            )
        self._fail(problem)

    def _fail(self, problem: HttpError) -> None:
        self.error = problem
        self._early.clear()
        self._leave()
        self.resume()
        if self._complete:
            self._end()
        elif self._length is None or self._length - self._size > MAX_DROPPED:
            # The rest is not read: send the response, then close the connection. Not now, since
            # the channel is still processing the arrived bytes, which may be all.
            self._reactor.callLater(0, self._answer_early)

    def _answer_early(self) -> None:
        if not self._complete and not self._request.disconnected and self.error is not None:
            self._answered = True
            self._request.answer_early(self.error)

    def received(self, data: bytes) -> None:
        """Pass on a piece of the body that has arrived."""
        size = len(data)
        self._size += size
        if self.error is not None:
            return
        if self._session is None:
            self._early.append(data)
            return
        if self._size > self._limit:
            self._fail(HttpError(413, "request", f"a request has at most {self._limit} bytes"))
            return
        try:
            self._session.write(self._offset, data)
        except HttpError as problem:
            self._fail(problem)
            return
        self._offset += size
        if self._busy_poll is not None and self._session is not None and self._session.answered:
            # The reply went out on another connection; the next request will arrive on this one.
            self._busy_poll.wrote = True

    def complete(self) -> None:
        """Note that the body is complete."""
        self._complete = True
        if self._session is not None or self.error is not None:
            self._end()

    def _end(self) -> None:
        if self._answered or self._done.called:
            return
        session = self._session
        self._leave()
        self.resume()
        self._done.callback(session)

    async def result(self) -> MediatorSession:
        """Wait until all of the body was passed on.

        :raises HttpError: why it was not.
        """
        session = await self._done
        if self.error is not None:
            raise self.error
        assert session is not None
        return session

    def lost(self) -> None:
        """Note that the connection ended before the body. The arrived bytes were passed on."""
        self.error = HttpError(400, "lost", "the connection was lost")
        self._early.clear()
        self._leave()

    def _leave(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.remove_writer(self)
            session.detach()

    def pause(self) -> None:
        """Stop reading. The connection does not count as idle meanwhile."""
        if not self._paused:
            self._paused = True
            channel = self._request.channel
            self._timeout = channel.setTimeout(None)
            channel.transport.pauseProducing()

    def resume(self) -> None:
        """Continue reading."""
        if self._paused:
            self._paused = False
            channel = self._request.channel
            if channel is not None and channel.transport is not None:
                channel.setTimeout(self._timeout)
                channel.transport.resumeProducing()
