"""Changes files of passwords: one line at a time, and the whole file at once."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from typing import TypeVar

from pycomnet.errors import AccessConfigError
from pycomnet.ext.access.hashes import make_hash, verify
from pycomnet.ext.access.passwordfile import HTPASSWD, read_passwords
from pycomnet.net import private

T = TypeVar("T")


def check_name(name: str) -> str:
    """Check that a user's name can be in a password file, and return it.

    :raises AccessConfigError: it can't.
    """
    if not name or not name.isprintable() or ":" in name or name != name.strip() or name[0] == "#":
        raise AccessConfigError(
            f"{name!r}: a user's name has printable characters, no ':', no space at its ends, and "
            "no '#' at its beginning"
        )
    return name


def set_password(path: str, name: str, password: str, scheme: str = "bcrypt") -> bool:
    """Set a user's password: in the user's line, or in a new line at the end.

    :param path: an htpasswd file, which is created with mode 0600 if there is none.
    :param scheme: ``bcrypt`` or ``argon2``.
    :returns: whether the user is new.
    :raises AccessConfigError: the file or the password is not valid.
    """
    line = f"{check_name(name)}:{make_hash(password, scheme)}".encode()
    with _editing(path) as lines:
        at = _find(lines, name)
        if at is None:
            lines.append(line)
        else:
            lines[at] = line
    return at is None


def delete_user(path: str, name: str) -> None:
    """Remove a user's line.

    :raises AccessConfigError: there is no such user, or the file is not valid.
    """
    with _editing(path, create=False) as lines:
        at = _find(lines, name)
        if at is None:
            raise AccessConfigError(f"{path}: there is no user {name!r}")
        del lines[at]


def verify_password(path: str, name: str, password: str) -> bool:
    """Whether a user has a password.

    :raises AccessConfigError: there is no such user, or the file is not valid.
    """
    entry = read_passwords(path).users.get(name)
    if entry is None:
        raise AccessConfigError(f"{path}: there is no user {name!r}")
    return bool(entry.hashed) and verify(password.encode(), entry.hashed)


def _find(lines: list[bytes], name: str) -> int | None:
    start = f"{name}:".encode()
    return next((at for at, line in enumerate(lines) if line.startswith(start)), None)


@contextlib.contextmanager
def _editing(path: str, create: bool = True) -> Iterator[list[bytes]]:
    """In a ``with`` block: the lines of a file, which is then replaced by these lines.

    Only a newline ends a line, as for the server: the text after a carriage return in a comment,
    for example, is not a line.

    Simultaneous editors wait for each other, and a reader gets the content of one of them.
    """
    path = os.path.realpath(os.path.expanduser(path))
    directory = os.path.dirname(path)
    try:
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as problem:
        raise AccessConfigError(f"{directory}: {problem.strerror}") from problem
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before: os.stat_result | None = None
        lines: list[bytes] = []
        if os.path.lexists(path) or not create:
            read_passwords(path)  # says what is wrong with it
            with open(path, "rb") as file:
                before = os.fstat(file.fileno())
                lines = file.read().split(b"\n")
            if not lines[-1]:
                del lines[-1]
            for number, line in enumerate(lines, 1):
                fields = line.count(b":") + 1
                if line.strip() and not line.lstrip().startswith(b"#") and fields != HTPASSWD:
                    raise AccessConfigError(
                        f"{path}, line {number}: this is a file of the system's users: change it "
                        "with passwd(1)"
                    )
        yield lines
        _replace(path, b"".join(line + b"\n" for line in lines), before)
    except OSError as problem:
        raise AccessConfigError(f"{path}: {problem.strerror}") from problem
    finally:
        os.close(lock)


def _replace(path: str, data: bytes, before: os.stat_result | None) -> None:
    """Replace a file by another one, which gets the owner and group of the first.

    So its owner and its group can still read it: a server may run as a member of the group.
    """
    temporary = os.path.join(
        os.path.dirname(path), f".{os.path.basename(path)}.{secrets.token_hex(8)}"
    )
    fd = private.open_file(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        with os.fdopen(fd, "wb") as file:
            if before is not None:
                owner = before.st_uid, before.st_gid
                if owner != (os.geteuid(), os.getegid()):
                    os.fchown(fd, *owner)
                os.fchmod(fd, 0o600 | before.st_mode & stat.S_IRGRP)
            file.write(data)
            file.flush()
            os.fsync(fd)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
