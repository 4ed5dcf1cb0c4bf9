"""Access control of a server: its rules, its checkers, and the callers that have logged in."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReactorTime

from pycomnet.auth.principal import Principal
from pycomnet.auth.unauthenticated import origin
from pycomnet.deferred import deferred
from pycomnet.errors import AccessConfigError, ConnectionLost, Forbidden, Unauthenticated
from pycomnet.ext.access.audit import AuditLines, AuditTrail
from pycomnet.ext.access.changes import ChangeWatch
from pycomnet.ext.access.checkers import Checker, Login, kinds_of, takes
from pycomnet.ext.access.loginchecks import AccessLimits, LoginChecks
from pycomnet.ext.access.messages import read_message
from pycomnet.ext.access.rules import AskedCall, Rule, class_rule, method_rule
from pycomnet.services.server.accessgate import make_heads
from pycomnet.wire.codec import make_codec
from pycomnet.wire.values import InvalidValue

if TYPE_CHECKING:
    from pycomnet.services.interface import Service
    from pycomnet.services.server.connection import ServerConnection
    from pycomnet.services.server.server import ServiceServer

#: checker -> the login that it has accepted
Logins = Mapping[Any, Login]
#: The number of different logins whose permissions are cached.
MAX_TABLES = 1000


class CallerState:
    """The state of the caller of a connection.

    :ivar logins: checker -> the login that it has accepted.
    """

    def __init__(self, control: AccessControl, connection: ServerConnection) -> None:
        self.logins: dict[Any, Login] = {}
        self.refusals = AuditLines()
        self.accepted = AuditLines()
        self.expired = False
        self.timers: dict[Any, Any] = {}
        self._control = control
        self._connection = connection

    @property
    def name(self) -> str | None:
        """The user's name; None if nobody has logged in."""
        return next((login.user.name for login in self.logins.values()), None)

    def sees(self, interface: str, method: str) -> bool:
        return self._control.refusal(self.logins, self.expired, interface, method) is None

    def refusal(
        self, interface: str, method: str, size: int, again: bool = False
    ) -> Exception | None:
        return self._control.judge(self, self._connection, interface, method, size, again)

    def outlived(self, before: Logins | None, interface: str, method: str) -> Exception | None:
        before = before or {}  # it began when the server had no rules
        kept = {
            checker: login
            for checker, login in self.logins.items()
            if checker in before and before[checker].user.name == login.user.name
        }
        return self._control.refusal(kept, True, interface, method)


