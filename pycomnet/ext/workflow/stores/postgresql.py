"""A store of runs in a PostgreSQL database, which several workflow services share.

Each service has a lease: a row that it renews. Its claims are valid while the row exists. Another
service that finds that the lease has ended deletes the row, and frees the runs. Every claim of a
run has a fence, which each commit checks. So a commit that comes too late changes nothing.
"""

from __future__ import annotations

import math
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict
from twisted.internet import defer
from twisted.internet.interfaces import IReactorFDSet, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from zope.interface import implementer

from pycomnet.deferred import deferred
from pycomnet.errors import PycomnetError
from pycomnet.ext.workflow.errors import RunStoreFailed
from pycomnet.ext.workflow.stores import postgresqlleases as leases
from pycomnet.ext.workflow.stores import postgresqltables as tables
from pycomnet.ext.workflow.stores.batchedstore import BatchedRunStore, Wanted
from pycomnet.ext.workflow.stores.postgresqlnotices import Notices
from pycomnet.ext.workflow.stores.postgresqlsession import Done, RunSession, as_text, seconds
from pycomnet.interfaces import IRunFollower, IRunStore
from pycomnet.services.threads import DaemonThreads
from pycomnet.text.logs import Logger
from pycomnet.text.similar import suggestion

log = Logger()

#: The schema with the tables, and the seconds of a lease, if the address does not say.
SCHEMA = "pycomnet_workflow"
LEASE = 10.0
#: The shortest and the longest lease, in seconds.
SHORTEST_LEASE, LONGEST_LEASE = 1.0, 3_600.0
#: The most bytes of a schema's name, as of every identifier.
LONGEST_SCHEMA = 63
#: Seconds after which the store closes a connection whose server does not answer.
STUCK = 60.0
#: Defaults for options of libpq that the address does not give. tcp_user_timeout is in
#: milliseconds, the other times are in seconds.
CONNECTION = {
    "application_name": "pycomnet-workflow",
    "client_encoding": "UTF8",
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}


@attrs.frozen
class Address:
    """Where a store is.

    :ivar conninfo: libpq's.
    :ivar schema: the name of the schema.
    :ivar lease: seconds.
    """

    conninfo: Mapping[str, Any] = attrs.field(repr=False)
    schema: str = SCHEMA
    lease: float = LEASE

    @classmethod
    def of(cls, rest: str) -> Address:
        """Read an address.

        :param rest: what follows the colon of ``postgresql:``.
        :raises RunStoreFailed: the address is not valid.
        """
        head, mark, query = rest.partition("?")
        own: dict[str, str] = {}
        kept, unknown = [], []
        known = {one.keyword.decode() for one in pq.Conninfo.get_defaults()} | {"schema", "lease"}
        for one in query.split("&") if mark else ():
            name, _, value = one.partition("=")
            if name in ("schema", "lease"):
                own[name] = urllib.parse.unquote(value)
            else:
                kept.append(one)
                if name not in known:
                    unknown.append(name)
        url = f"postgresql:{head}{'?' if kept else ''}{'&'.join(kept)}"
        try:
            if not head.startswith("//"):
                raise ValueError("it begins with postgresql://")
            conninfo = {**CONNECTION, **conninfo_to_dict(url)}
            schema = own.get("schema", SCHEMA)
            if not 0 < len(schema.encode()) <= LONGEST_SCHEMA or not schema.isprintable():
                raise ValueError(f"schema is a name of at most {LONGEST_SCHEMA} bytes")
            if schema == "$user":
                raise ValueError("$user is no name of a schema: a search path has another for it")
            return cls(conninfo, schema, _lease(own.get("lease")))
        except (ValueError, psycopg.ProgrammingError) as problem:
            text = " ".join(str(problem).split())
            if isinstance(problem, psycopg.Error) and ("@" in rest or "password" in rest):
                # libpq quotes what it can't read.
                text = "libpq can't read it, and here is no part of it, as it may have a password"
            for name in unknown if isinstance(problem, psycopg.Error) else ():
                if near := suggestion(name, sorted(known)):
                    text = f"there is no option {name}{near}"
                    break
            raise RunStoreFailed(
                f"expected postgresql://USER@HOST/DATABASE?schema=NAME&lease=SECONDS: {text}"
            ) from None

    @property
    def name(self) -> str:
        """The address for users, without a password."""
        found = self.conninfo
        user = f"{found['user']}@" if "user" in found else ""
        at = f"{user}{found.get('host', '')}"
        port = f":{found['port']}" if "port" in found else ""
        return f"postgresql://{at}{port}/{found.get('dbname', '')}?schema={self.schema}"


