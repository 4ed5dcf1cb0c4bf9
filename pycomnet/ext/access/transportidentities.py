"""The checkers of identities that the transport proves: the name in a certificate, the user of a
process."""

from __future__ import annotations

import functools
import grp
import os
import pwd
from collections.abc import Iterable, Mapping
from typing import Any

import attrs
from twisted.cred.error import UnauthorizedLogin

from pycomnet.auth.principal import Principal
from pycomnet.errors import AccessConfigError
from pycomnet.ext.access.checkers import Login
from pycomnet.ext.access.messages import IClientCertificate, IPeerUser
from pycomnet.ext.access.passwordfile import read_groups, read_lines
from pycomnet.ext.access.reloading import FileChecker

#: Names and their users: a mapping, or a file with ``user: name name`` a line.
Users = Mapping[Any, str] | str | os.PathLike[str] | None
#: The users' roles: a mapping of users, or a file with ``role: user user`` a line.
Roles = Mapping[str, Iterable[str]] | str | os.PathLike[str] | None


@attrs.frozen
class _Names:
    """The contents of the files.

    :ivar users: name -> user; None if each name is its user's.
    :ivar roles: user -> roles; None if they are not configured.
    """

    users: Mapping[str, str] | None
    roles: Mapping[str, frozenset[str]] | None


class NamedUsers(FileChecker[_Names]):
    """The base of checkers that get a name from the transport.

    :param users: name -> user: a mapping, or a file; other names are refused. None: each name is
        its user's.
    :param groups: user -> roles: a mapping, or a file of groups as for :class:`PasswordFile`.
    :raises AccessConfigError: a mapping is not of that form.
    """

    def __init__(self, users: Users = None, *, groups: Roles = None) -> None:
        super().__init__()
        for name, user in users.items() if isinstance(users, Mapping) else ():
            if not isinstance(user, str) or not user:
                raise AccessConfigError(
                    f"users={{{name!r}: {user!r}}}: expected a name and its user, "
                    "such as {'build.example.org': 'build'}"
                )
        if isinstance(groups, Mapping):
            groups = {user: _roles_of(user, roles) for user, roles in groups.items()}
        self._users = users
        self._groups = groups
        self._files = tuple(
            os.path.abspath(os.path.expanduser(one))
            for one in (users, groups)
            if isinstance(one, (str, os.PathLike))
        )

    @property
    def changes(self) -> bool:  # type: ignore[override]
        """Whether the checker has files."""
        return bool(self._files)

    def files(self) -> tuple[str, ...]:
        return self._files

    def read(self) -> _Names:
        files = iter(self._files)
        users: Mapping[str, str] | None = None
        if isinstance(self._users, (str, os.PathLike)):
            users = {self._key(name): user for name, user in _read_users(next(files)).items()}
        elif self._users is not None:
            users = {self._key(name): user for name, user in self._users.items()}
        roles: Mapping[str, frozenset[str]] | None = None
        if isinstance(self._groups, (str, os.PathLike)):
            roles = read_groups(next(files))
        elif self._groups is not None:
            roles = {user: frozenset(found) for user, found in self._groups.items()}
        return _Names(users, roles)

    def _key(self, name: Any) -> str:
        """The key of a name in the mapping."""
        return str(name)

    def _user(self, names: tuple[str, ...], known: _Names) -> Principal:
        """The user of the first known name.

        :raises UnauthorizedLogin: no name is known.
        """
        for name in names:
            user = name if known.users is None else known.users.get(name)
            if user:
                roles = self._own_roles(names) if known.roles is None else known.roles.get(user)
                return Principal(user, roles or frozenset(), self._how())
        raise UnauthorizedLogin("nobody here has this name")

    def _how(self) -> str:
        raise NotImplementedError

    def _own_roles(self, names: tuple[str, ...]) -> frozenset[str]:
        """The roles of a user without configured roles."""
        return frozenset()

    def holds(self, login: Login) -> bool:
        known = self.latest()
        try:
            return known is None or self._user(login.stamp, known) == login.user
        except UnauthorizedLogin:
            return False


