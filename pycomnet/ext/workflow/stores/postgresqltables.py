"""The statements of the PostgreSQL store: each function does one thing, within a transaction.

``create_all`` and ``commit_all`` do the same for many runs, in one statement with arrays.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from pycomnet.ext.workflow.errors import FenceLost, RunFull, RunStoreFailed
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
from pycomnet.ext.workflow.stores.postgresqlschema import LOCKS
from pycomnet.ext.workflow.stores.tables import (
    ALL,
    CLAIM_BYTES,
    CLAIMED,
    COLUMNS,
    FIRST_FENCE,
    FREE,
    MOST_PRUNED,
    OVER,
    PARKED,
    condition,
)

if TYPE_CHECKING:
    from psycopg import Cursor

    from pycomnet.ext.workflow.stores.postgresqlsession import RunSession

#: A longer path of a step is hashed: an index entry can't be that long.
LONGEST_PATH = 500
#: How often a run is inserted, if the run that has its id is being removed.
MOST_TURNS = 5

#: Kinds of notices.
N_POSTED, N_CLAIMABLE, N_ENDED = "posted", "claimable", "ended"


def path_key(path: str) -> str:
    """The key of a step's path in the table."""
    if len(path) <= LONGEST_PATH:
        return path
    return f"sha256:{hashlib.sha256(path.encode()).hexdigest()}"


def keep_definitions(session: RunSession, found: Mapping[str, bytes]) -> None:
    if not found:
        return
    # A prune takes this lock exclusively. So it removes no definition that a new run refers to.
    session.execute(
        "SELECT pg_advisory_xact_lock_shared(%s, hashtext(%s))", (LOCKS + 1, session.schema)
    )
    hashes = sorted(found)
    session.execute(
        "INSERT INTO definitions SELECT * FROM unnest(%b::text[], %b::bytea[]) "
        "ON CONFLICT DO NOTHING",
        (hashes, [found[hash] for hash in hashes]),
    )


def definition(session: RunSession, hash: str) -> bytes | None:
    found = session.execute("SELECT data FROM definitions WHERE hash = %s", (hash,)).fetchone()
    return None if found is None else found[0]


# -- new runs ------------------------------------------------------------------------------------

New = tuple[RunRow, Sequence[tuple[str, bytes]], bytes | None]


def create(
    session: RunSession,
    row: RunRow,
    steps: Sequence[tuple[str, bytes]],
    definition: bytes | None,
) -> tuple[RunRow, Claim | None]:
    return create_all(session, [(row, steps, definition)])[0]


def create_all(session: RunSession, new: Sequence[New]) -> list[tuple[RunRow, Claim | None]]:
    """Make runs of different ids."""
    # Before the runs, because this may wait for a prune.
    keep_definitions(session, {row.definition: data for row, _, data in new if data is not None})
    rows = {row.id: row for row, _, _ in new}
    made: set[str] = set()
    there: dict[str, RunRow] = {}
    for _ in range(MOST_TURNS):
        left = [row for id, row in rows.items() if id not in made and id not in there]
        if not left:
            break
        made.update(_insert(session, left))
        taken = [row.id for row in left if row.id not in made]
        if taken:
            found = session.execute(f"SELECT {ALL} FROM runs WHERE id = ANY(%s)", (taken,))
            there.update({one[0]: RunRow(*one) for one in found.fetchall()})
    else:
        raise RunStoreFailed("a run of that id is being removed: try again")
    kept = [
        (row.id, path_key(path), data)
        for row, steps, _ in new
        if row.id in made
        for path, data in steps
    ]
    _keep_steps(session, kept)
    return [
        (row, Claim(row, FIRST_FENCE, tuple(data for _, data in steps)))
        if row.id in made
        else (there[row.id], None)
        for row, steps, _ in new
    ]


def _insert(session: RunSession, rows: Sequence[RunRow]) -> set[str]:
    """Insert runs; the ids of those that did not exist."""
    found = session.execute(
        "INSERT INTO runs (id, task, definition, state, caller, created, updated, data, signals, "
        "body, fence, place, owner) "
        "SELECT id, task, definition, state, caller, created, updated, data, 0, body, %s, 1, %s "
        "FROM unnest(%b::text[], %b::text[], %b::text[], %b::text[], %b::text[], %b::float8[], "
        "%b::float8[], %b::bytea[], %b::bytea[]) "
        "AS new (id, task, definition, state, caller, created, updated, data, body) "
        "ON CONFLICT (id) DO NOTHING RETURNING id",
        (
            FIRST_FENCE,
            session.epoch,
            [one.id for one in rows],
            [one.task for one in rows],
            [one.definition for one in rows],
            [one.state for one in rows],
            [one.caller for one in rows],
            [float(one.created) for one in rows],
            [float(one.updated) for one in rows],
            [one.data for one in rows],
            [one.body for one in rows],
        ),
    )
    return {id for (id,) in found.fetchall()}


