"""Frames that the far side writes together, in memory that it shares with its supervisor.

A system call for each small value, which also wakes the near side, takes several times as long as
encoding its frame. So if values follow each other quickly, their frames are collected here. They
are written when there are enough of them, when their sender does something else, or a millisecond
later by a thread. When the worker has ended, in whatever way, its supervisor writes what is left in
the memory: what was sent before a crash arrives.
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

#: Two numbers at the beginning: the end of what was collected, and the beginning of what has not
#: been handed to the system yet.
HEAD = 16
#: The end of the memory.
SIZE = HEAD + 16384
#: A pipe that is writable takes this many bytes at once (PIPE_BUF): such a write is never partial,
#: even if the worker is killed.
PIECE = 4096
#: The values in a row that are written immediately, before any is collected.
UNBATCHED = 16
#: Seconds after which the thread writes what no other thread has written, ...
DELAY = 0.001
#: ... and after which it checks again if another thread has. Each check interrupts the thread that
#: sends a stream, and costs a switch of threads.
STREAM_DELAY = 0.005
#: Seconds that the near side has to read a dead worker's last values.
LAST_WORDS = 2.0
#: seconds by a clock that nobody sets, where this Python has one
now = getattr(time, "monotonic", time.time)


class WriteBuffer(object):
    """The collected frames. Only a thread that may write to the connection uses it.

    :param fd: the descriptor that they are written to.
    :param memory: from :func:`new_memory`.
    :ivar end: the end of what was collected.
    :ivar write: a function that is called instead of writing to ``fd``, or None. It gets bytes, and
        a function that it calls directly before these count as written.
    """

    def __init__(self, fd, memory):
        self.memory = memory
        self.head = memoryview(memory)[:HEAD].cast("Q")
        self._fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self.end = HEAD
        #: the end of the first frame; whether more than that was written the last time
        self._first = HEAD
        self._several = False
        #: whether it is a pipe that has room for everything when it is empty; None: not known yet
        self._roomy = None
        #: how often the frames were written
        self._writes = 0
        self._awake = False
        self._gate = self._flush = None
        self.write = None

    def put(self, frame):
        """Collect a frame; False if it is too long."""
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
        if begin == HEAD:
            self._first = end
        return True

    def flush(self):
        """Write what was collected."""
        head = self.head
        end = self.end
        begin = HEAD
        self._several = end > self._first
        if self.write is not None and begin < end:
            # Until they count as written they stay here, where the supervisor finds them.
            self.write(bytes(self.memory[begin:end]), self._claim)
            begin = end
        while begin < end:
            # Until the pipe is writable the frames stay here, where the supervisor finds them. Then
            # the write is complete: of a piece to any writable pipe, of everything to an empty one.
            self._poll.poll()
            claimed = end
            if end - begin > PIECE and not self._is_empty():
                claimed = begin + PIECE
            head[1] = claimed
            begin += os.write(self._fd, self.memory[begin:claimed])
        self.end = head[0] = head[1] = HEAD
        self._writes += 1

    def _is_empty(self):
        """Whether it is a pipe that has room for everything; False if that is not known."""
        if self._roomy is None:
            self._roomy = _is_roomy(self._fd)
        return self._roomy and pending(self._fd) == 0

    def _claim(self):
        """From now on the supervisor does not write what was collected."""
        self.head[1] = self.end

    def flush_late(self, flush):
        """Let a thread call a function if no other thread has flushed for a while.

        :param flush: it waits until it may write, and calls :meth:`flush`. It returns the seconds
            until its next call, 0 if it is called when a frame is collected, or None: never again.
        """
        self._gate = allocate_lock()
        self._gate.acquire()
        self._flush = flush

    def wake(self):
        """A first frame was collected: let the thread write it if no other thread does."""
        if self._awake:
            return
        self._awake = True
        if self._flush is not None:
            try:
                start_new_thread(self._flush_rest, (self._flush,))
            except Exception:  # the limit of threads: write it now, and try again next time
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
            if self._writes != seen:  # the sender sends more, and writes
                delay = STREAM_DELAY
                continue
            delay = flush()
            if delay is None:
                return
            if not delay:
                self._gate.acquire()
                delay = DELAY

    def rest(self):
        """Nothing is left for the thread until the next frame. The thread calls this.

        :returns: 0. But if it has written several frames, values follow each other quickly, and it
            should look again after so many seconds: nobody wakes it before.
        """
        if self._several:
            return STREAM_DELAY
        self._awake = False
        return 0

    def last_words(self):
        """Write what a dead worker has left. Its supervisor calls this."""
        end, begin = self.head
        late = now() + LAST_WORDS
        try:
            # What the worker had handed to the system is not written again.
            while HEAD <= begin < end <= SIZE:
                if not self._poll.poll(int(max(late - now(), 0) * 1000)):
                    return
                begin += os.write(self._fd, self.memory[begin : min(begin + PIECE, end)])
        except OSError:
            pass  # the near side is gone


def _is_roomy(fd):
    """Whether a descriptor is a pipe that has room for a whole write buffer when it is empty."""
    try:
        with own_imports:
            import fcntl
            import stat

        # A user who has very many pipes gets smaller ones.
        room = fcntl.fcntl(fd, getattr(fcntl, "F_GETPIPE_SZ", 1032))
        return room >= SIZE + PIECE and stat.S_ISFIFO(os.fstat(fd).st_mode)
    except (ImportError, OSError):
        return False


def new_memory():
    """The memory of a write buffer, which forks share; None if this Python has no such memory."""
    if not hasattr(memoryview, "cast"):
        return None  # Python 2
    try:
        import mmap

        memory = mmap.mmap(-1, SIZE)
        memory[:HEAD] = struct.pack("QQ", HEAD, HEAD)
        return memory
    except (ImportError, OSError):
        return None
