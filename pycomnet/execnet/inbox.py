"""Values that arrive on a channel: queued for ``receive``, or passed to a callback.

As in execnet, the reactor takes values from the connection at once, and queues them without a
limit. So far code that sends a value never waits for code on this side, which may itself wait for
the far code.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

from twisted.python.failure import Failure

from pycomnet.channels.core import ChannelCore
from pycomnet.errors import ChannelClosed
from pycomnet.errors import RemoteError as _RemoteError
from pycomnet.execnet.callbackthread import CallbackThread
from pycomnet.execnet.errors import INTERRUPTED, RemoteError, geterrortext


class _Marker:
    """A value that is compared by identity, with a name for messages."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return f"<{self._name}>"


#: The default of ``setcallback``: no endmarker.
NO_ENDMARKER = _Marker("no endmarker")
#: After the last value.
END = _Marker("end")
#: No value: the thread that takes it reads the connection itself
#: (:mod:`pycomnet.execnet.reactorbypass`).
LENT = _Marker("lent")


class Inbox:
    """Everything that arrives on one channel.

    :param callbacks: calls its callback.
    :param exits: set when its gateway is told to exit: what far code raises then is not shown.
    :ivar has_callback: whether it has a callback, or has had one.
    :ivar over: whether nothing more arrives.
    :ivar closed: set when nothing more arrives, and the callback has returned.
    :ivar queue: what can be received, and :data:`LENT`; at the end :data:`END`, also if there is a
        callback.
    """

    __slots__ = (
        "__weakref__",
        "_callback",
        "_callbacks",
        "_core",
        "_endmarker",
        "_errors",
        "_exits",
        "_failed",
        "_lock",
        "_lost",
        "_put",
        "closed",
        "has_callback",
        "over",
        "queue",
    )

    def __init__(self, callbacks: CallbackThread, exits: threading.Event | None = None) -> None:
        self._callbacks = callbacks
        self._exits = exits
        self._core: ChannelCore | None = None
        self._callback: Callable[[Any], Any] | None = None
        self._endmarker: object = NO_ENDMARKER
        #: whether the callback has raised, and gets only the endmarker
        self._failed = False
        self._errors: list[RemoteError] = []
        #: why the connection is lost
        self._lost: str | None = None
        #: held while ``over`` or the callback is set
        self._lock = threading.Lock()
        self.queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._put: Callable[[Any], None] = self.queue.put
        self.has_callback = False
        self.over = False
        self.closed = threading.Event()

    # -- in the reactor's thread -----------------------------------------------------------------

    def attach(self, core: ChannelCore) -> None:
        """Take everything that arrives on this channel."""
        self._core = core
        core.receiver = self
        core.set_callback(self.arrived, self.failed, END)

    def adopt(self) -> None:
        """Queue values again: nothing referred to the channel, and now something does."""
        if not (self.over or self.has_callback):
            self._put = self.queue.put

    def arrived(self, value: Any) -> None:
        """Queue a value; or :data:`END`, that nothing more arrives."""
        if value is END:
            self.end()
        else:
            self._put(value)

    def failed(self, failure: Failure) -> None:
        """End with an error: of far code, of the connection, or in an arriving value."""
        problem = failure.value
        if isinstance(problem, _RemoteError):
            text = problem.formatted or problem.message
            self._add_error(
                RemoteError(INTERRUPTED if problem.type == "KeyboardInterrupt" else text)
            )
        elif not isinstance(problem, ChannelClosed):
            self._lost = str(problem)
        self.end()

    def _add_error(self, error: RemoteError) -> None:
        """Keep an error for users of the channel; show it if there are none."""
        self._errors.append(error)
        if not self._is_held():
            self.warn()

    def _is_held(self) -> bool:
        return self._core is None or self._core.is_held()

    def warn(self) -> None:
        """Show its errors, as nobody can receive them any more."""
        if self._exits is not None and self._exits.is_set():
            return
        while (error := self._next_error()) is not None:
            error.warn()

    def drop(self) -> None:
        """Ignore values from now on."""
        self._put = _ignore

    def _switch(self, callback: Callable[[Any], Any], endmarker: object) -> list[Any]:
        """Pass values to the callback from now on; return those that have arrived.

        :raises OSError: there is a callback already.
        """
        with self._lock:
            if self.has_callback:
                raise OSError("the channel has a callback already registered")
            self._callback, self._endmarker = callback, endmarker
            self.has_callback = True
            self.closed.clear()
            self._put = _ignore if self.over else self._put_for_callback
            items = []
            while True:
                try:
                    item = self.queue.get_nowait()
                except queue.Empty:
                    break
                if item is not END and item is not LENT:
                    items.append(item)
            if self.over:
                # Another thread may have taken END and not put it back yet.
                items.append(END)
                self.queue.put(END)
            return items

    def _put_for_callback(self, value: Any) -> None:
        self._callbacks.put(self.call, value)

    # -- in any thread ---------------------------------------------------------------------------

    def end(self, error: RemoteError | None = None) -> None:
        """End: nothing more arrives."""
        with self._lock:
            if error is not None:
                self._errors.append(error)
            if self.over:
                return
            self.over = True
            self.queue.put(END)
            if self.has_callback:
                self._put_for_callback(END)
            else:
                self.closed.set()
            self._put = _ignore

    def set_callback(
        self,
        callback: Callable[[Any], Any],
        endmarker: object,
        in_reactor: Callable[[Callable[[], list[Any]]], list[Any]],
    ) -> None:
        """Call the callback with what has arrived, before this returns, and later with the rest.

        What the callback raises before this returns is raised here, Ctrl-C too.

        :param in_reactor: calls a function in the reactor's thread, and returns its result.
        """
        self._callbacks.start()
        with self._callbacks.calling():
            for item in in_reactor(lambda: self._switch(callback, endmarker)):
                problem = self.call(item)
                if problem is not None:
                    raise problem

    def finish(self) -> None:
        """End, as the channel was closed here: call the callback with the endmarker only."""
        try:
            self._give_endmarker()
        finally:
            self.closed.set()

    def _give_endmarker(self) -> None:
        with self._lock:
            callback, self._callback = self._callback, None
        if callback is not None and self._endmarker is not NO_ENDMARKER:
            callback(self._endmarker)

    def take_error(self) -> Exception | None:
        """The error that it ended with, the first time; later that of a lost connection.

        That one is new each time, as several threads may raise it.
        """
        return self._next_error() or (EOFError(self._lost) if self._lost is not None else None)

    def _next_error(self) -> RemoteError | None:
        try:
            return self._errors.pop(0)
        except IndexError:
            return None

    # -- in the thread of a callback -------------------------------------------------------------

    def call(self, value: Any) -> BaseException | None:
        """Call the callback with a value, or with the endmarker for :data:`END`.

        :returns: the exception that it raised; the channel is closed with that.
        """
        raised: BaseException | None = None
        if value is END:
            try:
                self._give_endmarker()
            except BaseException as problem:
                raised = problem
                self._callback_failed(problem)
            self.closed.set()  # last: a thread that waits for this takes the error then
            return raised
        callback = self._callback
        if callback is None or self._failed:
            return None
        try:
            callback(value)
        except BaseException as problem:
            raised = problem
            self._callback_failed(problem)
        return raised

    def _callback_failed(self, problem: BaseException) -> None:
        """Close the channel with the callback's exception, and call it with the endmarker."""
        text = geterrortext(problem)
        self._add_error(RemoteError(text))
        if self._failed:
            return
        self._failed = True
        core = self._core
        if core is not None and not self.over:
            reactor: Any = core.connection.reactor
            reactor.callFromThread(core.close, _RemoteError("", text, text))
        self.call(END)


def _ignore(_: object) -> None:
    """Drop a value that nobody will receive."""


__all__ = ["END", "LENT", "NO_ENDMARKER", "Inbox"]
