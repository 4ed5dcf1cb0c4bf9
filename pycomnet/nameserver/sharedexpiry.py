"""Keeps registrations whose leases a shared store has ended, if most of them end at once."""

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

#: Seconds after which the store may be asked again to note the doubt: it could not, or the watch
#: has not brought the note yet.
RETRY = 1.0
#: Seconds that the note stays at most, however long the leases were. If most are still gone then,
#: another one is written.
NOTE = 300.0


class SharedExpiry:
    """What :class:`Expiry` is for a store whose leases end by the nameserver's clock.

    It learns of a lease's end when it is over. If over half of all leases have ended within one ttl
    and did not come back, it has the store note that: :meth:`ISharedNameStore.doubt`. All
    nameservers that share the store learn of the note at the same place in the store's changes, and
    go by it: :class:`EndedLeases`. So it does not matter which of them was first.

    :param guard: whether it is doubted.
    :ivar timer: the delayed call, or None when nothing is kept.
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
        #: whether the store is being asked to note the doubt, or soon will be again
        self._asking: Any = None
        #: what was renewed of all doubtful ones before; None: there are none
        self._healed: int | None = None
        self._most = 0
        self._time = 0.0
        self._stopped = False

    @property
    def count(self) -> int:
        """Registrations whose leases have ended."""
        return self._ended.count

    def schedule(self) -> None:
        """Look at what has changed."""
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
        """Look no more."""
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
                "over half of all leases have ended within one ttl: what ends is kept as doubtful "
                "for one more ttl, {kept} registrations now; {live} live. Can services reach the "
                "nameservers?",
                kept=directory.doubtful,
                live=len(directory) - directory.doubtful,
            )
        self._most = max(self._most, directory.doubtful + directory.healed - self._healed)


__all__ = ["SharedExpiry"]
