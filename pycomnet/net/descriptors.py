"""Passes open descriptors to another process with the bytes on a UNIX socket."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime, IUNIXTransport

from pycomnet.net import _twisted
from pycomnet.net.eager import flush_now, is_plain

#: Seconds between checks whether descriptors that a full socket did not take have been sent.
LOOK_AGAIN = 0.05
#: Seconds after which received descriptors are closed if they are not taken. The next bytes tell
#: who takes them; that may take longer while one of the two processes is stopped.
TAKE_TIME = 5.0

Identity = tuple[int, int]


def passes_descriptors(transport: Any) -> bool:
    """Whether descriptors can be sent with the bytes: on a UNIX socket."""
    return is_plain(transport) and IUNIXTransport.providedBy(transport)


def identity(fd: int) -> Identity:
    """The identity of a pipe: the same in each process, whatever its number there."""
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def send_descriptors(transport: Any, fds: Sequence[int], write: Callable[[], object]) -> None:
    """Send descriptors. They are closed here when they have been sent, or can't be sent.

    :param transport: one for which :func:`passes_descriptors` is true.
    :param write: writes at least as many bytes as there are descriptors. When the receiver has the
        last of these bytes, it has the descriptors.
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
    """Received descriptors that were not taken yet.

    They are looked up by their identity, not by their order: the system silently drops those for
    which this process has no number left. Those that are not taken are closed after a time, as
    their requester may have given up.
    """

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._there: dict[Identity, tuple[int, IDelayedCall]] = {}

    def add(self, fd: int) -> None:
        """Add a received descriptor; processes that this one starts do not inherit it."""
        os.set_inheritable(fd, False)
        key = identity(fd)
        self._there[key] = fd, self._reactor.callLater(TAKE_TIME, self._expire, key)

    def _expire(self, key: Identity) -> None:
        _close([self._there.pop(key)[0]])

    def take(self, *wanted: Identity) -> tuple[int, ...] | None:
        """Take the descriptors with these identities, in this order; None if one is missing."""
        found = [self._there.pop(key) for key in wanted if key in self._there]
        for _, call in found:
            call.cancel()
        taken = tuple(fd for fd, _ in found)
        if len(taken) == len(wanted):
            return taken
        _close(taken)
        return None

    def close(self) -> None:
        """Close those that have not been taken."""
        there, self._there = self._there, {}
        for fd, call in there.values():
            call.cancel()
            _close([fd])


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
