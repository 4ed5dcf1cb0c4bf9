"""The queues: whatever happens to connections, every byte arrives once and in order."""

from __future__ import annotations

import sys

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.mediator.queues import JOIN, IncomingQueue, OffsetError, OutgoingQueue
from pycomnet.test.properties import examples, given, settings


class OutgoingTests(SynchronousTestCase):
    """What is kept, and what can be read."""

    def test_empty_queue_has_nothing_to_read_or_confirm(self) -> None:
        """Nothing was produced: there is nothing to read, and nothing to confirm."""
        queue = OutgoingQueue(10)
        self.assertEqual((len(queue), queue.full, bytes(queue.read(0, 5))), (0, False, b""))
        queue.confirm(0)
        for offset in (-1, 1):
            self.assertRaises(OffsetError, queue.confirm, offset)
            self.assertRaises(OffsetError, queue.read, offset, 1)

    def test_full_from_limit_on_until_confirmed(self) -> None:
        """It is full from its limit on, until enough is confirmed."""
        queue = OutgoingQueue(10)
        queue.append(b"123456789")
        self.assertFalse(queue.full)
        queue.append(b"0")
        self.assertTrue(queue.full)
        queue.confirm(1)
        self.assertFalse(queue.full)

    def test_confirmed_is_gone(self) -> None:
        """What was confirmed can't be read again; an old confirmation changes nothing."""
        queue = OutgoingQueue(10)
        queue.append(b"0123456789")
        queue.confirm(4)
        queue.confirm(2)
        error = self.assertRaises(OffsetError, queue.read, 3, 1)
        self.assertEqual((error.low, error.high), (4, 10))
        self.assertEqual(bytes(queue.read(4, 100)), b"456789")
        self.assertEqual(bytes(queue.read(5, 2)), b"56")

    def test_large_is_not_copied(self) -> None:
        """A large piece is given out as it came."""
        queue = OutgoingQueue(10)
        data = bytes(JOIN)
        queue.append(b"x")
        queue.append(data)
        self.assertIs(queue.read(1, JOIN), data)

    def test_small_pieces_are_joined(self) -> None:
        """A million single bytes take the memory of a million bytes, not of so many objects."""
        queue = OutgoingQueue(1 << 20)
        for _ in range(1 << 18):
            queue.append(b"x")
        self.assertLess(sum(map(sys.getsizeof, queue._pieces)), 1.1 * (1 << 18))
        self.assertLess(len(queue._pieces), 20)

    def test_confirmed_is_freed(self) -> None:
        """Pieces that are confirmed are let go of."""
        queue = OutgoingQueue(1 << 20)
        for number in range(100):
            queue.append(bytes(JOIN))
            queue.confirm(number * JOIN + 1)
            self.assertLessEqual(len(queue._pieces), 2)

    def test_nothing_follows_the_end(self) -> None:
        """Nothing follows the end."""
        queue = OutgoingQueue(10)
        queue.append(b"x")
        queue.finish()
        self.assertRaises(ValueError, queue.append, b"y")
        self.assertEqual(bytes(queue.read(0, 5)), b"x")

    @given(st.lists(st.integers(0, 3 * JOIN), max_size=12), st.data())
    def test_reads_what_was_appended(self, sizes: list[int], data: st.DataObject) -> None:
        """Wherever one reads, there are the bytes that were appended there."""
        queue = OutgoingQueue(1)
        whole = b""
        for number, size in enumerate(sizes):
            piece = bytes([number]) * size
            queue.append(piece)
            whole += piece
        queue.confirm(data.draw(st.integers(0, len(whole))))
        offset = data.draw(st.integers(queue.base, len(whole)))
        size = data.draw(st.integers(1, 4 * JOIN))
        got = bytes(queue.read(offset, size))
        self.assertTrue(got or offset == len(whole))
        self.assertLessEqual(len(got), size)
        self.assertEqual(got, whole[offset : offset + len(got)])


