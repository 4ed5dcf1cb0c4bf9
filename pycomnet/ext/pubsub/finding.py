"""Which publishers a subscriber follows: those of an address, or those that a nameserver knows."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from twisted.internet import defer
from twisted.python.failure import Failure

from pycomnet.errors import InvalidArguments
from pycomnet.ext.pubsub.feeds import FIRST_RETRY, LONGEST_RETRY, PASSING, PublisherFeed
from pycomnet.net.backoff import Backoff
from pycomnet.services.client.instances import NamedRoute
from pycomnet.services.client.remoteservice import RemoteService
from pycomnet.text.logs import Logger

if TYPE_CHECKING:
    from pycomnet.ext.pubsub.subscriber import Subscriber
    from pycomnet.services.client.context import Context

log = Logger()

#: The most publishers that are followed at a time.
MOST_PUBLISHERS = 1000
#: Characters that make a nameserver's pattern of a name.
WILD = "*?["


class Publishers:
    """Finds publishers, and has a subscriber follow them.

    :param address: of the only one; None for those of the nameserver.
    :param service: the name of the only one there.
    :param one: follow any one of them.
    :ivar complete: whether all that there were at the beginning are found.
    """

    def __init__(
        self,
        owner: Subscriber,
        context: Context,
        address: str | None,
        service: str | None,
        one: bool,
    ) -> None:
        self.complete = False
        self._reference = weakref.ref(owner)
        self._context = context
        self._address = address
        self._service = service
        self._one = one
        self._feeds: dict[str, PublisherFeed] = {}
        #: publishers that are gone and may come back: name -> epoch
        self._epochs: OrderedDict[str, str] = OrderedDict()
        self._watching: defer.Deferred[None] | None = None
        self._stream: Any = None

    @property
    def _owner(self) -> Subscriber:
        owner = self._reference()
        if owner is None:
            raise defer.CancelledError
        return owner

    def start(self) -> None:
        """Begin."""
        owner, context, interface = self._owner, self._context, self._owner.interface
        if self._address is not None:
            self.complete = True
            try:
                service = context.at(self._address, interface)
            except Exception as problem:
                owner.failed(problem)
                return
            owner.add_feed(PublisherFeed(owner, service, None, known=True))
        elif self._one:
            self.complete = True
            route = NamedRoute(context, interface, self._service)
            owner.add_feed(PublisherFeed(owner, RemoteService(context, route, interface), None))
        else:
            self._watching = defer.Deferred.fromCoroutine(self._watch())
            self._watching.addErrback(self._failed)

    @property
    def reactor(self) -> Any:
        """The context's."""
        return self._context.reactor

    def close(self) -> None:
        """End."""
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.cancel()
        if self._stream is not None:
            self._stream.close()

    def ended(self, feed: PublisherFeed) -> None:
        """A publisher's feed is over."""
        if feed.name is not None and self._feeds.get(feed.name) is feed and feed.gone:
            del self._feeds[feed.name]
            if feed.epoch is not None:
                self._epochs[feed.name] = feed.epoch
                self._epochs.move_to_end(feed.name)
                if len(self._epochs) > MOST_PUBLISHERS:
                    self._epochs.popitem(last=False)

    def _failed(self, failure: Failure) -> None:
        if self._watching is not None and failure.check(defer.CancelledError) is None:
            problem: Any = failure.value
            self._owner.failed(problem)

    # -- the nameserver --------------------------------------------------------------------------

    async def _watch(self) -> None:
        interface = self._owner.interface
        wanted: dict[str, Any] = {"interface": interface}
        if self._service is not None:
            wanted["service"] = self._service
        for name in wanted.values():
            if any(character in name for character in WILD):
                raise InvalidArguments(f"expected a name without {' '.join(WILD)}, not {name!r}")
        backoff = Backoff(self._context.reactor, FIRST_RETRY, LONGEST_RETRY)
        nameserver = await self._context.nameserver()
        await nameserver.invoke("stat")  # raises if it is not there at all
        while True:
            self._stream = stream = nameserver.stream("watch", wanted)
            try:
                await self._follow(stream)
            except PASSING as problem:
                if not self.complete:
                    raise
                log.info("the nameserver is lost: {problem}", problem=problem)
            finally:
                stream.close()
            await backoff.wait()

    async def _follow(self, stream: Any) -> None:
        """Follow what the nameserver tells, until it is lost."""
        seen: set[str] | None = set()
        async for event in stream:
            kind = event["event"]
            if kind == "put":
                name = event["record"]["service"]
                if seen is not None:
                    seen.add(name)
                self._found(name)
            elif kind == "delete":
                self._lost(event["service"])
            elif seen is not None:  # the end of the snapshot
                for name in self._feeds.keys() - seen:
                    self._lost(name)
                seen = None
                self.complete = True
                self._owner.check_subscribed()

    def _found(self, name: str) -> None:
        feed = self._feeds.get(name)
        if feed is not None and not (feed.over and feed.gone):
            feed.gone = False
            return
        if feed is None and len(self._feeds) >= MOST_PUBLISHERS:
            log.warn("{name} is not followed: there are too many publishers", name=name)
            return
        context, interface = self._context, self._owner.interface
        service = RemoteService(context, NamedRoute(context, interface, name), interface)
        made = PublisherFeed(self._owner, service, name)
        made.returns(self._epochs.pop(name, None))
        self._feeds[name] = made
        self._owner.add_feed(made)

    def _lost(self, name: str) -> None:
        feed = self._feeds.get(name)
        if feed is not None:
            feed.lost()
            if feed.over:
                self._feeds.pop(name, None)


__all__ = ["Publishers"]
