"""Two pipes as a Twisted transport, and how a descriptor is read and closed in the reactor."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
from collections.abc import Callable
from typing import Any

from twisted.internet import error, fdesc, main
from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import ITransport
from twisted.python.failure import Failure
from zope.interface import implementer

from pycomnet.far.busypoll import WINDOW, poll_of
from pycomnet.gateways.transports.calllock import CallLock
from pycomnet.net import _twisted
from pycomnet.net.reactorpoll import READS_PER_TURN, reactor_wait
from pycomnet.net.reactors import PipeReactor

#: Bytes that are read at a time: usually, and when there is much. A buffer that is larger than a
#: processor's cache is slower.
READ_SMALL = 1 << 16
READ_LARGE = 1 << 18
#: Bytes that a pipe is grown to when it is found full. Other pipes are not grown: the system limits
#: the size of all pipes of a user together.
PIPE_LARGE = 1 << 20
#: Bytes of which a pipe takes all or nothing (POSIX: at least this many).
SHORT = select.PIPE_BUF


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


class Readable(FileDescriptor):
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
        self._wrote_short: list[int] = []
        #: held by the thread that writes to the pipe; :meth:`write_short`
        self.writing = CallLock(self._wrote_short)
        #: whether the last write may have written only a part of its bytes
        self._cut = False
        self._came: list[bytes] = []
        #: held by the thread that reads the lent pipe; :meth:`lend`
        self.reading = CallLock(self._came)
        #: whether another thread reads
        self.lent = False
        self.connected = 1
        fdesc.setNonBlocking(write_pipe)
        fdesc.setNonBlocking(pipe)
        self._reader = Readable(pipe, self._read, reactor, self.connectionLost)
        if first:
            self.write(first)
        protocol.makeConnection(self)

    def fileno(self) -> int:
        return self._write_pipe

    def read_fileno(self) -> int:
        """The descriptor that is read from."""
        return self._reader.fileno()

    def writeSomeData(self, data: bytes) -> int | BaseException:
        self._wrote = True
        with self.writing:
            self._cut = True
            try:
                written = os.write(self._write_pipe, data)
            except (BlockingIOError, InterruptedError):
                return 0
            except OSError:
                return main.CONNECTION_LOST
            if written < len(data) and self._grow_writing():
                # It may still be full, if the other end has grown it before. Then the number of
                # written bytes is returned, and an error shows again.
                with contextlib.suppress(OSError):
                    written += os.write(self._write_pipe, data[written:])
            self._cut = written < len(data)
        return written

    # -- for one other thread --------------------------------------------------------------------

    def write_short(self, data: bytes) -> bool:
        """In any thread: write something if nothing is to be written before it.

        :param data: if it has more than :data:`SHORT` bytes, it is not written: the system may
            write a part of that.
        :returns: whether it is written.
        """
        if len(data) > SHORT:
            return False
        lock, wrote = self.writing, self._wrote_short
        with lock.held:
            wrote.clear()
            write = map(os.write, (self._write_pipe,), (data,))
            if self._write_pipe < 0 or not self.connected or self.disconnecting:
                return False
            # _cut is also set where this thread is interrupted in a write. Then the reactor's next
            # write says how it is.
            if _twisted.has_unwritten(self) or self._cut or lock.overruled:
                return False
            self._cut = True
            try:
                wrote.extend(write)
            except (BlockingIOError, InterruptedError):
                self._cut = False
                return False
            except OSError:
                return False  # the reactor's next write gets it again
            if not lock.overruled:
                self._cut = False
        return True

    def lend(self) -> bool:
        """Let another thread read, by :meth:`read_lent`, until :meth:`take_back`.

        :returns: False if that is impossible, as the end has come.
        """
        if not self._reader.connected or self.disconnected or self.disconnecting:
            return False
        self._reader.stopReading()
        self.lent = True
        return True

    def read_lent(self) -> bytes:
        """Read the bytes in the pipe, in another thread, which holds ``reading``.

        It is kept, and the reactor gets it, unless :meth:`drop_lent` is called next. A signal's
        error may come at any point: reading and keeping are one step.

        :returns: nothing if there is nothing, or the end, or reading is not lent, or something is
            kept already.
        """
        came = self._came
        read = map(os.read, (self._pipe,), (READ_SMALL,))
        if not self.lent or came or self.reading.overruled:
            return b""
        try:
            came.extend(read)
        except OSError:
            return b""
        try:
            return came[0]
        except IndexError:
            return b""  # the reactor has it

    def drop_lent(self, data: bytes) -> bool:
        """In that thread: what :meth:`read_lent` has returned is used.

        :returns: False if the reactor has got it meanwhile, so that it must not be used here.
        """
        try:
            self._came.remove(data)
        except ValueError:
            return False
        return True

    def take_back(self) -> None:
        """Read in the reactor again, first the bytes that the other thread has not used."""
        if not self.lent:
            return
        came = self._end_loan()
        for data in came:
            if data:  # the end is read once more
                self._protocol.dataReceived(data)
        if self._reader.connected and not self.disconnected and not self.disconnecting:
            self._reader.startReading()

    def _end_loan(self) -> list[bytes]:
        with self.reading:
            self.lent = False
        came = []
        while self._came:  # the thread may use it at this moment
            with contextlib.suppress(IndexError):
                came.append(self._came.pop(0))
        return came

    # -- reading ---------------------------------------------------------------------------------

    def _read(self) -> bool:
        if self.lent:
            self.take_back()
            if self.disconnected or not self._reader.connected:
                return True  # what came has ended it
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

        For a caller that forwards bytes of another connection: so it forwards the answer in the
        same turn.
        """
        if self._reader.connected and not self.disconnected and self._wait.poll():
            self._read()

    def read_rest(self) -> None:
        """Read the bytes in the pipe now: no process writes to it."""
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
        self._close_write_pipe()

    def _close_write_pipe(self) -> None:
        with self.writing:
            pipe, self._write_pipe = self._write_pipe, -1
        if pipe >= 0:
            _close_after_turn(pipe, self.reactor)

    def hand_over(self, protocol: Any) -> None:
        """Pass all further bytes to another protocol."""
        self.take_back()
        self._protocol = protocol

    def release(self) -> tuple[int, int] | None:
        """Stop using the pipes, and leave them open for the caller. The protocol is not notified.

        :returns: the descriptors that are written to and read from. None, and nothing has changed,
            if bytes are still to be written, or one of the pipes is closed.
        """
        self.take_back()
        if _twisted.has_unwritten(self) or not self._reader.connected:
            return None
        if self.disconnected or self._write_pipe < 0:
            return None
        released = self._write_pipe, self._reader.fileno()
        self._reader.release()
        self.unregisterProducer()
        self.stopWriting()
        with self.writing:
            self.connected, self.disconnected = 0, 1
            self._write_pipe = -1
        return released

    def close_copies(self) -> None:
        """In a forked child: close its copies of the pipes. The protocol is not notified."""
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
        self._end_loan()
        self._reader.connectionLost(reason)
        self._close_write_pipe()
        self._protocol.connectionLost(reason)

    def getHost(self) -> UNIXAddress:
        return UNIXAddress(None)

    def getPeer(self) -> UNIXAddress:
        return UNIXAddress(None)


def _grow_pipe(fd: int) -> bool:
    """Grow a pipe to :data:`PIPE_LARGE` bytes, if the system can and allows it."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_LARGE)
    except (AttributeError, OSError):
        return False
    return True
