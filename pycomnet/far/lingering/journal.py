"""The journal: a shared-memory ring buffer with what a far side and its program send each other.

The far side writes to it what it reads from the program, and what it is about to write to the
program, before it does anything else with the bytes. The program writes how many values its user
has taken. The factory reads both, later. The memory outlives the far side and the program, so the
factory knows everything whichever of them is killed, and when.
"""

import os
import struct

try:
    from _thread import allocate_lock
except ImportError:  # Python 2
    from thread import allocate_lock

#: The numbers at the beginning, of 8 bytes each: bytes that the far side has put there in all, and
#: how many of those the factory has read; bytes that the far side has written to the program;
#: entries that the program has put there, and how many of those the factory has read.
HEAD, TAIL, WRITTEN, TAKEN_HEAD, TAKEN_TAIL = range(5)
#: Bytes for the numbers.
START = 64
#: Bytes of the ring for the far side's entries.
SIZE = 1 << 18
#: Bytes of the longest entry.
PIECE = 1 << 14
#: The far side writes this many bytes, then notifies the factory to read them.
PORTION = SIZE // 4
#: An entry of the program: a channel's id, whether it is done, how many values were taken.
TAKEN = struct.Struct("=IIQ")
TAKEN_ENTRIES = 4096
#: Bytes of the whole journal. Behind it is the snapshot for the far side's copy of the relay.
WHOLE = START + SIZE + TAKEN_ENTRIES * TAKEN.size
#: The direction of an entry: from the program, or to it.
FROM, TO = 0, 1

#: Whether a number of 8 bytes is read and written as one: another process never sees half of it.
ATOMIC = struct.calcsize("P") >= 8
#: Whether this kind of processor shows its writes to other processors in their order.
_ORDERED = os.name == "posix" and os.uname()[4] in ("x86_64", "i386", "i486", "i586", "i686")

_entry = struct.Struct("=I")
_ENTRY = _entry.size
_END = START + SIZE


class BrokenJournal(Exception):
    """The memory has what no correct process writes there."""


class Journal(object):
    """One end of a journal.

    :param memory: an ``mmap`` of at least :data:`WHOLE` bytes.
    """

    def __init__(self, memory):
        self._memory = memory
        self.numbers = memoryview(memory)[:START].cast("Q")
        self._lock = allocate_lock()
        #: How far this end has written and read. Others can change the numbers in the memory.
        self._head = self._tail = self._taken_tail = 0

    def close(self):
        """Release the memory."""
        self.numbers.release()
        try:
            self._memory.close()
        except BufferError:
            pass  # PyPy: a view of it is not freed yet

    def _in_order(self):
        """A memory barrier: earlier writes become visible before later ones."""
        if _ORDERED:
            return
        lock = self._lock
        for _ in (1, 2):
            lock.acquire()
            lock.release()

    # -- the far side ----------------------------------------------------------------------------

    def put(self, direction, data, claim=None):
        """Put an entry of up to :data:`PIECE` bytes; False if there is no room for it.

        :param claim: called when the entry is complete, directly before it counts.
        """
        numbers = self.numbers
        head = self._head
        size = len(data)
        stop = head + size + _ENTRY
        if stop - numbers[TAIL] > SIZE:
            return False
        begin = START + head % SIZE
        end = begin + size + _ENTRY
        if end <= _END:
            _entry.pack_into(self._memory, begin, size << 1 | direction)
            self._memory[begin + _ENTRY : end] = data
        else:
            entry = _entry.pack(size << 1 | direction) + data
            split = _END - begin
            self._memory[begin:_END] = entry[:split]
            self._memory[START : START + end - _END] = entry[split:]
        # If this process is killed before the last line the entry does not exist, and after it the
        # entry is complete. If a signal handler raises an exception between the two assignments
        # there, which are done from left to right, the entry counts with the next one.
        self._in_order()
        if claim is not None:
            claim()
        self._head = numbers[HEAD] = stop
        return True

    # -- the program -----------------------------------------------------------------------------

    def put_taken(self, taken, done):
        """Put what the program's user has taken; False if there is no room for all of it.

        :param taken: a map: for each channel the number of its values, from the first on.
        :param done: channels that are over, and whose end the user has seen.
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
        """The far side's new entries: pairs of direction and bytes. Neighbours are joined.

        :raises BrokenJournal: the numbers or the entries are invalid.
        """
        numbers = self.numbers
        head, tail = numbers[HEAD], self._tail
        if not 0 <= head - tail <= SIZE:
            raise BrokenJournal("%d bytes in a journal of %d" % (head - tail, SIZE))
        self._in_order()
        begin, size = tail % SIZE, head - tail
        memory = self._memory
        data = memory[START + begin : START + min(begin + size, SIZE)]
        if begin + size > SIZE:
            data += memory[START : START + begin + size - SIZE]
        unpack_from = _entry.unpack_from
        said = []
        position = 0
        last = -1
        while position < size:
            begin = position + _ENTRY
            if begin > size:
                raise BrokenJournal("half an entry")
            (entry,) = unpack_from(data, position)
            position = begin + (entry >> 1)
            if position > size:
                raise BrokenJournal("an entry of %d bytes" % (entry >> 1))
            if entry & 1 != last:
                last = entry & 1
                said.append((last, [data[begin:position]]))
            else:
                said[-1][1].append(data[begin:position])
        self._tail = numbers[TAIL] = head
        return [(direction, b"".join(pieces)) for direction, pieces in said]

    def taken_head(self):
        """How many entries the program has put in all.

        :raises BrokenJournal: that can't be.
        """
        numbers = self.numbers
        head = numbers[TAKEN_HEAD]
        if not 0 <= head - self._taken_tail <= TAKEN_ENTRIES:
            raise BrokenJournal("%d entries of what was taken" % head)
        self._in_order()
        return head

    def read_taken(self, head):
        """What was taken up to an entry, as in :meth:`put_taken`."""
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