def _lease(text: str | None) -> float:
    if text is None:
        return LEASE
    expected = f"lease is a number of seconds from {SHORTEST_LEASE:g} to {LONGEST_LEASE:g}"
    if not text.isascii() or "_" in text:
        raise ValueError(expected)
    try:
        found = float(text)
    except ValueError:
        raise ValueError(expected) from None
    if not math.isfinite(found) or not SHORTEST_LEASE <= found <= LONGEST_LEASE:
        raise ValueError(expected)
    return found


@implementer(IRunStore)
class PostgreSQLRunStore(BatchedRunStore):
    """Keeps runs in a database."""

    def __init__(self, address: Address, reactor: IReactorTime) -> None:
        super().__init__(address.name, tables, reactor)
        self.lease: float = address.lease
        self._session = RunSession(address.conninfo, address.schema, address.lease, self.name)
        self._pool: DaemonThreads | None = None
        self._notices: Notices | None = None
        #: whether the connection that listens is being made
        self._listening = False
        self._held_until = 0.0
        #: whether it was, when the follower was last told
        self._told_held = True
        self._reaping: Any = None

    # -- beginning and end -----------------------------------------------------------------------

    @deferred
    async def open(self, follower: IRunFollower) -> None:
        self._follower = follower
        self._pool = DaemonThreads(1, 1, "pycomnet-runs")
        self._pool.start()
        self._closing = False
        try:
            await self._do(leases.claimed)  # a first transaction: the tables, and the lease
            await self._listen()
        except Exception as problem:
            await self.close()
            raise self._problem(problem) from None

    @deferred
    async def close(self) -> None:
        await self._finish()
        if self._reaping is not None and self._reaping.active():
            self._reaping.cancel()
        notices, self._notices = self._notices, None
        if notices is not None:
            notices.close()
        pool = self._pool
        if pool is None:
            return
        self._held_until = 0.0
        try:
            await self._in_thread(self._session.close, True)
        except Exception as problem:
            # Its lease ends by itself.
            log.warn("can't leave {store}: {problem}", store=self.name, problem=problem)
        finally:
            self._pool = None
            pool.stop()

    def _in_thread(self, function: Any, *args: Any) -> defer.Deferred[Any]:
        """Run a function in the store's thread. If it takes too long, the store closes the
        connection that the function uses."""
        threads: Any = self._reactor
        assert self._pool is not None
        running = deferToThreadPool(threads, self._pool, function, *args)
        watch = LoopingCall(self._session.interrupt)
        watch.clock = self._reactor
        watch.start(STUCK, now=False)  # more than once: it may try again, and be stuck again

        def over(result: Any) -> Any:
            watch.stop()
            return result

        return running.addBoth(over)

    # -- transactions ----------------------------------------------------------------------------

    def _problem(self, problem: BaseException | None) -> PycomnetError:
        return as_text(problem, self.name)

    def _transact(self, wanted: Sequence[Wanted]) -> defer.Deferred[Sequence[Any]]:
        begun = seconds()
        doing = self._in_thread(self._session.transact, wanted)
        return doing.addCallback(self._done, begun)

    def _done(self, done: Done, begun: float) -> Sequence[Any]:
        """Tell the follower what a transaction says about the lease. The callers get their results
        afterwards."""
        if done.lost:
            log.error("the lease at {store} has ended: its runs are others'", store=self.name)
            self._follower.lost(tuple(self._follower.claims()))
            self._follower.claimable()
        if done.renewed:
            self._held_until = begun + self.lease
            if not self._told_held:
                self._told_held = True
                self._follower.renewed()
        if self._session.unsure and not self._closing:
            self._session.unsure = False
            self._do(leases.claimed, then=self._free_unknown).addErrback(self._not_freed)
        return done.results

    def _free_unknown(self, claimed: Mapping[str, int]) -> None:
        """Free the runs whose claims this service does not know, because the connection was lost
        before the answer came.

        :param claimed: id -> fence, as the database has it.
        """
        known = self._follower.claims()
        unknown = {run: fence for run, fence in claimed.items() if known.get(run) != fence}
        if unknown:
            self._do(leases.free, unknown, bounded=False).addCallbacks(
                lambda _: self._follower.claimable(), self._not_freed
            )

    def _not_freed(self, failure: Failure) -> None:
        failure.trap(RunStoreFailed)
        self._session.unsure = True

    # -- leases ----------------------------------------------------------------------------------

    @property
    def held(self) -> bool:
        held = seconds() < self._held_until
        if not held and self._told_held:
            self._told_held = False
            log.warn("the lease at {store} is over: no call begins", store=self.name)
        return held

    def renew(self) -> defer.Deferred[None]:
        if self._notices is None:
            listening = defer.Deferred.fromCoroutine(self._listen())
            # It was logged that there are no notices; the next renewal tries again.
            listening.addErrback(lambda failure: failure.trap(Exception))
        return self._do(leases.look, list(self._follower.awaited()), then=self._looked)

    def _looked(self, found: leases.Look) -> None:
        for run in found.posted:
            self._follower.posted(run)
        for run in found.ended:
            self._follower.ended(run)
        self._reaped((found.freed, found.next))

    def _reaped(self, found: tuple[int, float | None]) -> None:
        freed, left = found
        if freed:
            log.info("{count} services have ended: their runs are free", count=freed)
            self._follower.claimable()
        if self._reaping is not None and self._reaping.active():
            self._reaping.cancel()
        if left is not None and not self._closing:
            # One that is over is locked by now: a transaction seldom takes long.
            delay = min(max(left, self.lease / 100), self.lease) + 0.05
            self._reaping = self._reactor.callLater(delay, self._reap)

    def _reap(self) -> None:
        """Look whether the lease of another service has ended. It may have been renewed since."""
        if not self._closing:
            self._do(leases.reap, then=self._reaped).addErrback(
                lambda failure: failure.trap(RunStoreFailed)
            )

    # -- notices ---------------------------------------------------------------------------------

    async def _listen(self) -> None:
        if self._listening or self._closing:
            return
        self._listening = True
        try:
            connection = await self._in_thread(self._session.listen)
        finally:
            self._listening = False
        if self._closing:
            connection.close()
            return
        reactor = IReactorFDSet(self._reactor)
        try:
            self._notices = Notices(connection, self._told, self._deaf, reactor)
        except OSError:
            connection.close()
            raise

    def _deaf(self, problem: str) -> None:
        """The connection that listens was lost. The next ``renew`` connects again, and looks for
        what the lost notices were about."""
        self._notices = None
        if not self._closing:
            log.warn("no notices from {store}: {problem}", store=self.name, problem=problem)

    def _told(self, epoch: int, kind: str, runs: Sequence[str]) -> None:
        if self._closing or epoch == self._session.epoch:
            return  # this service has sent it
        if kind == tables.N_CLAIMABLE:
            self._follower.claimable()
        elif kind in (tables.N_POSTED, tables.N_ENDED):
            tell = self._follower.posted if kind == tables.N_POSTED else self._follower.ended
            for run in runs:
                tell(run)


def make_postgresql_store(rest: str, reactor: IReactorTime) -> PostgreSQLRunStore:
    """Make a store in a database.

    :raises RunStoreFailed: the address is not valid.
    """
    return PostgreSQLRunStore(Address.of(rest), reactor)
