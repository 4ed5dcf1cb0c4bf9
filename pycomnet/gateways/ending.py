"""The end of what carries a far side: found out when it comes, waited for, and made to come."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime

from pycomnet.deferred import deferred

#: Seconds that a far side's process has to end, once the connection is over, before it is killed.
#: Its supervisor needs at most four.
EXIT_TIMEOUT = 6.0
#: Seconds to wait for the status of a process whose connection is over, before saying so anyway.
STATUS_TIMEOUT = 5.0
#: Seconds in which the connection has to be over once the process has ended: what it said last is
#: read, but what it left behind may hold the connection open.
DRAIN_TIMEOUT = 2.0


class StillRuns(Exception):
    """The connection is over, and what carried it has not ended."""


class EndingTransport(Protocol):
    """A gateway's transport, as far as its end is concerned: see ``GatewayTransport``."""

    @property
    def status(self) -> int | None:
        """How it ended."""

    def when_ended(self) -> defer.Deferred[int | None]:
        """Fires with that."""

    def kill(self, number: int) -> None:
        """End it without asking it."""


class TransportEnd:
    """Finds out how a far side ended. Two signs of it come, one soon after the other.

    The connection is over: then the status of the process tells why. Or the process has ended:
    then what it said last is still to be read, and the connection is aborted if it is held open.

    :param transport: what carries the connection.
    :param abort: aborts the connection.
    """

    def __init__(
        self, transport: EndingTransport, abort: Callable[[], object], reactor: Any
    ) -> None:
        self._transport = transport
        self._abort = abort
        self._reactor: IReactorTime = reactor
        self._draining: Any = None

    def process_ended(self) -> None:
        """It has ended, and the connection goes on."""
        self._draining = self._reactor.callLater(DRAIN_TIMEOUT, self._abort)

    def stop(self) -> None:
        """The connection is over."""
        if self._draining is not None and self._draining.active():
            self._draining.cancel()

    @deferred
    async def find_status(self) -> int | None:
        """The connection is over: wait for the status of what carried it.

        :raises StillRuns: it has none after :data:`STATUS_TIMEOUT` seconds. It was told to end.
        """
        self.stop()
        if not await self._ends_within(STATUS_TIMEOUT):
            self._transport.kill(signal.SIGTERM)
            raise StillRuns
        return self._transport.status

    @deferred
    async def end(self, timeout: float) -> int | None:
        """Wait for its end, and see to it: it was asked to end by itself.

        :param timeout: seconds that it has for that, before it is told by a signal.
        :returns: fires with its status.
        """
        for wait, number in ((timeout, signal.SIGTERM), (EXIT_TIMEOUT, signal.SIGKILL)):
            if await self._ends_within(wait):
                break
            self._abort()
            self._transport.kill(number)
        return await self._transport.when_ended()

    async def _ends_within(self, timeout: float) -> bool:
        ended = self._transport.when_ended()
        ended.addTimeout(timeout, self._reactor)
        try:
            await ended
        except defer.TimeoutError:
            return False
        return True
