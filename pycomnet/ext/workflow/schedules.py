"""Schedules: when a task is due by a cron expression.

The expressions are those of Debian's cron, read by ``cronsim``.
"""

from __future__ import annotations

import datetime
import zoneinfo
from typing import Any

#: The most starts that are made up for after an outage.
MOST_MISSED = 100


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
        next(CronSim(text, datetime.datetime.now(datetime.timezone.utc)))
    except (CronSimError, StopIteration, TypeError, AttributeError):
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
    """The times that it was due at since another one, of those that its policy makes up for."""
    policy = schedule.get("missed", "skip")
    due: list[float] = []
    if policy == "skip":
        return due
    at = next_due(schedule, last)
    while at <= now:
        due.append(at)
        del due[: -1 if policy == "last" else -MOST_MISSED]
        at = next_due(schedule, at)
    return due


__all__ = ["check_cron", "missed", "next_due", "zone"]
