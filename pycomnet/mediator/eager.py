"""Writing now what Twisted would write in its next turn."""

from __future__ import annotations

from typing import Any

from twisted.internet.abstract import FileDescriptor

#: How much is read and written at a time while there is that much; Twisted's own 64 KiB makes a
#: bulk transfer several times as slow.
BULK_SIZE = 1 << 20
#: Twisted's own, for when there is little: the buffer is allocated for each read.
SMALL_SIZE = 1 << 16


def flush_now(transport: Any) -> None:
    """Hand what a transport has to write to the system, if it is a plain descriptor.

    For a small answer that saves a turn of the reactor. An error is left to the transport's own
    writing, where it shows again and ends the connection.
    """
    if (
        isinstance(transport, FileDescriptor)
        and transport.connected
        and not transport.disconnecting
        and not transport.disconnected
        and not getattr(transport, "TLS", False)
    ):
        transport.SEND_LIMIT = BULK_SIZE
        transport.doWrite()


def tune_reading(transport: Any, size: int) -> None:
    """Have a plain descriptor read much at a time while there is much.

    :param size: what it read last.
    """
    if isinstance(transport, FileDescriptor):
        wanted = BULK_SIZE if size >= SMALL_SIZE else SMALL_SIZE
        if transport.bufferSize != wanted:
            transport.bufferSize = wanted
