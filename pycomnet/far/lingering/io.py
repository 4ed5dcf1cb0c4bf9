"""The connection of a worker that lingers: to the factory, or to a program by pipes of their own.

The factory asks for the pipes, which it has made for one program, in two steps: first to have them
here, then to use them. From then on the worker has a copy of the factory's relay, so that it does
with each byte what the factory would do, and puts all of it into the journal first, from which the
factory finds out the same. When the program is gone, or the factory says so, the worker comes back
to the factory. docs/protocol.rst, "The factory", has what the two say to each other meanwhile.
"""

import errno
import mmap
import os
import select
import time

from ...wire.frames import RESULT
from ...wire.mux import ProtocolError
from ...wire.values import PureCodec
from ..busypoll import BusyWait, poll_of
from ..connection import READ_LARGE, READ_SMALL, FileIO
from .journal import FROM, PIECE, PORTION, TO, WHOLE, WRITTEN, Journal
from .relay import Relay

try:
    from _thread import allocate_lock
except ImportError:  # Python 2
    from thread import allocate_lock

#: What the two say to each other while a program has the worker, a byte each. The factory: begin,
#: with what is behind the journal; leave the program. The worker: read the journal; I am back.
BEGIN, LEAVE, READ, BACK = b"S", b"L", b"J", b"B"
#: Seconds between looks whether there is room in the journal again.
LOOK_AGAIN = 0.001
#: Bytes that are still read of a program that is to be left: a pipe holds no more.
REST = 1 << 20
_WAITS = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR)


def _open(path, flags, identity):
    """Open what the factory has; it must be what it says."""
    fd = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK)
    found = os.fstat(fd)
    if [found.st_dev, found.st_ino] != list(identity):
        os.close(fd)
        raise OSError(errno.ESTALE, "it is something else: %s" % path)
    return fd


class Prepared(object):
    """The pipes and the memory, which are there and not used yet.

    :param asked: a map, as docs/protocol.rst has it.
    """

    def __init__(self, asked):
        self.read_fd = self.write_fd = self.memory_fd = -1
        try:
            where = "/proc/%d/fd/%%d" % asked["pid"]
            read_fd, identity = asked["read"]
            self.read_fd = _open(where % read_fd, os.O_RDONLY, identity)
            write_fd, identity = asked["write"]
            self.write_fd = _open(where % write_fd, os.O_WRONLY, identity)
            memory_fd, identity = asked["memory"]
            self.memory_fd = _open(where % memory_fd, os.O_RDWR, identity)
            self.memory = mmap.mmap(self.memory_fd, WHOLE)
        except BaseException:
            self.close()
            raise

    def close(self):
        """It is not used."""
        for fd in (self.read_fd, self.write_fd, self.memory_fd):
            if fd >= 0:
                try:
                    os.close(fd)
                except OSError:
                    pass
        self.read_fd = self.write_fd = self.memory_fd = -1


class Program(object):
    """A program that has the worker.

    :param prepared: its pipes, and the memory.
    :param main: a :class:`FileIO`: the factory.
    """

    def __init__(self, prepared, main):
        self.prepared = prepared
        self.main = main
        self.read_fd, self.write_fd = prepared.read_fd, prepared.write_fd
        self._known = self._identities()
        #: whether it takes no more
        self.gone = False
        #: whether it is to be left, and how much of what it says is still read then
        self._leaving = False
        self._rest = REST
        self._lock = allocate_lock()
        self._size = READ_SMALL
        self._wait = BusyWait(poll_of(self.read_fd))
        self._readable = select.poll()
        self._readable.register(self.read_fd, select.POLLIN)
        self._readable.register(main.read_fd, select.POLLIN)
        self._writable = select.poll()
        self._writable.register(self.write_fd, select.POLLOUT)
        self._writable.register(main.read_fd, select.POLLIN)
        self._journal = Journal(prepared.memory)
        self._told = 0
        self._due = PORTION
        snapshot = b""
        os.lseek(prepared.memory_fd, WHOLE, os.SEEK_SET)
        while True:
            piece = os.read(prepared.memory_fd, 1 << 20)
            if not piece:
                break
            snapshot += piece
        os.close(prepared.memory_fd)
        prepared.memory_fd = -1
        self._relay = Relay(keeps=False)
        self._relay.restore(snapshot)

    def read(self, busy):
        """Bytes for the multiplexer; None: none for now; no bytes: it is time to leave."""
        if busy:
            self._wait.poll()
        size = self._size
        while True:
            try:
                data = os.read(self.read_fd, size)
                break
            except OSError as error:
                if error.errno not in _WAITS:
                    return b""
                if self._leaving:
                    return b""
                for fd, _ in self._readable.poll():
                    # What is in the pipe was sent: it is read before the program is left.
                    self._leaving = self._leaving or fd != self.read_fd
        if not data:
            return b""
        if busy:
            self._wait.came()
        if self._leaving:
            self._rest -= len(data)
            if self._rest < 0:
                return b""
        self._size = READ_LARGE if len(data) == size else READ_SMALL
        relay = self._relay
        with self._lock:
            self._note(FROM, data)
            try:
                relay.from_program(data)
            except ProtocolError:
                return b""  # the factory finds that, too
            parts = relay.to_far
            if not parts:
                return None
            relay.to_far = []
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def write(self, data):
        """Write whole frames."""
        relay = self._relay
        with self._lock:
            self._note(TO, data)
            relay.from_far(data)
            parts = relay.to_program
            if not parts:
                return
            relay.to_program = []
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        size = len(data)
        begin = 0
        while begin < size and not self.gone:
            try:
                begin += os.write(self.write_fd, data[begin:] if begin else data)
            except OSError as error:
                if error.errno not in _WAITS:
                    self.gone = True
                    break
                for fd, _ in self._writable.poll():
                    if fd != self.write_fd:
                        self.gone = True
        if not self.gone:
            self._told += size
            self._journal.numbers[WRITTEN] = self._told

    def _note(self, direction, data):
        journal = self._journal
        size = len(data)
        begin = 0
        while begin < size:
            piece = data if size <= PIECE else data[begin : begin + PIECE]
            while journal.room() < len(piece) + 4:
                time.sleep(LOOK_AGAIN)
            journal.put(direction, piece)
            begin += len(piece)
            self._due -= len(piece) + 4
            if self._due <= 0:
                self._due = PORTION
                try:
                    os.write(self.main.write_fd, READ)
                except OSError:
                    pass  # the factory is gone: so is this process, soon

    def _identities(self):
        found = []
        for fd in (self.read_fd, self.write_fd):
            try:
                status = os.fstat(fd)
            except OSError:
                return None
            found += [status.st_dev, status.st_ino]
        return found

    def is_replaced(self):
        """Whether somebody else has closed one of the pipes."""
        return self._identities() != self._known

    def close(self):
        """It is left."""
        self.prepared.close()
        self._journal.close()


