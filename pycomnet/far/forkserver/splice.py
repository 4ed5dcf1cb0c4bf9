"""Moves bytes from one descriptor to another inside the system, if it can (splice)."""

import os
import sys

from ..path import own_imports

_splice = getattr(os, "splice", None)
#: The function that tells how many bytes a descriptor has, once it was needed; or empty.
_asking = []


def pending(fd):
    """How many bytes are in a pipe (either end), or can be read; None if that isn't known."""
    if not _asking:
        try:
            with own_imports:
                from fcntl import ioctl
                from termios import FIONREAD
        except ImportError:
            return None
        _asking.append((ioctl, FIONREAD))
    ioctl, request = _asking[0]
    try:
        return int.from_bytes(ioctl(fd, request, b"\0\0\0\0"), sys.byteorder)
    except OSError:
        return None


def available(fd):
    """How many bytes can be read from a descriptor and moved; 0 if that isn't known."""
    return (_splice is not None and pending(fd)) or 0


def move(source, target, size):
    """Move available bytes to a non-blocking descriptor.

    :returns: bytes that the target does not take now, read from the source.
    """
    try:
        while size:
            moved = _splice(source, target, size, flags=os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK)
            if not moved:
                break
            size -= moved
    except OSError:
        pass  # the target is full, or no pipe; an error shows when the rest is written
    rest = []
    while size:
        rest.append(os.read(source, size))
        if not rest[-1]:
            break  # the next read shows the end again
        size -= len(rest[-1])
    return b"".join(rest)
