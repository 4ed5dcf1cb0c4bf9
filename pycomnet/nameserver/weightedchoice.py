"""Chooses a record at random by the weights, if those of an interface's records differ."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Sequence

from pycomnet.nameserver.records import Record
from pycomnet.services.client.weights import MAX_WEIGHT, WEIGHT

#: The weights of this many records or fewer are added up. Of more, records are picked at random and
#: accepted with a probability by their weight (rejection sampling): of 1,000 one is located in an
#: eighth of the time.
FEW = 32
#: How many picks may be rejected before all weights are added up nevertheless.
PICKS = 64


def choose(
    records: Sequence[Record],
    random: Callable[[], float],
    now: float,
    tags: frozenset[str],
    interface: str | None,
) -> Record | None:
    """Choose a live record that takes callers, at random, in proportion to the weights.

    A record of weight 0 is chosen only if there is no other.

    :param random: returns a float from 0.0 to below 1.0.
    :param tags: the tags that the record must have.
    :param interface: the interface that the record must have; None if all have it.
    """
    if len(records) > FEW:
        for _ in range(PICKS):
            record = records[int(random() * len(records))]
            standing = record.standing
            share = WEIGHT if standing is None else standing.share
            if (
                share
                and random() * MAX_WEIGHT < share
                and record.ends > now
                and tags.issubset(record.tags)
                and (interface is None or interface in record.interfaces)
            ):
                return record
    found: list[Record] = []
    sums: list[int] = []
    spare: list[Record] = []
    total = 0
    for record in records:
        standing = record.standing
        share = WEIGHT if standing is None else standing.share
        if (
            share is None
            or record.ends <= now
            or not tags.issubset(record.tags)
            or (interface is not None and interface not in record.interfaces)
        ):
            continue
        if share:
            total += share
            found.append(record)
            sums.append(total)
        else:
            spare.append(record)
    if found:
        return found[bisect(sums, int(random() * total))]
    return spare[int(random() * len(spare))] if spare else None
