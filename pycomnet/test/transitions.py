"""Walks a table of states with the real thing."""

from __future__ import annotations

from collections import deque
from typing import Any


def ways(table: Any, first: Any) -> dict[Any, list[Any]]:
    """The shortest sequence of events to each state from the first one."""
    found: dict[Any, list[Any]] = {first: []}
    waiting = deque([first])
    while waiting:
        state = waiting.popleft()
        for event, (after, _) in table[state].items():
            if after not in found:
                found[after] = [*found[state], event]
                waiting.append(after)
    return found


class Transitions:
    """Walks a table with the real thing, made anew for each cell of it.

    :param first: the state in which it is made.
    """

    def __init__(self, table: Any, first: Any) -> None:
        self._table = table
        self._ways = ways(table, first)

    def each(self) -> Any:
        """The events that lead to a state, an event, the next state, and what is done."""
        for state, row in self._table.items():
            for event, (after, effect) in row.items():
                yield [*self._ways[state], event], state, after, effect
