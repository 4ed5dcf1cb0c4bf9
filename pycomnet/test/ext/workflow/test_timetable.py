"""Scheduled tasks, in virtual time."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer, task
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.errors import Overloaded
from pycomnet.ext.workflow.definition import check_config
from pycomnet.ext.workflow.errors import RunConflict, RunStoreFailed, WorkflowConfigError
from pycomnet.ext.workflow.schedules import missed
from pycomnet.ext.workflow.timetable import AGAIN, Timetable

HOUR = 3600.0


class Marks:
    """Keeps marks."""

    def __init__(self) -> None:
        self.kept: dict[str, float] = {}

    def marks(self) -> defer.Deferred[dict[str, float]]:
        return defer.succeed(dict(self.kept))

    def mark(self, name: str, time: float) -> defer.Deferred[None]:
        self.kept[name] = time
        return defer.succeed(None)


class TimetableTests(SynchronousTestCase):
    """What is started when."""

    def setUp(self) -> None:
        self.store = Marks()
        self.clock = task.Clock()
        self.clock.advance(1_000 * 24 * HOUR + 60)
        self.started: list[tuple[str, Any, str]] = []
        self.problems: list[Exception] = []

    async def start(self, name: str, args: Any, id: str) -> None:
        if self.problems:
            raise self.problems.pop(0)
        self.started.append((name, args, id))

    def begin(self, *schedules: dict[str, Any]) -> Timetable:
        """Begin with schedules; nothing is in the way of that."""
        store: Any = self.store
        table = Timetable(schedules, store, self.start, self.clock, self.clock.seconds)
        self.successResultOf(defer.Deferred.fromCoroutine(table.begin()))
        self.addCleanup(table.close)
        return table

    def hourly(self, **more: Any) -> dict[str, Any]:
        """A schedule."""
        return {"task": "t", "cron": "0 * * * *", **more}

    def test_ids_are_none_that_a_client_may_give(self) -> None:
        """Clients' ids begin otherwise; two schedules of one task and time differ."""
        self.begin(self.hourly(args=1), self.hourly(args=2), self.hourly(zone="Europe/Berlin"))
        self.clock.pump([60] * 60)
        ids = [id for _, _, id in self.started]
        self.assertEqual(len(set(ids)), 3)
        self.assertTrue(all(one.startswith("@t:") for one in ids))
        self.assertEqual(len(self.store.kept), 3)

    def test_what_is_in_the_way_keeps_no_service_from_starting(self) -> None:
        """A missed start that fails is logged; the others are made, and what comes is waited
        for."""
        schedule = self.hourly(missed="all")
        self.begin(schedule).close()
        self.clock.advance(2 * HOUR)
        self.problems = [RunConflict("there is a run")]
        self.begin(schedule)
        self.assertEqual(len(self.started), 1)
        self.clock.pump([60] * 60)
        self.assertEqual(len(self.started), 2)

    def test_start_that_can_not_be_kept_is_tried_again(self) -> None:
        """When there is no room or the store fails, a start is made later, with the same id."""
        self.begin(self.hourly())
        self.problems = [RunStoreFailed("full"), Overloaded("no room")]
        self.clock.pump([60] * 59)
        self.assertEqual(self.started, [])
        self.clock.pump([AGAIN] * 2)
        ((_, _, id),) = self.started
        self.assertTrue(id.endswith(f":{1_000 * 24 * HOUR + HOUR:.0f}"))

    def test_clock_that_jumps(self) -> None:
        """What the clock jumps over is made up for as after an outage."""
        for policy, count in (("skip", 1), ("last", 2), ("all", 5)):
            self.started = []
            self.store.kept.clear()
            table = self.begin(self.hourly(missed=policy))
            self.clock.advance(5 * HOUR)
            self.assertEqual(len(self.started), count, policy)
            table.close()

    def test_long_outage_takes_few_looks(self) -> None:
        """After a year the last ones are found without a look at each minute of it."""
        from pycomnet.ext.workflow import schedules

        looks: list[float] = []
        real = schedules.next_due

        def counted(schedule: dict[str, Any], after: float) -> float:
            looks.append(after)
            return real(schedule, after)

        self.patch(schedules, "next_due", counted)
        now = self.clock.seconds()
        begin = now - 365 * 24 * HOUR
        every = {"task": "t", "cron": "* * * * *", "missed": "all"}
        found = missed(every, begin, now)
        self.assertEqual((len(found), found[-1]), (100, now))
        self.assertLess(len(looks), 1_000)

    def test_seconds_are_no_cron(self) -> None:
        """A sixth field is refused: no task is started each second."""
        with self.assertRaisesRegex(WorkflowConfigError, "five fields"):
            check_config({"tasks": {"t": []}, "schedules": [self.hourly(cron="* * * * * *")]})
