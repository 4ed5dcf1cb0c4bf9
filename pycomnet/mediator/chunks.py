"""Chunked HTTP bodies, passed on as they arrive: Twisted's decoder, without its copies."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from pycomnet.net import _twisted, eager

#: The most bytes between two chunks that Twisted's decoder gets at a time.
BETWEEN = 32
#: The start of a short chunk, which most chunks are. Twisted's decoder need not check it.
_SHORT = re.compile(rb"([0-9a-fA-F]{1,4})\r\n")


def chunk(data: bytes | memoryview) -> tuple[bytes | memoryview, ...]:
    """The pieces of a chunk. ``data`` is not empty: an empty chunk is the body's end."""
    return b"%x\r\n" % len(data), data, b"\r\n"


def chunk_writer(transport: Any) -> Callable[[bytes | memoryview], None]:
    """Make a function that writes a body in chunks to a transport, at once if possible."""
    eager.flush_now(transport)
    write = eager.writer(transport)
    return lambda data: write(chunk(data))


class Chunks(_twisted.chunk_decoder()):  # type: ignore[misc]
    """Takes a body in chunks apart.

    Twisted's decoder appends all that arrives to its buffer, copies each piece out of it and moves
    the rest to the front. Here it gets only what is between chunks, and checks that as usual:
    inside a chunk there is nothing to check.
    """

    state: str

    def __init__(
        self, dataCallback: Callable[[bytes], None], finishCallback: Callable[[bytes], None]
    ) -> None:
        super().__init__(dataCallback, self._finished)
        self._finish = finishCallback
        self._behind: memoryview = memoryview(b"")

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
            at += size

    def _finished(self, rest: bytes) -> None:
        self._finish(rest + self._behind)
