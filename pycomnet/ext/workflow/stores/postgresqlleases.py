"""The leases of services on a PostgreSQL store: one row for each service, not one for each run.

A lease has an *epoch*, a number that the claims of its service name as their owner. The claims are
valid while the row exists. A service that finds that the lease of another one has ended deletes the
row, and frees the runs. Each transaction of a service begins with its row, and locks it, so that
the row exists until the commit. So the owner of a deleted row finds that in its next transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from pycomnet.ext.workflow.stores.postgresqltables import N_CLAIMABLE, release
from pycomnet.ext.workflow.stores.tables import FIRST_FENCE

if TYPE_CHECKING:
    from psycopg import Cursor

    from pycomnet.ext.workflow.stores.postgresqlsession import RunSession


@attrs.frozen
class Look:
    """What a service finds when it looks for what it was not notified of.

    :ivar posted: ids of its runs that have messages.
    :ivar ended: ids of the runs that have ended, of those that somebody waits for.
    :ivar freed: how many leases of other services had ended.
    :ivar next: seconds until the next lease of another service ends; None if there is no other.
    """

    posted: tuple[str, ...]
    ended: tuple[str, ...]
    freed: int
    next: float | None


def enlist(session: RunSession, lease: float) -> int:
    """Create a lease.

    :param lease: seconds.
    :returns: its epoch.
    """
    ((epoch,),) = session.execute(
        "INSERT INTO services (lease, expires) "
        "VALUES (%s, clock_timestamp() + make_interval(secs => %s)) RETURNING epoch",
        (lease, lease),
    ).fetchall()
    found: int = epoch
    return found


def extend(session: RunSession, epoch: int, lease: float) -> Cursor[Any]:
    """Renew a lease, and lock its row until the end of the transaction.

    :returns: gives one row if the lease exists, and none otherwise.
    """
    return session.execute(
        "UPDATE services SET expires = clock_timestamp() + make_interval(secs => %s) "
        "WHERE epoch = %s RETURNING epoch",
        (lease, epoch),
    )


def check(session: RunSession, epoch: int) -> Cursor[Any]:
    """Lock the row of a lease until the end of the transaction.

    :returns: gives one row if the lease exists, and none otherwise.
    """
    return session.execute("SELECT epoch FROM services WHERE epoch = %s FOR KEY SHARE", (epoch,))


def others(session: RunSession, epoch: int) -> bool:
    """Whether there are other services."""
    found = session.execute("SELECT EXISTS (SELECT FROM services WHERE epoch <> %s)", (epoch,))
    return found.fetchall() == [(True,)]


#: When the lease of a row of ``services`` ends. While the server was down nobody could renew: so
#: each lease lasts from the server's start at least, unless the server's clock was set back.
ENDS = (
    "greatest(expires, CASE WHEN pg_postmaster_start_time() <= clock_timestamp() "
    "THEN pg_postmaster_start_time() + make_interval(secs => lease) END)"
)


def reap(session: RunSession) -> tuple[int, float | None]:
    """Free the runs of services whose leases are over.

    :returns: how many services, and the seconds until the next lease ends.
    """
    # The server's clock was set back: without this, a dead service would keep its runs as long.
    session.execute(
        "UPDATE services SET expires = clock_timestamp() + make_interval(secs => lease) "
        "WHERE epoch IN (SELECT epoch FROM services WHERE epoch <> %s "
        "AND expires > clock_timestamp() + make_interval(secs => lease) "
        "FOR NO KEY UPDATE SKIP LOCKED)",
        (session.epoch,),
    )
    dead = session.execute(
        "DELETE FROM services WHERE epoch IN (SELECT epoch FROM services "
        f"WHERE epoch <> %s AND {ENDS} < clock_timestamp() FOR UPDATE SKIP LOCKED) "
        "RETURNING epoch",
        (session.epoch,),
    ).fetchall()
    if dead:
        session.execute(
            "UPDATE runs SET place = 0, owner = NULL WHERE owner = ANY(%s)",
            ([epoch for (epoch,) in dead],),
        )
        session.notify(N_CLAIMABLE)
    ((left,),) = session.execute(
        f"SELECT min(extract(epoch FROM {ENDS} - clock_timestamp()))::float8 FROM services "
        "WHERE epoch <> %s",
        (session.epoch,),
    ).fetchall()
    if left is not None and left < 0:
        _end_stopped(session)
    return len(dead), left


def _end_stopped(session: RunSession) -> None:
    """End the connections of services that have stopped while they were sending a transaction.

    A lease is over, and its row is locked. Usually the server ends such a transaction by itself
    (``idle_in_transaction_session_timeout``). But it does not count the time for which it waits for
    the next statement of a pipeline: then the session is "active", and waits for its client.
    """
    session.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE pid IN (SELECT pid FROM pg_locks WHERE relation = 'services'::regclass "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
        "AND mode IN ('RowShareLock', 'RowExclusiveLock')) "
        "AND pid <> pg_backend_pid() AND usename = current_user "
        "AND state = 'active' AND wait_event = 'ClientRead' "
        "AND state_change < clock_timestamp() - make_interval(secs => %s)",
        (session.lease / 2,),
    )


def look(session: RunSession, awaited: Collection[str]) -> Look:
    """Look for what a service may not have been notified of.

    :param awaited: ids of the runs for whose end somebody waits.
    """
    freed, left = reap(session)
    posted = session.execute(
        "SELECT DISTINCT run FROM messages JOIN runs ON runs.id = messages.run "
        "WHERE runs.owner = %s",
        (session.epoch,),
    ).fetchall()
    ended: list[tuple[str]] = []
    if awaited:
        text = "SELECT id FROM runs WHERE id = ANY(%s) AND place = 3"
        ended = session.execute(text, (list(awaited),)).fetchall()
    return Look(tuple(id for (id,) in posted), tuple(id for (id,) in ended), freed, left)


def claimed(session: RunSession) -> dict[str, int]:
    """The runs that this service has claimed: id -> fence."""
    text = "SELECT id, fence FROM runs WHERE owner = %s"
    return dict(session.execute(text, (session.epoch,)).fetchall())


def free(session: RunSession, runs: Mapping[str, int]) -> None:
    """Free runs of this service that its runner does not know, because the answer was lost.

    A run that is as it was created loses its steps: the runner never had it, and has called none of
    them. So it begins anew, and no step is taken for one that may have run.

    :param runs: id -> fence.
    """
    new = [run for run, fence in runs.items() if fence == FIRST_FENCE]
    if new:
        session.execute(
            "DELETE FROM steps USING runs WHERE runs.id = ANY(%s) AND runs.id = steps.run "
            "AND runs.fence = %s AND runs.owner = %s",
            (new, FIRST_FENCE, session.epoch),
        )
    release(session, runs)


def leave(session: RunSession) -> None:
    """End all claims of this service, and its lease."""
    freed = session.execute(
        "UPDATE runs SET place = 0, owner = NULL WHERE owner = %s", (session.epoch,)
    )
    session.execute("DELETE FROM services WHERE epoch = %s", (session.epoch,))
    if freed.rowcount:
        session.notify(N_CLAIMABLE)
