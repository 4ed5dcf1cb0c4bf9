"""Runs the coroutines of methods: by Twisted alone, or as asyncio tasks.

On Twisted's asyncio reactor a method may await asyncio's awaitables as well as Deferreds. Its
coroutine runs in a task, which ``asyncio.timeout``, ``TaskGroup`` and ``current_task`` need. On
another reactor there is no event loop, and a method that awaits an asyncio awaitable gets an error
that says so.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine, Generator
from typing import Any

from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime

#: What a cancelled coroutine raises in Twisted and in asyncio.
CANCELLED = (defer.CancelledError, asyncio.CancelledError)
#: Python's messages when an asyncio awaitable is awaited and no event loop runs.
_NO_LOOP = frozenset({"no running event loop", "await wasn't used with future"})


class Tasks:
    """Runs coroutines on a reactor.

    :ivar asyncio: whether the reactor runs on an asyncio event loop.
    """

    def __init__(self, reactor: IReactorTime) -> None:
        module = sys.modules.get("twisted.internet.asyncioreactor")
        self.asyncio = module is not None and isinstance(reactor, module.AsyncioSelectorReactor)
        self._reactor = type(reactor).__name__

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> defer.Deferred[Any]:
        """Run a coroutine.

        :returns: fires with its result. Cancelling it cancels what it waits for.
        """
        if self.asyncio:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:  # the reactor is not running yet
                return defer.Deferred.fromCoroutine(coroutine)
            return defer.Deferred.fromFuture(loop.create_task(_run(coroutine, loop)))
        return defer.Deferred.fromCoroutine(coroutine)

    def deferred(self, result: Any) -> defer.Deferred[Any] | None:
        """A method's result as a Deferred; None if the result itself is to be sent."""
        if isinstance(result, defer.Deferred):
            return result
        if asyncio.isfuture(result):
            return defer.Deferred.fromFuture(result)
        return None

    def hint(self, problem: BaseException) -> str:
        """What to add to the message of an error that a method has raised."""
        if self.asyncio or type(problem) is not RuntimeError or str(problem) not in _NO_LOOP:
            return ""
        return (
            f": methods can await what is asyncio's on Twisted's asyncio reactor only (twistd "
            f"--reactor=asyncio), and this server runs on {self._reactor}"
        )


async def _run(coroutine: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop) -> Any:
    return await _InTask(coroutine, loop)


class _InTask:
    """A coroutine that awaits Deferreds and futures, as a task takes it."""

    def __init__(
        self, coroutine: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._coroutine = coroutine
        self._loop = loop

    def __await__(self) -> Generator[Any, None, Any]:
        coroutine = self._coroutine
        problem: BaseException | None = None
        while True:
            try:
                if problem is None:
                    awaited = coroutine.send(None)
                else:
                    awaited = coroutine.throw(problem)
            except StopIteration as done:
                return done.value
            problem = None
            try:
                if isinstance(awaited, defer.Deferred):
                    yield from self._fired(awaited)
                else:
                    yield awaited
            except GeneratorExit:
                coroutine.close()
                raise
            except BaseException as raised:
                problem = raised

    def _fired(self, deferred: defer.Deferred[Any]) -> Generator[Any, None, None]:
        """Wait until a Deferred has fired; what awaits it takes its result from it."""
        woken: asyncio.Future[None] = self._loop.create_future()

        def wake(result: Any) -> Any:
            if not woken.done():
                woken.set_result(None)
            return result

        deferred.addBoth(wake)
        try:
            yield from woken
        except BaseException:
            deferred.addErrback(lambda _: None)
            deferred.cancel()
            raise
