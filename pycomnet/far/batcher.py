"""The batcher: sends a short value that follows others of its channel without a lock."""

import sys
import time
from struct import Struct

from ..wire.frames import DATA, HEADER, HEADER_SIZE, frame_cost, run_cost
from .writebuffer import SIZE

try:
    from _thread import get_ident
except ImportError:  # Python 2
    from thread import get_ident

#: Tells whether this Python has the GIL; a Python without this function has it.
_is_gil_enabled = getattr(sys, "_is_gil_enabled", None)
#: The most credit that a byte of the write buffer can cost: that of frames without payload.
MOST = frame_cost(0) // HEADER_SIZE + 1
#: The number of payload sizes whose packers are cached.
MAX_PUTS = 1024
#: payload size -> a function that packs a header and a payload of that size into a buffer
_puts = {}


def may_batch():
    """Whether a :class:`Batcher` is safe in this process.

    The sender sets ``busy`` and then checks that ``on`` is set. A thread that stops the batcher
    clears ``on`` and then checks ``busy``. At least one of them sees the other's write only if all
    threads see these writes in the order in which they were made. The GIL ensures that; without
    it, a processor may delay a write until after the read that follows.
    """
    return _is_gil_enabled is None or _is_gil_enabled()


def _putting(size):
    put = _puts.get(size)
    if put is None:
        if len(_puts) >= MAX_PUTS:
            _puts.clear()
        put = _puts[size] = Struct("%ds%ds" % (HEADER_SIZE, size)).pack_into
    return put


class Batcher(object):
    """Reserves the write buffer for one channel and the creating thread, until it is stopped.

    The channel's ``send`` writes short values there itself, with what the slots here hold, and
    without a call. So the batcher takes credit at once for all that the buffer has room for, and
    gives back what was not used. Create or stop it with both locks of the link held, and create it
    only if :func:`may_batch` is true.

    :param channel: it drops its batcher when nothing more can be sent on it.
    :param write_buffer: the write buffer; it is not empty.
    :param encode: makes a value's payload.
    :param packing: a function that makes most payloads faster, and its second and third argument.
        When it raises, ``encode`` has to be called.
    """

    __slots__ = (
        "_count",
        "_others",
        "_write_buffer",
        "begin",
        "busy",
        "channel",
        "credit",
        "encode",
        "end",
        "head",
        "hook",
        "id",
        "limit",
        "memory",
        "on",
        "options",
        "owner",
        "pack",
        "put",
        "shared",
        "size",
        "step",
    )

    def __init__(self, channel, write_buffer, encode, packing=None):
        self.channel = channel
        self._write_buffer = write_buffer
        self.memory = write_buffer.memory
        self.shared = write_buffer.head
        #: start and end of what was batched in the write buffer
        self.begin = self.end = write_buffer.end
        self.encode = encode
        #: the thread that may batch
        self.owner = get_ident()
        if packing is None:
            packing = (lambda value, hook, options: encode(value)), None, None
        self.pack, self.hook, self.options = packing
        #: the size of the last payload; the size of its frame, its header, and its packer
        self.size = -1
        self.step = 1
        self.head = b""
        self.put = None
        #: the number of values of other sizes, and their end in the write buffer
        self._count = 0
        self._others = self.begin
        #: True while a value is being written to the write buffer
        self.busy = False
        #: False once it has been stopped
        self.on = True
        stream = channel.stream
        self.id = stream.id
        self.credit = min(stream.credit, (SIZE - self.begin) * MOST)
        #: the end of the room for which there is credit
        self.limit = self.begin + self.credit // MOST
        stream.credit -= self.credit
        channel.batcher = self

    def expect(self, size):
        """Prepare for payloads of another size."""
        head, put, count = HEADER.pack(size, DATA, self.id), _putting(size), self.count()
        # The size is set last: a signal's exception may interrupt this at any point.
        self.size = -1
        self._count = count
        self._others = self.end
        self.step = HEADER_SIZE + size
        self.head = head
        self.put = put
        self.size = size

    def count(self):
        """The number of batched values."""
        return self._count + (self.end - self._others) // self.step

    def stop(self):
        """Stop batching, and give back unused credit.

        :raises RuntimeError: the caller is a signal handler that has interrupted this thread while
            it batched a value. (As a file raises it for a reentrant call.)
        """
        if self.busy and self.owner == get_ident():
            raise RuntimeError("a signal handler can't send while what it interrupts is sending")
        self.abandon()
        # From here on no other value is batched; one may be in progress.
        while self.busy:
            time.sleep(0)
        self._write_buffer.end = self.end
        used = run_cost(self.end - self.begin, self.count())
        self.channel.stream.credit += self.credit - used

    def abandon(self):
        """Stop batching; another process will send what was batched."""
        self.on = False
        self.channel.batcher = None
