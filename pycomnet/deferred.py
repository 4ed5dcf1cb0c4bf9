"""What makes Deferreds: a decorator for an ``async def``, one that has fired, what fires many."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any, Generic, ParamSpec, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

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

    Each who waits has a Deferred of its own. So what one does with the result the others don't see,
    and whoever is told first may cancel the others: those that were not told yet never are.

    :param abandoned: called when the last one that waits has been cancelled before it happened, so
        that what nobody wants any more can be given up.
    :ivar fired: whether it has happened.
    :ivar result: what it happened with; None before, and when it failed.
    :ivar error: what it failed with; None before, and when it did not.
    """

    __slots__ = ("_abandoned", "_waiters", "error", "fired", "result")

    def __init__(self, abandoned: Callable[[], object] | None = None) -> None:
        self.fired = False
        self.result: T | None = None
        self.error: BaseException | None = None
        self._abandoned = abandoned
        #: in the order in which they came
        self._waiters: dict[Deferred[T], None] = {}

    @property
    def waiting(self) -> int:
        """How many wait for it."""
        return len(self._waiters)

    def when_fired(self) -> Deferred[T]:
        """Wait for it.

        :returns: fires with what it happened with, or fails with that; at once, if it has happened.
            Cancelling it changes nothing for the others.
        """
        if self.error is not None:
            # Each that awaits it adds to its traceback: it would grow as often as this is asked.
            return fail(self.error.with_traceback(None))
        if self.fired:
            return succeed(self.result)  # type: ignore[arg-type]
        waiter: Deferred[T] = Deferred(self._forget)
        self._waiters[waiter] = None
        return waiter

    def _forget(self, waiter: Deferred[T]) -> None:
        self._waiters.pop(waiter, None)
        if not self.fired and not self._waiters and self._abandoned is not None:
            self._abandoned()

    def fire(self, result: T) -> bool:
        """It has happened: tell all that wait, in the order in which they came.

        :param result: what they get; not a Failure.
        :returns: False, and nothing changes, if it had happened before.
        """
        if self.fired:
            return False
        self.fired = True
        self.result = result
        for waiter in self._take_waiters():
            if not waiter.called:  # cancelled by one that was told before it
                waiter.callback(result)
        return True

    def fail(self, error: BaseException) -> bool:
        """It has failed: tell all that wait. Nobody need wait: then the error is only kept.

        :param error: what each of them gets, in a Failure of its own.
        :returns: False, and nothing changes, if it had happened before.
        """
        if self.fired:
            return False
        self.fired = True
        self.error = error
        for waiter in self._take_waiters():
            if not waiter.called:
                waiter.errback(Failure(error))
        return True

    def follow(self, source: Deferred[T]) -> None:
        """Have it happen when a Deferred fires, with what that fires or fails with."""
        source.addCallbacks(self.fire, lambda failure: self.fail(failure.value))

    def _take_waiters(self) -> dict[Deferred[T], None]:
        waiters, self._waiters = self._waiters, {}
        return waiters


class Condition:
    """Something that happens again and again, as that a buffer is empty.

    Like a condition variable, it says that something has changed, and not what: whoever waits looks
    again when it is told.
    """

    __slots__ = ("_next",)

    def __init__(self) -> None:
        self._next: OneShot[None] = OneShot()

    @property
    def waiting(self) -> int:
        """How many wait for it."""
        return self._next.waiting

    def wait(self) -> Deferred[None]:
        """Fires when it happens next. Cancelling it changes nothing for the others."""
        return self._next.when_fired()

    def notify_all(self) -> None:
        """It has happened: tell all that wait. Who waits from now on waits for the next time."""
        if self._next.waiting:
            happened, self._next = self._next, OneShot()
            happened.fire(None)
