"""A program, the factory's relay and a far side, joined in memory."""

from __future__ import annotations

import mmap
import os
from typing import Any

from twisted.internet import error
from twisted.python.failure import Failure

from pycomnet.channels.channel import Channel, ChannelCore
from pycomnet.channels.connection import Connection
from pycomnet.errors import ConnectionLost
from pycomnet.factory.handover import Handover
from pycomnet.far.lingering.journal import FROM, PIECE, TO, WHOLE, Journal
from pycomnet.far.lingering.relay import Relay
from pycomnet.gateways.resumable import ResumableConnection
from pycomnet.test.kit import ROUNDS, MemoryTransport, TurnClock


class Owner:
    """What stands for the gateway of a channel."""

    def __init__(
        self, id: str, connection: Connection, clock: TurnClock, lingers: bool = False
    ) -> None:
        self.id = id
        self.lingers = lingers
        self.connection = connection
        self._clock = clock

    def abandoned(self, core: ChannelCore) -> None:
        if self.connection.lost is None and not self.lingers:
            self._clock.callFromThread(core.abandon)


class Program:
    """A program that uses the far side.

    :ivar restored: channels that were there before it.
    """

    def __init__(self, link: Joined) -> None:
        self.link = link
        relay = link.relay
        self.connection: Connection
        if relay.keeps:
            self.connection = resumable = ResumableConnection(link.clock, link.lingers)
        else:
            self.connection = Connection(link.clock)
        self.transport = MemoryTransport()
        self.owner = Owner("program", self.connection, link.clock, link.lingers)
        self.connection.make_handle = lambda core: Channel(core, self.owner)
        self.connection.purposes["test"] = self._accept
        self.accepted: list[Channel] = []
        state = link.attach()
        self.restored: dict[int, Channel] = {}
        if relay.keeps:
            resumable.report = link.confirm
            resumable.restore(state)
            self.restored = {
                core.stream.id: Channel(core, self.owner) for core in resumable.restored
            }
            resumable.restored = []
        self.connection.makeConnection(self.transport)

    def _accept(self, core: ChannelCore) -> None:
        self.accepted.append(Channel(core, self.owner))

    def open(self, purpose: str = "test", first: Any = None, **options: Any) -> Channel:
        """Open a channel."""
        payload = None if first is None else self.connection.encode(first)
        return Channel(self.connection.open(purpose, payload, **options), self.owner)


class Joined:
    """A far side, the relay, and one program after the other.

    :param lingers: whether what is on channels that a program has dropped is for the next.
    """

    def __init__(self, lingers: bool = False, **options: Any) -> None:
        self.clock = TurnClock()
        self.lingers = lingers
        self.relay = Relay(**options)
        self.far = Connection(self.clock, False, info={"python": "3"})
        self.far_transport = MemoryTransport()
        self.far_owner = Owner("far", self.far, self.clock)
        self.accepted: list[Channel] = []
        self.far.make_handle = lambda core: Channel(core, self.far_owner)
        for purpose in ("test", "call"):
            self.far.purposes[purpose] = self._accept
        self.far.makeConnection(self.far_transport)
        self.program: Program | None = None

    def _accept(self, core: ChannelCore) -> None:
        self.accepted.append(Channel(core, self.far_owner))

    def far_open(self, purpose: str = "test", first: Any = None, **options: Any) -> Channel:
        """Open a channel from the far side."""
        payload = None if first is None else self.far.encode(first)
        return Channel(self.far.open(purpose, payload, **options), self.far_owner)

    def attach(self) -> dict[str, Any]:
        """What a program that begins has to know."""
        return self.relay.attach()

    def confirm(self, taken: dict[int, int], done: list[int]) -> None:
        """It has taken values."""
        self.relay.confirm(taken, done)

    def start(self) -> Program:
        """A program begins, or goes on."""
        self.program = Program(self)
        self.pump()
        return self.program

    def kill(self) -> None:
        """The program is gone, with all that it has not written."""
        program = self.program
        assert program is not None
        self.program = None
        self.relay.detach()
        if isinstance(program.connection, ResumableConnection):
            program.connection.report = lambda taken, done: None
        program.connection.abort(ConnectionLost("killed"))
        program.connection.connectionLost(Failure(error.ConnectionLost()))
        self.pump()

    def step(self, size: int | None = None) -> int:
        """Move what there is one hop each way, at most so many bytes; how many that were."""
        relay, program = self.relay, self.program
        self.clock.advance(0)
        moved = 0
        if relay.to_far:
            data, relay.to_far = b"".join(relay.to_far), []
            self.far.dataReceived(data)
            moved += len(data)
        data = self.far_transport.take(size)
        if data:
            relay.from_far(data)
            moved += len(data)
        if program is not None:
            data, relay.to_program = b"".join(relay.to_program), []
            if data:
                program.connection.dataReceived(data)
                moved += len(data)
            data = program.transport.take(size)
            if data:
                relay.from_program(data)
                moved += len(data)
        return moved

    def pump(self, size: int | None = None) -> None:
        """Move all there is until nobody has anything more to say."""
        for _ in range(ROUNDS):
            if not self.step(size) and not self.clock.is_due():
                return
        raise AssertionError("they never stop talking")


class HandedJoined(Joined):
    """The same where each program has the far side by pipes: the relay reads the journal later.

    A copy of it is what both speak through.
    """

    def attach(self) -> dict[str, Any]:
        self.handover = Handover(self.relay)
        state, self.first = self.handover.begin()
        fds = self.handover.give()
        memory = mmap.mmap(fds[2], 0)
        self.journal = Journal(memory)
        self.copy = Relay(keeps=False)
        self.copy.restore(memory[WHOLE:])
        for fd in fds:
            os.close(fd)
        return state

    def confirm(self, taken: dict[int, int], done: list[int]) -> None:
        if not self.journal.put_taken(taken, done):
            self.handover.read()
            self.relay.confirm(taken, done)

    def kill(self) -> None:
        self.handover.read()
        self.handover.close()
        self.journal.close()
        super().kill()

    def _note(self, direction: int, data: bytes) -> None:
        for begin in range(0, len(data), PIECE):
            piece = data[begin : begin + PIECE]
            while not self.journal.put(direction, piece):
                self.handover.read()

    def step(self, size: int | None = None) -> int:
        program, copy = self.program, self.copy if self.program is not None else None
        if program is None or copy is None:
            return super().step(size)
        self.clock.advance(0)
        moved = len(self.first)
        if self.first:
            first, self.first = self.first, b""
            program.connection.dataReceived(first)
        data = program.transport.take(size)
        if data:
            self._note(FROM, data)
            copy.from_program(data)
            moved += len(data)
        data, copy.to_far = b"".join(copy.to_far), []
        if data:
            self.far.dataReceived(data)
        data = self.far_transport.take(size)
        if data:
            self._note(TO, data)
            copy.from_far(data)
            moved += len(data)
        data, copy.to_program = b"".join(copy.to_program), []
        if data:
            program.connection.dataReceived(data)
        return moved
