"""Starts scheduled tasks when they are due."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from pycomnet.errors import Overloaded, PycomnetError
from pycomnet.ext.workflow.errors import RunStoreFailed
from pycomnet.ext.workflow.schedules import missed, next_due
from pycomnet.text.logs import Logger

if TYPE_CHECKING:
    from pycomnet.interfaces import IRunStore

log = Logger()

#: The longest delayed call, in seconds: clocks may be set meanwhile.
LONGEST_DELAY = 60.0
#: Seconds until a start that the store could not keep is tried again.
AGAIN = 10.0


class Timetable:
    """Starts the tasks of schedules. A run's id names its schedule and its time. So services that
    share a store start one run for each time.

    :param start: starts a task with arguments and an id.
    """

    def __init__(
        self,
        schedules: Sequence[dict[str, Any]],
        store: IRunStore,
        start: Callable[[str, Any, str], Awaitable[None]],
        reactor: IReactorTime,
        wall: Callable[[], float],
    ) -> None:
        self._schedules = schedules
        self._store = store
        self._start = start
        self._reactor = reactor
        self._wall = wall
        self._timers: dict[int, Any] = {}
        #: those whose start is tried again
        self._again: dict[int, Any] = {}
        self._closed = False

    async def begin(self) -> None:
        """Start missed runs according to each schedule's policy, and wait for the next ones."""
        marks = await self._store.marks()
        now = self._wall()
        for number, schedule in enumerate(self._schedules):
            last = marks.get(_name(schedule))
            if last is not None:
                for at in missed(schedule, last, now):
                    await self._start_one(schedule, at)
            await self._store.mark(_name(schedule), now)
            self._wait(number, next_due(schedule, now))

    def close(self) -> None:
        """Start nothing more."""
        self._closed = True
        for timer in (*self._timers.values(), *self._again.values()):
            if timer.active():
                timer.cancel()
        self._timers.clear()
        self._again.clear()

    def _wait(self, number: int, due: float) -> None:
        delay = min(max(0.0, due - self._wall()), LONGEST_DELAY)
        self._timers[number] = self._reactor.callLater(delay, self._look, number, due)

    def _look(self, number: int, due: float) -> None:
        if self._wall() < due:
            self._wait(number, due)
            return
        now = self._wall()
        # The clock may have jumped over more than one: the machine slept.
        self._begin(number, [due, *missed(self._schedules[number], due, now)])
        self._wait(number, next_due(self._schedules[number], max(due, now)))

    def _begin(self, number: int, dues: list[float]) -> None:
        self._again.pop(number, None)
        starting = defer.Deferred.fromCoroutine(self._due(self._schedules[number], dues))
        starting.addErrback(self._failed, number, dues)

    async def _due(self, schedule: dict[str, Any], dues: list[float]) -> None:
        for at in dues:
            await self._start_one(schedule, at)
            await self._store.mark(_name(schedule), at)

    async def _start_one(self, schedule: dict[str, Any], at: float) -> None:
        """Start a task that is due. A problem that will not pass is logged."""
        try:
            await self._start(schedule["task"], schedule.get("args"), _id(schedule, at))
        except (Overloaded, RunStoreFailed):
            raise
        except PycomnetError as problem:
            _log(schedule, problem)

    def _failed(self, failure: Failure, number: int, dues: list[float]) -> None:
        """The task could not be started: try again soon, unless the service ends."""
        failure.trap(Overloaded, RunStoreFailed, defer.CancelledError)
        if self._closed:
            return
        _log(self._schedules[number], failure.value)
        self._again[number] = self._reactor.callLater(AGAIN, self._begin, number, dues)


def _log(schedule: dict[str, Any], problem: BaseException | None) -> None:
    log.error(
        "{task} was due and could not be started: {problem}",
        task=schedule["task"],
        problem=problem,
    )


def _hash(schedule: dict[str, Any]) -> str:
    """The hash that identifies a schedule: of its task, arguments and times."""
    what = [schedule.get(key) for key in ("task", "cron", "zone", "args")]
    text = json.dumps(what, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _name(schedule: dict[str, Any]) -> str:
    return f"{schedule['task']} {_hash(schedule)}"


def _id(schedule: dict[str, Any], at: float) -> str:
    """The id of the run for a time. A client can't choose such an id."""
    return f"@{schedule['task'][:100]}:{_hash(schedule)}:{at:.0f}"