class AccessControl:
    """Decides which callers may call which methods of a server.

    :param reactor: the server's.
    :param deny: whether a method is refused to everybody if neither the method nor its interface
        has a rule.
    :param rules: interface and method -> the rule that replaces the method's own.
    :param audit_calls: whether the audit log has a line for each allowed call, too.
    :param limits: limits on logins.
    :param threads: a thread pool for checks; by default one of its own.
    :param clock: returns the time of day, for the expiry of tokens.
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
        self.audit = AuditTrail(reactor, audit_calls)
        self.checks = LoginChecks(reactor, self.limits, self.audit, threads)
        self._clock = clock
        self._changes = ChangeWatch(reactor, self.limits.refresh, self.changed, threads)
        self._given = dict(rules or {})
        self._rules: dict[tuple[str, str], Rule | None] = {}
        #: the checkers of all rules
        self._checkers: dict[Any, None] = {}
        self._callers: dict[ServerConnection, CallerState] = {}
        self._tables: dict[Hashable, frozenset[bytes] | None] = {}
        #: whether any method is open to everybody; None if that is not known
        self._public: bool | None = None
        self._nobody = CallerState(self, None)  # type: ignore[arg-type]
        self._server: ServiceServer | None = None
        self._encode = make_codec().encode

    # -- rules -----------------------------------------------------------------------------------

    def attach(self, server: ServiceServer) -> None:
        """Attach it to a server.

        :raises AccessConfigError: it belongs to another.
        """
        if self._server is not None:
            raise AccessConfigError("an AccessControl belongs to one server: make one for each")
        self._server = server

    def add(self, service: Service) -> None:
        """A service is added, with its rules. New checkers are opened.

        :raises AccessConfigError: one can't be used.
        """
        outer = class_rule(type(service))
        rules: dict[tuple[str, str], Rule | None] = {}
        for interface, declared in service.interfaces.items():
            for name, method in declared.methods.items():
                own = method_rule(type(service), method.attribute)
                found = outer if own is None else own.over(outer)
                rules[interface, name] = self._given.get((interface, name), found)
        for rule in rules.values():
            for checker in (rule.checkers or ()) if rule is not None else ():
                if checker not in self._checkers:
                    if isinstance(checker, Checker):
                        checker.open()
                        self._changes.add(checker)
                    self._checkers[checker] = None
        self._rules.update(rules)
        self._tables.clear()
        self._public = None
        if self._callers:
            self._changes.start()
        for connection, caller in self._callers.items():
            self._set_heads(connection, caller)

    def rule_of(self, interface: str, method: str) -> Rule | None:
        """The rule of a method; None if it has none."""
        return self._rules.get((interface, method))

    def has_rule(self, interface: str, method: str) -> bool:
        """Whether a method has a rule."""
        return self.rule_of(interface, method) is not None

    def unruled(self) -> list[str]:
        """The interfaces with a method that has no rule."""
        return list(dict.fromkeys(name for (name, _), rule in self._rules.items() if rule is None))

    def check_names(self) -> None:
        """Check that the rules that it was given are for existing methods.

        :raises AccessConfigError: one is not, so it protects nothing.
        """
        for interface, method in self._given.keys() - self._rules.keys():
            raise AccessConfigError(
                f"there is a rule for {interface}: {method}, and no service here has that method"
            )

    def kinds(self) -> list[str]:
        """The kinds of credentials that the rules' checkers take."""
        return list(dict.fromkeys(kind for one in self._checkers for kind in kinds_of(one)))

    def sees(self, interface: str, method: str) -> bool:
        """Whether a client that has not logged in may know of a method."""
        return self._nobody.sees(interface, method)

    def user(self, logins: Logins, interface: str, method: str) -> Principal | None:
        """The user that calls a method: the user of the checkers of the method's rule, or of its
        interface's.

        Users of other checkers are ignored: they may have the same names.
        """
        rule = self.rule_of(interface, method)
        for checker in () if rule is None else rule.checkers or rule.known:
            if checker in logins:
                return logins[checker].user
        return None

    def identity(self, logins: Logins) -> Hashable:
        """A caller's identity, as a part of a session's key."""
        return frozenset((one, login.user.name) for one, login in logins.items())

    def serves_anybody(self) -> bool:
        """Whether there is a method that needs no login."""
        if self._public is None:
            self._public = not self._rules or any(self.sees(*called) for called in self._rules)
        return self._public

    def refusal(
        self, logins: Logins, expired: bool, interface: str, method: str
    ) -> Exception | None:
        """The reason why a caller may not call a method, without the functions of rules; None if
        the caller may.

        :param logins: checker -> the login that it has accepted.
        :param expired: whether a login of the caller's has ended.
        """
        key = interface, method
        if key not in self._rules:
            return None  # there is no such method, or it is the server's own
        rule = self._rules[key]
        if rule is None:
            if not self.deny:
                return None
            text = f"{interface}: {method} has no access rule, and this server denies what has none"
            return Forbidden(text, interface, method)
        return rule.refusal(logins, expired, interface, method)

    def judge(
        self,
        caller: CallerState,
        connection: ServerConnection,
        interface: str,
        method: str,
        size: int,
        again: bool,
    ) -> Exception | None:
        """The reason why a call is refused, or None; with the functions of rules, and the audit
        log.

        :param again: whether it was allowed when it arrived, and is about to run now.
        """
        refused = self.refusal(caller.logins, caller.expired, interface, method)
        rule = self.rule_of(interface, method)
        if refused is None and rule is not None and rule.judges:
            user = self.user(caller.logins, interface, method)
            users = {one: login.user for one, login in caller.logins.items()}
            refused = rule.judged(AskedCall(interface, method, user, users, size, connection))
        if refused is not None:
            outcome = getattr(refused, "reason", "forbidden")
            if outcome == "missing" and isinstance(refused, Unauthenticated):
                refused.login = self.kinds()  # the hello may have said less, or nothing
            self.audit.refused(
                caller.refusals, caller.name, connection.peer, interface, method, outcome
            )
        elif self.audit.calls and not again and (interface, method) in self._rules:
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
        connection.set_heads(self._tables[key], caller.logins)

    def _make_heads(self, caller: CallerState) -> frozenset[bytes] | None:
        if self.audit.calls:
            return frozenset()
        allowed = [
            called
            for called, rule in self._rules.items()
            if caller.sees(*called) and not (rule is not None and rule.judges)
        ]
        return None if len(allowed) == len(self._rules) else make_heads(self._encode, allowed)

    # -- connections -----------------------------------------------------------------------------

    def connected(self, connection: ServerConnection) -> CallerState:
        """A client has connected; it has not authenticated yet."""
        caller = self._callers[connection] = CallerState(self, connection)
        self._set_heads(connection, caller)
        self._changes.start()
        return caller

    def disconnected(self, connection: ServerConnection) -> None:
        """A client's connection is over."""
        caller = self._callers.pop(connection, None)
        if caller is not None:
            for timer in caller.timers.values():
                timer.cancel()
            caller.timers.clear()
        if not self._callers:
            self._changes.stop()

    @deferred
    async def log_in(self, connection: ServerConnection, message: bytes) -> dict[str, Any]:
        """Check credentials, and make them valid for a connection.

        :returns: fires with the reply; fails with :class:`~pycomnet.errors.Unauthenticated`.
            Cancelling it gives up.
        """
        try:
            given = read_message(message, connection.transport)
        except InvalidValue as problem:
            raise connection.violated("value", str(problem)) from None
        checkers = [one for one in self._checkers if takes(one, given.credentials)]
        if given.why or (given.credentials is not None and not checkers):
            why = given.why or f"it takes: {', '.join(self.kinds())}"
            self._failed(connection, given.user, given.kind, "kind")
            raise Unauthenticated(f"the server can't use a {given.kind}: {why}", "kind")
        found = await self.checks.check(connection, given, checkers)
        # The checker's files may have been read again meanwhile: for this login, or for others.
        self._changes.notice()
        caller = self._callers.get(connection)
        if caller is None:
            raise ConnectionLost("the client has gone")
        found = {one: login for one, login in found.items() if self._counts(one, login)}
        if not found:
            self._failed(connection, given.user, given.kind, "expired")
            raise Unauthenticated("these credentials have just ended", "expired")
        self._log_in(connection, caller, found)
        user = next(iter(found.values())).user
        self.audit.login(caller.accepted, user.name, user.how, connection.peer)
        return self._reply(caller, found)

    def _failed(self, connection: ServerConnection, user: str, kind: str, outcome: str) -> None:
        self.audit.login_failed(origin(connection.transport), user, kind, connection.peer, outcome)

    def _counts(self, checker: Any, login: Login) -> bool:
        """Whether a login that a checker has accepted is still valid."""
        if login.expires is not None and login.expires <= self._clock():
            return False
        return not isinstance(checker, Checker) or checker.holds(login)

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
        self._changes.start()
        self._withdraw({connection})

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
        self._withdraw({connection})

    def _end(
        self, connection: ServerConnection, caller: CallerState, checker: Any, why: str
    ) -> None:
        login = caller.logins[checker]
        caller.logins = {one: kept for one, kept in caller.logins.items() if one != checker}
        timer = caller.timers.pop(checker, None)
        if timer is not None:
            timer.cancel()
        caller.expired = True
        self.audit.ended(login.user.name, connection.peer, why)
        self._set_heads(connection, caller)

    def _withdraw(self, connections: set[ServerConnection]) -> None:
        """End streams and waiting calls that needed logins that their connections do not have any
        more."""
        if self._server is not None and connections:
            self._server.withdraw(connections)

    def changed(self, checker: Checker) -> None:
        """The credentials that a checker accepts have changed: end the logins that are not valid
        any more."""
        ended = set()
        for connection, caller in list(self._callers.items()):
            login = caller.logins.get(checker)
            if login is not None and not checker.holds(login):
                self._end(connection, caller, checker, "withdrawn")
                ended.add(connection)
        self._withdraw(ended)

    def close(self) -> None:
        """The server has ended."""
        self._changes.close()
        self.checks.close()
