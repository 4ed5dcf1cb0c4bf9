"""Looking for the answer on a socket before the reactor sleeps for it.

What was just asked is often answered within less time than it takes the system to put a process to
sleep and to wake it again, which on a processor that idles can be 50 us each way. So a socket whose
protocol wrote while it was given what had been read is looked at again for a while, in the same
turn. Both ends of a conversation do so, and then neither sleeps.

It is done where it has been seen to pay: the last answers came quickly, and what is looked for in
vain makes it rare. Between the looks the processor is given away. With Twisted's epoll reactor they
see all that it waits for, and whatever else there is to do ends them; with others they are few.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from typing import Any

from pycomnet.net import _twisted
from pycomnet.net.eager import is_plain

#: Seconds for which an answer is looked for. A small call takes its server some 50 us, and as long
#: again when that has to be woken first.
LOOK = 200e-6
#: The same where the looks don't see what else there is to do: about a reactor's turn.
LOOK_BLIND = 20e-6
#: Seconds in which an answer came quickly: it might have been looked for. More than the others, as
#: this end had to be woken for it.
QUICK = 300e-6
#: Quick answers in a row after which the next one is looked for, at least and at most: as many more
#: as the looks before were in vain.
LEAST_QUICK = 1
MOST_QUICK = 128
#: Answers that are taken in one turn of the reactor, before others get theirs.
READS_PER_TURN = 8

_clock = time.perf_counter


def _no_timeout() -> float | None:
    return None


class BusyPoll:
    """Stands in for the ``doRead`` of a transport on a socket.

    :param transport: a TCP or UNIX transport of Twisted's, without TLS.
    :ivar wrote: to be set when something is written to it.
    """

    __slots__ = (
        "_asked",
        "_look",
        "_needed",
        "_quick",
        "_read",
        "_timeout",
        "_transport",
        "_window",
        "_yield",
        "wrote",
    )

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._read = transport.doRead
        #: when what is not answered yet was written; None where that was looked for
        self._asked: float | None = None
        self._quick = 0
        self._needed = LEAST_QUICK
        self._look: Callable[[], bool | None] | None = None
        self._window = LOOK
        self._yield: Callable[[], object] = getattr(os, "sched_yield", int)
        self._timeout: Callable[[], float | None] = _no_timeout
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
        asked = self._asked
        if asked is not None:
            self._asked = None
            if _clock() - asked < QUICK:
                self._quick += 1
            else:
                self._quick = 0
        transport = self._transport
        is_congested = _twisted.is_congested
        for _ in range(READS_PER_TURN):
            self.wrote = False
            problem = self._read()
            if problem is not None or not self.wrote:
                return problem
            if not transport.connected or transport.disconnecting or is_congested(transport):
                return None
            if self._quick < self._needed:
                self._asked = _clock()
                return None
            if not self._spin():
                return None
        return None

    def _spin(self) -> bool:
        """Look for a while; True when there is something to read, and nothing else to do."""
        look = self._look
        if look is None:
            look = self._look = self._make_look()
        if self._timeout() == 0:
            return False  # a delayed call is due
        end = _clock() + self._window
        while True:
            ready = look()
            now = _clock()
            if ready is None:
                return False
            if ready and now <= end:
                self._needed = LEAST_QUICK
                return True
            if now > end:
                # Or it did come, but the processor, once given away, was long in coming back: who
                # sleeps is given it at once.
                self._quick = 0
                self._needed = min(2 * self._needed, MOST_QUICK)
                return ready
            self._yield()

    def _make_look(self) -> Callable[[], bool | None]:
        """What looks: it returns None when there is something else to do first."""
        fd = self._transport.fileno()
        reactor = getattr(self._transport, "reactor", None)
        poller = _twisted.epoll_of(reactor)
        if poller is not None:
            poll = poller.poll
            only = [(fd, select.EPOLLIN)]
            self._timeout = reactor.timeout  # type: ignore[union-attr]

            def look() -> bool | None:
                ready = poll(0, 2)
                if not ready:
                    return False
                return True if ready == only else None

            return look
        if not hasattr(select, "poll"):
            return lambda: None
        self._window = LOOK_BLIND
        alone = select.poll()
        alone.register(fd, select.POLLIN)

        def look_blindly() -> bool | None:
            return bool(alone.poll(0))

        return look_blindly

    def stop(self) -> None:
        """The transport is closed: let go of it."""
        _twisted.restore_read(self._transport)
        self._look = self._asked = None
        self._timeout = _no_timeout
        self._quick, self._needed = 0, MOST_QUICK


__all__ = ["BusyPoll"]
