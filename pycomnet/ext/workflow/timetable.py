"""Starts scheduled tasks when they are due."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet import defer
from twisted.python.failure import Failure

from pycomnet.errors import PycomnetError
from pycomnet.ext.workflow.schedules import missed, next_due
from pycomnet.text.logs import Logger

if TYPE_CHECKING:
    from pycomnet.interfaces import IRunStore

log = Logger()

#: The longest delayed call, in seconds: clocks may be set meanwhile.
LONGEST_DELAY = 60.0


class Timetable:
    """Looks at schedules. The id of a run says what it was due for, so however many services look
    at a schedule, each time there is one run.

    :param start: starts a task with arguments and an id.
    """

    def __init__(
        self,
        schedules: Sequence[dict[str, Any]],
        store: IRunStore,
        start: Callable[[str, Any, str], Awaitable[None]],
        reactor: Any,
        wall: Callable[[], float],
    ) -> None:
        self._schedules = schedules
        self._store = store
        self._start = start
        self._reactor = reactor
        self._wall = wall
        self._timers: dict[int, Any] = {}

    async def begin(self) -> None:
        """Make up for what was missed, as the schedules say, and wait for what comes."""
        marks = await self._store.marks()
        now = self._wall()
        for number, schedule in enumerate(self._schedules):
            last = marks.get(_name(schedule))
            if last is not None:
                for at in missed(schedule, last, now):
                    await self._start(schedule["task"], schedule.get("args"), _id(schedule, at))
            await self._store.mark(_name(schedule), now)
            self._wait(number, next_due(schedule, now))

    def close(self) -> None:
        """Start nothing more."""
        for timer in self._timers.values():
            if timer.active():
                timer.cancel()
        self._timers.clear()

    def _wait(self, number: int, due: float) -> None:
        delay = min(max(0.0, due - self._wall()), LONGEST_DELAY)
        self._timers[number] = self._reactor.callLater(delay, self._look, number, due)

    def _look(self, number: int, due: float) -> None:
        if self._wall() < due:
            self._wait(number, due)
            return
        schedule = self._schedules[number]
        starting = defer.Deferred.fromCoroutine(self._due(schedule, due))
        starting.addErrback(self._failed, schedule)
        self._wait(number, next_due(schedule, max(due, self._wall())))

    async def _due(self, schedule: dict[str, Any], due: float) -> None:
        await self._start(schedule["task"], schedule.get("args"), _id(schedule, due))
        await self._store.mark(_name(schedule), due)

    def _failed(self, failure: Failure, schedule: dict[str, Any]) -> None:
        failure.trap(PycomnetError)
        log.error(
            "{task} was due and could not be started: {problem}",
            task=schedule["task"],
            problem=failure.value,
        )


def _name(schedule: dict[str, Any]) -> str:
    return f"{schedule['task']} {schedule['cron']} {schedule.get('zone', 'UTC')}"


def _id(schedule: dict[str, Any], at: float) -> str:
    return f"{schedule['task'][:60]}:{schedule['cron'][:60]}:{at:.0f}"


__all__ = ["Timetable"]
