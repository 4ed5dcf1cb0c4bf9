"""What users' callbacks return and raise."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from twisted.internet import defer
from twisted.python.failure import Failure

from pycomnet.logs import Logger

log = Logger()


def pending_result(result: object) -> defer.Deferred[Any] | None:
    """What a user's callback returned, if it is to be waited for: a Deferred, or a coroutine's."""
    if inspect.iscoroutine(result):
        result = defer.Deferred.fromCoroutine(result)
    if not isinstance(result, defer.Deferred):
        return None
    if result.called and not result.paused and not isinstance(result.result, Failure):
        return None
    return result


def tell(errback: Callable[[Failure], Any] | None, failure: Failure) -> None:
    """Give a failure to a user's errback; log it if there is none, and what that raises itself."""
    if errback is None:
        log.failure("unhandled error in a channel's callback", failure)
        return
    try:
        pending = pending_result(errback(failure))
        if pending is not None:
            pending.addErrback(lambda f: log.failure("a channel's errback failed", f))
    except BaseException:
        log.failure("a channel's errback raised")
