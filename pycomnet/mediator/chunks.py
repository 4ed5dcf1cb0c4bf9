"""Chunked HTTP bodies, written and passed on as they arrive, with fewer copies than Twisted's."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from pycomnet.net import _twisted, eager

#: The most bytes between the data of two chunks that Twisted's decoder gets at a time.
BETWEEN = 32
#: The first line of a short chunk without extensions. Most are like this, and need no check.
_SHORT = re.compile(rb"([0-9a-fA-F]{1,4})\r\n")
_NOTHING = memoryview(b"")


def chunk(data: bytes | memoryview) -> tuple[bytes | memoryview, ...]:
    """Make a chunk, in pieces. ``data`` is not empty: an empty chunk is the body's end."""
    return b"%x\r\n" % len(data), data, b"\r\n"


def chunk_writer(transport: Any) -> Callable[[bytes | memoryview], None]:
    """Make a function that writes a body in chunks to a transport, at once if possible."""
    eager.flush_now(transport)
    write = eager.writer(transport)
    return lambda data: write(chunk(data))


class Chunks(_twisted.chunk_decoder()):  # type: ignore[misc]
    """Decodes a body in chunks.

    Twisted's decoder appends all that arrives to its buffer, copies each piece out of it and moves
    the rest to the front. Here it gets only what is between the chunks' data (lengths, extensions,
    line ends), and checks that as usual. The data itself is passed on without a copy.

    :param dataCallback: called with each piece of the body.
    :param finishCallback: called at the body's end, with the bytes after it.
    """

    state: str

    def __init__(
        self, dataCallback: Callable[[bytes], None], finishCallback: Callable[[bytes], None]
    ) -> None:
        super().__init__(dataCallback, self._finished)
        self._finish = finishCallback
        #: the bytes after those that Twisted's decoder is given
        self._behind = _NOTHING

    def dataReceived(self, data: bytes) -> None:
        at, end = 0, len(data)
        if self.state == "CHUNK_LENGTH" and not self._buffer:
            short = _SHORT.match(data)
            if short is not None:
                begin = short.end()
                size = int(short[1], 16)
                if size and begin + size + 2 == end and data.endswith(b"\r\n"):
                    self.dataCallback(data[begin:-2])
                    return
        view = memoryview(data)
        while at < end:
            if self.state == "BODY" and not self._buffer:
                size = min(self.length, end - at)
                self.length -= size
                if not self.length:
                    self.state = "CRLF"
                self.dataCallback(data if size == end else bytes(view[at : at + size]))
            else:
                # One line at a time, so that no bytes of a body come with it.
                size = data.find(b"\n", at, at + BETWEEN) + 1 - at
                if size <= 0:
                    size = min(BETWEEN, end - at)
                self._behind = view[at + size :]
                super().dataReceived(bytes(view[at : at + size]))
                if self.state == "FINISHED":
                    return
                self._behind = _NOTHING  # it would keep all of the data in memory
            at += size

    def _finished(self, rest: bytes) -> None:
        self._finish(rest + self._behind)
