"""A local process, the transport to its standard input and output, and how it ends.

``subprocess`` starts it, and not ``reactor.spawnProcess``: ``subprocess`` runs no Python code
between fork and exec, and reports at once that there is no such program. A pidfd shows the
process's end without SIGCHLD. So it works under any reactor, in any thread, and for the blocking
API.
"""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import os
import signal
import subprocess
from collections import deque
from collections.abc import Callable
from typing import IO, Any

from twisted.internet import defer, error, fdesc, main
from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import ITransport
from twisted.python.failure import Failure
from zope.interface import implementer

from pycomnet.deferred import OneShot
from pycomnet.far.busypoll import WINDOW, poll_of
from pycomnet.far.live import Live
from pycomnet.net import _twisted
from pycomnet.net.busypoll import READS_PER_TURN, reactor_wait
from pycomnet.net.reactors import PipeReactor

#: The exit status of a far side whose code has closed its connection's descriptor (far/worker.py).
LOST_DESCRIPTOR = 79

#: Bytes that are read at a time: usually, and when there is much. A buffer that is larger than a
#: processor's cache is slower.
READ_SMALL = 1 << 16
READ_LARGE = 1 << 18
#: Bytes that a pipe is grown to when it is found full. Other pipes are not grown: the system limits
#: the size of all pipes of a user together.
PIPE_LARGE = 1 << 20
#: Lines of standard error that are kept for error messages, and their length in characters.
STDERR_LINES = 20
STDERR_LINE = 500
#: Pieces of it that are read at the process's end: as much as a pipe holds. Processes that it left
#: may go on writing.
STDERR_READS = 16
#: Seconds between checks of a process that has no pidfd.
POLL_INTERVAL = 0.05


def _close_after_turn(fd: int, reactor: PipeReactor) -> None:
    """Close a descriptor after this turn of the reactor.

    The reactor may have found an event on this descriptor in the same turn, and it knows
    descriptors by their numbers. If the number were free at once, a process that is started in this
    turn could get it for a pipe, and the event would be taken for one of that pipe.
    """
    if reactor.running:
        reactor.callLater(0, _close, fd)
    else:
        _close(fd)


def _close(fd: int) -> None:
    with contextlib.suppress(OSError):
        os.close(fd)


class _Readable(FileDescriptor):
    """Calls a function when a descriptor is readable; closes it at the end.

    :param readable: returns False at the end.
    :param closed: called at the end: a reactor that sees a hang-up does not call ``readable``.
    """

    reactor: PipeReactor

    def __init__(
        self,
        fd: int,
        readable: Callable[[], bool],
        reactor: PipeReactor,
        closed: Callable[[Failure], None] | None = None,
    ) -> None:
        super().__init__(reactor)
        self._fd = fd
        self._readable = readable
        self._closed = closed
        self.connected = 1
        self.startReading()

    def fileno(self) -> int:
        return self._fd

    def doRead(self) -> Any:
        return None if self._readable() else main.CONNECTION_DONE

    def release(self) -> None:
        """Stop reading, and leave the descriptor open for the caller."""
        self.stopReading()
        self.connected = 0
        self._fd = -1

    def connectionLost(self, reason: Failure) -> None:
        if self._fd >= 0:
            super().connectionLost(reason)
            _close_after_turn(self._fd, self.reactor)
            self._fd = -1
            if self._closed is not None:
                self._closed(reason)


