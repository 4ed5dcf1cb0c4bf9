"""A service's own check of its health: ``health_check``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import attrs

from pycomnet.ranges import real, whole

#: Characters of a check's text that the nameserver takes.
MAX_SAID = 200

F = TypeVar("F", bound=Callable[..., Any])


@attrs.frozen
class HealthCheck:
    """How often a check is called, and what its results mean.

    :ivar interval: seconds from the end of one to the begin of the next.
    :ivar timeout: seconds after which one that hangs has failed.
    :ivar rise: the number of passes in a row after which the service has callers again.
    :ivar fall: the number of failures in a row after which it has none.
    :ivar thread: whether it is called in a thread.
    """

    interval: float
    timeout: float
    rise: int
    fall: int
    thread: bool


def health_check(
    *,
    interval: float = 5.0,
    timeout: float = 2.0,
    rise: int = 2,
    fall: int = 3,
    thread: bool | None = None,
) -> Callable[[F], F]:
    """Have the launcher call a function of a service to find out whether it can take callers.

    It passes unless it raises or returns False. What it returns as a str, or the error that it
    raises, is shown in the nameserver's lists. It is called before the service is registered, and
    from then on again and again. While it fails, the service is listed, and not located.

    :param interval: seconds from the end of one call to the begin of the next.
    :param timeout: seconds; a call that takes longer has failed. It is cancelled, or left in its
        thread; while it is there the check fails.
    :param rise: the number of passes in a row after which the service gets callers again.
    :param fall: the number of failures in a row after which it gets none. If the very first check
        fails, one is enough.
    :param thread: whether it is called in a thread, where it may block; by default it is, unless it
        is an ``async def``. One that returns a Deferred needs ``False``.
    """
    between = real("interval", interval, above=True)
    longest = real("timeout", timeout, above=True)
    passes, failures = whole("rise", rise, 1), whole("fall", fall, 1)

    def mark(function: F) -> F:
        blocks = not inspect.iscoroutinefunction(function) if thread is None else thread
        check = HealthCheck(between, longest, passes, failures, blocks)
        function.__pycomnet_health__ = check  # type: ignore[attr-defined]
        return function

    return mark


def checks_of(service: Any) -> list[tuple[HealthCheck, Callable[[], Any]]]:
    """The checks of a service."""
    found = []
    for name, value in inspect.getmembers(type(service)):
        check = getattr(value, "__pycomnet_health__", None)
        if isinstance(check, HealthCheck):
            found.append((check, getattr(service, name)))
    return found
