"""The notices of other services: the reactor reads a connection that listens."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from typing import Any

import psycopg
from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from pycomnet.text.logs import Logger

log = Logger()


def _read(text: bytes) -> tuple[int, str, list[str]] | None:
    """A notice: the sender's epoch, the kind, and runs. None for one that no workflow service has
    sent: every user of the database may send notices."""
    try:
        epoch, kind, *runs = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return None
    if type(epoch) is not int or not all(type(one) is str for one in (kind, *runs)):
        return None
    return epoch, kind, runs


@implementer(IReadDescriptor)
class Notices:
    """Reads notices.

    :param connection: it listens already, and nobody else uses it.
    :param told: called for each notice, with the sender's epoch, the kind, and the ids of runs.
    :param lost: called once, with the reason, when the connection is lost.
    """

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        told: Callable[[int, str, list[str]], None],
        lost: Callable[[str], None],
        reactor: IReactorFDSet,
    ) -> None:
        self._connection = connection
        # A copy: libpq closes its descriptor when the connection is lost, and another file may then
        # get its number.
        self._descriptor = os.dup(connection.fileno())
        self._closed = False
        self._told = told
        self._lost = lost
        self._reactor = reactor
        reactor.addReader(self)

    def fileno(self) -> int:
        return self._descriptor

    def logPrefix(self) -> str:
        return "notices"

    def doRead(self) -> None:
        """Read what has arrived, without blocking."""
        server = self._connection.pgconn
        try:
            server.consume_input()
        except psycopg.Error as problem:
            self._end(str(problem))
            return
        while (notice := server.notifies()) is not None:
            read = _read(notice.extra)
            if read is None:
                log.warn("a notice that is none of a workflow service is left alone")
                continue
            self._told(*read)

    def connectionLost(self, reason: Failure) -> None:
        self._end(str(reason.value))

    def _end(self, problem: str) -> None:
        self.close()
        self._lost(" ".join(problem.split()))

    def close(self) -> None:
        """Close the connection. ``lost`` is not called."""
        if self._closed:
            return
        self._closed = True
        self._reactor.removeReader(self)
        os.close(self._descriptor)
        with contextlib.suppress(psycopg.Error):
            self._connection.close()