@_twisted.closes_write_end
@implementer(ITransport)
class ProcessTransport(FileDescriptor):
    """A Twisted transport over two pipes.

    A far side writes many small pieces, each with a system call. A pipe takes two or three of them
    in the time in which a socket takes one.

    :param write_pipe: the descriptor that is written to.
    :param pipe: the one that is read from.
    :param protocol: the protocol that is connected to them.
    :param first: bytes that are written before the protocol writes any.
    """

    reactor: PipeReactor

    def __init__(
        self, write_pipe: int, pipe: int, protocol: Any, reactor: PipeReactor, first: bytes = b""
    ) -> None:
        super().__init__(reactor)
        self._write_pipe = write_pipe
        self._write_size = READ_SMALL
        self._pipe = pipe
        self._protocol = protocol
        self._read_size = READ_SMALL
        self._wrote = False
        self._wait = reactor_wait(reactor, pipe, WINDOW)
        self.connected = 1
        fdesc.setNonBlocking(write_pipe)
        fdesc.setNonBlocking(pipe)
        self._reader = _Readable(pipe, self._read, reactor, self.connectionLost)
        if first:
            self.write(first)
        protocol.makeConnection(self)

    def fileno(self) -> int:
        return self._write_pipe

    def writeSomeData(self, data: bytes) -> int | BaseException:
        self._wrote = True
        try:
            written = os.write(self._write_pipe, data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            return main.CONNECTION_LOST
        if written < len(data) and self._grow_writing():
            # It may still be full, if the other end has grown it before. Then the number of written
            # bytes is returned, and an error shows again.
            with contextlib.suppress(OSError):
                written += os.write(self._write_pipe, data[written:])
        return written

    def write_parts(self, parts: list[bytes]) -> int:
        """Write as much of some pieces as the pipe takes at once; returns the number of bytes."""
        if len(parts) == 1:
            written = self.writeSomeData(parts[0])
            return written if isinstance(written, int) else 0  # an error shows again
        self._wrote = True
        try:
            if self._write_size < PIPE_LARGE and sum(map(len, parts)) > READ_SMALL:
                self._grow_writing()
            return os.writev(self._write_pipe, parts)
        except OSError:
            return 0

    def _read(self) -> bool:
        self._wait.came()
        for _ in range(READS_PER_TURN):
            try:
                data = os.read(self._pipe, self._read_size)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self.connectionLost(Failure(main.CONNECTION_DONE))
                break
            if len(data) == self._read_size:
                self._grow()
            self._wrote = False
            self._protocol.dataReceived(data)
            if not self._wrote or self.disconnected or not self._reader.connected:
                break
            # The protocol has answered. The other end may answer that at once, too.
            if not self._wait.poll():
                break
        return True

    def look(self) -> None:
        """Poll for the answer to what was just written, and read it if it comes soon.

        For a caller that passes on what came on another connection: so the answer is passed on in
        the same turn.
        """
        if self._reader.connected and not self.disconnected and self._wait.poll():
            self._read()

    def read_rest(self) -> None:
        """Read what is in the pipe, now: nothing writes to it any more."""
        poll = poll_of(self._pipe)
        while self._reader.connected and not self.disconnected and poll is not None and poll(0):
            self._read()

    def _grow(self) -> None:
        """There is much to read: read more at a time, and grow the pipe."""
        if self._read_size < READ_LARGE:
            self._read_size = READ_LARGE
            _grow_pipe(self._pipe)

    def _grow_writing(self) -> bool:
        """There is much to write: grow the pipe; False if that was done before."""
        if self._write_size == PIPE_LARGE:
            return False
        self._write_size = PIPE_LARGE
        return _grow_pipe(self._write_pipe)

    def startReading(self) -> None:
        if self._reader.connected:
            self._reader.startReading()

    def stopReading(self) -> None:
        self._reader.stopReading()

    def close_write_end(self) -> None:
        """After ``loseWriteConnection``, when all is written: end standard input, and read on."""
        _close_after_turn(self._write_pipe, self.reactor)
        self._write_pipe = -1

    def hand_over(self, protocol: Any) -> None:
        """Pass all further bytes to another protocol."""
        self._protocol = protocol

    def release(self) -> tuple[int, int] | None:
        """Stop using the pipes, and leave them open for the caller. The protocol is told nothing.

        :returns: the descriptors that are written to and read from. None, and nothing has changed,
            if bytes are still to be written, or one of the pipes is closed.
        """
        if _twisted.has_unwritten(self) or not self._reader.connected:
            return None
        if self.disconnected or self._write_pipe < 0:
            return None
        released = self._write_pipe, self._reader.fileno()
        self._reader.release()
        self.unregisterProducer()
        self.stopWriting()
        self.connected, self.disconnected = 0, 1
        self._write_pipe = -1
        return released

    def close_copies(self) -> None:
        """In a forked child: close its copies of the pipes. The protocol is told nothing."""
        for fd in (self._reader.fileno(), self._write_pipe):
            if fd >= 0:
                _close(fd)

    def abortConnection(self) -> None:
        """Close both ends at once."""
        self.disconnecting = True
        self.connectionLost(Failure(error.ConnectionAborted()))

    def connectionLost(self, reason: Failure) -> None:
        if self.disconnected:
            return
        if reason.check(error.ConnectionLost) and self._reader.connected and not self.disconnecting:
            # Nothing reads what is written any more. Earlier output may still be in the pipe, with
            # the end behind it.
            _twisted.stop_taking(self)
            return
        super().connectionLost(reason)
        self._reader.connectionLost(reason)
        if self._write_pipe >= 0:
            _close_after_turn(self._write_pipe, self.reactor)
            self._write_pipe = -1
        self._protocol.connectionLost(reason)

    def getHost(self) -> UNIXAddress:
        return UNIXAddress(None)

    def getPeer(self) -> UNIXAddress:
        return UNIXAddress(None)


class ErrorText:
    """A process's standard error: passed on as it arrives. The last lines are kept.

    :param output: called with each piece, a str. The next piece is read once its Deferred, if it
        returns one, has fired.
    """

    def __init__(self, output: Callable[[str], Any]) -> None:
        self._output = output
        self._lines: deque[str] = deque(maxlen=STDERR_LINES)
        self._line = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, data: bytes) -> Any:
        """The next bytes, none at the end. Returns what the callback returned."""
        text = self._decoder.decode(data, not data)
        if not text:
            return None
        self.keep(text)
        return self._output(text)

    def keep(self, text: str) -> None:
        """Keep this text, too."""
        *lines, rest = (self._line + text).split("\n")
        # ssh ends its lines with \r\n.
        self._lines.extend(line[:STDERR_LINE].rstrip("\r") for line in lines)
        self._line = rest[:STDERR_LINE]

    def tail(self) -> str:
        """The last lines."""
        lines = [*self._lines, self._line.rstrip("\r")] if self._line else [*self._lines]
        return "\n".join(lines)


