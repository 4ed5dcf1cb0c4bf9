"""How current a nameserver's memory is. If other nameservers share its store, its memory may be
behind: it asks the store before it refuses a request, and does not answer when cut off for too
long."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet import defer

from pycomnet.errors import (
    LeaseLost,
    NameserverStale,
    NotLeaseOwner,
    ServiceNameTaken,
    ServiceNotFound,
)
from pycomnet.nameserver.concurrency import ConcurrencyLimit

if TYPE_CHECKING:
    from pycomnet.interfaces import ISharedNameStore

T = TypeVar("T")

#: Seconds for which a nameserver that is cut off from its store answers from memory.
MAX_STALE = 600.0
#: The most names that are refreshed from the store at a time. All leases share one request.
LOOKS = 32


class StoreView:
    """The view of a nameserver that uses its store alone: its memory is always current.

    :cvar is_shared: whether other nameservers change the store as well.
    """

    is_shared = False

    async def proposed(self, service: str, propose: Callable[[], T]) -> T:
        """Call a function that uses what the memory has of a name. If it raises an error and the
        memory may be behind, refresh the name from the store, and call it again.

        :param propose: may raise ServiceNameTaken or ServiceNotFound.
        """
        return propose()

    async def owned(self, lease: int, look: Callable[[], T]) -> T:
        """The same for a lease.

        :param look: may raise LeaseLost or NotLeaseOwner.
        """
        return look()

    def aged(self, found: dict[str, Any]) -> dict[str, Any]:
        """Add ``stale`` to an answer, in seconds, if the nameserver is cut off.

        :raises NameserverStale: it is cut off for too long.
        """
        return found

    def staleness(self) -> float:
        """How old answers may be, in seconds; 0.0 while the nameserver is not cut off.

        :raises NameserverStale: it is cut off for too long.
        """
        return 0.0

    @property
    def is_cut_off(self) -> bool:
        """Whether the nameserver is cut off from its store."""
        return False

    def freshness(self) -> dict[str, object]:
        """The entries of ``stat`` about this."""
        return {}

    def tell(self, about: dict[str, object]) -> None:
        """Tell other nameservers on the store about this one."""

    def cluster(self) -> Any:
        """The nameservers that share the store, and the store's members; or a Deferred of that."""
        return {}


class SharedStoreView(StoreView):
    """The view of a nameserver whose store other nameservers change as well.

    :param store: the store.
    :param max_stale: seconds; older data is not served.
    """

    is_shared = True

    def __init__(self, store: ISharedNameStore, max_stale: float = MAX_STALE) -> None:
        self._store = store
        self._max_stale = max_stale
        self._looks = ConcurrencyLimit(LOOKS)

    async def proposed(self, service: str, propose: Callable[[], T]) -> T:
        try:
            return propose()
        except (ServiceNameTaken, ServiceNotFound):
            await self._looks.run(lambda: self._store.refresh(service))
        return propose()

    async def owned(self, lease: int, look: Callable[[], T]) -> T:
        try:
            return look()
        except (LeaseLost, NotLeaseOwner):
            await self._store.refresh_lease(lease)
        return look()

    def aged(self, found: dict[str, Any]) -> dict[str, Any]:
        if self._store.staleness():
            found["stale"] = self.staleness()
        return found

    def staleness(self) -> float:
        stale = self._store.staleness()
        if stale > self._max_stale:
            raise NameserverStale(
                f"this nameserver has been cut off from its store for {stale:.0f} s, and answers "
                f"for {self._max_stale:g} s only (--max-stale): ask another"
            )
        return round(stale, 3)

    @property
    def is_cut_off(self) -> bool:
        return self._store.staleness() > 0

    def freshness(self) -> dict[str, object]:
        return self._store.freshness()

    def tell(self, about: dict[str, object]) -> None:
        self._store.tell(about)

    def cluster(self) -> defer.Deferred[dict[str, list[dict[str, object]]]]:
        return self._store.cluster()
