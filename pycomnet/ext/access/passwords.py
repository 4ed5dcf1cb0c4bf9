"""The checker of files of passwords."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Mapping
from typing import Any

import attrs
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import UnauthorizedLogin

from pycomnet.auth.principal import Principal
from pycomnet.ext.access.checkers import Login
from pycomnet.ext.access.hashes import verify
from pycomnet.ext.access.passwordfile import (
    PasswordEntries,
    PasswordEntry,
    read_groups,
    read_passwords,
)
from pycomnet.ext.access.reloading import FileChecker
from pycomnet.text.logs import Logger

log = Logger()


@attrs.frozen
class _Users:
    """The contents of the files.

    :ivar hashes: the hashes of all users who can log in.
    """

    entries: PasswordEntries
    groups: Mapping[str, frozenset[str]]
    hashes: tuple[str, ...] = attrs.field(repr=False)

    def stamp(self, name: str) -> Any:
        entry = self.entries.users.get(name)
        if entry is None:
            return None
        return entry.hashed, entry.ends, self.groups.get(name, frozenset())


class PasswordFile(FileChecker[_Users]):
    """Users with passwords, in an htpasswd file or one of the form of passwd(5).

    An htpasswd file has a line ``user:hash`` for each user, with hashes of bcrypt, argon2 or
    sha-crypt, or yescrypt where the system's libcrypt has it. Hashes of apr1 and md5-crypt are
    accepted with a warning in the log. In a file in the format of passwd(5), ``x`` refers to the
    hash in the file ``shadow`` beside it. The file is read again when it changes.

    :param path: the file. Only its owner (this user or root) may be able to change it.
    :param groups: a file whose groups are the users' roles: lines ``group: user user``, or the
        format of group(5).
    """

    credentialInterfaces = (IUsernamePassword,)

    def __init__(
        self, path: str | os.PathLike[str], *, groups: str | os.PathLike[str] | None = None
    ) -> None:
        super().__init__()
        self.path = os.path.abspath(os.path.expanduser(path))
        self.groups = None if groups is None else os.path.abspath(os.path.expanduser(groups))
        self._secret = secrets.token_bytes(16)

    def __repr__(self) -> str:
        return f"PasswordFile({self.path!r})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[str, str | None]:
        return self.path, self.groups

    def files(self) -> tuple[str, ...]:
        read = self.latest()
        files = (self.path,) if read is None else read.entries.files
        return files if self.groups is None else (*files, self.groups)

    def read(self) -> _Users:
        entries = read_passwords(self.path)
        groups = {} if self.groups is None else read_groups(self.groups)
        if entries.weak:
            log.warn(
                "{path}: {count} hashes are of apr1 or md5-crypt, which are fast to guess: make "
                "new ones with pycomnet passwd",
                path=self.path,
                count=entries.weak,
            )
        if entries.unusable:
            log.warn(
                "{path}: {count} users can't log in: {why}",
                path=self.path,
                count=entries.unusable,
                why=entries.why,
            )
        hashes = tuple(one.hashed for one in entries.users.values() if one.hashed)
        return _Users(entries, groups, hashes)

    def check(self, credentials: Any) -> Login:
        users = self.current()
        name = credentials.username.decode("utf-8", "replace")
        entry: PasswordEntry | None = users.entries.users.get(name)
        over = entry is not None and entry.ends is not None and entry.ends <= time.time()
        if entry is None or not entry.hashed or over:
            # Against user enumeration by timing: verify against some existing user's hash.
            if users.hashes:
                digest = hmac.digest(self._secret, name.encode(), hashlib.sha256)
                number = int.from_bytes(digest[:8], "big") % len(users.hashes)
                verify(credentials.password, users.hashes[number])
            raise UnauthorizedLogin("no such user, or a wrong password")
        if not verify(credentials.password, entry.hashed):
            raise UnauthorizedLogin("no such user, or a wrong password")
        roles = users.groups.get(name, frozenset())
        return Login(Principal(name, roles, "password"), users.stamp(name), entry.ends)

    def holds(self, login: Login) -> bool:
        users = self.latest()
        return users is None or users.stamp(login.user.name) == login.stamp
