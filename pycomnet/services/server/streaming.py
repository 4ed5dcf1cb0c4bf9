"""The values of a stream: from a method's iterator, or from a service that sends them itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet import defer

if TYPE_CHECKING:
    from pycomnet.services.deadlines import Deadlines
    from pycomnet.services.server.request import ServerCall

_END = object()
#: Calls a function in a thread.
InThread = Callable[[Callable[[], Any]], defer.Deferred[Any]]


class StreamFeed:
    """What a stream's method returns if it sends the values itself, when it has some.

    Such a call does not count as one that runs: the service has limits of its own. It sends with
    :meth:`ServerConnection.send` and :meth:`ServerConnection.send_encoded
    <pycomnet.services.server.connection.ServerConnection.send_encoded>`, and ends the call with
    :meth:`ServerCalls.end_feed <pycomnet.services.server.calls.ServerCalls.end_feed>`.
    """

    __slots__ = ()

    def begin(self, call: ServerCall) -> None:
        """The call is this: values may be sent from now on.

        What it raises is the caller's error; then :meth:`ended` is called as well.
        """
        raise NotImplementedError

    def ended(self) -> None:
        """The call is over, for whatever reason; called once. It may not have begun."""
        raise NotImplementedError


class FeedCalls:
    """The part of a server's calls that is about such streams."""

    _active: set[ServerCall]
    _deadlines: Deadlines

    def forget(self, call: ServerCall) -> None:
        """A call has ended."""
        raise NotImplementedError

    def _feed(self, call: ServerCall, feed: StreamFeed) -> None:
        """Let a service send the values of a stream itself."""
        self._active.add(call)
        call.release = feed.ended
        call.fed = True
        if call.expires is not None:
            call.bucket = self._deadlines.add(call, call.seconds, call.expires)
        try:
            feed.begin(call)
        except BaseException as problem:
            call.connection.refuse(call, problem)
            self.forget(call)

    def end_feed(self, call: ServerCall, problem: BaseException | None = None) -> None:
        """End a stream whose values a service has sent itself.

        :param problem: the error that its caller gets; None for the normal end.
        """
        if problem is None:
            call.connection.end(call)
        else:
            call.connection.refuse(call, problem)
        self.forget(call)

    def end_feeds(self, problem: Exception) -> None:
        """End all such streams: they would not end by themselves."""
        for call in [call for call in self._active if call.fed]:
            call.cancel(problem)


async def send_all(call: ServerCall, values: Any, in_thread: InThread | None) -> None:
    """Send the values of a method's iterator, as fast as the caller takes them.

    However that ends, a generator is closed at once, and not when it is garbage-collected.

    :param values: what the method has returned.
    :param in_thread: for a method with ``thread=True``, whose iterator may block.
    """
    if inspect.isawaitable(values):
        values = await values
    send = call.connection.send
    is_async = hasattr(values, "__aiter__")
    iterator: Any = values.__aiter__() if is_async else iter(values)
    try:
        if is_async:
            async for value in iterator:
                waiting = send(call, value)
                if waiting is not None:
                    await waiting
        elif in_thread is None:
            for value in iterator:
                waiting = send(call, value)
                if waiting is not None:
                    await waiting
        else:
            while (value := await in_thread(lambda: next(iterator, _END))) is not _END:
                waiting = send(call, value)
                if waiting is not None:
                    await waiting
    finally:
        close = getattr(iterator, "aclose" if is_async else "close", None)
        if close is not None:
            closing = close() if is_async or in_thread is None else in_thread(close)
            if is_async or in_thread is not None:
                await closing
