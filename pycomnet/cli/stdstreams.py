"""The process's standard streams in the reactor, without making them non-blocking.

A terminal or a pipe is shared with other processes, and so is its O_NONBLOCK: a command that set it
would break its neighbours in a pipeline. So a stream is read and written only when ``poll`` says
that it won't block, and a write is never longer than the stream certainly accepts. Meanwhile the
reactor runs, and Ctrl-C works even if the reader of standard output is stuck.
"""

from __future__ import annotations

import contextlib
import os
import select
import stat
from collections.abc import Callable
from typing import Any

from twisted.internet import defer
from twisted.internet.abstract import FileDescriptor
from twisted.internet.main import CONNECTION_DONE
from twisted.python.failure import Failure

from pycomnet.deferred import Condition
from pycomnet.net import _twisted
from pycomnet.net.reactors import PipeReactor

#: Bytes that a writable pipe takes without blocking (PIPE_BUF, POSIX and Linux).
SURE = getattr(select, "PIPE_BUF", 512)
#: The most bytes that are written in one turn of the reactor.
TURN = 1 << 16
#: Bytes that are read at a time.
READ_SIZE = 1 << 16


def never_blocks(fd: int) -> bool:
    """Whether a descriptor is a file or a device that the reactor need not (and can't) wait for."""
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        return True
    return stat.S_ISREG(mode) or stat.S_ISBLK(mode) or (stat.S_ISCHR(mode) and not os.isatty(fd))


class OutputStream(FileDescriptor):
    """Standard output or error.

    :param fd: the descriptor; it is never closed here.
    :param failed: called once with the OSError that ended it, such as BrokenPipeError.
    """

    SEND_LIMIT = TURN

    def __init__(self, fd: int, failed: Callable[[OSError], object], reactor: PipeReactor) -> None:
        super().__init__(reactor)
        self._fd = fd
        self._failed = failed
        self._direct = never_blocks(fd)
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._empty = Condition()
        self.problem: OSError | None = None
        self.connected = 1

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self._fd)

    def put(self, data: bytes) -> defer.Deferred[None] | None:
        """Write.

        :returns: None if all is written; else a Deferred that fires when it is. It also fires when
            the stream has failed: ``failed`` is called, so that writers need not check. Cancelling
            it has no effect.
        """
        if self.problem is not None or not data:
            return None
        if not self._pending():
            done = self.writeSomeData(data)
            if isinstance(done, Exception) or done == len(data):
                return None
            data = data[done:]
        self.write(data)
        return self.when_empty()

    def when_empty(self) -> defer.Deferred[None]:
        """Fires once there is nothing left to write, or the stream has failed."""
        if not self._pending() or self.problem is not None:
            return defer.succeed(None)
        return self._empty.wait()

    def _pending(self) -> bool:
        return _twisted.has_unwritten(self)

    def writeSomeData(self, data: Any) -> int | Exception:
        done = 0
        view = memoryview(data)
        try:
            if self._direct:
                while done < len(view):
                    done += os.write(self._fd, view[done:])
            else:
                while done < min(len(view), TURN) and self._poll.poll(0):
                    done += os.write(self._fd, view[done : done + SURE])
        except OSError as problem:
            if isinstance(problem, BlockingIOError):
                return done  # another process made it non-blocking
            self._end(problem)
            return CONNECTION_DONE
        return done

    def doWrite(self) -> Any:
        result = super().doWrite()  # type: ignore[no-untyped-call]
        if not self._pending():
            self._empty.notify_all()
        return result

    def _end(self, problem: OSError) -> None:
        if self.problem is None:
            self.problem = problem
            _twisted.drop_unwritten(self)
            self.stopWriting()  # type: ignore[no-untyped-call]
            self._failed(problem)
            self._empty.notify_all()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor found the stream broken, or removed it. The descriptor stays open."""
        self._end(BrokenPipeError("nobody reads it any more"))


class InputLines(FileDescriptor):
    """Standard input as lines. It is read only while a caller waits for lines.

    :param fd: the descriptor; it is never closed here.
    :ivar size: how many bytes there are to read; None if that is unknown until the end.
    :ivar taken: how many bytes have been read.
    """

    def __init__(self, fd: int, reactor: PipeReactor) -> None:
        super().__init__(reactor)
        self._fd = fd
        self._direct = never_blocks(fd)
        self._rest: list[bytes] = []
        self._ended = False
        self._waiter: defer.Deferred[list[bytes]] | None = None
        self.size: int | None = None
        self.taken = 0
        with contextlib.suppress(OSError):
            if stat.S_ISREG(os.fstat(fd).st_mode):
                self.size = max(0, os.fstat(fd).st_size - os.lseek(fd, 0, os.SEEK_CUR))
        self.connected = 1

    def fileno(self) -> int:
        return self._fd

    def next_lines(self) -> defer.Deferred[list[bytes]]:
        """The next lines, without their ends.

        :returns: fires with at least one line, or with an empty list at the end; fails with
            OSError. Cancelling it leaves the lines for the next call.
        """
        deferred: defer.Deferred[list[bytes]] = defer.Deferred(self._cancel)
        self._waiter = deferred
        if self._direct or self._ended:
            while self._waiter is not None:
                self._read()
        else:
            self.startReading()  # type: ignore[no-untyped-call]
        return deferred

    def stop(self) -> None:
        """Stop reading: a caller that waits for lines gets the end."""
        self._ended = True
        if self._waiter is not None:
            self._rest = []
            self._read()

    def _cancel(self, deferred: defer.Deferred[list[bytes]]) -> None:
        self._waiter = None
        self.stopReading()  # type: ignore[no-untyped-call]

    def doRead(self) -> None:
        self._read()

    def _read(self) -> None:
        try:
            data = b"" if self._ended else os.read(self._fd, READ_SIZE)
        except BlockingIOError:
            return
        except OSError as problem:
            self._ended = True
            self._give(Failure(problem))
            return
        self.taken += len(data)
        if data:
            pieces = self._split(data)
            if pieces:
                self._give(pieces)
        else:
            self._ended = True
            last, self._rest = b"".join(self._rest), []
            self._give([last] if last else [])

    def _split(self, data: bytes) -> list[bytes]:
        """The lines that are complete with this data. The rest is kept."""
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = b"".join([*self._rest, lines[0]])
            self._rest = []
        self._rest.append(rest)
        return lines

    def _give(self, result: list[bytes] | Failure) -> None:
        waiter, self._waiter = self._waiter, None
        if not self._direct:
            self.stopReading()  # type: ignore[no-untyped-call]
        if isinstance(result, Failure):
            if waiter is not None:
                waiter.errback(result)
        elif waiter is not None:
            waiter.callback(result)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor saw a hang-up. The bytes in the pipe can still be read."""
        self._direct = True
        while self._waiter is not None:
            self._read()


class InputBlocks(InputLines):
    """Standard input in blocks: ``next_lines`` gives one block as read, or none at the end."""

    def _split(self, data: bytes) -> list[bytes]:
        return [data]
