"""Looking for an answer that is about to come, rather than sleeping for it.

Waking a process that sleeps takes longer than answering a small request does. So whoever has just
asked looks a few times first, and gives the processor away between the looks. Where the answer
mostly comes later, it is seldom done.
"""

import os
import time

#: Waits that are not spun after many that were spun in vain.
MAX_SKIPPED = 255
#: Seconds after which a processor that was given away comes back late: whoever answers, through
#: however many places, does not need it for so long, so somebody else does.
BUSY = 500e-6


def poll_of(fd):
    """What looks whether a descriptor can be read, for a :class:`Spinner`; None if nothing can."""
    try:
        import select

        poll = select.poll()
        poll.register(fd, select.POLLIN)
    except (AttributeError, OSError):
        return None
    return poll.poll


class Spinner(object):
    """Looks for a while for what may come.

    :param poll: what looks: called with 0 it gives what is there, or something false. With None,
        or where the processor can't be given away, nothing is ever looked for.
    :param spins: how often it looks before giving up.
    """

    def __init__(self, poll, spins):
        self._spins = range(spins)
        # Nobody has asked for anything yet.
        self._misses = self._skipped = 1
        self._now = getattr(time, "perf_counter", time.time)
        self._yield = getattr(os, "sched_yield", None)
        self._poll = None if self._yield is None else poll

    def spin(self):
        """Look for a while; what is there, or something false."""
        poll = self._poll
        if poll is None:
            return False
        if self._skipped:
            self._skipped -= 1
            return False
        now = self._now
        then = now()
        for _ in self._spins:
            ready = poll(0)
            if ready:
                self._misses = 0
                return ready
            self._yield()
            begun, then = then, now()
            if then - begun > BUSY:
                break
        # The more often in a row nothing came, the less often it is tried.
        self._misses = min(2 * self._misses + 1, MAX_SKIPPED)
        self._skipped = self._misses
        return False
