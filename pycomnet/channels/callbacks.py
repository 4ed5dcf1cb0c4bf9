"""Handles what users' callbacks return and raise."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from twisted.internet import defer
from twisted.python.failure import Failure

from pycomnet.text.logs import Logger

log = Logger()
#: The owner of the callback that is running: set in coroutines and threads, which may ask for it.
caller: ContextVar[object] = ContextVar("caller", default=None)


def pending_result(result: object, owner: object = None) -> defer.Deferred[Any] | None:
    """A Deferred for the result of a user's callback: a Deferred or a coroutine; else None.

    :param owner: the owner of the callback; a coroutine finds it as :data:`caller`.
    """
    if inspect.iscoroutine(result):
        before = caller.set(owner)
        try:
            result = defer.Deferred.fromCoroutine(result)
        finally:
            caller.reset(before)
    if not isinstance(result, defer.Deferred):
        return None
    if result.called and not result.paused and not isinstance(result.result, Failure):
        return None
    return result


def tell(
    errback: Callable[[Failure], Any] | None, failure: Failure, owner: object = None
) -> defer.Deferred[Any] | None:
    """Give a failure to a user's errback. If there is none, or if it raises, log the failure.

    :returns: fires when the errback has finished; None if it has already. It does not fail.
    """
    if errback is None:
        log.failure("unhandled error in a channel's callback", failure)
        return None
    try:
        pending = pending_result(errback(failure), owner)
        if pending is not None:
            pending.addErrback(lambda f: log.failure("a channel's errback failed", f))
        return pending
    except BaseException:
        log.failure("a channel's errback raised")
        return None
