"""The connection of a far side that lingers: to the factory, or to a program by pipes of its own.

The factory makes the pipes for one program. It asks the far side in two steps: first to open them,
then to use them. While the far side uses them it has a copy of the factory's relay, and does with
each byte what the factory would do. It writes all bytes to the journal first, and the factory reads
them from there. When the program is gone, or the factory tells it to leave, the far side goes back
to the factory. docs/protocol.rst, "The factory", has the messages between the two.
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
from .journal import ATOMIC, FROM, PIECE, PORTION, TO, WHOLE, WRITTEN, Journal
from .relay import Relay

try:
    from _thread import allocate_lock
except ImportError:  # Python 2
    from thread import allocate_lock

#: The signals while a program has the far side, a byte each. From the factory: begin, with the
#: snapshot behind the journal; leave the program. To the factory: read the journal; I am back.
BEGIN, LEAVE, READ, BACK = b"S", b"L", b"J", b"B"
#: Seconds after which a far side looks again whether a full journal has room.
LOOK_AGAIN = 0.001
#: Bytes that are still read from a program that is left: a pipe holds no more.
REST = 1 << 20
_WAITS = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR)


def _open(path, flags, identity):
    """Open a descriptor of the factory's.

    :param identity: what it has to be: device and inode.
    """
    fd = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK)
    found = os.fstat(fd)
    if [found.st_dev, found.st_ino] != list(identity):
        os.close(fd)
        raise OSError(errno.ESTALE, "it is something else: %s" % path)
    return fd


class Prepared(object):
    """The pipes and the journal, opened and not used yet.

    :param asked: where they are, a map as in docs/protocol.rst.
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
        """Close the descriptors."""
        for fd in (self.read_fd, self.write_fd, self.memory_fd):
            if fd >= 0:
                try:
                    os.close(fd)
                except OSError:
                    pass
        self.read_fd = self.write_fd = self.memory_fd = -1

    def read_snapshot(self):
        """What is behind the journal. The descriptor of the memory is closed then."""
        snapshot = b""
        os.lseek(self.memory_fd, WHOLE, os.SEEK_SET)
        while True:
            piece = os.read(self.memory_fd, 1 << 20)
            if not piece:
                break
            snapshot += piece
        os.close(self.memory_fd)
        self.memory_fd = -1
        return snapshot


class Program(object):
    """A program that has the far side by pipes.

    :param prepared: the pipes and the journal.
    :param main: the connection to the factory, a :class:`FileIO`.
    """

    def __init__(self, prepared, main):
        self.prepared = prepared
        self.main = main
        self.read_fd, self.write_fd = prepared.read_fd, prepared.write_fd
        self._known = self._identities()
        #: whether nothing more is written to it
        self.gone = False
        #: whether the factory said to leave it, and how many bytes of it are still read then
        self._leaving = False
        self._rest = REST
        #: whether it broke the protocol: nothing more is read
        self.broken = False
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
        self._relay = Relay(keeps=False)
        self._relay.restore(prepared.read_snapshot())

    def read(self, busy):
        """Bytes for the multiplexer; None: none for now; no bytes: it is time to leave."""
        if self.broken:
            return b""
        # It is not read before there is something: a read in vain costs more than to wait for it.
        if not (busy and self._wait.poll()):
            self._sleep()
        size = self._size
        while True:
            try:
                data = os.read(self.read_fd, size)
                break
            except OSError as error:
                if self._leaving or error.errno not in _WAITS:
                    return b""
                self._sleep()
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
                # The factory finds that in the journal. What precedes it counts, there and here.
                self.broken = True
            parts, relay.to_far = relay.to_far, []
        return b"".join(parts) or None

    def _sleep(self):
        """Wait for bytes, or for the factory's word to leave."""
        for fd, _ in self._readable.poll():
            # What is in the pipe was sent: it is read before the program is left.
            self._leaving = self._leaving or fd != self.read_fd

    def write(self, data, claim=None):
        """Write whole frames.

        :param claim: called when they are in the journal, directly before they count there.
        """
        relay = self._relay
        with self._lock:
            self._note(TO, data, claim)
            relay.from_far(data)
            parts, relay.to_program = relay.to_program, []
        data = b"".join(parts)
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

    def _note(self, direction, data, claim=None):
        """Write to the journal. If it is full, wait for the factory.

        :param claim: for at most one entry: called before it counts.
        """
        size = len(data)
        if size > PIECE:
            for begin in range(0, size, PIECE):
                self._note(direction, data[begin : begin + PIECE], claim)
            return
        while not self._journal.put(direction, data, claim):
            time.sleep(LOOK_AGAIN)
        self._due -= size + 4
        if self._due <= 0:
            self._due = PORTION
            try:
                os.write(self.main.write_fd, READ)
            except OSError:
                pass  # the factory is gone: this process ends soon, too

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
        """Whether other code has closed one of the pipes."""
        return self._identities() != self._known

    def close(self):
        """Close the pipes, and release the journal."""
        self.prepared.close()
        self._journal.close()


