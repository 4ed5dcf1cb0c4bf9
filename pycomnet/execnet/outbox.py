"""What other threads send over a connection, in their order.

A thread encodes its value itself and goes on. The reactor is woken once for all that waits then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

from pycomnet.channels.core import ChannelCore
from pycomnet.text.logs import Logger
from pycomnet.wire.frames import FRAGMENT, bin32

log = Logger()
#: So many values are written in one turn of the reactor, which then serves others.
CROWD = 512


class Outbox:
    """Values that wait for the reactor's thread.

    :param reactor: whose thread that is.
    """

    def __init__(self, reactor: IReactorFromThreads) -> None:
        self._call_in_reactor: Callable[..., Any] = reactor.callFromThread
        self._waiting: deque[tuple[ChannelCore, Any]] = deque()
        self._told = False

    def send(self, core: ChannelCore, value: object) -> None:
        """Send a value over a channel.

        :raises TypeError: it can't be sent; the message says why.
        """
        if type(value) is bytes and len(value) > FRAGMENT:
            self.put(core, value)
            return
        connection = core.connection
        try:
            payload = connection.pack(value, connection.hook, connection.options)
        except Exception:
            payload = connection.encode(value)
        self.put(core, (payload,))

    def put(self, core: ChannelCore, what: Any) -> None:
        """Queue an encoded value in a tuple, long bytes as they are, or a function to be called."""
        self._waiting.append((core, what))
        if not self._told:
            self._told = True
            self._call_in_reactor(self._hand_over)

    def _hand_over(self) -> None:
        # What is added from now on is seen, or wakes the reactor once more.
        self._told = False
        self.flush(CROWD)
        if self._waiting and not self._told:
            self._told = True
            self._call_in_reactor(self._hand_over)

    def flush(self, most: int | None = None) -> None:
        """In the reactor's thread: send what waits now, and not what is added meanwhile.

        :param most: how many at most.
        """
        waiting = self._waiting
        count = len(waiting) if most is None else min(most, len(waiting))
        for _ in range(count):
            core, what = waiting.popleft()
            if type(what) is tuple:
                sent = core.send(what[0])
            elif type(what) is bytes:
                sent = core.send(what, bin32(len(what)))
            else:
                try:
                    what()
                except Exception:  # the others' turn comes all the same
                    log.failure("a channel could not be closed")
                continue
            if not sent.called or isinstance(sent.result, Failure):
                sent.addErrback(_drop)


def _drop(_: Failure) -> None:
    """The channel was closed meanwhile, as its next ``send`` and ``receive`` say."""
