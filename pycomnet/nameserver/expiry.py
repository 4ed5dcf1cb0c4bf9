"""Removes registrations whose lease has ended, unless most leases end at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from pycomnet.errors import StoreConflict
from pycomnet.nameserver.endedleases import FEWEST, MOST
from pycomnet.nameserver.records import EXPIRED, Delete, Record
from pycomnet.text.logs import Logger

if TYPE_CHECKING:
    from pycomnet.interfaces import INameStore
    from pycomnet.nameserver.directory import Directory

log = Logger()

#: Seconds after which a removal is tried again when the store has failed.
RETRY = 5.0


class Expiry:
    """Removes expired registrations, with one timer for all leases: it fires when the first may
    end.

    If most leases end at about the same time, the cause is more likely that the nameserver could
    not be reached, or was suspended, than that most services are dead. So there is a guard: it
    keeps registrations that end then for one more ttl, as *doubtful*. The owner of one renews it as
    usual; another owner may take its name at once. It is located if no other service matches.

    :param directory: knows which leases end, and when.
    :param store: removes them.
    :param reactor: for the delayed call.
    :param seconds: the clock that leases end by.
    :param guard: whether registrations are kept as doubtful when most leases end.
    :ivar count: registrations that were removed.
    :ivar timer: the delayed call, or None when there is no lease.
    """

    def __init__(
        self,
        directory: Directory,
        store: INameStore,
        reactor: IReactorTime,
        seconds: Callable[[], float],
        guard: bool = True,
    ) -> None:
        self.count = 0
        self.timer: Any = None
        self._directory = directory
        self._store = store
        self._reactor = reactor
        self._seconds = seconds
        self._guard = guard
        #: how many records were marked as doubtful, and `directory.healed` before that; None if
        #: none is doubtful
        self._guarding: tuple[int, int] | None = None
        self._time = 0.0
        self._failing = False
        self._stopped = False

    def schedule(self) -> None:
        """Set the timer to the lease that may end first."""
        if self._guarding is not None and not self._directory.doubtful:
            self._calm()
        first = self._directory.next_time()
        if first is None or self._stopped or (self.timer is not None and first >= self._time):
            return
        if self.timer is not None:
            self.timer.cancel()
        self._time = first
        self.timer = self._reactor.callLater(max(0.0, first - self._seconds()), self._expire)

    def stop(self) -> None:
        """Cancel the timer."""
        self._stopped = True
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def _expire(self) -> None:
        self.timer = None
        ended = self._directory.due(self._seconds())
        if self._guard:
            ended = self._not_doubted(ended)
        for record in ended:
            removing = self._store.commit(Delete(record.service, record.fence, EXPIRED))
            removing.addCallbacks(
                self._expired, self._not_expired, callbackArgs=(record,), errbackArgs=(record,)
            )
        self.schedule()

    def _not_doubted(self, ended: list[Record]) -> list[Record]:
        """Mark ended records as doubtful if most leases end. Returns those to remove."""
        directory = self._directory
        fresh = sum(not record.doubtful for record in ended)
        if not fresh or len(directory) < FEWEST or (part := directory.ending()) <= MOST:
            return ended
        # Mark all of them at once: an owner that renews before its record is marked would be
        # refused.
        ended += directory.due(self._seconds(), float("inf"))
        marked, healed = self._guarding or (0, directory.healed)
        now = self._seconds()
        removed = []
        for record in ended:
            if record.doubtful:
                removed.append(record)
            else:
                directory.doubt(record, now)
        kept = len(ended) - len(removed)
        if self._guarding is None:
            log.critical(
                "{percent} % of {count} leases are over or about to be: registrations that end "
                "are kept as doubtful for one more ttl, {kept} now. Can services reach this "
                "nameserver?",
                percent=round(part * 100),
                count=len(directory),
                kept=kept,
            )
        self._guarding = marked + kept, healed
        return removed

    def _calm(self) -> None:
        assert self._guarding is not None
        marked, healed = self._guarding
        self._guarding = None
        log.warn(
            "no registration is doubtful any more: of {marked} that were, {healed} were "
            "registered again or renewed",
            marked=marked,
            healed=self._directory.healed - healed,
        )

    def _expired(self, revision: int, record: Record) -> None:
        self._failing = False
        self.count += 1
        log.info(
            "the lease of {service} at {address} has expired",
            service=record.service,
            address=record.address,
        )

    def _not_expired(self, failure: Failure, record: Record) -> None:
        if failure.check(StoreConflict):
            return  # another registration has replaced it
        if not self._failing and not self._stopped:
            self._failing = True
            log.failure("can't remove registrations whose leases are over", failure)
        self._directory.put_off(record, self._seconds(), RETRY)
        self.schedule()
