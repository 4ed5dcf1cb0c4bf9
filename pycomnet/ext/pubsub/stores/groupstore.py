"""Durable groups in an SQLite file: their owners, and which events they have acknowledged.

These functions run in the store's thread, which is the only one that uses the connection.
"""

from __future__ import annotations

from typing import Any

from pycomnet.errors import Overloaded
from pycomnet.ext.pubsub.stores import StoredGroup

#: The most groups in a file.
MAX_GROUPS = 10_000
#: Seconds after which a group that nobody has used makes room for a new one.
UNUSED = 30 * 86400.0


def find(connection: Any, owner: str, name: str) -> StoredGroup | None:
    """A user's group, or None."""
    query = "SELECT id, patterns, floor FROM groups WHERE owner = ? AND name = ?"
    row = connection.execute(query, (owner, name)).fetchone()
    if row is None:
        return None
    number, patterns, floor = row
    query = "SELECT sequence FROM acknowledged WHERE id = ? ORDER BY sequence"
    above = tuple(one for (one,) in connection.execute(query, (number,)))
    return StoredGroup(number, tuple(patterns.split(" ")), floor, above)


def add(
    connection: Any,
    owner: str,
    name: str,
    patterns: tuple[str, ...],
    floor: int,
    most: int,
    now: float,
) -> StoredGroup:
    """Create a group, in a transaction of its own.

    :param most: how many groups the owner may have.
    :raises Overloaded: there are too many groups, and none was unused for :data:`UNUSED` seconds.
    """
    with connection:  # ends the transaction
        connection.execute("BEGIN IMMEDIATE")
        mine = "SELECT count(*) FROM groups WHERE owner = ?"
        if connection.execute(mine, (owner,)).fetchone()[0] >= most:
            _forget(connection, "used < ? AND owner = ?", now - UNUSED, owner)
            count = connection.execute(mine, (owner,)).fetchone()[0]
            if count >= most:
                raise Overloaded(
                    f"this user has {count} durable groups, and may have no more: forget one"
                )
        if connection.execute("SELECT count(*) FROM groups").fetchone()[0] >= MAX_GROUPS:
            _forget(connection, "used < ?", now - UNUSED)
            count = connection.execute("SELECT count(*) FROM groups").fetchone()[0]
            if count >= MAX_GROUPS:
                raise Overloaded(f"there are {count} durable groups; the limit is {MAX_GROUPS}")
        number = connection.execute(
            "INSERT INTO groups (owner, name, patterns, floor, used) VALUES (?, ?, ?, ?, ?)",
            (owner, name, " ".join(patterns), floor, now),
        ).lastrowid
    return StoredGroup(number, patterns, floor)


def forget(connection: Any, owner: str, name: str) -> bool:
    """Forget a group and its position. Returns whether there was one."""
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        return _forget(connection, "owner = ? AND name = ?", owner, name) > 0


def _forget(connection: Any, where: str, *args: Any) -> int:
    """Delete the groups for which a condition holds. Returns how many were deleted.

    :param where: the condition in SQL; never from a client.
    """
    query = f"DELETE FROM acknowledged WHERE id IN (SELECT id FROM groups WHERE {where})"
    connection.execute(query, args)
    return int(connection.execute(f"DELETE FROM groups WHERE {where}", args).rowcount)


def keep_positions(
    connection: Any, floors: dict[int, int], above: list[tuple[int, int]], now: float
) -> None:
    """Write the positions of groups, within a transaction.

    :param floors: group -> the number up to which all events are acknowledged.
    :param above: pairs of a group and an acknowledged number above its floor. Groups that were
        deleted meanwhile are ignored.
    """
    if above:
        connection.executemany(
            "INSERT OR IGNORE INTO acknowledged SELECT id, ? FROM groups WHERE id = ?",
            [(sequence, number) for number, sequence in above],
        )
    for number, floor in floors.items():
        connection.execute(
            "UPDATE groups SET floor = max(floor, ?), used = ? WHERE id = ?", (floor, now, number)
        )
        connection.execute(
            "DELETE FROM acknowledged WHERE id = ? AND sequence <= ?", (number, floor)
        )
