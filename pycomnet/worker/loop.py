"""The loop of a place's supervisor: waits for all its descriptors at once, in one thread."""

import os
import select
import time

#: How often the loop looks whether something has come before it sleeps; as in spin.py.
SPINS = 20
MAX_SKIPPED = 255


class Loop(object):
    """Waits for descriptors, and calls whoever watches them."""

    def __init__(self):
        self.peers = []
        self.now = getattr(time, "monotonic", time.time)
        self._poll = select.poll()
        self._calls = {}
        self._yield = getattr(os, "sched_yield", lambda: None)
        self._misses = self._skipped = 0
        self._idle = None

    def when_idle(self, call):
        """Call this once when there is nothing else to do."""
        self._idle = call

    def watch(self, fd, events, call):
        """Call ``call(events)`` when these happen to a descriptor; no events: not any more."""
        if events:
            self._calls[fd] = call
            self._poll.register(fd, events)
        elif self._calls.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def _spin(self):
        """Look for what may come at once: being woken takes longer than answering does."""
        if self._skipped:
            self._skipped -= 1
            return None
        poll = self._poll.poll
        for _ in range(SPINS):
            ready = poll(0)
            if ready:
                self._misses = 0
                return ready
            self._yield()
        self._misses = min(2 * self._misses + 1, MAX_SKIPPED)
        self._skipped = self._misses
        return None

    def turn(self, timeout):
        """Wait for something to happen, at most so many seconds, and deal with it."""
        try:
            ready = self._spin()
            if self._idle is not None:
                ready = ready or self._poll.poll(0)
                if not ready:
                    call, self._idle = self._idle, None
                    call()
            ready = ready or self._poll.poll(None if timeout is None else int(timeout * 1000) + 1)
        except (OSError, select.error):
            return  # Python 2: interrupted by a signal
        for fd, events in ready:
            call = self._calls.get(fd)
            if call is not None:
                call(events)
        for peer in list(self.peers):
            mux = peer.mux
            if mux._out or mux._ready or mux.sent:
                peer.flush()