class ErrorPipe:
    """The pipe from a process's standard error.

    :param fd: its descriptor.
    :param text: gets what arrives.
    """

    def __init__(self, fd: int, text: ErrorText, reactor: PipeReactor) -> None:
        fdesc.setNonBlocking(fd)
        self._text = text
        self._readable = _Readable(fd, self._read, reactor)

    def finish(self) -> None:
        """The process has ended: read its last output, and close the pipe.

        Processes that it left may hold the pipe open, so there may be no end.
        """
        for _ in range(STDERR_READS):
            if not self._read():
                break
        self._readable.connectionLost(Failure(main.CONNECTION_DONE))

    def _read(self) -> bool:
        """Read a piece; False at the end."""
        try:
            data = os.read(self._readable.fileno(), READ_SMALL)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        taken = self._text.feed(data)
        if isinstance(taken, defer.Deferred) and not taken.called:
            # Once the pipe is full, the process waits when it writes.
            self._readable.stopReading()
            taken.addBoth(self._read_on)
        return bool(data)

    def _read_on(self, _: object) -> None:
        if self._readable.connected:
            self._readable.startReading()


class LocalProcess(Live):
    """A process whose standard input and output are pipes.

    :param argv: the program and its arguments.
    :param env: its whole environment.
    :param output: as for :class:`ErrorText`.
    :param pass_fds: further descriptors that it inherits.
    :ivar stdin: the descriptor that its standard input is written to.
    :ivar stdout: the one that its standard output is read from.
    :ivar status: its exit status, or minus the signal that ended it; None while it runs.
    :raises OSError: it could not be started.
    """

    def __init__(
        self,
        argv: list[str],
        env: dict[str, str] | None,
        output: Callable[[str], Any],
        reactor: PipeReactor,
        pass_fds: tuple[int, ...] = (),
    ) -> None:
        self._reactor = reactor
        self._text = ErrorText(output)
        self._ended: OneShot[int] = OneShot()
        self.status: int | None = None
        self._process = subprocess.Popen(
            argv,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
            start_new_session=True,
            pass_fds=pass_fds,
        )
        self.pid = self._process.pid
        taken: list[int] = []
        try:  # there may be no descriptors left
            for file in (self._process.stdin, self._process.stdout, self._process.stderr):
                taken.append(_take_descriptor(file))
            self.stdin, self.stdout = taken[:2]
            self._stderr = ErrorPipe(taken[2], self._text, reactor)
            self._watch()
        except BaseException:
            self._never_started(taken)
            raise

    def _never_started(self, taken: list[int]) -> None:
        """End a process that could not be set up."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.status = self._process.wait()
        for file in (self._process.stdin, self._process.stdout, self._process.stderr):
            if file is not None:
                file.close()
        for fd in taken:
            with contextlib.suppress(OSError):
                os.close(fd)

    def kill(self, number: int) -> None:
        """Send a signal to its process group, if it still runs: it may be a shell with a script."""
        if self.status is None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def when_ended(self) -> defer.Deferred[int]:
        """Fires with :attr:`status` once it has ended. Cancelling it does not end the process."""
        return self._ended.when_fired()

    def keep(self, text: str) -> None:
        """Keep text that its code wrote to standard error, for :meth:`stderr_tail`."""
        self._text.keep(text)

    def stderr_tail(self) -> str:
        """The last lines of its standard error."""
        return self._text.tail()

    def _watch(self) -> None:
        try:
            fd = os.pidfd_open(self.pid)
        except (AttributeError, OSError):
            self._poll()
        else:
            _Readable(fd, self._may_have_ended, self._reactor)

    def _poll(self) -> None:
        if self._may_have_ended():
            self._reactor.callLater(POLL_INTERVAL, self._poll)

    def _end_group(self) -> None:
        """Once it has ended, kill its process group. Until it is reaped, its pid is not reused."""
        with contextlib.suppress(AttributeError, OSError):
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                os.killpg(self.pid, signal.SIGKILL)

    def _may_have_ended(self) -> bool:
        self._end_group()
        status = self._process.poll()
        if status is None:
            return True
        self.status = status
        self._stderr.finish()
        self._ended.fire(status)
        return False


def _grow_pipe(fd: int) -> bool:
    """Grow a pipe to :data:`PIPE_LARGE` bytes, if the system can and allows it."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_LARGE)
    except (AttributeError, OSError):
        return False
    return True


def _take_descriptor(file: IO[bytes] | None) -> int:
    assert file is not None
    fd = os.dup(file.fileno())
    file.close()
    return fd


def describe_status(status: int, platform_signal: Callable[[int], str] | None = None) -> str:
    """Describe how a process ended, in words.

    :param status: its exit status, or minus the signal that ended it.
    """
    if status == LOST_DESCRIPTOR:
        return (
            f"code that ran there had closed the connection's descriptor (os.close, os.closerange "
            f"or os.dup2), so it exited with status {status}"
        )
    if status >= 0:
        return f"it exited with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    words = f"it was killed by {name}"
    if -status == signal.SIGKILL:
        words += " (by somebody, or by the system because memory ran out)"
    return words


__all__ = ["ErrorPipe", "ErrorText", "LocalProcess", "ProcessTransport", "describe_status"]
