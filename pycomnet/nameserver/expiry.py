"""Removes registrations whose lease has ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from pycomnet.errors import StoreConflict
from pycomnet.nameserver.records import EXPIRED, Delete, Record
from pycomnet.text.logs import Logger

if TYPE_CHECKING:
    from pycomnet.interfaces import INameStore
    from pycomnet.nameserver.directory import Directory

log = Logger()

#: Seconds after which a removal is tried again when the store has failed.
RETRY = 5.0


class Expiry:
    """One timer for all leases: it fires when the first may end.

    :param directory: knows which leases end, and when.
    :param store: removes them.
    :param reactor: for the delayed call.
    :param seconds: the clock that leases end by.
    :ivar count: registrations that were removed.
    :ivar timer: the delayed call, or None when there is no lease.
    """

    def __init__(
        self,
        directory: Directory,
        store: INameStore,
        reactor: IReactorTime,
        seconds: Callable[[], float],
    ) -> None:
        self.count = 0
        self.timer: Any = None
        self._directory = directory
        self._store = store
        self._reactor = reactor
        self._seconds = seconds
        self._time = 0.0
        self._failing = False
        self._stopped = False

    def schedule(self) -> None:
        """Set the timer to the lease that may end first."""
        first = self._directory.next_time()
        if first is None or self._stopped or (self.timer is not None and first >= self._time):
            return
        if self.timer is not None:
            self.timer.cancel()
        self._time = first
        self.timer = self._reactor.callLater(max(0.0, first - self._seconds()), self._expire)

    def stop(self) -> None:
        """Remove no more."""
        self._stopped = True
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def _expire(self) -> None:
        self.timer = None
        for record in self._directory.due(self._seconds()):
            removing = self._store.commit(Delete(record.service, record.fence, EXPIRED))
            removing.addCallbacks(
                self._expired, self._not_expired, callbackArgs=(record,), errbackArgs=(record,)
            )
        self.schedule()

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
