"""The statements of the SQLite store: each function does one thing, within a transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from pycomnet.ext.workflow.errors import FenceLost, RunFull
from pycomnet.ext.workflow.records import (
    ENDED,
    MOST_SIGNALS,
    RETRIED,
    RUNNING,
    Claim,
    Message,
    RunChange,
    RunQuery,
    RunRow,
)
from pycomnet.ext.workflow.stores.batchedstore import other_version
from pycomnet.net.databasefile import create_tables

#: SQLite's application_id of our files ("pcwf"), and the version of the tables.
APPLICATION = 0x70637766
VERSION = 2

SCHEMA = """
CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    task TEXT NOT NULL,
    definition TEXT NOT NULL,
    state TEXT NOT NULL,
    caller TEXT NOT NULL,
    created REAL NOT NULL,
    updated REAL NOT NULL,
    data BLOB NOT NULL,
    fence INTEGER NOT NULL,
    place INTEGER NOT NULL,  -- of PLACES
    due REAL,                -- of a parked run: when it is due
    signals INTEGER NOT NULL, -- that wait in it
    body BLOB NOT NULL       -- last: who reads the others does not read it
) WITHOUT ROWID;
CREATE INDEX runs_created ON runs (created, id);
CREATE INDEX runs_state ON runs (state, created, id);
CREATE INDEX runs_ended ON runs (updated) WHERE place = 3;
CREATE INDEX runs_free ON runs (created) WHERE place = 0;
CREATE INDEX runs_claimed ON runs (id) WHERE place = 1;
CREATE INDEX runs_due ON runs (due) WHERE place = 2 AND due IS NOT NULL;
CREATE INDEX runs_definition ON runs (definition);
CREATE TABLE steps (
    run TEXT NOT NULL,
    path TEXT NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (run, path)
) WITHOUT ROWID;
CREATE TABLE messages (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    run TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    data BLOB NOT NULL
);
CREATE INDEX messages_run ON messages (run);
CREATE TABLE definitions (hash TEXT PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE marks (name TEXT PRIMARY KEY, time REAL NOT NULL) WITHOUT ROWID;
"""

#: Where a run is: nobody has it, this service has it, it is parked, it has ended.
FREE, CLAIMED, PARKED, OVER = range(4)

#: The fence of the claim with which a run is created.
FIRST_FENCE = 1

#: Bytes of runs that are claimed at once: the run with which there are more is the last.
CLAIM_BYTES = 4 << 20

#: The most steps that a prune of more than one run removes.
MOST_PRUNED = 10_000

#: What can be read of many runs at a time, and all.
COLUMNS = "id, task, definition, state, caller, created, updated, data, signals"
ALL = f"{COLUMNS}, body"


def prepare(connection: sqlite3.Connection, where: str) -> None:
    """Create the tables in a new file, and end all claims of the service before.

    :raises RunStoreFailed: the tables are of another version.
    """
    version = create_tables(connection, SCHEMA, APPLICATION, VERSION)
    if version is None:
        return
    if version != VERSION:
        raise other_version(where, version, VERSION)
    connection.execute("UPDATE runs SET place = 0 WHERE place = 1")


def keep_definition(connection: sqlite3.Connection, hash: str, data: bytes) -> None:
    connection.execute("INSERT OR IGNORE INTO definitions VALUES (?, ?)", (hash, data))


def definition(connection: sqlite3.Connection, hash: str) -> bytes | None:
    found = connection.execute("SELECT data FROM definitions WHERE hash = ?", (hash,)).fetchone()
    return None if found is None else found[0]


def create(
    connection: sqlite3.Connection,
    row: RunRow,
    steps: Sequence[tuple[str, bytes]],
    definition: bytes | None,
) -> tuple[RunRow, Claim | None]:
    made = connection.execute(
        "INSERT OR IGNORE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 1, NULL, 0, ?)",
        (
            row.id,
            row.task,
            row.definition,
            row.state,
            row.caller,
            row.created,
            row.updated,
            row.data,
            FIRST_FENCE,
            row.body,
        ),
    )
    if not made.rowcount:
        found = row_of(connection, row.id, ALL)
        assert found is not None
        return found, None
    if definition is not None:
        keep_definition(connection, row.definition, definition)
    if steps:
        connection.executemany(
            "INSERT INTO steps VALUES (?, ?, ?)", [(row.id, path, data) for path, data in steps]
        )
    return row, Claim(row, FIRST_FENCE, tuple(data for _, data in steps))


def row_of(connection: sqlite3.Connection, run: str, columns: str = COLUMNS) -> RunRow | None:
    found = connection.execute(f"SELECT {columns} FROM runs WHERE id = ?", (run,)).fetchone()
    return None if found is None else RunRow(*found)


def commit(connection: sqlite3.Connection, change: RunChange) -> bool:
    """Commit a change; return whether the run can be claimed at once, as it has messages."""
    row = change.row
    over = row.state in ENDED
    place = OVER if over else PARKED if change.parked else CLAIMED
    due = change.due if place == PARKED else None
    changed = connection.execute(
        "UPDATE runs SET definition = ?, state = ?, updated = ?, data = ?, place = ?, due = ?, "
        "signals = ?, body = ? "
        "WHERE id = ? AND fence = ? AND place = 1",
        (
            row.definition,
            row.state,
            row.updated,
            row.data,
            place,
            due,
            row.signals,
            row.body,
            row.id,
            change.fence,
        ),
    )
    if not changed.rowcount:
        raise FenceLost(f"the run {row.id!r} is not this service's any more")
    if change.definition is not None:
        keep_definition(connection, row.definition, change.definition)
    kept = [(row.id, path, data) for path, data in change.steps if data is not None]
    if kept:
        connection.executemany("INSERT OR REPLACE INTO steps VALUES (?, ?, ?)", kept)
    removed = [(row.id, path) for path, data in change.steps if data is None]
    if removed:
        connection.executemany("DELETE FROM steps WHERE run = ? AND path = ?", removed)
    if change.consumed:
        connection.executemany(
            "DELETE FROM messages WHERE number = ?", [(number,) for number in change.consumed]
        )
    if place == CLAIMED:
        return False
    if place == OVER:
        # What came too late; a request to go on is there for a claim.
        connection.execute("DELETE FROM messages WHERE run = ? AND kind != 'retry'", (row.id,))
    waiting = connection.execute("SELECT 1 FROM messages WHERE run = ? LIMIT 1", (row.id,))
    if waiting.fetchone() is None:
        return False
    connection.execute("UPDATE runs SET place = 0 WHERE id = ?", (row.id,))
    return True


def claim(
    connection: sqlite3.Connection, now: float, limit: int
) -> tuple[list[Claim], float | None]:
    ids = [
        id
        for (id,) in connection.execute(
            "SELECT id FROM runs WHERE place = 0 ORDER BY created LIMIT ?", (limit,)
        )
    ]
    if len(ids) < limit:
        ids += [
            id
            for (id,) in connection.execute(
                "SELECT id FROM runs WHERE place = 2 AND due IS NOT NULL AND due <= ? "
                "ORDER BY due LIMIT ?",
                (now, limit - len(ids)),
            )
        ]
    claims = []
    size = 0
    for id in ids:
        if size > CLAIM_BYTES:
            break
        connection.execute("UPDATE runs SET place = 1, fence = fence + 1 WHERE id = ?", (id,))
        found = connection.execute(f"SELECT {ALL}, fence FROM runs WHERE id = ?", (id,))
        *columns, fence = found.fetchone()
        row, kept, told = RunRow(*columns), steps(connection, id), messages(connection, id)
        claims.append(Claim(row, fence, tuple(kept), tuple(told)))
        size += len(row.data) + len(row.body) + sum(map(len, kept))
        size += sum(len(one.data) for one in told)
    due = connection.execute(
        "SELECT min(due) FROM runs WHERE place = 2 AND due IS NOT NULL"
    ).fetchone()[0]
    free = connection.execute("SELECT 1 FROM runs WHERE place = 0 LIMIT 1").fetchone()
    return claims, now if free else due


def steps(connection: sqlite3.Connection, run: str) -> list[bytes]:
    return [data for (data,) in connection.execute("SELECT data FROM steps WHERE run = ?", (run,))]


def messages(connection: sqlite3.Connection, run: str) -> list[Message]:
    found = connection.execute(
        "SELECT kind, name, data, number FROM messages WHERE run = ? ORDER BY number", (run,)
    )
    return [Message(*row) for row in found]


def release(connection: sqlite3.Connection, runs: Mapping[str, int]) -> None:
    connection.executemany(
        "UPDATE runs SET place = 0 WHERE id = ? AND fence = ? AND place = 1", list(runs.items())
    )


def post(connection: sqlite3.Connection, run: str, message: Message) -> tuple[RunRow | None, bool]:
    """Store a message for a run; return the run, and whether it is claimed."""
    found = connection.execute(f"SELECT {COLUMNS}, place FROM runs WHERE id = ?", (run,)).fetchone()
    if found is None:
        return None, False
    *row, place = found
    if place == OVER and message.kind != "retry":
        return RunRow(*row), True  # it came too late, and changes nothing
    if message.kind == "retry":
        # From now on it runs: who asks for it next sees that.
        if row[3] not in RETRIED:
            return RunRow(*row), place == CLAIMED
        connection.execute("UPDATE runs SET state = ? WHERE id = ?", (RUNNING, run))
    if message.kind == "signal":
        text = "SELECT count(*) FROM messages WHERE run = ? AND kind = 'signal'"
        posted = connection.execute(text, (run,)).fetchone()[0]
        kept = connection.execute("SELECT signals FROM runs WHERE id = ?", (run,)).fetchone()[0]
        if posted + kept >= MOST_SIGNALS:
            raise RunFull(f"{MOST_SIGNALS} signals wait in the run {run!r} already")
    connection.execute(
        "INSERT INTO messages (run, kind, name, data) VALUES (?, ?, ?, ?)",
        (run, message.kind, message.name, message.data),
    )
    if place in (PARKED, OVER):
        connection.execute("UPDATE runs SET place = 0, due = NULL WHERE id = ?", (run,))
    return RunRow(*row), place == CLAIMED


def get(connection: sqlite3.Connection, run: str) -> tuple[RunRow, list[bytes]] | None:
    row = row_of(connection, run, ALL)
    return None if row is None else (row, steps(connection, run))


def condition(query: RunQuery, mark: str = "?") -> tuple[str, list[Any]]:
    """The SQL condition of a query, and the values of its placeholders.

    :param mark: the placeholder.
    """
    wheres: list[str] = []
    values: list[Any] = []

    def where(text: str, *given: Any) -> None:
        wheres.append(text)
        values.extend(given)

    if query.task is not None:
        where("task = ?", query.task)
    if query.state is not None:
        where("state = ?", query.state)
    if query.since is not None:
        where("created >= ?", query.since)
    if query.until is not None:
        where("created <= ?", query.until)
    mine: list[str] = []
    if query.caller is not None:
        mine.append("caller = ?")
        values.append(query.caller)
    if query.tasks is not None:
        # An empty list matches nothing. Only SQLite accepts it after IN.
        mine.append(f"task IN ({', '.join('?' * len(query.tasks)) or 'NULL'})")
        values.extend(query.tasks)
    if query.callerless:
        mine.append(f"(caller = '' AND task IN ({', '.join('?' * len(query.callerless))}))")
        values.extend(query.callerless)
    if mine:
        wheres.append(f"({' OR '.join(mine)})")
    if query.before is not None:
        where("(created, id) < (?, ?)", *query.before)
    text = f" WHERE {' AND '.join(wheres)}" if wheres else ""
    return text.replace("?", mark), values


def list_runs(connection: sqlite3.Connection, query: RunQuery) -> list[RunRow]:
    where, values = condition(query)
    found = connection.execute(
        f"SELECT {COLUMNS} FROM runs{where} ORDER BY created DESC, id DESC LIMIT ?",
        (*values, query.limit),
    )
    return [RunRow(*row) for row in found]


def counts(connection: sqlite3.Connection) -> dict[str, int]:
    return dict(connection.execute("SELECT state, count(*) FROM runs GROUP BY state").fetchall())


def prune(connection: sqlite3.Connection, before: float, limit: int) -> int:
    old = connection.execute(
        "SELECT id FROM runs WHERE place = 3 AND updated < ? ORDER BY updated LIMIT ?",
        (before, limit),
    ).fetchall()
    # Not too many steps at a time: others wait for this transaction.
    rows = 0
    for at, one in enumerate(old):
        count = "SELECT count(*) FROM steps WHERE run = ?"
        rows += connection.execute(count, one).fetchone()[0]
        if rows > MOST_PRUNED and at:
            del old[at:]
            break
    for table, key in (("steps", "run"), ("messages", "run"), ("runs", "id")):
        connection.executemany(f"DELETE FROM {table} WHERE {key} = ?", old)
    if old:
        connection.execute(
            "DELETE FROM definitions WHERE NOT EXISTS "
            "(SELECT 1 FROM runs WHERE runs.definition = definitions.hash)"
        )
    return len(old)


def marks(connection: sqlite3.Connection) -> dict[str, float]:
    return dict(connection.execute("SELECT name, time FROM marks").fetchall())


def mark(connection: sqlite3.Connection, name: str, time: float) -> None:
    connection.execute("INSERT OR REPLACE INTO marks VALUES (?, ?)", (name, time))
