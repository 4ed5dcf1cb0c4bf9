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
#: Pairs of a function and the value to call it with; None ends the thread.
_Queue = queue.SimpleQueue[tuple[Callable[[Any], object], Any] | None]


class _Turn:
    """Lets one thread at a time call callbacks.

    :ivar lock: held while a callback runs.
    :ivar caller: the id of the thread that holds it.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.caller: int | None = None

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Hold the lock, and be the caller, within a ``with`` block."""
        with self.lock:
            before, self.caller = self.caller, threading.get_ident()
            try:
                yield
            finally:
                self.caller = before


class CallbackThread:
    """A thread that calls callbacks with arriving values.

    Values that had arrived before a callback was set are given to it in the thread that sets it;
    this one waits meanwhile. So one of a gateway's callbacks runs at a time.

    The thread runs from the first callback on, until nothing refers to this object any more.

    :param name: the thread's name.
    :param make: makes the thread; as :class:`threading.Thread`.
    """

    def __init__(self, name: str, make: Callable[..., threading.Thread] = threading.Thread) -> None:
        self._name = name
        self._make = make
        self._queue: _Queue = queue.SimpleQueue()
        self._turn = _Turn()
        self._starting = threading.Lock()
        self._started = False

    def start(self) -> None:
        """Start the thread, unless it runs. To be called before a callback is set.

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
        """Queue a call of a function with a value."""
        self._queue.put((call, value))

    def calling(self) -> contextlib.AbstractContextManager[None]:
        """Within a ``with`` block of this, only the current thread calls callbacks."""
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
            except BaseException:  # the thread has to go on, for all other callbacks
                log.failure("a callback could not be called")
            turn.caller = None
        del item, call, value


__all__ = ["CallbackThread"]
