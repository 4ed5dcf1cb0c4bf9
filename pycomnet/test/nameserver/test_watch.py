"""A watcher knows what is registered, whatever happens while it catches up."""

from __future__ import annotations

import tracemalloc
from typing import Any

from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.errors import RevisionTooOld
from pycomnet.nameserver.changelog import ChangeLog, Step
from pycomnet.nameserver.queries import Query
from pycomnet.nameserver.records import CHANGED, UNREGISTERED
from pycomnet.nameserver.watch import Watch
from pycomnet.test.nameserver.kit import Registry
from pycomnet.test.properties import examples, given, settings


class View:
    """What a client makes of a watch: the services that it believes are there.

    :ivar services: name -> address.
    """

    def __init__(self, watch: Watch, registry: Registry) -> None:
        self.watch = watch
        self.resumed = watch._after is None
        self.registry = registry
        self.services: dict[str, str] = {}
        self.revision: int | None = None
        self.events: list[dict[str, Any]] = []
        self.marks = 0

    def step(self, limit: int = 100) -> list[dict[str, Any]]:
        """Take some events."""
        events = list(self.watch.take(limit, self.registry.now))
        for event in events:
            kind = event["event"]
            if kind == "put":
                self.services[event["record"]["service"]] = event["record"]["address"]
            elif kind == "delete":
                self.services.pop(event["service"], None)
            elif kind == "end-of-snapshot":
                self.marks += 1
            if self.marks or self.resumed:
                assert self.revision is None or event["revision"] >= self.revision
                self.revision = event["revision"]
        self.events += events
        return events

    def catch_up(self, limit: int = 100) -> list[str]:
        """Take all there is; the kinds of the events."""
        kinds = []
        while not self.watch.caught_up:
            kinds += [event["event"] for event in self.step(limit)]
        return kinds


class WatchCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.registry = Registry(log_length=20)
        self.directory = self.registry.directory

    def view(self, query: Query | None = None, revision: int | None = None) -> View:
        return View(Watch(self.directory, query or Query(), revision), self.registry)


class SnapshotTests(WatchCase):
    """First what there is."""

    def test_empty_snapshot_is_the_end_mark(self) -> None:
        """Of nothing there is only the end mark."""
        view = self.view()
        self.assertFalse(view.watch.caught_up)
        self.assertEqual(view.catch_up(), ["end-of-snapshot"])
        self.assertEqual(view.revision, self.directory.log.last)

    def test_snapshot_has_all_records_then_the_mark(self) -> None:
        """All records with all their fields, then the mark with the revision to go on from."""
        self.registry.register("a", "x", "y", tags=("t",), metadata={"n": 1}, ttl=30.0)
        b = self.registry.register("b")
        self.registry.clock.advance(5.0)
        view = self.view()
        self.assertEqual(view.catch_up(), ["put", "put", "end-of-snapshot"])
        self.assertEqual(view.revision, b.fence)
        first = view.events[0]["record"]
        fence = first.pop("fence")
        self.assertEqual(view.events[0]["revision"], fence)
        self.assertEqual(
            first,
            {
                "service": "a",
                "interfaces": ["x", "y"],
                "address": "tcp:127.0.0.1:1",
                "metadata": {"n": 1},
                "tags": ["t"],
                "ttl": 25.0,
            },
        )

    def test_watcher_that_waits_holds_one_event_and_not_those_to_come(self) -> None:
        """Sixty-four watchers that are slow hold an event each, and not a hundred."""
        for number in range(100):
            self.registry.register(f"s{number}", metadata={"filler": "x" * 4000})
        watches = [Watch(self.directory, Query()) for _ in range(64)]
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        snapshots = [iter(watch.take(100, self.registry.now)) for watch in watches]
        first = [next(events) for events in snapshots]
        self.assertLess(tracemalloc.get_traced_memory()[0], 64 * 20_000)
        for events, watch in zip(snapshots, watches, strict=True):
            list(events)
            while not watch.caught_up:
                list(watch.take(100, self.registry.now))
        for number in range(20):
            self.registry.register(f"t{number}", metadata={"filler": "x" * 4000})
        before = tracemalloc.get_traced_memory()[0]
        changes = [iter(watch.take(100, self.registry.now)) for watch in watches]
        first += [next(events) for events in changes]
        self.assertLess(tracemalloc.get_traced_memory()[0] - before, 64 * 20_000)
        self.assertEqual(len(first), 128)

    def test_changes_during_a_snapshot_are_neither_lost_nor_doubled(self) -> None:
        """What changes while it is taken is right at the mark: not lost, and not doubled."""
        for name in "bdfh":
            self.registry.register(name, address=f"tcp:{name}:1")
        view = self.view()
        view.step(2)  # b, d
        for gone in "df":  # one that it was told of, one that it was not
            held = self.directory.find(gone, self.registry.now)
            assert held is not None
            self.registry.unregister(held)
        for new in "ag":  # before and after its place
            self.registry.register(new, address=f"tcp:{new}:1")
        self.registry.register("h", address="tcp:h:2")
        view.catch_up(2)
        self.assertEqual(view.marks, 1)
        self.assertEqual(view.events[-1]["event"], "end-of-snapshot")
        expected = {"a": "tcp:a:1", "b": "tcp:b:1", "g": "tcp:g:1", "h": "tcp:h:2"}
        self.assertEqual(view.services, expected)
        told = [event["record"]["service"] for event in view.events if event["event"] == "put"]
        self.assertEqual(sorted(told), [*"abdgh"])

    def test_slow_snapshot_is_begun_again(self) -> None:
        """A watcher that does not even get through the snapshot is told to begin again."""
        for number in range(5):
            self.registry.register(f"s{number}")
        view = self.view()
        view.step(1)
        for number in range(25):
            self.registry.register(f"t{number}")
        self.assertRaises(RevisionTooOld, view.step)


