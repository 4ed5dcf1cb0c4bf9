"""Checks what subscribers have recorded: nothing is lost without a gap, nothing is out of order.

A publisher's events have numbers without holes, and each process of it (each *life*) has a name. So
a recorded history says by itself whether something is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import attrs

from pycomnet.ext.pubsub import Gap

#: Gaps that say that a publisher's count has ended: what is behind them is another life.
NEW_LIFE = ("restarted", "gone")


@attrs.frozen
class Seen:
    """An event that a subscriber got.

    :ivar life: which process of the publisher has published it; the same one each time if its
        events survive that.
    :ivar number: its number there.
    """

    publisher: str | None
    life: str
    number: int


#: What a subscriber got, in its order.
Entry = Seen | Gap


def faults_of(history: Iterable[Entry], gaps_allowed: bool = True) -> Iterator[str]:
    """What is wrong with what one subscriber got.

    :param gaps_allowed: False if the publishers' stores have everything.
    """
    streams: dict[str | None, _Stream] = {}
    for place, entry in enumerate(history):
        stream = streams.setdefault(entry.publisher, _Stream())
        if isinstance(entry, Gap):
            if not gaps_allowed:
                yield f"{place}: {entry}, though nothing may be missing"
            stream.gaps.append(entry)
            continue
        for fault in stream.faults_of(entry):
            yield f"{place}: {entry}: {fault}"


class _Stream:
    """What came of one publisher so far."""

    def __init__(self) -> None:
        self.last: Seen | None = None
        #: since that one
        self.gaps: list[Gap] = []

    def faults_of(self, event: Seen) -> Iterator[str]:
        last, gaps = self.last, self.gaps
        self.last, self.gaps = event, []
        if last is None:
            return  # the subscription begins somewhere
        if last.life != event.life:
            if not any(gap.why in NEW_LIFE for gap in gaps):
                yield f"another life than {last.life}, and nothing was told"
            return
        if event.number <= last.number:
            yield f"after {last.number}: out of order, or for the second time"
            return
        if any(gap.why in NEW_LIFE for gap in gaps):
            return  # a connection's end was taken for the publisher's: it may tell too much
        missing = set(range(last.number + 1, event.number))
        for gap in gaps:
            told = missing.intersection(range(gap.first, (gap.last or 0) + 1))
            if gap.count is not None and gap.count != len(told):
                yield f"{gap} tells {gap.count} events, {len(told)} are missing there"
            missing -= told
        if missing:
            yield f"after {last.number}: {len(missing)} events are missing, and were not told"


@attrs.define
class Handed:
    """An event that a member of a group was given.

    :ivar confirmed: whether the publisher has noted the acknowledgement.
    :ivar member: who has it.
    :ivar taken: when its user took it, and
    :ivar noted: ... when the acknowledgement was confirmed, where there is a clock.
    """

    member: str
    number: int
    confirmed: bool = False
    taken: float = 0.0
    noted: float = 0.0


def faults_of_group(
    handed: Iterable[Handed],
    confirmed: Iterable[int],
    living: Iterable[str] = (),
    underway: float = 0.0,
) -> Iterator[str]:
    """What is wrong with what a group's members got, in the order in which they got it.

    :param confirmed: numbers of the events whose publishing was confirmed: they must all have come.
    :param living: members that were not killed: none gets an event twice.
    :param underway: seconds that an event may be on its way to a user. One that was sent to a
        member, and then to another whose acknowledgement was confirmed, is right at both.
    """
    done: dict[int, float] = {}
    had: set[tuple[str, int]] = set()
    alive = set(living)
    for one in handed:
        if one.number in done and one.taken >= done[one.number] + underway:
            yield f"{one.member} got {one.number}, which was acknowledged before"
        if one.member in alive and (one.member, one.number) in had:
            yield f"{one.member} got {one.number} twice"
        had.add((one.member, one.number))
        if one.confirmed:
            done[one.number] = min(one.noted, done.get(one.number, one.noted))
    lost = set(confirmed) - {number for _, number in had}
    if lost:
        yield f"{len(lost)} events were confirmed and came to nobody: {sorted(lost)[:10]}"


def entry_of(item: Any, publisher: str | None = None) -> Entry:
    """A history's entry for what a subscriber gave: a gap, or an event whose value is a life and a
    number."""
    if isinstance(item, Gap):
        return item if publisher is None else attrs.evolve(item, publisher=publisher)
    life, number = item.value[:2]
    return Seen(item.publisher if publisher is None else publisher, life, number)
