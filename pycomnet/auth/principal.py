"""Who a caller is: a user, with the roles that they have."""

from __future__ import annotations

from collections.abc import Collection

import attrs


@attrs.frozen
class Principal:
    """A user, as credentials or a certificate proved them.

    :ivar name: the user's name.
    :ivar roles: the user's roles, from the same source as the credentials.
    :ivar how: what proved it: ``password``, ``token``, ``jwt``, ``certificate`` or ``peer``.
    """

    name: str
    roles: frozenset[str] = frozenset()
    how: str = ""

    def __str__(self) -> str:
        return self.name


def names_of(what: str, value: str | Collection[str]) -> frozenset[str]:
    """Read the names of users or roles; a str is one name.

    :param what: the argument that has them, for the error.
    :raises TypeError: they are something else.
    """
    found = frozenset([value] if isinstance(value, str) else value)
    if not all(isinstance(one, str) and one for one in found):
        raise TypeError(f"{what}: expected names, not {value!r}")
    return found
