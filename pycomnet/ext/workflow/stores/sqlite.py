"""A store of runs in an SQLite file, which one workflow service uses alone.

All operations of a reactor turn, and those that arrive while a transaction is written, go into one
transaction with one fsync. A thread writes it.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from twisted.enterprise import adbapi
from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from pycomnet.deferred import deferred
from pycomnet.errors import PycomnetError
from pycomnet.ext.workflow.errors import RunNotKept, RunStoreFailed
from pycomnet.ext.workflow.stores import tables
from pycomnet.ext.workflow.stores.batchedstore import BatchedRunStore, Wanted
from pycomnet.interfaces import IRunFollower, IRunStore
from pycomnet.net.databasefile import DatabaseFile

#: Seconds to wait for another process that has the file open.
BUSY = 10.0
#: Errors of SQLite that are of what it was given, not of the file.
VALUE_ERRORS = (
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    sqlite3.NotSupportedError,
)


@implementer(IRunStore)
class SQLiteRunStore(BatchedRunStore):
    """Keeps runs in a file.

    :param path: of the file, which is created if it does not exist; None keeps them in memory.
    """

    def __init__(self, path: str | None, reactor: IReactorTime) -> None:
        super().__init__("memory:" if path is None else f"sqlite:{path}", tables, reactor)
        self._path = path
        self._pool: Any = None
        #: by which this service keeps others away
        self._file: DatabaseFile | None = None
        if path is not None:
            self._file = DatabaseFile(path, "workflow service", RunStoreFailed)

    # -- beginning and end -----------------------------------------------------------------------

    @deferred
    async def open(self, follower: IRunFollower) -> None:
        self._follower = follower
        if self._file is not None:
            self._file.hold()
        self._pool = adbapi.ConnectionPool(
            "sqlite3",
            self._path or ":memory:",
            cp_min=1,
            cp_max=1,
            cp_noisy=False,
            cp_reactor=self._reactor,
            cp_openfun=self._set_up,
            check_same_thread=False,
            isolation_level=None,
            timeout=BUSY,
        )
        self._closing = False
        try:
            await self._do(tables.prepare, self.name)
        except Exception:
            self._closing = True
            pool, self._pool = self._pool, None
            pool.close()
            self._let_go()
            raise

    def _let_go(self) -> None:
        if self._file is not None:
            self._file.release()

    def _set_up(self, connection: sqlite3.Connection) -> None:
        if self._file is not None:
            self._file.set_up(connection, tables.APPLICATION)

    @deferred
    async def close(self) -> None:
        await self._finish()
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()
            self._let_go()

    # -- transactions ----------------------------------------------------------------------------

    def _transact(self, wanted: Sequence[Wanted]) -> defer.Deferred[Sequence[Any]]:
        writing: defer.Deferred[Sequence[Any]] = self._pool.runWithConnection(_transact, wanted)
        return writing

    def _problem(self, problem: BaseException | None) -> PycomnetError:
        if isinstance(problem, PycomnetError):
            return problem
        text = str(problem)
        if not isinstance(problem, sqlite3.Error) or isinstance(problem, VALUE_ERRORS):
            return RunNotKept(f"{self.name}: it can't be kept or looked for: {text:.500}")
        if "locked" in text:
            text = "another process has it open"
        elif "not a database" in text or "malformed" in text:
            text += ": it is damaged, or no workflow service's"
        return RunStoreFailed(f"{self.name}: {text}")


def _transact(connection: Any, operations: Sequence[Wanted]) -> Sequence[Any]:
    """Execute all operations in one transaction, in the thread. An operation that fails is undone
    alone. An error of the file fails all of them."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        results = [_undoably(connection, function, args) for function, args in operations]
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
    return results


def _undoably(connection: Any, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    connection.execute("SAVEPOINT one")
    try:
        result = function(connection, *args)
    except Exception as problem:
        if not connection.in_transaction:
            raise  # SQLite has rolled back all: the disk is full, or fails
        connection.execute("ROLLBACK TO one")
        result = problem
    connection.execute("RELEASE one")
    return result


def make_sqlite_store(path: str, reactor: IReactorTime) -> SQLiteRunStore:
    """A store in a file.

    :raises RunStoreFailed: no path is given.
    """
    if not path:
        raise RunStoreFailed("expected sqlite:PATH")
    return SQLiteRunStore(path, reactor)


def make_memory_store(rest: str, reactor: IReactorTime) -> SQLiteRunStore:
    """A store that keeps nothing over a restart."""
    if rest:
        raise RunStoreFailed(f"expected memory: and nothing after it, got {rest!r}")
    return SQLiteRunStore(None, reactor)
