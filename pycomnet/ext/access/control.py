"""Access control of a server: its rules, its checkers, and the callers that have logged in."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import attrs
from twisted.cred.error import UnauthorizedLogin
from twisted.internet import defer, task
from twisted.internet.interfaces import IReactorTime

from pycomnet.auth.principal import Principal
from pycomnet.auth.strangers import origin
from pycomnet.deferred import deferred
from pycomnet.errors import AccessConfigError, ConnectionLost, Forbidden, Unauthenticated
from pycomnet.ext.access.audit import AuditTrail, Refusals
from pycomnet.ext.access.checkers import Checker, Login, identify, kinds_of, takes
from pycomnet.ext.access.messages import LoginMessage, read_message
from pycomnet.ext.access.rules import AskedCall, Rule
from pycomnet.ext.access.slots import CheckSlots
from pycomnet.ext.access.throttle import Throttle
from pycomnet.ranges import check_fields
from pycomnet.services.server.guarding import RULE, make_heads
from pycomnet.services.threads import MethodThreads
from pycomnet.text.logs import Logger
from pycomnet.wire.codec import make_codec
from pycomnet.wire.values import InvalidValue

if TYPE_CHECKING:
    from pycomnet.services.interface import Service
    from pycomnet.services.server.connection import ServerConnection
    from pycomnet.services.server.server import ServiceServer

log = Logger()

#: What is allowed to which users is kept for so many different logins.
MAX_TABLES = 1000
#: By how much the threads that check passwords are nicer than the rest.
NICENESS = 5


@attrs.frozen(kw_only=True)
class AccessLimits:
    """Limits on the logins of a server.

    :ivar checks: how many credentials are checked at a time, each in a thread: a password's hash
        takes a processor for a quarter of a second or more.
    :ivar waiting: how many logins may wait; further ones are refused.
    :ivar waiting_here: how many of them from one place.
    :ivar refresh: seconds between looks at whether files have changed.
    """

    checks: int = attrs.Factory(lambda: max(1, min(4, (os.cpu_count() or 1) - 1)))
    waiting: int = 2000
    waiting_here: int = 500
    refresh: float = 2.0

    def __attrs_post_init__(self) -> None:
        check_fields(self, checks=1, refresh=0.01)


class CallerState:
    """What is known of the caller of a connection.

    :ivar logins: checker -> the login that it has accepted.
    """

    def __init__(self, control: AccessControl, connection: ServerConnection) -> None:
        self.logins: dict[Any, Login] = {}
        self.refusals = Refusals()
        self.expired = False
        self.timers: dict[Any, Any] = {}
        self._control = control
        self._connection = connection

    @property
    def identity(self) -> Hashable:
        return frozenset((one, login.user.name) for one, login in self.logins.items())

    @property
    def name(self) -> str | None:
        """The user's name; None if nobody has logged in."""
        return next((login.user.name for login in self.logins.values()), None)

    def user(self, interface: str, method: str) -> Principal | None:
        rule = self._control.rule_of(interface, method)
        for checker in (rule.checkers or ()) if rule is not None else ():
            if checker in self.logins:
                return self.logins[checker].user
        return next((login.user for login in self.logins.values()), None)

    def sees(self, interface: str, method: str) -> bool:
        return self._control.refusal(self, interface, method) is None

    def refusal(self, interface: str, method: str, size: int) -> Exception | None:
        return self._control.judge(self, self._connection, interface, method, size)


