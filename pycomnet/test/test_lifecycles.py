"""The tables of all lifecycles, and the page of the docs that has them."""

from __future__ import annotations

import csv
import re
from enum import Enum
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

import pycomnet
from pycomnet.factory.states import (
    KEPT,
    ROUTE,
    KeptEffect,
    KeptEvent,
    KeptState,
    RouteEffect,
    RouteEvent,
    RouteState,
)
from pycomnet.far.lingering import channelstates
from pycomnet.gateways.lifecycle import IllegalTransition, step
from pycomnet.mediator.client.states import (
    FAR_SIDE,
    LINK,
    STREAM,
    FarSideEffect,
    FarSideEvent,
    FarSideState,
    LinkEffect,
    LinkEvent,
    LinkState,
    StreamEffect,
    StreamEvent,
    StreamState,
)
from pycomnet.mediator.server.states import SESSION, SessionEffect, SessionEvent, SessionState
from pycomnet.test.transitions import ways


def as_enums() -> tuple[Any, Enum, type[Enum], type[Enum]]:
    """The table of a relayed channel, which is one of strings, as one of enums."""
    states: Any = Enum("ChannelState", dict(channelstates.STATES))  # type: ignore[misc]
    events: Any = Enum("ChannelEvent", dict(channelstates.EVENTS))  # type: ignore[misc]
    effects: Any = Enum("ChannelEffect", dict(channelstates.EFFECTS))  # type: ignore[misc]
    table = {
        states[state]: {
            events[event]: (states[after], None if effect is None else effects[effect])
            for event, (after, effect) in row.items()
        }
        for state, row in channelstates.CHANNEL.items()
    }
    return table, states[channelstates.OPEN], events, effects


PAGE = Path(pycomnet.__file__).parent.parent / "docs" / "lifecycles.rst"


class TableTests(SynchronousTestCase):
    """Each table by itself."""

    #: in the order in which the page has them
    tables: tuple[tuple[Any, Enum, type[Enum], type[Enum]], ...] = (
        (SESSION, SessionState.NEW, SessionEvent, SessionEffect),
        (FAR_SIDE, FarSideState.NEW, FarSideEvent, FarSideEffect),
        (STREAM, StreamState.OPEN, StreamEvent, StreamEffect),
        (LINK, LinkState.OPENING, LinkEvent, LinkEffect),
        (KEPT, KeptState.STARTING, KeptEvent, KeptEffect),
        (ROUTE, RouteState.OPEN, RouteEvent, RouteEffect),
        as_enums(),
    )

    def test_each_cell_is_a_transition_or_an_error(self) -> None:
        """What is in the table is done; all else is an error that names state and event."""
        for table, first, events, _ in self.tables:
            for state in type(first):
                for event in events:
                    if event in table[state]:
                        self.assertEqual(step(table, state, event), table[state][event])
                        continue
                    problem = self.assertRaises(IllegalTransition, step, table, state, event)
                    self.assertEqual((problem.state, problem.event), (state, event))
                    self.assertIn(state.name, str(problem))
                    self.assertIn(event.name, str(problem))

    def test_each_state_is_reached_and_each_effect_used(self) -> None:
        """No state without a way to it, no event or effect that is nowhere in the table."""
        for table, first, events, effects in self.tables:
            self.assertEqual(set(table), set(type(first)))
            self.assertEqual(set(ways(table, first)), set(type(first)))
            self.assertEqual({event for row in table.values() for event in row}, set(events))
            used = {effect for row in table.values() for _, effect in row.values()}
            self.assertEqual(used - {None}, set(effects))


class PageTests(SynchronousTestCase):
    """The page of the docs that has the tables."""

    if not PAGE.is_file():
        skip = "there are no docs beside an installed package"

    def test_tables_are_those_of_the_code(self) -> None:
        """Row by row: the state, the event, the next state, and what is done."""
        blocks = re.findall(
            r"^\.\. csv-table::\n(?:   :.*\n)+\n((?:   .+\n)+)", PAGE.read_text("utf-8"), re.M
        )
        self.assertEqual(len(blocks), len(TableTests.tables))
        for block, (table, *_) in zip(blocks, TableTests.tables, strict=True):
            found = list(csv.reader(block.splitlines(), skipinitialspace=True))
            expected = [
                [state.name, event.name, after.name, "" if effect is None else effect.value]
                for state, row in table.items()
                for event, (after, effect) in row.items()
            ]
            self.assertEqual([[cell.strip() for cell in row] for row in found], expected)

    def test_each_state_and_event_is_explained(self) -> None:
        """In the words of the code."""
        text = PAGE.read_text("utf-8")
        for _, first, events, _ in TableTests.tables:
            for one in (*type(first), *events):
                self.assertIn(f"``{one.name}``\n   {one.value[0].upper()}{one.value[1:]}.\n", text)
