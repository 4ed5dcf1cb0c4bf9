"""A far side that lingers and its programs' pipes, on a test's clock: in all orders of events.

The far side's end is played by a connection and single bytes, as docs/protocol.rst has them.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Callable
from typing import Any

from twisted.internet.testing import MemoryReactorClock

from pycomnet.channels.channel import Channel
from pycomnet.channels.core import ChannelCore
from pycomnet.factory import attachment, programroute
from pycomnet.factory.handover import BACK, BEGIN, LEAVE, READ
from pycomnet.factory.programroute import PREPARE_TIMEOUT, TAKE_TIMEOUT
from pycomnet.far.lingering.framing import RelayedFrameReader
from pycomnet.far.lingering.journal import FROM, TO, WHOLE, Journal
from pycomnet.gateways.transports.pipes import ProcessTransport
from pycomnet.test.factory.test_keptfarside import FarSideCase
from pycomnet.test.kit import MemoryTransport
from pycomnet.wire.frames import HELLO, OPEN, RESULT
from pycomnet.wire.mux import Limits


class HandingCase(FarSideCase):
    """A far side that lingers, and programs that take pipes."""

    def setUp(self) -> None:
        super().setUp()
        #: programs' ends of their channels: of each the raw one, and the control channel
        self.kept: list[Channel] = []
        self.patch(programroute, "passes_descriptors", lambda transport: True)
        self.patch(attachment, "send_descriptors", self.send)
        (self.far_in, to_far), (from_far, self.far_out) = os.pipe(), os.pipe()
        os.set_blocking(self.far_in, False)
        self.fds = [self.far_in, to_far, from_far, self.far_out]
        self.addCleanup(self.close)
        self.far = far = self.make("popen//id=x//linger=10")
        starting = far.start()
        reactor: Any = MemoryReactorClock()
        self.transport = ProcessTransport(to_far, from_far, far, reactor)
        self.gateway_transport.starting.callback(None)
        self.successResultOf(starting)
        #: the far side's multiplexer, and what it was asked and has not answered
        self.connection = self.gateway_transport.far
        self.asked: list[tuple[str, ChannelCore]] = []
        self.connection.purposes["pipes"] = lambda core: self.asked.append(("pipes", core))
        self.connection.purposes["take"] = lambda core: self.asked.append(("take", core))
        self.connection.makeConnection(self.gateway_transport.far_transport)

    def close(self) -> None:
        for fd in self.fds:
            with contextlib.suppress(OSError):  # a transport had it
                os.close(fd)

    def send(self, transport: Any, fds: tuple[int, ...], write: Callable[[], object]) -> None:
        write()
        if len(fds) == 3:
            self.journal = Journal(mmap.mmap(fds[2], WHOLE))
        for fd in fds:
            os.close(fd)

    # -- the far side ----------------------------------------------------------------------------

    def heard(self) -> bytes:
        """What it has got since the last time, which it was not given as frames."""
        self.pump()
        with contextlib.suppress(BlockingIOError):
            return os.read(self.far_in, 1 << 20)
        return b""

    def say(self, data: bytes = b"") -> None:
        """It writes this behind what its multiplexer has to write; all is read at once."""
        self.clock.advance(0)
        transport: Any = self.gateway_transport.far_transport
        assert isinstance(transport, MemoryTransport)
        data = transport.take() + data
        if data:
            os.write(self.far_out, data)
            self.transport._read()
        self.pump()

    def pump(self) -> None:
        """Deliver what there is between the factory and the program."""
        for _ in range(5):
            self.clock.advance(0)
            self.pair.pump()

    def is_asked(self, purpose: str) -> ChannelCore:
        """It reads, and is asked this and nothing else."""
        self.connection.dataReceived(self.heard())
        [(found, core)] = self.asked
        del self.asked[:]
        self.assertEqual(found, purpose)
        return core

    def answer(self, core: ChannelCore, value: bool = True) -> None:
        """It answers."""
        self.connection.mux.close(core.stream, RESULT, self.connection.encode(value))
        self.connection.flush()
        self.say()

    # -- programs --------------------------------------------------------------------------------

    def program(self) -> tuple[Channel, list[Any], list[bytes]]:
        """One comes that takes pipes: its control channel, what it is told there, and by bytes."""
        near_raw, far_raw = self.pair.channel(raw=True)
        near, control = self.pair.channel()
        told: list[Any] = []
        came: list[bytes] = []
        near.setcallback(told.append)
        near_raw.setcallback(came.append)
        self.kept += near_raw, near
        self.far.attach(far_raw, control.core, True)
        self.say()  # its hello, if it has not said that
        return near, told, came

    def given(self) -> tuple[Channel, list[Any], list[bytes]]:
        """One has its pipes."""
        program = self.program()
        self.turn()
        self.assertEqual(self.heard(), BEGIN)
        [value] = program[1]
        self.assertEqual(len(value["pipes"]), 3)
        del program[1][:]
        return program

    def turn(self) -> None:
        """It is asked for both steps, and answers."""
        self.answer(self.is_asked("pipes"))
        self.answer(self.is_asked("take"))

    def left(self, program: tuple[Channel, list[Any], list[bytes]]) -> None:
        """The program says that it leaves, and sees that this is known."""
        program[0].send({"left": True})
        self.pump()
        self.assertTrue(program[0].isclosed())


class Orders(HandingCase):
    """What the far side, its program and the factory say, in all orders."""

    def test_left_far_side_leaves_and_who_comes_waits_until_it_is_back(self) -> None:
        """The far side is told to leave; who comes meanwhile waits until it is back."""
        program = self.given()
        self.left(program)
        self.assertEqual(self.heard(), LEAVE)
        self.assertTrue(self.far.is_away)
        waiting = self.far.when_back()
        self.assertNoResult(waiting)
        self.say(BACK)
        self.successResultOf(waiting)
        self.assertEqual(self.heard(), b"")
        self.given()

    def test_far_side_left_before_it_began_is_told_to_begin_and_leave(self) -> None:
        """A program leaves before the far side has read that it may begin: both are there then."""
        program = self.program()
        self.turn()
        self.left(program)
        self.assertEqual(self.heard(), BEGIN + LEAVE)
        self.say(BACK)
        self.given()

    def test_far_side_back_before_its_program_left_is_told_to_leave(self) -> None:
        """It sees the end of its pipe before the factory knows why: it is told all the same."""
        program = self.given()
        self.say(READ + READ + BACK)
        self.assertEqual(self.heard(), LEAVE)
        self.left(program)
        self.assertFalse(self.far.is_away)
        self.assertEqual(self.far.left, 10)
        self.assertEqual(self.heard(), b"")
        self.given()

    def test_frames_after_the_back_byte_are_read_as_frames(self) -> None:
        """What it says behind the byte are frames again, also in one piece with it."""
        program = self.given()
        self.left(program)
        self.connection.open("test", self.connection.encode("new"))
        self.connection.flush()
        frames = self.gateway_transport.far_transport.take()
        self.say(READ + BACK + frames)
        [record] = self.far.relay.records.values()
        self.assertEqual((record.purpose, record.count), ("test", 1))

    def test_factorys_frames_follow_the_leave_byte(self) -> None:
        """What the factory has to say itself comes behind the byte that says to leave."""
        program = self.given()
        self.left(program)
        self.heard()
        opened = self.connection.open("test", self.connection.encode("first"))
        self.connection.flush()
        frames = self.gateway_transport.far_transport.take()
        self.say(BACK + frames)
        program = self.given()
        # As if a program had taken what it has not given credit for yet.
        self.far.relay.records[opened.stream.id].far_credit -= 100
        self.say(BACK)
        heard = self.heard()
        self.assertEqual(heard[:1], LEAVE)
        self.connection.dataReceived(heard[1:])
        self.left(program)
        self.given()

    def test_silent_far_side_is_used_through_the_relay(self) -> None:
        """One that stands still is used through here; its late answer is nobody's any more."""
        _, told, came = self.program()
        late = self.is_asked("pipes")
        self.clock.advance(PREPARE_TIMEOUT)
        self.pump()
        self.assertEqual([list(value) for value in told], [["state"]])
        [(kind, _, _)] = RelayedFrameReader(Limits().frame).feed(b"".join(came))
        self.assertEqual(kind, HELLO)
        self.kept[0].close()
        self.pump()
        program = self.program()
        self.answer(late)
        self.assertEqual(program[1], [])
        self.turn()
        self.assertEqual(self.heard(), BEGIN)
        self.assertEqual(len(program[1][0]["pipes"]), 3)

    def test_far_side_that_refuses_the_pipes_is_used_through_the_relay(self) -> None:
        """One that can't open them is used through here, at once."""
        for step in (1, 2):
            program = self.program()
            if step == 2:
                self.answer(self.is_asked("pipes"))
                self.answer(self.is_asked("take"), False)
            else:
                self.answer(self.is_asked("pipes"), False)
            self.assertEqual([list(value) for value in program[1]], [["state"]])
            self.assertTrue(b"".join(program[2]))
            self.assertEqual(self.heard(), b"")
            self.kept[-2].close()
            self.pump()
        self.given()

    def test_program_of_a_far_side_silent_at_take_is_refused(self) -> None:
        """One that is stopped just when it should use the pipes: its program is refused, nothing is
        written to it, and whenever it goes on it is told to leave, and is there for the next."""
        program = self.program()
        self.answer(self.is_asked("pipes"))
        take = self.is_asked("take")
        self.clock.advance(TAKE_TIMEOUT - 1)
        self.pump()
        self.assertEqual(program[1], [])
        self.clock.advance(1)
        self.pump()
        [told] = program[1]
        self.assertIn("has not answered for 20 seconds: its process", told["failed"]["words"])
        self.assertTrue(program[0].isclosed())
        self.assertEqual((self.heard(), self.far.is_away, self.far.left), (b"", True, 10))
        self.answer(take)
        self.assertEqual(self.heard(), LEAVE)
        self.assertFalse(self.far.is_away)
        self.given()

    def test_far_side_silent_at_take_is_ended_by_signals_alone(self) -> None:
        """It is ended, as its time is over, while it should use the pipes: nothing is written to it
        that is no signal."""
        program = self.program()
        self.answer(self.is_asked("pipes"))
        self.is_asked("take")
        program[0].close()
        self.pump()
        self.clock.advance(10)
        self.assertEqual(self.heard(), b"")
        self.gateway_transport.end(0)
        self.assertEqual(self.gone, [self.far])

    def test_ending_far_side_ends_when_its_program_is_killed(self) -> None:
        """A far side was told to end, and its program is killed before it has: it is let go."""
        program = self.given()
        ending = self.far.end()
        self.pump()
        self.assertEqual(program[1], [{"ask": "end"}])
        program[0].close()
        self.pump()
        self.assertNoResult(ending)
        self.transport.abortConnection()
        self.gateway_transport.end(0)
        self.successResultOf(ending)
        self.assertEqual(self.gone, [self.far])

    def test_program_that_breaks_the_protocol_is_dropped_and_values_kept(self) -> None:
        """It is dropped when the journal shows that, and what the far side sent is kept."""
        program = self.given()
        journal = self.journal
        journal.put(FROM, b"no hello!")
        self.connection.open("test", self.connection.encode("kept"))
        self.connection.flush()
        journal.put(TO, self.gateway_transport.far_transport.take())
        self.say(READ)
        self.assertEqual(self.heard(), LEAVE)
        self.assertFalse(program[0].isclosed())
        self.say(BACK)
        self.assertTrue(program[0].isclosed())
        self.assertEqual(self.heard(), b"")
        [record] = self.far.relay.records.values()
        self.assertEqual((record.purpose, record.count), ("test", 1))
        self.assertEqual(self.far.left, 10)
        self.given()

    def test_first_of_two_waiting_programs_gets_the_far_side(self) -> None:
        """Two programs wait for it: the first gets it, and the second finds that it is in use."""
        self.left(self.given())
        found: list[Any] = []
        for name in ("first", "second"):

            def back(_: object, name: str = name) -> None:
                found.append((name, self.far.left is not None))
                if self.far.left is not None:
                    self.program()

            self.far.when_back().addCallback(back)
        self.say(BACK)
        self.assertEqual(found, [("first", True), ("second", False)])

    def test_far_side_whose_program_went_at_take_leaves_first(self) -> None:
        """A program is gone before the far side has turned: that is told to leave at once, and
        what the factory says next, to whoever comes next, is behind that."""
        program = self.program()
        self.answer(self.is_asked("pipes"))
        take = self.is_asked("take")
        program[0].close()
        self.pump()
        self.assertTrue(self.far.is_away)
        self.assertEqual(self.heard(), b"")
        waiting = self.far.when_back()
        # As the service does it, who waits comes in the same moment.
        waiting.addCallback(lambda _: self.program())
        self.answer(take)
        heard = self.heard()
        self.assertEqual(heard[:1], LEAVE)
        [(kind, _, whole)] = RelayedFrameReader.feed(self.begun(), heard[1:])
        self.assertEqual(kind, OPEN)
        self.assertIn(b"pipes", whole)

    @staticmethod
    def begun() -> RelayedFrameReader:
        """What cuts frames that come behind a hello."""
        reader = RelayedFrameReader(Limits().frame)
        reader.begin()
        return reader

    def test_program_gone_before_the_answer_leaves_the_far_side_free(self) -> None:
        """A program is gone before the far side has answered: the next one has it."""
        program = self.program()
        pipes = self.is_asked("pipes")
        program[0].close()
        self.pump()
        self.answer(pipes)
        self.assertEqual(self.heard(), b"")
        self.assertFalse(self.far.is_away)
        self.given()

    def test_end_before_the_answer_is_told_after_its_output(self) -> None:
        """It ends when it was asked: the program has what it had said, and how it ended."""
        program = self.program()
        self.is_asked("pipes")
        self.has_ended(program)

    def test_end_at_take_is_told_after_its_output(self) -> None:
        """The same when it had begun to."""
        program = self.program()
        self.answer(self.is_asked("pipes"))
        self.is_asked("take")
        self.has_ended(program)

    def has_ended(self, program: tuple[Channel, list[Any], list[bytes]]) -> None:
        """The far side ends, and the program is told."""
        self.transport.abortConnection()
        self.gateway_transport.end(3)
        self.pump()
        _, told, came = program
        self.assertEqual([next(iter(value)) for value in told], ["state", "ended"])
        self.assertTrue(b"".join(came))
        self.assertEqual(self.gone, [self.far])

    def test_end_of_a_left_far_side_ends_the_wait_for_it(self) -> None:
        """It ends instead of coming back: who waits is not kept waiting."""
        program = self.given()
        self.left(program)
        waiting = self.far.when_back()
        self.transport.abortConnection()
        self.assertNoResult(waiting)
        self.gateway_transport.end(3)
        self.successResultOf(waiting)
        _, told, came = self.program()
        self.assertEqual([next(iter(value)) for value in told], ["state", "ended"])
        self.assertTrue(b"".join(came))
