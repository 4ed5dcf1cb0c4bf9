"""What comes over a channel: queued for ``receive``, or given to a callback in a thread.

As in execnet, what comes is taken from the connection at once, and waits here without a limit. So
far code that sends never waits for code here, which may be waiting for it.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import traceback
from collections.abc import Callable
from typing import Any

from twisted.python.failure import Failure

from pycomnet.channels.core import ChannelCore
from pycomnet.errors import ChannelClosed
from pycomnet.errors import RemoteError as _RemoteError
from pycomnet.execnet.errors import RemoteError


class _Marker:
    """A value of which there is one."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return f"<{self._name}>"


#: The default of ``setcallback``: no endmarker.
NO_ENDMARKER = _Marker("no endmarker")
#: After the last value.
END = _Marker("end")
#: Seconds without a call after which the thread for callbacks ends.
IDLE = 10.0


class CallbackThread:
    """Calls the callbacks of a gateway's channels, one after the other, in a thread.

    The thread starts with the first call, and ends when there has been none for some time.

    :param name: the thread's.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._queue: queue.SimpleQueue[tuple[Inbox, Any]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def put(self, inbox: Inbox, value: Any) -> None:
        """Let the callback of an inbox be called."""
        with self._lock:
            self._queue.put((inbox, value))
            if self._thread is None:
                thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                with contextlib.suppress(RuntimeError):  # the interpreter is ending
                    thread.start()
                    self._thread = thread

    def is_current(self) -> bool:
        """Whether this code runs in it."""
        return threading.current_thread() is self._thread

    def _run(self) -> None:
        while True:
            try:
                inbox, value = self._queue.get(timeout=IDLE)
            except queue.Empty:
                with self._lock:
                    if self._queue.empty():
                        self._thread = None
                        return
                continue
            inbox.call(value)
            del inbox, value


class Inbox:
    """Everything that comes over one channel.

    :param callbacks: the thread for its callback.
    :ivar over: whether nothing more comes.
    :ivar closed: set when nothing more comes, and the callback has returned.
    :ivar lost: why the connection is over.
    """

    __slots__ = (
        "__weakref__",
        "_callback",
        "_callbacks",
        "_core",
        "_endmarker",
        "_errors",
        "_put",
        "closed",
        "has_callback",
        "lost",
        "over",
        "queue",
    )

    def __init__(self, callbacks: CallbackThread) -> None:
        self._callbacks = callbacks
        self._core: ChannelCore | None = None
        self._callback: Callable[[Any], Any] | None = None
        self._endmarker: object = NO_ENDMARKER
        self._errors: list[Exception] = []
        self.queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._put: Callable[[Any], None] = self.queue.put
        self.has_callback = False
        self.over = False
        self.lost: EOFError | None = None
        self.closed = threading.Event()

    # -- in the reactor's thread -----------------------------------------------------------------

    def attach(self, core: ChannelCore) -> None:
        """Take all that comes over this channel."""
        self._core = core
        core.set_callback(self.arrived, self.failed, END)

    def arrived(self, value: Any) -> None:
        """A value has come, or the end."""
        if value is END:
            self.end()
        else:
            self._put(value)

    def failed(self, failure: Failure) -> None:
        """It ends with an error: of far code, of the connection, or in a value that came."""
        problem = failure.value
        if isinstance(problem, _RemoteError):
            self._errors.append(RemoteError(problem.formatted or problem.message))
        elif isinstance(problem, ChannelClosed):
            pass
        else:
            self.lost = EOFError(str(problem))
        self.end()

    def end(self, error: Exception | None = None) -> None:
        """Nothing more comes."""
        if error is not None:
            self._errors.append(error)
        if self.over:
            return
        self.over = True
        self._put(END)
        self._put = _ignore
        if not self.has_callback:
            self.closed.set()

    def drop(self) -> None:
        """Forget what comes from now on."""
        self._put = _ignore

    def set_callback(self, callback: Callable[[Any], Any], endmarker: object) -> None:
        """Call back with what has come, and with what comes."""
        self._callback, self._endmarker = callback, endmarker
        self.has_callback = True
        self.closed.clear()
        self._put = lambda value: self._callbacks.put(self, value)
        while True:
            try:
                self._put(self.queue.get_nowait())
            except queue.Empty:
                return

    # -- in the thread for callbacks -------------------------------------------------------------

    def call(self, value: Any) -> None:
        """Call the callback with a value, or with the endmarker at the end."""
        callback = self._callback
        if value is END:
            self._callback = None
            value = self._endmarker
        if callback is not None and value is not NO_ENDMARKER:
            try:
                callback(value)
            except BaseException:
                self._callback_failed()
        if self._callback is None:
            self.closed.set()

    def _callback_failed(self) -> None:
        """The callback raised: close the channel with that."""
        text = traceback.format_exc()
        self._callback = None
        core = self._core
        if core is not None and not self.over:
            self._errors.append(RemoteError(text))
            reactor: Any = core.connection.reactor
            reactor.callFromThread(core.close, _RemoteError("", text, text))

    # -- in any thread ---------------------------------------------------------------------------

    def take_error(self) -> Exception | None:
        """The error that it ended with, the first time; later the connection's, if it is lost."""
        return self._errors.pop(0) if self._errors else self.lost


def _ignore(_: object) -> None:
    """Nobody will receive it."""
