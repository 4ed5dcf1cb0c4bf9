"""Frames that the far side writes together, in memory that it shares with its supervisor.

Writing each small value by a system call of its own, and waking the near side for it, takes several
times as long as making its frame. So once values follow each other quickly their frames are
collected here, and written when there are enough of them, when their sender turns to something else
or, by a thread, a millisecond later. The memory is shared with the supervisor, which writes what is
left when the worker has ended, in whatever way: what was sent before a crash arrives.
"""

import os
import select
import struct
import time

from .forkserver.splice import pending
from .path import own_imports

try:
    from _thread import allocate_lock, start_new_thread
except ImportError:  # Python 2
    from thread import allocate_lock, start_new_thread

#: Two numbers at the beginning: where what was collected ends, and where that begins which has not
#: yet been given to the system.
HEAD = 16
#: Where the rest ends.
SIZE = HEAD + 16384
#: A pipe that can be written takes so much at once (PIPE_BUF): a write of it is not cut short, not
#: even by the worker's death.
PIECE = 4096
#: Values in a row that are written at once, each as it is sent, before any is collected.
UNBATCHED = 16
#: Seconds after which the thread writes what nobody has written before, ...
DELAY = 0.001
#: ... and after which it looks again when somebody has: each look takes the interpreter away from
#: whoever sends a stream, and a process switch to give it back.
STREAM_DELAY = 0.005
#: Seconds that the near side has to take a dead worker's last values.
LAST_WORDS = 2.0
#: seconds by a clock that nobody sets, where this Python has one
now = getattr(time, "monotonic", time.time)


class WriteBuffer(object):
    """What is collected. Only a thread that may write to the connection calls it.

    :param fd: where it is written.
    :param memory: what :func:`new_memory` gave.
    """

    def __init__(self, fd, memory):
        self.memory = memory
        self.head = memoryview(memory)[:HEAD].cast("Q")
        self._fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        #: where what was collected ends
        self.end = HEAD
        #: whether it is a pipe that can have room for everything, once somebody needs to know
        self._roomy = None
        #: how often it was written
        self._writes = 0
        self._awake = False
        self._gate = self._flush = None
        #: what writes it instead of this, where it goes elsewhere than where it says
        self.write = None

    def put(self, frame):
        """Collect a frame; False when it is too long for that."""
        begin = self.end
        end = begin + len(frame)
        if end > SIZE:
            self.flush()
            begin = HEAD
            end = HEAD + len(frame)
            if end > SIZE:
                return False
        self.memory[begin:end] = frame
        self.end = self.head[0] = end
        return True

    def flush(self):
        """Write what was collected."""
        head = self.head
        end = self.end
        begin = HEAD
        if self.write is not None and begin < end:
            data = bytes(self.memory[begin:end])
            head[1] = end
            begin = end
            self.write(data)
        while begin < end:
            # Until it can be written it stays here, where the supervisor finds it. What is written
            # then is taken whole: a piece by any pipe that can be written, and all by an empty one.
            self._poll.poll()
            claimed = end
            if end - begin > PIECE and not self._is_empty():
                claimed = begin + PIECE
            head[1] = claimed
            begin += os.write(self._fd, self.memory[begin:claimed])
        self.end = head[0] = head[1] = HEAD
        self._writes += 1

    def _is_empty(self):
        """Whether it is a pipe that has room for everything; False where that can't be known."""
        if self._roomy is None:
            self._roomy = _is_roomy(self._fd)
        return self._roomy and pending(self._fd) == 0

    def flush_late(self, flush):
        """Have a thread call a function when nobody else has flushed for a while.

        :param flush: waits until it may write, and calls :meth:`flush`; False ends the thread.
        """
        self._gate = allocate_lock()
        self._gate.acquire()
        self._flush = flush

    def wake(self):
        """Something was collected after a while: have the thread look after it."""
        if self._awake:
            return
        self._awake = True
        if self._flush is not None:
            try:
                start_new_thread(self._flush_rest, (self._flush,))
            except Exception:  # a limit of threads: nothing is collected until there may be one
                self._awake = False
                self.flush()
                return
            self._flush = None
        else:
            self._gate.release()

    def _flush_rest(self, flush):
        delay = DELAY
        while True:
            seen = self._writes
            time.sleep(delay)
            if self._writes != seen:  # more is being sent, and its sender writes
                delay = STREAM_DELAY
                continue
            if not flush():
                return
            self._gate.acquire()
            delay = DELAY

    def rest(self):
        """The thread has nothing to do until more is collected. It calls this where it may write"""
        self._awake = False

    def last_words(self):
        """Write what a dead worker has left; its supervisor does this."""
        end, begin = self.head
        late = now() + LAST_WORDS
        try:
            # What the worker was giving to the system is not here any more.
            while HEAD <= begin < end <= SIZE:
                if not self._poll.poll(int(max(late - now(), 0) * 1000)):
                    return
                begin += os.write(self._fd, self.memory[begin : min(begin + PIECE, end)])
        except OSError:
            pass  # the near side is gone


def _is_roomy(fd):
    """Whether it is a pipe that has room for a write buffer when it is empty."""
    try:
        with own_imports:
            import fcntl
            import stat

        # It is smaller than usual for a user who has very many.
        room = fcntl.fcntl(fd, getattr(fcntl, "F_GETPIPE_SZ", 1032))
        return room >= SIZE + PIECE and stat.S_ISFIFO(os.fstat(fd).st_mode)
    except (ImportError, OSError):
        return False


def new_memory():
    """The memory of a write buffer, which forks share; None where there is no such."""
    if not hasattr(memoryview, "cast"):
        return None  # Python 2
    try:
        import mmap

        memory = mmap.mmap(-1, SIZE)
        memory[:HEAD] = struct.pack("QQ", HEAD, HEAD)
        return memory
    except (ImportError, OSError):
        return None
