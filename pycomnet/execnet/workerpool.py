"""A pool of threads with execnet's methods, for programs that take it from ``gateway_base``."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from pycomnet.execnet.farclasses import ExecModel


class Reply:
    """The outcome of a function that a pool calls.

    :ivar running: whether it has no outcome yet.
    """

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._done = threading.Event()
        self._result: Any = None
        self._error: BaseException | None = None
        self.running = True

    def run(self) -> None:
        """Call the function."""
        try:
            self._result = self._function()
        except BaseException as problem:
            self._error = problem
        finally:
            self.running = False
            self._done.set()

    def waitfinish(self, timeout: float | None = None) -> None:
        """Wait for the outcome.

        :raises OSError: it takes longer.
        """
        if not self._done.wait(timeout):
            raise OSError(f"timeout waiting for {self._function!r}")

    def get(self, timeout: float | None = None) -> Any:
        """Wait for the outcome, and return or raise it."""
        self.waitfinish(timeout)
        if self._error is not None:
            raise self._error
        return self._result


class WorkerPool:
    """Calls functions in threads.

    :param execmodel: kept for users of the pool; threads are used in any case.
    :param hasprimary: whether a thread of the user's runs calls, too, while it is free.
    """

    def __init__(self, execmodel: ExecModel, hasprimary: bool = False) -> None:
        self.execmodel = execmodel
        self._condition = threading.Condition()
        self._running: set[Reply] = set()
        self._closed = False
        self._has_primary = hasprimary
        #: the call for the primary thread
        self._primary: Reply | None = None

    def spawn(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Reply:
        """Call a function: in the primary thread if that is free, or in a new one.

        :raises ValueError: the pool is shut down.
        """
        reply = Reply(lambda: func(*args, **kwargs))
        with self._condition:
            if self._closed:
                raise ValueError("pool is shutting down")
            primary = self._has_primary and self._primary is None
            self._running.add(reply)
            if primary:
                self._primary = reply
                self._condition.notify_all()
        if not primary:
            self.execmodel.start(self._run, (reply,))
        return reply

    def _run(self, reply: Reply) -> None:
        try:
            reply.run()
        finally:
            with self._condition:
                self._running.discard(reply)
                self._condition.notify_all()

    def integrate_as_primary_thread(self) -> None:
        """Make this thread the primary one, until the pool is shut down."""
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._primary is not None or self._closed)
                reply = self._primary
            if reply is None:
                return
            try:
                self._run(reply)
            finally:
                with self._condition:
                    self._primary = None

    def active_count(self) -> int:
        """The number of calls without an outcome."""
        return len(self._running)

    def trigger_shutdown(self) -> None:
        """Take no more calls."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def waitall(self, timeout: float | None = None) -> bool:
        """Wait until no call is running. Returns False after ``timeout`` seconds."""
        with self._condition:
            return self._condition.wait_for(lambda: not self._running, timeout)

    def terminate(self, timeout: float | None = None) -> bool:
        """Take no more calls, and wait."""
        self.trigger_shutdown()
        return self.waitall(timeout)


__all__ = ["Reply", "WorkerPool"]
