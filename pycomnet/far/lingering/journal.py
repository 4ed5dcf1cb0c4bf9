"""What a far side and its program say to each other, in memory that the factory shares with both.

The far side puts there what it reads from the program and what it is about to write to it, before
it does anything else with that; the program, how many values it has taken. The factory reads it
when it gets round to that. What is there stays there, whichever process is killed.
"""

import os
import struct

try:
    from _thread import allocate_lock
except ImportError:  # Python 2
    from thread import allocate_lock

#: The numbers at the beginning: bytes that the far side has put here in all, and that the factory
#: has read of those; bytes that the far side has written to the program; and of what was taken, how
#: many entries the program has put here, and the factory read.
HEAD, TAIL, WRITTEN, TAKEN_HEAD, TAKEN_TAIL = range(5)
#: Bytes for those.
START = 64
#: Bytes of what was said that there is room for.
SIZE = 1 << 18
#: The most that is put there as one entry.
PIECE = 1 << 14
#: After so many bytes the factory is told to read them.
PORTION = SIZE // 4
#: Entries of what was taken: a channel's id, whether it is done, how many values.
TAKEN = struct.Struct("=IIQ")
TAKEN_ENTRIES = 4096
#: All together. Behind it is what a copy of the factory's relay has to know.
WHOLE = START + SIZE + TAKEN_ENTRIES * TAKEN.size
#: From the program, or to it.
FROM, TO = 0, 1

#: Whether the processor itself has others see what is written in the order in which it was.
_ORDERED = os.uname()[4] in ("x86_64", "i386", "i486", "i586", "i686")

_entry = struct.Struct("=I")


class BrokenJournal(Exception):
    """What is there can't have been put there by who should."""


class Journal(object):
    """One end.

    :param memory: an ``mmap`` of at least :data:`WHOLE` bytes.
    """

    def __init__(self, memory):
        self._memory = memory
        self.numbers = memoryview(memory)[:START].cast("Q")
        self._lock = allocate_lock()
        #: how far it was read here: what is in the memory others can change
        self._tail = self._taken_tail = 0

    def close(self):
        """Let go of the memory."""
        self.numbers.release()
        try:
            self._memory.close()
        except BufferError:
            pass  # PyPy: some view of it is not freed yet

    def _in_order(self):
        """Have another processor see what was done before this before what is done after it."""
        if _ORDERED:
            return
        lock = self._lock
        for _ in (1, 2):
            lock.acquire()
            lock.release()

    # -- the far side ----------------------------------------------------------------------------

    def room(self):
        """Bytes that can be put there."""
        numbers = self.numbers
        return SIZE - (numbers[HEAD] - numbers[TAIL])

    def put(self, direction, data):
        """Put a piece of up to :data:`PIECE` bytes there, for which there is room."""
        head = self.numbers[HEAD]
        self._write(head, _entry.pack(len(data) << 1 | direction) + data)
        # Once it counts it is there, whatever happens to this process.
        self._in_order()
        self.numbers[HEAD] = head + _entry.size + len(data)

    def _write(self, position, data):
        begin = position % SIZE
        end = begin + len(data)
        if end <= SIZE:
            self._memory[START + begin : START + end] = data
        else:
            split = SIZE - begin
            self._memory[START + begin : START + SIZE] = data[:split]
            self._memory[START : START + end - SIZE] = data[split:]

    # -- the program -----------------------------------------------------------------------------

    def put_taken(self, taken, done):
        """Put there what was taken; False if there is no room for that.

        :param taken: how many values of which channels, in all.
        :param done: channels that are over and were seen to be.
        """
        numbers = self.numbers
        head = numbers[TAKEN_HEAD]
        if len(taken) + len(done) > TAKEN_ENTRIES - (head - numbers[TAKEN_TAIL]):
            return False
        for id, number in taken.items():
            TAKEN.pack_into(self._memory, self._taken(head), id, 0, number)
            head += 1
        for id in done:
            TAKEN.pack_into(self._memory, self._taken(head), id, 1, 0)
            head += 1
        self._in_order()
        numbers[TAKEN_HEAD] = head
        return True

    def _taken(self, number):
        return START + SIZE + number % TAKEN_ENTRIES * TAKEN.size

    # -- the factory -----------------------------------------------------------------------------

    def read(self):
        """What was said since this was called last: pairs of direction and bytes, joined.

        :raises BrokenJournal: it makes no sense.
        """
        numbers = self.numbers
        head, tail = numbers[HEAD], self._tail
        if not 0 <= head - tail <= SIZE:
            raise BrokenJournal("%d bytes of %d" % (head - tail, SIZE))
        self._in_order()
        begin, size = tail % SIZE, head - tail
        memory = self._memory
        data = memory[START + begin : START + min(begin + size, SIZE)]
        if begin + size > SIZE:
            data += memory[START : START + begin + size - SIZE]
        said = []
        pieces = []
        position = 0
        last = -1
        while position < size:
            if size - position < _entry.size:
                raise BrokenJournal("half an entry")
            (entry,) = _entry.unpack_from(data, position)
            position += _entry.size
            end = position + (entry >> 1)
            if end > size:
                raise BrokenJournal("an entry of %d bytes" % (entry >> 1))
            if entry & 1 != last:
                last = entry & 1
                pieces = []
                said.append((last, pieces))
            pieces.append(data[position:end])
            position = end
        self._tail = numbers[TAIL] = head
        return [(direction, b"".join(pieces)) for direction, pieces in said]

    def taken_head(self):
        """Entries of what was taken that are there.

        :raises BrokenJournal: it makes no sense.
        """
        numbers = self.numbers
        head = numbers[TAKEN_HEAD]
        if not 0 <= head - self._taken_tail <= TAKEN_ENTRIES:
            raise BrokenJournal("%d values taken" % head)
        self._in_order()
        return head

    def read_taken(self, head):
        """What was taken up to an entry, as :meth:`put_taken` has it."""
        taken = {}
        done = []
        for number in range(self._taken_tail, head):
            id, over, count = TAKEN.unpack_from(self._memory, self._taken(number))
            if over:
                done.append(id)
            else:
                taken[id] = max(count, taken.get(id, 0))
        self._taken_tail = self.numbers[TAKEN_TAIL] = head
        return taken, done


__all__ = ["FROM", "PIECE", "PORTION", "TO", "WHOLE", "WRITTEN", "BrokenJournal", "Journal"]
