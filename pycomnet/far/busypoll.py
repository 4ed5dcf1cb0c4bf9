"""Busy polling: when to poll before a wait, and for how long. One policy for all that poll.

The system takes up to 50 us to wake a sleeping process: longer than a small request takes to be
answered. So a thread that waits for an answer may poll for it first, and yield the processor
between the polls. If both ends of a conversation do so, neither sleeps.

It polls only while that has been seen to pay: while measured waits are short, and less and less
often while polls are in vain. The length of the waits counts, not the success of the polls: two
ends that each poll for less time than the other needs to wake up would otherwise both go on
sleeping for ever.
"""

import os
import time

#: Seconds to poll for a process that answers itself. It may have to be woken first (50 us), and
#: needs some 20 us. Not longer: an answer through another process takes longer anyway, and if more
#: processes poll than there are processors, they delay each other.
WINDOW = 100e-6
#: Seconds to poll where more is worth it: for a server of calls, which runs the user's code, and
#: for a fork server, which stands between two other processes.
LONG_WINDOW = 200e-6
#: A wait that slept is quick if it took at most this long, in seconds: longer than the windows, as
#: this end had to be woken as well.
QUICK = 300e-6
#: The least and the most quick waits in a row before it polls. The number doubles after each poll
#: in vain. At most one wait in a hundred costs a window of polling in vain.
LEAST_QUICK = 1
MOST_QUICK = 128

_now = getattr(time, "perf_counter", time.time)
_yield = getattr(os, "sched_yield", None)


def poll_of(fd):
    """A function that polls whether a descriptor is readable, called with 0; None if impossible."""
    try:
        import select

        poll = select.poll()
        poll.register(fd, select.POLLIN)
    except (AttributeError, OSError):
        return None
    return poll.poll


class BusyWait(object):
    """Busy polling for repeated waits: call :meth:`poll` before sleeping, :meth:`came` afterwards.

    :param look: called with 0; it returns what is there, or something false; None if there is
        something else to do first. If ``look`` itself is None, or the processor can't be yielded,
        it never polls.
    :param window: seconds to poll.
    :param busy: called before polling; true if there is something else to do first.
    """

    __slots__ = ("_busy", "_look", "_needed", "_quick", "_since", "_window")

    def __init__(self, look, window=WINDOW, busy=None):
        self._look = None if _yield is None else look
        self._window = window
        self._busy = busy
        #: the start of a wait that sleeps; None if polling has ended the wait
        self._since = None
        self._quick = 0
        self._needed = LEAST_QUICK

    def poll(self):
        """Begin a wait: returns what has arrived if it polls and that comes soon; else false."""
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
                # Or it has come, but other processes kept the yielded processor for long: they need
                # it, and the system gives it at once to a process that has slept.
                self._quick = 0
                self._needed = min(2 * self._needed, MOST_QUICK)
                return ready
            if ready:
                self._needed = LEAST_QUICK
                return ready
            _yield()

    def came(self):
        """End a wait: what it waited for has come."""
        since = self._since
        if since is not None:
            self._since = None
            self._quick = self._quick + 1 if _now() - since < QUICK else 0
