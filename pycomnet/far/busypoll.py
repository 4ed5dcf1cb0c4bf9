"""When a wait is polled for, for how long, and when not: one rule for all that poll.

To wake a process that sleeps takes the system up to 50 us: longer than a small request takes to be
answered. So whoever waits for an answer may poll for it first, and yield the processor between the
polls. Where both ends of a conversation do so, neither sleeps.

It is done where it has been seen to pay: while waits are short, as measured, and less and less
often while polling is in vain. How often it was tried says nothing: two ends that poll for less
than the other needs to wake up would both sleep on, for ever.
"""

import os
import time

#: Seconds for which one polls for a process that answers itself. It may have to be woken first (50
#: us), and needs some 20 us. Not longer: what is answered through another process takes longer, and
#: where more processes poll than there are processors they keep each other waiting.
WINDOW = 100e-6
#: Seconds for which one polls where that is worth it: a server of calls runs the user's code, and a
#: fork server stands between two others.
LONG_WINDOW = 200e-6
#: Seconds within which what is waited for counts as quick, when it was slept for: more than the
#: windows, as this end had to be woken as well.
QUICK = 300e-6
#: Quick waits in a row before one polls, at least and at most: twice as many each time that it was
#: in vain. With the most, polling in vain costs one wait in a hundred a window.
LEAST_QUICK = 1
MOST_QUICK = 128

_now = getattr(time, "perf_counter", time.time)
_yield = getattr(os, "sched_yield", None)


def poll_of(fd):
    """What says whether a descriptor can be read, called with 0; None if nothing can."""
    try:
        import select

        poll = select.poll()
        poll.register(fd, select.POLLIN)
    except (AttributeError, OSError):
        return None
    return poll.poll


class BusyWait(object):
    """One who waits again and again: :meth:`poll` before sleeping, :meth:`came` afterwards.

    :param look: called with 0; it returns what is there, or something false; None if there is
        something else to do first. With None, or where the processor can't be yielded, one never
        polls.
    :param window: seconds for which one polls.
    :param busy: called before that; true if there is something else to do first.
    """

    __slots__ = ("_busy", "_look", "_needed", "_quick", "_since", "_window")

    def __init__(self, look, window=WINDOW, busy=None):
        self._look = None if _yield is None else look
        self._window = window
        self._busy = busy
        #: when the wait began that is slept for; None where it was polled for
        self._since = None
        self._quick = 0
        self._needed = LEAST_QUICK

    def poll(self):
        """A wait begins: what is there, if one polls and it comes soon; else something false."""
        look = self._look
        if look is None:
            return False
        now = _now
        began = now()
        if self._quick < self._needed:
            self._since = began
            return False
        if self._busy is not None and self._busy():
            return False
        end = began + self._window
        while True:
            ready = look(0)
            if ready is None:
                return False
            if now() > end:
                # Or it did come, but the processor, once yielded, was long in coming back: others
                # need it, and who sleeps is given it at once.
                self._quick = 0
                self._needed = min(2 * self._needed, MOST_QUICK)
                return ready
            if ready:
                self._needed = LEAST_QUICK
                return ready
            _yield()

    def came(self):
        """What was waited for has come."""
        since = self._since
        if since is not None:
            self._since = None
            self._quick = self._quick + 1 if _now() - since < QUICK else 0
