"""A connection to PostgreSQL, in its thread: transactions of many operations.

psycopg is used in a thread, not with asyncio. All operations of a turn are one transaction, so one
connection is enough, and the thread does nothing else.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
import psycopg
from psycopg import errors, sql

from pycomnet.errors import PycomnetError
from pycomnet.ext.workflow.errors import RunNotKept, RunStoreFailed
from pycomnet.ext.workflow.stores import postgresqlleases as leases
from pycomnet.ext.workflow.stores.batchedstore import Wanted
from pycomnet.ext.workflow.stores.postgresqlschema import prepare
from pycomnet.ext.workflow.stores.postgresqltables import GROUPED

# psycopg logs what it also raises. Without a handler that goes to standard error.
logging.getLogger("psycopg").addHandler(logging.NullHandler())

#: How often a transaction is tried if transactions of other services prevent it.
ATTEMPTS = 5
#: The next transaction renews the lease if this fraction of it has passed.
RENEW = 0.25
#: The most bytes of a notice; PostgreSQL takes 7,999.
MOST_NOTICE = 7_000
#: Classes of SQLSTATE for errors in the values of an operation: data, integrity, program limits.
VALUE_CLASSES = ("22", "23", "54")
#: SQLSTATEs for which a repetition of the same transaction may succeed: it could not be serialized,
#: it was in a deadlock, it did not get a lock in time.
LATER = ("40001", "40P01", "55P03")
#: The last of them, and how many operations of a transaction may fail by it alone: each has waited
#: for half a lease. With more, all fail, as somebody has locked a table.
LOCKED, MOST_LOCKED = "55P03", 2
#: The server is read-only now: after a failover, another server may be the primary.
READ_ONLY = "25006"


@attrs.frozen
class Done:
    """The outcome of a transaction.

    :ivar results: the result of each operation; for one that failed, its exception: it has changed
        nothing.
    :ivar renewed: whether the transaction renewed the lease.
    :ivar lost: whether the lease had ended before the transaction, and all claims with it.
    """

    results: Sequence[Any]
    renewed: bool
    lost: bool


class LeaseGone(Exception):
    """The service's lease is not there any more: the transaction is made again, with a new one."""


#: A clock that also counts the time for which the machine was suspended, where there is one.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def seconds() -> float:
    """The time by which a service knows whether its lease is over. Nobody can set it."""
    return time.clock_gettime(_CLOCK)


