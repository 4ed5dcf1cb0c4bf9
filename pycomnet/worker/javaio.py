"""What Jython has in place of ``os``: descriptors, and the end of the process."""

import sys

import jarray
from java.lang import Runtime, System, Thread
from java.util.concurrent import FutureTask, TimeoutException, TimeUnit

READ_SIZE = 1 << 18
EINTR = 4


class JavaIO(object):
    """Reads and writes the connection; as :class:`~.link.FileIO`."""

    def __init__(self):
        self._ahead = None
        self._got = None
        self._buffer = jarray.zeros(READ_SIZE, "b")
        try:
            self._take_descriptors()
        except ImportError:
            self._take_streams()

    def _take_descriptors(self):
        from jnr.posix import POSIXFactory

        self._posix = posix = POSIXFactory.getNativePOSIX()
        if not posix.isNative():
            raise ImportError("no native posix")
        self._read_fd, self._write_fd = posix.dup(0), posix.dup(1)
        null = posix.open("/dev/null", 0, 0)
        posix.dup2(null, 0)
        posix.close(null)
        # What Java code and child processes print as standard output goes where errors go.
        posix.dup2(2, 1)
        self._read_some, self._write_some = self._read_fd_some, self._write_fd_some

    def _read_fd_some(self):
        while True:
            count = self._posix.read(self._read_fd, self._buffer, READ_SIZE)
            if count >= 0 or self._posix.errno() != EINTR:
                return count

    def _write_fd_some(self, data):
        count = self._posix.write(self._write_fd, data, len(data))
        if count < 0:
            if self._posix.errno() != EINTR:
                raise OSError(self._posix.errno(), "can't write")
            count = 0
        return count

    def _take_streams(self):
        from java.io import (
            ByteArrayInputStream,
            FileDescriptor,
            FileInputStream,
            FileOutputStream,
        )

        source = FileInputStream(getattr(FileDescriptor, "in"))
        sink = FileOutputStream(FileDescriptor.out)
        System.setIn(ByteArrayInputStream(jarray.zeros(0, "b")))
        System.setOut(System.err)
        sys.stdin = sys.__stdin__ = open("/dev/null")
        sys.__stdout__ = sys.__stderr__

        def write_some(data):
            sink.write(data)
            return len(data)

        self._read_some = lambda: source.read(self._buffer)
        self._write_some = write_some

    def wait(self, timeout):
        """Whether there is something to read within a time in seconds.

        Java can't wait so for a descriptor, so a thread reads ahead.
        """
        if self._ahead is None:
            self._ahead = FutureTask(self._read_ahead)
            thread = Thread(self._ahead)
            thread.setDaemon(True)
            thread.start()
        try:
            self._ahead.get(int(timeout * 1000000), TimeUnit.MICROSECONDS)
        except TimeoutException:
            return False
        return True

    def _read_ahead(self):
        self._got = self._read()

    def read(self, spin=False):
        """Some bytes, at least one; empty at the end."""
        if self._ahead is None:
            return self._read()
        self._ahead.get()
        self._ahead = None
        return self._got

    def _read(self):
        count = self._read_some()
        if count == READ_SIZE:
            return self._buffer.tostring()
        return self._buffer[:count].tostring() if count > 0 else b""

    def write_one(self, data):
        """Write all of some bytes."""
        while data:
            data = data[self._write_some(data) :]

    def write(self, parts):
        """Write all of a list of bytes."""
        self.write_one(b"".join(parts))


_main = Thread.currentThread()


def interrupt_main():
    """End a sleep or a wait that the main thread is in, by a KeyboardInterrupt."""
    _main.interrupt()


def halt(status):
    """End the process, and what it started, at once."""
    try:
        from java.lang import ProcessHandle

        for child in ProcessHandle.current().descendants().iterator():
            child.destroyForcibly()
    except Exception:
        pass  # Java 8
    Runtime.getRuntime().halt(status)
