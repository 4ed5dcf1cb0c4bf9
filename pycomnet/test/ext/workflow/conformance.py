"""What every store of runs does: the tests that each must pass.

A store's own test case inherits :class:`RunStoreConformance` and says how one is made.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import defer
from zope.interface import implementer
from zope.interface.verify import verifyObject

from pycomnet.deferred import deferred
from pycomnet.errors import Overloaded
from pycomnet.ext.workflow.errors import FenceLost, RunNotKept, RunStoreBusy, RunStoreFailed
from pycomnet.ext.workflow.records import Claim, Message, RunChange, RunQuery, RunRow
from pycomnet.ext.workflow.stores import batchedstore
from pycomnet.interfaces import IRunFollower, IRunStore


@implementer(IRunFollower)
class Follower:
    """Remembers what it is told.

    :ivar has: the runs that it has claimed, as it says, with their fences.
    :ivar awaits: those for whose end somebody waits.
    """

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.has: dict[str, int] = {}
        self.awaits: set[str] = set()

    def posted(self, run: str) -> None:
        self.told.append(("posted", run))

    def claimable(self) -> None:
        self.told.append(("claimable",))

    def lost(self, runs: Any) -> None:
        self.told.append(("lost", *runs))

    def ended(self, run: str) -> None:
        self.told.append(("ended", run))

    def renewed(self) -> None:
        self.told.append(("renewed",))

    def claims(self) -> Any:
        return self.has

    def awaited(self) -> Any:
        return self.awaits


def row(id: str = "a", state: str = "running", created: float = 1.0, **more: Any) -> RunRow:
    """A run's row."""
    given: dict[str, Any] = {
        "task": "t",
        "definition": "d",
        "caller": "",
        "updated": created,
        "data": b"\x00data",
        **more,
    }
    return RunRow(id, state=state, created=created, **given)


