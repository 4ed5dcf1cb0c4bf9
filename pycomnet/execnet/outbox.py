"""Values that user threads send over a connection, in the order of sending.

A thread encodes its value, queues the encoding, and goes on. The first value in the queue wakes the
reactor, which then sends the whole queue.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

from pycomnet.channels.connection import Connection
from pycomnet.channels.core import ChannelCore
from pycomnet.execnet.reactorbypass import ReactorBypass
from pycomnet.text.logs import Logger
from pycomnet.wire.frames import FRAGMENT, bin32

log = Logger()
#: The most values that are sent in one turn of the reactor, which then serves other connections.
MOST_PER_TURN = 512


class Outbox:
    """Values that wait for the reactor's thread.

    :param reactor: the reactor of the connection.
    :param connection: the connection of all the channels.
    :ivar bypass: lets threads write and read themselves.
    """

    def __init__(self, reactor: IReactorFromThreads, connection: Connection) -> None:
        self._call_in_reactor: Callable[..., Any] = reactor.callFromThread
        self._connection = connection
        self._send_now: Callable[[Any, bytes], int] = connection.mux.send_now
        self._waiting: deque[tuple[ChannelCore, Any]] = deque()
        #: whether the reactor's thread has been asked to send the queue
        self._woken = False
        #: whether it is sending it now
        self._flushing = False
        self.bypass = ReactorBypass(reactor, connection, self)

    def send(self, core: ChannelCore, value: object) -> None:
        """Send a value over a channel.

        :raises TypeError: it can't be sent; the message says why.
        """
        if type(value) is bytes and len(value) > FRAGMENT:
            self.put(core, value)
            return
        connection = self._connection
        try:
            payload = connection.pack(value, connection.hook, connection.options)
        except Exception:
            payload = connection.encode(value)
        if not self.bypass.send(core, payload):
            self.put(core, (payload,))

    def is_idle(self) -> bool:
        """In any thread: whether nothing that this thread has sent waits here."""
        return not (self._waiting or self._flushing)  # in this order: the first before the second

    def put(self, core: ChannelCore, what: Any) -> None:
        """Queue a tuple of an encoded value, long bytes as they are, or a function to be called."""
        self._waiting.append((core, what))
        if not self._woken:
            self._wake()

    def _wake(self) -> None:
        try:
            self._woken = True
            self._call_in_reactor(self._run)
        except BaseException:  # Ctrl-C, too: the next value wakes the reactor
            self._woken = False
            raise

    def _run(self) -> None:
        # A value that is added from now on is sent in this turn, or wakes the reactor again.
        self._woken = False
        self._flushing = True
        try:
            self._connection.send_together(self._send_some)
        finally:
            self._flushing = False
            if self._waiting and not self._woken:
                self._wake()

    def _send_some(self) -> None:
        self.flush(MOST_PER_TURN)

    def flush(self, most: int | None = None) -> None:
        """In the reactor's thread: send what is in the queue now, but not what is added meanwhile.

        :param most: the most values to send; None for all.
        """
        before, self._flushing = self._flushing, True
        try:
            self._flush(most)
        finally:
            self._flushing = before

    def _flush(self, most: int | None) -> None:
        waiting = self._waiting
        count = len(waiting) if most is None else min(most, len(waiting))
        for _ in range(count):
            core, what = waiting.popleft()
            try:
                if type(what) is tuple:
                    if self._send_now(core.stream, what[0]):
                        continue
                    sent = core.send(what[0])
                elif type(what) is bytes:
                    sent = core.send(what, bin32(len(what)))
                else:
                    what()
                    continue
            except Exception:  # the other values are sent all the same
                log.failure("a channel could not be used")
                continue
            if not sent.called or isinstance(sent.result, Failure):
                sent.addErrback(_drop)


def _drop(_: Failure) -> None:
    """Ignore that the channel was closed meanwhile: its next ``send`` or ``receive`` raises it."""