def _keep_steps(session: RunSession, kept: Sequence[tuple[str, str, bytes]]) -> None:
    """Keep steps: run, path and data."""
    if kept:
        session.execute(
            "INSERT INTO steps SELECT * FROM unnest(%b::text[], %b::text[], %b::bytea[]) "
            "ON CONFLICT (run, path) DO UPDATE SET data = EXCLUDED.data",
            tuple([one[at] for one in kept] for at in range(3)),
        )


# -- commits -------------------------------------------------------------------------------------


def commit(session: RunSession, change: RunChange) -> bool:
    """Commit a change; whether the run can be claimed at once, because it has messages."""
    (found,) = commit_all(session, [(change,)])
    if isinstance(found, FenceLost):
        raise found
    return found if isinstance(found, bool) else found()


def _place(change: RunChange) -> int:
    return OVER if change.row.state in ENDED else PARKED if change.parked else CLAIMED


Committed = bool | FenceLost | Callable[[], bool]


def commit_all(session: RunSession, wanted: Sequence[tuple[RunChange]]) -> list[Committed]:
    """Commit changes of different runs.

    :returns: for each change, whether the run can be claimed at once, or a function that returns
        that after the transaction is committed, or the ``FenceLost`` with which it failed.
    """
    changes = [change for (change,) in wanted]
    counted = _update(session, changes)
    done = [one for one in changes if one.row.id in counted]
    keep_definitions(
        session, {one.row.definition: one.definition for one in done if one.definition is not None}
    )
    removed: list[tuple[str, str]] = []
    consumed: list[int] = []
    for change in done:
        consumed += change.consumed
        removed += [(change.row.id, path_key(path)) for path, data in change.steps if data is None]
    if removed:
        session.execute(
            "DELETE FROM steps USING unnest(%b::text[], %b::text[]) AS gone (run, path) "
            "WHERE steps.run = gone.run AND steps.path = gone.path",
            tuple([one[at] for one in removed] for at in range(2)),
        )
    if consumed:
        session.execute("DELETE FROM messages WHERE number = ANY(%s)", (consumed,))
    over = [one.row.id for one in done if _place(one) == OVER]
    if over:
        # What came too late; a request to go on is there for a claim.
        session.execute("DELETE FROM messages WHERE run = ANY(%s) AND kind <> 'retry'", (over,))
        session.notify(N_ENDED, *over)
    left = {*over, *(one.row.id for one in done if _place(one) == PARKED)}
    woken = _wake(session, left) if left else None
    results: list[Committed] = []
    for one in changes:
        id = one.row.id
        if id not in counted:
            results.append(FenceLost(f"the run {id!r} is not this service's any more"))
        elif woken is None or id not in left:
            results.append(False)
        else:
            results.append(partial(_is_woken, woken, id))
    return results


def _update(session: RunSession, changes: Sequence[RunChange]) -> set[str]:
    """Keep rows and steps: the ids of those whose fence is that of the present claim.

    The claim has to be this service's, too: if a run was removed, and another service has started
    one of the same id, its fences begin again.
    """
    places = [_place(one) for one in changes]
    rows = [one.row for one in changes]
    kept = [
        (change.row.id, path_key(path), data)
        for change in changes
        for path, data in change.steps
        if data is not None
    ]
    found = session.execute(
        # A body that is the same is not written anew.
        "WITH counted AS ("
        "UPDATE runs SET definition = new.definition, state = new.state, updated = new.updated, "
        "data = new.data, place = new.place, due = new.due, signals = new.signals, "
        "body = CASE WHEN runs.body = new.body THEN runs.body ELSE new.body END, "
        "owner = CASE WHEN new.place = 1 THEN runs.owner END, "
        "ended = CASE WHEN new.place = 3 THEN new.updated END "
        "FROM unnest(%b::text[], %b::bigint[], %b::text[], %b::text[], %b::float8[], %b::bytea[], "
        "%b::int2[], %b::float8[], %b::int[], %b::bytea[]) "
        "AS new (id, fence, definition, state, updated, data, place, due, signals, body) "
        "WHERE runs.id = new.id AND runs.fence = new.fence AND runs.place = 1 "
        "AND runs.owner = %s RETURNING runs.id"
        "), kept AS ("
        "INSERT INTO steps SELECT new.run, new.path, new.data "
        "FROM unnest(%b::text[], %b::text[], %b::bytea[]) AS new (run, path, data) "
        "JOIN counted ON counted.id = new.run "
        "ON CONFLICT (run, path) DO UPDATE SET data = EXCLUDED.data"
        ") SELECT id FROM counted",
        (
            [one.id for one in rows],
            [one.fence for one in changes],
            [one.definition for one in rows],
            [one.state for one in rows],
            [float(one.updated) for one in rows],
            [one.data for one in rows],
            places,
            [
                float(one.due) if place == PARKED and one.due is not None else None
                for one, place in zip(changes, places, strict=True)
            ],
            [one.signals for one in rows],
            [one.body for one in rows],
            session.epoch,
            *([one[at] for one in kept] for at in range(3)),
        ),
    )
    return {id for (id,) in found.fetchall()}


