"""What lets a short value that follows others of its channel be sent without a lock."""

import sys
import time
from struct import Struct

from ..wire.frames import DATA, HEADER, HEADER_SIZE, frame_cost, run_cost
from .writebuffer import SIZE

try:
    from _thread import get_ident
except ImportError:  # Python 2
    from thread import get_ident

#: What says whether threads take turns (the GIL); a Python that can't say has one.
_is_gil_enabled = getattr(sys, "_is_gil_enabled", None)
#: What a byte of memory costs at most: where there are frames of nothing.
MOST = frame_cost(0) // HEADER_SIZE + 1
#: Sizes of payloads that are remembered.
MAX_PUTS = 1024
#: size -> what puts a header and a payload of that size somewhere, in one call
_puts = {}


def may_batch():
    """Whether a :class:`Batcher` is safe in this process.

    Whoever collects says that it is busy and then looks whether it still may; whoever stops it says
    that it may not and then looks whether it is busy. One of them sees what the other says only if
    all threads see these writes in the order in which they were made. The GIL makes that so.
    Without it a processor may put off a write until after the read that follows.
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
    """Gives the write buffer to one channel and the thread that makes this, until it is stopped.

    The channel's ``send`` puts short values there itself: what it needs is in slots here, and takes
    no call. So credit is taken at once for all that there may be room for, and what was not used is
    given back. Whoever makes or stops it has both locks of the link. It is made only where
    :func:`may_batch` says so.

    :param channel: it forgets this when nothing can be sent on it any more.
    :param write_buffer: where; something is in it.
    :param encode: makes a value's payload.
    :param packing: what makes that of most values sooner, and its second and third argument; when
        it raises, ``encode`` is to be asked.
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
        #: where it begins, and where it ends that was collected
        self.begin = self.end = write_buffer.end
        self.encode = encode
        #: the thread that may collect
        self.owner = get_ident()
        if packing is None:
            packing = (lambda value, hook, options: encode(value)), None, None
        self.pack, self.hook, self.options = packing
        #: the size of the last payload, that of its frame and the header, and what puts both there
        self.size = -1
        self.step = 1
        self.head = b""
        self.put = None
        #: how many values there were of other sizes, and where those end
        self._count = 0
        self._others = self.begin
        #: True while a value is put where it belongs
        self.busy = False
        #: False once nothing more may be collected
        self.on = True
        stream = channel.stream
        self.id = stream.id
        self.credit = min(stream.credit, (SIZE - self.begin) * MOST)
        #: where the room ends that there is credit for
        self.limit = self.begin + self.credit // MOST
        stream.credit -= self.credit
        channel.batcher = self

    def expect(self, size):
        """Payloads are of another size from now on."""
        head, put, count = HEADER.pack(size, DATA, self.id), _putting(size), self.count()
        # Until all of it is there none of it holds: a signal's exception may come in between.
        self.size = -1
        self._count = count
        self._others = self.end
        self.step = HEADER_SIZE + size
        self.head = head
        self.put = put
        self.size = size

    def count(self):
        """How many values there are."""
        return self._count + (self.end - self._others) // self.step

    def stop(self):
        """Collect no more; give back what is not used.

        :raises RuntimeError: a signal handler does this, and interrupted this thread in the midst
            of collecting a value. (As a file raises it for a reentrant call.)
        """
        if self.busy and self.owner == get_ident():
            raise RuntimeError("a signal handler can't send while what it interrupts is sending")
        self.abandon()
        # From here on no other value is collected; one may be in the midst of it.
        while self.busy:
            time.sleep(0)
        self._write_buffer.end = self.end
        used = run_cost(self.end - self.begin, self.count())
        self.channel.stream.credit += self.credit - used

    def abandon(self):
        """Collect no more; the rest is for another process to do."""
        self.on = False
        self.channel.batcher = None
