"""The PostgreSQL store of runs, on a real server."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs

import psycopg
from twisted.internet import defer
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from pycomnet.deferred import deferred
from pycomnet.ext.workflow.errors import FenceLost, RunStoreFailed
from pycomnet.ext.workflow.records import Message, RunChange
from pycomnet.ext.workflow.stores import make_run_store, postgresql, postgresqltables
from pycomnet.ext.workflow.stores import postgresqlleases as leases
from pycomnet.test.ext.workflow.conformance import Follower, KeptRunStoreConformance, row
from pycomnet.test.needs import REQUIRE_ALL, found
from pycomnet.test.postgresql import GUEST, PASSWORD, shared

#: Seconds of a lease: half of it is what a busy machine may take within a transaction.
LEASE = 4.0
#: Seconds that anything may take.
PATIENCE = 30.0
#: Why the tests are skipped, where they may be.
LACKING = (
    "PostgreSQL is not installed"
    if found("initdb") is None and not os.environ.get(REQUIRE_ALL)
    else None
)


def the_reactor() -> Any:
    """The reactor that trial runs."""
    from twisted.internet import reactor

    return reactor


class PostgreSQLRunStoreTests(KeptRunStoreConformance, TestCase):
    """Runs in a database."""

    pruning = postgresqltables

    skip = LACKING

    def setUp(self) -> None:
        self.address = shared().address()

    def make_store(self) -> Any:
        return make_run_store(self.address, the_reactor())

    @deferred
    async def test_long_paths_of_steps_are_kept(self) -> None:
        """A step's path may be longer than what an index takes."""
        store, _ = await self.opened()
        long = ["x" * 5_000 + end for end in "ab"]
        _, claim = await store.create(row(), [(long[0], b"1"), (long[1], b"2")])
        steps = ((long[0], b"3"), (long[1], None))
        await store.commit(RunChange(row(), claim.fence, steps))
        self.assertEqual((await store.get("a"))[1], [b"3"])

    @deferred
    async def test_what_waits_for_a_server_that_hangs_is_bounded(self) -> None:
        """While the server's process is stopped, no more is kept in memory than the bound; what is
        refused says so. When it goes on, all that waited is done."""
        store, _ = await self.opened()
        _, claim = await store.create(row())
        text = "SELECT pid FROM pg_stat_activity WHERE application_name = 'pycomnet-workflow'"
        pids = [pid for (pid,) in await deferToThread(shared().execute, text)]
        self.assertTrue(pids)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            hanging = store.counts()
            await deferLater(the_reactor(), 0)
            waiting = await self.check_refusals(store, claim, 1)
            self.assertFalse(any(one.called for one in (hanging, *waiting)))
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        await self.check_kept(store, [hanging, *waiting])


class Watcher(Follower):
    """A follower whose test waits for what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self._wanted: list[tuple[Any, Any]] = []

    def when(self, *wanted: Any) -> defer.Deferred[None]:
        """Fires when it is told that, from now on."""
        told: defer.Deferred[None] = defer.Deferred()
        told.addTimeout(PATIENCE, the_reactor())
        self._wanted.append((wanted, told))
        return told

    def _tell(self, *what: Any) -> None:
        self.told.append(what)
        there, self._wanted = self._wanted, []
        for wanted, told in there:
            if wanted == what:
                told.callback(None)
            else:
                self._wanted.append((wanted, told))

    def posted(self, run: str) -> None:
        self._tell("posted", run)

    def claimable(self) -> None:
        self._tell("claimable")

    def lost(self, runs: Any) -> None:
        self._tell("lost", *sorted(runs))

    def ended(self, run: str) -> None:
        self._tell("ended", run)

    def renewed(self) -> None:
        self._tell("renewed")


class SharedCase(TestCase):
    """Stores of several services over the same tables.

    :ivar server: what they are in.
    """

    skip = LACKING
    timeout = 4 * PATIENCE

    def setUp(self) -> None:
        self.server = shared()
        self.address = self.server.address(lease=LEASE)
        self.schema = schema_of(self.address)

    async def service(self, address: str | None = None) -> tuple[Any, Watcher]:
        """A service's store and its follower."""
        store, watcher = make_run_store(address or self.address, the_reactor()), Watcher()
        self.addCleanup(store.close)
        await store.open(watcher)
        return store, watcher

    def sql(self, text: str, *values: Any) -> Any:
        """Fires with the rows of a statement that another program runs."""
        text = text.replace("SCHEMA.", f"{self.schema}.")
        return deferToThread(self.server.execute, text, *values)


