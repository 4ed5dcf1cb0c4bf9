"""Eager writes: writes now what Twisted would write in its next turn.

A write that waits for the next turn costs that turn and two changes of the reactor's watches. So
data are written to a plain descriptor at once, as far as the system takes them. The transport's own
writing handles the rest, errors, and transports that are no plain descriptors (TLS).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.abstract import FileDescriptor

from pycomnet.net import _twisted

#: The most bytes of one read or write while there is much. With Twisted's own 64 KiB, a bulk
#: transfer is several times as slow.
BULK_SIZE = 1 << 20
#: Twisted's own size, while there is little to read, as the buffer is allocated for each read.
SMALL_SIZE = 1 << 16

Pieces = Sequence[bytes | bytearray | memoryview]


def is_plain(transport: Any) -> bool:
    """Whether a transport writes its bytes unchanged to a descriptor."""
    return isinstance(transport, FileDescriptor) and not getattr(transport, "TLS", False)


def close_copies(transport: Any) -> None:
    """Close a forked child's copies of a transport's descriptors, without ``connectionLost``."""
    close = getattr(transport, "close_copies", None)
    if close is not None:
        close()
        return
    handle = getattr(transport, "getHandle", None)
    if handle is not None:
        with contextlib.suppress(Exception):
            handle().close()


def writer(transport: Any) -> Callable[[Pieces], None]:
    """A function that writes pieces to a transport: eagerly as much as the system takes, then the
    rest.

    :param transport: it is connected, and will not start TLS later.
    """
    if not is_plain(transport):
        return lambda pieces: transport.write(b"".join(pieces))
    transport.SEND_LIMIT = BULK_SIZE
    write_some = transport.writeSomeData
    has_unwritten = _twisted.has_unwritten

    def write(pieces: Pieces) -> None:
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if (
            not has_unwritten(transport)
            and transport.connected
            and not transport.disconnecting
            and not transport.disconnected
        ):
            given = write_some(data)
            if given == len(data):
                return  # as mostly
            if isinstance(given, int):  # else an error: the transport's own writing gets it again
                data = data[given:]
        transport.write(bytes(data))

    return write


def nowhere(pieces: Pieces) -> None:
    """The writer while there is no transport."""


def flush_now(transport: Any) -> None:
    """Write a transport's buffered bytes at once, if it is a plain descriptor.

    For a small answer that saves a turn of the reactor. An error is left to the transport's own
    writing, which gets it again and ends the connection.
    """
    if not is_plain(transport) or not transport.connected or transport.disconnecting:
        return
    if not _twisted.has_unwritten(transport):
        return
    transport.SEND_LIMIT = BULK_SIZE
    transport.doWrite()


def tune_reading(transport: Any, size: int) -> None:
    """Let a plain descriptor read much at a time while there is much.

    :param size: the number of bytes of the last read.
    """
    if isinstance(transport, FileDescriptor):
        wanted = BULK_SIZE if size >= SMALL_SIZE else SMALL_SIZE
        if transport.bufferSize != wanted:
            transport.bufferSize = wanted
