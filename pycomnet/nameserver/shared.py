"""What a nameserver does beside, if others share its store: it looks twice."""

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
from pycomnet.nameserver.turnstile import Turnstile

if TYPE_CHECKING:
    from pycomnet.interfaces import ISharedNameStore

T = TypeVar("T")

#: Seconds for which a nameserver that is cut off from its store answers what it knew last.
MAX_STALE = 600.0
#: Second looks at names in the store at a time. Those for leases share one question.
LOOKS = 32


class SharedMemory:
    """The memory of a nameserver whose store others change, too: it may be behind.

    :param store: brings it up to date for one name.
    :param max_stale: seconds; what is older is not told.
    """

    def __init__(self, store: ISharedNameStore, max_stale: float = MAX_STALE) -> None:
        self._store = store
        self._max_stale = max_stale
        self._looks = Turnstile(LOOKS)

    async def proposed(self, service: str, propose: Callable[[], T]) -> T:
        """What a function makes of the memory; it is asked again before it refuses.

        :param propose: raises ServiceNameTaken or ServiceNotFound by what the memory has of the
            name.
        """
        try:
            return propose()
        except (ServiceNameTaken, ServiceNotFound):
            await self._looks.run(lambda: self._store.refresh(service))
        return propose()

    async def owned(self, lease: int, look: Callable[[], T]) -> T:
        """The same for a lease.

        :param look: raises LeaseLost or NotLeaseOwner by what the memory has of it.
        """
        try:
            return look()
        except (LeaseLost, NotLeaseOwner):
            await self._store.refresh_lease(lease)
        return look()

    def aged(self, found: dict[str, Any]) -> dict[str, Any]:
        """An answer, with ``stale``, the seconds, if the nameserver is cut off.

        :raises NameserverStale: it is too old.
        """
        stale = self.staleness()
        if stale:
            found["stale"] = stale
        return found

    def staleness(self) -> float:
        """How old answers are, in seconds; 0.0 while the nameserver is not cut off.

        :raises NameserverStale: they are too old.
        """
        stale = self._store.staleness()
        if stale > self._max_stale:
            raise NameserverStale(
                f"this nameserver has been cut off from its store for {stale:.0f} s, and answers "
                f"for {self._max_stale:g} s only (--max-stale): ask another"
            )
        return round(stale, 3)

    @property
    def is_cut_off(self) -> bool:
        """Whether the nameserver is cut off from its store."""
        return self._store.staleness() > 0

    def freshness(self) -> dict[str, object]:
        """What ``stat`` shows of it."""
        return self._store.freshness()

    def tell(self, about: dict[str, object]) -> None:
        """What the others see of this nameserver."""
        self._store.tell(about)

    def cluster(self) -> defer.Deferred[dict[str, list[dict[str, object]]]]:
        """Who shares the store, and its members."""
        return self._store.cluster()
