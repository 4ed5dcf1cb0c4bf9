"""Calls the callbacks of a gateway's channels, one after the other."""

from __future__ import annotations

import contextlib
import queue
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from pycomnet.text.logs import Logger

log = Logger()
#: What is to be called with what; None ends the thread.
_Queue = queue.SimpleQueue[tuple[Callable[[Any], object], Any] | None]


class _Turn:
    """Whose turn it is to call callbacks.

    :ivar lock: held while one runs.
    :ivar caller: the number of the thread that holds it.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.caller: int | None = None

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Have it, and give it back."""
        with self.lock:
            before, self.caller = self.caller, threading.get_ident()
            try:
                yield
            finally:
                self.caller = before


class CallbackThread:
    """A thread in which callbacks are called with what comes.

    What had come before is given to a callback in the thread that sets it, and this one waits
    meanwhile: so of a gateway's callbacks one runs at a time.

    It runs from the first callback on, until nothing refers to this object any more.

    :param name: the thread's.
    :param make: makes it; as :class:`threading.Thread`.
    """

    def __init__(self, name: str, make: Callable[..., threading.Thread] = threading.Thread) -> None:
        self._name = name
        self._make = make
        self._queue: _Queue = queue.SimpleQueue()
        self._turn = _Turn()
        self._starting = threading.Lock()
        self._started = False

    def start(self) -> None:
        """Start the thread, if it does not run yet. Called by who sets a callback.

        :raises RuntimeError: no thread can be started: the limit is reached, or the program ends.
        """
        with self._starting:
            if self._started:
                return
            arguments = (self._queue, self._turn)
            self._make(target=_run, args=arguments, name=self._name, daemon=True).start()
            self._started = True
            weakref.finalize(self, self._queue.put, None).atexit = False

    def put(self, call: Callable[[Any], object], value: Any) -> None:
        """Let it be called with a value."""
        self._queue.put((call, value))

    def calling(self) -> contextlib.AbstractContextManager[None]:
        """While this is entered, callbacks are called in this thread and in no other."""
        return self._turn.taken()

    def is_current(self) -> bool:
        """Whether this code runs in a callback."""
        return self._turn.caller == threading.get_ident()


def _run(items: _Queue, turn: _Turn) -> None:
    lock = turn.lock
    ident = threading.get_ident()
    while True:
        item = items.get()
        if item is None:
            return
        call, value = item
        with lock:
            turn.caller = ident
            try:
                call(value)
            except BaseException:  # the thread goes on: all other callbacks need it
                log.failure("a callback could not be called")
            turn.caller = None
        del item, call, value


__all__ = ["CallbackThread"]
