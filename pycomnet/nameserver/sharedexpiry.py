"""The guard of :mod:`.expiry` for a store that ends leases itself and that nameservers share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from pycomnet.errors import StoreFailed
from pycomnet.text.logs import Logger

if TYPE_CHECKING:
    from pycomnet.interfaces import ISharedNameStore
    from pycomnet.nameserver.directory import Directory

log = Logger()

#: Seconds after which the store is asked again to write the note about the doubt, if it failed or
#: the watch has not reported the note yet.
RETRY = 1.0
#: The most seconds that the note stays, however long the leases were. If most services are still
#: gone then, another note is written.
NOTE = 300.0


class SharedExpiry:
    """The counterpart of :class:`Expiry` for a store that ends leases by its own clock.

    The store reports leases that have ended. If more than half of all leases have ended within one
    ttl and were not registered again, this asks the store to write a note:
    :meth:`ISharedNameStore.doubt`. All nameservers that share the store see the note at the same
    place in the store's changes, and follow it: :class:`EndedLeases`. So it does not matter which
    nameserver was first.

    :param guard: whether registrations are kept as doubtful when most leases end.
    :ivar timer: the delayed call, or None when no ended lease is remembered.
    """

    def __init__(
        self,
        directory: Directory,
        store: ISharedNameStore,
        reactor: IReactorTime,
        seconds: Callable[[], float],
        guard: bool = True,
    ) -> None:
        assert directory.ended is not None
        self.timer: Any = None
        self._directory = directory
        self._ended = directory.ended
        self._store = store
        self._reactor = reactor
        self._seconds = seconds
        self._guard = guard
        #: the Deferred of the request to the store, or the delayed call that repeats it
        self._asking: Any = None
        #: `directory.healed` before any record was doubtful; None if none is
        self._healed: int | None = None
        self._most = 0
        self._time = 0.0
        self._stopped = False

    @property
    def count(self) -> int:
        """Registrations whose leases have ended."""
        return self._ended.count

    def schedule(self) -> None:
        """React to changes of the directory: log, ask the store, and set the timer."""
        if self._stopped:
            return
        self._say()
        self._ask()
        first = self._ended.next_time()
        if first is None or (self.timer is not None and first >= self._time):
            return
        if self.timer is not None:
            self.timer.cancel()
        self._time = first
        self.timer = self._reactor.callLater(max(0.0, first - self._seconds()), self._sweep)

    def stop(self) -> None:
        """Cancel the timers."""
        self._stopped = True
        for one in (self.timer, self._asking):
            if one is not None:
                one.cancel()
        self.timer = self._asking = None

    def _sweep(self) -> None:
        self.timer = None
        self._directory.sweep(self._seconds())
        self.schedule()

    def _ask(self) -> None:
        ended = self._ended
        if not self._guard or self._asking is not None or ended.is_doubted:
            return
        live = len(self._directory) - len(ended.doubtful)
        if ended.are_most(live):
            self._asking = self._store.doubt(ended.since, min(ended.longest, NOTE))
            self._asking.addCallbacks(self._asked, self._not_asked)

    def _asked(self, _: object) -> None:
        self._asking = None
        if not self._stopped:
            self._asking = self._reactor.callLater(RETRY, self._ask_again)

    def _not_asked(self, failure: Failure) -> None:
        self._asking = None
        if self._stopped:
            return
        if not failure.check(StoreFailed):
            log.failure("can't note in the store that most leases have ended", failure)
        self._asking = self._reactor.callLater(RETRY, self._ask_again)

    def _ask_again(self) -> None:
        self._asking = None
        self._ask()

    def _say(self) -> None:
        directory = self._directory
        if not directory.doubtful:
            if self._healed is not None:
                log.warn(
                    "no registration is doubtful any more: of {marked} that were, {healed} were "
                    "registered again",
                    marked=self._most,
                    healed=directory.healed - self._healed,
                )
                self._healed, self._most = None, 0
            return
        if self._healed is None:
            self._healed = directory.healed
            log.critical(
                "over half of all leases have ended within one ttl: registrations that end are "
                "kept as doubtful for one more ttl, {kept} now; {live} are live. Can services "
                "reach the nameservers?",
                kept=directory.doubtful,
                live=len(directory) - directory.doubtful,
            )
        self._most = max(self._most, directory.doubtful + directory.healed - self._healed)
