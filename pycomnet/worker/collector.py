"""What lets a short value that follows others of its channel be sent without a lock."""

import time

from ..wire.frames import FRAME_COST, HEADER_SIZE
from .outbox import SIZE

try:
    from _thread import get_ident
except ImportError:  # Python 2
    from thread import get_ident

#: What a frame costs in credit beyond its length.
EXTRA = FRAME_COST - HEADER_SIZE
#: What a byte of memory costs at most: where there is a frame of nothing, in FRAME_COST of credit.
MOST = FRAME_COST // HEADER_SIZE + 1


class Collector(object):
    """Gives the outbox to one channel and the thread that makes this, until it is stopped.

    The channel's ``send`` puts short values there itself: what it needs is in slots here, and takes
    no call. So credit is taken at once for all that there may be room for, and what was not used is
    given back. Whoever makes or stops it has both locks of the link.

    :param channel: it forgets this when nothing can be sent on it any more.
    :param outbox: where; something is in it.
    :param encode: makes a value's payload.
    """

    __slots__ = (
        "_outbox",
        "begin",
        "busy",
        "channel",
        "count",
        "credit",
        "encode",
        "end",
        "head",
        "head_size",
        "id",
        "limit",
        "memory",
        "on",
        "owner",
        "shared",
    )

    def __init__(self, channel, outbox, encode):
        self.channel = channel
        self._outbox = outbox
        self.memory = outbox.memory
        self.shared = outbox.head
        #: where it begins, and where it ends that was collected
        self.begin = self.end = outbox.end
        self.encode = encode
        #: the thread that may collect
        self.owner = get_ident()
        #: how many values there are
        self.count = 0
        #: the header of the last frame, and the size that it was made for
        self.head = b""
        self.head_size = -1
        #: True while a value is put where it belongs
        self.busy = False
        #: False once nothing more may be collected
        self.on = True
        stream = channel._stream
        self.id = stream.id
        self.credit = min(stream.credit, (SIZE - self.begin) * MOST)
        #: where the room ends that there is credit for
        self.limit = self.begin + self.credit // MOST
        stream.credit -= self.credit
        channel._collector = self

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
        self._outbox.end = self.end
        used = self.end - self.begin + self.count * EXTRA
        self.channel._stream.credit += self.credit - used

    def abandon(self):
        """Collect no more; the rest is for another process to do."""
        self.on = False
        self.channel._collector = None
