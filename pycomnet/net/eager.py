"""Eager writes: writes now what Twisted would write in its next turn.

A write that waits for the next turn costs that turn and two changes of the reactor's watches. So
data are written to a plain descriptor at once, as far as the system takes them, without joining the
pieces. The transport's own writing handles the rest, errors, and transports that are no plain
descriptors (TLS).
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
#: Pieces of at least this many bytes together are written without being joined.
APART_FROM = 1 << 14
#: The most pieces that are written without being joined: more would cost more than a copy.
MAX_PIECES = 64

Pieces = Sequence[bytes | bytearray | memoryview]


def is_plain(transport: Any) -> bool:
    """Whether a transport writes its bytes unchanged to a descriptor."""
    return isinstance(transport, FileDescriptor) and not getattr(transport, "TLS", False)


def close_copies(transport: Any) -> None:
    """Close a forked child's copies of a transport's descriptors; the transport isn't told."""
    close = getattr(transport, "close_copies", None)
    if close is not None:
        close()
        return
    handle = getattr(transport, "getHandle", None)
    if handle is not None:
        with contextlib.suppress(Exception):
            handle().close()


def writer(transport: Any) -> Callable[[Pieces], None]:
    """A function that writes pieces to a transport: eagerly what the system takes, then the rest.

    :param transport: it is connected, and will not start TLS later.
    """
    waiting = _twisted.queued_descriptors(transport)
    if not is_plain(transport) or waiting is None:
        return lambda pieces: transport.write(b"".join(pieces))
    give = _giver(transport)
    has_unwritten = _twisted.has_unwritten

    def write(pieces: Pieces) -> None:
        if (
            not waiting
            and not has_unwritten(transport)
            and transport.connected
            and not transport.disconnecting
            and not transport.disconnected
        ):
            if len(pieces) > MAX_PIECES:
                pieces = (b"".join(pieces),)
            given = give(pieces)
            if len(pieces) == 1 and given == len(pieces[0]):
                return  # as mostly
            if given:
                pieces = _rest(pieces, given)
                if not pieces:
                    return
        transport.write(b"".join(pieces))

    return write


def nowhere(pieces: Pieces) -> None:
    """The writer while there is no transport."""


def flush_now(transport: Any) -> None:
    """Write at once what a transport has to write, if it is a plain descriptor.

    For a small answer that saves a turn of the reactor. An error is left to the transport's own
    writing, which gets it again and ends the connection.
    """
    if not is_plain(transport) or not transport.connected or transport.disconnecting:
        return
    if not _twisted.has_unwritten(transport):
        return
    transport.SEND_LIMIT = BULK_SIZE
    pieces = _twisted.unwritten_pieces(transport)
    if (
        len(pieces) > 1
        and sum(map(len, pieces)) >= APART_FROM
        and _twisted.queued_descriptors(transport) in ([], ())
    ):
        # Its own writing would join them first.
        some = pieces[:MAX_PIECES]
        rest = [*_rest(some, _giver(transport)(some)), *pieces[MAX_PIECES:]]
        _twisted.replace_unwritten(transport, rest)
    transport.doWrite()


def tune_reading(transport: Any, size: int) -> None:
    """Let a plain descriptor read much at a time while there is much.

    :param size: the number of bytes of the last read.
    """
    if isinstance(transport, FileDescriptor):
        wanted = BULK_SIZE if size >= SMALL_SIZE else SMALL_SIZE
        if transport.bufferSize != wanted:
            transport.bufferSize = wanted


def _giver(transport: Any) -> Callable[[Pieces], int]:
    """A function that writes a few pieces and returns how many bytes the system took."""
    own: Callable[[Pieces], int] | None = getattr(transport, "write_parts", None)
    if own is not None:
        return own  # a subprocess's pipes
    socket = getattr(transport, "socket", None)
    if socket is None:
        return lambda pieces: max(_number(transport.writeSomeData(b"".join(pieces))), 0)

    def give(pieces: Pieces) -> int:
        try:
            if len(pieces) == 1:
                taken: int = socket.send(pieces[0])
            elif sum(map(len, pieces)) < APART_FROM:
                taken = socket.send(b"".join(pieces))
            else:
                taken = socket.sendmsg(pieces)
        except OSError:
            return 0  # the transport's own writing gets it again
        return taken

    return give


def _number(result: object) -> int:
    return result if isinstance(result, int) else 0


def _rest(pieces: Pieces, given: int) -> Pieces:
    """The rest of the pieces after ``given`` bytes."""
    rest: list[bytes | bytearray | memoryview] = []
    for piece in pieces:
        if given < len(piece):
            rest.append(memoryview(piece)[given:] if given else piece)
            given = 0
        else:
            given -= len(piece)
    return rest
