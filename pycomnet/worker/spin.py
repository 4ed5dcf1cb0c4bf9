"""Looking for an answer that is about to come, rather than sleeping for it.

Waking a process that sleeps takes longer than answering a small request does. So whoever has just
asked looks a few times first, and gives the processor away between the looks. Where the answer
mostly comes later, it is seldom done.
"""

import os

#: Waits that are not spun after many that were spun in vain.
MAX_SKIPPED = 255


class Spinner(object):
    """Looks whether a descriptor can be read.

    :param fd: the descriptor.
    :param spins: how often it is looked at before giving up.
    """

    def __init__(self, fd, spins):
        self._spins = range(spins)
        self._misses = self._skipped = 0
        try:
            import select

            poll = select.poll()
            poll.register(fd, select.POLLIN)
            self._yield = os.sched_yield
            self._poll = poll.poll
        except (AttributeError, OSError):
            self._poll = None

    def spin(self):
        """Look for a while; True when there is something to read."""
        poll = self._poll
        if poll is None:
            return False
        if self._skipped:
            self._skipped -= 1
            return False
        for _ in self._spins:
            if poll(0):
                self._misses = 0
                return True
            self._yield()
        # The more often in a row nothing came, the less often it is tried.
        self._misses = min(2 * self._misses + 1, MAX_SKIPPED)
        self._skipped = self._misses
        return False
