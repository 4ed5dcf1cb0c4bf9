"""Turns standard input and output into the connection of a far side."""

import os

from ..wire.frames import MARKER
from .execute import flush_output
from .supervisor import set_blocking


def take_stdio():
    """Make standard input and output the connection, and keep all else from using them.

    :returns: the descriptors to read from and to write to.
    """
    # Buffered output from before now goes before the marker.
    flush_output()
    for fd in (0, 1, 2):
        try:
            set_blocking(fd, True)
        except (OSError, IOError):
            pass  # there is no standard error
    read_fd, write_fd = os.dup(0), os.dup(1)
    os.write(write_fd, MARKER)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    # The standard output of C code and child processes goes to standard error.
    os.dup2(2, 1)
    return read_fd, write_fd
