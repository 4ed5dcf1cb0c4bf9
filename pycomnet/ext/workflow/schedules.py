"""Schedules: when a task is due by a cron expression.

The expressions are those of Debian's cron, read by ``cronsim``.
"""

from __future__ import annotations

import datetime
import zoneinfo
from typing import Any

#: The most starts that are made up for after an outage.
MOST_MISSED = 100
#: Seconds before now in which they are looked for first.
FIRST_WINDOW = 7_200.0


def zone(name: Any) -> datetime.tzinfo:
    """A time zone.

    :raises ValueError: there is none of that name.
    """
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        raise ValueError(f"expected a time zone, as Europe/Berlin, got {name!r:.80}") from None


def check_cron(text: Any) -> None:
    """Check a cron expression.

    :raises ValueError: it is none.
    """
    from cronsim import CronSim, CronSimError

    try:
        if len(text.split()) != 5:  # cronsim takes seconds as well
            raise ValueError
        next(CronSim(text, datetime.datetime.now(datetime.timezone.utc)))
    except (CronSimError, StopIteration, TypeError, AttributeError, ValueError):
        raise ValueError(
            f"expected five fields of cron, as '0 4 * * 1-5', got {text!r:.80}"
        ) from None


def next_due(schedule: dict[str, Any], after: float) -> float:
    """The first time after another at which it is due; both in seconds since 1970."""
    from cronsim import CronSim

    begin = datetime.datetime.fromtimestamp(after, zone(schedule.get("zone", "UTC")))
    found: datetime.datetime = next(CronSim(schedule["cron"], begin))
    return found.timestamp()


def missed(schedule: dict[str, Any], last: float, now: float) -> list[float]:
    """The missed times since another one for which the schedule's policy makes up: at most the last
    :data:`MOST_MISSED`."""
    policy = schedule.get("missed", "skip")
    if policy == "skip":
        return []
    wanted = 1 if policy == "last" else MOST_MISSED
    window = FIRST_WINDOW
    while True:
        # Back from now: after a long outage there may be very many before the last ones.
        begin = max(last, now - window)
        due: list[float] = []
        at = next_due(schedule, begin)
        while at <= now:
            due.append(at)
            at = next_due(schedule, at)
        if begin == last or len(due) >= wanted:
            return due[-wanted:]
        window *= 8