class IncomingTests(SynchronousTestCase):
    """What is taken."""

    def test_new_is_taken_old_dropped_and_gap_refused(self) -> None:
        """What is new is taken, what was there is dropped, and a gap is refused."""
        incoming = IncomingQueue()
        self.assertEqual(bytes(incoming.accept(0, b"0123")), b"0123")
        self.assertEqual(bytes(incoming.accept(0, b"0123")), b"")
        self.assertEqual(bytes(incoming.accept(2, b"234")), b"4")
        self.assertEqual(bytes(incoming.accept(1, b"")), b"")
        error = self.assertRaises(OffsetError, incoming.accept, 6, b"6")
        self.assertEqual(error.high, 5)
        self.assertRaises(OffsetError, incoming.accept, -1, b"0123456789")
        self.assertEqual(incoming.received, 5)


class Resumed(RuleBasedStateMachine):
    """A stream over connections that are cut anywhere, whose last words come late, and repeated.

    A connection is a list of (offset, data) under way; several may be, as one that is dead at one
    end may still deliver at the other.
    """

    def __init__(self) -> None:
        super().__init__()
        self.queue = OutgoingQueue(64)
        self.incoming = IncomingQueue()
        self.sent = bytearray()
        self.taken = bytearray()
        #: what each connection still has to deliver, and the offset that its sender is at
        self.flying: list[list[tuple[int, bytes]]] = []
        self.position = 0

    @precondition(lambda self: not self.queue.full)
    @rule(data=st.binary(min_size=1, max_size=40))
    def produce(self, data: bytes) -> None:
        self.queue.append(data)
        self.sent += data

    @rule()
    def connect(self) -> None:
        """A new connection, on which the receiver says where it is."""
        self.queue.confirm(self.incoming.received)
        self.position = self.incoming.received
        self.flying.append([])

    @precondition(lambda self: self.flying)
    @rule(size=st.integers(1, 30))
    def send(self, size: int) -> None:
        data = bytes(self.queue.read(self.position, size))
        if data:
            self.flying[-1].append((self.position, data))
            self.position += len(data)

    @precondition(lambda self: any(self.flying))
    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        """Some bytes of any connection, cut anywhere, arrive; they may come once more."""
        connection = data.draw(st.sampled_from([one for one in self.flying if one]))
        offset, piece = connection.pop(0)
        size = data.draw(st.integers(1, len(piece)))
        if size < len(piece):
            connection.insert(0, (offset + size, piece[size:]))
        for _ in range(data.draw(st.integers(1, 2))):
            self.taken += self.incoming.accept(offset, piece[:size])

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def cut(self, data: st.DataObject) -> None:
        """A connection ends, with all that it was carrying."""
        number = data.draw(st.integers(0, len(self.flying) - 1))
        if number == len(self.flying) - 1:
            self.flying.clear()
        else:
            del self.flying[number]

    @precondition(lambda self: self.flying)
    @rule()
    def confirm(self) -> None:
        self.queue.confirm(self.incoming.received)
        self.position = max(self.position, self.queue.base)

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        assert self.taken == self.sent[: len(self.taken)]
        assert len(self.taken) == self.incoming.received
        assert self.queue.base <= self.incoming.received <= self.queue.end

    def teardown(self) -> None:
        """One good connection brings the rest."""
        self.connect()
        while self.position < self.queue.end:
            data = self.queue.read(self.position, 17)
            self.taken += self.incoming.accept(self.position, bytes(data))
            self.position += len(data)
        assert self.taken == self.sent


class ResumedTests(SynchronousTestCase):
    """The machine above, as a test."""

    def test_resumed_stream_has_every_byte_once_and_in_order(self) -> None:
        """Every byte arrives once and in order."""
        from hypothesis.stateful import run_state_machine_as_test

        run_state_machine_as_test(
            Resumed,
            settings=settings(max_examples=examples(80), stateful_step_count=40, deadline=None),
        )
