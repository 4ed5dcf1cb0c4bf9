"""A worker that lingers goes over to a program's pipes and back, as the factory tells it to."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.factory.handover import BACK, BEGIN, LEAVE, Handover, ProgramBroke, says_yes
from pycomnet.far.connection import FileIO
from pycomnet.far.lingering.channelstates import FAR_CLOSED
from pycomnet.far.lingering.framing import RelayedFrameReader, frame
from pycomnet.far.lingering.journal import WHOLE
from pycomnet.far.lingering.relay import Relay
from pycomnet.far.worker import FarSide
from pycomnet.far.writebuffer import WriteBuffer, new_memory
from pycomnet.wire.frames import CLOSE, OPEN
from pycomnet.wire.mux import Limits, Mux

#: Seconds after which a far side that should have said something never will.
PATIENCE = 60.0


class PromptIO(FileIO):
    """The far side's descriptors; the factory answers it before it reads on.

    :param factory: where the factory writes.
    :ivar prompt: what it writes as soon as the far side has written something.
    :ivar written: what that was.
    """

    def __init__(self, read_fd: int, write_fd: int, factory: int) -> None:
        super().__init__(read_fd, write_fd)
        self._factory = factory
        self.prompt = b""
        self.written = b""

    def write(self, parts: Any) -> None:
        super().write(parts)
        self._wrote(b"".join(bytes(part) for part in parts))

    def write_one(self, data: bytes | memoryview[int]) -> None:
        super().write_one(data)
        self._wrote(bytes(data))

    def _wrote(self, data: bytes) -> None:
        self.written += data
        prompt, self.prompt = self.prompt, b""
        if prompt:
            os.write(self._factory, prompt)


class Signals(SynchronousTestCase):
    """What the factory says in single bytes, however much of it is there when it is read."""

    def setUp(self) -> None:
        read_fd, self.factory = os.pipe()
        self.out, write_fd = os.pipe()
        self.fds = [read_fd, self.factory, self.out, write_fd]
        self.addCleanup(self.close)
        self.io = PromptIO(read_fd, write_fd, self.factory)
        memory = new_memory()
        assert memory is not None
        self.far = FarSide(self.io, {"id": "x"}, WriteBuffer(write_fd, memory), self.fail)
        self.link = self.far.link
        self.relay = Relay()
        self.link.flush()
        self.relay.from_far(self.read())
        self.handover = Handover(self.relay)
        self.addCleanup(self.handover.close)
        self.assertTrue(says_yes(self.ask("pipes", self.handover.request())))

    def close(self) -> None:
        for fd in self.fds:
            with contextlib.suppress(OSError):
                os.close(fd)

    def read(self) -> bytes:
        """What the far side has written."""
        self.io.written = b""
        return os.read(self.out, 1 << 20)

    def say(self) -> bytes:
        """What the relay has for it."""
        data, self.relay.to_far = b"".join(self.relay.to_far), []
        return data

    def ask(self, purpose: str, value: Any = None) -> bytes | None:
        """Ask it something; its answer."""
        id = self.relay.ask(purpose, value)
        os.write(self.factory, self.say())
        return self.answer(id)

    def answer(self, id: int) -> bytes | None:
        """Have it read until it has answered."""
        self.relay.from_far(self.hear())
        return self.relay.answers.pop(id)

    def hear(self) -> bytes:
        """Have it read until it has written something."""
        done = self.link.wait(lambda: self.io.written, timeout=PATIENCE)
        self.assertTrue(done, "the far side has not said anything")
        self.assertFalse(self.link.closed, self.link.reason)
        return self.read()

    def turn(self, signals: bytes, begin: bool) -> int:
        """It is asked to turn; before it reads on all of these are there, and a question behind.

        :param begin: whether it may.
        :returns: the question.
        """
        take = self.relay.ask("take")
        asked = self.say()
        if begin:
            self.handover.begin()
        question = self.relay.ask("status")
        self.io.prompt = signals + self.say()
        os.write(self.factory, asked)
        self.assertTrue(says_yes(self.answer(take)))
        return question

    def test_far_side_whose_program_has_gone_comes_back(self) -> None:
        """It may begin, and is to leave again: the program has closed its pipes already."""
        question = self.turn(BEGIN + LEAVE, True)
        for fd in self.handover.give():
            os.close(fd)
        self.assertEqual(self.hear(), BACK)
        self.assertTrue(self.answer(question))

    def test_far_side_leaves_a_program_that_holds_its_pipes(self) -> None:
        """The program has not closed them: then that it is to leave is all that it is told."""
        question = self.turn(BEGIN + LEAVE, True)
        given = self.handover.give()
        self.fds += given
        self.assertEqual(self.hear(), BACK)
        self.assertTrue(self.answer(question))

    def begin(self) -> int:
        """It uses the pipes; the id that the program may open a channel with."""
        take = self.relay.ask("take")
        os.write(self.factory, self.say())
        state: dict[str, Any] = self.handover.begin()[0]
        self.io.prompt = BEGIN
        self.assertTrue(says_yes(self.answer(take)))
        next_id: int = state["next"]
        return next_id

    def test_frames_before_a_fault_are_done_and_then_it_leaves(self) -> None:
        """What precedes the fault is done, as the factory's relay thinks it was; then it leaves."""
        id = self.begin()
        given = self.handover.give()
        self.fds += given
        hello = Mux(True).data_to_send()
        opening = frame(OPEN, id, b"\x02\x06status")
        os.write(given[0], hello + opening + frame(99, 1))
        self.assertEqual(self.hear(), BACK)
        frames = RelayedFrameReader(Limits().frame)
        frames.begin()
        answers = [(kind, id) for kind, id, _ in frames.feed(os.read(given[1], 1 << 20))]
        self.assertEqual(answers, [(CLOSE, id)])
        self.assertRaises(ProgramBroke, self.handover.read)
        self.assertEqual(self.relay.records[id].state, FAR_CLOSED)
        os.write(self.factory, LEAVE)
        self.assertTrue(self.ask("status"))

    def test_far_side_with_a_damaged_snapshot_comes_back(self) -> None:
        """It can't use the pipes after all: it says that it is back, and goes on."""
        take = self.relay.ask("take")
        os.write(self.factory, self.say())
        self.handover.begin()
        os.pwrite(self.handover.memory_fd, b"\xc1" * 10, WHOLE)
        self.fds += self.handover.give()
        self.io.prompt = BEGIN
        self.link.wait(lambda: self.io.written.endswith(BACK), timeout=PATIENCE)
        self.relay.from_far(self.read()[:-1])
        self.assertTrue(says_yes(self.relay.answers.pop(take)))
        os.write(self.factory, LEAVE)
        self.assertTrue(self.ask("status"))

    def test_frames_after_the_leave_byte_are_read_as_frames(self) -> None:
        """It is to leave at once: what is behind that are frames."""
        self.assertTrue(self.answer(self.turn(LEAVE, False)))


class Claims(SynchronousTestCase):
    """Frames that a worker has collected, and that it writes elsewhere than to the factory."""

    def killed(self, claims: bool) -> bytes:
        """It is killed within writing them; what its supervisor writes.

        :param claims: whether they counted as written.
        """
        out, write_fd = os.pipe()
        memory = new_memory()
        assert memory is not None
        buffer = WriteBuffer(write_fd, memory)

        def write(data: bytes, claim: Any) -> None:
            if claims:
                claim()
            raise KeyboardInterrupt

        buffer.write = write
        self.assertTrue(buffer.put(b"frame"))
        self.assertRaises(KeyboardInterrupt, buffer.flush)
        WriteBuffer(write_fd, memory).last_words()
        os.close(write_fd)
        with open(out, "rb") as file:
            return file.read()

    def test_supervisor_writes_frames_until_they_are_in_the_journal(self) -> None:
        """Until they are in the journal the supervisor writes them, and from then on not."""
        self.assertEqual((self.killed(False), self.killed(True)), (b"frame", b""))
