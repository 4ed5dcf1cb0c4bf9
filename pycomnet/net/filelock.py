"""Keeps a file for one process at a time, and within it for one user of the file."""

from __future__ import annotations

import os
import sys

from pycomnet.net import private

if sys.platform != "win32":  # there is none there, and SQLite has locks of its own
    import fcntl

#: The suffix of a lock file's name.
ENDING = ".lock"


class FileLocked(Exception):
    """Somebody else has the file."""


class FileLock:
    """The lock of a file, such as a database: that of another file beside it.

    A descriptor of the file itself would not do. When a process closes any descriptor of a file,
    POSIX releases all of the process's ``fcntl`` locks on it: SQLite's, too, also those of another
    connection (https://sqlite.org/howtocorrupt.html, 2.2).

    The file beside it stays: if it were removed, two could each lock one of that name.

    :param path: of the file that is kept. It need not exist.
    """

    def __init__(self, path: str) -> None:
        self.path = path + ENDING
        self._descriptor = -1

    def acquire(self, required: bool = True) -> None:
        """Lock it, or raise an error at once.

        :param required: whether a file system without such locks is an error.
        :raises FileLocked: another has it, in this process or another.
        :raises NotPrivate: the file beside it is another user's, or open to others.
        :raises OSError: it can't be locked.
        """
        self._descriptor = private.open_file(self.path, os.O_RDWR | os.O_CREAT)
        if sys.platform == "win32":
            return
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise FileLocked(self.path) from None
        except OSError:
            if required:
                self.release()
                raise

    def release(self) -> None:
        """Let others have it, also if a forked process has a copy of the descriptor."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            try:
                if sys.platform != "win32":
                    fcntl.flock(descriptor, fcntl.LOCK_UN)
            except OSError:
                pass  # a file system without such locks
            finally:
                os.close(descriptor)
