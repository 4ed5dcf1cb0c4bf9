"""Polling for an answer in the turn of the reactor in which it was asked for.

When to poll is the rule of :mod:`pycomnet.far.busypoll`. Here a descriptor whose protocol wrote
while it was given what had been read is polled, and read again in the same turn. With Twisted's
epoll reactor the polls see all that it waits for, and whatever else there is to do ends them; with
others they see one descriptor only, and are few.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any

from pycomnet.far.busypoll import LONG_WINDOW, BusyWait, poll_of
from pycomnet.net import _twisted
from pycomnet.net.eager import is_plain

#: Seconds for which one polls where that doesn't show what else there is to do: about a turn of
#: the reactor.
BLIND_WINDOW = 20e-6
#: Answers that are taken in one turn of the reactor, before others get theirs.
READS_PER_TURN = 8


def reactor_wait(reactor: Any, fd: int, window: float) -> BusyWait:
    """Waits for a descriptor that a reactor reads, in one turn of the reactor.

    :param window: seconds for which one polls, where that shows what else there is to do.
    """
    poller = _twisted.epoll_of(reactor)
    if poller is None:
        return BusyWait(poll_of(fd), BLIND_WINDOW)
    poll = poller.poll
    timeout: Callable[[], float | None] = reactor.timeout
    only = [(fd, select.EPOLLIN)]

    def look(_: int) -> bool | None:
        ready = poll(0, 2)
        if not ready:
            return False
        return True if ready == only else None

    def is_due() -> bool:
        """Whether a delayed call is."""
        return timeout() == 0

    return BusyWait(look, window, is_due)


class BusyPoll:
    """Stands in for the ``doRead`` of a transport on a socket.

    :param transport: a TCP or UNIX transport of Twisted's, without TLS.
    :ivar wrote: to be set when something is written to it.
    """

    __slots__ = ("_read", "_transport", "_wait", "wrote")

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._read = transport.doRead
        #: made when it is first needed
        self._wait: BusyWait | None = None
        self.wrote = False
        _twisted.replace_read(transport, self)

    @classmethod
    def of(cls, transport: Any) -> BusyPoll | None:
        """That of a transport; None for one that isn't on a plain socket."""
        there = _twisted.replaced_read(transport)
        if isinstance(there, BusyPoll):
            return there
        return cls(transport) if is_plain(transport) and hasattr(transport, "socket") else None

    def __call__(self) -> Any:
        wait = self._wait
        if wait is not None:
            wait.came()
        transport = self._transport
        is_congested = _twisted.is_congested
        for _ in range(READS_PER_TURN):
            self.wrote = False
            problem = self._read()
            if problem is not None or not self.wrote:
                return problem
            if not transport.connected or transport.disconnecting or is_congested(transport):
                return None
            if wait is None:
                reactor = getattr(transport, "reactor", None)
                wait = self._wait = reactor_wait(reactor, transport.fileno(), LONG_WINDOW)
            if not wait.poll():
                return None
        return None

    def stop(self) -> None:
        """The transport is closed: let go of it."""
        _twisted.restore_read(self._transport)
        self._wait = None


__all__ = ["READS_PER_TURN", "BusyPoll", "reactor_wait"]
