"""The rules: which callers may call an interface or a method."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Mapping
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from pycomnet.auth.principal import Principal, names_of
from pycomnet.errors import AccessConfigError, Forbidden, Unauthenticated
from pycomnet.ext.access.checkers import Login, flatten, kinds_of
from pycomnet.services.server.accessgate import RULE
from pycomnet.text.logs import Logger

if TYPE_CHECKING:
    from pycomnet.ext.access.control import AccessControl
    from pycomnet.services.server.connection import ServerConnection
    from pycomnet.services.server.server import ServiceServer

T = TypeVar("T")

log = Logger()

#: functions that have a rule
_marked: weakref.WeakSet[FunctionType] = weakref.WeakSet()


@attrs.frozen
class AskedCall:
    """A call as the function of a rule sees it: before its arguments are decoded.

    :ivar user: the user according to a checker of this rule, or of its interface's. None if nobody
        has logged in, or the rule names no checker.
    :ivar users: all checkers of the server that know the caller, each with its user. A name is
        unique only within its checker: another checker may give it to anybody.
    :ivar size: bytes of the request.
    :ivar connection: the connection on which the call came.
    """

    interface: str
    method: str
    user: Principal | None
    users: Mapping[Any, Principal]
    size: int
    connection: ServerConnection

    @property
    def peer(self) -> str:
        """Where the call came from, as an endpoint string."""
        return self.connection.peer


#: The function of a rule: returns whether a call is allowed.
Judge = Callable[[AskedCall], bool]


@attrs.frozen
class Rule:
    """The requirements that a caller has to meet.

    :ivar checkers: any of them has to have accepted the caller; None if the rule has none.
    :ivar roles: the user has to have one of these roles, or
    :ivar allow: to have one of these names. If both are empty, any user may.
    :ivar judges: functions; each of them has to allow a call.
    :ivar public: everybody may call.
    :ivar known: checkers whose users are known to the method, though it requires none.
    """

    checkers: tuple[Any, ...] | None = None
    roles: frozenset[str] = frozenset()
    allow: frozenset[str] = frozenset()
    judges: tuple[Judge, ...] = ()
    public: bool = False
    known: tuple[Any, ...] = ()

    def make_gate(self, server: ServiceServer) -> AccessControl:
        """The access control of a server that was not given one."""
        from pycomnet.ext.access.control import AccessControl

        return AccessControl(server.reactor)

    def over(self, outer: Rule | None) -> Rule:
        """Combine this rule, of a method or a class, with that of its interface or its base, which
        supplies the missing parts.
        """
        if outer is None:
            return self
        if self.public:
            return attrs.evolve(self, known=outer.checkers or outer.known)
        found = self
        if self.checkers is None:
            found = attrs.evolve(
                found,
                checkers=outer.checkers,
                roles=outer.roles,
                allow=outer.allow,
                public=outer.public and not self.judges,
                known=outer.known,
            )
        return found if self.judges else attrs.evolve(found, judges=outer.judges)

    def refusal(
        self, logins: Mapping[Any, Login], expired: bool, interface: str, method: str
    ) -> Exception | None:
        """The reason why a caller may not call a method, without the rule's functions; None if the
        caller may.

        :param logins: checker -> the login that it has accepted.
        :param expired: whether a login of the caller's has ended.
        """
        if self.checkers is None:
            return None
        users = [logins[one].user for one in self.checkers if one in logins]
        if not users:
            what = f"{interface}: {method}"
            if expired:
                return Unauthenticated(f"{what}: the login has ended: log in again", "expired")
            if logins:
                return Unauthenticated(f"{what} needs other credentials than these", "kind")
            kinds = dict.fromkeys(kind for one in self.checkers for kind in kinds_of(one))
            wanted = ", ".join(kinds)
            text = f"{what} needs credentials, and none of those that it takes were given: {wanted}"
            return Unauthenticated(text, "missing")
        if not (self.roles or self.allow):
            return None
        for user in users:
            if user.roles & self.roles or user.name in self.allow:
                return None
        role = " or ".join(sorted(self.roles))
        text = f"{interface}: {users[0].name} may not call {method}"
        if role:
            text += f": that needs the role {role}"
        return Forbidden(text, interface, method, role)

    def judged(self, call: AskedCall) -> Exception | None:
        """The reason why the rule's functions refuse a call; None if they allow it."""
        for judge in self.judges:
            try:
                if judge(call) is True:
                    continue
            except (Forbidden, Unauthenticated) as problem:
                return problem
            except Exception:
                log.failure("a rule of {interface} raised", interface=call.interface)
            name = "nobody" if call.user is None else call.user.name
            text = f"{call.interface}: {name} may not call {call.method} so"
            return Forbidden(text, call.interface, call.method)
        return None


