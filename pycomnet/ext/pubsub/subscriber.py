"""The subscriber: gets events of one publisher, or of all that a nameserver knows."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

from twisted.internet import defer
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

from pycomnet.deferred import OneShot, deferred
from pycomnet.errors import CallInterrupted, ChannelClosed, InvalidArguments
from pycomnet.ext.pubsub.events import Event, Gap, Restarted
from pycomnet.ext.pubsub.feeds import LOST, PublisherFeed
from pycomnet.ext.pubsub.publishermessages import EventSequence
from pycomnet.ext.pubsub.subjects import check_patterns
from pycomnet.far.live import Live
from pycomnet.ranges import whole
from pycomnet.services.default import default_context

if TYPE_CHECKING:
    from pycomnet.services.client.context import Context

#: The result of ``_take`` when no value is available.
_NOTHING: Any = object()


#: Keeps subscribers alive while somebody awaits their next value: nothing else may refer to them.
_kept: dict[defer.Deferred[Any], Subscriber] = {}


class Subscriber(Live):
    """Gets the events of an interface's publishers. :func:`subscriber` makes it.

    It begins when it is first used. Iterate over it with ``async for``, or call :meth:`receive`:
    both return the published values, one after the other, and a :class:`Gap` where events are
    missing. :meth:`events` yields :class:`Event` objects instead, which have more data.

    In a program without a reactor of its own, ``for value in subscriber``, ``subscriber[:10]`` and
    ``subscriber.get(timeout)`` do the same without Deferreds.

    :param make_finder: makes the object that finds the publishers, and makes this subscriber follow
        them.
    :ivar missed: how many events are missing so far, as far as their number is known.
    :ivar taken: what was taken from the reactor's thread without Deferreds, and not given yet.
    """

    def __init__(
        self,
        interface: str,
        subjects: str | Iterable[str] | None,
        context: Context | None,
        gaps: bool,
        group: str | None,
        durable: bool,
        wanted: dict[str, Any],
        beginning: dict[str, Any],
        make_finder: Callable[[Subscriber, Context], Any],
    ) -> None:
        patterns = subjects if isinstance(subjects, str) or subjects is None else list(subjects)
        self.interface = interface
        #: the arguments of the subscriptions at all publishers
        self.subjects = list(check_patterns(patterns))
        self.group = group
        self.missed = 0
        self.taken: deque[Any] = deque()
        #: how the first subscription at a publisher begins
        self.beginning = beginning
        self._wanted = wanted
        self._durable = durable
        self._given = context
        self._gaps = gaps
        self._make_finder = make_finder
        self._finder: Any = None
        self._begun = False
        self._closed = False
        self._feeds: dict[PublisherFeed, None] = {}
        #: the values that have come, each with its source; and the batch that is being taken
        self._batches: deque[tuple[EventSequence, list[Any]]] = deque()
        self._source: Any = None
        self._items: Iterator[Any] | None = None
        self._waiters: deque[tuple[defer.Deferred[Any], bool]] = deque()
        self._over: Exception | None = None
        self._subscribed: OneShot[None] = OneShot()
        self._changing = defer.DeferredLock()
        #: in a group: the events that the user has got, and acknowledges by the request for the
        #: next
        self._given_last: list[Event] = []

    def __repr__(self) -> str:
        return f"<Subscriber {self.interface} {' '.join(self.subjects)}>"

    # -- for users -------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin, if the subscriber has not begun; in the reactor's thread."""
        if self._begun:
            return
        self._begun = True
        self._finder = self._make_finder(self, self._given or default_context())
        self._finder.start()

    def when_subscribed(self) -> defer.Deferred[None]:
        """Wait until the subscription is in effect. Each event that is published after that is
        delivered, or reported as missing.

        :returns: fires when all known publishers have confirmed it or, if none is known yet, the
            first one has. Fails with the error that keeps it from beginning. Cancelling it changes
            nothing.
        """
        self.start()
        waiting = self._subscribed.when_fired()
        if not waiting.called:
            _kept[waiting] = self
            waiting.addBoth(self._keep_no_more, waiting)
        return waiting

    def receive(self) -> defer.Deferred[Any]:
        """The next value, or :class:`Gap`, or :class:`Restarted`.

        :returns: fires with it. When all publishers have ended, it fails with
            :class:`~pycomnet.errors.ChannelClosed`. If a publisher has raised an error, it fails
            with that; the events of other publishers continue. If the user may not subscribe, it
            fails as ``invoke`` does. Cancelling it leaves the value for the next ``receive``.
        """
        return self._receive(False)

    def receive_event(self) -> defer.Deferred[Any]:
        """As :meth:`receive`, with an :class:`Event` for the value."""
        return self._receive(True)

    def receive_many(self, most: int = 1000, events: bool = False) -> defer.Deferred[list[Any]]:
        """All values that have come by now, as a list: at least one, and at most ``most``.

        :param events: return events instead of values.
        :returns: fires with them; fails as :meth:`receive`.
        """
        most = whole("most", most, 1)  # before anything is taken
        return self._receive(events).addCallback(self._take_more, most, events)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        items = self._items
        if items is not None and self.group is None:
            # `_take`, inlined for the usual item: the row "128 B, one to one" needs it.
            for item in items:
                if type(item) is list:
                    return item[4]
                if self._is_told(item):
                    return item
        try:
            return await self._receive(False)
        except ChannelClosed:
            raise StopAsyncIteration from None

    async def events(self) -> AsyncIterator[Any]:
        """Iterate over :class:`Event` objects, with ``async for``."""
        while True:
            try:
                yield await self._receive(True)
            except ChannelClosed:
                return

    @deferred
    async def change(self, subjects: str | Iterable[str]) -> None:
        """Change the subjects from now on.

        :returns: fires when all publishers that can be reached have confirmed it; streams from
            other publishers begin with the new subjects. Fails with ``InvalidSubject``,
            ``Forbidden`` or ``Overloaded``: then the old subjects stay. Fails with
            ``InvalidArguments`` in a group, which has one filter.
        """
        wanted = list(check_patterns(subjects if isinstance(subjects, str) else list(subjects)))
        if self.group is not None:
            raise InvalidArguments("a group's subjects can't be changed: use another group")
        await self._changing.acquire()
        try:
            # Also publishers that are found, or begin again, meanwhile.
            while behind := [feed for feed in self._feeds if feed.is_behind(wanted)]:
                changing = [feed.change(wanted) for feed in behind]
                await defer.gatherResults(changing, consumeErrors=True)
            self.subjects = wanted
        except BaseException as problem:
            again = [feed.change(self.subjects) for feed in self._feeds]
            undoing = defer.DeferredList(again, consumeErrors=True)
            undoing.addCallback(lambda _: self._changing.release())
            if isinstance(problem, defer.FirstError):
                problem.subFailure.raiseException()
            raise
        self._changing.release()

    @deferred
    async def close(self) -> None:
        """Get no more events, and end the subscriptions. Cancelling it changes nothing."""
        self._closed = True
        self.finish(ChannelClosed("the subscriber was closed here"))
        self._batches.clear()
        self._items = None

    # In a program without a reactor of its own:

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

    async def __aenter__(self) -> Subscriber:
        self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    def acknowledge_last(self) -> defer.Deferred[None]:
        """In a group: acknowledge the values that were returned so far.

        :returns: fires when the publisher has confirmed it.
        """
        given, self._given_last = self._given_last, []
        noting = defer.gatherResults([one.acknowledge() for one in given], consumeErrors=True)
        return noting.addCallbacks(lambda _: None, _first_error)

    def _acknowledge_given(self) -> None:
        """Acknowledge the values that were returned before: the next one is requested."""
        given, self._given_last = self._given_last, []
        for one in given:
            one.acknowledge().addErrback(self._not_acknowledged, one)

    def _not_acknowledged(self, failure: Failure, event: Event) -> None:
        if failure.check(CallInterrupted, *LOST) is None:
            # Tell the user: the publisher still counts the event as unacknowledged, so at some time
            # it would send nothing more.
            self.put(event.source, [failure.value])

    # -- taking ----------------------------------------------------------------------------------

    def _receive(self, event: bool) -> defer.Deferred[Any]:
        self.start()
        if self._given_last:
            self._acknowledge_given()
        if not self._waiters:
            try:
                value = self._take(event)
            except Exception:
                return defer.fail()
            if value is not _NOTHING:
                return defer.succeed(value)
            if self._over is not None:
                return defer.fail(self._over.with_traceback(None))
        waiter: defer.Deferred[Any] = defer.Deferred(self._forget)
        self._waiters.append((waiter, event))
        _kept[waiter] = self
        return waiter.addBoth(self._keep_no_more, waiter)

    def _keep_no_more(self, result: Any, waiter: defer.Deferred[Any]) -> Any:
        _kept.pop(waiter, None)
        return result

    def _forget(self, waiter: defer.Deferred[Any]) -> None:
        self._waiters = deque(one for one in self._waiters if one[0] is not waiter)

    def _take_more(self, first: Any, most: int, events: bool) -> list[Any]:
        found = [first]
        while len(found) < most:
            try:
                value = self._take(events)
            except Exception as problem:
                self._batches.appendleft((self._source, [problem]))
                break
            if value is _NOTHING:
                break
            found.append(value)
        return found

    def _take(self, event: bool) -> Any:
        """The next available value."""
        while True:
            items = self._items
            if items is not None:
                for item in items:
                    if type(item) is list:
                        if self.group is None and not event:
                            return item[4]
                        return self._event(item, event)
                    if self._is_told(item):
                        return item
                self._items = None
                self._source.consumed()
            if not self._batches:
                return _NOTHING
            self._source, found = self._batches.popleft()
            self._items = iter(found)

    def _event(self, item: list[Any], event: bool) -> Any:
        made = Event(item, self._source)
        if event:
            return made
        self._given_last.append(made)
        return made.value

    def _is_told(self, item: Gap | Restarted | Exception) -> bool:
        """Count a gap, or raise a publisher's error. Returns whether the user gets the item."""
        if isinstance(item, Exception):
            raise item
        if isinstance(item, Gap):
            self.missed += item.count or 0
        return self._gaps

    def __del__(self) -> None:
        finder = self.__dict__.get("_finder")
        if finder is not None and not self._closed:
            # The garbage collector may call this in any thread, at any time.
            reactor = IReactorFromThreads(finder.reactor)
            reactor.callFromThread(finder.let_go, list(self._feeds))

    # -- what feeds call -------------------------------------------------------------------------

    def wanted(self) -> dict[str, Any]:
        """The arguments of each subscription."""
        found = {**self._wanted, "subjects": self.subjects}
        if self.group is not None:
            found["group"] = self.group
            found["durable"] = self._durable
        return found

    def left_positions(self) -> dict[str, int]:
        """The positions of publishers that are gone. A feed's publisher may be one of them, under
        another name."""
        return {} if self._finder is None else self._finder.left_positions()

    def take_over(self, epoch: str) -> EventSequence | None:
        """Find the sequence of a publisher that is gone and had this epoch, for a feed."""
        return None if self._finder is None else self._finder.take_over(epoch)

    def add_feed(self, feed: PublisherFeed) -> None:
        """Follow a publisher that was found."""
        self._feeds[feed] = None
        feed.start()

    def put(self, source: EventSequence, items: list[Any]) -> None:
        """Queue a batch for the user."""
        if self._closed:
            return
        self._batches.append((source, items))
        self._give()

    def tell(self, source: EventSequence, gap: Gap) -> None:
        """Queue a gap for the user, unless the last item is a gap for the same reason."""
        if self._batches:
            last, items = self._batches[-1]
            if last.feed is source.feed and isinstance(items[-1], Gap) and items[-1].why == gap.why:
                return
        self.put(source, [gap])

    def _give(self) -> None:
        while self._waiters:
            waiter, event = self._waiters[0]
            try:
                value = self._take(event)
            except Exception as problem:
                self._waiters.popleft()
                waiter.errback(Failure(problem))
                continue
            if value is _NOTHING:
                return
            self._waiters.popleft()
            waiter.callback(value)

    def check_subscribed(self) -> None:
        """Fire ``when_subscribed`` if all publishers that can be reached have confirmed."""
        finder = self._finder
        if finder is None or not finder.complete:
            return
        waiting = [one for one in self._feeds if one.count is None and not one.away]
        if not waiting and any(not one.away for one in self._feeds):
            self._subscribed.fire(None)

    def not_subscribed(self, problem: Exception) -> None:
        """Fail ``when_subscribed`` if no publisher can be subscribed to; the attempts continue."""
        if not self._subscribed.fired and all(one.away for one in self._feeds):
            subscribed, self._subscribed = self._subscribed, OneShot()
            subscribed.fail(problem)

    def feed_ended(self, feed: PublisherFeed, problem: BaseException | None) -> None:
        """A publisher's feed has ended: pass its error, if any, to the user."""
        self._feeds.pop(feed, None)
        if problem is not None:
            error = problem if isinstance(problem, Exception) else Exception(str(problem))
            self._subscribed.fail(error)
            self.put(feed.count or EventSequence(feed, ""), [error])
        finder = self._finder
        if finder is not None:
            finder.ended(feed)
            if not self._feeds and finder.complete and not feed.gone:
                self.finish(ChannelClosed(f"the publishers of {self.interface} have ended"))
            else:
                self.check_subscribed()

    def finish(self, problem: Exception) -> None:
        """End all feeds: the publishers can't be found, say. The values that have arrived can still
        be taken."""
        if self._over is None:
            self._over = problem
        if self._finder is not None:
            self._finder.close()
        feeds = list(self._feeds)
        self._feeds.clear()
        for feed in feeds:
            feed.close()
        self._subscribed.fail(problem)
        waiters, self._waiters = self._waiters, deque()
        for waiter, _ in waiters:
            if not waiter.called:
                waiter.errback(Failure(self._over))


def _first_error(failure: Failure) -> Failure:
    problem: Any = failure.value
    return problem.subFailure if isinstance(problem, defer.FirstError) else failure
