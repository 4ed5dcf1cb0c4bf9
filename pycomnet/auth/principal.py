"""Who a caller is: a user, with the roles that they have."""

from __future__ import annotations

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


__all__ = ["Principal"]
