"""What clients of nameservers did and were told, and a check that it can have been so.

Times are those of one monotonic clock. A call takes effect at some time between its begin and its
end; one without an answer may take effect later, too, or never.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import attrs


@attrs.define
class Operation:
    """One call.

    :ivar client: who called; each has one secret.
    :ivar kind: ``register``, ``renew``, ``unregister`` or ``locate``.
    :ivar outcome: ``ok``, the code of an error, or ``unknown`` without an answer.
    :ivar fence: what was told.
    :ivar ttl: of the lease, in seconds.
    """

    client: str
    kind: str
    service: str
    begin: float
    end: float = 0.0
    outcome: str = "unknown"
    fence: int = 0
    ttl: float = 0.0


@attrs.define
class Holding:
    """For certain a client had a name from ``begin`` to ``end``."""

    client: str
    fence: int
    begin: float
    end: float


@attrs.define
class Restored:
    """All was put back to an earlier state: at ``back`` it was again as it was at ``saved``."""

    saved: float
    back: float


def holdings(
    operations: Iterable[Operation], restored: Restored | None = None
) -> dict[str, list[Holding]]:
    """The times in which a client surely had each name: from the answer to its registration until
    it asks to unregister, or until its lease can have ended.

    :param restored: what is told before it ends then at the latest.
    """
    found: dict[str, list[Holding]] = defaultdict(list)
    held: dict[tuple[str, str], Holding] = {}
    for one in sorted(operations, key=lambda each: each.begin):
        key = one.client, one.service
        now = held.get(key)
        if one.kind == "register" and one.outcome == "ok":
            # The lease is granted after the call has begun.
            held[key] = Holding(one.client, one.fence, one.end, one.begin + one.ttl)
            found[one.service].append(held[key])
        elif one.kind == "renew" and one.outcome == "ok" and now is not None:
            now.end = max(now.end, one.begin + one.ttl)
        elif one.kind in ("unregister", "register") and now is not None:
            now.end = min(now.end, one.begin)
            del held[key]
    if restored is not None:
        for all_of_it in found.values():
            for one_of_it in all_of_it:
                if one_of_it.begin < restored.back:
                    one_of_it.end = min(one_of_it.end, restored.saved)
    return found


def violations(operations: list[Operation], restored: Restored | None = None) -> list[str]:
    """What can't have been, as sentences."""
    found: list[str] = []
    had = holdings(operations, restored)
    for service, all_of_it in had.items():
        # One owner at a time.
        for at, first in enumerate(all_of_it):
            for second in all_of_it[at + 1 :]:
                overlap = min(first.end, second.end) - max(first.begin, second.begin)
                if first.client != second.client and overlap > 0:
                    found.append(
                        f"{service} had two owners for {overlap:.3f} s: {first} and {second}"
                    )
    by_service: dict[str, list[Operation]] = defaultdict(list)
    for one in operations:
        if one.kind == "register" and one.outcome == "ok":
            by_service[one.service].append(one)
        if one.kind == "locate" and one.outcome != "ok":
            found.append(f"a locate failed: {one}")
        if one.kind == "renew" and one.outcome in ("lease-lost", "not-owner"):
            # It was told so although its lease can't have ended.
            found += [
                f"{one.client} renewed {one.service} in time, and was told {one.outcome}: {hold}"
                for hold in had[one.service]
                if hold.client == one.client and hold.begin <= one.begin and one.end < hold.end
            ]
    for service, registered in by_service.items():
        # Fences grow with real time.
        for one in registered:
            for after in registered:
                if one.end < after.begin and one.fence >= after.fence:
                    found.append(f"the fence of {service} did not grow: {one}, then {after}")
    return found


def lost(
    operations: list[Operation],
    now: float,
    listed: dict[str, int],
    restored: Restored | None = None,
) -> list[str]:
    """What was acknowledged, must be there by now, and is not.

    :param now: the time at which the list was asked for.
    :param listed: the fences of all names.
    """
    found = []
    for service, all_of_it in holdings(operations, restored).items():
        last = max(all_of_it, key=lambda hold: hold.begin)
        if last.end > now and listed.get(service, 0) < last.fence:
            found.append(f"{service} of {last} is not there: {listed.get(service)}")
    return found


def missed(operations: Iterable[Operation], fences: set[int], begun: float) -> list[str]:
    """What was registered while a watcher watched, and was not told to it.

    :param fences: those of all registrations that it was told of.
    :param begun: when it began to watch.
    """
    return [
        f"a watcher was not told of {one}"
        for one in operations
        if one.kind == "register"
        and one.outcome == "ok"
        and one.begin > begun
        and one.fence not in fences
    ]
