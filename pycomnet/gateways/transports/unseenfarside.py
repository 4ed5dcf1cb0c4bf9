"""The base of transports that know nothing of the far side but the connection to it."""

from __future__ import annotations

from twisted.internet import defer

from pycomnet.deferred import OneShot


class UnseenFarSide:
    """The part of a gateway's transport that reports how the far side ended: here that is unknown.

    A subclass fires ``_over`` when the connection is closed, and sets ``_reason`` before.
    """

    status: int | None = None

    def __init__(self) -> None:
        self._reason = ""
        self._over: OneShot[int | None] = OneShot()

    def when_ended(self) -> defer.Deferred[int | None]:
        """Fires once the connection is closed."""
        return self._over.when_fired()

    def describe_end(self, status: int | None) -> str:
        """Only what closed the connection is known."""
        return self._reason

    def keep(self, text: str) -> None:
        """Its standard error is not seen here."""

    def stderr_tail(self) -> str:
        """Likewise."""
        return ""
