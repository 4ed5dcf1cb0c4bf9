"""The next fork server on the route, which this one starts and forwards to."""

import os
import select

from ..package import bootstrap_message
from ..preamble import SHOWN, TOO_LONG, Preamble
from ..supervisor import set_nonblocking
from .connection import (
    CLOSED,
    READ_SMALL,
    ForkServerConnection,
    read_now,
    would_block,
)
from .processes import kill_group

try:
    import _signal as signal
except ImportError:
    import signal


class InnerForkServer(object):
    """A fork server that is reached from here.

    :param argv: the command that is started to reach it.
    :param config: its configuration.
    """

    def __init__(self, fork_server, key, argv, config):
        self._fork_server = fork_server
        self._key = key
        self._name = argv[0]
        self.peer = None
        self.ended_with = None
        #: functions that are called with None when it is ready, or with why it can't be reached
        self._waiters = []
        self._lines = b""
        self._preamble = Preamble()
        self._before = b""
        self._gone = None
        self.pid, self._write_fd, self._read_fd, self._stderr = fork_server.spawn(argv, None)
        fork_server.children[self.pid] = self
        set_nonblocking(self._write_fd)
        set_nonblocking(self._read_fd)
        set_nonblocking(self._stderr)
        self._bootstrap_message = bootstrap_message(config)
        self._silence = config.get("fork_server", {}).get("silence")
        fork_server.loop.watch(self._write_fd, select.POLLOUT, self._writable)
        fork_server.loop.watch(self._read_fd, select.POLLIN, self._readable)
        fork_server.loop.watch(self._stderr, select.POLLIN, self._read_stderr)

    def when_ready(self, call):
        """Call ``call`` with None once it takes requests, or with an error's text."""
        if self._gone is not None:
            call(self._gone)
        elif self.peer is not None and self.peer.ready is None:
            call(None)
        else:
            self._waiters.append(call)

    def take_preamble(self):
        """Return its preamble on the first call; empty after that."""
        before, self._before = self._before, b""
        return before and before + b"\n"

    def _tell(self, error):
        waiters, self._waiters = self._waiters, []
        for call in waiters:
            call(error)

    def _writable(self, events):
        try:
            self._bootstrap_message = self._bootstrap_message[
                os.write(self._write_fd, self._bootstrap_message) :
            ]
        except OSError as error:
            if would_block(error):
                return
            self._bootstrap_message = b""  # its end says more
        if not self._bootstrap_message:
            self._fork_server.loop.watch(self._write_fd, 0, None)

    def _readable(self, events):
        data = read_now(self._read_fd, READ_SMALL)
        if not data:
            if data is not None:
                self._fork_server.loop.watch(self._read_fd, 0, None)
            return  # its end comes, too
        after = self._preamble.feed(data)
        if after is None:
            if self._preamble.too_long:
                kill_group(self.pid, signal.SIGKILL)
            return
        self._before = self._preamble.shown()
        loop = self._fork_server.loop
        loop.watch(self._read_fd, 0, None)
        loop.watch(self._write_fd, 0, None)
        opened = self._fork_server.refuse
        self.peer = ForkServerConnection(
            loop, self._read_fd, self._write_fd, True, {}, opened, self._lost
        )
        self.peer.silence = self._silence
        if self._bootstrap_message:
            # More than a pipe holds: it says the marker before it has read all.
            self.peer.begin_with(self._bootstrap_message)
        self.peer.when_ready(lambda: self._tell(None))
        if after:
            self.peer.receive(after)

    def _read_stderr(self, events):
        data = read_now(self._stderr, READ_SMALL)
        if not data:
            if data is not None:
                self._fork_server.loop.watch(self._stderr, 0, None)
            return
        self._lines = (self._lines + data)[-4 * SHOWN :]

    def _lost(self, reason):
        """The connection is over. The process is about to end, too, and its end explains more."""
        if reason != CLOSED:
            self._lines += ("\n%s: %s" % (self._name, reason)).encode("utf-8", "replace")
            kill_group(self.pid, signal.SIGKILL)
        if self._fork_server.hops.get(self._key) is self:
            del self._fork_server.hops[self._key]

    def _over(self, reason):
        self._gone = self._words(reason)
        if self._fork_server.hops.get(self._key) is self:
            del self._fork_server.hops[self._key]
        self._tell(self._gone)
        if self.peer is not None:
            self.peer.over(self._gone)
            self.peer.tell(self._gone)

    def _words(self, reason):
        text = TOO_LONG if self._preamble.too_long else reason
        printed = b"" if self._preamble.begun else self._preamble.shown()
        for what, data in (("it printed", printed), ("it said", self._lines)):
            if data.strip():
                shown = data[-SHOWN:].decode("utf-8", "replace").strip()
                text += "; %s:\n%s" % (what, shown)
        return text

    def reaped(self, number):
        """Its process has ended; as :meth:`Child.reaped`."""
        self.ended_with = number
        self._read_stderr(0)
        if number < 0:
            how = "was killed by signal %d" % -number
        else:
            how = "exited with status %d" % number
        self._over("%s %s" % (self._name, how))
        self._fork_server.loop.watch(self._stderr, 0, None)
        os.close(self._stderr)
        if self.peer is None:
            for fd in (self._write_fd, self._read_fd):
                self._fork_server.loop.watch(fd, 0, None)
                os.close(fd)
