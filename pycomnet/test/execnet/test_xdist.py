"""The queue of what pytest-xdist's workers tell: they become ready in the order of making."""

from __future__ import annotations

from queue import Empty
from types import SimpleNamespace
from typing import Any

from hypothesis import strategies
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.test.properties import examples, given, settings
from pycomnet.xdist import Events


def event(worker: str, name: str) -> tuple[str, dict[str, Any]]:
    """What pytest-xdist puts into its queue."""
    return name, {"node": SimpleNamespace(gateway=SimpleNamespace(id=worker))}


def taken(events: Events) -> list[tuple[str, str]]:
    """Everything that is in the queue: workers, and what each has told."""
    found: list[tuple[str, str]] = []
    while True:
        try:
            name, given = events.get(timeout=0)
        except Empty:
            return found
        found.append((given["node"].gateway.id if "node" in given else "", name))


class Order(SynchronousTestCase):
    """Some workers start at the same time."""

    def started(self, *workers: str) -> Events:
        events = Events()
        for worker in workers:
            events.made(worker)
        return events

    def test_later_worker_waits_for_an_earlier_one(self) -> None:
        """What it tells is kept, until the earlier one has collected."""
        events = self.started("gw0", "gw1")
        events.put(event("gw1", "workerready"))
        events.put(event("gw1", "collectionfinish"))
        events.put(event("gw0", "workerready"))
        self.assertEqual(taken(events), [("gw0", "workerready")])
        events.put(event("gw0", "collectionfinish"))
        expected = [
            ("gw0", "collectionfinish"),
            ("gw1", "workerready"),
            ("gw1", "collectionfinish"),
        ]
        self.assertEqual(taken(events), expected)
        events.put(event("gw1", "logstart"))
        self.assertEqual(taken(events), [("gw1", "logstart")])

    def test_worker_that_has_ended_delays_no_other(self) -> None:
        """It crashes or fails before it is ready."""
        for ending in ("errordown", "internal_error", "workerfinished"):
            events = self.started("gw0", "gw1")
            events.put(event("gw1", "workerready"))
            events.put(event("gw0", ending))
            self.assertEqual(taken(events), [("gw0", ending), ("gw1", "workerready")])

    def test_event_of_no_worker_is_passed_on_at_once(self) -> None:
        """A warning does not say whose it is."""
        events = self.started("gw0")
        events.put(("warning_recorded", {"when": "config"}))
        self.assertEqual(taken(events), [("", "warning_recorded")])

    def test_worker_that_replaces_another_waits_for_those_before_it(self) -> None:
        """It is made last."""
        events = self.started("gw0", "gw1")
        events.put(event("gw0", "errordown"))
        events.made("gw2")
        events.put(event("gw2", "workerready"))
        self.assertEqual(taken(events), [("gw0", "errordown")])
        events.put(event("gw1", "collectionfinish"))
        self.assertEqual(taken(events), [("gw1", "collectionfinish"), ("gw2", "workerready")])

    @settings(max_examples=examples(200))
    @given(strategies.lists(strategies.integers(0, 3), max_size=30))
    def test_all_arrives_in_each_workers_order(self, turns: list[int]) -> None:
        """However the workers' turns are mixed: nothing is lost, and they are ready in order."""
        names = [f"gw{number}" for number in range(4)]
        begin = ["workerready", "collectreport", "collectionfinish"]
        told = {name: [*begin, *map(str, range(30))] for name in names}
        events = self.started(*names)
        left = {name: list(each) for name, each in told.items()}
        for turn in turns:
            if left[names[turn]]:
                events.put(event(names[turn], left[names[turn]].pop(0)))
        for name in reversed(names):
            for each in left[name]:
                events.put(event(name, each))
        found = taken(events)
        first = [worker for worker, name in found if name in begin]
        self.assertEqual(first, [name for name in names for _ in begin])
        for name in names:
            self.assertEqual([each for worker, each in found if worker == name], told[name])