def class_rule(cls: type) -> Rule | None:
    """The rule of a class: its own, combined with those of its bases."""
    found: Rule | None = None
    for one in reversed(cls.__mro__):
        own: Rule | None = vars(one).get(RULE)
        if own is not None:
            found = own.over(found)
    return found


def method_rule(cls: type, attribute: str) -> Rule | None:
    """The rule of a method by itself.

    :raises AccessConfigError: it has none, and overrides a method that has one.
    """
    functions = [vars(one)[attribute] for one in cls.__mro__ if attribute in vars(one)]
    rules: list[Rule | None] = [getattr(one, RULE, None) for one in functions]
    if rules and rules[0] is None:
        if any(rules):
            raise AccessConfigError(
                f"{cls.__qualname__}.{attribute} overrides a method that has an access rule, and "
                "has none itself: say @access.auth(...), @access.rule(...) or @access.public"
            )
        _warn_of_lost_rule(cls, attribute)
    return rules[0] if rules else None


def _warn_of_lost_rule(cls: type, attribute: str) -> None:
    """Warn of a rule that another decorator has lost."""
    name = f"{cls.__qualname__}.{attribute}"
    for function in _marked:
        if function.__qualname__ == name and function.__module__ == cls.__module__:
            log.critical(
                "{name} has an access rule that does not count: a decorator above it has made "
                "another function, and should use functools.wraps",
                name=name,
            )


def auth(
    checker: Any, *, roles: str | Collection[str] = (), allow: str | Collection[str] = ()
) -> Callable[[T], T]:
    """Let only authenticated users call a method, or the methods of an interface.

    :param checker: the checker of the credentials: one of this package, or any of twisted.cred's.
    :param roles: one of these roles is needed, or
    :param allow: one of these names. Without both, any user may call whose credentials the checker
        accepts.
    """
    rule = Rule(flatten(checker), names_of("roles", roles), names_of("allow", allow))

    def mark(target: T) -> T:
        found = _own_rule(target)
        if found.checkers is not None or found.public:
            raise TypeError(f"{target!r} has a rule: several checkers are one, AnyOf(...)")
        return _set_rule(target, attrs.evolve(rule, judges=found.judges))

    return mark


def rule(function: Judge) -> Callable[[T], T]:
    """Let a function decide on each call of a method, or of the methods of an interface.

    :param function: gets an :class:`AskedCall` before the arguments are decoded, and returns True
        if the call is allowed. Any other result refuses the call, and so does an error. It must not
        block.
    """
    if not callable(function):
        raise TypeError(f"the function of a rule is expected, not {function!r}")

    def mark(target: T) -> T:
        found = _own_rule(target)
        return _set_rule(target, attrs.evolve(found, judges=(*found.judges, function)))

    return mark


def public(target: T) -> T:
    """Let everybody call a method, regardless of its interface's rule; or an interface, on a server
    that denies methods without a rule."""
    found = _own_rule(target)
    if found.checkers is not None or found.judges:
        raise TypeError(f"{target!r} has a rule, so it is not public")
    return _set_rule(target, Rule(public=True))


def _own_rule(target: Any) -> Rule:
    """A function's or a class's own rule."""
    if not callable(target):
        raise TypeError(f"a rule is for a method or for a class with an interface, not {target!r}")
    names = vars(target) if isinstance(target, type) else getattr(target, "__dict__", {})
    found: Rule | None = names.get(RULE)
    if found is None and isinstance(target, type):
        # @interface has made a subclass of a class that isn't a Service: it is the same class.
        for base in target.__bases__:
            if (base.__module__, base.__qualname__) == (target.__module__, target.__qualname__):
                found = vars(base).get(RULE)
    return found or Rule()


def _set_rule(target: T, made: Rule) -> T:
    setattr(target, RULE, made)
    if isinstance(target, FunctionType):
        _marked.add(target)
    return target
