"""Jython's replacement for parts of ``os``: descriptors, and ending the process."""

import jarray
from java.lang import Runtime, Thread
from java.util import Arrays
from java.util.concurrent import FutureTask, TimeoutException, TimeUnit
from jnr.posix import POSIXFactory  # it comes with Jython

from ..wire.frames import MARKER

READ_SIZE = 1 << 18
EINTR = 4


class JavaIO(object):
    """The connection over standard input and output; as :class:`~.connection.FileIO`.

    It uses system calls and not ``System.in`` and ``System.out``: only so can it keep the output of
    Java code and child processes from the connection.
    """

    def __init__(self):
        self._ahead = None
        self._got = None
        self._buffer = jarray.zeros(READ_SIZE, "b")
        self._posix = posix = POSIXFactory.getNativePOSIX()
        self._read_fd, self._write_fd = posix.dup(0), posix.dup(1)
        self.write_one(MARKER)
        null = posix.open("/dev/null", 0, 0)
        posix.dup2(null, 0)
        posix.close(null)
        posix.dup2(2, 1)

    def is_replaced(self):
        """As :meth:`is_taken`."""
        return False

    def is_taken(self):
        """Always false: Java code has no descriptors to close."""
        return False

    def wait(self, timeout):
        """Wait for something to read, at most ``timeout`` seconds; return whether there is.

        Java can't wait for a descriptor with a timeout, so a thread reads ahead.
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

    def read(self, busy=False):
        """Read some bytes, at least one; empty at the end."""
        if self._ahead is None:
            return self._read()
        self._ahead.get()
        self._ahead = None
        return self._got

    def _read(self):
        while True:
            count = self._posix.read(self._read_fd, self._buffer, READ_SIZE)
            if count > 0:
                # With a bytearray: the array's own tostring() takes four times as long.
                return bytes(bytearray(Arrays.copyOf(self._buffer, count)))
            if count == 0 or self._posix.errno() != EINTR:
                return b""

    def write_one(self, data):
        """Write all of some bytes."""
        while data:
            count = self._posix.write(self._write_fd, data, len(data))
            if count >= 0:
                data = data[count:]
            elif self._posix.errno() != EINTR:
                raise OSError(self._posix.errno(), "write failed")

    def write(self, parts):
        """Write all of a list of bytes."""
        self.write_one(b"".join(parts))


_main = Thread.currentThread()


def interrupt_main():
    """Interrupt a sleep or a wait of the main thread with a KeyboardInterrupt."""
    _main.interrupt()


def halt(status):
    """End the process and its child processes at once."""
    try:
        from java.lang import ProcessHandle

        for child in ProcessHandle.current().descendants().iterator():
            child.destroyForcibly()
    except Exception:
        pass  # Java 8
    Runtime.getRuntime().halt(status)
