"""Access to a nameserver: which users may register which names, list and watch."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import attrs

from pycomnet.auth.principal import Principal
from pycomnet.errors import AccessConfigError, Forbidden, Unauthenticated
from pycomnet.ext.access.checkers import flatten
from pycomnet.ext.access.control import AccessControl
from pycomnet.ext.access.jwt import Jwt
from pycomnet.ext.access.passwords import PasswordFile
from pycomnet.ext.access.rules import Rule
from pycomnet.ext.access.tokenfile import TokenFile
from pycomnet.ext.access.transportidentities import Certificates, PeerUsers
from pycomnet.services.client.context import NAMESERVER
from pycomnet.text.logs import Logger
from pycomnet.text.settingsfile import UnreadableSettings, read_settings
from pycomnet.text.similar import suggestion_or_all

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from pycomnet.services.server.request import Request

log = Logger()

#: The tables of the file that are about one method, and that method.
METHODS = {
    "list": "list_services",
    "locate": "locate",
    "watch": "watch",
    "stat": "stat",
    "cluster": "cluster",
    "remove": "remove",
    "override": "override",
}
#: ... and those that show the same data as ``list``: without a table of their own, they have its
#: rule.
LISTS = ("watch", "stat", "cluster")
#: The keys that name checkers, and all keys of the file.
CHECKERS = ("password_file", "groups", "token_file", "jwt", "certificates", "peers")
KEYS = (*CHECKERS, "register", *METHODS)
MAX_FILE = 1 << 20


@attrs.frozen
class NameGrant:
    """A grant: some users may register some names with some interfaces.

    Clients usually locate services by interface, and rarely by name. So a grant of names alone
    would allow its users to offer any interface.

    :ivar names: patterns, with a shell's wildcards.
    :ivar interfaces: likewise; all interfaces of a registration have to match.
    :ivar roles: one of these roles, or
    :ivar allow: one of these names is needed; any user may if both are empty.
    """

    names: tuple[str, ...]
    interfaces: tuple[str, ...]
    roles: frozenset[str] = frozenset()
    allow: frozenset[str] = frozenset()

    def covers(self, service: str, interfaces: Collection[str]) -> bool:
        """Whether the grant is for a name with these interfaces."""
        return _one_fits(service, self.names) and all(
            _one_fits(one, self.interfaces) for one in interfaces
        )

    def fits(self, user: Principal, service: str, interfaces: Collection[str]) -> bool:
        """Whether this grant permits a user to register a name with these interfaces."""
        if not self.covers(service, interfaces):
            return False
        open_to_all = not (self.roles or self.allow)
        return open_to_all or bool(user.roles & self.roles) or user.name in self.allow


def _one_fits(name: str, patterns: Collection[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


class NameAccess:
    """The access to a nameserver.

    :param checkers: the checkers of its clients.
    :param register: the grants; None: everybody may register anything.
    :param rules: table of the file (``list``, ``watch`` ...) -> the rule of that method.
    """

    def __init__(
        self,
        checkers: Collection[Any],
        register: Collection[NameGrant] | None = None,
        rules: Mapping[str, Rule] | None = None,
    ) -> None:
        self.checkers = flatten(*checkers)
        self.register = None if register is None else tuple(register)
        self.rules = {(NAMESERVER, METHODS[name]): rule for name, rule in (rules or {}).items()}
        if self.register is not None:
            for method in ("register", "renew", "adjust"):
                self.rules[NAMESERVER, method] = Rule(self.checkers)

    def control(self, reactor: IReactorTime, **options: Any) -> AccessControl:
        """The nameserver's access control."""
        return AccessControl(reactor, rules=self.rules, **options)

    def may_register(self, request: Request, service: str, interfaces: Collection[str]) -> None:
        """Check that a client may register a name with these interfaces, or keep the registration.

        :raises Forbidden: the client may not.
        """
        if self.register is None:
            return
        user = request.user
        if user is None:
            raise Unauthenticated("to register, a service needs credentials", "missing")
        if any(one.fits(user, service, interfaces) for one in self.register):
            return
        roles: set[str] = set()
        for one in self.register:
            if one.covers(service, interfaces):
                roles |= one.roles
        role = " or ".join(sorted(roles))
        text = f"{user.name} may not register {service!r} with {', '.join(interfaces)}"
        if role:
            text += f": that needs the role {role}"
        raise Forbidden(text, NAMESERVER, request.method, role)


