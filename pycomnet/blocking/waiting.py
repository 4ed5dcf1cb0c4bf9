"""Calls in the reactor's thread for whose outcomes other threads wait."""

from __future__ import annotations

import contextvars
import functools
import threading
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.python.failure import Failure

from pycomnet import forks
from pycomnet.blocking.reactorthread import thread as _thread
from pycomnet.channels.callbacks import caller
from pycomnet.errors import ConnectionLost, TimeoutExpired
from pycomnet.ranges import optional_real

#: The operations for which threads wait; all of them end when the reactor does.
_running: set[_Operation] = set()
#: Methods that do nothing when the reactor has stopped, as it has ended all gateways by then; and
#: nothing in a forked child, which must not end the parent's gateways.
ENDINGS = frozenset(("close", "exit", "shutdown", "terminate"))


class _Operation:
    """A call in the reactor's thread; another thread waits for its outcome."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._deferred: Deferred[Any] | None = None
        self._given_up = False
        self.outcome: Any = None
        #: released when there is an outcome. A lock and not an Event, which takes 12 us more.
        self.pending = threading.Lock()
        self.pending.acquire()

    def begin(self) -> None:
        """Call the function. This runs in the reactor's thread, like the other methods."""
        if not self._given_up:
            self._deferred = maybeDeferred(self._function)
            self._deferred.addBoth(self.finish)

    def finish(self, outcome: Any) -> None:
        """End it, unless it has ended; also called by a thread that finds the reactor stopped."""
        try:
            _running.remove(self)
        except KeyError:
            return  # exactly one caller comes past this
        self.outcome = outcome
        self.pending.release()

    def give_up(self) -> None:
        """Cancel it, if there is no outcome yet."""
        self._given_up = True
        if self._deferred is not None:
            self._deferred.cancel()
        self.finish(Failure(CancelledError()))


def running_reactor() -> Any:
    """The reactor of the blocking API; it is started if it does not run yet."""
    return _thread.start()


def _end_operations() -> None:
    for operation in list(_running):
        operation.finish(Failure(stopped_error()))


_thread.when_stopped.append(_end_operations)


def _forked() -> None:
    """In a forked child: drop the operations of other threads, which belong to the parent."""
    forks.keep(list(_running))
    _running.clear()


forks.call_in_child(_forked)


def stopped_error() -> ConnectionLost:
    """The error of what is not done when the reactor has stopped."""
    return ConnectionLost(
        "the program is ending: the reactor has stopped, and all gateways with it"
    )


def wait_for(function: Callable[[], Any], timeout: float | None, what: str) -> Any:
    """Call a function in the reactor's thread, and wait for the Deferred that it may return."""
    # crochet.run_in_reactor is not used: it logs each result that nothing waits for any more, and
    # it would lose a result that comes between a timeout and the cancellation.
    timeout = optional_real("timeout", timeout)
    reactor = _thread.start()
    if _thread.in_it():
        raise RuntimeError(f"{what} would block the reactor: use the Deferred API there")
    if caller.get() is not None:
        # In a callback: a channel for which it waits must not wait for the callback.
        function = functools.partial(contextvars.copy_context().run, function)
    operation = _Operation(function)
    _running.add(operation)
    if _thread.stopped:
        operation.finish(None if what in ENDINGS else Failure(stopped_error()))
    try:
        reactor.callFromThread(operation.begin)
        done = operation.pending.acquire(timeout=-1 if timeout is None else timeout)
    except (KeyboardInterrupt, SystemExit):
        reactor.callFromThread(operation.give_up)
        raise
    if not done:
        reactor.callFromThread(operation.give_up)
        operation.pending.acquire()
    outcome = operation.outcome
    if isinstance(outcome, Failure):
        if what in ENDINGS and _thread.stopped:
            return None
        if not done and outcome.check(CancelledError):
            raise TimeoutExpired(f"{what} took longer than {timeout:g} seconds")
        outcome.raiseException()
    return outcome


__all__ = ["ENDINGS", "running_reactor", "stopped_error", "wait_for"]