def _roles_of(user: str, roles: Iterable[str]) -> frozenset[str]:
    """A user's roles, of a mapping.

    :raises AccessConfigError: they are none.
    """
    found = None if isinstance(roles, str) or not isinstance(roles, Iterable) else list(roles)
    if found is None or not all(isinstance(one, str) for one in found):
        raise AccessConfigError(
            f"groups={{{user!r}: {roles!r}}}: expected a user and a list of roles, "
            "such as {'bob': ['clerk']}"
        )
    return frozenset(found)


def _read_users(path: str) -> dict[str, str]:
    """Read a file with ``user: name name`` a line; a name may have colons.

    :returns: name -> user.
    """
    found: dict[str, str] = {}
    for number, line in read_lines(path):
        user, colon, names = line.partition(":")
        user = user.strip()
        if not colon or not user:
            raise AccessConfigError(f"{path}, line {number}: expected 'user: name name'")
        for name in names.split():
            if found.setdefault(name, user) != user:
                raise AccessConfigError(
                    f"{path}, line {number}: {name} is of {found[name]}, too: it can be of one only"
                )
    return found


class Certificates(NamedUsers):
    """Users by their TLS certificates, which a listener with ``clientCAs=`` has verified.

    The names of a certificate are its subject's common name and its alternative names.

    :param users: name -> user; by default the common name, or else the first alternative name, is
        the user's name.
    :param groups: the users' roles.
    """

    credentialInterfaces = (IClientCertificate,)
    blocks = True

    def _how(self) -> str:
        return "certificate"

    def check(self, credentials: Any) -> Login:
        certificate = credentials.certificate
        names = names_of(certificate)
        known = self.current()
        if known.users is None:
            names = names[:1]
        ends = certificate.not_valid_after_utc.timestamp()
        return Login(self._user(names, known), names, ends)


def names_of(certificate: Any) -> tuple[str, ...]:
    """The names in a certificate: its common name first, then its alternative names."""
    from cryptography import x509

    found = [
        str(attribute.value)
        for attribute in certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    ]
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return tuple(found)
    return tuple(dict.fromkeys([*found, *(str(name.value) for name in names)]))


class PeerUsers(NamedUsers):
    """The users of this machine: the system reports the user of the process at the other end of a
    unix socket.

    The system reports who has made the connection. Behind a program that forwards connections
    (``ssh -L``, socat, a proxy), everybody has that program's user. Such programs often run as
    root, so root is a user only if ``users`` has it. A user that this machine does not know, for
    example one of another container, is refused.

    :param users: a user's name on this machine, or number (an int; in a file, digits) -> user; by
        default all users of the machine but root, by their own names.
    :param groups: the users' roles; by default the groups that the user has on this machine, at the
        time of the login.
    """

    credentialInterfaces = (IPeerUser,)

    def _how(self) -> str:
        return "peer"

    def check(self, credentials: Any) -> Login:
        uid = credentials.uid
        known = self.current()
        if uid == overflow_uid() or (uid == 0 and known.users is None):
            raise UnauthorizedLogin("it may be anybody")
        try:
            names: tuple[str, ...] = (pwd.getpwuid(uid).pw_name, _number(uid))
        except KeyError:  # a user of a container, say
            names = (_number(uid),)
        if known.users is None and len(names) == 1:
            raise UnauthorizedLogin("it has no name here")
        return Login(self._user(names, known), names)

    def _key(self, name: Any) -> str:
        return _number(name) if isinstance(name, int) or name.isdecimal() else str(name)

    def _own_roles(self, names: tuple[str, ...]) -> frozenset[str]:
        try:
            entry = pwd.getpwnam(names[0])
            numbers = os.getgrouplist(entry.pw_name, entry.pw_gid)
        except (KeyError, OSError):
            return frozenset()
        found = set()
        for number in numbers:
            try:
                found.add(grp.getgrgid(number).gr_name)
            except KeyError:
                continue
        return frozenset(found)


def _number(uid: int | str) -> str:
    """Represents a user's number, and can't be a name: ``1000`` could be one."""
    return f":{int(uid)}"


@functools.cache
def overflow_uid() -> int:
    """The number by which the system represents users that it does not know here."""
    try:
        with open("/proc/sys/kernel/overflowuid") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 65534
