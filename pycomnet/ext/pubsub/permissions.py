"""Which users may subscribe to which subjects, or publish them: in addition to the access rules.

An access rule decides about calls of ``subscribe`` or ``publish`` as a whole. A grant restricts the
subjects.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import attrs

from pycomnet.auth.principal import Principal, names_of
from pycomnet.ext.pubsub.subjects import ALL, check_patterns, covers, matches


@attrs.frozen
class Grant:
    """Grants subjects to users.

    :ivar patterns: patterns of the subjects.
    :ivar roles: for users with any of these roles, and
    :ivar users: ... for users with these names. If both are empty, for everybody, with or without a
        login.
    """

    patterns: tuple[str, ...]
    roles: frozenset[str] = frozenset()
    users: frozenset[str] = frozenset()

    def holds_for(self, user: Principal | None) -> bool:
        """Whether the grant is for a user; None is a client without a login."""
        if not (self.roles or self.users):
            return True
        return user is not None and bool(user.roles & self.roles or user.name in self.users)


def allow(
    *patterns: str, roles: str | Collection[str] = (), users: str | Collection[str] = ()
) -> Grant:
    """Make a grant, for ``may_subscribe`` and ``may_publish``.

    :param patterns: patterns of subjects; without any, all.
    :param roles: for users with any of these roles, and
    :param users: for the users of these names. Without both, for everybody.
    :raises InvalidSubject: a pattern is not valid.
    """
    return Grant(
        check_patterns(list(patterns) or None), names_of("roles", roles), names_of("users", users)
    )


def grants(what: str, value: Any) -> tuple[Grant, ...]:
    """Read grants: True for everybody, False for nobody, a grant, or several."""
    if value is True:
        return (Grant((ALL,)),)
    if value is False or value is None:
        return ()
    found = (value,) if isinstance(value, Grant) else tuple(value)
    if not all(isinstance(one, Grant) for one in found):
        raise TypeError(f"{what}: expected True, False, or what allow(...) gives, not {value!r}")
    return found


def is_open(given: Iterable[Grant]) -> bool:
    """Whether the grants allow all subjects to everybody."""
    return any(ALL in one.patterns and not (one.roles or one.users) for one in given)


def missing(given: Iterable[Grant], user: Principal | None, patterns: Iterable[str]) -> str | None:
    """The first of the patterns that is not granted to a user as a whole; None if there is none."""
    have = [pattern for one in given if one.holds_for(user) for pattern in one.patterns]
    for wanted in patterns:
        if not any(covers(pattern, wanted) for pattern in have):
            return wanted
    return None


def may_have(given: Iterable[Grant], user: Principal | None, subject: str) -> bool:
    """Whether a grant allows a subject to a user."""
    return any(
        matches(pattern, subject)
        for one in given
        if one.holds_for(user)
        for pattern in one.patterns
    )
