"""Files and directories of a daemon's own: made for its user alone, and looked at before use.

Whatever the umask is, a directory is made with mode 0700 and a file with 0600; no symbolic link is
followed at its end, and what another user has made or can change is refused, in words that say what
to do about it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from pycomnet.errors import PycomnetError

#: What others may not do with a file that has secrets, and with one that only has to be true.
SECRET, PLAIN = 0o077, 0o022


class NotPrivate(PycomnetError):
    """A file or a directory is not this user's alone; the message says what to do."""


def make_directory(path: str | os.PathLike[str]) -> None:
    """Make a directory for this user alone, and those above it that aren't there.

    :raises OSError: it can't be made.
    """
    missing = []
    directory = Path(path)
    while not os.path.lexists(directory):
        missing.append(directory)
        directory = directory.parent
    for each in reversed(missing):
        with contextlib.suppress(FileExistsError):  # somebody else was quicker: check_directory
            os.mkdir(each, 0o700)
            os.chmod(each, 0o700)  # whatever the umask took away


def check_directory(path: str | os.PathLike[str]) -> None:
    """See that nobody else can put files of theirs in the place of those in a directory.

    :raises NotPrivate: they can.
    :raises OSError: it isn't there.
    """
    directory = Path(path)
    mine = (os.geteuid(), 0)
    if directory.lstat().st_uid not in mine:  # also of a link, which could lead elsewhere later
        raise NotPrivate(f"{directory}: it belongs to another user: use one of your own")
    info = directory.stat()
    if info.st_uid not in mine:
        raise NotPrivate(f"{directory}: it belongs to another user (uid {info.st_uid})")
    if info.st_mode & 0o022 and not info.st_mode & stat.S_ISVTX:
        raise NotPrivate(
            f"{directory}: others than this user can write there (mode "
            f"{stat.S_IMODE(info.st_mode):04o}): chmod go-w {directory}"
        )


def check_file(info: os.stat_result, path: str | os.PathLike[str], forbidden: int = SECRET) -> None:
    """See that a file is this user's, and not for others.

    :param info: what the system says of it.
    :param forbidden: what others may not do with it: :data:`SECRET` or :data:`PLAIN`.
    :raises NotPrivate: it is not.
    """
    if not stat.S_ISREG(info.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(info.st_mode) else "no regular file"
        raise NotPrivate(f"{path}: it is {kind}: remove it, or use another path")
    if info.st_uid not in (os.geteuid(), 0):
        raise NotPrivate(f"{path}: it belongs to another user (uid {info.st_uid})")
    if info.st_mode & forbidden:
        can, mode = ("read or change", "600") if forbidden == SECRET else ("change", "go-w")
        raise NotPrivate(
            f"{path}: others can {can} it (mode {stat.S_IMODE(info.st_mode):04o}): "
            f"chmod {mode} {path}"
        )


def open_file(path: str | os.PathLike[str], flags: int, forbidden: int = SECRET) -> int:
    """Open a file of this user's, or make it with mode 0600.

    :param flags: of :func:`os.open`, with or without ``O_CREAT``.
    :returns: the descriptor.
    :raises NotPrivate: it is another's, or for others, too.
    :raises OSError: it can't be opened.
    """
    flags |= os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe has nobody wait for its reader
    fd = -1
    if flags & os.O_CREAT:
        with contextlib.suppress(FileExistsError):
            fd = os.open(path, flags | os.O_EXCL, 0o600)
            os.fchmod(fd, 0o600)
        flags &= ~os.O_CREAT
    if fd < 0:
        try:
            fd = os.open(path, flags)
        except OSError as problem:
            if problem.errno != errno.ELOOP:
                raise
            raise NotPrivate(f"{path}: it is a symbolic link: give the file's own path") from None
    try:
        check_file(os.fstat(fd), path, forbidden)
    except BaseException:
        os.close(fd)
        raise
    return fd


@contextlib.contextmanager
def narrow_umask(mask: int = 0o177) -> Iterator[None]:
    """Have what is made meanwhile be for this user alone, until its mode is said."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


__all__ = [
    "PLAIN",
    "SECRET",
    "NotPrivate",
    "check_directory",
    "check_file",
    "make_directory",
    "narrow_umask",
    "open_file",
]
