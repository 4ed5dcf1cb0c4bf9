"""A process's standard error: passed on as it arrives, its last lines kept."""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable
from typing import Any

from twisted.internet import defer, fdesc, main
from twisted.python.failure import Failure

from pycomnet.gateways.output import shown
from pycomnet.gateways.transports.pipes import READ_SMALL, Readable
from pycomnet.net.reactors import PipeReactor

#: Lines of standard error that are kept for error messages, and their length in characters.
STDERR_LINES = 20
STDERR_LINE = 500
#: Pieces of it that are read at the process's end: as much as a pipe holds. Processes that it left
#: may go on writing.
STDERR_READS = 16


class ErrorText:
    """A process's standard error: passed on as it arrives. The last lines are kept.

    :param output: called with each piece, a str; bytes that are not UTF-8 are in it as
        ``surrogateescape`` has them. The next piece is read once its Deferred, if it
        returns one, has fired.
    """

    def __init__(self, output: Callable[[str], Any]) -> None:
        self._output = output
        self._lines: list[str] = []
        self._line = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")

    def feed(self, data: bytes) -> Any:
        """Process the next bytes, none at the end. Returns the callback's result."""
        text = self._decoder.decode(data, not data)
        if not text:
            return None
        self.keep(text)
        return self._output(text)

    def keep(self, text: str) -> None:
        """Keep this text, too."""
        *lines, rest = (self._line + shown(text)).split("\n")
        # ssh ends its lines with \r\n.
        self._lines += [line[:STDERR_LINE].rstrip("\r") for line in lines]
        del self._lines[:-STDERR_LINES]
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
        self._readable = Readable(fd, self._read, reactor)

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