class LingeringIO(FileIO):
    """Reads and writes the factory's pipes, or a program's, as a :class:`FileIO` does.

    :param link: the :class:`~..connection.FarConnection` that uses it.
    """

    def __init__(self, link):
        self.main = main = link.io
        self.read_fd, self.write_fd = main.read_fd, main.write_fd
        self.program = None
        self._link = link
        #: whether the factory's LEAVE for a program that was left already is still to come
        self._expected = False

    # -- from the factory to a program, and back -------------------------------------------------

    def turn(self, stream, prepared):
        """Answer the factory that the pipes are used from now on, and use them.

        Only the reader calls this. The answer is the last frame to the factory. The factory then
        signals BEGIN, or LEAVE if the program is gone already.
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
            try:
                program = Program(prepared, self.main)
            except Exception:  # no memory, or the snapshot is damaged
                prepared.close()
                self._tell_back()
                return
            self.program = program
            if link.write_buffer is not None:
                link.write_buffer.write = program.write

    def _read_signal(self):
        """The next byte from the factory; no byte at the end.

        Whatever follows it stays in the pipe. It may be the next signal, which is waited for
        together with the program's pipes, or frames for the multiplexer.
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
            self.program = None
            program.close()
            self._tell_back()

    def _tell_back(self):
        self._expected = True
        try:
            self.main.write_one(BACK)
        except OSError:
            pass  # the next read finds that the factory is gone

    # -- as a FileIO -----------------------------------------------------------------------------

    def read(self, busy=False):
        """Some bytes; None: none for now; empty at the end."""
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
            if program.broken:
                return True  # it is left by the next read
            fds.append(program.read_fd)
        return bool(select.select(fds, [], [], timeout)[0])

    def write_one(self, data):
        """Write all of some bytes, which are whole frames."""
        program = self.program
        if program is None:
            self.main.write_one(data)
        else:
            program.write(data)

    def write(self, parts):
        """Write all of a list of bytes and memoryviews, which are whole frames."""
        program = self.program
        if program is None:
            self.main.write(parts)
        else:
            program.write(b"".join(parts))

    def is_replaced(self):
        """Whether what is written would go elsewhere."""
        program = self.program
        return self.main.is_replaced() or (program is not None and program.is_replaced())

    def is_taken(self):
        """Whether other code has closed a descriptor."""
        program = self.program
        return self.main.is_taken() or (program is not None and program.is_replaced())

    def close(self):
        """Close all descriptors."""
        self.main.close()
        if self.program is not None:
            self.program.prepared.close()


def prepare(link, payload):
    """The first step: open the pipes and the journal.

    :returns: a :class:`Prepared`, or None if they can't be opened here.
    """
    try:
        if link.write_buffer is None or not ATOMIC:
            return None  # this Python shares no memory, or could show half of a number
        return Prepared(PureCodec().decode(payload))
    except Exception:
        return None  # another system, or another container: its descriptors are not found there
