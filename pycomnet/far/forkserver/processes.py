"""The processes that a fork server has started for gateways, and their pipes."""

import os
import select

from ...wire.frames import RESULT
from ..supervisor import set_nonblocking
from .connection import (
    READ_LARGE,
    READ_SMALL,
    SHORT,
    grow,
    read_now,
    would_block,
)
from .splice import available, move

try:
    import _signal as signal
except ImportError:
    import signal

#: The most bytes of one read of a process's output while there is much.
READ_BULK = 262144
#: The most reads of a process's standard error at its end: what a pipe holds.
STDERR_READS = 16


class Pipes(object):
    """A process's standard input and output, on a raw channel.

    :param first: bytes that the process gets before those of the channel.
    :param preamble: finds the marker in its output; or None.
    :ivar begun: called with the preamble once the marker has come.
    :ivar too_long: called when the preamble is too long.
    :ivar closing: whether nothing more comes for its standard input.
    """

    def __init__(self, loop, peer, stream, write_fd, read_fd, first=b"", preamble=None):
        self._loop = loop
        self._peer = peer
        self.stream = stream
        self._write_fd = write_fd
        self._read_fd = read_fd
        self.preamble = preamble
        self.begun = self.too_long = None
        #: its input, which is held back until it has printed something; None if it is not held back
        self.held = None
        self._size = READ_SMALL
        self._grown = False
        self._out = []
        self.closing = False
        set_nonblocking(write_fd)
        set_nonblocking(read_fd)
        loop.watch(read_fd, select.POLLIN, self._readable)
        if first:
            self.data(first, 0)

    def data(self, payload, cost):
        """Write bytes to its standard input."""
        if self.held is not None:
            self.held.append((payload, cost))
            return
        if self._write_fd < 0:
            self._peer.mux.consumed(self.stream, cost)
            return
        if not self._out:
            done = self._write(payload)
            if done == len(payload):
                if cost:
                    self._peer.mux.consumed(self.stream, cost)
                return
            payload = payload[done:]
            self._loop.watch(self._write_fd, select.POLLOUT, self._writable)
            if not self._grown:
                self._grown = True
                grow(self._write_fd)
        self._out.append((payload, cost))

    def move(self, fd, length, cost):
        """As :meth:`data`, for bytes that can be read from a descriptor; False if impossible."""
        if self._write_fd < 0 or self._out or self.held is not None:
            return False
        rest = move(fd, self._write_fd, length)
        if rest:
            self._loop.watch(self._write_fd, select.POLLOUT, self._writable)
            self._out.append((rest, cost))
        else:
            self._peer.mux.consumed(self.stream, cost)
        return True

    def _write(self, payload):
        try:
            return os.write(self._write_fd, payload)
        except OSError as error:
            # It takes no more input; its earlier output is still read.
            return 0 if would_block(error) else len(payload)

    def _writable(self, events):
        while self._out:
            payload, cost = self._out[0]
            done = self._write(payload)
            if done < len(payload):
                self._out[0] = (payload[done:], cost)
                return
            del self._out[0]
            if cost:
                self._peer.mux.consumed(self.stream, cost)
        self._loop.watch(self._write_fd, 0, None)
        if self.closing:
            self._close_input()

    def _carry(self):
        """Let the system splice its output if there is much; False if there is not, or it can't."""
        peer, stream, fd = self._peer, self.stream, self._read_fd
        left = min(available(fd), READ_LARGE)
        moved = False
        while left >= SHORT:
            size = min(left, peer.mux.scheduler.raw_fragment)
            if not peer.send_from(stream, fd, size):
                break
            left -= size
            moved = self._loop.bulk = True
        return moved

    def _readable(self, events):
        if self._size == READ_BULK and self._is_ours() and self._carry():
            return
        data = read_now(self._read_fd, self._size)
        if data is None:
            return
        if len(data) == READ_SMALL and self._size == READ_SMALL:
            self._size = READ_BULK
            grow(self._read_fd)
        if not data:
            self._close_output()
            if self.held is not None:
                return  # its end says what becomes of this
            if not self._peer.closed:
                self._peer.mux.close(self.stream)
            return
        if self.held is not None:
            self.release()
        if not self._is_ours():
            data = self._after_marker(data)
            if not data:
                return
        if self._peer.closed or not self.stream.sending:
            return
        if not self._peer.send(self.stream, data, self._read_on):
            self._loop.watch(self._read_fd, 0, None)

    def _is_ours(self):
        """Whether its output is now the connection's: the marker has come."""
        return self.preamble is None or self.preamble.begun

    def _after_marker(self, data):
        after = self.preamble.feed(data)
        if after is not None:
            self.begun(self.preamble.shown())
        elif self.preamble.too_long:
            self.too_long()
        return after

    def release(self):
        """Write what was held back, and hold nothing back from now on."""
        held, self.held = self.held, None
        for payload, cost in held:
            self.data(payload, cost)
        if self.closing:
            self.ended()

    def _read_on(self):
        if self._read_fd >= 0:
            self._loop.watch(self._read_fd, select.POLLIN, self._readable)

    def ended(self):
        """No more input comes."""
        self.closing = True
        if not self._out and not self.held:
            self._close_input()

    def closed(self, kind, payload):
        """The channel was closed: read no more output, and end the input."""
        self._close_output()
        self.ended()

    def abandon(self):
        """Give the channel up: another object takes it over."""
        self._out = []
        self._close_output()
        self._close_input()

    def _close_input(self):
        if self._write_fd >= 0:
            self._loop.watch(self._write_fd, 0, None)
            os.close(self._write_fd)
            self._write_fd = -1

    def _close_output(self):
        if self._read_fd >= 0:
            self._loop.watch(self._read_fd, 0, None)
            os.close(self._read_fd)
            self._read_fd = -1


