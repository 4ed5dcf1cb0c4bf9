"""The subscriber: events of one publisher, or of all that a nameserver knows."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Iterable, Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

from twisted.internet import defer
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

from pycomnet.deferred import OneShot, deferred
from pycomnet.errors import ChannelClosed, InvalidArguments, PycomnetError
from pycomnet.ext.pubsub.events import Event, Gap, Restarted
from pycomnet.ext.pubsub.feeds import MOST_POSITIONS, PublisherFeed, is_number
from pycomnet.ext.pubsub.finding import Publishers
from pycomnet.ext.pubsub.subjects import check_patterns
from pycomnet.far.live import Live
from pycomnet.ranges import whole
from pycomnet.services.default import default_context

if TYPE_CHECKING:
    from pycomnet.services.client.context import Context

ALL, ONE = "all", "one"
#: Stands for nothing that can be taken by now.
_NOTHING: Any = object()


#: Subscribers that somebody waits for: nothing else may hold them.
_kept: dict[defer.Deferred[Any], Subscriber] = {}


class Subscriber(Live):
    """Gets the events of an interface's publishers. :func:`subscriber` makes it.

    It begins when it is first used. Iterate over it with ``async for``, or call :meth:`receive`:
    both give what was published, one value after the other, and a :class:`Gap` where events are
    missing. :meth:`events` gives :class:`Event` objects instead, which say more.

    In a program without a reactor of its own, ``for value in subscriber``, ``subscriber[:10]`` and
    ``subscriber.get(timeout)`` do the same without Deferreds.

    :ivar missed: how many events are missing so far, as far as that is known.
    """

    def __init__(
        self,
        interface: str,
        subjects: str | Iterable[str] | None,
        context: Context | None,
        address: str | None,
        service: str | None,
        which: str,
        gaps: bool,
        group: str | None,
        durable: bool,
        wanted: dict[str, Any],
        beginning: dict[str, Any],
    ) -> None:
        patterns = subjects if isinstance(subjects, str) or subjects is None else list(subjects)
        self.interface = interface
        self.subjects = list(check_patterns(patterns))
        self.group = group
        self.missed = 0
        #: how the first subscription at a publisher begins
        self.beginning = beginning
        #: epoch -> the number up to which everything has come
        self.positions: OrderedDict[str, int] = OrderedDict()
        self._had: OrderedDict[str, OrderedDict[int, bool]] = OrderedDict()
        self._wanted = wanted
        self._durable = durable
        self._given = context
        self._address = address
        self._service = service
        self._which = which
        self._gaps = gaps
        self._finder: Any = None
        self._begun = False
        self._closed = False
        self._feeds: dict[PublisherFeed, None] = {}
        #: what has come, with where it has come from; and what of that is being taken
        self._batches: deque[tuple[PublisherFeed, str | None, list[Any]]] = deque()
        self._feed: Any = None
        self._epoch: str | None = None
        self._items: Iterator[Any] | None = None
        self._waiters: deque[tuple[defer.Deferred[Any], bool]] = deque()
        self._over: Exception | None = None
        self._subscribed: OneShot[None] = OneShot()
        #: this without Deferreds, once it was used so
        self.blocking_form: Any = None
        #: in a group: what was given, and is done with when the next is asked for
        self._given_last: list[Event] = []

    def __repr__(self) -> str:
        return f"<Subscriber {self.interface} {' '.join(self.subjects)}>"

    # -- for users -------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin, if it has not begun; in the reactor's thread."""
        if self._begun:
            return
        self._begun = True
        self._finder = self._make_finder(self._given or default_context())
        self._finder.start()

    def _make_finder(self, context: Context) -> Any:
        """What finds the publishers, and has them followed."""
        return Publishers(self, context, self._address, self._service, self._which == ONE)

    def when_subscribed(self) -> defer.Deferred[None]:
        """Wait until a subscription counts: what is published from then on comes.

        :returns: fires when the publishers that are known have confirmed it, the first of them at
            least. Fails with the error that keeps it from beginning. Cancelling it changes nothing.
        """
        self.start()
        waiting = self._subscribed.when_fired()
        if not waiting.called:
            _kept[waiting] = self
            waiting.addBoth(self._keep_no_more, waiting)
        return waiting

    def receive(self) -> defer.Deferred[Any]:
        """The next value, or :class:`Gap`, or :class:`Restarted`.

        :returns: fires with it. At the end of all publishers it fails with
            :class:`~pycomnet.errors.ChannelClosed`; with the error of a publisher that has raised
            one; and as ``invoke`` does if it may not subscribe. After an error of one of several
            publishers the others' events go on. Cancelling it leaves the value for the next
            ``receive``.
        """
        return self._receive(False)

    def receive_event(self) -> defer.Deferred[Any]:
        """As :meth:`receive`, with an :class:`Event` for the value."""
        return self._receive(True)

    def receive_many(self, most: int = 1000, events: bool = False) -> defer.Deferred[list[Any]]:
        """All that has come by now, as a list: one at least, and at most ``most``.

        :param events: give events for the values.
        :returns: fires with them; fails as :meth:`receive`.
        """
        receiving = self._receive(events)
        return receiving.addCallback(self._take_more, whole("most", most, 1), events)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        items = self._items
        if items is not None and self.group is None:
            # What `_take` does with the usual item, without another call for each value.
            for item in items:
                if type(item) is list and item[0] is not None:
                    return item[4]
                told = self._notice(item)
                if told is not None:
                    return told
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

    def change(self, subjects: str | Iterable[str]) -> defer.Deferred[None]:
        """Get other subjects from now on.

        :returns: fires when all publishers that it is connected to have confirmed it; to others it
            says so when it is. Fails with ``InvalidSubject``, ``Forbidden`` or ``Overloaded``: then
            all goes on as it was. Fails with ``InvalidArguments`` in a group, which has one filter.
        """
        if self.group is not None:
            return defer.fail(InvalidArguments("a group's subjects can't be changed: use another"))
        before, given = self.subjects, subjects if isinstance(subjects, str) else list(subjects)
        self.subjects = wanted = list(check_patterns(given))

        def failed(failure: Failure) -> Failure:
            if self.subjects is wanted:
                self.subjects = before
                for feed in self._feeds:
                    feed.change(before).addErrback(lambda _: None)
            return _first_error(failure)

        changing = [feed.change(wanted) for feed in self._feeds]
        done = defer.gatherResults(changing, consumeErrors=True)
        return done.addCallbacks(lambda _: None, failed)

    @deferred
    async def close(self) -> None:
        """Get no more events, and end the subscriptions. Cancelling it changes nothing."""
        self._closed = True
        if self._finder is not None:
            self._finder.close()
        for feed in list(self._feeds):
            feed.close()
        self._feeds.clear()
        self._batches.clear()
        self._items = None
        self._finish(ChannelClosed("the subscriber was closed here"))

    async def __aenter__(self) -> Subscriber:
        self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    def acknowledge_last(self) -> defer.Deferred[None]:
        """In a group: the values that were given are done with.

        :returns: fires when the publisher has noted it.
        """
        given, self._given_last = self._given_last, []
        noting = defer.gatherResults([one.acknowledge() for one in given], consumeErrors=True)
        return noting.addCallbacks(lambda _: None, _first_error)

    # -- without Deferreds -----------------------------------------------------------------------

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
        # The API without Deferreds is above this layer.
        return import_module("pycomnet.blocking.ext.pubsub").of(self)

    # -- taking ----------------------------------------------------------------------------------

    def _receive(self, event: bool) -> defer.Deferred[Any]:
        self.start()
        if self._given_last:
            self.acknowledge_last().addErrback(lambda _: None)  # if it fails, they come again
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
                self._batches.appendleft((self._feed, self._epoch, [problem]))
                break
            if value is _NOTHING:
                break
            found.append(value)
        return found

    def _take(self, event: bool) -> Any:
        """The next value that is there."""
        while True:
            items = self._items
            if items is not None:
                for item in items:
                    if type(item) is list and item[0] is not None:
                        if self.group is None and not event:
                            return item[4]
                        return self._event(item, event)
                    told = self._notice(item)
                    if told is not None:
                        return told
                self._items = None
                self._feed.consumed()
            if not self._batches:
                return _NOTHING
            self._feed, self._epoch, found = self._batches.popleft()
            self._items = iter(found)

    def _event(self, item: list[Any], event: bool) -> Any:
        made = Event(item, self._feed, self._epoch)
        if event:
            return made
        self._given_last.append(made)
        return made.value

    def _notice(self, item: Any) -> Gap | Restarted | None:
        if isinstance(item, Exception):
            raise item
        name = self._feed.name
        if isinstance(item, Gap):
            found: Gap | Restarted = item
        elif item[1] == "gap":
            if len(item) < 6 or not all(one is None or is_number(one) for one in item[2:5]):
                raise PycomnetError(f"{self.interface}: a gap that can't be read")
            count, first, last, key = item[2:6]
            why = item[6] if len(item) > 6 and type(item[6]) is str else "bound"
            found = Gap(count, first, last, key, why, name)
        elif item[1] == "restarted":
            found = Restarted(str(item[2]), name)
        else:
            return None  # of a later version
        if isinstance(found, Gap):
            self.missed += found.count or 0
        return found if self._gaps else None

    def __del__(self) -> None:
        finder = self.__dict__.get("_finder")
        if finder is not None and not self._closed:
            # The garbage collector calls this in any thread, at any time.
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

    def had(self, epoch: str) -> OrderedDict[int, bool]:
        """The numbers of a group's events that have come, and whether the user has done with
        them."""
        found = self._had.setdefault(epoch, OrderedDict())
        if len(self._had) > MOST_POSITIONS:
            self._had.popitem(last=False)
        return found

    def positions_but(self, feed: PublisherFeed) -> dict[str, int]:
        """The positions of all publishers, but of those others that are connected."""
        others = {one.epoch for one in self._feeds if one is not feed and one.is_connected}
        return {epoch: at for epoch, at in self.positions.items() if epoch not in others}

    def has_other(self, feed: PublisherFeed, epoch: str) -> bool:
        """Whether another publisher that is connected has this epoch."""
        return any(
            one.epoch == epoch and one is not feed and one.is_connected for one in self._feeds
        )

    def add_feed(self, feed: PublisherFeed) -> None:
        """There is a publisher."""
        self._feeds[feed] = None
        feed.start()

    def put(self, feed: PublisherFeed, items: list[Any]) -> None:
        """Something has come."""
        if self._closed:
            return
        self._batches.append((feed, feed.epoch, items))
        self._give()

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

    def subscribed(self, feed: PublisherFeed) -> None:
        """A publisher has confirmed a subscription."""
        if self._finder is None or self._finder.complete:
            self.check_subscribed()

    def check_subscribed(self) -> None:
        """Whether all publishers that are known have confirmed."""
        waiting = [one for one in self._feeds if one.epoch is None and not one.over]
        if self._feeds and not waiting:
            self._subscribed.fire(None)

    def feed_ended(self, feed: PublisherFeed, problem: BaseException | None) -> None:
        """Nothing more comes from a publisher."""
        self._feeds.pop(feed, None)
        if problem is not None:
            error = problem if isinstance(problem, Exception) else Exception(str(problem))
            self._subscribed.fail(error)
            self.put(feed, [error])
        finder = self._finder
        if finder is not None:
            finder.ended(feed)
            if not self._feeds and finder.complete and not feed.gone:
                self._finish(ChannelClosed(f"the publishers of {self.interface} have ended"))

    def failed(self, problem: Exception) -> None:
        """The publishers can't be found."""
        self._finish(problem)

    def _finish(self, problem: Exception) -> None:
        if self._over is None:
            self._over = problem
        self._subscribed.fail(problem)
        waiters, self._waiters = self._waiters, deque()
        for waiter, _ in waiters:
            if not waiter.called:
                waiter.errback(Failure(self._over))


def _first_error(failure: Failure) -> Failure:
    problem: Any = failure.value
    return problem.subFailure if isinstance(problem, defer.FirstError) else failure


__all__ = ["ALL", "ONE", "Subscriber"]
