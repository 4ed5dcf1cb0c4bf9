"""The audit log of access: one line of JSON for each login and refusal, in Twisted's log.

A line has the user, the peer, the method and the outcome, and never a password, a token or an
argument. Nobody can fill the log: of the refusals of one connection, and of the failed logins of
one place, some lines are written at once, and then one a second, which counts the others.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import Any

import attrs
from twisted.internet.interfaces import IReactorTime

from pycomnet.text.logs import Logger

#: The namespace of the log's events, by which an observer finds them.
NAMESPACE = "pycomnet.ext.access.audit"
_log = Logger(NAMESPACE)
#: So many lines of one source are all written. After these, one line in ``EVERY`` seconds has the
#: number of the others.
FREE_LINES = 10
EVERY = 1.0
#: The number of sources whose lines are counted.
PLACES = 1000
#: The most characters of a name in a line.
MAX_NAME = 255


@attrs.define
class AuditLines:
    """The numbers of written and unwritten lines of one source."""

    lines: int = 0
    unsaid: int = 0
    said: float = 0.0


class AuditTrail:
    """Writes the audit log.

    :param reactor: for the time.
    :param calls: whether each allowed call is logged, too.
    """

    def __init__(self, reactor: IReactorTime, calls: bool = False) -> None:
        self._reactor = reactor
        self.calls = calls
        #: the failed logins of places
        self._failed: OrderedDict[str, AuditLines] = OrderedDict()

    def login(self, past: AuditLines, user: str, kind: str, peer: str) -> None:
        """Credentials were accepted.

        :param past: the logins of the same connection.
        """
        self._write_counted(past, "login", user=user, kind=kind, peer=peer, outcome="ok")

    def login_failed(self, place: str, user: str, kind: str, peer: str, outcome: str) -> None:
        """Credentials were not accepted.

        :param place: the origin of the connection.
        """
        past = self._failed.pop(place, None) or AuditLines()
        self._failed[place] = past
        if len(self._failed) > PLACES:
            self._failed.popitem(last=False)
        self._write_counted(past, "login", user=user, kind=kind, peer=peer, outcome=outcome)

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
        past: AuditLines,
        user: str | None,
        peer: str,
        interface: str,
        method: str,
        outcome: str,
    ) -> None:
        """A call is refused.

        :param past: the earlier refusals of the same connection.
        """
        self._write_counted(
            past,
            "refused",
            user=user,
            peer=peer,
            interface=interface,
            method=method,
            outcome=outcome,
        )

    def _write_counted(self, past: AuditLines, event: str, **fields: Any) -> None:
        now = self._reactor.seconds()
        if past.lines >= FREE_LINES and now - past.said < EVERY:
            past.unsaid += 1
            return
        if past.unsaid:
            fields["unlogged"] = past.unsaid
        past.lines += 1
        past.said, past.unsaid = now, 0
        self._write(event, **fields)

    def _write(self, event: str, **fields: Any) -> None:
        short = {
            name: value[:MAX_NAME] if isinstance(value, str) else value
            for name, value in fields.items()
        }
        entry = {"event": event, **short}
        _log.info("{line}", line=json.dumps(entry), audit=entry)