def read_access(path: str | os.PathLike[str]) -> NameAccess:
    """Read the access to a nameserver from a TOML file.

    .. code-block:: toml

        password_file = "/etc/pycomnet/passwd"
        groups = "/etc/pycomnet/groups"
        peers = true

        [[register]]
        names = ["/shop/*"]
        interfaces = ["org.example.shop.*"]
        roles = ["shop"]

        [watch]
        allow = ["monitor"]

    :raises AccessConfigError: it says which key is wrong.
    """
    try:
        settings = read_settings(path, MAX_FILE).settings
    except UnreadableSettings as problem:
        raise AccessConfigError(str(problem)) from problem
    return make_access(settings, os.fspath(path))


def make_access(settings: Mapping[str, Any], where: str) -> NameAccess:
    """Check the settings of a nameserver's access.

    :param where: the source of the settings, for errors.
    :raises AccessConfigError: it says which key is wrong.
    """
    _check_keys(settings, KEYS, where)
    checkers = _checkers(settings, where)
    if not checkers:
        raise AccessConfigError(f"{where}: it names no checker: some of {', '.join(CHECKERS)}")
    register = None
    if "register" in settings:
        tables = settings["register"]
        if not isinstance(tables, list):
            raise AccessConfigError(f"{where}: register: expected tables, [[register]]")
        register = [_grant(one, f"{where}, register {n}") for n, one in enumerate(tables, 1)]
    rules = {}
    for name in METHODS:
        if name in settings:
            roles, allow = _who(settings[name], (), f"{where}, {name}")
            rules[name] = Rule(checkers, roles, allow)
    for name in LISTS:
        if "list" in rules:  # a watcher gets the same, and the numbers are of the same
            rules.setdefault(name, rules["list"])
    if "remove" in rules:  # who may end a registration may drain it
        rules.setdefault("override", rules["remove"])
    if register is None:
        log.warn(
            "{where}: it has no [[register]], so everybody who can connect may register any name",
            where=where,
        )
    return NameAccess(checkers, register, rules)


def _checkers(settings: Mapping[str, Any], where: str) -> tuple[Any, ...]:
    groups = settings.get("groups")
    makers: dict[str, Callable[[Any], Any]] = {
        "password_file": lambda value: PasswordFile(value, groups=groups),
        "token_file": TokenFile,
        "jwt": lambda value: Jwt(**value),
        "certificates": lambda value: Certificates(_users(value), groups=groups),
        "peers": lambda value: PeerUsers(_users(value), groups=groups),
    }
    found = []
    for name, make in makers.items():
        if settings.get(name, False) is not False:
            try:
                found.append(make(settings[name]))
            except (TypeError, ValueError) as problem:
                if isinstance(problem, AccessConfigError):
                    raise
                raise AccessConfigError(f"{where}: {name}: {problem}") from None
    return tuple(found)


def _users(value: Any) -> str | None:
    if value is True:
        return None
    if not isinstance(value, str):
        raise TypeError("expected a file of users, or true")
    return value


def _grant(table: Any, where: str) -> NameGrant:
    roles, allow = _who(table, ("names", "interfaces"), where)
    names = _patterns(table, "names", "/shop/*", where)
    interfaces = _patterns(table, "interfaces", "org.example.shop.*", where)
    return NameGrant(names, interfaces, roles, allow)


def _patterns(table: Mapping[str, Any], key: str, example: str, where: str) -> tuple[str, ...]:
    found = _texts(table, key, where)
    if not found:
        raise AccessConfigError(
            f"{where}: it needs {key}: patterns such as {example!r}, or '*' for all"
        )
    return tuple(found)


def _who(table: Any, more: tuple[str, ...], where: str) -> tuple[frozenset[str], frozenset[str]]:
    if not isinstance(table, dict):
        raise AccessConfigError(f"{where}: expected a table")
    _check_keys(table, ("roles", "allow", *more), where)
    return frozenset(_texts(table, "roles", where)), frozenset(_texts(table, "allow", where))


def _texts(table: Mapping[str, Any], key: str, where: str) -> list[str]:
    value = table.get(key, [])
    value = [value] if isinstance(value, str) else value
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
        raise AccessConfigError(f"{where}: {key}: expected a list of strings, got {value!r}")
    return value


def _check_keys(table: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    unknown = sorted(set(table) - set(known))
    if unknown:
        hint = suggestion_or_all(unknown[0], known)
        raise AccessConfigError(f"{where}: no key {unknown[0]!r}{hint}")
