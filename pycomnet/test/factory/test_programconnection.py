"""A program's connection at the factory: what is answered at once is told in the same turn."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.channels.connection import Connection
from pycomnet.channels.core import NO_ENDMARKER
from pycomnet.factory.programconnection import ProgramConnection
from pycomnet.test.kit import MemoryTransport


class Looking(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.near_clock = Clock()
        self.near = Connection(self.near_clock)
        self.connection = ProgramConnection(self.clock, initiator=False)
        self.transports = MemoryTransport(), MemoryTransport()
        self.near.makeConnection(self.transports[0])
        self.connection.makeConnection(self.transports[1])
        self.connection.purposes["test"] = self.opened
        self.connection.dataReceived(self.transports[0].take())
        self.near.dataReceived(self.transports[1].take())
        self.far_sides = 1
        self.looks = 0
        self.core: Any = None

    def opened(self, core: Any) -> None:
        """A far side is told what comes on this channel."""
        core.set_callback(lambda value: self.told(core), lambda _: None, NO_ENDMARKER)

    def told(self, core: Any) -> None:
        self.core = core
        self.connection.told += self.far_sides
        self.connection.look = self.look

    def look(self) -> None:
        """The answer is there."""
        self.looks += 1
        for value in (1, 2):
            self.core.send(self.connection.encode(value))

    def ask(self) -> Any:
        """A program says something to a far side; the channel that the answer comes on."""
        core = self.near.open("test", self.near.encode(None))
        self.near_clock.advance(0)
        self.connection.dataReceived(self.transports[0].take())
        return core

    def test_answer_is_written_in_the_turn_of_the_request(self) -> None:
        """The answer is written, in one piece, before the reactor has another turn."""
        core = self.ask()
        self.assertEqual(self.looks, 1)
        self.near.dataReceived(self.transports[1].take())
        self.assertEqual([self.successResultOf(core.receive()) for _ in range(2)], [1, 2])
        self.assertFalse(self.connection.corked)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_far_side_is_looked_at_once_for_each_request(self) -> None:
        """What was looked for once is not looked for again with what has nothing to do with it."""
        self.ask()
        self.near.ping()
        self.connection.dataReceived(self.transports[0].take())
        self.assertEqual(self.looks, 1)
        self.ask()
        self.assertEqual(self.looks, 2)

    def test_no_far_side_is_looked_at_when_several_were_told(self) -> None:
        """Where several were told something none is looked at: each would wait for another."""
        self.far_sides = 2
        self.ask()
        self.assertEqual(self.looks, 0)

    def test_failed_look_leaves_the_connection_writing(self) -> None:
        """What goes wrong with looking leaves the connection writing."""

        def fail() -> None:
            raise OSError("no")

        self.look = fail  # type: ignore[method-assign]
        self.assertRaises(OSError, self.ask)
        self.assertFalse(self.connection.corked)
