"""Reads files of passwords: htpasswd, passwd(5) with shadow(5), and files of groups."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

import attrs

from pycomnet.errors import AccessConfigError
from pycomnet.ext.access.hashes import check_usable, scheme_of
from pycomnet.net import private

#: The most bytes of such a file.
MAX_FILE = 1 << 24
#: The fields of a line of each format.
HTPASSWD, PASSWD, SHADOW = 2, 7, 9
#: The password field of passwd(5) that refers to shadow(5).
SHADOWED = "x"
#: Seconds of a day: shadow(5) counts in days.
DAY = 86_400


@attrs.frozen
class PasswordEntry:
    """A user of a password file.

    :ivar hashed: the hash; empty for a user who can't log in.
    :ivar line: the line's number.
    :ivar ends: the time of day at which the account ends, or None.
    """

    hashed: str = attrs.field(repr=False)
    line: int
    ends: float | None = None


@attrs.frozen
class PasswordEntries:
    """The contents of a password file.

    :ivar users: name -> entry.
    :ivar weak: how many of the hashes are weak.
    :ivar unusable: how many hashes can't be verified here, and the reason for the last of them.
    :ivar files: the files that were read.
    """

    users: Mapping[str, PasswordEntry]
    weak: int
    unusable: int
    why: str
    files: tuple[str, ...]


def read_lines(path: str) -> Iterator[tuple[int, str]]:
    """The lines of a file that only its owner can change, each with its number; no comments.

    :raises AccessConfigError: it can't be read, or others can change it.
    """
    try:
        # A user who can write to its directory can replace the file, for example by an old one.
        private.check_directory(os.path.dirname(os.path.realpath(path)))
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe does not wait
        with os.fdopen(fd, "rb") as file:
            private.check_file(os.fstat(fd), path, private.PLAIN)
            data = file.read(MAX_FILE + 1)
    except private.NotPrivate as problem:
        raise AccessConfigError(str(problem)) from None
    except OSError as problem:
        raise AccessConfigError(f"{path}: can't read it: {problem.strerror}") from problem
    if len(data) > MAX_FILE:
        raise AccessConfigError(f"{path}: it is longer than {MAX_FILE} bytes")
    for number, raw in enumerate(data.split(b"\n"), 1):
        try:
            line = raw.decode().rstrip("\r")
        except UnicodeDecodeError:
            raise AccessConfigError(f"{path}, line {number}: it isn't UTF-8") from None
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line


def read_passwords(path: str) -> PasswordEntries:
    """Read a password file.

    :param path: an htpasswd file (``user:hash``), or one in the format of passwd(5) or shadow(5).
        In passwd(5), ``x`` refers to the hash in the file ``shadow`` of the same directory.
    :raises AccessConfigError: it says which line is wrong.
    """
    users: dict[str, PasswordEntry] = {}
    hidden: dict[str, list[str]] | None = None
    shadow = os.path.join(os.path.dirname(path) or ".", "shadow")
    weak = unusable = 0
    why = ""
    files = [path]
    for number, line in read_lines(path):
        where = f"{path}, line {number}"
        fields = line.split(":")
        if len(fields) not in (HTPASSWD, PASSWD, SHADOW) or not fields[0]:
            raise AccessConfigError(
                f"{where}: expected user:hash, or the seven fields of passwd(5); got "
                f"{len(fields)} fields"
            )
        in_shadow = len(fields) == SHADOW
        name, hashed = fields[:2]
        hashed = hashed.strip()
        if name in users:
            raise AccessConfigError(f"{where}: there is a line {users[name].line} of {name} before")
        if len(fields) == PASSWD and hashed == SHADOWED:
            if hidden is None:
                hidden = _read_shadow(path, shadow)
                files.append(shadow)
            fields = hidden.get(name, [name, "!"])
            hashed = fields[1]
            in_shadow = True
        is_htpasswd = len(fields) == HTPASSWD and not in_shadow
        if not is_htpasswd and (not hashed or hashed[0] in "!*"):
            hashed = ""  # locked, or nothing is asked: nobody logs in so here
        if hashed:
            scheme = scheme_of(hashed)
            try:
                if scheme is None:
                    raise AccessConfigError(
                        "expected a hash of bcrypt, argon2, sha-crypt, yescrypt or apr1"
                    )
                check_usable(scheme)
                weak += scheme.weak
            except AccessConfigError as problem:
                if is_htpasswd:
                    raise AccessConfigError(f"{where}: {problem}") from None
                unusable, why, hashed = unusable + 1, str(problem), ""
        elif is_htpasswd:
            raise AccessConfigError(f"{where}: {name} has no password")
        ends = _end_of(fields) if in_shadow else None
        users[name] = PasswordEntry(hashed, number, ends)
    return PasswordEntries(users, weak, unusable, why, tuple(files))


def _read_shadow(path: str, shadow: str) -> dict[str, list[str]]:
    """The lines of shadow(5): name -> fields."""
    try:
        lines = list(read_lines(shadow))
    except AccessConfigError as problem:
        raise AccessConfigError(
            f"{path}: it has 'x' for passwords, which are in {shadow}, and this process can't use "
            f"that ({problem}). Run it as root or in the group shadow, or make a file of its own: "
            "pycomnet passwd FILE USER"
        ) from None
    found = {}
    for number, line in lines:
        fields = line.split(":")
        if len(fields) != SHADOW:
            raise AccessConfigError(f"{shadow}, line {number}: expected the nine fields of shadow")
        found[fields[0]] = fields
    return found


def _end_of(fields: list[str]) -> float | None:
    """The time at which an account of shadow(5) ends: on its day, or when its password has been too
    old for too long. An account whose password has to be changed at once has ended.
    """
    days = [int(field) if field.isascii() and field.isdecimal() else None for field in fields[2:]]
    if len(days) < SHADOW - 2:
        return None
    changed, _, most, _, inactive, ends = days[:6]
    if changed == 0:
        return 0.0
    found = [] if ends is None else [ends]
    if changed is not None and most is not None and inactive is not None:
        found.append(changed + most + inactive)
    return float(min(found) * DAY) if found else None


def read_groups(path: str) -> dict[str, frozenset[str]]:
    """Read a file of groups: ``group: user user``, or in the format of group(5).

    :returns: user -> groups.
    :raises AccessConfigError: it says which line is wrong.
    """
    found: dict[str, set[str]] = {}
    for number, line in read_lines(path):
        fields = line.split(":")
        if len(fields) == 2:
            members = fields[1].split()
        elif len(fields) == 4:
            members = [one for one in fields[3].split(",") if one]
        else:
            members = []
            fields = [""]
        if not fields[0].strip():
            raise AccessConfigError(
                f"{path}, line {number}: expected 'group: user user', or the four fields of "
                "group(5)"
            )
        for member in members:
            found.setdefault(member, set()).add(fields[0].strip())
    return {name: frozenset(groups) for name, groups in found.items()}
