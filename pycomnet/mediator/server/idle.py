"""Finds subprocesses that do nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: How often in its time a subprocess is looked at that may be idle.
LOOKS = 4


class IdleTimer:
    """Looks from time to time whether something has happened since the last look.

    :param timeout: seconds without anything after which it is idle; 0 never is.
    :param activity: what is another value when something has happened; it begins with ``first``.
    :param idle: called, once, when it is.
    """

    def __init__(
        self,
        timeout: float,
        activity: Callable[[], object],
        first: object,
        idle: Callable[[], object],
        reactor: Any,
    ) -> None:
        self._timeout = timeout
        self._activity = activity
        self._last = first
        self._idle = idle
        self._reactor = reactor
        self._since = reactor.seconds()
        self._looking: Any = None

    def start(self) -> None:
        """Look from now on."""
        if self._timeout:
            self._looking = self._reactor.callLater(self._timeout / LOOKS, self._look)

    def stop(self) -> None:
        """Look no more."""
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