class RunStoreConformance:
    """Mixed into a trial ``TestCase`` that has a method ``make_store()``: it returns a new store
    object, each over what the one before has kept.
    """

    async def opened(self: Any) -> tuple[Any, Follower]:
        """An open store and who follows it. It is closed at the end of the test."""
        store, follower = self.make_store(), Follower()
        self.addCleanup(store.close)
        await store.open(follower)
        return store, follower

    async def created(self: Any, store: Any, *rows: RunRow) -> list[Claim]:
        """Claims of new runs."""
        made = [await store.create(one) for one in rows]
        return [claim for _, claim in made]

    def test_provides_its_interface(self: Any) -> None:
        """It provides what it says."""
        store = self.make_store()
        verifyObject(IRunStore, store)
        verifyObject(IRunFollower, Follower())
        self.assertIsInstance(store.name, str)

    @deferred
    async def test_new_run_is_claimed_by_who_made_it(self: Any) -> None:
        """A new run is its maker's: nobody else can claim it; all that was kept comes back."""
        store, _ = await self.opened()
        wanted = row("é", caller="bob", data=bytes(range(256)))
        found, claim = await store.create(wanted, [("pay", b"1"), ("x/y", b"2")])
        self.assertEqual(found, wanted)
        self.assertEqual(claim.row, wanted)
        self.assertEqual((await store.claim(10.0, 10))[0], [])
        kept, steps = await store.get("é")
        self.assertEqual(kept, wanted)
        self.assertEqual(sorted(steps), [b"1", b"2"])

    @deferred
    async def test_same_id_is_one_run(self: Any) -> None:
        """A second run of the same id changes nothing, also within one turn."""
        store, _ = await self.opened()
        first, second = await defer.gatherResults(
            [store.create(row(task="one")), store.create(row(task="two"), [("p", b"1")])]
        )
        self.assertIsNotNone(first[1])
        self.assertEqual((second[0].task, second[1]), ("one", None))
        self.assertEqual((await store.get("a"))[1], [])

    async def check_refusals(
        self: Any, store: Any, claim: Claim, before: int = 0
    ) -> list[defer.Deferred[Any]]:
        """Ask for more than a store that does nothing at the moment may have waiting: three
        operations, and 1,000 bytes. What is too much fails at once, and says so.

        :param before: how many operations wait already.
        :returns: what waits.
        """
        self.patch(batchedstore, "MOST_WAITING", 3 + before)
        self.patch(batchedstore, "MOST_WAITING_BYTES", 1_000)
        waiting = [store.create(row("b", data=b"x" * 800))]
        with self.assertRaisesRegex(
            RunStoreBusy, rf"{1 + before} operations with 8.. bytes wait for it"
        ):
            await store.create(row("c", data=b"x" * 800))
        with self.assertRaisesRegex(RunStoreBusy, "try again later"):
            await store.post("a", Message("signal", "s", b"x" * 800))
        waiting += [store.row("a"), store.row("b")]
        for refused in (
            lambda: store.create(row("c")),
            lambda: store.post("a", Message("cancel")),
            lambda: store.get("a"),
            lambda: store.claim(1.0, 1),
            lambda: store.counts(),
        ):
            with self.assertRaises(Overloaded):
                await refused()
        # A run that has a result does not lose it.
        waiting += [store.commit(RunChange(row(data=b"y" * 2_000), claim.fence))]
        waiting += [store.release({"a": claim.fence})]
        return waiting

    async def check_kept(self: Any, store: Any, waiting: list[defer.Deferred[Any]]) -> None:
        """What waited was done, what was refused was not, and all else can be done again."""
        await defer.gatherResults(waiting)
        self.assertEqual((await store.get("a"))[0].data, b"y" * 2_000)
        self.assertIsNotNone(await store.row("b"))
        self.assertEqual(await store.messages("a"), [])
        self.assertIsNotNone((await store.create(row("c", data=b"x" * 800)))[1])

    @deferred
    async def test_what_waits_is_bounded(self: Any) -> None:
        """When more is asked for than the database does, what is too much fails with an error that
        says so; commits and releases are always taken."""
        store, _ = await self.opened()
        _, claim = await store.create(row())
        # Nothing is written before the end of this turn.
        await self.check_kept(store, await self.check_refusals(store, claim))

    @deferred
    async def test_commit_keeps_steps_and_row(self: Any) -> None:
        """A commit replaces the row, and adds, replaces and removes steps."""
        store, _ = await self.opened()
        _, claim = await store.create(row(), [("one", b"1"), ("two", b"2")])
        changed = row(updated=5.0, data=b"new")
        steps = (("one", b"11"), ("two", None), ("three", b"3"))
        await store.commit(RunChange(changed, claim.fence, steps))
        kept, found = await store.get("a")
        self.assertEqual(kept, changed)
        self.assertEqual(sorted(found), [b"11", b"3"])

    @deferred
    async def test_commit_needs_the_fence_of_the_claim(self: Any) -> None:
        """A commit under the fence of an older claim changes nothing; others of the turn count."""
        store, _ = await self.opened()
        (old,) = await self.created(store, row())
        await store.release({"a": old.fence})
        (new,), _ = await store.claim(10.0, 10)
        self.assertGreater(new.fence, old.fence)
        results = await defer.DeferredList(
            [
                store.commit(RunChange(row(data=b"old"), old.fence, (("s", b"old"),))),
                store.commit(RunChange(row(data=b"new"), new.fence)),
            ],
            consumeErrors=True,
        )
        self.assertEqual([ok for ok, _ in results], [False, True])
        self.assertIsInstance(results[0][1].value, FenceLost)
        kept, steps = await store.get("a")
        self.assertEqual((kept.data, steps), (b"new", []))

    @deferred
    async def test_release_of_an_old_fence_leaves_the_new_claim(self: Any) -> None:
        """Who has lost a claim can't release that of another."""
        store, _ = await self.opened()
        (old,) = await self.created(store, row())
        await store.release({"a": old.fence})
        await store.claim(10.0, 10)
        await store.release({"a": old.fence})
        self.assertEqual((await store.claim(10.0, 10))[0], [])

    @deferred
    async def test_parked_run_is_claimed_when_due(self: Any) -> None:
        """A parked run is nobody's until it is due; the store says when the next one is."""
        store, _ = await self.opened()
        first, second, third = await self.created(store, row("a"), row("b"), row("c"))
        await store.commit(RunChange(first.row, first.fence, parked=True, due=30.0))
        await store.commit(RunChange(second.row, second.fence, parked=True, due=20.0))
        await store.commit(RunChange(third.row, third.fence, parked=True))
        self.assertEqual(await store.claim(19.0, 10), ([], 20.0))
        claims, due = await store.claim(20.0, 10)
        self.assertEqual([one.row.id for one in claims], ["b"])
        self.assertEqual(due, 30.0)
        with self.assertRaises(FenceLost):
            await store.commit(RunChange(first.row, first.fence))

    @deferred
    async def test_claims_no_more_than_asked_for(self: Any) -> None:
        """``claim`` takes at most so many, each once."""
        store, _ = await self.opened()
        claims = await self.created(store, *(row(f"r{n}", created=float(n)) for n in range(5)))
        await store.release({one.row.id: one.fence for one in claims})
        first, due = await store.claim(10.0, 2)
        self.assertEqual([one.row.id for one in first], ["r0", "r1"])
        self.assertLessEqual(due, 10.0)
        rest, due = await store.claim(10.0, 10)
        self.assertEqual([one.row.id for one in rest], ["r2", "r3", "r4"])
        self.assertIsNone(due)

    @deferred
    async def test_message_reaches_who_has_the_run(self: Any) -> None:
        """A message for a claimed run is told to its service, and stays until it is taken."""
        store, follower = await self.opened()
        (claim,) = await self.created(store, row())
        await store.post("a", Message("signal", "go", b"1"))
        await store.post("a", Message("cancel"))
        self.assertIn(("posted", "a"), follower.told)
        first, second = await store.messages("a")
        self.assertEqual((first.kind, first.name, first.data), ("signal", "go", b"1"))
        self.assertGreater(second.number, first.number)
        await store.commit(RunChange(claim.row, claim.fence, consumed=(first.number,)))
        self.assertEqual(await store.messages("a"), [second])

    @deferred
    async def test_message_wakes_a_parked_run(self: Any) -> None:
        """A message makes a parked run claimable, and comes with its claim."""
        store, follower = await self.opened()
        (claim,) = await self.created(store, row())
        await store.commit(RunChange(claim.row, claim.fence, parked=True))
        found = await store.post("a", Message("signal", "go", b"1"))
        self.assertEqual(found.id, "a")
        self.assertIn(("claimable",), follower.told)
        (again,), _ = await store.claim(0.0, 10)
        self.assertEqual([one.name for one in again.messages], ["go"])

    @deferred
    async def test_message_that_comes_while_it_is_parked_is_not_lost(self: Any) -> None:
        """Whichever is first, the message or the park, the run becomes claimable."""
        store, _ = await self.opened()
        (claim,) = await self.created(store, row())
        posted = store.post("a", Message("signal", "go", b"1"))
        await store.commit(RunChange(claim.row, claim.fence, parked=True))
        await posted
        (again,), _ = await store.claim(0.0, 10)
        self.assertEqual(len(again.messages), 1)

    @deferred
    async def test_body_is_read_where_it_is_asked_for(self: Any) -> None:
        """What may be large of a run comes with the whole run only, and with its claim."""
        store, _ = await self.opened()
        (claim,) = await self.created(store, row(body=b"large"))
        signal = Message("signal", "go", b"1")
        narrow = [await store.row("a"), *await store.list(RunQuery())]
        narrow.append(await store.post("a", signal))
        self.assertEqual([(one.data, one.body) for one in narrow], [(b"\x00data", b"")] * 3)
        self.assertIsNone(await store.row("b"))
        self.assertEqual((await store.get("a"))[0].body, b"large")
        there, none = await store.create(row(body=b"other"))
        self.assertEqual((there.body, none), (b"large", None))
        await store.commit(RunChange(row(body=b"larger"), claim.fence, parked=True))
        ((claimed,), _) = await store.claim(5.0, 10)
        self.assertEqual(claimed.row.body, b"larger")

    @deferred
    async def test_claims_are_bounded_by_bytes(self: Any) -> None:
        """However many runs may be claimed: large ones come a few at a time, and all come."""
        store, _ = await self.opened()
        rows = [row(name, created=at, body=b"x" * (5 << 19)) for at, name in enumerate("abc")]
        claims = await self.created(store, *rows)
        await store.release({one.row.id: one.fence for one in claims})
        first, due = await store.claim(5.0, 10)
        self.assertEqual(([one.row.id for one in first], due), (["a", "b"], 5.0))
        then, due = await store.claim(5.0, 10)
        self.assertEqual(([one.row.id for one in then], due), (["c"], None))

    @deferred
    async def test_lists_what_a_user_may_see(self: Any) -> None:
        """Its own runs, those of tasks that it may see, and nobody's of tasks that all may run."""
        store, _ = await self.opened()
        for task in ("open", "mine", "shut"):
            for caller in ("", "bob", "eve"):
                await store.create(row(f"{task}-{caller}", task=task, caller=caller))
        query = RunQuery(caller="bob", tasks=("mine",), callerless=("open",))
        found = {one.id for one in await store.list(query)}
        expected = {"mine-", "mine-bob", "mine-eve", "open-", "open-bob", "shut-bob"}
        self.assertEqual(found, expected)
        nobody = RunQuery(tasks=(), callerless=("open",))
        self.assertEqual([one.id for one in await store.list(nobody)], ["open-"])

    @deferred
    async def test_message_for_nobody(self: Any) -> None:
        """A message for a run that there is not is refused, and leaves nothing."""
        store, _ = await self.opened()
        self.assertIsNone(await store.post("none", Message("cancel")))
        self.assertEqual(await store.messages("none"), [])

    @deferred
    async def test_ended_run_is_told_and_not_claimed(self: Any) -> None:
        """A run that has ended is told; what comes for it later but a retry changes nothing."""
        store, follower = await self.opened()
        (claim,) = await self.created(store, row())
        await store.commit(RunChange(row(state="done"), claim.fence))
        self.assertIn(("ended", "a"), follower.told)
        self.assertEqual(await store.claim(99.0, 10), ([], None))
        late = await store.post("a", Message("signal", "go"))
        self.assertEqual(late.state, "done")
        self.assertEqual(await store.claim(99.0, 10), ([], None))
        self.assertEqual(await store.messages("a"), [])

    @deferred
    async def test_retry_is_seen_at_once(self: Any) -> None:
        """A run that is to be retried runs from then on; a second retry of it, or one of a run that
        is done, changes nothing."""
        store, _ = await self.opened()
        failed, done = await self.created(store, row(), row("done"))
        await store.commit(RunChange(row(state="failed"), failed.fence))
        await store.commit(RunChange(row("done", state="done"), done.fence))
        self.assertEqual((await store.post("a", Message("retry"))).state, "failed")
        self.assertEqual((await store.get("a"))[0].state, "running")
        self.assertEqual((await store.post("a", Message("retry"))).state, "running")
        self.assertEqual((await store.post("done", Message("retry"))).state, "done")
        (again,), _ = await store.claim(99.0, 10)
        self.assertEqual((again.row.id, len(again.messages)), ("a", 1))

    @deferred
    async def test_lists_by_what_is_asked_for(self: Any) -> None:
        """Runs are listed by task, state, time and caller, the newest first, in pages."""
        store, _ = await self.opened()
        await self.created(
            store,
            row("a", created=1.0, task="x"),
            row("b", created=2.0, task="y", caller="bob"),
            row("c", created=2.0, task="x", state="suspended"),
            row("d", created=3.0, task="z"),
        )

        async def ids(**query: Any) -> list[str]:
            return [one.id for one in await store.list(RunQuery(**query))]

        self.assertEqual(await ids(), ["d", "c", "b", "a"])
        self.assertEqual(await ids(limit=2), ["d", "c"])
        self.assertEqual(await ids(before=(2.0, "c")), ["b", "a"])
        self.assertEqual(await ids(task="x"), ["c", "a"])
        self.assertEqual(await ids(state="suspended"), ["c"])
        self.assertEqual(await ids(since=2.0, until=2.5), ["c", "b"])
        self.assertEqual(await ids(caller="bob"), ["b"])
        self.assertEqual(await ids(caller="bob", tasks=("z",)), ["d", "b"])
        self.assertEqual(await ids(tasks=()), [])
        self.assertEqual(await store.counts(), {"running": 3, "suspended": 1})

    @deferred
    async def test_prunes_what_has_ended(self: Any) -> None:
        """Old runs that have ended go, with their steps, messages and definitions; then the id is
        free for a new run."""
        store, _ = await self.opened()
        _, old = await store.create(row("old"), (), b"old")
        _, new = await store.create(row("new", definition="e"), (), b"new")
        await self.created(store, row("live", definition="e"))
        ended = row("old", state="done", updated=5.0)
        await store.commit(RunChange(ended, old.fence, (("s", b"1"),)))
        await store.commit(
            RunChange(row("new", state="failed", updated=50.0, definition="e"), new.fence)
        )
        self.assertEqual(await store.prune(10.0, 10), 1)
        self.assertIsNone(await store.get("old"))
        self.assertIsNotNone(await store.get("new"))
        self.assertIsNotNone(await store.get("live"))
        self.assertIsNone(await store.definition("d"))
        self.assertEqual(await store.definition("e"), b"new")
        _, claim = await store.create(row("old"))
        self.assertIsNotNone(claim)
        self.assertEqual((await store.get("old"))[1], [])

    @deferred
    async def test_prunes_no_more_than_asked_for(self: Any) -> None:
        """``prune`` removes at most so many at a time."""
        store, _ = await self.opened()
        for claim in await self.created(store, *(row(f"r{n}") for n in range(3))):
            await store.commit(RunChange(row(claim.row.id, state="done"), claim.fence))
        self.assertEqual(await store.prune(10.0, 2), 2)
        self.assertEqual(await store.prune(10.0, 2), 1)

    @deferred
    async def test_cancelled_call_is_one_calls_alone(self: Any) -> None:
        """Who cancels a call gets its error; what was asked for is done and told, and the store
        goes on."""
        store, follower = await self.opened()
        (claim,) = await self.created(store, row())
        calls = [
            store.get("a"),
            store.post("a", Message("cancel")),
            store.create(row("b")),
        ]
        commit = store.commit(RunChange(row(data=b"new"), claim.fence))
        for one in calls:
            one.cancel()
            with self.assertRaises(defer.CancelledError):
                await one
        await commit
        self.assertEqual((await store.get("a"))[0].data, b"new")
        self.assertIsNotNone(await store.get("b"))
        self.assertIn(("posted", "a"), follower.told)

    @deferred
    async def test_bad_value_is_one_calls_alone(self: Any) -> None:
        """What the store can't keep or look for is that call's error: others of the turn count."""
        store, _ = await self.opened()
        (claim,) = await self.created(store, row())
        bad: Any = object()
        for number, wrong in enumerate(
            (
                lambda: store.list(RunQuery(task="\ud800")),
                lambda: store.get("\ud800"),
                lambda: store.create(row("\ud800")),
                lambda: store.create(row("x"), [("good", b""), ("bad", bad)]),
                lambda: store.commit(RunChange(row(data=bad), claim.fence)),
                lambda: store.post("a", Message("signal", "\ud800")),
            )
        ):
            before, failing, after = (
                store.create(row(f"before{number}")),
                wrong(),
                store.create(row(f"after{number}")),
            )
            with self.assertRaises(RunNotKept):
                await failing
            for one in (await before, await after):
                self.assertIsNotNone(one[1])
                self.assertIsNotNone(await store.get(one[0].id))
        self.assertIsNone(await store.get("x"))
        self.assertEqual((await store.get("a"))[0].data, b"\x00data")

    @deferred
    async def test_definitions_and_marks(self: Any) -> None:
        """Definitions are kept once; marks are replaced."""
        store, _ = await self.opened()
        _, claim = await store.create(row(definition="h"), (), b"one")
        await store.create(row("b", definition="h"), (), b"two")
        self.assertEqual(await store.definition("h"), b"one")
        self.assertIsNone(await store.definition("other"))
        other = row(definition="other")
        await store.commit(RunChange(other, claim.fence, definition=b"three"))
        self.assertEqual(await store.definition("other"), b"three")
        await store.mark("m", 1.0)
        await store.mark("m", 2.0)
        self.assertEqual(await store.marks(), {"m": 2.0})

    @deferred
    async def test_many_in_a_turn(self: Any) -> None:
        """Thousands of operations in a turn are all done, in their order."""
        store, _ = await self.opened()
        made = await defer.gatherResults([store.create(row(f"r{n:04}")) for n in range(3000)])
        self.assertTrue(all(claim for _, claim in made))
        await defer.gatherResults(
            [
                store.commit(RunChange(row(claim.row.id, data=b"%d" % turn), claim.fence))
                for turn in range(2)
                for _, claim in made
            ]
        )
        self.assertEqual((await store.get("r2999"))[0].data, b"1")

    @deferred
    async def test_closed_store_refuses(self: Any) -> None:
        """What was asked for before ``close`` is done; after it, all fails."""
        store, _ = await self.opened()
        creating = store.create(row())
        await store.close()
        self.assertIsNotNone((await creating)[1])
        with self.assertRaises(RunStoreFailed):
            await store.create(row("b"))
        await store.close()