class LeaseTests(SharedCase):
    """Services that share runs."""

    @deferred
    async def test_runs_of_a_silent_service_go_to_another(self) -> None:
        """When a service renews no more, another is told that its runs can be claimed, within the
        time of a lease. What the first commits then is refused, it is told so, and it has a new
        lease."""
        first, told_first = await self.service()
        second, told_second = await self.service()
        _, claim = await first.create(row())
        told_first.has["a"] = claim.fence
        begun = the_reactor().seconds()
        self.assertTrue(first.held)
        free = told_second.when("claimable")
        await second.renew()
        self.assertEqual(await second.claim(10.0, 10), ([], None))
        while not free.called:  # a service that lives renews
            await deferLater(the_reactor(), LEASE / 4)
            await second.renew()
        self.assertLess(the_reactor().seconds() - begun, LEASE * 2)
        self.assertFalse(first.held)
        (again,), _ = await second.claim(10.0, 10)
        self.assertEqual((again.row, again.fence), (claim.row, claim.fence + 1))
        with self.assertRaises(FenceLost):
            await first.commit(RunChange(row(data=b"late"), claim.fence, (("s", b"late"),)))
        self.assertIn(("lost", "a"), told_first.told)
        self.assertIn(("renewed",), told_first.told)
        self.assertTrue(first.held)
        self.assertEqual(await second.get("a"), (claim.row, []))
        await second.commit(RunChange(row(data=b"new"), again.fence))
        # Its next runs are its own.
        await first.create(row("b"))
        self.assertEqual((await second.claim(10.0, 10))[0], [])

    @deferred
    async def test_run_that_was_freed_is_nobodys(self) -> None:
        """A commit is refused from when the lease is over, not only once another has the run."""
        first, _ = await self.service()
        second, _ = await self.service()
        _, claim = await first.create(row())
        await self.sql("UPDATE SCHEMA.services SET expires = now() - interval '1 day'")
        await self.sql("UPDATE SCHEMA.services SET lease = 0")
        free = second._follower.when("claimable")
        await second.renew()
        await free
        with self.assertRaises(FenceLost):
            await first.commit(RunChange(row(data=b"late"), claim.fence))
        (again,), _ = await second.claim(10.0, 10)
        self.assertEqual(again.row, claim.row)

    @deferred
    async def test_fence_of_a_run_of_another_service(self) -> None:
        """A run that was removed and started again at another service has the fences of the first;
        what the first service commits for it all the same is refused."""
        first, _ = await self.service()
        second, _ = await self.service()
        _, claim = await first.create(row())
        await self.sql("DELETE FROM SCHEMA.runs")
        _, other = await second.create(row(data=b"other"))
        self.assertEqual(other.fence, claim.fence)
        with self.assertRaises(FenceLost):
            await first.commit(RunChange(row(data=b"late"), claim.fence))
        await first.release({"a": claim.fence})
        await second.commit(RunChange(row(data=b"new"), other.fence))

    @deferred
    async def test_end_of_a_lease_is_told_though_the_answer_was_lost(self) -> None:
        """If the connection is lost in the transaction by which a service gets a new lease, it is
        told with the next that it has lost its runs."""
        store, told = await self.service()
        _, claim = await store.create(row())
        told.has["a"] = claim.fence
        await self.sql("DELETE FROM SCHEMA.services")
        lose_answer(self, store)
        with self.assertRaisesRegex(RunStoreFailed, "connection"):
            await store.marks()
        self.assertNotIn(("lost", "a"), told.told)
        await store.marks()
        self.assertIn(("lost", "a"), told.told)

    @deferred
    async def test_server_clock_that_was_set_back(self) -> None:
        """A lease that ends later than any can ends a lease's time from now."""
        await self.service()
        second, _ = await self.service()
        await self.sql("UPDATE SCHEMA.services SET expires = now() + interval '1 day'")
        await second.renew()
        text = "SELECT min(expires) < now() + interval '1 minute' FROM SCHEMA.services"
        self.assertEqual(await self.sql(text), [(True,)])

    @deferred
    async def test_leases_that_were_over_while_the_server_was_down_count(self) -> None:
        """All services have a lease's time from the server's start."""
        first, _ = await self.service()
        second, told = await self.service()
        _, claim = await first.create(row())
        # As if the server had begun just now: its start plus this lease is in the future.
        text = "UPDATE SCHEMA.services SET lease = 1e6, expires = now() - interval '1 day'"
        await self.sql(text)
        await second.renew()
        self.assertNotIn(("claimable",), told.told)
        await first.commit(RunChange(row(data=b"new"), claim.fence))

    @deferred
    async def test_service_that_leaves_frees_its_runs_at_once(self) -> None:
        """A service that stops ends its claims; the others are told."""
        first, _ = await self.service()
        _, told = await self.service()
        await first.create(row())
        free = told.when("claimable")
        await first.close()
        await free
        rows = await self.sql("SELECT owner, place FROM SCHEMA.runs")
        self.assertEqual(rows, [(None, 0)])
        self.assertEqual(len(await self.sql("SELECT FROM SCHEMA.services")), 1)

    @deferred
    async def test_runs_are_claimed_once(self) -> None:
        """Whoever claims at the same time, no run is claimed by two, and all are claimed."""
        maker, _ = await self.service()
        made = await defer.gatherResults([maker.create(row(f"r{n}")) for n in range(300)])
        await maker.release({claim.row.id: claim.fence for _, claim in made})
        stores = [(await self.service())[0] for _ in range(3)]
        found: list[str] = []
        while len(found) < 300:
            given = await defer.gatherResults([one.claim(10.0, 20) for one in stores])
            found += [claim.row.id for claims, _ in given for claim in claims]
        self.assertEqual(len(set(found)), 300)
        self.assertEqual(len(found), 300)

    @deferred
    async def test_same_id_is_one_run_of_all_services(self) -> None:
        """Services that start a run of the same id at the same time have started one."""
        stores = [(await self.service())[0] for _ in range(3)]
        for number in range(20):
            given = await defer.gatherResults([one.create(row(f"r{number}")) for one in stores])
            self.assertEqual(len([claim for _, claim in given if claim is not None]), 1)
            self.assertEqual({found.id for found, _ in given}, {f"r{number}"})

    @deferred
    async def test_who_has_a_run_is_told_of_its_messages(self) -> None:
        """A message that another service takes is told to the one that has the run; that it has
        ended is told to all."""
        first, told_first = await self.service()
        second, told_second = await self.service()
        _, claim = await first.create(row())
        posted = told_first.when("posted", "a")
        self.assertEqual((await second.post("a", Message("cancel"))).id, "a")
        await posted
        self.assertEqual(told_second.told, [])
        (message,) = await first.messages("a")
        ended = told_second.when("ended", "a")
        consumed = (message.number,)
        await first.commit(RunChange(row(state="cancelled"), claim.fence, consumed=consumed))
        await ended
        many = [f"{n}é" * 60 for n in range(200)]
        made = await defer.gatherResults([first.create(row(id)) for id in many])
        last = defer.gatherResults([told_second.when("ended", id) for id in many])
        for _, one in made:
            first.commit(RunChange(row(one.row.id, state="done"), one.fence))
        await last

    @deferred
    async def test_what_was_not_heard_is_found(self) -> None:
        """When the connection that listens is lost, the next renewal finds messages and ends, and
        listens again."""
        first, told_first = await self.service()
        second, told_second = await self.service()
        await first.create(row())
        _, other = await second.create(row("b"))
        listening = await self.sql(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
            "WHERE query = %s AND pid <> pg_backend_pid()",
            f'LISTEN "{self.schema}"',
        )
        self.assertEqual(listening, [(True,)] * 2)
        await second.post("a", Message("cancel"))
        await second.commit(RunChange(row("b", state="done"), other.fence))
        self.assertEqual(told_first.told, [])
        told_first.awaits = {"a", "b"}
        heard = defer.gatherResults([told_first.when("posted", "a"), told_first.when("ended", "b")])
        await first.renew()
        await heard
        await first.renew()  # by now it listens
        again = told_first.when("posted", "a")
        await second.post("a", Message("cancel"))
        await again
        self.assertEqual(told_second.told, [("ended", "b")])

    @deferred
    async def test_notices_that_are_wrong(self) -> None:
        """Whatever another program sends on the channel, what comes after it is told."""
        first, told = await self.service()
        second, _ = await self.service()
        await first.create(row())
        for text in (
            "",
            "5",
            "{}",
            '["1", "ended", "a"]',
            "[1, 2]",
            '[1, "posted", {}]',
            "[" * 7_000,
        ):
            await self.sql("SELECT pg_notify(%s, %s)", self.schema, text)
        posted = told.when("posted", "a")
        await second.post("a", Message("cancel"))
        await posted
        self.assertEqual(told.told, [("posted", "a")])

    @deferred
    async def test_no_definition_is_pruned_that_a_run_is_made_with(self) -> None:
        """While runs of a definition are made and removed, each has its definition."""
        maker, _ = await self.service()
        pruner, _ = await self.service()
        for number in range(40):
            making = maker.create(row(f"r{number}"), (), b"definition")
            _, (_, claim) = await defer.gatherResults([pruner.prune(1e9, 10), making])
            self.assertEqual(await maker.definition("d"), b"definition")
            await maker.commit(RunChange(row(claim.row.id, state="done"), claim.fence))
        await pruner.prune(1e9, 100)
        self.assertIsNone(await maker.definition("d"))