class AccessControl:
    """Decides who may call what on a server.

    :param reactor: the server's.
    :param deny: whether a method is refused to everybody that has no rule, nor its interface.
    :param rules: interface and method -> the rule that replaces the one that the method has.
    :param audit_calls: whether the audit log has a line for each call that is allowed, too.
    :param limits: limits on logins.
    :param threads: a thread pool for checks; by default one of its own.
    :param clock: tells the time of day, by which tokens expire.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        *,
        deny: bool = False,
        rules: Mapping[tuple[str, str], Rule] | None = None,
        audit_calls: bool = False,
        limits: AccessLimits | None = None,
        threads: Any = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.reactor = reactor
        self.deny = deny
        self.limits = limits or AccessLimits()
        self.throttle = Throttle(reactor)
        self.audit = AuditTrail(reactor, audit_calls)
        self._clock = clock
        self._threads = MethodThreads(reactor, self.limits.checks, threads)
        #: others for reading files and fetching keys: these may take long, and compute nothing
        self._readers = MethodThreads(reactor, 1, threads)
        self._slots = CheckSlots(self.limits.checks)
        self._given = dict(rules or {})
        self._rules: dict[tuple[str, str], Rule | None] = {}
        #: the checkers of all rules
        self._checkers: dict[Any, None] = {}
        self._callers: dict[ServerConnection, CallerState] = {}
        self._tables: dict[Hashable, frozenset[bytes] | None] = {}
        self._nobody = CallerState(self, None)  # type: ignore[arg-type]
        self._server: ServiceServer | None = None
        #: how many logins wait, in all and from each place
        self._waiting = 0
        self._waiting_at: dict[str, int] = {}
        self._refreshing: Any = None
        self._encode = make_codec().encode

    # -- rules -----------------------------------------------------------------------------------

    def attach(self, server: ServiceServer) -> None:
        """It belongs to this server.

        :raises AccessConfigError: it belongs to another.
        """
        if self._server is not None:
            raise AccessConfigError("an AccessControl belongs to one server: make one for each")
        self._server = server

    def add(self, service: Service) -> None:
        """A service is added, with its rules. The checkers that are new are opened.

        :raises AccessConfigError: one can't be used.
        """
        outer: Rule | None = getattr(type(service), RULE, None)
        rules: dict[tuple[str, str], Rule | None] = {}
        for interface, declared in service.interfaces.items():
            for name, method in declared.methods.items():
                own: Rule | None = getattr(getattr(service, method.attribute), RULE, None)
                found = outer if own is None else own.over(outer)
                rules[interface, name] = self._given.get((interface, name), found)
        for rule in rules.values():
            for checker in (rule.checkers or ()) if rule is not None else ():
                if checker not in self._checkers:
                    if isinstance(checker, Checker):
                        checker.open()
                    self._checkers[checker] = None
        self._rules.update(rules)
        self._tables.clear()
        for connection, caller in self._callers.items():
            self._set_heads(connection, caller)

    def rule_of(self, interface: str, method: str) -> Rule | None:
        """The rule of a method; None if it has none."""
        return self._rules.get((interface, method))

    def unruled(self) -> list[str]:
        """The interfaces with a method that has no rule."""
        return list(dict.fromkeys(name for (name, _), rule in self._rules.items() if rule is None))

    def kinds(self) -> list[str]:
        """The kinds of credentials that the rules' checkers take."""
        return list(dict.fromkeys(kind for one in self._checkers for kind in kinds_of(one)))

    def sees(self, interface: str, method: str) -> bool:
        """Whether a client that has not logged in may know of a method."""
        return self._nobody.sees(interface, method)

    def refusal(self, caller: CallerState, interface: str, method: str) -> Exception | None:
        """Why a caller may not call a method, the functions of rules aside; None if it may."""
        key = interface, method
        if key not in self._rules:
            return None  # there is no such method, or it is the server's own
        rule = self._rules[key]
        if rule is None:
            if not self.deny:
                return None
            text = f"{interface}: {method} has no access rule, and this server denies what has none"
            return Forbidden(text, interface, method)
        return rule.refusal(caller.logins, caller.expired, interface, method)

    def judge(
        self,
        caller: CallerState,
        connection: ServerConnection,
        interface: str,
        method: str,
        size: int,
    ) -> Exception | None:
        """Why a call is refused, or None; with the functions of rules, and the audit log."""
        refused = self.refusal(caller, interface, method)
        rule = self.rule_of(interface, method)
        if refused is None and rule is not None and rule.judges:
            user = connection.user_of(interface, method)
            refused = rule.judged(AskedCall(interface, method, user, size, connection))
        if refused is not None:
            outcome = getattr(refused, "reason", "forbidden")
            self.audit.refused(
                caller.refusals, caller.name, connection.peer, interface, method, outcome
            )
        elif self.audit.calls and (interface, method) in self._rules:
            self.audit.call(caller.name, connection.peer, interface, method)
        return refused

    def _set_heads(self, connection: ServerConnection, caller: CallerState) -> None:
        key = frozenset(
            (one, login.user.name, login.user.roles) for one, login in caller.logins.items()
        )
        if key not in self._tables:
            if len(self._tables) >= MAX_TABLES:
                self._tables.clear()
            self._tables[key] = self._make_heads(caller)
        connection.set_heads(self._tables[key])

    def _make_heads(self, caller: CallerState) -> frozenset[bytes] | None:
        if self.audit.calls:
            return frozenset()
        allowed = [
            called
            for called, rule in self._rules.items()
            if self.refusal(caller, *called) is None and not (rule is not None and rule.judges)
        ]
        return None if len(allowed) == len(self._rules) else make_heads(self._encode, allowed)

    # -- connections -----------------------------------------------------------------------------

    def connected(self, connection: ServerConnection) -> CallerState:
        """A client has connected; nobody knows yet who it is."""
        caller = self._callers[connection] = CallerState(self, connection)
        self._set_heads(connection, caller)
        if self._refreshing is None:
            self._refresh_later()
        return caller

    def disconnected(self, connection: ServerConnection) -> None:
        """A client's connection is over."""
        caller = self._callers.pop(connection, None)
        if caller is not None:
            for timer in caller.timers.values():
                timer.cancel()
            caller.timers.clear()
        if not self._callers:
            self._stop_refreshing()

    @deferred
    async def log_in(self, connection: ServerConnection, message: bytes) -> dict[str, Any]:
        """Check credentials, and have them count for a connection.

        :returns: fires with the reply; fails with :class:`~pycomnet.errors.Unauthenticated`.
            Cancelling it gives up.
        """
        try:
            given = read_message(message, connection.transport)
        except InvalidValue as problem:
            raise connection.violated("value", str(problem)) from None
        checkers = [one for one in self._checkers if takes(one, given.credentials)]
        if given.credentials is None or not checkers:
            why = given.why or f"it takes: {', '.join(self.kinds())}"
            self.audit.login(given.user, given.kind, connection.peer, "kind")
            raise Unauthenticated(f"the server can't use a {given.kind}: {why}", "kind")
        found = await self._found(connection, given, checkers)
        caller = self._callers.get(connection)
        if caller is None:
            raise ConnectionLost("the client has gone")
        self._log_in(connection, caller, found)
        user = next(iter(found.values())).user
        self.audit.login(user.name, user.how, connection.peer, "ok")
        return self._reply(caller, found)

    async def _found(
        self, connection: ServerConnection, given: LoginMessage, checkers: list[Any]
    ) -> dict[Any, Login]:
        """The logins of those checkers that accept credentials, when it is their turn."""
        place = origin(connection.transport)
        user = given.user if given.kind in ("password", "token") else ""
        guessed = given.kind in ("password", "token")
        with self._counted(place):
            while True:
                wait = self.throttle.wait(place, user) if guessed else 0.0
                if wait:
                    await task.deferLater(self.reactor, wait)
                await self._slots.acquire()
                try:
                    # Others of the same place may have failed while this one waited for its turn.
                    if guessed and self.throttle.wait(place, user):
                        continue
                    found, broken = await self._check(given, checkers)
                finally:
                    self._slots.release()
                break
            if found:
                if guessed:
                    self.throttle.succeeded(place, user)
                return found
            if broken:
                self.audit.login(given.user, given.kind, connection.peer, "failed")
                raise Unauthenticated("the server can't check credentials now", "busy")
            self.audit.login(given.user, given.kind, connection.peer, "refused")
            if guessed:
                await task.deferLater(self.reactor, self.throttle.failed(place, user))
        raise Unauthenticated("nobody here has these credentials", "refused")

    @contextlib.contextmanager
    def _counted(self, place: str) -> Iterator[None]:
        """In a ``with`` block: one more login waits."""
        here = self._waiting_at.get(place, 0)
        if self._waiting >= self.limits.waiting or here >= self.limits.waiting_here:
            raise Unauthenticated("too many logins wait here: try again later", "busy")
        self._waiting += 1
        self._waiting_at[place] = here + 1
        try:
            yield
        finally:
            self._waiting -= 1
            self._waiting_at[place] -= 1
            if not self._waiting_at[place]:
                del self._waiting_at[place]

    async def _check(
        self, given: LoginMessage, checkers: list[Any]
    ) -> tuple[dict[Any, Login], bool]:
        """Ask checkers; returns the logins of those that accept, and whether one did not work."""
        found = {}
        broken = False
        for checker in checkers:
            try:
                found[checker] = await identify(
                    checker, given.credentials, given.kind, self._in_thread
                )
            except UnauthorizedLogin:
                pass
            except defer.CancelledError:
                raise
            except Exception:
                broken = True
                log.failure("{checker} can't check credentials", checker=type(checker).__name__)
        return found, broken

    def _in_thread(self, function: Callable[[], Any]) -> defer.Deferred[Any]:
        return self._threads.run("a check of credentials", lambda: _nicely(function))

    def _log_in(
        self, connection: ServerConnection, caller: CallerState, found: dict[Any, Login]
    ) -> None:
        for timer in caller.timers.values():
            timer.cancel()
        caller.timers.clear()
        caller.logins = found
        caller.expired = False
        for checker, login in found.items():
            if login.expires is not None:
                left = max(0.0, login.expires - self._clock())
                caller.timers[checker] = self.reactor.callLater(
                    left, self._expired, connection, checker
                )
        self._set_heads(connection, caller)

    def _reply(self, caller: CallerState, found: dict[Any, Login]) -> dict[str, Any]:
        user = next(iter(found.values())).user
        ends = [login.expires for login in found.values() if login.expires is not None]
        assert self._server is not None
        return {
            "user": user.name,
            "roles": sorted(user.roles),
            "how": user.how,
            "expires": max(0.0, min(ends) - self._clock()) if ends else None,
            "services": self._server.announced(caller.sees),
        }

    # -- the ends of logins ----------------------------------------------------------------------

    def _expired(self, connection: ServerConnection, checker: Any) -> None:
        caller = self._callers[connection]
        del caller.timers[checker]
        self._end(connection, caller, checker, "expired")

    def _end(
        self, connection: ServerConnection, caller: CallerState, checker: Any, why: str
    ) -> None:
        login = caller.logins[checker]
        caller.logins = {one: kept for one, kept in caller.logins.items() if one is not checker}
        timer = caller.timers.pop(checker, None)
        if timer is not None:
            timer.cancel()
        caller.expired = True
        self.audit.ended(login.user.name, connection.peer, why)
        self._set_heads(connection, caller)
        if self._server is not None:
            self._server.withdraw(
                connection, lambda interface, method: self.refusal(caller, interface, method)
            )

    def _refresh_later(self) -> None:
        if any(isinstance(one, Checker) and one.changes for one in self._checkers):
            self._refreshing = self.reactor.callLater(self.limits.refresh, self._refresh)

    @deferred
    async def _refresh(self) -> None:
        self._refreshing = running = _Running()
        for checker in list(self._checkers):
            if not (isinstance(checker, Checker) and checker.changes):
                continue
            try:
                changed = await self._readers.run("a look for changes", checker.refresh)
            except Exception:
                log.failure("{checker} can't be read again", checker=type(checker).__name__)
                continue
            if changed:
                self.changed(checker)
        if self._refreshing is running:
            self._refreshing = None
            if self._callers:
                self._refresh_later()

    def changed(self, checker: Checker) -> None:
        """What a checker accepts has changed: end the logins that do not count any more."""
        for connection, caller in list(self._callers.items()):
            login = caller.logins.get(checker)
            if login is not None and not checker.holds(login):
                self._end(connection, caller, checker, "withdrawn")

    def _stop_refreshing(self) -> None:
        refreshing, self._refreshing = self._refreshing, None
        if refreshing is not None:
            refreshing.cancel()

    def close(self) -> None:
        """The server has ended."""
        self._stop_refreshing()
        self._threads.close()
        self._readers.close()


class _Running:
    """Stands for the delayed call of a refresh that runs."""

    def cancel(self) -> None:
        """Nothing to do: it looks whether it is still wanted."""


_nice = threading.local()


def _nicely(function: Callable[[], Any]) -> Any:
    """Run a function in a thread that leaves the processor to the others (on Linux)."""
    if sys.platform == "linux" and threading.current_thread().daemon and not hasattr(_nice, "done"):
        _nice.done = True
        with contextlib.suppress(OSError):
            own = threading.get_native_id()
            os.setpriority(os.PRIO_PROCESS, own, os.getpriority(os.PRIO_PROCESS, own) + NICENESS)
    return function()


__all__ = ["AccessControl", "AccessLimits", "CallerState"]
