"""Ways to make Deferreds: of an ``async def``, of a result, and one for each waiter of an event."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.python.failure import Failure

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")


def deferred(function: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Deferred[T]]:
    """Make an ``async def`` return a Deferred, so that it runs even if it is not awaited."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        return Deferred.fromCoroutine(function(*args, **kwargs))

    return call


def shielded(function: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Deferred[T]]:
    """As :func:`deferred`, for a function that has to run to its end, such as one that ends others.

    Cancelling its Deferred only stops the caller's waiting. If the function fails after that, its
    error is dropped.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        outcome: OneShot[T] = OneShot()
        outcome.follow(Deferred.fromCoroutine(function(*args, **kwargs)))
        return outcome.when_fired()

    return call


def reporting(
    function: Callable[Concatenate[Callable[[R], object], P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Callable[[R], object] | None, P], Deferred[T]]:
    """As :func:`deferred`, for a function that reports its progress to a function of the user's.

    The decorated function gets a function ``report`` as its first argument, and calls it with each
    step; callers pass their own ``progress``, or None. If ``progress`` cancels the Deferred,
    ``report`` raises :class:`CancelledError`: Twisted itself can cancel a coroutine only while that
    awaits something.
    """

    @functools.wraps(function)
    def call(
        progress: Callable[[R], object] | None, /, *args: P.args, **kwargs: P.kwargs
    ) -> Deferred[T]:
        made: list[Deferred[T]] = []

        def report(step: R) -> None:
            if progress is not None:
                progress(step)
                if made and made[0].called:
                    raise CancelledError

        running = Deferred.fromCoroutine(function(report, *args, **kwargs))
        made.append(running)
        return running

    return call


class _Done(Deferred[None]):
    """A Deferred that has fired with None, at a third of the cost.

    Most Deferreds of ``send`` have fired when they are returned, and are awaited or dropped. So
    this one is empty; any other use turns it into a normal Deferred.
    """

    called = True
    result = None
    __init__ = object.__init__
    #: Returns an empty iterator without a Python frame: the ``__iter__`` of an iterator.
    __await__ = iter(()).__iter__  # type: ignore[assignment]
    __iter__ = __await__  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        # A method of Deferred, or the user, looks for an attribute that a normal Deferred has.
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
    """An event that happens once, such as a process's end, and its waiters.

    Each waiter has a Deferred of its own. So a waiter's use of the result does not affect the
    others, and the waiter that is notified first may cancel the others: those that have not been
    notified yet never are.

    :param abandoned: called when the last waiter has been cancelled before the event, so that work
        which is no longer needed can be stopped.
    :ivar fired: whether it has happened.
    :ivar result: its result; None before, and if it failed.
    :ivar error: its failure; None before, and if it did not fail.
    """

    __slots__ = ("_abandoned", "_waiters", "error", "fired", "result")

    def __init__(self, abandoned: Callable[[], object] | None = None) -> None:
        self.fired = False
        self.result: T | None = None
        self.error: BaseException | None = None
        self._abandoned = abandoned
        #: the waiters, in the order in which they came
        self._waiters: dict[Deferred[T], None] = {}

    @property
    def waiting(self) -> int:
        """The number of waiters."""
        return len(self._waiters)

    def when_fired(self) -> Deferred[T]:
        """Wait for it.

        :returns: fires with its result, or fails with its error; at once, if it has happened.
            Cancelling it does not affect other waiters.
        """
        if self.error is not None:
            # Each waiter that awaits it adds to its traceback, which would grow without end.
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
        """It has happened: notify all waiters, in the order in which they came.

        :param result: what they get; not a Failure.
        :returns: False if it had happened before; then nothing changes.
        """
        if self.fired:
            return False
        self.fired = True
        self.result = result
        for waiter in self._take_waiters():
            if not waiter.called:  # an earlier waiter may have cancelled it
                waiter.callback(result)
        return True

    def fail(self, error: BaseException) -> bool:
        """It has failed: notify all waiters. If there are none, the error is only kept.

        :param error: what each of them gets, in a Failure of its own.
        :returns: False if it had happened before; then nothing changes.
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
        """Let it happen when a Deferred fires, with the Deferred's result or failure."""
        source.addCallbacks(self.fire, lambda failure: self.fail(failure.value))

    def _take_waiters(self) -> dict[Deferred[T], None]:
        waiters, self._waiters = self._waiters, {}
        return waiters


class Condition:
    """An event that happens repeatedly, such as that a buffer is empty.

    Like a condition variable, it tells that something has changed, and not what: a waiter checks
    again when it is notified.
    """

    __slots__ = ("_next",)

    def __init__(self) -> None:
        self._next: OneShot[None] = OneShot()

    @property
    def waiting(self) -> int:
        """The number of waiters."""
        return self._next.waiting

    def wait(self) -> Deferred[None]:
        """Fires when it happens next. Cancelling it does not affect other waiters."""
        return self._next.when_fired()

    def notify_all(self) -> None:
        """It has happened: notify all waiters. Later waiters wait for the next time."""
        if self._next.waiting:
            happened, self._next = self._next, OneShot()
            happened.fire(None)