class KeptRunStoreConformance(RunStoreConformance):
    """The tests of a store that keeps runs when it is closed.

    :cvar pruning: the module that has ``MOST_PRUNED``, the most steps of a prune.
    """

    pruning: Any

    @deferred
    async def test_prune_is_bounded_by_steps(self: Any) -> None:
        """A prune takes few runs that have many steps, and one at least."""
        self.patch(self.pruning, "MOST_PRUNED", 10)
        store, _ = await self.opened()
        for name in ("a", "b", "c"):
            steps = [(str(n), b"") for n in range(8)]
            _, claim = await store.create(row(name), steps)
            await store.commit(RunChange(row(name, state="done"), claim.fence))
        counts = [await store.prune(10.0, 10) for _ in range(4)]
        self.assertEqual(counts, [1, 1, 1, 0])

    @deferred
    async def test_what_was_committed_survives(self: Any) -> None:
        """After opening again all is there, and what was claimed can be claimed."""
        store, _ = await self.opened()
        _, first = await store.create(row("a"), (), b"old")
        claims = [first, *await self.created(store, row("b", created=2.0), row("c"))]
        await store.commit(RunChange(claims[1].row, claims[1].fence, (("s", b"1"),)))
        await store.commit(RunChange(claims[2].row, claims[2].fence, parked=True))
        await store.post("b", Message("signal", "go", b"x"))
        await store.mark("m", 3.0)
        await store.close()
        store, _ = await self.opened()
        found, _ = await store.claim(10.0, 10)
        self.assertEqual([one.row.id for one in found], ["a", "b"])
        self.assertGreater(found[1].fence, claims[1].fence)
        self.assertEqual(found[1].steps, (b"1",))
        self.assertEqual([one.name for one in found[1].messages], ["go"])
        self.assertEqual(await store.definition("d"), b"old")
        self.assertEqual(await store.marks(), {"m": 3.0})
