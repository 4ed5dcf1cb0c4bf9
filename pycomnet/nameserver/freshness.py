"""Whether a nameserver's memory is current: if others share its store, it asks the store before it
refuses."""

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

#: Seconds for which a nameserver that is cut off from its store answers what it knew last.
MAX_STALE = 600.0
#: Second looks at names in the store at a time. Those for leases share one question.
LOOKS = 32


class StoreView:
    """The memory of a nameserver that has its store alone: what it knows is all there is.

    :cvar is_shared: whether others change the store as well.
    """

    is_shared = False

    async def proposed(self, service: str, propose: Callable[[], T]) -> T:
        """What a function makes of the memory; if that may be behind, it is asked again before it
        refuses.

        :param propose: raises ServiceNameTaken or ServiceNotFound by what the memory has of the
            name.
        """
        return propose()

    async def owned(self, lease: int, look: Callable[[], T]) -> T:
        """The same for a lease.

        :param look: raises LeaseLost or NotLeaseOwner by what the memory has of it.
        """
        return look()

    def aged(self, found: dict[str, Any]) -> dict[str, Any]:
        """An answer, with ``stale``, the seconds, if the nameserver is cut off.

        :raises NameserverStale: it is too old.
        """
        return found

    def staleness(self) -> float:
        """How old answers are, in seconds; 0.0 while the nameserver is not cut off.

        :raises NameserverStale: they are too old.
        """
        return 0.0

    @property
    def is_cut_off(self) -> bool:
        """Whether the nameserver is cut off from its store."""
        return False

    def freshness(self) -> dict[str, object]:
        """What ``stat`` shows of it."""
        return {}

    def tell(self, about: dict[str, object]) -> None:
        """What the others see of this nameserver."""

    def cluster(self) -> Any:
        """Who shares the store, and its members; or a Deferred of that."""
        return {}


class SharedStoreView(StoreView):
    """The memory of a nameserver whose store others change, too: it may be behind.

    :param store: brings it up to date for one name.
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
