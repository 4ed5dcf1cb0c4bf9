"""Runs a publisher's code: a generator, an async generator, or a function."""

from __future__ import annotations

import inspect
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import attrs
from twisted.internet import defer
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from pycomnet.errors import message_of
from pycomnet.ext.pubsub.topic import Topic
from pycomnet.net.backoff import retry_policy
from pycomnet.services.server.tasks import CANCELLED, Tasks
from pycomnet.text.logs import Logger
from pycomnet.wire.values import type_name

log = Logger()

#: How many values a thread may produce before they are published.
AHEAD = 1000
#: How many values are published before other work of the reactor runs.
TURN = 250
#: Seconds before a generator that has failed runs again, at first and at most.
FIRST_DELAY, MOST_DELAY = 0.5, 60.0
#: The message of the notice to subscribers if the code has ended without an error and runs again.
HAD_ENDED = "it had ended"
NEVER, FAILED, ALWAYS = "never", "failed", "always"
RESTARTS = (NEVER, FAILED, ALWAYS)


@attrs.frozen
class Publication:
    """What a generator yields to set the key or the subject of a value.

    :ivar value: the value; or a tuple of it and blocks of binary data.
    :ivar key: the key of the event.
    :ivar subject: its subject.
    """

    value: Any
    key: str | None = None
    subject: str = ""


class PublisherRun(Protocol):
    """One run of a publisher's code."""

    def start(self) -> defer.Deferred[None]:
        """Run it. Returns a Deferred that fires at its end, and fails with its error."""

    def stop(self) -> None:
        """Request its end."""


def publish_to(topic: Topic, value: Any) -> defer.Deferred[None]:
    """Publish what a generator has yielded."""
    if type(value) is Publication:
        return topic.publish(value.value, value.key, value.subject)
    return topic.publish(value)


class ReactorRun:
    """A generator, an async generator, or a function that runs in the reactor's thread."""

    def __init__(self, function: Callable[..., Any], topic: Topic, reactor: IReactorTime) -> None:
        self._function = function
        self._topic = topic
        self._reactor = reactor
        self._running: defer.Deferred[Any] | None = None

    def start(self) -> defer.Deferred[None]:
        self._running = Tasks(self._reactor).start(self._run())
        return self._running

    def stop(self) -> None:
        if self._running is not None:
            self._running.cancel()

    async def _run(self) -> None:
        made = self._function(self._topic.publish) if takes(self._function) else self._function()
        if inspect.isawaitable(made):
            await made
        elif hasattr(made, "__aiter__"):
            try:
                number = 0
                async for value in made:
                    await publish_to(self._topic, value)
                    number += 1
                    if not number % TURN:
                        await deferLater(self._reactor, 0)
            finally:
                if hasattr(made, "aclose"):
                    await made.aclose()
        elif hasattr(made, "__next__"):
            await self._iterate(made)
        elif takes(self._function):
            await defer.Deferred()  # it publishes from callbacks: its end can't be seen

    async def _iterate(self, made: Any) -> None:
        try:
            for number, value in enumerate(made, 1):
                await publish_to(self._topic, value)
                if not number % TURN:
                    await deferLater(self._reactor, 0)
        finally:
            close = getattr(made, "close", None)
            if close is not None:
                close()


