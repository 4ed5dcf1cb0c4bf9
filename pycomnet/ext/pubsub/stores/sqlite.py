"""A durable history in an SQLite file, with group commit: a transaction has all waiting events."""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import time
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from pycomnet.deferred import deferred
from pycomnet.errors import StoreFailed
from pycomnet.ext.pubsub.events import OVERHEAD, EncodedEvent
from pycomnet.ext.pubsub.history import KeptEvents
from pycomnet.ext.pubsub.stores import StoredGroup, groupstore
from pycomnet.net.databasefile import DatabaseFile, create_tables
from pycomnet.services.threads import MethodThreads

T = TypeVar("T")

#: SQLite's application_id of our files ("pcev"), and the version of the tables.
APPLICATION, VERSION = 0x70636576, 1
#: About how many bytes, and the most events, of one read.
READ, READ_EVENTS = 1 << 17, 1_000
#: Bytes of all events in a file, unless it is made with another limit.
SIZE = 4 << 30
#: Seconds to wait for a lock on the file: the process that had it before may be closing it.
BUSY = 10.0
#: Events, and bytes of them, that may wait to be written; with more, publishing fails.
MAX_QUEUE, MAX_QUEUED = 100_000, 64 << 20

SCHEMA = """
CREATE TABLE events (
    sequence INTEGER PRIMARY KEY,
    subject TEXT NOT NULL,
    key TEXT,
    time REAL NOT NULL,
    payload BLOB NOT NULL
);
CREATE INDEX events_by_time ON events (time);
CREATE TABLE retained (
    place TEXT PRIMARY KEY,
    sequence INTEGER NOT NULL UNIQUE,
    subject TEXT NOT NULL,
    key TEXT,
    time REAL NOT NULL,
    payload BLOB NOT NULL
);
CREATE TABLE groups (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    patterns TEXT NOT NULL,
    floor INTEGER NOT NULL,
    used REAL NOT NULL,
    UNIQUE (owner, name)
);
CREATE TABLE acknowledged (
    id INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (id, sequence)
) WITHOUT ROWID;
CREATE TABLE state (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
_COLUMNS = "sequence, subject, key, time, payload"


class SQLiteEventStore:
    """Events in a file; what :class:`~pycomnet.ext.pubsub.stores.EventStore` describes.

    ``append`` fires once the event is in the file, with an fsync. A thread commits one transaction
    at a time; events that come meanwhile wait for the next one.

    :param path: the path of the file; it is created if there is none.
    :param most: the most bytes of all events; the oldest are deleted.
    :param threads: a thread pool; by default one of its own.
    :param clock: tells the time of day: groups that nobody has used for long may be forgotten.
    """

    def __init__(
        self,
        path: str,
        most: int = SIZE,
        threads: Any = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.epoch = ""
        self.first = 1
        self.last = 0
        self._path = path
        self._most = most
        self._pool = threads
        self._clock = clock
        self._keep = KeptEvents()
        self._keys = 0
        self._connection: Any = None
        self._writer: Any = None
        self._size = 0
        #: the next transaction: events, positions of groups, and the Deferreds that wait for it
        self._events: list[EncodedEvent] = []
        self._queued = 0
        self._positions: dict[int, int] = {}
        self._numbers: list[tuple[int, int]] = []
        self._waiting: list[defer.Deferred[None]] = []
        self._writing: defer.Deferred[Any] | None = None
        self._failed: StoreFailed | None = None
        self._file = DatabaseFile(path, "publisher", StoreFailed, required=True)

    def __repr__(self) -> str:
        return f"<SQLiteEventStore {self._path}>"

    # -- beginning and end -----------------------------------------------------------------------

    @deferred
    async def open(self, reactor: IReactorTime, keep: KeptEvents, keys: int = 0) -> None:
        self._keep = keep
        self._keys = keys
        self._file.hold()
        # One thread: SQLite's connection may be used by one thread at a time.
        self._writer = MethodThreads(reactor, 1, self._pool)
        try:
            await self._run(self._open)
        except BaseException:
            self._writer.close()
            self._file.release()
            raise

    def _open(self) -> None:
        connection = sqlite3.connect(
            self._path, timeout=BUSY, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        self._file.set_up(connection, APPLICATION, exclusive=False)
        connection.execute("BEGIN EXCLUSIVE")
        version = create_tables(connection, SCHEMA, APPLICATION, VERSION)
        if version is None:
            given = [("epoch", secrets.token_hex(8)), ("last", "0")]
            connection.executemany("INSERT INTO state VALUES (?, ?)", given)
        connection.execute("COMMIT")
        if version not in (None, VERSION):
            raise StoreFailed(
                f"{self._path} has version {version} of the tables, this program needs {VERSION}"
            )
        state = dict(connection.execute("SELECT key, value FROM state").fetchall())
        self.epoch = state["epoch"]
        query = (
            f"SELECT min(sequence), max(sequence), sum(length(payload) + {OVERHEAD}) FROM events"
        )
        first, last, size = connection.execute(query).fetchone()
        self.last = max(last or 0, int(state["last"]))
        self.first = self.last + 1 if first is None else first
        self._size = size or 0

    @deferred
    async def close(self) -> None:
        while self._writing is not None or self._waiting:
            waiting: defer.Deferred[None] = defer.Deferred()
            self._waiting.append(waiting)
            self._write()
            with contextlib.suppress(StoreFailed):
                await waiting
        if self._connection is not None:
            connection, self._connection = self._connection, None
            with contextlib.suppress(StoreFailed):
                await self._run(connection.close)
        if self._writer is not None:
            self._writer.close()
        self._file.release()

    async def _run(self, function: Callable[[], T]) -> T:
        try:
            found: T = await self._writer.run(f"store {self._path}", function)
        except sqlite3.Error as problem:
            raise StoreFailed(f"{self._path}: {problem}") from problem
        return found

    # -- writing ---------------------------------------------------------------------------------

    @property
    def fullness(self) -> float:
        return max(len(self._events) / MAX_QUEUE, self._queued / MAX_QUEUED)

    def append(self, event: EncodedEvent) -> defer.Deferred[None]:
        self._events.append(event)
        self._queued += event.size
        return self._later()

    def acknowledge(self, id: int, floor: int, above: list[int]) -> defer.Deferred[None]:
        self._positions[id] = max(floor, self._positions.get(id, 0))
        self._numbers += ((id, number) for number in above)
        return self._later()

    def _later(self) -> defer.Deferred[None]:
        if self._failed is not None:
            return defer.fail(self._failed)
        waiting: defer.Deferred[None] = defer.Deferred(lambda _: None)
        self._waiting.append(waiting)
        self._write()
        return waiting

    def _write(self) -> None:
        """Begin a transaction with everything that waits, if none is under way."""
        if self._writing is not None or not self._waiting:
            return
        events, self._events = self._events, []
        self._queued = 0
        positions, self._positions = self._positions, {}
        numbers, self._numbers = self._numbers, []
        waiting, self._waiting = self._waiting, []
        self._writing = defer.Deferred.fromCoroutine(
            self._run(lambda: self._commit(events, positions, numbers))
        )
        self._writing.addBoth(self._written, waiting)

    def _commit(
        self, events: list[EncodedEvent], positions: dict[int, int], numbers: list[tuple[int, int]]
    ) -> tuple[int, int, int]:
        """Write everything in one transaction; in the thread. Returns the first and last number,
        and the size of all events."""
        connection = self._connection
        first, last, size = self.first, self.last, self._size
        connection.execute("BEGIN IMMEDIATE")
        try:
            if events:
                rows = map(_row, events)
                connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?)", rows)
                size += sum(event.size for event in events)
                last = events[-1].sequence
                connection.execute("UPDATE state SET value = ? WHERE key = 'last'", (str(last),))
                first, size = self._trim(connection, first, last, size, events[-1].time)
                if self._keys:
                    self._retain(connection, events)
            groupstore.keep_positions(connection, positions, numbers, self._clock())
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise
        return first, last, size

    def _trim(
        self, connection: Any, first: int, last: int, size: int, now: float
    ) -> tuple[int, int]:
        """Delete events beyond the limits. Returns the new first number and the size."""
        keep = self._keep
        wanted = first
        if keep.count is not None:
            wanted = max(wanted, last + 1 - keep.count)
        if keep.seconds is not None:
            query = "SELECT min(sequence) FROM events WHERE time >= ?"
            found = connection.execute(query, (now - keep.seconds,)).fetchone()[0]
            wanted = max(wanted, last + 1 if found is None else found)
        over = size - self._most
        if over > 0:
            query = "SELECT sequence, length(payload) FROM events ORDER BY sequence"
            for sequence, length in connection.execute(query):
                if over <= 0 or sequence >= last:
                    break
                over -= length + OVERHEAD
                wanted = max(wanted, sequence + 1)
        if wanted > first:
            query = (
                f"SELECT coalesce(sum(length(payload) + {OVERHEAD}), 0) FROM events "
                "WHERE sequence < ?"
            )
            size -= connection.execute(query, (wanted,)).fetchone()[0]
            connection.execute("DELETE FROM events WHERE sequence < ?", (wanted,))
        return wanted, size

    def _retain(self, connection: Any, events: list[EncodedEvent]) -> None:
        """Keep the last event of each subject and key, however old it gets."""
        rows = [(f"{e.subject} {'' if e.key is None else '=' + e.key}", *_row(e)) for e in events]
        connection.executemany("INSERT OR REPLACE INTO retained VALUES (?, ?, ?, ?, ?, ?)", rows)
        connection.execute(
            "DELETE FROM retained WHERE sequence <= "
            "(SELECT sequence FROM retained ORDER BY sequence DESC LIMIT 1 OFFSET ?)",
            (self._keys,),
        )

    def _written(self, result: Any, waiting: list[defer.Deferred[None]]) -> None:
        self._writing = None
        if isinstance(result, Failure):
            # Nothing is written any more: later events would leave a hole in the sequence.
            self._failed = (
                result.value
                if isinstance(result.value, StoreFailed)
                else StoreFailed(f"{self._path}: {result.getErrorMessage()}")
            )
            waiting, self._waiting = waiting + self._waiting, []
            self._events.clear()
            self._positions.clear()
            self._numbers.clear()
        else:
            self.first, self.last, self._size = result
        for one in waiting:
            if one.called:
                continue
            if self._failed is not None:
                one.errback(Failure(self._failed))
            else:
                one.callback(None)
        self._write()

    # -- reading ---------------------------------------------------------------------------------

    def _select(self, query: str, *args: Any) -> Callable[[], list[EncodedEvent]]:
        """Read events, up to a size; in the thread."""

        def read() -> list[EncodedEvent]:
            found = []
            size = 0
            for row in self._connection.execute(query, args):
                event = EncodedEvent(*row)
                found.append(event)
                size += event.size
                if size >= READ:
                    break
            return found

        return read

    def read(self, cursor: int) -> defer.Deferred[list[EncodedEvent]]:
        query = f"SELECT {_COLUMNS} FROM events WHERE sequence > ? ORDER BY sequence LIMIT ?"
        reading = self._run(self._select(query, cursor, READ_EVENTS))
        return defer.Deferred.fromCoroutine(reading)

    @deferred
    async def recent(self, size: int) -> list[EncodedEvent]:
        query = f"SELECT {_COLUMNS} FROM events ORDER BY sequence DESC"
        return await self._run(lambda: self._last(query, min(size, 16 * READ)))

    @deferred
    async def retained(self, size: int) -> list[EncodedEvent]:
        query = f"SELECT {_COLUMNS} FROM retained ORDER BY sequence DESC"
        return await self._run(lambda: self._last(query, size))

    def _last(self, query: str, size: int) -> list[EncodedEvent]:
        """Run a query that has the last event first; return the events in their order. In the
        thread."""
        found: list[EncodedEvent] = []
        left = size
        for row in self._connection.execute(query):
            event = EncodedEvent(*row)
            left -= event.size
            if left < 0 and found:
                break
            found.append(event)
        return found[::-1]

    @deferred
    async def before(self, time: float) -> int:
        query = "SELECT max(sequence) FROM events WHERE time < ?"
        found = await self._run(lambda: self._connection.execute(query, (time,)).fetchone()[0])
        return self.first - 1 if found is None else int(found)

    # -- groups ----------------------------------------------------------------------------------

    @deferred
    async def group(self, owner: str, name: str) -> StoredGroup | None:
        return await self._run(lambda: groupstore.find(self._connection, owner, name))

    @deferred
    async def add_group(
        self, owner: str, name: str, patterns: tuple[str, ...], floor: int, most: int
    ) -> StoredGroup:
        def add() -> StoredGroup:
            now = self._clock()
            return groupstore.add(self._connection, owner, name, patterns, floor, most, now)

        return await self._run(add)

    @deferred
    async def forget_group(self, owner: str, name: str) -> bool:
        return await self._run(lambda: groupstore.forget(self._connection, owner, name))


def _row(event: EncodedEvent) -> tuple[int, str, str | None, float, bytes]:
    return event.sequence, event.subject, event.key, event.time, event.payload
