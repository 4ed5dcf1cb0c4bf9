"""The checker of files of tokens."""

from __future__ import annotations

import hmac
import os
from datetime import datetime, timezone
from typing import Any

import attrs
from twisted.cred.error import UnauthorizedLogin

from pycomnet.auth.principal import Principal
from pycomnet.auth.tokens import IBearerToken, KnownToken, digest, load_tokens
from pycomnet.errors import AccessConfigError
from pycomnet.ext.access.checkers import Login
from pycomnet.ext.access.reloading import FileChecker
from pycomnet.mediator.server.model import READERS

#: The settings of a section beside the token: here, and in the file of
#: ``twistd pycomnet-http-exec``. Its format is the same. Use other tokens there: a holder of one of
#: those can run code.
KEYS = ("roles", "expires")


@attrs.frozen
class _Holder:
    token: KnownToken
    user: Principal
    expires: float | None


class TokenFile(FileChecker[tuple[_Holder, ...]]):
    """Users with tokens: an INI file with a section for each, as that of the HTTP interface.

    .. code-block:: ini

        [build-server]
        sha256 = 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
        roles = deploy, read
        expires = 2027-01-01T00:00:00Z

    The file has mode 0600, and is read again when it changes, as are the files of ``token_file=``.
    A token whose section was removed is withdrawn; if no section is left, after half a minute.

    :param path: the file.
    """

    credentialInterfaces = (IBearerToken,)

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        self.path = os.path.abspath(os.path.expanduser(path))

    def __repr__(self) -> str:
        return f"TokenFile({self.path!r})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.path == self.path

    def __hash__(self) -> int:
        return hash(self.path)

    def files(self) -> tuple[str, ...]:
        own = (one.token.file for one in self.latest() or ())
        return (self.path, *(path for path in own if path is not None))

    def read(self) -> tuple[_Holder, ...]:
        known = load_tokens(self.path, (*KEYS, *READERS))
        return tuple(self._holder(one) for one in known)

    def is_empty(self, contents: tuple[_Holder, ...]) -> bool:
        return not contents

    def _holder(self, token: KnownToken) -> _Holder:
        roles = frozenset(token.options.get("roles", "").replace(",", " ").split())
        expires = None
        if "expires" in token.options:
            where = f"tokens file {self.path}, [{token.name}]"
            expires = parse_time(token.options["expires"], where)
        return _Holder(token, Principal(token.name, roles, "token"), expires)

    def check(self, credentials: Any) -> Login:
        hashed = digest(credentials.token)
        found: _Holder | None = None
        for one in self.current():  # all of them, so that the time tells nothing
            if hmac.compare_digest(hashed, one.token.digest):
                found = one
        if found is None:
            raise UnauthorizedLogin("no such token")
        if found.expires is not None and found.expires <= datetime.now(timezone.utc).timestamp():
            raise UnauthorizedLogin("the token has expired")
        return Login(found.user, found, found.expires)

    def holds(self, login: Login) -> bool:
        return login.stamp in (self.latest() or ())


def parse_time(text: str, where: str) -> float:
    """A time of day with its date, in ISO 8601; without a zone it is UTC.

    :param where: for the error.
    :raises AccessConfigError: it is not a valid time.
    """
    try:
        found = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError:
        raise AccessConfigError(
            f"{where}: expected a time such as 2027-01-01T00:00:00Z, not {text!r}"
        ) from None
    return (found if found.tzinfo else found.replace(tzinfo=timezone.utc)).timestamp()
