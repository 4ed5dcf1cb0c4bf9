"""Finds the publishers that a subscriber follows: at a single address, or through a nameserver."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from pycomnet.ext.pubsub.feeds import PublisherFeed
from pycomnet.ext.pubsub.interfacewatch import InterfaceWatch, ServiceWatcher
from pycomnet.ext.pubsub.weakowner import OwnedBySubscriber
from pycomnet.services.client.instances import NamedRoute
from pycomnet.services.client.remoteservice import RemoteService
from pycomnet.text.logs import Logger

if TYPE_CHECKING:
    from pycomnet.ext.pubsub.publishermessages import EventSequence
    from pycomnet.ext.pubsub.subscriber import Subscriber
    from pycomnet.services.client.context import Context

log = Logger()

#: The most publishers that are followed at a time.
MOST_PUBLISHERS = 1000


class Publishers(OwnedBySubscriber):
    """Finds publishers, and makes a subscriber follow them.

    :param address: the address of a single publisher; None for those of the nameserver.
    :param service: the name of a single publisher at the nameserver.
    :param one: follow only one of the publishers, whichever.
    :ivar complete: whether all publishers that existed at the beginning are found.
    """

    def __init__(
        self,
        owner: Subscriber,
        context: Context,
        address: str | None,
        service: str | None,
        one: bool,
    ) -> None:
        super().__init__(owner)
        self.complete = False
        self._context = context
        self._address = address
        self._service = service
        self._one = one
        self._feeds: dict[str, PublisherFeed] = {}
        #: the registration of each; the nameserver may report the same registration again
        self._registrations: dict[str, Any] = {}
        #: the feeds of publishers that are gone, and may come back
        self._former: OrderedDict[str, PublisherFeed] = OrderedDict()
        self._watcher: Any = None
        self._watch: InterfaceWatch | None = None

    def start(self) -> None:
        """Begin to look for publishers."""
        owner, context, interface = self._owner, self._context, self._owner.interface
        if self._address is not None:
            self.complete = True
            try:
                service = context.at(self._address, interface)
            except Exception as problem:
                owner.finish(problem)
                return
            owner.add_feed(PublisherFeed(owner, service, None, known=True))
        elif self._one or self._service is not None:
            self.complete = True
            name = self._service
            route = NamedRoute(context, interface, name)
            owner.add_feed(PublisherFeed(owner, RemoteService(context, route, interface), name))
        else:
            self._watcher = ServiceWatcher(self._found, self._lost, self._complete, self._failed)
            self._watch = InterfaceWatch.watch(context, interface, self._watcher)

    @property
    def reactor(self) -> Any:
        """The context's reactor."""
        return self._context.reactor

    def close(self) -> None:
        """Stop the watch."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.remove(self._watcher)

    def let_go(self, feeds: list[PublisherFeed]) -> None:
        """End the watch and these feeds: nothing refers to the subscriber any more."""
        self.close()
        for feed in feeds:
            feed.close()

    def ended(self, feed: PublisherFeed) -> None:
        """A publisher's feed has ended."""
        if feed.name is not None and self._feeds.get(feed.name) is feed and feed.gone:
            self._leave(feed.name, feed)

    def _leave(self, name: str, feed: PublisherFeed) -> None:
        del self._feeds[name]
        self._registrations.pop(name, None)
        if feed.count is not None:
            self._former[name] = feed
            self._former.move_to_end(name)
            if len(self._former) > MOST_PUBLISHERS:
                self._former.popitem(last=False)

    # -- publishers that come back under another name --------------------------------------------

    def left_positions(self) -> dict[str, int]:
        """The positions of durable publishers that are gone: epoch -> number.

        If several of them had the same epoch, the lowest number is used, so that no event is
        skipped.
        """
        found: dict[str, int] = {}
        for count in self._left():
            found[count.epoch] = min(count.position, found.get(count.epoch, count.position))
        return found

    def _left(self) -> list[EventSequence]:
        return [
            feed.count for feed in self._former.values() if feed.durable and feed.count is not None
        ]

    def take_over(self, epoch: str) -> EventSequence | None:
        """Find the sequence of a publisher that is gone and had this epoch, and forget that
        publisher."""
        found = [count for count in self._left() if count.epoch == epoch]
        for count in found:
            name = count.feed.name
            if name is not None:
                del self._former[name]
        return min(found, key=lambda count: count.position, default=None)

    # -- callbacks of the watch ------------------------------------------------------------------

    def _failed(self, problem: Exception) -> None:
        owner = self._reference()
        if owner is not None:
            owner.finish(problem)

    def _complete(self) -> None:
        self.complete = True
        owner = self._reference()
        if owner is not None:
            owner.check_subscribed()

    def _found(self, name: str, registration: Any) -> None:
        owner = self._reference()
        if owner is None:
            return
        feed = self._feeds.get(name)
        if feed is not None and (
            not feed.over or (self._registrations.get(name) == registration and not feed.gone)
        ):
            feed.gone = False
            self._registrations[name] = registration
            return
        if feed is None and len(self._feeds) >= MOST_PUBLISHERS:
            log.warn(
                "{name} is not followed: {most} publishers are", name=name, most=MOST_PUBLISHERS
            )
            return
        context, interface = self._context, owner.interface
        service = RemoteService(context, NamedRoute(context, interface, name), interface)
        made = PublisherFeed(owner, service, name)
        # If the old feed has ended and the publisher was registered all the time, the publisher has
        # ended and was started again.
        former = feed or self._former.pop(name, None)
        if former is not None:
            made.follows(former)
        self._feeds[name] = made
        self._registrations[name] = registration
        owner.add_feed(made)

    def _lost(self, name: str) -> None:
        feed = self._feeds.get(name)
        if feed is not None:
            feed.lost()
            if feed.over and self._feeds.get(name) is feed:
                self._leave(name, feed)
