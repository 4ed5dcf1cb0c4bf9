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

    def ended(self, state: str) -> None:
        """A run has ended."""
        self.runs[state] += 1

    def step(self, state: str) -> None:
        """A call has ended."""
        self.steps[state] += 1


__all__ = ["Counts"]
