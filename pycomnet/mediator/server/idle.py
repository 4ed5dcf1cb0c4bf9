"""Finds idle subprocesses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorTime

#: How often within its timeout an idle subprocess is checked.
LOOKS = 4


class IdleTimer:
    """Checks from time to time whether there was activity since the last check.

    :param timeout: seconds without anything after which it is idle; 0 never is.
    :param activity: returns a value that changes with each activity; at first it is ``first``.
    :param idle: called, once, when it is.
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
        self._looking: Any = None

    def start(self) -> None:
        """Start checking."""
        if self._timeout:
            self._looking = self._reactor.callLater(self._timeout / LOOKS, self._look)

    def stop(self) -> None:
        """Stop checking."""
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.cancel()

    def _look(self) -> None:
        self._looking = None
        now, activity = self._reactor.seconds(), self._activity()
        if activity != self._last:
            self._last, self._since = activity, now
        if now - self._since >= self._timeout:
            self._idle()
        else:
            self.start()
