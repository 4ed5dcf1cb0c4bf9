"""Descriptors that one process gives to another, beside what it says to it on a UNIX socket."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.interfaces import IUNIXTransport

from pycomnet.eager import flush_now, is_plain, queued_descriptors

#: Seconds between looks whether descriptors have been sent that a full socket did not take.
LOOK_AGAIN = 0.05

Identity = tuple[int, int]


def passes_descriptors(transport: Any) -> bool:
    """Whether descriptors can be sent beside what is written: on a UNIX socket."""
    return is_plain(transport) and IUNIXTransport.providedBy(transport)


def identity(fd: int) -> Identity:
    """What tells a pipe from all others, by whatever number a process knows it."""
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def send_descriptors(transport: Any, fds: Sequence[int], write: Callable[[], object]) -> None:
    """Send descriptors, which are closed here once they are sent, or never will be.

    :param transport: one that :func:`passes_descriptors`.
    :param write: writes at least as many bytes. Whoever receives the last of these has received
        the descriptors before.
    """
    for fd in fds:
        transport.sendFileDescriptor(fd)
    write()
    flush_now(transport)
    _close_sent(transport, set(fds))


def _close_sent(transport: Any, fds: set[int]) -> None:
    waiting = fds.intersection(queued_descriptors(transport)) if transport.connected else set()
    for fd in fds - waiting:
        os.close(fd)
    if waiting:
        transport.reactor.callLater(LOOK_AGAIN, _close_sent, transport, waiting)


class ReceivedDescriptors:
    """Descriptors that have come and were not taken yet.

    They are known by what they are, not by their order: the system drops those for which this
    process has no number left, and nobody is told.
    """

    def __init__(self) -> None:
        self._there: dict[Identity, int] = {}

    def add(self, fd: int) -> None:
        """One has come; processes that this one starts do not get it."""
        os.set_inheritable(fd, False)
        self._there[identity(fd)] = fd

    def take(self, *wanted: Identity) -> tuple[int, ...] | None:
        """Those that somebody was told of, in that order; None if one of them did not come."""
        found = [self._there.pop(one, None) for one in wanted]
        taken = tuple(fd for fd in found if fd is not None)
        if len(taken) == len(wanted):
            return taken
        _close(taken)
        return None

    def close(self) -> None:
        """Close what nobody has taken."""
        there, self._there = self._there, {}
        _close(tuple(there.values()))


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


__all__ = ["ReceivedDescriptors", "identity", "passes_descriptors", "send_descriptors"]