class RunSession:
    """The connection of a store. All but :meth:`interrupt` is called in the store's thread.

    :param conninfo: libpq's.
    :param schema: the name of the schema with the tables.
    :param lease: seconds.
    :param name: the store's, for errors.
    :ivar epoch: of the lease.
    :ivar lease: seconds.
    :ivar unsure: set when a connection was lost and nobody knows what was done; the store resets
        it.
    """

    def __init__(self, conninfo: Mapping[str, Any], schema: str, lease: float, name: str) -> None:
        self.schema = schema
        self.epoch = 0
        self._conninfo = conninfo
        self.lease = lease
        self._name = name
        self._connection: psycopg.Connection[Any] | None = None
        #: the connection that the thread uses at the moment, for :meth:`interrupt`
        self._used: psycopg.Connection[Any] | None = None
        self._renewed = 0.0
        self._notices: list[list[Any]] = []
        self.unsure = False
        #: whether operations have begun: if the connection is lost then, they may count
        self._begun = False
        #: whether the lease was found to be gone, and no transaction with a new one is known to be
        #: committed
        self._gone = False

    # -- for statements --------------------------------------------------------------------------

    def execute(self, text: str, values: Sequence[Any] = ()) -> psycopg.Cursor[Any]:
        """Run a statement."""
        assert self._connection is not None
        return self._connection.execute(text, values, binary=True)

    def notify(self, kind: str, *runs: str) -> None:
        """Notify the other services when the transaction is committed."""
        if runs or [kind] not in self._notices:
            self._notices.append([kind, *runs])

    # -- transactions ----------------------------------------------------------------------------

    def transact(self, wanted: Sequence[Wanted]) -> Done:
        """Do all operations in one transaction. If one fails, only that one is undone.

        :raises RunStoreFailed: nothing was changed.
        :raises psycopg.Error: nothing was changed; or, if ``unsure`` is set, nobody knows.
        """
        try:
            return self._attempt(wanted)
        except Exception as problem:
            if not is_of_value(problem):
                raise
            # Of no single operation, such as a lack of file descriptors: it may go well later.
            text = f"{self._name}: {type(problem).__name__}: {problem!s:.500}"
            raise RunStoreFailed(" ".join(text.split())) from problem

    def _attempt(self, wanted: Sequence[Wanted]) -> Done:
        do = _together
        for attempt in range(ATTEMPTS):
            kept = self._connection is not None
            self._begun = False
            try:
                return self._transact(wanted, do)
            except Exception as problem:
                self._undo(problem)
                state = getattr(problem, "sqlstate", None) or ""
                last = attempt == ATTEMPTS - 1
                if isinstance(problem, LeaseGone):
                    if last:
                        raise RunStoreFailed(f"{self._name}: its leases end at once") from None
                elif self._connection is None:
                    # Lost while nothing was asked of it, it is made anew.
                    if not kept or self._begun or last:
                        self.unsure = self.unsure or self._begun
                        raise
                elif state in LATER and not last:
                    if state == LOCKED:
                        do = _each  # the others need not wait for who has locked a run
                elif is_of_value(problem) and do is not _each:
                    # One of them is wrong: once more, so that each can be undone alone.
                    do = _each
                else:
                    raise
        raise AssertionError("not reached")

    def _transact(
        self, wanted: Sequence[Wanted], do: Callable[[RunSession, Sequence[Wanted]], list[Any]]
    ) -> Done:
        if self._connection is None:
            self._connection = self.connect()
            prepare(self._connection, self.schema, self._name)
        self._used = self._connection
        before, now = self.epoch, seconds()
        try:
            if do is _each:  # which has to know at each savepoint how it has gone
                done = self._try(wanted, do, now)
            else:
                with self._connection.pipeline():
                    done = self._try(wanted, do, now)
        except BaseException:
            self.epoch = before
            raise
        # By now it is committed. Before, nothing that it says about the lease is to be relied on.
        self._gone = False
        if done.renewed:
            self._renewed = now
        results = [one() if isinstance(one, partial) else one for one in done.results]
        return attrs.evolve(done, results=results)

    def _try(
        self,
        wanted: Sequence[Wanted],
        do: Callable[[RunSession, Sequence[Wanted]], list[Any]],
        now: float,
    ) -> Done:
        self._notices = []
        lost = self._gone
        renewing = now - self._renewed > self.lease * RENEW
        # The statements rely on it that each sees what was committed before it, whatever is the
        # default of the database or of the role.
        self.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
        lease = None
        if self.epoch == 0 or lost:
            self.epoch = leases.enlist(self, self.lease)
        elif renewing:
            lease = leases.extend(self, self.epoch, self.lease)
        else:
            lease = leases.check(self, self.epoch)
        self._begun = True
        results = do(self, wanted)
        if lease is not None and lease.fetchone() is None:
            self._gone = True
            raise LeaseGone
        self._send()
        self.execute("COMMIT")
        return Done(results, renewing or lease is None, lost)

    def _undo(self, problem: BaseException) -> None:
        """Roll back a transaction that has failed. If that fails, too, close the connection."""
        connection = self._connection
        if connection is None:
            return
        if getattr(problem, "sqlstate", None) != READ_ONLY and not connection.broken:
            try:
                connection.execute("ROLLBACK")
                return
            except psycopg.Error:
                pass
        self._connection = None
        with contextlib.suppress(psycopg.Error):
            connection.close()

    def _send(self) -> None:
        if not self._notices or not leases.others(self, self.epoch):
            return
        texts = [json.dumps([self.epoch, *one]) for each in self._notices for one in _short(each)]
        for text in texts:
            self.execute("SELECT pg_notify(%s, %s)", (self.schema, text))

    # -- the connection --------------------------------------------------------------------------

    def connect(self) -> psycopg.Connection[Any]:
        """A new connection.

        :raises psycopg.OperationalError: there is none to be had.
        """
        self._used = None
        connection = psycopg.Connection.connect(
            **self._conninfo, autocommit=True, prepare_threshold=3
        )
        self._used = connection
        # A service that stops in a transaction must not keep others from what it has locked.
        milliseconds = max(1_000, int(self.lease * 500))
        try:
            connection.execute(f"SET idle_in_transaction_session_timeout = {milliseconds}")
            connection.execute(f"SET lock_timeout = {milliseconds}")
        except BaseException:
            connection.close()
            raise
        return connection

    def listen(self) -> psycopg.Connection[Any]:
        """A connection of its own that listens to the other services.

        :raises psycopg.Error: there is none to be had.
        """
        connection = self.connect()
        try:
            connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self.schema)))
        except BaseException:
            connection.close()
            raise
        finally:
            self._used = None
        return connection

    def interrupt(self) -> None:
        """Have what the thread does fail, as it takes too long: the server may not answer at all.
        This is called in another thread."""
        connection = self._used
        if connection is None or connection.closed:
            return
        with (
            contextlib.suppress(OSError, psycopg.Error),
            socket.socket(fileno=os.dup(connection.fileno())) as copy,
        ):
            copy.shutdown(socket.SHUT_RDWR)

    def close(self, leaving: bool) -> None:
        """Close the connection.

        :param leaving: whether the claims are to be ended before.
        """
        try:
            if leaving and self.epoch:
                self.transact([(leases.leave, ())])
        finally:
            connection, self._connection = self._connection, None
            self.epoch = 0
            self._gone = False
            if connection is not None:
                connection.close()


