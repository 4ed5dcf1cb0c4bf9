"""Frames that the far side writes together, in memory that it shares with its supervisor.

Writing each small value by a system call of its own, and waking the near side for it, takes several
times as long as making its frame. So once values follow each other quickly their frames are
collected here, and written when there are enough of them, when their sender turns to something else
or, by a thread, a millisecond later. The memory is shared with the supervisor, which writes what is
left when the worker has ended, in whatever way: what was sent before a crash arrives.
"""

import os
import select
import time

try:
    from _thread import allocate_lock, start_new_thread
except ImportError:  # Python 2
    from thread import allocate_lock, start_new_thread

#: Two numbers at the beginning: where what was collected ends, and whether it is being written.
HEAD = 16
#: Where the rest ends. A pipe that can be written takes 4096 bytes at once (PIPE_BUF): a write of
#: them is not cut short, not even by the worker's death.
SIZE = HEAD + 4096
#: Values in a row that are written at once, each as it is sent, before any is collected.
STRAIGHT = 16
#: Seconds after which the thread writes what nobody has written before.
DELAY = 0.001
#: Seconds that the near side has to take a dead worker's last values.
LAST_WORDS = 2.0


class Outbox(object):
    """What is collected. Only a thread that may write to the connection calls it.

    :param fd: where it is written.
    :param memory: what :func:`new_memory` gave.
    """

    def __init__(self, fd, memory):
        self._memory = memory
        self._head = memoryview(memory)[:HEAD].cast("Q")
        self._fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        #: where what was collected ends
        self.end = HEAD
        #: how often it was written
        self._writes = 0
        self._awake = False
        self._gate = self._flush = None

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
        self._memory[begin:end] = frame
        self.end = self._head[0] = end
        return True

    def flush(self):
        """Write what was collected."""
        end = self.end
        if end == HEAD:
            return
        # Until it can be written it stays here, where the supervisor finds it.
        self._poll.poll()
        head = self._head
        head[1] = 1
        begin = HEAD
        while begin < end:
            begin += os.write(self._fd, self._memory[begin:end])
        self.end = head[0] = HEAD
        head[1] = 0
        self._writes += 1

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
            start_new_thread(self._flush_rest, (self._flush,))
            self._flush = None
        else:
            self._gate.release()

    def _flush_rest(self, flush):
        while True:
            seen = self._writes
            time.sleep(DELAY)
            if self._writes == seen:  # else more is being sent, and its sender writes
                if not flush():
                    return
                self._gate.acquire()

    def rest(self):
        """The thread has nothing to do until more is collected. It calls this where it may write"""
        self._awake = False

    def last_words(self):
        """Write what a dead worker has left; its supervisor does this."""
        end, writing = self._head
        # What was being written is written: a pipe takes it as a whole.
        if HEAD < end <= SIZE and not writing:
            try:
                if self._poll.poll(int(LAST_WORDS * 1000)):
                    os.write(self._fd, self._memory[HEAD:end])
            except OSError:
                pass  # the near side is gone


def new_memory():
    """The memory of an outbox, which forks share; None where there is no such."""
    if not hasattr(memoryview, "cast"):
        return None  # Python 2
    try:
        import mmap

        return mmap.mmap(-1, SIZE)
    except (ImportError, OSError):
        return None
