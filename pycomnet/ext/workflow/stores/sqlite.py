"""A store of runs in an SQLite file, which one workflow service uses alone.

All that is asked for in a turn of the reactor, and while a transaction is written, goes into one
transaction with one fsync. It is written in a thread.
"""

from __future__ import annotations

import builtins
import contextlib
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
from twisted.enterprise import adbapi
from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from pycomnet.deferred import deferred
from pycomnet.errors import PycomnetError
from pycomnet.ext.workflow.errors import RunNotKept, RunStoreFailed
from pycomnet.ext.workflow.records import ENDED, Claim, Message, RunChange, RunQuery, RunRow
from pycomnet.ext.workflow.stores import tables
from pycomnet.interfaces import IRunFollower, IRunStore
from pycomnet.net.databasefile import DatabaseFile
from pycomnet.text.logs import Logger

log = Logger()

#: The most operations of a transaction; with more, the first would wait too long for the last.
MOST = 2_000
#: Seconds to wait for another process that has the file open.
BUSY = 10.0
#: KiB of SQLite's own cache.
CACHE = 16_384
#: Errors of SQLite that are of what it was given, not of the file.
VALUE_ERRORS = (
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    sqlite3.NotSupportedError,
)
#: What only reads: if it fails, nothing has to be undone.
READS = frozenset(
    {
        tables.definition,
        tables.messages,
        tables.row_of,
        tables.get,
        tables.list_runs,
        tables.counts,
        tables.marks,
    }
)


