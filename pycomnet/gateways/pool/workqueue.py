"""The work queue: the waiting items, and what becomes of those whose worker is lost.

It does no I/O and has no clock. Items are put in, the scheduler takes chunks of them for workers,
and reports the workers' replies. A subclass is told each item's outcome:
:meth:`WorkQueue.succeeded` or :meth:`WorkQueue.failed`.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import attrs

#: The number of lost workers after which an item is dropped.
MAX_TRIES = 3
#: The approximate size of a chunk of items, in characters or bytes.
CHUNK_SIZE = 1 << 16
#: The number of losses after which an item is only tried on a worker that has no other item, so
#: that another item can't be the cause of the next loss.
LOSSES_TILL_ALONE = 2


@attrs.define(eq=False, order=False)
class Item:
    """A piece of work.

    :ivar number: its place in the order of arrival.
    :ivar size: its size in a message, in characters or bytes.
    :ivar losses: how many workers were lost while they had it.
    """

    number: int
    size: int
    losses: int = attrs.field(default=0, kw_only=True)

    def __lt__(self, other: Item) -> bool:
        return self.number < other.number

    def begin(self) -> bool:
        """A worker takes it; returns False if it was cancelled."""
        return True


ItemT = TypeVar("ItemT", bound=Item)


@attrs.frozen
class Failed:
    """Why an item has no result.

    :ivar type: the name of the exception's class; empty if the item was dropped.
    :ivar message: the exception's message.
    :ivar traceback: the traceback at the far side.
    """

    type: str
    message: str
    traceback: str = ""


class WorkQueue(Generic[ItemT]):
    """The waiting items, and the rules for those whose workers are lost.

    :param tries: the number of lost workers after which an item is dropped.
    """

    def __init__(self, tries: int = MAX_TRIES) -> None:
        self.tries = tries
        self._fresh: deque[ItemT] = deque()
        #: items that were given back or are tried again; they go before all fresh ones
        self._again: list[ItemT] = []
        #: items that are tried alone
        self._suspects: list[ItemT] = []
        #: whether no more items come
        self.ended = False
        #: the number of items without a result
        self.outstanding = 0

    # -- for subclasses --------------------------------------------------------------------------

    def succeeded(self, item: ItemT, value: Any) -> None:
        """An item has its result."""
        raise NotImplementedError

    def failed(self, item: ItemT, failed: Failed) -> None:
        """An item has no result, and will not be tried again."""
        raise NotImplementedError

    def message(self, items: Sequence[ItemT], known: set[int], gateway: Any) -> Any:
        """The message that gives a worker these items.

        :param known: the data that this worker already has; the queue updates it.
        :param gateway: the worker's.
        """
        raise NotImplementedError

    def suited(self, items: list[ItemT], known: set[int], gateway: Any) -> list[ItemT]:
        """Those of the items that a gateway can do; the others fail.

        :param known: as for :meth:`message`.
        """
        return items

    def is_wanted(self, item: ItemT) -> bool:
        """Whether an item's result is still needed."""
        return True

    @property
    def crowded(self) -> bool:
        """Whether too many results wait: then replies are received only if they
        :meth:`holds_up` others."""
        return False

    def holds_up(self, items: Iterable[ItemT]) -> bool:
        """Whether the reply for these items has to be received even while :attr:`crowded`."""
        return True

    @property
    def finished(self) -> bool:
        """Whether all items are done and no more come."""
        return self.ended and not self.outstanding

    # -- items in --------------------------------------------------------------------------------

    def put(self, item: ItemT) -> None:
        """Add an item."""
        self._fresh.append(item)
        self.outstanding += 1

    def end(self) -> None:
        """No more items come."""
        self.ended = True

    def waiting_items(self) -> list[ItemT]:
        """The items that no worker has."""
        return [*self._suspects, *self._again, *self._fresh]

    def keep_only(self, wanted: Iterable[ItemT]) -> None:
        """Drop all waiting items but these."""
        kept = set(wanted)
        before = self.waiting
        self._fresh = deque(item for item in self._fresh if item in kept)
        self._again = [item for item in self._again if item in kept]
        self._suspects = [item for item in self._suspects if item in kept]
        heapq.heapify(self._again)
        heapq.heapify(self._suspects)
        self.outstanding -= before - self.waiting

    # -- to and from workers ---------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """The number of items to :meth:`take`."""
        return len(self._fresh) + len(self._again) + len(self._suspects)

    def take(self, count: int, alone: bool) -> list[ItemT]:
        """Take items for a worker, the oldest first.

        :param count: the most items, at least 1.
        :param alone: whether the worker has no other items.
        :returns: a list; empty if there is nothing for it now.
        """
        while self._suspects:
            # Every worker eventually becomes idle, as none takes anything else meanwhile.
            if not alone:
                return []
            item = heapq.heappop(self._suspects)
            if self._begins(item):
                return [item]
        items: list[ItemT] = []
        size = CHUNK_SIZE
        while len(items) < count and (self._again or self._fresh):
            oldest = self._again[0] if self._again else self._fresh[0]
            if items and size < oldest.size:
                break
            item = heapq.heappop(self._again) if self._again else self._fresh.popleft()
            if self._begins(item):
                size -= item.size
                items.append(item)
        return items

    def _begins(self, item: ItemT) -> bool:
        begins = item.begin()
        if not begins:
            self.outstanding -= 1
        return begins

    def answered(
        self,
        items: Sequence[ItemT],
        values: Sequence[Any],
        failures: Mapping[int, Sequence[str]],
    ) -> None:
        """A worker has replied for the first of its items, and gives the others back.

        :param values: a result for each item that it did.
        :param failures: index -> (type, message, traceback), for items that failed.
        """
        for index, (item, value) in enumerate(zip(items, values, strict=False)):
            if not self.is_wanted(item):
                continue
            self.outstanding -= 1
            failed = failures.get(index)
            if failed is None:
                self.succeeded(item, value)
            else:
                self.failed(item, Failed(*failed))
        self.give_back(items[len(values) :])

    def give_back(self, items: Iterable[ItemT]) -> None:
        """A worker gives back items that it has not begun."""
        for item in items:
            if self.is_wanted(item):
                heapq.heappush(self._again, item)

    def lost(self, items: Iterable[ItemT]) -> int:
        """A worker that had these was lost; return how many will be tried again."""
        count = 0
        for item in items:
            if not self.is_wanted(item):
                continue
            item.losses += 1
            if item.losses >= self.tries:
                self.outstanding -= 1
                died = "the gateway" if item.losses == 1 else f"{item.losses} gateways"
                self.failed(item, Failed("", f"given up: {died} died of it"))
                continue
            count += 1
            heapq.heappush(
                self._suspects if item.losses >= LOSSES_TILL_ALONE else self._again, item
            )
        return count

    def give_up(self, failed: Failed) -> None:
        """No worker is left: fail all waiting items."""
        waiting = self.waiting_items()
        self.keep_only(())
        for item in waiting:
            if item.begin():
                self.failed(item, failed)
