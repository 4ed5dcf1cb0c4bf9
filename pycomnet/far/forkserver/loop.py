"""The event loop of a fork server: waits for all its descriptors, in one thread."""

import select
import time

from ..busypoll import LONG_WINDOW, BusyWait

#: The most descriptors that are served in one turn.
MAX_EVENTS = 256


class Loop(object):
    """Waits for events of descriptors, and calls the functions that watch them."""

    def __init__(self):
        self.peers = []
        self.now = getattr(time, "monotonic", time.time)
        # epoll takes no longer for hundreds of descriptors than for a few.
        self._epoll = getattr(select, "epoll", None)
        self._set = select.poll() if self._epoll is None else self._epoll()
        self._calls = {}
        self._wait = BusyWait(self._set.poll, LONG_WINDOW)
        self._soon = []
        self._idle = None
        self._quiet = 0
        #: set when much is forwarded: then no busy polling, as the receiver needs the processor
        self.bulk = False

    def soon(self, call):
        """Call ``call`` once, when the events of this turn have been handled."""
        self._soon.append(call)

    def when_idle(self, call, quiet=0):
        """Call ``call`` once, when there has been nothing else to do for ``quiet`` seconds."""
        self._idle = call
        self._quiet = quiet

    def watch(self, fd, events, call):
        """Call ``call(events)`` when these events occur; no events: stop watching."""
        if events:
            if fd in self._calls:
                self._set.modify(fd, events)
            else:
                self._set.register(fd, events)
            self._calls[fd] = call
        elif self._calls.pop(fd, None) is not None:
            self._set.unregister(fd)

    def _poll(self, timeout):
        """Wait for events, at most ``timeout`` seconds, or for ever if it is None."""
        if self._epoll is not None:
            return self._set.poll(-1 if timeout is None else timeout, MAX_EVENTS)
        return self._set.poll(None if timeout is None else int(timeout * 1000) + 1)

    def _poll_busily(self):
        """The events that busy polling finds."""
        if self.bulk:
            self.bulk = False
            return None
        return self._wait.poll()

    def turn(self, timeout):
        """Wait for events, at most ``timeout`` seconds, and handle them."""
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
