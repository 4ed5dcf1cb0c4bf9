"""The tables of the PostgreSQL store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import sql

from pycomnet.ext.workflow.errors import RunStoreFailed
from pycomnet.ext.workflow.stores.batchedstore import other_version

if TYPE_CHECKING:
    from psycopg import Connection

#: The version of the tables.
VERSION = 1
#: The first number of our advisory locks ("pcwf"); the second is of the schema's name.
LOCKS = 0x70637766

# If an UPDATE changes a column of any index, PostgreSQL writes all indexes of the table. So the
# columns that each commit changes (updated, data) are in no index, and the fill factor leaves room
# on the page for the next version of a row.
SCHEMA = """
CREATE TABLE about (version int NOT NULL);
CREATE TABLE services (
    epoch bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    lease float8 NOT NULL,          -- seconds
    expires timestamptz NOT NULL    -- by the server's clock
);
CREATE TABLE runs (
    id text COLLATE "C" PRIMARY KEY,
    task text NOT NULL,
    definition text NOT NULL,
    state text NOT NULL,
    caller text NOT NULL,
    created float8 NOT NULL,
    updated float8 NOT NULL,
    data bytea NOT NULL,
    signals int NOT NULL,           -- that wait in it
    body bytea NOT NULL,
    fence bigint NOT NULL,
    place int2 NOT NULL,            -- as in the SQLite store
    due float8,                     -- of a parked run: when it is due
    owner bigint,                   -- of a claimed run: the epoch of its service
    ended float8                    -- of one that has ended: when
) WITH (fillfactor = 70);
CREATE INDEX runs_created ON runs (created, id);
CREATE INDEX runs_state ON runs (state, created, id);
CREATE INDEX runs_ended ON runs (ended) WHERE ended IS NOT NULL;
CREATE INDEX runs_free ON runs (created) WHERE place = 0;
CREATE INDEX runs_owner ON runs (owner) WHERE owner IS NOT NULL;
CREATE INDEX runs_due ON runs (due) WHERE due IS NOT NULL;
CREATE INDEX runs_definition ON runs (definition);
CREATE TABLE steps (
    run text COLLATE "C" NOT NULL,
    path text COLLATE "C" NOT NULL, -- a long one is hashed; data has the path itself
    data bytea NOT NULL,
    PRIMARY KEY (run, path)
) WITH (fillfactor = 70);
CREATE TABLE messages (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run text COLLATE "C" NOT NULL,
    kind text NOT NULL,
    name text NOT NULL,
    data bytea NOT NULL
);
CREATE INDEX messages_run ON messages (run);
CREATE TABLE definitions (hash text COLLATE "C" PRIMARY KEY, data bytea NOT NULL);
CREATE TABLE marks (name text COLLATE "C" PRIMARY KEY, time float8 NOT NULL);
INSERT INTO about VALUES (1)
"""


def prepare(connection: Connection[Any], schema: str, where: str) -> None:
    """Make a connection use a schema. The schema and its tables are created if they do not exist.

    :param schema: its name.
    :param where: the store's name, for errors.
    :raises RunStoreFailed: the schema has other tables, or tables of another version; or the
        database does not use UTF-8.
    """
    encoding = connection.execute("SHOW server_encoding").fetchone()
    if encoding != ("UTF8",):
        raise RunStoreFailed(f"{where}: the database has to be of the encoding UTF8")
    connection.execute("SELECT set_config('search_path', quote_ident(%s), false)", (schema,))
    if _is_there(connection, schema, where):
        return
    with connection.transaction():
        # If services start at the same time, one of them creates the tables.
        connection.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (LOCKS, schema))
        if _is_there(connection, schema, where):
            return
        there = connection.execute("SELECT to_regnamespace(quote_ident(%s))", (schema,)).fetchone()
        if there == (None,):
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        connection.execute(SCHEMA)


def _is_there(connection: Connection[Any], schema: str, where: str) -> bool:
    tables = connection.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(quote_ident(%s)) "
        "AND relkind IN ('r', 'p', 'v', 'm', 'f')",
        (schema,),
    ).fetchall()
    if not tables:
        return False
    found = None
    if {("about",), ("services",), ("runs",)} <= set(tables):
        about = sql.Identifier(schema, "about")  # the error names the right that is lacking
        found = connection.execute(sql.SQL("SELECT version FROM {}").format(about)).fetchone()
    if found is None:
        raise RunStoreFailed(f"{where}: the schema {schema!r} is no workflow service's")
    if found != (VERSION,):
        raise other_version(where, found[0], VERSION)
    return True
