"""A local process, the transport to its standard input and output, and how it ends.

``subprocess`` starts it rather than ``reactor.spawnProcess``: it does not run Python between fork
and exec, it says at once when there is no such program, and its end is seen through a pidfd,
without SIGCHLD. So it works under any reactor in any thread, the blocking API's included.
"""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import os
import signal
import socket
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

#: Socket buffers in bytes, as far as the system grants them: what may be under way to a process
#: without waking it for each piece.
SOCKET_BUFFER = 4 << 20
#: How much is read at a time, and what a pipe is grown to when it is found full. Growing only those
#: keeps within what the system grants a user's pipes together.
READ_SMALL = 1 << 16
READ_LARGE = 1 << 20
#: Lines of standard error that are kept for error messages, and their length in characters.
STDERR_LINES = 20
STDERR_LINE = 500
#: Seconds between looks at a process that has no pidfd.
POLL_INTERVAL = 0.05


class _Readable(FileDescriptor):
    """Calls a function when a descriptor can be read; closes it at the end.

    :param readable: returns False when there is no more.
    """

    def __init__(self, fd: int, readable: Callable[[], bool], reactor: Any) -> None:
        super().__init__(reactor)
        self._fd = fd
        self._readable = readable
        self.connected = 1
        self.startReading()

    def fileno(self) -> int:
        return self._fd

    def doRead(self) -> Any:
        return None if self._readable() else main.CONNECTION_DONE

    def connectionLost(self, reason: Failure) -> None:
        if self._fd >= 0:
            super().connectionLost(reason)
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = -1


@implementer(ITransport)
class ProcessTransport(FileDescriptor):
    """A Twisted transport that writes to a socket and reads from a pipe.

    What a far side writes comes in many small pieces, each with a system call of its own; a pipe
    takes three of them in the time in which a socket takes one. What the near side writes is
    collected, and a socket holds more of it.

    :param sock: what is written to.
    :param pipe: the descriptor that is read from.
    :param protocol: what runs on them.
    """

    def __init__(self, sock: socket.socket, pipe: int, protocol: Any, reactor: Any) -> None:
        super().__init__(reactor)
        self._socket = sock
        self._pipe = pipe
        self._protocol = protocol
        self._read_size = READ_SMALL
        self.connected = 1
        sock.setblocking(False)
        fdesc.setNonBlocking(pipe)
        self._reader = _Readable(pipe, self._read, reactor)
        protocol.makeConnection(self)

    def fileno(self) -> int:
        return self._socket.fileno()

    def writeSomeData(self, data: bytes) -> int | BaseException:
        try:
            return self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            return main.CONNECTION_LOST

    def write_parts(self, parts: list[bytes]) -> int:
        """Write what the socket takes at once of several pieces; the number of bytes."""
        try:
            return self._socket.sendmsg(parts)
        except OSError:
            return 0  # an error shows again

    def _read(self) -> bool:
        try:
            data = os.read(self._pipe, self._read_size)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        if not data:
            self.connectionLost(Failure(main.CONNECTION_DONE))
            return True
        if len(data) == self._read_size:
            self._grow()
        self._protocol.dataReceived(data)
        return True

    def _grow(self) -> None:
        """There is much to read: have the pipe hold more, where the system allows it."""
        if self._read_size < READ_LARGE:
            self._read_size = READ_LARGE
            with contextlib.suppress(AttributeError, OSError):
                fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, READ_LARGE)

    def startReading(self) -> None:
        if self._reader.connected:
            self._reader.startReading()

    def stopReading(self) -> None:
        self._reader.stopReading()

    def abortConnection(self) -> None:
        """Close both ends at once."""
        self.connectionLost(Failure(error.ConnectionAborted()))

    def connectionLost(self, reason: Failure) -> None:
        if self.disconnected:
            return
        super().connectionLost(reason)
        self._reader.connectionLost(reason)
        self._socket.close()
        self._protocol.connectionLost(reason)

    def getHost(self) -> UNIXAddress:
        return UNIXAddress(None)

    def getPeer(self) -> UNIXAddress:
        return UNIXAddress(None)


class LocalProcess:
    """A process whose standard input is a socket and whose standard output is a pipe.

    :param argv: the program and its arguments.
    :param env: its whole environment.
    :param output: called with each piece of its standard error, str.
    :ivar socket: the near end of its standard input.
    :ivar pipe: the descriptor that its standard output is read from.
    :ivar status: its exit status, or minus the signal that ended it; None while it runs.
    :raises OSError: it could not be started.
    """

    def __init__(
        self,
        argv: list[str],
        env: dict[str, str] | None,
        output: Callable[[str], None],
        reactor: Any,
    ) -> None:
        self._reactor = reactor
        self._output = output
        self._lines: deque[str] = deque(maxlen=STDERR_LINES)
        self._line = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._waiters: list[defer.Deferred[int]] = []
        self._ended = False
        self._stderr_open = True
        self.status: int | None = None
        near, far = socket.socketpair()
        try:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
            self._process = subprocess.Popen(
                argv,
                stdin=far,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=env,
                start_new_session=True,
            )
        except BaseException:
            near.close()
            raise
        finally:
            far.close()
        self.socket = near
        self.pid = self._process.pid
        self.pipe = _take_descriptor(self._process.stdout)
        stderr = _take_descriptor(self._process.stderr)
        fdesc.setNonBlocking(stderr)
        self._stderr = _Readable(stderr, self._read_stderr, reactor)
        self._watch()

    def shutdown(self) -> None:
        """Cut the connection, from any thread: the far side ends by that."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def kill(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.status is None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def when_ended(self) -> defer.Deferred[int]:
        """Fires with :attr:`status` once it has ended. Cancelling it changes nothing there."""
        if self._ended:
            assert self.status is not None
            return defer.succeed(self.status)
        deferred: defer.Deferred[int] = defer.Deferred(self._waiters.remove)
        self._waiters.append(deferred)
        return deferred

    def stderr_tail(self) -> str:
        """The last lines of its standard error."""
        lines = [*self._lines, self._line] if self._line else [*self._lines]
        return "\n".join(lines)

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

    def _may_have_ended(self) -> bool:
        status = self._process.poll()
        if status is None:
            return True
        self.status = status
        # What it said last is still in the pipe; processes that it left may hold that open.
        if self._stderr_open and not self._read_stderr():
            self._stderr_open = False
        self._ended = True
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(status)
        return False

    def _read_stderr(self) -> bool:
        while True:
            try:
                data = os.read(self._stderr.fileno(), 65536)
            except BlockingIOError:
                return True
            except OSError:
                data = b""
            text = self._decoder.decode(data, not data)
            if text:
                self._keep(text)
                self._output(text)
            if not data:
                self._stderr_open = False
                return False

    def _keep(self, text: str) -> None:
        *lines, rest = (self._line + text).split("\n")
        self._lines.extend(line[:STDERR_LINE] for line in lines)
        self._line = rest[:STDERR_LINE]


def _take_descriptor(file: IO[bytes] | None) -> int:
    assert file is not None
    fd = os.dup(file.fileno())
    file.close()
    return fd


def describe_status(status: int, platform_signal: Callable[[int], str] | None = None) -> str:
    """What a process's status says, as words.

    :param status: its exit status, or minus the signal that ended it.
    """
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


__all__ = ["LocalProcess", "ProcessTransport", "describe_status"]
