"""Private files and directories of a daemon: created for its user alone, and checked before use.

Whatever the umask is, directories are created with mode 0700 and files with mode 0600. A path that
ends in a symbolic link is not followed. A file or directory that another user has made or can
change is refused, with an error that says what to do about it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from pycomnet.errors import PycomnetError

#: The mode bits that a file with secrets must not have; those that any file here must not have.
SECRET, PLAIN = 0o077, 0o022


class NotPrivate(PycomnetError):
    """A file or a directory is not private to this user; the message says what to do."""


def make_directory(path: str | os.PathLike[str]) -> None:
    """Create a directory for this user alone, and those above it if they don't exist.

    :raises OSError: it can't be created.
    """
    missing = []
    directory = Path(path)
    while not os.path.lexists(directory):
        missing.append(directory)
        directory = directory.parent
    for each in reversed(missing):
        with contextlib.suppress(FileExistsError):  # created meanwhile: see check_directory
            os.mkdir(each, 0o700)
            os.chmod(each, 0o700)  # whatever the umask took away


def check_directory(path: str | os.PathLike[str]) -> None:
    """Check that no other user can replace files in a directory.

    :raises NotPrivate: another user can.
    :raises OSError: it does not exist.
    """
    directory = Path(path)
    mine = (os.geteuid(), 0)
    if directory.lstat().st_uid not in mine:  # also of a link, which could lead elsewhere later
        raise NotPrivate(f"{directory}: belongs to another user: use a directory of your own")
    info = directory.stat()
    if info.st_uid not in mine:
        raise NotPrivate(f"{directory}: belongs to another user (uid {info.st_uid})")
    if info.st_mode & 0o022 and not info.st_mode & stat.S_ISVTX:
        raise NotPrivate(
            f"{directory}: writable by other users (mode "
            f"{stat.S_IMODE(info.st_mode):04o}): chmod go-w {directory}"
        )


def check_file(info: os.stat_result, path: str | os.PathLike[str], forbidden: int = SECRET) -> None:
    """Check that a file is this user's, and private.

    :param info: the result of ``stat`` for it.
    :param forbidden: the mode bits that it must not have: :data:`SECRET` or :data:`PLAIN`.
    :raises NotPrivate: it is another user's, or has such a mode bit.
    """
    if not stat.S_ISREG(info.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(info.st_mode) else "not a regular file"
        raise NotPrivate(f"{path}: {kind}: remove it, or use another path")
    if info.st_uid not in (os.geteuid(), 0):
        raise NotPrivate(f"{path}: belongs to another user (uid {info.st_uid})")
    if info.st_mode & forbidden:
        can, mode = ("accessible", "600") if forbidden == SECRET else ("writable", "go-w")
        raise NotPrivate(
            f"{path}: {can} by other users (mode {stat.S_IMODE(info.st_mode):04o}): "
            f"chmod {mode} {path}"
        )


def open_file(path: str | os.PathLike[str], flags: int, forbidden: int = SECRET) -> int:
    """Open a file of this user's, or create it with mode 0600.

    :param flags: of :func:`os.open`, with or without ``O_CREAT``.
    :returns: the descriptor.
    :raises NotPrivate: it is another user's, or open to others.
    :raises OSError: it can't be opened.
    """
    flags |= os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # opening a pipe does not wait
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
            raise NotPrivate(f"{path}: a symbolic link: give the file's own path") from None
    try:
        check_file(os.fstat(fd), path, forbidden)
    except BaseException:
        os.close(fd)
        raise
    return fd


def create_file(path: str | os.PathLike[str]) -> None:
    """Create an empty file of this user's, with mode 0600, or check an existing file.

    An existing file is not opened: closing it would release the locks of this program on it.

    :raises NotPrivate: it is another user's, or open to others.
    :raises OSError: it can't be created.
    """
    try:
        check_file(os.lstat(path), path)
    except FileNotFoundError:
        os.close(open_file(path, os.O_RDWR | os.O_CREAT))


@contextlib.contextmanager
def narrow_umask(mask: int = 0o177) -> Iterator[None]:
    """In a ``with`` block: create files for this user alone, until their mode is set."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)
