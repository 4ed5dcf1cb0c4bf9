"""The tokens file of the mediator, which has the limits of its users, too."""

from __future__ import annotations

import os

from pycomnet.auth.reloadedtokens import ReloadedTokens
from pycomnet.auth.tokens import TokenChecker
from pycomnet.mediator.server.model import READERS, UserLimits


class UserTokens(ReloadedTokens):
    """The tokens and limits of users.

    :param limits: the limits that a section may change.
    :ivar users: the limits by name, as they were read last.
    """

    def __init__(self, path: str | os.PathLike[str], limits: UserLimits) -> None:
        super().__init__(path, tuple(READERS))
        self.users: dict[str, UserLimits] = {}
        self._limits = limits

    def read(self) -> TokenChecker:
        checker = super().read()
        found = {
            name: self._limits.changed(token.options, f"tokens file {self.path}, [{name}]")
            for name, token in checker.tokens.items()
        }
        if found:  # a file without users may not count yet: those of before keep their limits
            self.users.clear()
            self.users.update(found)
        return checker
