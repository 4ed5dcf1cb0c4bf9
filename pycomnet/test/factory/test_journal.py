"""The journal of what a far side and its program say, and what the factory finds out of it."""

from __future__ import annotations

import contextlib
import mmap
import os
import struct

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.factory.handover import Handover, ProgramBroke, says_yes
from pycomnet.far.lingering import journal as module
from pycomnet.far.lingering.framing import frame
from pycomnet.far.lingering.journal import FROM, PIECE, SIZE, TO, WHOLE, BrokenJournal, Journal
from pycomnet.far.lingering.relay import Relay
from pycomnet.wire.frames import CLOSE, DATA, OPEN, PING
from pycomnet.wire.mux import Mux, ProtocolError
from pycomnet.wire.values import PureCodec


def is_read(journal: Journal) -> bool:
    """Whether the factory has read all that the far side has put there."""
    return journal.numbers[module.HEAD] == journal.numbers[module.TAIL]


class Written(SynchronousTestCase):
    def setUp(self) -> None:
        self.memory = mmap.mmap(-1, WHOLE)
        self.writer, self.reader = Journal(self.memory), Journal(self.memory)

    def test_entries_are_read_in_order_and_runs_joined(self) -> None:
        """What was said comes in its order, what one said in a row together."""
        for direction, data in ((FROM, b"a"), (FROM, b"b"), (TO, b"c"), (FROM, b"")):
            self.writer.put(direction, data)
        self.assertEqual(self.reader.read(), [(FROM, b"ab"), (TO, b"c"), (FROM, b"")])
        self.assertEqual(self.reader.read(), [])
        self.assertTrue(is_read(self.writer))

    def test_claim_is_called_before_the_entry_counts(self) -> None:
        """What was collected elsewhere is claimed when it is in the journal, before it counts."""
        seen: list[object] = []
        self.writer.put(TO, b"frames", lambda: seen.append(self.reader.read()))
        self.assertEqual((seen, self.reader.read()), ([[]], [(TO, b"frames")]))

    def test_journal_wraps_around_with_pieces_of_all_sizes(self) -> None:
        """Many times as much as there is room for, in pieces of all sizes."""
        sizes = [1, 1000, PIECE, PIECE - 4, 0, 7, 4099]
        for number in range(500):
            data = os.urandom(sizes[number % len(sizes)])
            self.assertTrue(self.writer.put(number % 2, data))
            self.assertEqual(self.reader.read(), [(number % 2, data)])

    def test_full_journal_takes_nothing_until_it_was_read(self) -> None:
        """What there is no room for changes nothing; once the rest was read there is."""
        count = claimed = 0

        def claim() -> None:
            nonlocal claimed
            claimed += 1

        while self.writer.put(TO, b"x" * 1000, claim):
            count += 1
        self.assertEqual((count, claimed), (SIZE // 1004, count))
        self.assertEqual(self.reader.read(), [(TO, b"x" * 1000 * count)])
        self.assertTrue(self.writer.put(TO, b"y" * 1000))
        self.assertEqual(self.reader.read(), [(TO, b"y" * 1000)])

    def test_writer_goes_on_where_it_knows_that_it_is(self) -> None:
        """Where the far side writes next is what it knows, not what others put in the memory."""
        self.writer.put(TO, b"one")
        self.writer.numbers[module.HEAD] = 0
        self.writer.put(TO, b"two")
        self.assertEqual(self.reader.read(), [(TO, b"onetwo")])

    def test_impossible_numbers_and_entries_are_refused(self) -> None:
        """Numbers and entries that can't be are refused."""
        self.writer.numbers[module.HEAD] = SIZE + 1
        self.assertRaises(BrokenJournal, self.reader.read)
        self.writer.numbers[module.HEAD] = 2
        self.assertRaises(BrokenJournal, self.reader.read)
        self.writer.numbers[module.HEAD] = 0
        self.writer.put(TO, b"")
        struct.pack_into("=I", self.memory, module.START, 99)
        self.assertRaises(BrokenJournal, self.reader.read)
        self.writer.numbers[module.TAKEN_HEAD] = module.TAKEN_ENTRIES + 1
        self.assertRaises(BrokenJournal, self.reader.taken_head)

    def test_last_count_of_each_channel_is_read_and_a_full_table_reported(self) -> None:
        """The last number of each channel counts; when there is no room that is said."""
        self.assertTrue(self.writer.put_taken({1: 5, 3: 2}, []))
        self.assertTrue(self.writer.put_taken({1: 7}, [3]))
        head = self.reader.taken_head()
        self.assertTrue(self.writer.put_taken({1: 8}, []))
        self.assertEqual(self.reader.read_taken(head), ({1: 7, 3: 2}, [3]))
        self.assertEqual(self.reader.read_taken(self.reader.taken_head()), ({1: 8}, []))
        rounds = 0
        while self.writer.put_taken(dict.fromkeys(range(100), 1), []):
            rounds += 1
        self.assertEqual(rounds, module.TAKEN_ENTRIES // 100)
        self.reader.read_taken(self.reader.taken_head())
        self.assertTrue(self.writer.put_taken({1: 9}, []))


class HandedOver(SynchronousTestCase):
    """What the factory makes of it."""

    def setUp(self) -> None:
        self.relay = Relay()
        self.relay.from_far(Mux(False).data_to_send())
        self.handover = Handover(self.relay)
        self.addCleanup(self.handover.close)
        self.handover.begin()
        fds = self.handover.give()
        self.journal = Journal(mmap.mmap(fds[2], WHOLE))
        for fd in fds:
            os.close(fd)
        hello = Mux(True).data_to_send()
        opening = frame(OPEN, 1, b"\x00\x04test")
        self.journal.put(FROM, hello + opening)

    def test_journalled_values_are_kept_unless_taken(self) -> None:
        """What was said is kept as if it had come through here, but for what was taken."""
        self.journal.put(TO, frame(DATA, 1, b"one") + frame(DATA, 1, b"two"))
        self.journal.put_taken({1: 1}, [])
        self.assertTrue(self.handover.read())
        [kept] = self.relay.records[1].kept
        self.assertEqual(kept.data, frame(DATA, 1, b"two"))
        self.assertEqual(self.relay.to_far, [])
        self.assertFalse(self.handover.read())

    def test_rest_of_a_cut_pipe_is_known_at_each_byte(self) -> None:
        """What the program was told and has not got, at whatever byte its pipe was cut off."""
        self.handover.read()
        frames = [frame(DATA, 1, bytes([number]) * 50) for number in range(3)]
        for each in frames:
            self.journal.put(TO, each)
        size = len(frames[0])
        self.journal.numbers[module.WRITTEN] = size
        self.handover.read()
        self.handover.last_words(frames[0])
        whole = b"".join([*frames, frames[0]])
        for came in range(size, len(whole) + 1):
            self.assertEqual(self.handover.not_come(came), whole[came:])

    def test_half_written_frame_is_dropped(self) -> None:
        """What the far side was killed in the midst of noting was not written: it is dropped."""
        self.journal.put(TO, frame(DATA, 1, b"x" * 50)[:20])
        self.handover.last_words(frame(DATA, 1, b"last"))
        self.assertEqual(self.handover.not_come(0), frame(DATA, 1, b"last"))
        self.assertEqual(len(self.relay.records[1].kept), 1)

    def test_fault_is_laid_to_the_end_that_made_it(self) -> None:
        """Who of the two did what can't be is told apart."""
        self.handover.read()
        self.journal.put(FROM, frame(DATA, 7, b""))
        self.assertRaises(ProgramBroke, self.handover.read)
        self.journal.put(TO, frame(DATA, 7, b""))
        self.assertRaises(ProtocolError, self.handover.read)
        self.journal.numbers[module.HEAD] += SIZE + 1
        self.assertRaises(ProtocolError, self.handover.read)

    def test_far_sides_frames_count_after_its_program_broke_the_protocol(self) -> None:
        """What a program says that broke the protocol no longer counts; what the far side sent
        does, in the same reading and later, and makes room in the journal."""
        self.journal.put(FROM, frame(OPEN, 3, b"\x00\x04test") + frame(DATA, 7, b""))
        self.journal.put(TO, frame(DATA, 1, b"one"))
        self.assertRaises(ProgramBroke, self.handover.read)
        self.journal.put(FROM, frame(OPEN, 5, b"\x00\x04test"))
        self.journal.put(TO, frame(DATA, 3, b"two"))
        self.journal.put_taken({1: 1}, [])
        self.handover.read()
        # What preceded the fault counts: the far side has it, too.
        kept = {id: [one.data for one in record.kept] for id, record in self.relay.records.items()}
        self.assertEqual(kept, {1: [frame(DATA, 1, b"one")], 3: [frame(DATA, 3, b"two")]})
        self.assertTrue(is_read(self.journal))

    def test_impossible_taken_counts_lose_no_values(self) -> None:
        """A program that has written over its part of the journal breaks nothing else."""
        self.handover.read()
        self.journal.numbers[module.TAKEN_HEAD] = 1 << 40
        for value in (b"one", b"two"):
            self.journal.put(TO, frame(DATA, 1, value))
            with contextlib.suppress(ProgramBroke):
                self.handover.read()
            self.assertTrue(is_read(self.journal))
        self.assertEqual(len(self.relay.records[1].kept), 2)

    def test_journals_memory_cannot_be_truncated(self) -> None:
        """Whoever has the journal can't make it shorter, which would kill all who read it."""
        relay = Relay()
        relay.from_far(Mux(False).data_to_send())
        handover = Handover(relay)
        self.addCleanup(handover.close)
        handover.begin()
        fds = handover.give()
        try:
            for size in (0, 1 << 20):
                self.assertRaises(PermissionError, os.ftruncate, fds[2], size)
        finally:
            for fd in fds:
                os.close(fd)

    def test_factorys_questions_are_hidden_from_the_program(self) -> None:
        """What the far side is asked, and what it says, is nothing of the program's."""
        id = self.relay.ask("pipes", {"pid": 1})
        self.assertEqual(self.relay.answers, {id: None})
        state = self.relay.attach()
        self.assertEqual((state["channels"], state["next"]), ([], id + 2))
        self.relay.to_program = []
        for answer, good in ((True, True), (False, False)):
            closing = frame(CLOSE, id, b"\x02" + PureCodec().encode(answer))
            self.relay.answers[id] = None
            self.relay.from_far(closing)
            self.assertEqual(says_yes(self.relay.answers[id]), good)
        self.relay.from_far(frame(CLOSE, id, b"\x01" + PureCodec().encode({})))
        self.assertFalse(says_yes(self.relay.answers[id]))
        self.assertEqual(self.relay.to_program, [])

    def test_snapshot_of_another_version_is_refused(self) -> None:
        """A far side may import other code than its factory runs: the package was replaced."""
        copied, counters, records = PureCodec().decode(self.relay.snapshot())
        for other in ([*copied, "new"], copied[:-1], copied[::-1]):
            changed = PureCodec().encode([other, counters, records])
            with self.assertRaisesRegex(ValueError, "another version"):
                Relay(keeps=False).restore(changed)

    def test_restored_relay_does_the_same_with_the_same_bytes(self) -> None:
        """A copy does the same with the same bytes."""
        self.handover.read()
        self.relay.from_far(frame(DATA, 1, b"kept"))
        self.relay.detach()
        self.relay.attach()
        self.relay.to_far, self.relay.to_program = [], []
        copy = Relay(keeps=False)
        copy.restore(self.relay.snapshot())
        hello = Mux(True).data_to_send()
        said = (
            ("from_program", hello + frame(DATA, 1, b"there")),
            ("from_far", frame(DATA, 1, b"back")),
            ("from_program", frame(OPEN, 3, b"\x00\x04test")),
            ("from_far", frame(PING, 0, b"12345678")),
            ("from_program", frame(CLOSE, 1, b"\x00")),
            ("from_far", frame(DATA, 1, b"late") + frame(CLOSE, 1, b"\x00")),
        )
        for name, data in said:
            for relay in (self.relay, copy):
                getattr(relay, name)(data)
            self.assertEqual(copy.to_far, self.relay.to_far)
            self.assertEqual(copy.to_program, self.relay.to_program)
        self.assertEqual(copy.records.keys(), self.relay.records.keys())
