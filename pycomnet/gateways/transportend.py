"""The end of a gateway's transport: notices it, waits for it, and enforces it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime

from pycomnet.deferred import deferred

#: Seconds until a far side's process is killed, once the connection is over. Its supervisor needs
#: at most four to end.
EXIT_TIMEOUT = 6.0
#: Seconds to wait for the status of a process whose connection is over; then the end is reported
#: without it.
STATUS_TIMEOUT = 5.0
#: Seconds within which the connection has to be over once the process has ended: its last output is
#: read, but processes that it left may keep the connection open.
DRAIN_TIMEOUT = 2.0


class StillRuns(Exception):
    """The connection is over, and its process still runs."""


class EndingTransport(Protocol):
    """What a :class:`TransportEnd` needs of a gateway's transport, or of a process."""

    @property
    def status(self) -> int | None:
        """How it ended."""

    def when_ended(self) -> defer.Deferred[Any]:
        """Fires with that."""

    def kill(self, number: int) -> None:
        """End it by force."""


class TransportEnd:
    """Finds out how a far side ended. Two events tell of it, one soon after the other.

    If the connection ends first, the status of the process tells why. If the process ends first,
    its last output still has to be read, and the connection is aborted if something keeps it open.

    :param transport: the gateway transport.
    :param abort: aborts the connection.
    """

    def __init__(
        self, transport: EndingTransport, abort: Callable[[], object], reactor: IReactorTime
    ) -> None:
        self._transport = transport
        self._abort = abort
        self._reactor: IReactorTime = reactor
        self._draining: Any = None

    def process_ended(self) -> None:
        """The process has ended before the connection."""
        self._draining = self._reactor.callLater(DRAIN_TIMEOUT, self._abort)

    def stop(self) -> None:
        """The connection is over."""
        if self._draining is not None and self._draining.active():
            self._draining.cancel()

    @deferred
    async def find_status(self) -> int | None:
        """The connection is over: wait for the status of the process.

        :raises StillRuns: it has none after :data:`STATUS_TIMEOUT` seconds. It has been asked to
            end.
        """
        self.stop()
        # This program may have been busy itself: then what tells of the end has come meanwhile, and
        # is read in this turn of the reactor, behind the timer.
        if not (await self._ends_within(STATUS_TIMEOUT) or await self._ends_within(0)):
            self._transport.kill(signal.SIGTERM)
            raise StillRuns
        return self._transport.status

    @deferred
    async def end(self, timeout: float) -> int | None:
        """Wait for the process's end, which was requested, and enforce it.

        :param timeout: seconds until it is sent a signal.
        :returns: fires with its status.
        """
        for wait, number in ((timeout, signal.SIGTERM), (EXIT_TIMEOUT, signal.SIGKILL)):
            if await self._ends_within(wait):
                break
            self._abort()
            self._transport.kill(number)
        status: int | None = await self._transport.when_ended()
        return status

    async def _ends_within(self, timeout: float) -> bool:
        ended = self._transport.when_ended()
        ended.addTimeout(timeout, self._reactor)
        try:
            await ended
        except defer.TimeoutError:
            return False
        return True
