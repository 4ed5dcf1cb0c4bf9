"""What makes Deferreds: a decorator for an ``async def``, one that has fired, what fires many."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any, Generic, ParamSpec, TypeVar

from twisted.internet.defer import Deferred, succeed

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


class OneShot(Generic[T]):
    """Something that happens once, as a process's end, and whoever wants to know of it.

    :ivar fired: whether it has happened.
    :ivar result: what it happened with; None before.
    """

    __slots__ = ("_waiters", "fired", "result")

    def __init__(self) -> None:
        self.fired = False
        self.result: T | None = None
        self._waiters: list[Deferred[T]] = []

    def when_fired(self) -> Deferred[T]:
        """Fires with what it happened with; at once, if it has. Cancelling it only ends it."""
        if self.fired:
            return succeed(self.result)  # type: ignore[arg-type]
        waiter: Deferred[T] = Deferred(self._forget)
        self._waiters.append(waiter)
        return waiter

    def _forget(self, waiter: Deferred[T]) -> None:
        if waiter in self._waiters:  # else what was told before it has cancelled it
            self._waiters.remove(waiter)

    def fire(self, result: T) -> bool:
        """It has happened: tell all that wait, in the order in which they came.

        :param result: what they get; not a Failure.
        :returns: False, and nothing changes, if it had happened before.
        """
        if self.fired:
            return False
        self.fired = True
        self.result = result
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.called:  # cancelled by one that was told before it
                waiter.callback(result)
        return True
