"""A subscriber in a program without a reactor of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from importlib import import_module
from typing import Any


class BlockingMethods:
    """The methods of a subscriber that block.

    :ivar taken: what was taken from the reactor's thread, and not given yet.
    """

    def __init__(self) -> None:
        self.taken: deque[Any] = deque()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._blocking())

    def __getitem__(self, index: int | slice) -> Any:
        return self._blocking()[index]

    def get(self, timeout: float | None = None) -> Any:
        """The next value, in a program without a reactor of its own.

        :param timeout: seconds; after that :class:`~pycomnet.errors.TimeoutExpired` is raised.
        """
        return self._blocking().get(timeout)

    def _blocking(self) -> Any:
        # The API without Deferreds is above this layer. Its object is not kept here: a subscriber
        # that nobody holds any more ends at once.
        return import_module("pycomnet.blocking.ext.pubsub").Subscriber(self)


__all__ = ["BlockingMethods"]
