"""Runs the watches of a nameserver's clients, and limits their number."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

from twisted.internet import defer, task
from twisted.internet.interfaces import IReactorTime

from pycomnet.deferred import Condition
from pycomnet.errors import NameserverFull, NameserverStale, ServerLeaving
from pycomnet.nameserver.directory import Directory
from pycomnet.nameserver.freshness import StoreView
from pycomnet.nameserver.queries import Query
from pycomnet.nameserver.requests import NameserverLimits
from pycomnet.nameserver.watch import Watch

#: How many events a watcher gets before other work of the reactor runs.
EVENTS = 100
#: Seconds that a watcher waits for a revision which it knows from another nameserver, and this one
#: has not reached. A nameserver that follows its store reaches it within one second.
AHEAD = 5.0
#: Why a watch ends.
ENDS = "the nameserver is about to end"
#: Seconds between checks whether this nameserver is cut off from its shared store.
LOOK = 1.0


class Watches:
    """All watches.

    :param directory: what they watch.
    :param limits: how many there may be.
    :param view: knows how old the directory may be.
    :ivar count: how many there are.
    """

    def __init__(
        self,
        directory: Directory,
        limits: NameserverLimits,
        reactor: IReactorTime,
        seconds: Callable[[], float],
        view: StoreView,
    ) -> None:
        self.count = 0
        self._directory = directory
        self._limits = limits
        self._reactor = reactor
        self._seconds = seconds
        self._view = view
        self._leaving = False
        self._looking = task.LoopingCall(self._look)
        self._looking.clock = reactor
        self._is_cut_off = False
        #: how often this nameserver was cut off
        self._cuts = 0
        #: the watches that wait for a revision
        self._reaching: set[defer.Deferred[None]] = set()
        #: fires at the next change
        self._next_change = Condition()
        #: watches by their connection
        self._by_connection: Counter[Any] = Counter()

    def start(self) -> None:
        """Start to follow the directory."""
        self._directory.listen(self._next_change.notify_all)
        if self._view.is_shared:
            self._looking.start(LOOK, now=False)

    def leave(self) -> None:
        """End all of them."""
        self._leaving = True
        self._directory.unlisten(self._next_change.notify_all)
        if self._looking.running:
            self._looking.stop()
        self._next_change.notify_all()
        for one in list(self._reaching):
            if not one.called:
                one.callback(None)

    def _look(self) -> None:
        """End watches when this nameserver is cut off: another one has the news for them."""
        was, self._is_cut_off = self._is_cut_off, self._view.is_cut_off
        if self._is_cut_off:
            self._cuts += not was
            self._next_change.notify_all()

    def _check(self, cuts: int) -> None:
        """Check that a watch may continue.

        A watch that began during a partition gets the known state, until that is too old.

        :param cuts: how many partitions there had been when the watch began.
        """
        self._view.staleness()
        if cuts != self._cuts:
            raise NameserverStale(
                "this nameserver was cut off from its store, and has no news: use another one"
            )

    async def events(
        self, connection: Any, wanted: Query, revision: int | None
    ) -> AsyncIterator[dict[str, Any]]:
        """The events of one watch.

        :param connection: the client's connection, whose watches are limited.
        :param revision: continue after this one; None begins with a snapshot.
        :raises NameserverFull: there are too many watches.
        :raises RevisionTooOld: as :class:`Watch` does.
        :raises NameserverStale: this nameserver is cut off from a store that it shares.
        """
        limits = self._limits
        if self.count >= limits.watches:
            raise NameserverFull(f"there are {limits.watches} watches, which is the limit")
        if self._by_connection[connection] >= limits.connection_watches:
            raise NameserverFull(
                f"this client has {limits.connection_watches} watches, which is the limit"
            )
        self._by_connection[connection] += 1
        self.count += 1
        try:
            if self._view.is_shared and revision is not None:
                await self._reach(revision)
            watch = Watch(self._directory, wanted, revision)
            cuts = self._cuts
            while not self._leaving:
                self._check(cuts)
                if watch.caught_up:
                    await self._next_change.wait()
                    continue
                for event in watch.take(EVENTS, self._seconds()):
                    yield event
                if not watch.caught_up:
                    await self.breathe()
            raise ServerLeaving(ENDS)
        finally:
            self.count -= 1
            self._by_connection[connection] -= 1
            if not self._by_connection[connection]:
                del self._by_connection[connection]

    async def _reach(self, revision: int) -> None:
        """Wait until the log has reached a revision; at most :data:`AHEAD` seconds, as it may not
        exist."""
        log = self._directory.log
        if revision <= log.last:
            return
        if self._leaving:
            raise ServerLeaving(ENDS)
        reached: defer.Deferred[None] = defer.Deferred()

        def look() -> None:
            if revision <= log.last and not reached.called:
                reached.callback(None)

        self._directory.listen(look, reached=True)
        self._reaching.add(reached)
        reached.addTimeout(AHEAD, self._reactor)
        try:
            await reached
        except defer.TimeoutError:
            # Otherwise the watch reports that it does not know the revision.
            if self._view.is_cut_off:
                raise NameserverStale(
                    f"this nameserver is cut off from its store, and has not reached revision "
                    f"{revision}: use another one"
                ) from None
        finally:
            self._reaching.discard(reached)
            self._directory.unlisten(look)
        if self._leaving:
            raise ServerLeaving(ENDS)

    def breathe(self) -> defer.Deferred[None]:
        """Let other work of the reactor run."""
        waiting: defer.Deferred[None] = task.deferLater(self._reactor, 0)
        return waiting
