"""The timer that finds an idle subprocess."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorTime

#: How many times within the timeout a subprocess is checked.
CHECKS = 4


class IdleTimer:
    """Checks from time to time whether there was activity since the last check.

    :param timeout: seconds without activity after which it is idle; 0: it never is.
    :param activity: returns a value that changes with each activity.
    :param first: the value at the start.
    :param idle: called once, when it is idle.
    """

    def __init__(
        self,
        timeout: float,
        activity: Callable[[], object],
        first: object,
        idle: Callable[[], object],
        reactor: IReactorTime,
    ) -> None:
        self._timeout = timeout
        self._activity = activity
        self._last = first
        self._idle = idle
        self._reactor = reactor
        self._since = reactor.seconds()
        self._timer: Any = None

    def start(self) -> None:
        """Start checking."""
        if self._timeout:
            self._timer = self._reactor.callLater(self._timeout / CHECKS, self._check)

    def stop(self) -> None:
        """Stop checking."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _check(self) -> None:
        self._timer = None
        now, activity = self._reactor.seconds(), self._activity()
        if activity != self._last:
            self._last, self._since = activity, now
        if now - self._since >= self._timeout:
            self._idle()
        else:
            self.start()
