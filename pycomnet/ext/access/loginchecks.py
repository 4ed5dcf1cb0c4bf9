"""Checks credentials: a few at a time, in threads, fairly among origins, and with delays for
guessers."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import attrs
from twisted.cred.error import UnauthorizedLogin
from twisted.internet import defer, task
from twisted.internet.interfaces import IReactorTime

from pycomnet.auth.unauthenticated import origin
from pycomnet.errors import Unauthenticated
from pycomnet.ext.access.audit import AuditTrail
from pycomnet.ext.access.checkers import CheckLater, Login, identify
from pycomnet.ext.access.checkslots import CheckSlots
from pycomnet.ext.access.messages import LoginMessage
from pycomnet.ext.access.throttle import TOKENS_FREE, Throttle
from pycomnet.ranges import check_fields
from pycomnet.services.threads import MethodThreads
from pycomnet.text.logs import Logger

if TYPE_CHECKING:
    from pycomnet.services.server.connection import ServerConnection

log = Logger()


@attrs.frozen(kw_only=True)
class AccessLimits:
    """Limits on the logins of a server.

    :ivar checks: how many credentials are checked at a time, each in a thread: a password's hash
        takes a processor for a quarter of a second or more.
    :ivar waiting: how many logins may wait for a check; further ones are refused, first those of
        the place with the most.
    :ivar waiting_here: how many logins from one place may wait.
    :ivar refresh: seconds between checks for changed files.
    """

    checks: int = attrs.Factory(lambda: max(1, min(4, (os.cpu_count() or 1) - 1)))
    waiting: int = 2000
    waiting_here: int = 500
    refresh: float = 2.0

    def __attrs_post_init__(self) -> None:
        check_fields(self, checks=1, refresh=0.01)


@attrs.frozen
class _Verdict:
    """The result of the checkers.

    :ivar logins: the logins of the checkers that accept.
    :ivar refused: whether one has refused.
    :ivar broken: whether one did not work.
    """

    logins: dict[Any, Login]
    refused: bool
    broken: bool


class LoginChecks:
    """Checks the credentials of a server's clients.

    :param audit: gets a line for each failed login.
    :param threads: a thread pool for checks; by default one of its own.
    :ivar throttles: kind of credentials -> the throttle of its guessers; other kinds can't be
        guessed.
    """

    def __init__(
        self, reactor: IReactorTime, limits: AccessLimits, audit: AuditTrail, threads: Any
    ) -> None:
        self._reactor = reactor
        self._audit = audit
        self.throttles = {
            "password": Throttle(reactor),
            "token": Throttle(reactor, TOKENS_FREE, names=False),
        }
        self.slots = CheckSlots(limits.checks, limits.waiting, limits.waiting_here)
        self._threads = MethodThreads(reactor, limits.checks, threads)

    async def check(
        self, connection: ServerConnection, given: LoginMessage, checkers: Sequence[Any]
    ) -> dict[Any, Login]:
        """The logins of the checkers that accept credentials. The check waits for its turn.

        :raises Unauthenticated: no checker accepts them. Cancelling it gives up; the try counts as
            a failure.
        """
        place = origin(connection.transport)
        throttle = self.throttles.get(given.kind)
        trying = None
        while True:
            if throttle is not None:
                wait = throttle.wait(place, given.key)
                if wait:
                    await task.deferLater(self._reactor, wait)
            await self._turn(connection, place, given, throttle)
            try:
                if throttle is not None:
                    # Others of the same place may have failed while this one waited for its turn.
                    if throttle.wait(place, given.key):
                        continue
                    trying = throttle.begin(place, given.key)
                verdict = await self._ask(given, checkers)
                break
            except defer.CancelledError:
                if throttle is not None and trying is not None:
                    throttle.failed(trying)
                raise
            finally:
                self.slots.release()
        if verdict.logins:
            if throttle is not None and trying is not None:
                throttle.succeeded(trying)
            return verdict.logins
        why = "busy" if verdict.broken else "refused"
        self._failed(connection, place, given, "failed" if verdict.broken else why)
        if throttle is not None and trying is not None:
            if verdict.refused:
                # Also if another checker did not work: the credentials were a guess at this one.
                await task.deferLater(self._reactor, throttle.failed(trying))
            else:
                throttle.undo(trying)
        if verdict.broken:
            raise Unauthenticated("the server can't check credentials now", why)
        raise Unauthenticated("nobody here has these credentials", why)

    async def _turn(
        self,
        connection: ServerConnection,
        place: str,
        given: LoginMessage,
        throttle: Throttle | None,
    ) -> None:
        """Wait for a slot. A user who has logged in from a place does not wait for all other logins
        there."""
        known = throttle is not None and throttle.is_trusted(place, given.key)
        try:
            await self.slots.acquire((place, given.key) if known else place)
        except Unauthenticated:
            self._failed(connection, place, given, "busy")
            raise

    def _failed(
        self, connection: ServerConnection, place: str, given: LoginMessage, outcome: str
    ) -> None:
        self._audit.login_failed(place, given.user, given.kind, connection.peer, outcome)

    async def _ask(self, given: LoginMessage, checkers: Sequence[Any]) -> _Verdict:
        found: dict[Any, Login] = {}
        refused = given.credentials is None
        broken = False
        for checker in checkers:
            try:
                found[checker] = await identify(
                    checker, given.credentials, given.kind, self._in_thread
                )
            except UnauthorizedLogin:
                refused = True
            except defer.CancelledError:
                raise
            except CheckLater:
                broken = True
            except Exception:
                broken = True
                log.failure("{checker} can't check credentials", checker=type(checker).__name__)
        return _Verdict(found, refused, broken)

    def _in_thread(self, function: Callable[[], Any]) -> defer.Deferred[Any]:
        return self._threads.run("a check of credentials", function)

    def close(self) -> None:
        """The server has ended."""
        self._threads.close()
