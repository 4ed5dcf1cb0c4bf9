"""The loop of a fork server: waits for all its descriptors at once, in one thread."""

import select
import time

from ..busypoll import LONG_WINDOW, BusyWait

#: Descriptors that are looked at in one turn, before the others get theirs.
MAX_EVENTS = 256


class Loop(object):
    """Waits for descriptors, and calls whoever watches them."""

    def __init__(self):
        self.peers = []
        self.now = getattr(time, "monotonic", time.time)
        # epoll takes no longer for the descriptors of hundreds of processes.
        self._epoll = getattr(select, "epoll", None)
        self._set = select.poll() if self._epoll is None else self._epoll()
        self._calls = {}
        self._wait = BusyWait(self._set.poll, LONG_WINDOW)
        self._soon = []
        self._idle = None
        self._quiet = 0
        #: set by whoever moves much: then the processor is better left to who takes it
        self.bulk = False

    def soon(self, call):
        """Call this once when what has happened in this turn is dealt with."""
        self._soon.append(call)

    def when_idle(self, call, quiet=0):
        """Call this once when there is nothing else to do, or has been none for some seconds."""
        self._idle = call
        self._quiet = quiet

    def watch(self, fd, events, call):
        """Call ``call(events)`` when these happen to a descriptor; no events: not any more."""
        if events:
            if fd in self._calls:
                self._set.modify(fd, events)
            else:
                self._set.register(fd, events)
            self._calls[fd] = call
        elif self._calls.pop(fd, None) is not None:
            self._set.unregister(fd)

    def _poll(self, timeout):
        """What has happened; the time in seconds, or None."""
        if self._epoll is not None:
            return self._set.poll(-1 if timeout is None else timeout, MAX_EVENTS)
        return self._set.poll(None if timeout is None else int(timeout * 1000) + 1)

    def _poll_busily(self):
        """What happens soon, where it is polled for."""
        if self.bulk:
            self.bulk = False
            return None
        return self._wait.poll()

    def turn(self, timeout):
        """Wait for something to happen, at most so many seconds, and deal with it."""
        try:
            ready = self._poll_busily()
            if self._idle is not None:
                ready = ready or self._poll(self._quiet)
                if not ready:
                    call, self._idle = self._idle, None
                    call()
            ready = ready or self._poll(timeout)
        except (OSError, IOError, select.error):
            return  # Python 2: interrupted by a signal
        if ready:
            self._wait.came()
        for fd, events in ready:
            call = self._calls.get(fd)
            if call is not None:
                call(events)
        while self._soon:
            calls, self._soon = self._soon, []
            for call in calls:
                call()
        for peer in list(self.peers):
            mux = peer.mux
            if mux.has_data() or mux.scheduler.sent:
                peer.flush()