class LingeringIO(FileIO):
    """Reads and writes the factory's pipes, or a program's; as :class:`FileIO`.

    :param link: the :class:`~..connection.FarConnection` whose it is.
    """

    def __init__(self, link):
        self.main = main = link.io
        self.read_fd, self.write_fd = main.read_fd, main.write_fd
        self.program = None
        self._link = link
        #: whether the factory still has to say that the program is to be left, which was
        self._expected = False

    # -- the two steps ---------------------------------------------------------------------------

    def turn(self, stream, prepared):
        """Answer that the pipes are used, which is the last thing said to the factory; use them.

        Only the reader calls this. The factory says in the same moment that they are, or that the
        program is gone already.
        """
        link = self._link
        mux = link.mux
        with link.write_lock:
            link.flush_locked()
            with link.lock:
                mux.close(stream, RESULT, link.encode(prepared is not None))
                scheduler = mux.scheduler
                parts, scheduler.out = scheduler.out, []
            link.write_parts(parts)
            if prepared is None:
                return
            if self._read_signal() != BEGIN:
                prepared.close()
                return
            self.program = program = Program(prepared, self.main)
            if link.write_buffer is not None:
                link.write_buffer.write = program.write

    def _read_signal(self):
        """The next byte from the factory; none at the end.

        What is behind it stays in the pipe: it may be the next signal, for which a program's end
        of the pipes is watched together with this one, or frames for the multiplexer.
        """
        main = self.main
        while True:
            try:
                return os.read(main.read_fd, 1)
            except OSError as error:
                if error.errno not in _WAITS:
                    return b""
                main.wait(None)

    def _leave(self):
        """Go back to the factory."""
        link, program = self._link, self.program
        with link.write_lock:
            write_buffer = link.write_buffer
            if write_buffer is not None:
                with link.lock:
                    link.settle()
                write_buffer.flush()
                write_buffer.write = None
            self._expected = True
            self.program = None
            program.close()
            try:
                self.main.write_one(BACK)
            except OSError:
                pass  # it is read then that the factory is gone

    # -- as a FileIO -----------------------------------------------------------------------------

    def read(self, busy=False):
        """Some bytes; None: nothing for now; empty at the end."""
        program = self.program
        if program is not None:
            try:
                data = program.read(busy)
            except BaseException as error:
                self._link.read_failed(error)
            if data or data is None:
                return data
            if self.is_taken():
                return b""
            self._leave()
            return None
        data = self.main.read(busy)
        if self._expected and data:
            self._expected = False
            data = data[1:] or None
        return data

    def wait(self, timeout):
        """Whether there is something to read within a time in seconds."""
        fds = [self.main.read_fd]
        program = self.program
        if program is not None:
            fds.append(program.read_fd)
        return bool(select.select(fds, [], [], timeout)[0])

    def write_one(self, data):
        """Write all of some bytes: of whole frames."""
        program = self.program
        if program is None:
            self.main.write_one(data)
        else:
            program.write(data)

    def write(self, parts):
        """Write all of a list of bytes and memoryviews: of whole frames."""
        program = self.program
        if program is None:
            self.main.write(parts)
        elif len(parts) == 1:
            program.write(bytes(parts[0]))
        else:
            program.write(b"".join(parts))

    def is_replaced(self):
        """Whether what is written would go elsewhere."""
        program = self.program
        return self.main.is_replaced() or (program is not None and program.is_replaced())

    def is_taken(self):
        """Whether somebody else has closed a descriptor."""
        program = self.program
        return self.main.is_taken() or (program is not None and program.is_replaced())

    def close(self):
        """Close all."""
        self.main.close()
        if self.program is not None:
            self.program.prepared.close()


def prepare(link, payload):
    """The first step: have the pipes here.

    :returns: whether they are.
    """
    try:
        if link.write_buffer is None:
            return None  # it is in no memory that is shared with the supervisor
        return Prepared(PureCodec().decode(payload))
    except Exception:
        return None  # another system, or it is told by a number that is something else here


__all__ = ["BACK", "BEGIN", "LEAVE", "READ", "LingeringIO", "prepare"]
