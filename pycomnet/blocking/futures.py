"""Futures of calls in the reactor's thread, for threads that go on meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.python.failure import Failure

from pycomnet import forks
from pycomnet.blocking.reactorthread import thread as _thread
from pycomnet.blocking.waiting import running_reactor, stopped_error
from pycomnet.blocking.wrapper import to_blocking_api

#: The calls that are under way, which nobody else may hold: future -> the call's Deferred.
_running: dict[Future[Any], Deferred[Any] | None] = {}


def start(function: Callable[[], Deferred[Any]]) -> Future[Any]:
    """Call a function in the reactor's thread; a future of its result, at once.

    Functions that are given to ``add_done_callback`` run in threads of the reactor's pool. The
    future's ``cancel`` cancels the call.
    """
    reactor = running_reactor()
    future: Future[Any] = Future()
    _running[future] = None

    def begin() -> None:
        if future not in _running:
            return  # it was cancelled
        calling = maybeDeferred(function)
        _running[future] = calling
        calling.addBoth(ended)

    def ended(outcome: Any) -> None:
        if _running.pop(future, None) is not None:
            reactor.callInThread(_tell, future, outcome)

    def cancel() -> None:
        calling = _running.pop(future, None)
        if calling is not None:
            calling.cancel()

    def done(future: Future[Any]) -> None:
        if future.cancelled():
            reactor.callFromThread(cancel)

    future.add_done_callback(done)
    reactor.callFromThread(begin)
    if _thread.stopped:
        _end(future)
    return future


def _end(future: Future[Any]) -> None:
    """End a call as the reactor has stopped, unless that was done."""
    try:
        del _running[future]
    except KeyError:
        return
    _tell(future, Failure(stopped_error()))


def _tell(future: Future[Any], outcome: Any) -> None:
    if not future.set_running_or_notify_cancel():
        return
    if not isinstance(outcome, Failure):
        future.set_result(to_blocking_api(outcome))
    elif outcome.check(CancelledError):
        future.set_exception(stopped_error() if _thread.stopped else CancelledError())
    else:
        problem = outcome.value
        future.set_exception(problem if isinstance(problem, Exception) else RuntimeError(problem))


def _end_all() -> None:
    for future in list(_running):
        _end(future)


_thread.when_stopped.append(_end_all)


def _forked() -> None:
    """In a forked child: drop the calls, which belong to the parent."""
    forks.keep(dict(_running))
    _running.clear()


forks.call_in_child(_forked)

__all__ = ["start"]