class WorkerProcess(object):
    """A process that was started for one gateway: its standard error and its end.

    :param stream: the ``start`` channel that requested it.
    :param stderr: the descriptor from which its standard error is read, or None.
    """

    def __init__(self, fork_server, peer, stream, pid, stderr):
        self._fork_server = fork_server
        self._peer = peer
        self._stream = stream
        self.pid = pid
        self._stderr = stderr
        self.ended_with = None
        #: whether it has written to standard error, or was told to end
        self.touched = False
        stream.app = self
        peer.mux.demand_read(stream)
        fork_server.children[pid] = self
        if stderr is not None:
            set_nonblocking(stderr)
            fork_server.loop.watch(stderr, select.POLLIN, self._readable)
        self._send({"pid": pid})

    def _send(self, value, token=None):
        if self._peer.closed or not self._stream.sending:
            return True
        return self._peer.mux.send(self._stream, self._peer.codec.encode(value), token)

    def _readable(self, events):
        self._read_stderr()

    def _read_stderr(self, last=False):
        data = read_now(self._stderr, READ_SMALL)
        if not data:
            if data is not None:
                self._close_stderr()
            return False
        self.touched = True
        if not self._send(bytearray(data), self._read_on) and not last:
            self._fork_server.loop.watch(self._stderr, 0, None)
        return True

    def _read_on(self):
        if self._stderr is not None:
            self._fork_server.loop.watch(self._stderr, select.POLLIN, self._readable)

    def _close_stderr(self):
        if self._stderr is not None:
            self._fork_server.loop.watch(self._stderr, 0, None)
            os.close(self._stderr)
            self._stderr = None

    def data(self, payload, cost):
        """Send it a signal."""
        self._peer.mux.consumed(self._stream, cost)
        self._peer.mux.demand_read(self._stream)
        number = self._peer.codec.decode(payload)
        self.touched = True
        if isinstance(number, int) and self.ended_with is None:
            kill_group(self.pid, number)

    def ended(self):
        """No more signals come."""

    def closed(self, kind, payload):
        """It is not needed any more."""
        self.touched = True
        if self.ended_with is None:
            kill_group(self.pid, signal.SIGTERM)

    def reaped(self, number):
        """It has ended with this status, or was killed by this signal if ``number`` is negative."""
        self.ended_with = number
        if self._stderr is not None:
            for _ in range(STDERR_READS):
                if not self._read_stderr(True):
                    break
            self._close_stderr()
        self.tell_end(number)

    def tell_end(self, number):
        """Say so."""
        if not self._peer.closed and self._stream.sending:
            self._peer.mux.close(self._stream, RESULT, self._peer.codec.encode({"status": number}))


class Taken(WorkerProcess):
    """A process that was pre-forked.

    It may have died before it was taken, or before it got its request: then another is forked.

    :param instead: called in that case, with the input for it and whether that has ended.
    """

    def __init__(self, fork_server, peer, stream, pid, stderr, pipes, instead):
        self._pipes = pipes
        self._instead = instead
        WorkerProcess.__init__(self, fork_server, peer, stream, pid, stderr)

    def tell_end(self, number):
        """Report its end, if it had begun."""
        pipes = self._pipes
        if pipes.held is None or self.touched or self._peer.closed:
            if pipes.held is not None:
                pipes.release()
                if not self._peer.closed:
                    self._peer.mux.close(pipes.stream)
            WorkerProcess.tell_end(self, number)
            return
        held, closing = pipes.held, pipes.closing
        pipes.abandon()
        self._instead(held, closing)


class Booted(WorkerProcess):
    """A new interpreter, started for one gateway."""

    def __init__(self, fork_server, peer, stream, pid, stderr, pipes):
        self.pipes = pipes
        pipes.begun = self._begun
        pipes.too_long = lambda: kill_group(pid, signal.SIGKILL)
        WorkerProcess.__init__(self, fork_server, peer, stream, pid, stderr)

    def _begun(self, before):
        if before:
            self._send(bytearray(before + b"\n"))
        self._send({"began": True})

    def tell_end(self, number):
        """Report its end, and what it printed if it never began."""
        preamble = self.pipes.preamble
        if not preamble.begun and preamble.shown():
            self._send({"preamble": bytearray(preamble.shown())})
        WorkerProcess.tell_end(self, number)


def kill_group(pid, number):
    """Send a signal to a process that was forked here and is not reaped, and to its group."""
    try:
        os.killpg(pid, number)
    except OSError:
        try:
            os.kill(pid, number)  # just forked: it has no group of its own yet
        except OSError:
            pass
