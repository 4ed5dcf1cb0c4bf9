"""Who may subscribe to which subjects, and who may publish them: beyond the access rules.

An access rule says who may call ``subscribe`` or ``publish`` at all. A grant says for which
subjects.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

import attrs

from pycomnet.ext.pubsub.subjects import ALL, check_patterns, covers, matches

if TYPE_CHECKING:
    from pycomnet.auth.principal import Principal


@attrs.frozen
class Grant:
    """Lets users have subjects.

    :ivar patterns: of these subjects.
    :ivar roles: users with any of these roles, and
    :ivar users: ... of these names. If both are empty, everybody, with or without a login.
    """

    patterns: tuple[str, ...]
    roles: frozenset[str] = frozenset()
    users: frozenset[str] = frozenset()

    def holds_for(self, user: Principal | None) -> bool:
        """Whether it is for a user; None is for nobody in particular."""
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
    :raises InvalidSubject: a pattern is none.
    """
    return Grant(
        check_patterns(list(patterns) or None), _names("roles", roles), _names("users", users)
    )


def _names(what: str, value: str | Collection[str]) -> frozenset[str]:
    found = frozenset([value] if isinstance(value, str) else value)
    if not all(isinstance(one, str) and one for one in found):
        raise TypeError(f"{what}: expected names, not {value!r}")
    return found


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
    """Whether everybody may have everything."""
    return any(ALL in one.patterns and not (one.roles or one.users) for one in given)


def missing(given: Iterable[Grant], user: Principal | None, patterns: Iterable[str]) -> str | None:
    """The first of the patterns that a user may not have as a whole; None if there is none."""
    have = [pattern for one in given if one.holds_for(user) for pattern in one.patterns]
    for wanted in patterns:
        if not any(covers(pattern, wanted) for pattern in have):
            return wanted
    return None


def may_have(given: Iterable[Grant], user: Principal | None, subject: str) -> bool:
    """Whether a user may have a subject."""
    return any(
        matches(pattern, subject)
        for one in given
        if one.holds_for(user)
        for pattern in one.patterns
    )


__all__ = ["Grant", "allow", "grants", "is_open", "may_have", "missing"]
