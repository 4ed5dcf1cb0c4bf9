"""print() and stderr of the user's code, sent to the near side as events."""

import io
import sys

from .link import allocate_lock


class Output(object):
    """The ``output`` channel, opened when something is first printed."""

    def __init__(self, link):
        self._link = link
        self._lock = allocate_lock()
        self._channel = None

    def write(self, number, data):
        """Send what was printed; wait while the near side takes no more.

        :param number: 1 for standard output, 2 for standard error.
        """
        try:
            with self._lock:
                if self._channel is None:
                    self._channel = self._link.open("output")
            self._channel.send([number, data])
        except EOFError:
            pass  # there is nobody to print for any more

    def install(self):
        """Put writers in the place of sys.stdout and sys.stderr."""
        if str is bytes:
            sys.stdout, sys.stderr = _PlainWriter(self, 1), _PlainWriter(self, 2)
            return
        sys.stdout = self._text(1, "surrogateescape")
        sys.stderr = self._text(2, "backslashreplace")

    def _text(self, number, errors):
        raw = io.BufferedWriter(_RawWriter(self, number), 8192)
        return io.TextIOWrapper(raw, "utf-8", errors, "\n", True)


class _RawWriter(io.RawIOBase):
    """What the text layer writes to. Its descriptor is the process's own standard error."""

    def __init__(self, output, number):
        io.RawIOBase.__init__(self)
        self._output = output
        self._number = number

    def writable(self):
        return True

    def fileno(self):
        return self._number

    def write(self, data):
        data = bytes(data)
        self._output.write(self._number, data)
        return len(data)


class _PlainWriter(object):
    """Python 2's print writes str to what has a ``write``."""

    encoding = "utf-8"
    errors = "replace"
    softspace = 0

    def __init__(self, output, number):
        self._output = output
        self._number = number
        self._buffer = []

    def write(self, text):
        if not isinstance(text, bytes):
            text = text.encode("utf-8", "replace")
        self._buffer.append(text)
        if b"\n" in text:
            self.flush()

    def writelines(self, lines):
        for line in lines:
            self.write(line)

    def flush(self):
        buffer, self._buffer = self._buffer, []
        if buffer:
            self._output.write(self._number, bytearray(b"".join(buffer)))

    def isatty(self):
        return False

    def fileno(self):
        return self._number
