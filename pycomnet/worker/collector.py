"""The way of a short value at the far side that follows others of its channel: without a lock."""

import time

from ..wire.frames import DATA, FRAME_COST, HEADER, HEADER_SIZE
from .outbox import SIZE

try:
    from _thread import get_ident
except ImportError:  # Python 2
    from thread import get_ident

pack = HEADER.pack
#: What a frame costs in credit beyond its length.
EXTRA = FRAME_COST - HEADER_SIZE
#: What a byte of memory costs at most: where there is a frame of nothing, in FRAME_COST of credit.
MOST = FRAME_COST // HEADER_SIZE + 1


class Collector(object):
    """Has the outbox for itself, for one channel and the thread that makes it, until it is stopped.

    Its state is in slots, and is all that the way of most values touches. So it takes credit for
    all that there may be room for at once, and gives back what was not used. Whoever makes or stops
    it has both locks of the link.

    :param channel: its short values are collected, to be written together. It forgets this when
        nothing can be sent on it any more.
    :param outbox: where; something is in it.
    :param encode: makes a value's payload.
    """

    __slots__ = (
        "_begin",
        "_busy",
        "_count",
        "_credit",
        "_encode",
        "_end",
        "_head",
        "_head_size",
        "_id",
        "_limit",
        "_memory",
        "_on",
        "_outbox",
        "_owner",
        "_shared",
        "channel",
    )

    def __init__(self, channel, outbox, encode):
        self.channel = channel
        self._outbox = outbox
        self._memory = outbox.memory
        self._shared = outbox.head
        self._begin = self._end = outbox.end
        self._encode = encode
        self._owner = get_ident()
        #: how many values there are
        self._count = 0
        #: the header of the last frame, and the size that it was made for
        self._head = b""
        self._head_size = -1
        #: True while a value is put where it belongs
        self._busy = False
        self._on = True
        stream = channel._stream
        self._id = stream.id
        self._credit = min(stream.credit, (SIZE - self._begin) * MOST)
        #: where the room ends that there is credit for
        self._limit = self._begin + self._credit // MOST
        stream.credit -= self._credit
        channel._collect = self.collect

    def collect(self, value):
        """Collect a value; False when it has to go another way.

        :raises TypeError: it can't be sent.
        """
        if get_ident() != self._owner:
            return False
        payload = self._encode(value)
        if self._busy:
            return False
        # Once the value is here nothing that happens to this process keeps it from arriving.
        try:
            self._busy = True
            size = len(payload)
            begin = self._end
            end = begin + HEADER_SIZE + size
            if end > self._limit or not self._on:
                return False
            if size != self._head_size:
                self._head_size = size
                self._head = pack(size, DATA, self._id)
            self._memory[begin:end] = self._head + payload
            self._count += 1
            self._end = self._shared[0] = end
            return True
        finally:
            self._busy = False

    def stop(self):
        """Collect no more; give back what is not used.

        :raises RuntimeError: a signal handler does this, and interrupted this thread in the midst
            of collecting a value. (As a file raises it for a reentrant call.)
        """
        if self._busy and self._owner == get_ident():
            raise RuntimeError("a signal handler can't send while what it interrupts is sending")
        self.abandon()
        # From here on no other value is collected; one may be in the midst of it.
        while self._busy:
            time.sleep(0)
        self._outbox.end = self._end
        used = self._end - self._begin + self._count * EXTRA
        self.channel._stream.credit += self._credit - used

    def abandon(self):
        """Collect no more; the rest is for another process to do."""
        self._on = False
        self.channel._collect = None
