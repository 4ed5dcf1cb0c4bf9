"""What makes Deferreds: a decorator for an ``async def``, and one that has fired already."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import Deferred

P = ParamSpec("P")
T = TypeVar("T")


def deferred(function: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Deferred[T]]:
    """Have an ``async def`` return a Deferred, so that it runs whether or not it is awaited."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        return Deferred.fromCoroutine(function(*args, **kwargs))

    return call


class _Done(Deferred[None]):
    """A Deferred that has fired with None, at a third of the price.

    Most Deferreds of ``send`` have fired when they are returned, and are awaited or forgotten. So
    this one is empty; whoever does anything else with it finds that it is an ordinary one.
    """

    called = True
    result = None
    __init__ = object.__init__
    #: Gives an iterator over nothing, without a frame of Python: an iterator's is itself.
    __await__ = iter(()).__iter__  # type: ignore[assignment]
    __iter__ = __await__  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        # What a Deferred has of its own: some method of the class looks for it, or the user does.
        self._become_ordinary()
        return getattr(self, name)

    def _become_ordinary(self) -> None:
        self.__class__ = Deferred  # type: ignore[assignment]
        Deferred.__init__(self)
        self.called = True
        self.result = None

    def pause(self) -> None:
        self._become_ordinary()
        self.pause()


#: Makes a Deferred that has fired with None.
done: Callable[[], Deferred[None]] = _Done