def _together(session: RunSession, wanted: Sequence[Wanted]) -> list[Any]:
    """Execute operations. Operations of the same kind on different runs are one statement, even if
    there are operations on other runs between them. An operation that raises a PycomnetError has
    not written anything."""
    results: list[Any] = [None] * len(wanted)
    group: dict[Any, list[int]] = {}
    runs: set[str] = set()

    def flush() -> None:
        for kind, places in group.items():
            found = GROUPED[kind][0](session, [wanted[at][1] for at in places])
            for at, result in zip(places, found, strict=True):
                results[at] = result
        group.clear()
        runs.clear()

    for at, (function, args) in enumerate(wanted):
        if function in GROUPED:
            run = GROUPED[function][1](args)
            if run in runs:
                flush()
            runs.add(run)
            group.setdefault(function, []).append(at)
            continue
        flush()
        try:
            results[at] = function(session, *args)
        except PycomnetError as problem:
            results[at] = problem
    flush()
    return results


def _each(session: RunSession, wanted: Sequence[Wanted]) -> list[Any]:
    """Execute operations one by one, each with a savepoint, so that each can be undone alone."""
    results: list[Any] = []
    locked = 0
    for function, args in wanted:
        session.execute("SAVEPOINT one")
        try:
            result = function(session, *args)
        except Exception as problem:
            locked += getattr(problem, "sqlstate", None) == LOCKED
            is_alone = isinstance(problem, PycomnetError | errors.LockNotAvailable)
            if locked > MOST_LOCKED or not (is_alone or is_of_value(problem)):
                raise
            session.execute("ROLLBACK TO one")
            result = problem
        session.execute("RELEASE one")
        results.append(result)
    return results


def _short(notice: list[Any]) -> Iterator[list[Any]]:
    """Split a notice into notices that PostgreSQL takes."""
    kind, *runs = notice
    part: list[Any] = [kind]
    size = 0
    for run in runs:
        length = len(json.dumps(run))
        if size + length > MOST_NOTICE and len(part) > 1:
            yield part
            part, size = [kind], 0
        part.append(run)
        size += length + 2
    yield part


def is_of_value(problem: BaseException) -> bool:
    """Whether an error comes from the values of an operation, and not from the server."""
    if isinstance(problem, PycomnetError):
        return False
    if not isinstance(problem, psycopg.Error):
        return True
    if problem.sqlstate:
        return problem.sqlstate.startswith(VALUE_CLASSES)
    return isinstance(problem, psycopg.ProgrammingError | psycopg.DataError)


def as_text(problem: BaseException | None, name: str) -> PycomnetError:
    """Convert an error to the one that callers of the store get."""
    if isinstance(problem, PycomnetError):
        return problem
    text = " ".join(str(problem).split())
    if problem is not None and is_of_value(problem):
        return RunNotKept(f"{name}: it can't be kept or looked for: {text:.500}")
    if isinstance(problem, errors.InsufficientPrivilege):
        text += ": grant it to the service's role"
    return RunStoreFailed(f"{name}: {text:.500}")
