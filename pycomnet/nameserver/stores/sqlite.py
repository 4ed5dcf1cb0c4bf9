"""A store in an SQLite file of this nameserver's own.

Every change is committed, with an fsync, before it is acknowledged. Changes that are requested
while a transaction is being committed go into the next one. So a disk that takes some milliseconds
for an fsync does not limit the rate to some hundred registrations a second. The writing is done in
a thread of its own, in few and long statements: after each statement that thread has to win the
interpreter's lock back from the reactor's thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.enterprise import adbapi
from twisted.internet import defer
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.internet.threads import blockingCallFromThread
from zope.interface import implementer

from pycomnet.deferred import Condition, deferred
from pycomnet.errors import StoreFailed
from pycomnet.interfaces import INameStore
from pycomnet.nameserver.records import Delete, Put, Record, decode, encode
from pycomnet.nameserver.standing import Standing, standing_of
from pycomnet.nameserver.stores.local import Decisions, QueuedChange, Revisions, first_revision
from pycomnet.net.databasefile import DatabaseFile, create_tables
from pycomnet.text.logs import Logger
from pycomnet.wire.values import InvalidValue

if TYPE_CHECKING:
    from pycomnet.interfaces import INameFollower

log = Logger()

T = TypeVar("T")

#: SQLite's application_id of our files ("pcns"), and the version of the tables.
APPLICATION = 0x70636E73
VERSION = 1
#: Changes in one transaction; with more, the first would wait too long for the last.
MAX_BATCH = 2_000
#: Rows that are read before they are passed to the reactor.
CHUNK = 10_000
#: Seconds to wait for a lock on the file: the nameserver that had it before may be closing it.
BUSY = 10.0

SCHEMA = """
CREATE TABLE registrations (
    service TEXT PRIMARY KEY,
    interfaces TEXT NOT NULL,  -- names with newlines between them, and so are the tags
    address TEXT NOT NULL,
    metadata BLOB NOT NULL,    -- a MessagePack map, or nothing
    tags TEXT NOT NULL,
    ttl REAL NOT NULL,
    lease INTEGER NOT NULL,
    secret BLOB NOT NULL,      -- its digest
    fence INTEGER NOT NULL,
    time_left REAL NOT NULL,   -- of the lease, in seconds, when the nameserver was stopped
    standing BLOB NOT NULL DEFAULT x''  -- a MessagePack list, or nothing for the usual one
) WITHOUT ROWID;
CREATE TABLE state (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""
COLUMNS = (
    "service, interfaces, address, metadata, tags, ttl, lease, secret, fence, time_left, standing"
)
#: Adds the column that files of older versions lack. These versions can still use the file.
ADDITION = "ALTER TABLE registrations ADD COLUMN standing BLOB NOT NULL DEFAULT x''"
_VALUES = "(" + ", ".join("?" * len(COLUMNS.split(","))) + ")"


def _row(record: Record, fence: int) -> tuple[Any, ...]:
    return (
        record.service,
        "\n".join(record.interfaces),
        record.address,
        record.metadata,
        "\n".join(record.tags),
        record.ttl,
        record.lease,
        record.secret,
        fence,
        record.ttl,
        b"" if record.standing is None else encode(record.standing.as_list()),
    )


@implementer(INameStore)
class SQLiteStore:
    """A store in a file.

    Renewals are not written. After a clean stop each lease has the time left that it had then (the
    time in between does not count, as nobody could renew). After a crash it has its full length.

    :param path: of the file, which is created if it does not exist.
    :param revisions: makes a new file's first revision.
    """

    ends_leases = False

    def __init__(
        self, path: str, reactor: IReactorTime, revisions: Revisions = first_revision
    ) -> None:
        self.name = f"sqlite:{path}"
        self._path = path
        self._reactor = reactor
        self._revisions = revisions
        self._pool: adbapi.ConnectionPool | None = None
        self._follower: Any = None
        self._decisions: Decisions | None = None
        self._queue: list[QueuedChange] = []
        self._turn: Any = None
        self._writing: defer.Deferred[None] | None = None
        #: notified when a transaction has ended
        self._written = Condition()
        self._opening: defer.Deferred[int] | None = None
        self._closing = False
        #: the lock that keeps other nameservers away
        self._file = DatabaseFile(path, "nameserver", StoreFailed)

    # -- beginning -------------------------------------------------------------------------------

    @deferred
    async def open(self, follower: INameFollower) -> None:
        self._follower = follower
        self._closing = False
        self._file.hold()
        self._pool = adbapi.ConnectionPool(
            "sqlite3",
            self._path,
            cp_min=1,
            cp_max=1,
            cp_noisy=False,
            cp_reactor=self._reactor,
            cp_openfun=partial(self._file.set_up, application=APPLICATION),
            check_same_thread=False,
            isolation_level=None,
            timeout=BUSY,
        )
        self._opening = self._pool.runInteraction(_tidily, self._read)
        try:
            revision = await self._opening
        except Exception as problem:
            pool, self._pool = self._pool, None
            pool.close()
            self._file.release()
            raise self._explained(problem) from problem
        finally:
            self._opening = None
        self._decisions = Decisions(follower, revision)
        follower.loaded(revision)

    def leave(self) -> None:
        self._file.release()

    def _explained(self, problem: Exception) -> StoreFailed:
        if isinstance(problem, StoreFailed):
            return problem
        text = str(problem)
        if "locked" in text:
            text = "another process has it open, perhaps another nameserver"
        elif "not a database" in text or "malformed" in text:
            text += ": it is damaged, or no nameserver's"
        return StoreFailed(f"{self._path}: {text}")

    def _read(self, transaction: Any) -> int:
        """Load the records of the file, in the pool's thread; return the revision."""
        transaction.execute("BEGIN EXCLUSIVE")
        self._check(transaction)
        state = dict(transaction.execute("SELECT key, value FROM state").fetchall())
        revision: int = state["revision"]
        clean = bool(state.get("clean"))
        # From now on, until the store is closed, the file does not know what leases have left.
        transaction.execute("INSERT OR REPLACE INTO state VALUES ('clean', 0)")
        cursor = transaction.execute(f"SELECT {COLUMNS} FROM registrations ORDER BY service")
        while rows := cursor.fetchmany(CHUNK):
            if self._closing:
                raise StoreFailed(f"{self._path}: closed while it was read")
            records = list(_records(rows, clean))
            blockingCallFromThread(IReactorFromThreads(self._reactor), self._follower.load, records)
        return revision

    def _check(self, transaction: Any) -> None:
        """Create the tables in a new file; refuse tables of another version."""
        version = create_tables(transaction, SCHEMA, APPLICATION, VERSION)
        if version is None:
            transaction.execute("INSERT INTO state VALUES ('revision', ?)", (self._revisions(),))
            return
        if version != VERSION:
            raise StoreFailed(
                f"{self._path}: has version {version} of the tables; this is for {VERSION}"
            )
        columns = transaction.execute("SELECT name FROM pragma_table_info('registrations')")
        if ("standing",) not in columns.fetchall():
            transaction.execute(ADDITION)

    # -- changes ---------------------------------------------------------------------------------

    def commit(self, change: Put | Delete) -> defer.Deferred[int]:
        if self._decisions is None or self._closing:
            return defer.fail(StoreFailed(f"{self._path}: it is closed"))
        asked = self._decisions.ask(change)
        self._queue.append(asked)
        if self._turn is None and self._writing is None:
            # The rest of this turn's changes go into the same transaction.
            self._turn = self._reactor.callLater(0, self._flush)
        return asked.deferred

    def _flush(self) -> None:
        self._turn = None
        if self._writing is None and self._queue:
            writing = self._write_batch()
            if not writing.called:
                self._writing = writing

    @deferred
    async def _write_batch(self) -> None:
        decisions, pool = self._decisions, self._pool
        assert decisions is not None and pool is not None
        batch, self._queue = self._queue[:MAX_BATCH], self._queue[MAX_BATCH:]
        last = {asked.change.service: asked.change for asked in batch if asked.change is not None}
        try:
            if last:
                await pool.runInteraction(_tidily, _write, *_statements(last.values()))
        except sqlite3.OperationalError as problem:  # no room, no permission, a lock
            log.error("can't write: {problem}", problem=self._explained(problem))
            self._not_written(batch, problem)
        except Exception as problem:
            log.failure("can't write to {path}", path=self._path)
            self._not_written(batch, problem)
        else:
            decisions.committed(batch)
        self._writing = None
        if self._queue and self._turn is None:
            # Together with this turn's changes.
            self._turn = self._reactor.callLater(0, self._flush)
        self._written.notify_all()

    def _not_written(self, batch: list[Any], problem: Exception) -> None:
        assert self._decisions is not None
        batch += self._queue
        self._queue = []
        self._decisions.failed(batch, self._explained(problem))

    def renew(self, record: Record) -> None:
        return None

    # -- the end ---------------------------------------------------------------------------------

    @deferred
    async def close(self) -> None:
        self._closing = True
        if self._opening is not None:
            waiting: defer.Deferred[None] = defer.Deferred()

            def pass_on(result: Any) -> Any:
                self._reactor.callLater(0, waiting.callback, None)
                return result

            self._opening.addBoth(pass_on)
            await waiting
        while self._writing is not None or self._turn is not None:
            if self._writing is None:
                self._turn.cancel()
                self._flush()
                continue
            await self._written.wait()
        pool, self._pool, self._decisions = self._pool, None, None
        if pool is None:
            return
        try:
            await pool.runInteraction(_tidily, _save_times, self._follower)
        except Exception as problem:
            # Nothing is lost: the next start counts as one after a crash.
            log.error(
                "can't write how much time leases have left: {problem}",
                problem=self._explained(problem),
            )
        finally:
            pool.close()
            self._file.release()


def _tidily(transaction: Any, function: Callable[..., T], *args: Any) -> T:
    """Call a function; if it raises, close the cursor. Otherwise the traceback would keep the
    cursor, and so the connection with its lock on the file."""
    try:
        return function(transaction, *args)
    except BaseException:
        transaction.close()
        raise


def _records(rows: Sequence[tuple[Any, ...]], clean: bool) -> Iterator[tuple[Record, float]]:
    for row in rows:
        service, interfaces, address, metadata, tags, ttl, lease, secret, fence, left, kept = row
        yield (
            Record(
                service,
                _split(interfaces),
                address,
                metadata,
                _split(tags),
                ttl,
                lease,
                secret,
                fence,
                standing=_standing(kept) if kept else None,
            ),
            left if clean else ttl,
        )


def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split("\n")) if text else ()


