"""Lifecycles as tables: for each state and event, the next state and the effect."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TypeVar

from pycomnet.errors import PycomnetError

S = TypeVar("S", bound=Enum)
E = TypeVar("E", bound=Enum)
F = TypeVar("F", bound=Enum)

#: state -> event that may happen in it -> the next state, and the effect or None.
Table = Mapping[S, Mapping[E, tuple[S, "F | None"]]]


class IllegalTransition(PycomnetError):
    """An event that can't happen in this state. It is an error in the code that reports the event.

    :ivar state: the state, which has not changed.
    :ivar event: the event.
    """

    def __init__(self, state: Enum, event: Enum) -> None:
        super().__init__(
            f"{type(state).__name__}: event {event.name} can't happen in state {state.name}"
        )
        self.state = state
        self.event = event


def step(table: Table[S, E, F], state: S, event: E) -> tuple[S, F | None]:
    """Look up an event.

    :returns: the next state, and the effect or None.
    :raises IllegalTransition: the event can't happen in this state.
    """
    try:
        return table[state][event]
    except KeyError:
        raise IllegalTransition(state, event) from None