class ThreadRun:
    """A generator or function that may block, in a daemon thread of its own."""

    def __init__(self, function: Callable[..., Any], topic: Topic, reactor: IReactorTime) -> None:
        self._function = function
        self._topic = topic
        self._later = reactor
        self._reactor: IReactorFromThreads = IReactorFromThreads(reactor)
        self._over: defer.Deferred[None] = defer.Deferred()
        self._changed = threading.Condition()
        #: the values that wait to be published, each with the object that is notified of the
        #: outcome, or None
        self._values: deque[tuple[Any, _Outcome | None]] = deque()
        self._draining = False
        self._stopped = False
        #: how many values the topic holds, as a subscriber blocks or a store writes; and how many
        #: it may hold: the other half of its room is for clients
        self._pending = 0
        self._most = max(1, min(AHEAD, topic.settings.limits.blocked // 2))
        #: why a value was refused
        self._problem: BaseException | None = None
        #: how the thread has ended, once it has
        self._outcome: tuple[Failure | None] | None = None
        #: whether it has ended because it was stopped
        self.cut = False

    def start(self) -> defer.Deferred[None]:
        name = f"pycomnet-publisher {self._topic.interface}"
        threading.Thread(target=self._run, name=name, daemon=True).start()
        return self._over

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def resume(self) -> None:
        """Withdraw the request to end, if the thread has not ended by now."""
        with self._changed:
            self._stopped = False

    # -- in the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            if takes(self._function):
                self._function(self._publish)
            else:
                self._iterate(self._function())
        except _Stopped:
            self.cut = True
            self._end(None)
        except BaseException:
            self._end(Failure())
        else:
            self._end(None)

    def _iterate(self, made: Any) -> None:
        try:
            for value in made:
                if not self._put(value, None):
                    self.cut = True
                    return
        finally:
            close = getattr(made, "close", None)
            if close is not None:
                close()

    def _publish(self, value: Any, key: str | None = None, subject: str = "") -> None:
        """The user's function ``publish``: returns when the value is published."""
        outcome = _Outcome()
        if not self._put(Publication(value, key, subject), outcome):
            raise _Stopped
        outcome.wait()

    def _put(self, value: Any, outcome: _Outcome | None) -> bool:
        """Pass a value to the reactor's thread. Returns False if the publisher is to end."""
        with self._changed:
            while len(self._values) + self._pending >= AHEAD and not self._stopped:
                self._changed.wait()
            if self._problem is not None:
                raise self._problem
            if self._stopped:
                return False
            self._values.append((value, outcome))
            if self._draining:
                return True
            self._draining = True
        self._reactor.callFromThread(self._drain)
        return True

    def _end(self, failure: Failure | None) -> None:
        self._reactor.callFromThread(self._ended, failure)

    # -- in the reactor's thread -----------------------------------------------------------------

    def _ended(self, failure: Failure | None) -> None:
        self._outcome = (failure,)
        self._check_end()

    def _check_end(self) -> None:
        """The run is over when the thread has ended, and all its values are published."""
        if self._outcome is None or self._values or self._pending:
            return
        (failure,), self._outcome = self._outcome, None
        if failure is None and self._problem is not None:
            failure = Failure(self._problem)  # of the last value
        if failure is None:
            self._over.callback(None)
        else:
            self._over.errback(failure)

    def _drain(self) -> None:
        values = self._values
        for _ in range(TURN):
            if not values or self._pending >= self._most:
                break
            if self._pending and not self._topic.has_room:
                break  # `_published` continues
            value, outcome = values.popleft()
            publishing = publish_to(self._topic, value)
            if outcome is not None:
                publishing.addBoth(outcome.set)
            elif not publishing.called:
                self._pending += 1
                publishing.addCallbacks(self._published, self._failed)
            else:
                publishing.addErrback(self._refused)
        with self._changed:
            waits = self._pending >= self._most or (self._pending and not self._topic.has_room)
            self._draining = bool(values) and not waits
            self._changed.notify_all()
            again = self._draining
        if again:
            self._later.callLater(0, self._drain)
        else:
            self._check_end()

    def _published(self, _: object) -> None:
        self._pending -= 1
        with self._changed:
            again = bool(self._values) and not self._draining
            self._draining = self._draining or again
            self._changed.notify_all()
        if again:
            self._drain()
        else:
            self._check_end()

    def _failed(self, failure: Failure) -> None:
        self._refused(failure)
        self._published(None)

    def _refused(self, failure: Failure) -> None:
        """Note the error of a value that can't be published: it is raised in the thread, which
        closes the generator."""
        with self._changed:
            self._problem = self._problem or failure.value
            self._values.clear()
            self._changed.notify_all()


class _Stopped(BaseException):
    """The publisher is to end: raised in a function's ``publish``."""


class _Outcome:
    """The outcome of a value, for which a thread waits."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._failure: Failure | None = None

    def set(self, result: Any) -> None:
        """The value is published, or failed."""
        if isinstance(result, Failure):
            self._failure = result
        self._event.set()

    def wait(self) -> None:
        """Wait for the outcome, and raise its error."""
        self._event.wait()
        if self._failure is not None:
            self._failure.raiseException()


def takes(function: Callable[..., Any]) -> bool:
    """Whether a function takes ``publish`` as its argument."""
    return bool(inspect.signature(function).parameters)


def runs_in_thread(function: Callable[..., Any]) -> bool:
    """Whether a function may block, so that it runs in a thread by default."""
    return not (inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function))


class PublisherRunner:
    """Runs a publisher's code once for all subscribers, and restarts it by its policy.

    :param lazy: whether it runs only while there are subscribers.
    :param restart: ``"never"``, ``"failed"`` (after an error) or ``"always"``.
    :param make: makes a run of it.
    """

    def __init__(
        self,
        topic: Topic,
        make: Callable[[], PublisherRun],
        reactor: IReactorTime,
        lazy: bool,
        restart: str,
    ) -> None:
        self._topic = topic
        self._make = make
        self._reactor = reactor
        self._lazy = lazy
        self._restart = restart
        self._source: PublisherRun | None = None
        self._wanted = not lazy
        self._policy = retry_policy(FIRST_DELAY, MOST_DELAY)
        self._failures = 0
        self._begun = 0.0
        self._timer: Any = None
        self._stopping: Any = None
        self._closed = False

    def start(self) -> None:
        """Begin, unless it is lazy and has no subscribers."""
        if self._lazy:
            self._topic.watched = self.watched
        else:
            self._run()

    def watched(self, is_watched: bool) -> None:
        """The first subscriber has come, or the last has gone."""
        self._wanted = is_watched
        source = self._source
        if not is_watched:
            self._cancel()
            # In another turn: an event of the run itself may have ended the last subscription, and
            # running code can't be cancelled.
            if source is not None and self._stopping is None:
                self._stopping = self._reactor.callLater(0, self._stop_unwanted)
        elif source is None:
            self._run()
        elif isinstance(source, ThreadRun):
            source.resume()

    def _stop_unwanted(self) -> None:
        self._stopping = None
        if not self._wanted and self._source is not None:
            self._source.stop()

    def close(self) -> None:
        """End the run. A thread that blocks ends with its next value, or with the process."""
        self._closed = True
        self._wanted = False
        self._cancel()
        if self._stopping is not None:
            self._stopping.cancel()
            self._stopping = None
        if self._source is not None:
            self._source.stop()

    def _cancel(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _run(self) -> None:
        self._timer = None
        if self._topic.over or self._closed or self._source is not None:
            return
        self._begun = self._reactor.seconds()
        self._source = self._make()
        self._source.start().addCallbacks(self._returned, self._raised)

    def _returned(self, _: object) -> None:
        if self._was_stopped():
            return
        if self._restart == ALWAYS:
            self._topic.tell_restarted(HAD_ENDED)
            self._run_later()
        else:
            self._topic.end()

    def _raised(self, failure: Failure) -> None:
        if self._was_stopped(failure):
            return
        interface = self._topic.interface
        log.failure("the publisher of {interface} has raised", failure, interface=interface)
        problem = failure.value
        assert problem is not None
        if self._restart == NEVER:
            self._topic.end(problem)
            return
        self._topic.tell_restarted(f"{type_name(type(problem))}: {message_of(problem)}")
        self._run_later()

    def _was_stopped(self, failure: Failure | None = None) -> bool:
        """Whether the run has ended on request; then start it again if it is needed by now."""
        source, self._source = self._source, None
        if self._closed or self._topic.over:
            return True
        cut = failure is not None and failure.check(*CANCELLED) is not None
        if not self._wanted or cut or (isinstance(source, ThreadRun) and source.cut):
            if self._wanted:
                self._run()
            return True
        return False

    def _run_later(self) -> None:
        if self._reactor.seconds() - self._begun > MOST_DELAY:
            self._failures = 0
        delay = self._policy(self._failures)
        self._failures += 1
        if self._wanted:
            self._timer = self._reactor.callLater(delay, self._run)
