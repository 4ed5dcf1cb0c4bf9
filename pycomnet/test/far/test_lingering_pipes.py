"""The far side's end of pipes that were made for one program: what it reads, writes and notes."""

from __future__ import annotations

import contextlib
import mmap
import os

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.factory.handover import LEAVE, Handover
from pycomnet.far.connection import FileIO
from pycomnet.far.lingering.framing import RelayedFrameReader, frame
from pycomnet.far.lingering.io import Prepared, Program
from pycomnet.far.lingering.journal import HEAD, PORTION, TAIL, WHOLE, WRITTEN, Journal
from pycomnet.far.lingering.relay import Relay
from pycomnet.wire.frames import DATA, OPEN
from pycomnet.wire.mux import Limits, Mux, ProtocolError

OPENING = frame(OPEN, 1, b"\x00\x04test")


class ReadAndNoted(SynchronousTestCase):
    """The factory and the program are this test; pipes and memory are real."""

    def setUp(self) -> None:
        self.relay = Relay()
        self.relay.from_far(Mux(False).data_to_send())
        self.handover = Handover(self.relay)
        prepared = Prepared(self.handover.request())
        self.handover.begin()
        self.to_far, self.from_far, self.memory_fd = self.handover.give()
        self.numbers = Journal(mmap.mmap(self.memory_fd, WHOLE)).numbers
        (signals, self.say), (self.heard, signal) = os.pipe(), os.pipe()
        os.set_blocking(self.heard, False)
        self.main = FileIO(signals, signal)
        self.program = Program(prepared, self.main)
        self.addCleanup(self.close)
        os.write(self.to_far, Mux(True).data_to_send() + OPENING)
        self.assertEqual(self.program.read(False), OPENING)

    def close(self) -> None:
        self.program.close()
        self.main.close()
        self.handover.close()
        for fd in (self.to_far, self.from_far, self.memory_fd, self.say, self.heard):
            with contextlib.suppress(OSError):  # a test has closed it
                os.close(fd)

    def signals(self) -> bytes:
        """What the factory has heard."""
        with contextlib.suppress(BlockingIOError):
            return os.read(self.heard, 100)
        return b""

    def test_both_ways(self) -> None:
        """What was said is in the journal, and what was written to the program is counted there."""
        value, answer = frame(DATA, 1, b"value"), frame(DATA, 1, b"answer")
        os.write(self.to_far, value)
        self.assertEqual(self.program.read(False), value)
        self.program.write(answer)
        self.assertEqual(os.read(self.from_far, 100), answer)
        self.assertEqual(self.numbers[WRITTEN], len(answer))
        self.handover.read()
        [record] = self.relay.records.values()
        self.assertEqual([kept.data for kept in record.kept], [answer])
        self.assertEqual(self.handover.not_come(0), b"")

    def test_pieces(self) -> None:
        """The factory is told to read before the journal is full, in whatever pieces bytes come:
        their entries count, too."""
        value = frame(DATA, 1, b"x" * 20000)
        told = 0
        for number in range(len(value)):
            os.write(self.to_far, value[number : number + 1])
            data = self.program.read(False)
            self.assertEqual(data, value if number == len(value) - 1 else None)
            if self.signals():
                self.assertLess(self.numbers[HEAD] - self.numbers[TAIL], PORTION + 100)
                self.handover.read()
                told += 1
        self.assertEqual(told, len(value) * 5 // PORTION)

    def test_longer_than_an_entry(self) -> None:
        """A value that takes many entries is one value to the factory."""
        value = frame(DATA, 1, b"x" * 60000)
        self.program.write(value)
        self.assertEqual(os.read(self.from_far, len(value) + 1), value)
        self.handover.read()
        [record] = self.relay.records.values()
        self.assertEqual([kept.data for kept in record.kept], [value])

    def test_left(self) -> None:
        """It is told to leave: what is in the pipe is read first, and then it is time."""
        values = [frame(DATA, 1, bytes([number])) for number in range(2)]
        os.write(self.to_far, values[0])
        os.write(self.say, LEAVE)
        self.assertEqual(self.program.read(True), values[0])
        os.write(self.to_far, values[1])
        self.assertEqual(self.program.read(True), values[1])
        self.assertEqual(self.program.read(True), b"")

    def test_closed(self) -> None:
        """The program closes its pipe within a frame: that is the end, and no part is passed on."""
        os.write(self.to_far, frame(DATA, 1, b"value")[:-1])
        os.close(self.to_far)
        self.assertIsNone(self.program.read(False))
        self.assertEqual(self.program.read(False), b"")

    def test_broken(self) -> None:
        """A program breaks the protocol: what precedes that is passed on, and nothing is read
        any more, not even when there is something."""
        value = frame(DATA, 1, b"value")
        os.write(self.to_far, value + frame(DATA, 7, b"none"))
        self.assertEqual(self.program.read(False), value)
        os.write(self.to_far, value)
        self.assertEqual(self.program.read(False), b"")


class Cut(SynchronousTestCase):
    def test_one_frame_is_not_copied(self) -> None:
        """Bytes that are one frame are passed on as they are; others are cut or refused."""
        reader = RelayedFrameReader(Limits().frame)
        reader.begin()
        whole = frame(DATA, 1, b"x" * 60000)
        [(kind, id, found)] = reader.feed(whole)
        self.assertEqual((kind, id), (DATA, 1))
        self.assertIs(found, whole)
        reader.feed(whole[:10])
        self.assertEqual([each[2] for each in reader.feed(whole[10:] + whole)], [whole, whole])

    def test_one_frame_is_checked(self) -> None:
        """One frame that is no valid one is found as among others."""
        limit = Limits().frame
        for wrong in (frame(0, 0), frame(10, 1), frame(DATA, 1, b"x" * (limit + 1))):
            for before in (b"", frame(DATA, 1, b"x")):
                reader = RelayedFrameReader(limit)
                reader.begin()
                self.assertEqual(len(reader.feed(before + wrong)), bool(before))
                self.assertIsInstance(reader.problem, ProtocolError)
        reader = RelayedFrameReader(limit)
        self.assertEqual(len(reader.feed(frame(DATA, 1, b"x"))), 0)
        self.assertIsInstance(reader.problem, ProtocolError)
