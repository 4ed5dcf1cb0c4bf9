"""Busy polling for an answer within the reactor turn in which the request was sent.

:mod:`pycomnet.far.busypoll` has the policy. If a protocol writes while it handles what was read,
its descriptor is polled, and read again in the same turn. With Twisted's epoll reactor the polls
see all events that the reactor waits for, and any other event ends them. With other reactors they
see only one descriptor, and are few.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.base import ReactorBase

from pycomnet.far.busypoll import LONG_WINDOW, BusyWait, poll_of
from pycomnet.net import _twisted
from pycomnet.net.eager import is_plain

#: Seconds to poll if that doesn't see other events: about a turn of the reactor.
BLIND_WINDOW = 20e-6
#: The most answers that one descriptor reads in one turn of the reactor; and if the polls don't see
#: other events, which wait meanwhile.
READS_PER_TURN, BLIND_READS = 32, 8


def reactor_wait(reactor: object, fd: int, window: float) -> BusyWait:
    """The busy polling for a descriptor that a reactor reads, within one turn of the reactor.

    :param window: seconds to poll, if that also sees other events.
    """
    poller = _twisted.epoll_of(reactor)
    if poller is None:
        return BusyWait(poll_of(fd), BLIND_WINDOW)
    poll = poller.poll
    timeout: Callable[[], float | None] = cast(ReactorBase, reactor).timeout
    only = [(fd, select.EPOLLIN)]

    def look(_: int) -> bool | None:
        ready = poll(0, 2)
        if not ready:
            return False
        return True if ready == only else None

    def is_due() -> bool:
        """Whether a delayed call is due."""
        return timeout() == 0

    return BusyWait(look, window, is_due)


class BusyPoll:
    """Replaces the ``doRead`` of a transport on a socket.

    :param transport: a TCP or UNIX transport of Twisted's, without TLS.
    :ivar wrote: the user sets this when it writes to the transport.
    """

    __slots__ = ("_most", "_read", "_transport", "_wait", "wrote")

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._read = transport.doRead
        #: created on first use
        self._wait: BusyWait | None = None
        self._most = BLIND_READS
        self.wrote = False
        _twisted.replace_read(transport, self)

    @classmethod
    def of(cls, transport: Any) -> BusyPoll | None:
        """The BusyPoll of a transport; None for one that isn't on a plain socket."""
        there = _twisted.replaced_read(transport)
        if isinstance(there, BusyPoll):
            return there
        return cls(transport) if is_plain(transport) and hasattr(transport, "socket") else None

    def __call__(self) -> Any:
        if self._wait is not None:
            self._wait.came()
        for _ in range(self._most):
            self.wrote = False
            problem = self._read()
            if problem is not None or not self.wrote or not self.poll():
                return problem
        return None

    def poll(self) -> Any:
        """Poll for an answer to the bytes written; the reactor reads it.

        :returns: whether there is one; None if nothing is to be polled for.
        """
        transport, wait = self._transport, self._wait
        if not transport.connected or transport.disconnecting or _twisted.is_congested(transport):
            return None
        if wait is None:
            reactor = getattr(transport, "reactor", None)
            wait = self._wait = reactor_wait(reactor, transport.fileno(), LONG_WINDOW)
            if _twisted.epoll_of(reactor) is not None:
                self._most = READS_PER_TURN
        return wait.poll()

    def stop(self) -> None:
        """The transport is closed: release it."""
        _twisted.restore_read(self._transport)
        self._wait = None
