"""Sends the standard output and error of the user's code to the near side as events."""

import io
import os
import sys

from .channel import RemoteError
from .connection import allocate_lock

try:
    from _thread import get_ident
except ImportError:  # Python 2
    from thread import get_ident

#: The characters from which on an incomplete line is sent.
MAX_LINE = 8192
_text = type("".encode("ascii").decode("ascii"))


class OutputChannel(object):
    """The ``output`` channel, opened when something is first printed."""

    def __init__(self, link):
        self._link = link
        self._lock = allocate_lock()
        self._channel = None
        self._pid = _pid()

    def write(self, number, data):
        """Send what was printed; wait while the near side takes no more.

        :param number: 1 for standard output, 2 for standard error.
        """
        if _pid() != self._pid:
            # A forked child: the connection is its parent's.
            while data:
                data = data[os.write(2, data) :]
            return
        try:
            with self._lock:
                if self._channel is None:
                    self._channel = self._link.open("output")
            self._channel.send([number, bytearray(data)])
        except (EOFError, RemoteError):
            pass  # the near side is gone

    def install(self):
        """Replace sys.stdout and sys.stderr with writers."""
        sys.stdout = LineWriter(self, 1, "surrogateescape")
        sys.stderr = LineWriter(self, 2, "backslashreplace")


def _pid():
    return os.getpid() if hasattr(os, "getpid") else 0


class LineWriter(io.TextIOBase):
    """A text stream that sends whole lines.

    Each thread has a line of its own. So lines arrive whole, and a thread that waits for the near
    side to accept its output does not keep another from ending.
    """

    encoding = "utf-8"
    mode = "w"
    line_buffering = True
    softspace = 0  # Python 2's print statement

    def __init__(self, output, number, errors):
        io.TextIOBase.__init__(self)
        self._output = output
        self._number = number
        self._errors = "replace" if str is bytes else errors
        self._lines = {}
        self._binary = None
        self.name = "<stdout>" if number == 1 else "<stderr>"

    errors = property(lambda self: self._errors)

    def write(self, text):
        if not isinstance(text, _text):
            if not isinstance(text, str):
                raise TypeError("write() argument must be str, not %s" % type(text).__name__)
            text = text.decode("utf-8", "replace")  # Python 2's str
        if self.closed:
            raise ValueError("I/O operation on closed file.")
        size = len(text)
        me = get_ident()
        begun = self._lines.pop(me, None)
        if begun is not None:
            text = begun + text
        end = text.rfind("\n") + 1
        if len(text) - end > MAX_LINE:
            end = len(text)
        if end < len(text):
            self._lines[me] = text[end:]
        if end:
            self._send(text[:end])
        return size

    def _send(self, text):
        if self._binary is not None:
            self._binary.flush()
        self._output.write(self._number, text.encode("utf-8", self._errors))

    def flush(self):
        """Send the output of this thread, and of threads that have ended."""
        lines = self._lines
        mine = lines.pop(get_ident(), None)
        if mine is not None:
            self._send(mine)
        elif self._binary is not None:
            self._binary.flush()
        if lines:
            alive = sys._current_frames()  # noqa: SLF001 - it is documented
            for other in list(lines):
                text = None if other in alive else lines.pop(other, None)
                if text is not None:
                    self._send(text)

    @property
    def buffer(self):
        """The binary stream below it."""
        if self._binary is None:
            self._binary = io.BufferedWriter(_Binary(self._output, self._number), 8192)
        return self._binary

    def reconfigure(self, **options):
        """Do nothing: there is nothing to configure."""

    def writable(self):
        return True

    def isatty(self):
        return False

    def fileno(self):
        return self._number


class _Binary(io.RawIOBase):
    """A binary stream. Its descriptor is the process's own, which leads to standard error."""

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