class TroubleTests(SharedCase):
    """What may happen to a connection and to a server."""

    @deferred
    async def test_lost_connection_is_made_anew(self) -> None:
        """A connection that is lost while nothing is asked of it is no error."""
        store, _ = await self.service()
        _, claim = await store.create(row())
        await self.end_connections()
        await store.commit(RunChange(row(data=b"new"), claim.fence))
        self.assertEqual((await store.get("a"))[0].data, b"new")

    async def end_connections(self) -> None:
        """End all connections of the tables' services."""
        ended = await self.sql(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
            "WHERE application_name = 'pycomnet-workflow'"
        )
        self.assertTrue(ended)

    @deferred
    async def test_connection_lost_in_a_transaction(self) -> None:
        """What was asked for then fails with what happened, has changed nothing, and may be asked
        for again."""
        store, _ = await self.service()
        _, claim = await store.create(row())
        with blocked(self.server, self.schema):
            commit = store.commit(RunChange(row(data=b"new"), claim.fence))
            await self.waiting_for_a_lock()
            await self.end_connections()
            with self.assertRaisesRegex(RunStoreFailed, "terminating connection"):
                await commit
        self.assertEqual((await store.get("a"))[0], claim.row)
        await store.commit(RunChange(row(data=b"new"), claim.fence))

    @deferred
    async def test_run_that_somebody_has_locked(self) -> None:
        """If another program has locked a run, what is asked for with it is done all the same."""
        store, told = await self.service()
        claims = [(await store.create(row(id)))[1] for id in "ab"]
        with psycopg.connect(self.server.dsn) as other:
            other.execute(f"SELECT FROM {self.schema}.runs WHERE id = 'a' FOR UPDATE")
            locked, free = (
                store.commit(RunChange(row(one.row.id, data=b"new"), one.fence)) for one in claims
            )
            with self.assertRaisesRegex(RunStoreFailed, "lock timeout"):
                await locked
            await free
            other.rollback()
        self.assertEqual([(await store.get(id))[0].data for id in "ab"], [b"\x00data", b"new"])
        self.assertTrue(store.held)
        self.assertEqual(told.told, [])

    async def waiting_for_a_lock(self) -> None:
        """Wait until a connection waits for a lock."""
        text = (
            "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
            "AND application_name = 'pycomnet-workflow'"
        )
        while not await self.sql(text):
            pass

    @deferred
    async def test_claims_that_nobody_was_told_of_are_freed(self) -> None:
        """If the connection is lost after a commit, before the answer, a run that was made by it is
        freed, and one that this service has is not. No step of the run that was freed was called:
        it has none, so that none is taken for one that may have run."""
        store, told = await self.service()
        steps = (("pay", b"begun"),)
        _, known = await store.create(row("known"), steps)
        told.has["known"] = known.fence
        lose_answer(self, store)
        with self.assertRaisesRegex(RunStoreFailed, "connection"):
            await store.create(row("unknown"), steps)
        free = told.when("claimable")
        await store.marks()
        await free
        (claim,), _ = await store.claim(10.0, 10)
        self.assertEqual((claim.row.id, claim.steps), ("unknown", ()))
        await store.commit(RunChange(row("known", data=b"new"), known.fence))
        self.assertEqual((await store.get("known"))[1], [b"begun"])

    @deferred
    async def test_claims_of_another_fence_are_freed(self) -> None:
        """A run that was claimed without an answer is freed also if this service has a former claim
        of it in mind."""
        store, told = await self.service()
        _, claim = await store.create(row(), (("pay", b"begun"),))
        told.has["a"] = claim.fence
        await store.release({"a": claim.fence})
        lose_answer(self, store)
        with self.assertRaisesRegex(RunStoreFailed, "connection"):
            await store.claim(10.0, 10)
        free = told.when("claimable")
        await store.marks()
        await free
        (again,), _ = await store.claim(10.0, 10)
        self.assertEqual((again.fence, again.steps), (claim.fence + 2, (b"begun",)))

    @deferred
    async def test_faults_that_are_of_no_operation(self) -> None:
        """A lack of file descriptors, or a queue of notices that is full, fails what was asked for,
        but not as something that can never be kept."""
        store, _ = await self.service()
        _, claim = await store.create(row())
        change = RunChange(row(data=b"new"), claim.fence)
        for name, problem in (
            ("_send", psycopg.errors.ProgramLimitExceeded("too many notifications")),
            ("connect", OSError(24, "Too many open files")),
        ):

            def failing(*args: Any, problem: Exception = problem) -> Any:
                raise problem

            patched = self.patch(store._session, name, failing)
            if name == "connect":
                await self.end_connections()
            with self.assertRaisesRegex(RunStoreFailed, str(problem.args[-1])) as caught:
                await store.commit(change)
            self.assertIs(type(caught.exception), RunStoreFailed)
            patched.restore()
            self.assertEqual((await store.get("a"))[0], claim.row)
        await store.commit(change)

    @deferred
    async def test_settings_of_others_do_not_count(self) -> None:
        """Whatever isolation level and encoding the role or the environment have, a store has those
        that it needs."""
        os.environ["PGCLIENTENCODING"] = "LATIN1"
        self.addCleanup(os.environ.pop, "PGCLIENTENCODING")
        options = urllib.parse.quote("-c default_transaction_isolation=serializable")
        store, _ = await self.service(f"{self.address}&options={options}")
        self.assertEqual((await store.create(row("ж")))[0].id, "ж")
        self.assertEqual(await store._do(isolation), "read committed")

    @deferred
    async def test_full_disk_fails_what_was_asked_for_and_later_works(self) -> None:
        """When the server can't write, what is written fails and changes nothing; and all goes on
        when it can again."""
        store, _ = await self.service()
        _, claim = await store.create(row())
        await self.sql(
            "CREATE FUNCTION SCHEMA.fill() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "RAISE EXCEPTION 'could not extend file: No space left on device' "
            "USING ERRCODE = 'disk_full'; END $$"
        )
        await self.sql(
            "CREATE TRIGGER fill BEFORE INSERT ON SCHEMA.steps EXECUTE FUNCTION SCHEMA.fill()"
        )
        change = RunChange(row(data=b"new"), claim.fence, (("s", b"1"),))
        with self.assertRaisesRegex(RunStoreFailed, "No space left") as caught:
            await store.commit(change)
        self.assertIs(type(caught.exception), RunStoreFailed)
        self.assertEqual(await store.get("a"), (claim.row, []))
        await self.sql("DROP TRIGGER fill ON SCHEMA.steps")
        await store.commit(change)
        self.assertEqual(await store.get("a"), (change.row, [b"1"]))

    @deferred
    async def test_server_that_does_not_answer_is_given_up(self) -> None:
        """A transaction that takes too long fails, and the next has a connection of its own."""
        self.patch(postgresql, "STUCK", 0.5)
        store, _ = await self.service()
        _, claim = await store.create(row())
        with blocked(self.server, self.schema), self.assertRaises(RunStoreFailed):
            await store.commit(RunChange(row(data=b"new"), claim.fence))
        self.assertEqual((await store.get("a"))[0], claim.row)

    @deferred
    async def test_server_that_never_answers_a_new_connection(self) -> None:
        """What takes a connection and then answers nothing, such as a pooler whose server is gone,
        is given up; and the store can be closed."""
        self.patch(postgresql, "STUCK", 0.5)
        with silent() as port:
            at = f"127.0.0.1:{port}/x?sslmode=disable&gssencmode=disable"
            await self.refused(f"postgresql://x@{at}", "closed")

    async def who_stops(self, stopping: Any) -> None:
        """A service that is stopped in a transaction is thrown out, so that its runs go to
        others."""
        store, told = await self.service()
        made: Any = make_run_store(self.address, the_reactor())
        session = made._session
        await deferToThread(session.transact, [(postgresqltables.create, (row(), (), None))])
        kept = await deferToThread(stopping, session)
        await self.sql(
            "UPDATE SCHEMA.services SET expires = '-infinity', lease = 0 WHERE epoch = %s",
            session.epoch,
        )
        free = told.when("claimable")
        while not free.called:
            await store.renew()
        (claim,), _ = await store.claim(10.0, 10)
        self.assertEqual(claim.row.id, "a")
        with self.assertRaises(psycopg.Error):
            await deferToThread(lambda: session.execute("SELECT 1").fetchall())
        await deferToThread(session.close, False)
        del kept

    @deferred
    async def test_who_stops_in_a_transaction_keeps_others_from_nothing(self) -> None:
        """The server waits for the next statement of the transaction."""
        await self.who_stops(begin_and_stop)

    @deferred
    async def test_who_stops_while_it_sends_a_transaction(self) -> None:
        """The server has not been told that it should answer."""
        await self.who_stops(begin_to_send_and_stop)

    @deferred
    async def test_server_that_is_not_there(self) -> None:
        """A store whose server is not there can't be opened, and says why."""
        address = self.address.replace(f"port={self.server.port}", "port=1")
        await self.refused(address, "No such file")
        await self.refused("postgresql://x@127.0.0.1:1/x", "refused")

    async def refused(self, address: str, text: str) -> None:
        """A store can't be opened, and says why, without the password."""
        store = make_run_store(address, the_reactor())
        with self.assertRaisesRegex(RunStoreFailed, text) as caught:
            await store.open(Watcher())
        self.assertNotIn("secret", str(caught.exception))
        await store.close()
        with self.assertRaises(RunStoreFailed):
            await store.marks()

    @deferred
    async def test_wrong_password(self) -> None:
        """A wrong password is refused, a right one is taken."""
        at = f"127.0.0.1:{self.server.port}/postgres?schema={self.schema}"
        await self.refused(f"postgresql://{GUEST}:secret@{at}", "password authentication failed")
        good = urllib.parse.quote(PASSWORD)
        store, _ = await self.service(f"postgresql://{GUEST}:{good}@{at}")
        self.assertNotIn(good, store.name)
        self.assertIn(f"{GUEST}@127.0.0.1:{self.server.port}/postgres", store.name)

    @deferred
    async def test_full_connection_limit(self) -> None:
        """A service for which there is no connection says so; one that has one goes on."""
        at = f"127.0.0.1:{self.server.port}/postgres?schema={self.schema}"
        address = f"postgresql://{GUEST}:{urllib.parse.quote(PASSWORD)}@{at}"
        store, _ = await self.service(address)
        await self.sql(f"ALTER ROLE {GUEST} CONNECTION LIMIT 2")
        self.addCleanup(self.sql, f"ALTER ROLE {GUEST} CONNECTION LIMIT -1")
        await self.refused(address, "too many connections")
        self.assertIsNotNone((await store.create(row()))[1])

    @deferred
    async def test_other_tables_are_not_touched(self) -> None:
        """A schema of another program, and one of another version, are refused as they are."""
        await self.sql(f"CREATE SCHEMA {self.schema}")
        await self.sql("CREATE TABLE SCHEMA.runs (mine int)")
        await self.refused(self.address, "no workflow service's")
        await self.sql("DROP TABLE SCHEMA.runs")
        store, _ = await self.service()
        await store.close()
        for version, advice in ((99, "use the newer"), (0, "begin with a new store")):
            await self.sql("UPDATE SCHEMA.about SET version = %s", version)
            said = f"has version {version} of the tables; this is for 1.*{advice}"
            await self.refused(self.address, said)

    @deferred
    async def test_role_that_may_not_is_told_so(self) -> None:
        """A role without rights on the tables is told which it lacks."""
        store, _ = await self.service()
        await store.close()
        at = f"127.0.0.1:{self.server.port}/postgres?schema={self.schema}"
        address = f"postgresql://{GUEST}:{urllib.parse.quote(PASSWORD)}@{at}"
        await self.refused(address, "permission denied for schema .*grant it")


