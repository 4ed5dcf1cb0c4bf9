"""An SQLite file that only one service may use."""

from __future__ import annotations

import os

from pycomnet.errors import PycomnetError
from pycomnet.net import private
from pycomnet.net.filelock import FileLock, FileLocked

#: Ends of the names of the files that SQLite may have beside the file.
BESIDE = ("-wal", "-shm", "-journal")


class DatabaseFile:
    """An SQLite file, and the lock by which a service keeps others away from it.

    :param path: of the file, which need not exist.
    :param whose: what kind of service has it, for errors.
    :param failed: the class of the error that is raised.
    :param required: whether a file system without such locks is an error. SQLite has locks of its
        own there.
    """

    def __init__(
        self, path: str, whose: str, failed: type[PycomnetError], required: bool = False
    ) -> None:
        self._path = path
        self._whose = whose
        self._failed = failed
        self._required = required
        self._lock = FileLock(path)

    def hold(self) -> None:
        """Create the file if it does not exist, and lock it for this service alone.

        SQLite creates the files beside it with the mode of the file itself.

        :raises PycomnetError: of the class ``failed``: another service, or another user, has it, or
            it can't be opened.
        """
        path = self._path
        try:
            private.check_directory(os.path.dirname(os.path.abspath(path)))
            for end in BESIDE:
                if os.path.lexists(path + end):
                    private.check_file(os.lstat(path + end), path + end, private.PLAIN)
            self._lock.acquire(self._required)
            private.create_file(path)
        except FileLocked:
            raise self._failed(f"{path}: another {self._whose} has it open") from None
        except private.NotPrivate as problem:
            self._lock.release()
            raise self._failed(str(problem)) from None
        except OSError as problem:
            self._lock.release()
            raise self._failed(f"{path}: can't open it: {problem.strerror}") from problem

    def release(self) -> None:
        """Let others have it. SQLite has to have closed it before."""
        self._lock.release()


__all__ = ["DatabaseFile"]