class ChangeTests(WatchCase):
    """Then what changes."""

    def test_changes_say_what_and_why(self) -> None:
        """Registrations and ends, with why."""
        view = self.view()
        view.catch_up()
        one = self.registry.register("a")
        self.registry.register("a", address="tcp:h:9")
        self.registry.unregister(one)
        self.assertEqual(view.catch_up(), ["put", "put", "delete"])
        self.assertEqual(view.events[-1]["why"], UNREGISTERED)
        self.assertEqual(view.services, {})
        revisions = [event["revision"] for event in view.events]
        self.assertEqual(revisions, sorted(set(revisions)))

    def test_filtered_tells_what_no_longer_matches(self) -> None:
        """Only what was asked for; what no longer matches goes, with that as the reason."""
        view = self.view(Query(interface="x"))
        view.catch_up()
        self.registry.register("a", "x")
        self.registry.register("b", "y")
        self.registry.register("a", "y")
        self.assertEqual(view.catch_up(), ["put", "delete"])
        self.assertEqual((view.events[-1]["service"], view.events[-1]["why"]), ("a", CHANGED))
        self.registry.register("b", "x")
        self.assertEqual(view.catch_up(), ["put"])

    def test_resumes_from_a_known_revision(self) -> None:
        """From the revision that it knows, with nothing missing and nothing twice."""
        view = self.view()
        self.registry.register("a")
        view.catch_up()
        self.registry.register("b")
        again = self.view(revision=view.revision)
        self.assertEqual(again.catch_up(), ["put"])
        self.assertEqual(again.events[0]["record"]["service"], "b")
        self.assertTrue(self.view(revision=again.revision).watch.caught_up)

    def test_forgotten_revision_is_an_error(self) -> None:
        """From a revision that is forgotten, or of another life of the nameserver: an error."""
        start = self.directory.log.last
        for number in range(25):
            self.registry.register(f"s{number}")
        problem = self.assertRaises(RevisionTooOld, self.view, revision=start)
        self.assertEqual((problem.revision, problem.oldest), (start, self.directory.log.first))
        self.view(revision=problem.oldest).catch_up()
        self.assertRaises(RevisionTooOld, self.view, revision=self.directory.log.last + 1)
        self.assertRaises(RevisionTooOld, self.view, revision=0)

    def test_missed_changes_end_the_watch(self) -> None:
        """One that missed changes is told so, and not given the rest as if nothing were."""
        view = self.view()
        view.catch_up()
        for number in range(30):
            self.registry.register(f"s{number}")
        self.assertRaises(RevisionTooOld, view.step)

    def test_quiet_watch_gets_revisions(self) -> None:
        """One that is told of nothing for long still has a revision to go on from."""
        view = self.view(Query("rare"))
        view.catch_up()
        for number in range(100):
            self.registry.register(f"s{number}")
            view.catch_up()
        self.assertIn("progress", [event["event"] for event in view.events])
        assert view.revision is not None
        self.assertTrue(self.directory.log.knows(view.revision))

    @settings(max_examples=examples(80), deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["put", "gone", "take", "new"]),
                st.sampled_from("abcdef"),
                st.sampled_from("xy"),
            ),
            max_size=40,
        )
    )
    def test_watcher_ends_with_what_is_there(self, operations: list[tuple[str, str, str]]) -> None:
        """Whatever changes between its steps, it ends with what is there."""
        self.registry = Registry(log_length=1000)
        self.directory = self.registry.directory
        views = [self.view(Query(interface="x"))]
        for number, (what, name, interface) in enumerate(operations):
            if what == "put":
                self.registry.register(name, interface, address=f"tcp:h:{number}")
            elif what == "gone":
                held = self.directory.find(name, self.registry.now)
                if held is not None:
                    self.registry.unregister(held)
            elif what == "take":
                if not views[-1].watch.caught_up:
                    views[-1].step(1)
            else:
                views.append(self.view(Query(interface="x")))
        query = Query(interface="x")
        page = self.directory.page(query, "", 100, self.registry.now)
        expected = {one.service: one.address for one in page.records}
        for view in views:
            view.catch_up(2)
            self.assertEqual((view.services, view.marks), (expected, 1))


class ChangeLogTests(SynchronousTestCase):
    """The log's ends."""

    def test_log_has_the_last_changes(self) -> None:
        """However many were added, it has the last ones, and knows from where."""
        log = ChangeLog(100, length=10)
        revisions = [100]
        for number in range(200):
            revision = revisions[-1] + 1 + number % 3
            revisions.append(revision)
            log.add(Step(revision, "a", None, None))
            kept = revisions[-min(len(revisions), 11) :]
            self.assertEqual((log.first, log.last), (kept[0], kept[-1]))
            self.assertLessEqual(len(log._steps), 30)
            for at, start in enumerate(kept):
                found = [step.revision for step in log.after(start, 100)]
                self.assertEqual(found, kept[at + 1 :])
        self.assertFalse(log.knows(log.first - 1))
        self.assertFalse(log.knows(log.last + 1))
        self.assertEqual(len(log.after(log.first, 3)), 3)
