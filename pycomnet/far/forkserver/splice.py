"""Moving bytes from one descriptor to another without looking at them, where the system can."""

import os
import sys

from ..path import own_imports

_splice = getattr(os, "splice", None)
#: What asks how many bytes can be read from a descriptor, once it was needed; or nothing.
_asking = []


def pending(fd):
    """How many bytes wait in a pipe, at either end, or can be read; None where that isn't known."""
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
    """How many bytes can be read from a descriptor and moved; 0 where that isn't known."""
    return (_splice is not None and pending(fd)) or 0


def move(source, target, size):
    """Move bytes that are there to a descriptor that doesn't wait.

    :returns: what it does not take now, read from the source.
    """
    try:
        while size:
            moved = _splice(source, target, size, flags=os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK)
            if not moved:
                break
            size -= moved
    except OSError:
        pass  # it is full, or no pipe; an error shows when the rest is written
    rest = []
    while size:
        rest.append(os.read(source, size))
        if not rest[-1]:
            break  # its end shows again
        size -= len(rest[-1])
    return b"".join(rest)