def _standing(kept: bytes) -> Standing | None:
    try:
        return standing_of(decode(kept))
    except (InvalidValue, ValueError) as problem:
        raise StoreFailed(f"a registration's standing is damaged: {problem}") from None


def _statements(changes: Any) -> tuple[list[tuple[Any, ...]], list[str], int]:
    """The rows to write, the names to remove, and the revision after both."""
    puts, deletes, revision = [], [], 0
    for change in changes:
        revision = max(revision, change.revision)
        if change.record is not None:
            puts.append(_row(change.record, change.revision))
        else:
            deletes.append(change.service)
    return puts, deletes, revision


def _write(
    transaction: Any, puts: list[tuple[Any, ...]], deletes: list[str], revision: int
) -> None:
    transaction.execute("BEGIN IMMEDIATE")
    transaction.executemany(
        f"INSERT OR REPLACE INTO registrations ({COLUMNS}) VALUES {_VALUES}", puts
    )
    transaction.executemany(
        "DELETE FROM registrations WHERE service = ?", [(name,) for name in deletes]
    )
    transaction.execute("UPDATE state SET value = ? WHERE key = 'revision'", (revision,))


def _save_times(transaction: Any, follower: INameFollower) -> None:
    transaction.execute("BEGIN IMMEDIATE")
    transaction.executemany(
        "UPDATE registrations SET time_left = ? WHERE service = ?",
        ((left, service) for service, left in follower.times_left()),
    )
    transaction.execute("UPDATE state SET value = 1 WHERE key = 'clean'")


def make(rest: str, reactor: IReactorTime) -> INameStore:
    """The store that ``sqlite:PATH`` names."""
    if not rest or rest == ":memory:":
        raise StoreFailed("sqlite: needs the path of a file after the colon")
    return SQLiteStore(rest, reactor)
