"""An SQLite file that only one service may use."""

from __future__ import annotations

import os
import sqlite3
from typing import Any

from pycomnet.errors import PycomnetError
from pycomnet.net import private
from pycomnet.net.filelock import FileLock, FileLocked

#: Ends of the names of the files that SQLite may have beside the file.
BESIDE = ("-wal", "-shm", "-journal")
#: KiB of SQLite's own cache. The system has the file in its cache, too.
CACHE = 16_384


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

    def set_up(
        self, connection: sqlite3.Connection, application: int, exclusive: bool = True
    ) -> None:
        """Set up a connection, in its thread. A file that is another program's is not touched.

        Each transaction has an fsync: what was acknowledged survives a power failure.

        :param application: SQLite's application_id of the service's files.
        :param exclusive: whether the connection keeps SQLite's own lock on the file, so that nobody
            can read it meanwhile, and has a larger cache.
        :raises PycomnetError: it is another program's file; then the connection is closed.
        """
        try:
            if pragma(connection, "application_id") != application and has_tables(connection):
                raise self._failed(f"{self._path}: an SQLite file, but no {self._whose}'s")
            if exclusive:
                connection.execute("PRAGMA locking_mode = EXCLUSIVE")
                connection.execute(f"PRAGMA cache_size = -{CACHE}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()
            raise

    def release(self) -> None:
        """Let others have it. SQLite has to have closed it before."""
        self._lock.release()


def create_tables(connection: Any, schema: str, application: int, version: int) -> int | None:
    """Create the tables in a new file.

    :param connection: or a cursor of it.
    :param schema: the statements, each with a semicolon at the end of its last line.
    :returns: the version of the tables that are there; None if they are new.
    """
    if has_tables(connection):
        return pragma(connection, "user_version")
    for statement in schema.split(";\n"):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {application}")
    connection.execute(f"PRAGMA user_version = {version}")
    return None


def has_tables(connection: Any) -> bool:
    """Whether a file has any tables."""
    return bool(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])


def pragma(connection: Any, name: str) -> int:
    """The value of one of SQLite's numbers."""
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
