"""The audit log of access: one line of JSON for each login and refusal, in Twisted's log.

A line has who, from where, what and the outcome, and never a password, a token or an argument.
"""

from __future__ import annotations

import json
from typing import Any

import attrs
from twisted.internet.interfaces import IReactorTime

from pycomnet.text.logs import Logger

#: The namespace of its events, by which an observer finds them.
NAMESPACE = "pycomnet.ext.access.audit"
_log = Logger(NAMESPACE)
#: Refusals of one connection that are logged each; then one line a second counts the others.
FREE_LINES = 10
EVERY = 1.0


@attrs.define
class Refusals:
    """The refusals of one connection that were logged, and those that were not."""

    lines: int = 0
    unsaid: int = 0
    said: float = 0.0


class AuditTrail:
    """Writes the audit log.

    :param reactor: for the time.
    :param calls: whether each call is logged that is allowed, too.
    """

    def __init__(self, reactor: IReactorTime, calls: bool = False) -> None:
        self._reactor = reactor
        self.calls = calls

    def login(self, user: str, kind: str, peer: str, outcome: str) -> None:
        """Credentials were accepted (``ok``), or not."""
        self._write("login", user=user, kind=kind, peer=peer, outcome=outcome)

    def ended(self, user: str, peer: str, why: str) -> None:
        """A login was ended: it has expired, or was withdrawn."""
        self._write("login ended", user=user, peer=peer, outcome=why)

    def call(self, user: str | None, peer: str, interface: str, method: str) -> None:
        """A call is allowed."""
        self._write(
            "call", user=user, peer=peer, interface=interface, method=method, outcome="allowed"
        )

    def refused(
        self,
        past: Refusals,
        user: str | None,
        peer: str,
        interface: str,
        method: str,
        outcome: str,
    ) -> None:
        """A call is refused.

        :param past: what the same connection was refused before.
        """
        now = self._reactor.seconds()
        if past.lines >= FREE_LINES and now - past.said < EVERY:
            past.unsaid += 1
            return
        more = {"unlogged": past.unsaid} if past.unsaid else {}
        past.lines += 1
        past.said, past.unsaid = now, 0
        self._write(
            "refused",
            user=user,
            peer=peer,
            interface=interface[:255],
            method=method[:255],
            outcome=outcome,
            **more,
        )

    def _write(self, event: str, **fields: Any) -> None:
        entry = {"event": event, **fields}
        _log.info("{line}", line=json.dumps(entry), audit=entry)


__all__ = ["NAMESPACE", "AuditTrail", "Refusals"]