def begin_and_stop(session: Any) -> None:
    """Begin a transaction that has the service's lease, and do nothing more."""
    session.execute("BEGIN")
    assert leases.check(session, session.epoch).fetchone()


def begin_to_send_and_stop(session: Any) -> Any:
    """As :func:`begin_and_stop`, in the pipeline that transactions are sent in: it ends with what
    is returned."""
    pipeline = session._connection.pipeline()
    pipeline.__enter__()
    begin_and_stop(session)
    return pipeline


def isolation(session: Any) -> Any:
    """The isolation level of a transaction."""
    return session.execute("SHOW transaction_isolation").fetchone()[0]


@contextmanager
def silent() -> Iterator[int]:
    """The port of a server that lets everybody in, and answers nothing more."""
    taken: list[socket.socket] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                one, _ = listening.accept()
                taken.append(one)
                one.recv(10_000)
                one.sendall(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I")  # come in; I am ready

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE)
            for one in taken:
                one.close()


def lose_answer(case: Any, store: Any) -> None:
    """Have the connection of a store be lost after the next commit."""
    session = store._session
    execute = session.execute

    def losing(text: str, values: Any = ()) -> Any:
        if text != "COMMIT":
            return execute(text, values)
        patched.restore()
        with session._connection.pipeline():  # at its end it is done
            execute(text, values)
        session.interrupt()
        return None

    patched = case.patch(session, "execute", losing)


@contextmanager
def blocked(server: Any, schema: str) -> Iterator[None]:
    """Another program has locked the runs."""
    with psycopg.connect(server.dsn) as other:
        other.execute(f"LOCK TABLE {schema}.runs")
        yield
        other.rollback()


def schema_of(address: str) -> str:
    """The schema of an address."""
    return parse_qs(address.partition("?")[2])["schema"][0]
