"""Writing now what Twisted would write in its next turn.

A write that waits for the next turn costs that turn and two changes to what the system watches. So
what there is goes to a plain descriptor at once, as far as the system takes it, in the pieces that
it is in; the rest, an error, and whatever is not a plain descriptor (TLS) is left to the
transport's own writing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.abstract import FileDescriptor

from pycomnet.net import _twisted

#: How much is read and written at a time while there is that much. Twisted's own 64 KiB makes a
#: bulk transfer several times as slow.
BULK_SIZE = 1 << 20
#: Twisted's own, for when there is little to read: the buffer is allocated for each read.
SMALL_SIZE = 1 << 16
#: Bytes from which on pieces are handed over as they are, rather than put together.
APART_FROM = 1 << 14
#: Pieces that are handed over without being put together: more cost more than copying them.
MAX_PIECES = 64

Pieces = Sequence[bytes | bytearray | memoryview]


def is_plain(transport: Any) -> bool:
    """Whether what is written to a transport goes to a descriptor as it is."""
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
    """What writes pieces to a transport: what the system takes of them at once, the rest as ever.

    :param transport: is connected, and goes on without TLS if it is without now.
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
            if given:
                pieces = _rest(pieces, given)
                if not pieces:
                    return
        transport.write(b"".join(pieces))

    return write


def nowhere(pieces: Pieces) -> None:
    """What writes while there is no transport."""


def flush_now(transport: Any) -> None:
    """Hand what a transport has to write to the system, if it is a plain descriptor.

    For a small answer that saves a turn of the reactor. An error is left to the transport's own
    writing, where it shows again and ends the connection.
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
        # Its own writing would put them together first.
        some = pieces[:MAX_PIECES]
        rest = [*_rest(some, _giver(transport)(some)), *pieces[MAX_PIECES:]]
        _twisted.replace_unwritten(transport, rest)
    transport.doWrite()


def tune_reading(transport: Any, size: int) -> None:
    """Have a plain descriptor read much at a time while there is much.

    :param size: what it read last.
    """
    if isinstance(transport, FileDescriptor):
        wanted = BULK_SIZE if size >= SMALL_SIZE else SMALL_SIZE
        if transport.bufferSize != wanted:
            transport.bufferSize = wanted


def _giver(transport: Any) -> Callable[[Pieces], int]:
    """What has the system take pieces, of which there are not too many; the bytes that it took."""
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
            return 0  # it shows again
        return taken

    return give


def _number(result: object) -> int:
    return result if isinstance(result, int) else 0


def _rest(pieces: Pieces, given: int) -> Pieces:
    """What is left of pieces when so many bytes of them were taken."""
    rest: list[bytes | bytearray | memoryview] = []
    for piece in pieces:
        if given < len(piece):
            rest.append(memoryview(piece)[given:] if given else piece)
            given = 0
        else:
            given -= len(piece)
    return rest
