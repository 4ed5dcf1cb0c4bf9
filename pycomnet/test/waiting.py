"""Waiting, for tests, until something is so that nobody says."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from twisted.internet.task import deferLater

T = TypeVar("T")

#: Seconds that anything may take on a busy machine before a test gives up.
DEADLINE = 120


def wait_until(condition: Callable[[], T], what: str) -> T:
    """Block until something is so.

    :param condition: asked again and again; what it returns is true when it is so.
    :param what: what has to be so, for the error.
    :returns: what the condition has returned.
    """
    end = time.monotonic() + DEADLINE
    while not (found := condition()):
        assert time.monotonic() < end, f"not in {DEADLINE} seconds: {what}"
        time.sleep(0.01)
    return found


async def until(condition: Callable[[], T], what: str) -> T:
    """Wait until something is so, while the reactor runs; as :func:`wait_until`."""
    from twisted.internet import reactor

    end = time.monotonic() + DEADLINE
    while not (found := condition()):
        assert time.monotonic() < end, f"not in {DEADLINE} seconds: {what}"
        await deferLater(reactor, 0.01)  # type: ignore[arg-type]
    return found