def _wake(session: RunSession, runs: Collection[str]) -> Cursor[Any]:
    """Make those of the runs claimable that have messages. Nobody has claimed them."""
    # A separate statement: it sees messages that were committed while the one before it waited for
    # the lock of the row.
    return session.execute(
        "UPDATE runs SET place = 0, due = NULL WHERE id = ANY(%s) "
        "AND EXISTS (SELECT FROM messages WHERE messages.run = runs.id) RETURNING id",
        (list(runs),),
    )


def _is_woken(woken: Cursor[Any], run: str) -> bool:
    if woken.rownumber:
        woken.scroll(0, "absolute")
    return any(id == run for (id,) in woken.fetchall())


# -- claims --------------------------------------------------------------------------------------

_SIZES = (
    "octet_length(data) + octet_length(body) "
    "+ coalesce((SELECT sum(octet_length(s.data)) FROM steps s WHERE s.run = runs.id), 0) "
    "+ coalesce((SELECT sum(octet_length(m.data)) FROM messages m WHERE m.run = runs.id), 0)"
)


def claim(session: RunSession, now: float, limit: int) -> tuple[list[Claim], float | None]:
    found = session.execute(
        f"SELECT id, {_SIZES} FROM runs WHERE place = 0 ORDER BY created LIMIT %s "
        "FOR NO KEY UPDATE SKIP LOCKED",
        (limit,),
    ).fetchall()
    if len(found) < limit:
        found += session.execute(
            f"SELECT id, {_SIZES} FROM runs WHERE place = 2 AND due <= %s ORDER BY due LIMIT %s "
            "FOR NO KEY UPDATE SKIP LOCKED",
            (now, limit - len(found)),
        ).fetchall()
    ids: list[str] = []
    total = 0
    for id, size in found:
        if total > CLAIM_BYTES:
            break
        ids.append(id)
        total += size
    claims = _claim(session, ids) if ids else []
    ((due, free),) = session.execute(
        "SELECT (SELECT min(due) FROM runs WHERE due IS NOT NULL), "
        "EXISTS (SELECT FROM runs WHERE place = 0)"
    ).fetchall()
    # Free runs that were not found are locked by another service, which claims them.
    more = free and (len(ids) < len(found) or len(found) == limit)
    return claims, now if more else due


def _claim(session: RunSession, ids: Sequence[str]) -> list[Claim]:
    # All statements are sent before the first result is read.
    claimed = session.execute(
        "UPDATE runs SET place = 1, due = NULL, ended = NULL, owner = %s, fence = fence + 1 "
        f"WHERE id = ANY(%s) RETURNING {ALL}, fence",
        (session.epoch, list(ids)),
    )
    kept = session.execute("SELECT run, data FROM steps WHERE run = ANY(%s)", (list(ids),))
    posted = session.execute(
        "SELECT run, kind, name, data, number FROM messages WHERE run = ANY(%s) ORDER BY number",
        (list(ids),),
    )
    steps: dict[str, list[bytes]] = {}
    for run, data in kept.fetchall():
        steps.setdefault(run, []).append(data)
    told: dict[str, list[Message]] = {}
    for run, *message in posted.fetchall():
        told.setdefault(run, []).append(Message(*message))
    claims = {
        row[0]: Claim(
            RunRow(*row), fence, tuple(steps.get(row[0], ())), tuple(told.get(row[0], ()))
        )
        for *row, fence in claimed.fetchall()
    }
    return [claims[id] for id in ids]


def release(session: RunSession, runs: Mapping[str, int]) -> None:
    freed = session.execute(
        "UPDATE runs SET place = 0, owner = NULL "
        "FROM unnest(%b::text[], %b::bigint[]) AS given (id, fence) "
        "WHERE runs.id = given.id AND runs.fence = given.fence AND runs.place = 1 "
        "AND runs.owner = %s",
        (list(runs), list(runs.values()), session.epoch),
    )
    if freed.rowcount:
        session.notify(N_CLAIMABLE)


# -- messages ------------------------------------------------------------------------------------


