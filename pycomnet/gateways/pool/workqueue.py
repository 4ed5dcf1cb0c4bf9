"""A queue of work items: which is where, which is tried again, and which is given up.

No I/O and no clock: items come in, chunks of them go out to workers, answers come back. What
becomes of an item is told to the subclass, by :meth:`WorkQueue.succeeded` and
:meth:`WorkQueue.failed`.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import attrs

#: How many workers an item may take along before it is given up.
MAX_TRIES = 3
#: Characters or bytes of a chunk of items, roughly.
CHUNK_SIZE = 1 << 16
#: Losses after which an item is only tried where nothing else is under way, so that it can't take
#: the blame for another's doing.
LOSSES_TILL_ALONE = 2


@attrs.define(eq=False, order=False)
class Item:
    """A piece of work.

    :ivar number: its place in the order of arrival.
    :ivar size: what it takes in a message, in characters or bytes.
    :ivar losses: how many workers were lost while they had it.
    """

    number: int
    size: int
    losses: int = attrs.field(default=0, kw_only=True)

    def __lt__(self, other: Item) -> bool:
        return self.number < other.number

    def begin(self) -> bool:
        """A worker takes it; False if nobody wants it done any more."""
        return True


ItemT = TypeVar("ItemT", bound=Item)


@attrs.frozen
class Failed:
    """Why an item has no result.

    :ivar type: the exception's class; empty when it was given up.
    :ivar message: what it says.
    :ivar traceback: the far one.
    """

    type: str
    message: str
    traceback: str = ""


class WorkQueue(Generic[ItemT]):
    """Items that wait, and the rules for those whose workers are lost.

    :param tries: after so many lost workers an item is given up.
    """

    def __init__(self, tries: int = MAX_TRIES) -> None:
        self.tries = tries
        self._fresh: deque[ItemT] = deque()
        #: given back or to be tried again; before all fresh ones
        self._again: list[ItemT] = []
        #: to be tried alone
        self._suspects: list[ItemT] = []
        #: whether no more items come
        self.ended = False
        #: items without a result
        self.outstanding = 0

    # -- for subclasses --------------------------------------------------------------------------

    def succeeded(self, item: ItemT, value: Any) -> None:
        """An item has its result."""
        raise NotImplementedError

    def failed(self, item: ItemT, failed: Failed) -> None:
        """An item has none, and will not be tried again."""
        raise NotImplementedError

    def message(self, items: Sequence[ItemT], known: set[int], place: Any) -> Any:
        """What a worker is sent to have it work on these items.

        :param known: what the queue told this worker before; the queue's to fill.
        :param place: where the worker is: its gateway.
        """
        raise NotImplementedError

    def suited(self, items: list[ItemT], known: set[int], place: Any) -> list[ItemT]:
        """Those of the items that can be done at a place; the others have failed.

        :param known: as for :meth:`message`.
        """
        return items

    def counts(self, item: ItemT) -> bool:
        """Whether an item's result still matters."""
        return True

    @property
    def crowded(self) -> bool:
        """Whether answers should wait: see :meth:`holds_up`."""
        return False

    def holds_up(self, items: Iterable[ItemT]) -> bool:
        """Whether the answer for these has to be received though it is crowded."""
        return True

    @property
    def finished(self) -> bool:
        """Whether all is done and no more comes in."""
        return self.ended and not self.outstanding

    # -- items in --------------------------------------------------------------------------------

    def put(self, item: ItemT) -> None:
        """There is one more item."""
        self._fresh.append(item)
        self.outstanding += 1

    def end(self) -> None:
        """There are no more items."""
        self.ended = True

    def waiting_items(self) -> list[ItemT]:
        """The items that no worker has."""
        return [*self._suspects, *self._again, *self._fresh]

    def keep_only(self, wanted: Iterable[ItemT]) -> None:
        """Forget all waiting items but these."""
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
        """How many items there are to :meth:`take`."""
        return len(self._fresh) + len(self._again) + len(self._suspects)

    def take(self, count: int, alone: bool) -> list[ItemT]:
        """Items for a worker, the oldest first.

        :param count: at most so many, at least 1.
        :param alone: the worker has nothing else under way.
        :returns: none if there is nothing for it now.
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
        """A worker answered for the first of its items, and gives the others back.

        :param values: a result for each that it did.
        :param failures: for those that failed, by their index: (type, message, traceback).
        """
        for index, (item, value) in enumerate(zip(items, values, strict=False)):
            if not self.counts(item):
                continue
            self.outstanding -= 1
            failed = failures.get(index)
            if failed is None:
                self.succeeded(item, value)
            else:
                self.failed(item, Failed(*failed))
        self.give_back(items[len(values) :])

    def give_back(self, items: Iterable[ItemT]) -> None:
        """A worker did not come to these."""
        for item in items:
            if self.counts(item):
                heapq.heappush(self._again, item)

    def lost(self, items: Iterable[ItemT]) -> int:
        """A worker was lost that had these; the number of those that will be tried again."""
        count = 0
        for item in items:
            if not self.counts(item):
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
        """No worker is left: all that wait fail."""
        waiting = self.waiting_items()
        self.keep_only(())
        for item in waiting:
            if item.begin():
                self.failed(item, failed)
