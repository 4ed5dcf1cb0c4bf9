"""The timer that finds a far side of the factory that was not used for too long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorTime

#: How many times within the timeout a program that has the far side's pipes is asked whether it has
#: used the far side.
CHECKS = 4


class IdleWatch:
    """Watches whether a far side is used.

    :param timeout: seconds; 0 disables it.
    :param is_busy: called when the time is over; returns whether code runs there. It may set
        :attr:`used`.
    :param ask: asks the program whether it has used the far side; :meth:`told` gets the answer.
    :param expired: called when the far side was not used for the timeout.
    :ivar used: when it was used last, by the reactor's clock.
    """

    def __init__(
        self,
        timeout: float,
        is_busy: Callable[[], bool],
        ask: Callable[[], object],
        expired: Callable[[], object],
        reactor: IReactorTime,
    ) -> None:
        self.used: float = reactor.seconds()
        self._timeout = timeout
        self._is_busy = is_busy
        self._ask = ask
        self._expired = expired
        self._reactor = reactor
        self._call: Any = None
        #: whether only the program knows, and how often in a row it has answered no
        self._asks = False
        self._unused = 0

    def start(self) -> None:
        """Start the timer: the far side has started."""
        if self._timeout:
            self._call = self._reactor.callLater(self._timeout, self._check)

    def stop(self) -> None:
        """Cancel the timer: the far side has ended, or was told to."""
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None

    def ask_from_now_on(self) -> None:
        """Ask the program from now on: it has the far side's pipes, so only it knows."""
        self._asks = True
        if self._call is not None:
            self._call.reset(self._timeout / CHECKS)

    def told(self, idle: bool) -> None:
        """Process the program's answer.

        :param idle: whether it has not used the far side since the last question.
        """
        if not self._asks or self._call is None or self._call.active():
            return
        self._unused = self._unused + 1 if idle else 0
        if self._unused < CHECKS:
            self._call = self._reactor.callLater(self._timeout / CHECKS, self._check)
        else:
            self._expired()

    def _check(self) -> None:
        if self._asks:
            self._ask()
            return
        busy = self._is_busy()
        left = self.used + self._timeout - self._reactor.seconds()
        if busy or left > 0:
            self._call = self._reactor.callLater(self._timeout if busy else left, self._check)
        else:
            self._expired()