def messages(session: RunSession, run: str) -> list[Message]:
    found = session.execute(
        "SELECT kind, name, data, number FROM messages WHERE run = %s ORDER BY number", (run,)
    )
    return [Message(*row) for row in found.fetchall()]


def post(session: RunSession, run: str, message: Message) -> tuple[RunRow | None, bool | None]:
    """Store a message for a run.

    :returns: the run, or None if there is none; and True if this service has claimed it, False if
        it can be claimed now, None if there is nothing to tell.
    """
    found = session.execute(
        f"SELECT {COLUMNS}, place, owner FROM runs WHERE id = %s FOR NO KEY UPDATE", (run,)
    ).fetchone()
    if found is None:
        return None, None
    *columns, place, owner = found
    row = RunRow(*columns)
    mine = owner == session.epoch if place == CLAIMED else False
    if place == OVER and message.kind != "retry":
        return row, None  # it came too late, and changes nothing
    if message.kind == "retry":
        # From now on it runs: who asks for it next sees that.
        if row.state not in RETRIED:
            return row, None
        session.execute("UPDATE runs SET state = %s WHERE id = %s", (RUNNING, run))
    if message.kind == "signal":
        text = "SELECT count(*) FROM messages WHERE run = %s AND kind = 'signal'"
        posted = session.execute(text, (run,)).fetchall()[0][0]
        if posted + row.signals >= MOST_SIGNALS:
            raise RunFull(f"{MOST_SIGNALS} signals wait in the run {run!r} already")
    session.execute(
        "INSERT INTO messages (run, kind, name, data) VALUES (%s, %s, %s, %s)",
        (run, message.kind, message.name, message.data),
    )
    if place == CLAIMED:
        if not mine:
            session.notify(N_POSTED, run)
        return row, True if mine else None
    if place != FREE:
        session.execute("UPDATE runs SET place = 0, due = NULL WHERE id = %s", (run,))
    session.notify(N_CLAIMABLE)
    return row, False


# -- looks ---------------------------------------------------------------------------------------


def row_of(session: RunSession, run: str, columns: str = COLUMNS) -> RunRow | None:
    found = session.execute(f"SELECT {columns} FROM runs WHERE id = %s", (run,)).fetchone()
    return None if found is None else RunRow(*found)


def get(session: RunSession, run: str) -> tuple[RunRow, list[bytes]] | None:
    row = row_of(session, run, ALL)
    if row is None:
        return None
    found = session.execute("SELECT data FROM steps WHERE run = %s", (run,))
    return row, [data for (data,) in found.fetchall()]


def list_runs(session: RunSession, query: RunQuery) -> list[RunRow]:
    where, values = condition(query, "%s")
    found = session.execute(
        f"SELECT {COLUMNS} FROM runs{where} ORDER BY created DESC, id DESC LIMIT %s",
        (*values, query.limit),
    )
    return [RunRow(*row) for row in found.fetchall()]


def counts(session: RunSession) -> dict[str, int]:
    return dict(session.execute("SELECT state, count(*) FROM runs GROUP BY state").fetchall())


def prune(session: RunSession, before: float, limit: int) -> int:
    found = session.execute(
        "SELECT id, (SELECT count(*) FROM steps WHERE run = runs.id) FROM runs "
        "WHERE place = 3 AND ended < %s ORDER BY ended LIMIT %s FOR UPDATE SKIP LOCKED",
        (before, limit),
    ).fetchall()
    old: list[str] = []
    rows = 0
    for id, steps in found:
        rows += steps
        if rows > MOST_PRUNED and old:
            break  # not too many at a time: others wait for this transaction
        old.append(id)
    for table, key in (("steps", "run"), ("messages", "run"), ("runs", "id")):
        session.execute(f"DELETE FROM {table} WHERE {key} = ANY(%s)", (old,))
    unused = (
        "FROM definitions WHERE NOT EXISTS "
        "(SELECT FROM runs WHERE runs.definition = definitions.hash)"
    )
    if old and session.execute(f"SELECT {unused} LIMIT 1").fetchone() is not None:
        session.execute(
            "SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (LOCKS + 1, session.schema)
        )
        # By now all runs that were being made can be seen.
        session.execute(f"DELETE {unused}")
    return len(old)


def marks(session: RunSession) -> dict[str, float]:
    return dict(session.execute("SELECT name, time FROM marks").fetchall())


def mark(session: RunSession, name: str, time: float) -> None:
    session.execute(
        "INSERT INTO marks VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET time = EXCLUDED.time",
        (name, float(time)),
    )


#: Function -> the function that does the same for many runs, and one that returns the id of the run
#: from the arguments.
GROUPED: Mapping[Any, tuple[Any, Any]] = {
    create: (create_all, lambda args: args[0].id),
    commit: (commit_all, lambda args: args[0].row.id),
}