@attrs.frozen
class _Operation:
    """What is asked for.

    :ivar function: runs in the thread, with the connection and ``args``.
    :ivar waiting: fires with its result. Who asked may cancel it: the operation goes on.
    :ivar then: called with the result, whoever waits, and gives what ``waiting`` fires with.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    waiting: defer.Deferred[Any]
    then: Callable[[Any], Any] | None


@implementer(IRunStore)
class SQLiteRunStore:
    """Keeps runs in a file.

    :param path: of the file, which is created if it does not exist; None keeps them in memory.
    """

    lease = None

    def __init__(self, path: str | None, reactor: IReactorTime) -> None:
        self.name = "memory:" if path is None else f"sqlite:{path}"
        self._path = path
        self._reactor = reactor
        self._pool: Any = None
        self._follower: Any = None
        self._queue: list[_Operation] = []
        self._turn: Any = None
        self._writing = False
        self._idle: list[defer.Deferred[None]] = []
        self._closing = False
        #: by which this service keeps others away
        self._file: DatabaseFile | None = None
        if path is not None:
            self._file = DatabaseFile(path, "workflow service", RunStoreFailed)

    # -- beginning and end -----------------------------------------------------------------------

    @deferred
    async def open(self, follower: IRunFollower) -> None:
        self._follower = follower
        self._closing = False
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
        try:
            await self._do(tables.prepare, self.name)
        except Exception:
            pool, self._pool = self._pool, None
            pool.close()
            self._let_go()
            raise

    def _let_go(self) -> None:
        if self._file is not None:
            self._file.release()

    def _set_up(self, connection: sqlite3.Connection) -> None:
        """Set up the connection, in the thread. A file that is not ours is not touched."""
        try:
            ours = connection.execute("PRAGMA application_id").fetchone()[0] == tables.APPLICATION
            used = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if used and not ours:
                raise RunStoreFailed(f"{self._path}: an SQLite file, but no workflow service's")
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("PRAGMA journal_mode = WAL")
            # An fsync for each transaction: what was acknowledged survives a power failure.
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA cache_size = -{CACHE}")
        except BaseException:
            connection.close()
            raise

    @deferred
    async def close(self) -> None:
        self._closing = True
        while self._writing or self._queue:
            waiting: defer.Deferred[None] = defer.Deferred()
            self._idle.append(waiting)
            await waiting
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()
            self._let_go()

    # -- transactions ----------------------------------------------------------------------------

    def _do(
        self,
        function: Callable[..., Any],
        *args: Any,
        then: Callable[[Any], Any] | None = None,
    ) -> defer.Deferred[Any]:
        """Run a function in the thread, in the next transaction."""
        if self._pool is None or self._closing:
            return defer.fail(RunStoreFailed(f"{self.name}: it is closed"))
        # Without a canceller: Twisted drops the result that comes after a cancel.
        waiting: defer.Deferred[Any] = defer.Deferred()
        self._queue.append(_Operation(function, args, waiting, then))
        if self._turn is None and not self._writing:
            # The rest of this turn's operations go into the same transaction.
            self._turn = self._reactor.callLater(0, self._flush)
        return waiting

    def _flush(self) -> None:
        self._turn = None
        if self._writing or not self._queue:
            return
        batch, self._queue = self._queue[:MOST], self._queue[MOST:]
        self._writing = True
        writing = self._pool.runWithConnection(
            _transact, [(one.function, one.args) for one in batch]
        )
        writing.addCallbacks(
            self._fire, self._not_written, callbackArgs=(batch,), errbackArgs=(batch,)
        )
        writing.addErrback(lambda failure: log.failure("the store failed", failure))

    def _go_on(self) -> None:
        self._writing = False
        if self._queue:
            if self._turn is None:
                # Together with what is asked for in this turn.
                self._turn = self._reactor.callLater(0, self._flush)
            return
        waiting, self._idle = self._idle, []
        for one in waiting:
            one.callback(None)

    def _not_written(self, failure: Failure, batch: list[_Operation]) -> None:
        problem = self._problem(failure.value)
        if problem is not failure.value:
            log.error("can't use {store}: {problem}", store=self.name, problem=problem)
        self._fire([problem] * len(batch), batch)

    def _problem(self, problem: BaseException | None) -> PycomnetError:
        """An error as text."""
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

    def _fire(self, results: list[Any], batch: list[_Operation]) -> None:
        try:
            for one, result in zip(batch, results, strict=True):
                if isinstance(result, Exception):
                    one.waiting.errback(Failure(self._problem(result)))
                    continue
                try:
                    given = result if one.then is None else one.then(result)
                except Exception:
                    one.waiting.errback(Failure())
                else:
                    one.waiting.callback(given)
        finally:
            self._go_on()

    # -- what IRunStore has ----------------------------------------------------------------------

    def definition(self, hash: str) -> defer.Deferred[bytes | None]:
        return self._do(tables.definition, hash)

    def create(
        self,
        row: RunRow,
        steps: Sequence[tuple[str, bytes]] = (),
        definition: bytes | None = None,
    ) -> defer.Deferred[tuple[RunRow, Claim | None]]:
        return self._do(tables.create, row, list(steps), definition)

    def commit(self, change: RunChange) -> defer.Deferred[None]:
        return self._do(tables.commit, change, then=partial(self._committed, change))

    def _committed(self, change: RunChange, claimable: bool) -> None:
        if change.row.state in ENDED:
            self._follower.ended(change.row.id)
        if claimable:
            self._follower.claimable()

    def claim(self, now: float, limit: int) -> defer.Deferred[tuple[list[Claim], float | None]]:
        return self._do(tables.claim, now, limit)

    def release(self, runs: Mapping[str, int]) -> defer.Deferred[None]:
        return self._do(tables.release, dict(runs))

    def renew(self) -> defer.Deferred[None]:
        return defer.succeed(None)

    def post(self, run: str, message: Message) -> defer.Deferred[RunRow | None]:
        return self._do(tables.post, run, message, then=self._posted)

    def _posted(self, found: tuple[RunRow | None, bool]) -> RunRow | None:
        row, claimed = found
        if row is not None:
            if claimed:
                self._follower.posted(row.id)
            else:
                self._follower.claimable()
        return row

    def messages(self, run: str) -> defer.Deferred[list[Message]]:
        return self._do(tables.messages, run)

    def row(self, run: str) -> defer.Deferred[RunRow | None]:
        return self._do(tables.row_of, run)

    def get(self, run: str) -> defer.Deferred[tuple[RunRow, list[bytes]] | None]:
        return self._do(tables.get, run)

    def list(self, query: RunQuery) -> defer.Deferred[builtins.list[RunRow]]:
        return self._do(tables.list_runs, query)

    def counts(self) -> defer.Deferred[dict[str, int]]:
        return self._do(tables.counts)

    def prune(self, before: float, limit: int) -> defer.Deferred[int]:
        return self._do(tables.prune, before, limit)

    def marks(self) -> defer.Deferred[dict[str, float]]:
        return self._do(tables.marks)

    def mark(self, name: str, time: float) -> defer.Deferred[None]:
        return self._do(tables.mark, name, time)


def _transact(
    connection: Any, operations: Sequence[tuple[Callable[..., Any], tuple[Any, ...]]]
) -> Sequence[Any]:
    """Do all in one transaction, in the thread. An operation that fails has changed nothing, and
    the others count; only what concerns the file fails all."""
    try:
        return _in_transaction(connection, operations, _plainly)
    except sqlite3.OperationalError:
        raise
    except Exception:
        # One of them wrote, and then failed: once more, so that each can be undone alone.
        return _in_transaction(connection, operations, _undoably)


def _in_transaction(
    connection: Any,
    operations: Sequence[tuple[Callable[..., Any], tuple[Any, ...]]],
    do: Callable[[Any, Callable[..., Any], tuple[Any, ...]], Any],
) -> Sequence[Any]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        results = [do(connection, function, args) for function, args in operations]
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
    return results


def _plainly(connection: Any, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    try:
        return function(connection, *args)
    except PycomnetError as problem:
        return problem  # before it has written
    except Exception as problem:
        if function in READS and connection.in_transaction:
            return problem
        raise


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


__all__ = ["SQLiteRunStore", "make_memory_store", "make_sqlite_store"]
