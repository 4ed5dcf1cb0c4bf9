"""Writing now what Twisted would write in its next turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.abstract import FileDescriptor

from pycomnet.connection import BULK_SIZE, MAX_PIECES, SMALL_SIZE

#: Bytes from which on pieces are handed over as they are, rather than put together.
APART_FROM = 1 << 14

Pieces = Sequence[bytes | bytearray | memoryview]


def is_plain(transport: Any) -> bool:
    """Whether what is written to a transport goes to a descriptor as it is, and may do so now."""
    return (
        isinstance(transport, FileDescriptor)
        and bool(transport.connected)
        and not transport.disconnecting
        and not transport.disconnected
        and not getattr(transport, "TLS", False)
    )


def flush_now(transport: Any) -> None:
    """Hand what a transport has to write to the system, if it is a plain descriptor.

    For a small answer that saves a turn of the reactor. An error is left to the transport's own
    writing, where it shows again and ends the connection.
    """
    if not is_plain(transport):
        return
    pieces = transport._tempDataBuffer
    if not pieces and not transport.dataBuffer:
        return
    transport.SEND_LIMIT = BULK_SIZE
    if len(pieces) > 1 and transport._tempDataLen >= APART_FROM and not transport.dataBuffer:
        # Its own writing would put them together first.
        rest = [*_give(transport, pieces[:MAX_PIECES]), *pieces[MAX_PIECES:]]
        transport._tempDataBuffer = rest
        transport._tempDataLen = sum(map(len, rest))
    transport.doWrite()


def write_now(transport: Any, pieces: Pieces) -> None:
    """Write pieces: what the system takes of them now at once, and the rest as ever."""
    if is_plain(transport) and not transport.dataBuffer and not transport._tempDataBuffer:
        pieces = _give(transport, pieces)
    if pieces:
        transport.write(b"".join(pieces))


def _give(transport: Any, pieces: Pieces) -> Pieces:
    """Have the system take what it does; the rest. An error shows again."""
    size = sum(map(len, pieces))
    give = getattr(transport, "write_parts", None)  # a subprocess's pipes have that
    try:
        if give is not None:
            given = give(pieces)
        elif size < APART_FROM:
            given = transport.socket.send(b"".join(pieces))
        else:
            given = transport.socket.sendmsg(pieces)
    except (OSError, AttributeError):
        return pieces
    if given == size:
        return ()
    rest: list[bytes | bytearray | memoryview] = []
    for piece in pieces:
        if given < len(piece):
            rest.append(memoryview(piece)[given:] if given else piece)
        given = max(given - len(piece), 0)
    return rest


def tune_reading(transport: Any, size: int) -> None:
    """Have a plain descriptor read much at a time while there is much.

    :param size: what it read last.
    """
    if isinstance(transport, FileDescriptor):
        wanted = BULK_SIZE if size >= SMALL_SIZE else SMALL_SIZE
        if transport.bufferSize != wanted:
            transport.bufferSize = wanted
