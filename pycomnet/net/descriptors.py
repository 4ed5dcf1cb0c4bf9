"""Descriptors that one process gives to another, beside what it says to it on a UNIX socket."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime, IUNIXTransport

from pycomnet.net import _twisted
from pycomnet.net.eager import flush_now, is_plain

#: Seconds between looks whether descriptors have been sent that a full socket did not take.
LOOK_AGAIN = 0.05
#: Seconds that descriptors which have come wait for whoever takes them. That is known with the next
#: bytes; it takes longer where one of the two processes stands still.
TAKE_TIME = 5.0

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
    waiting: set[int] = set()
    if transport.connected:
        queued = _twisted.queued_descriptors(transport)
        if queued is not None:
            waiting = fds.intersection(queued)
        elif _twisted.has_unwritten(transport):
            waiting = fds  # they are sent before the bytes behind them
    for fd in fds - waiting:
        os.close(fd)
    if waiting:
        transport.reactor.callLater(LOOK_AGAIN, _close_sent, transport, waiting)


class ReceivedDescriptors:
    """Descriptors that have come and were not taken yet.

    They are known by what they are, not by their order: the system drops those for which this
    process has no number left, and nobody is told. Those that nobody takes are closed after a time,
    as whoever asked for them may have given up.
    """

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._there: dict[Identity, tuple[int, IDelayedCall]] = {}

    def add(self, fd: int) -> None:
        """One has come; processes that this one starts do not get it."""
        os.set_inheritable(fd, False)
        key = identity(fd)
        self._there[key] = fd, self._reactor.callLater(TAKE_TIME, self._expire, key)

    def _expire(self, key: Identity) -> None:
        _close([self._there.pop(key)[0]])

    def take(self, *wanted: Identity) -> tuple[int, ...] | None:
        """Those that somebody was told of, in that order; None if one of them did not come."""
        found = [self._there.pop(key) for key in wanted if key in self._there]
        for _, call in found:
            call.cancel()
        taken = tuple(fd for fd, _ in found)
        if len(taken) == len(wanted):
            return taken
        _close(taken)
        return None

    def close(self) -> None:
        """Close what nobody has taken."""
        there, self._there = self._there, {}
        for fd, call in there.values():
            call.cancel()
            _close([fd])


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


__all__ = ["ReceivedDescriptors", "identity", "passes_descriptors", "send_descriptors"]
