"""The counters of a workflow service, for its metrics."""

from __future__ import annotations

from collections import Counter

import attrs


@attrs.define
class Counts:
    """Counters since the service was started.

    :ivar started: runs that were started.
    :ivar runs: how many runs have ended, by their state.
    :ivar steps: how many calls have ended, by their state.
    """

    started: int = 0
    runs: Counter[str] = attrs.field(factory=Counter)
    steps: Counter[str] = attrs.field(factory=Counter)
