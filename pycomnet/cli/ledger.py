"""The bookkeeping of ``pycomnet map``: which item is where, and what comes out in order.

No I/O and no clock: lines come in, chunks of items go out to workers, answers come back, results
come out in the order of the lines. What is kept at a time is bounded by :attr:`Ledger.full`.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import attrs

#: Items that may be under way at a time, from being read to being printed, and their characters
#: with those of their results.
MAX_ITEMS = 10_000
MAX_TEXT = 8 << 20
#: What one item costs beside its characters.
ITEM_COST = 200
#: How many workers an item may take along before it is given up.
MAX_DEATHS = 3
#: Characters of a chunk of items, roughly.
CHUNK_TEXT = 1 << 16
#: Deaths after which an item is only tried where nothing else is under way, so that it can't take
#: the blame for another's doing.
DEATHS_TILL_ALONE = 2


@attrs.define(eq=False, order=False)
class Item:
    """A line of input on its way.

    :ivar number: its line, from 1.
    :ivar text: what it says.
    :ivar deaths: how many workers died while they had it.
    :ivar result: what came of it.
    """

    number: int
    text: str
    deaths: int = 0
    result: str | Failed | None = None

    def __lt__(self, other: Item) -> bool:
        return self.number < other.number


@attrs.frozen
class Failed:
    """An item that has no result.

    :ivar type: the exception's class; empty when it was given up.
    :ivar message: what it says.
    :ivar traceback: the far one.
    """

    type: str
    message: str
    traceback: str = ""


class Ledger:
    """All items that are under way."""

    def __init__(self) -> None:
        self._fresh: deque[Item] = deque()
        #: given back or to be tried again; before all fresh ones
        self._again: list[Item] = []
        #: to be tried alone
        self._suspects: list[Item] = []
        #: in order, from the oldest
        self._under_way: deque[Item] = deque()
        self._text = 0
        self._lines = 0
        #: the last line that counts, once that is known
        self._last: int | None = None
        #: whether no more lines come
        self.ended = False
        #: lines that have come out
        self.done = 0

    # -- lines in --------------------------------------------------------------------------------

    def add(self, lines: Iterable[str]) -> None:
        """Lines were read."""
        for line in lines:
            self._lines += 1
            item = Item(self._lines, line)
            self._fresh.append(item)
            self._under_way.append(item)
            self._text += len(line) + ITEM_COST

    def end(self) -> None:
        """There are no more lines."""
        self.ended = True

    def stop_after(self, item: Item) -> None:
        """Let all before an item and itself come out, and forget what comes after it."""
        self.ended = True
        self._last = last = item.number
        self._fresh.clear()
        self._again = [other for other in self._again if other.number <= last]
        self._suspects = [other for other in self._suspects if other.number <= last]
        heapq.heapify(self._again)
        heapq.heapify(self._suspects)
        while self._under_way and self._under_way[-1].number > last:
            self._under_way.pop()

    @property
    def full(self) -> bool:
        """Whether no more should be read."""
        return self.crowded or len(self._under_way) >= MAX_ITEMS

    @property
    def crowded(self) -> bool:
        """Whether the texts that are kept are as many as may be: see :meth:`holds_up`."""
        return self._text >= MAX_TEXT

    @property
    def finished(self) -> bool:
        """Whether all has come out and no more comes in."""
        return self.ended and not self._under_way

    @property
    def lines(self) -> int:
        """How many lines came in."""
        return self._lines

    def holds_up(self, items: Iterable[Item]) -> bool:
        """Whether nothing can come out before one of these has a result, or before one that is
        with no worker has: then answers have to be received though it is crowded.
        """
        if not self._under_way:
            return False
        oldest = self._under_way[0]
        return any(queue and queue[0] is oldest for queue in self._queues()) or oldest in items

    def _queues(self) -> Iterator[Sequence[Item]]:
        yield from (self._fresh, self._again, self._suspects)

    # -- to and from workers ---------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """How many items there are to :meth:`take`."""
        return len(self._fresh) + len(self._again) + len(self._suspects)

    def take(self, count: int, alone: bool) -> list[Item]:
        """Items for a worker, the oldest first.

        :param count: at most so many, at least 1.
        :param alone: the worker has nothing else under way.
        :returns: none if there is nothing for it now.
        """
        if self._suspects:
            # Everybody gets free in the end, as nobody takes anything else meanwhile.
            return [heapq.heappop(self._suspects)] if alone else []
        items: list[Item] = []
        size = CHUNK_TEXT
        while len(items) < count and (self._again or self._fresh):
            oldest = self._again[0] if self._again else self._fresh[0]
            size -= len(oldest.text)
            if items and size < 0:
                break
            items.append(heapq.heappop(self._again) if self._again else self._fresh.popleft())
        return items

    def answered(self, items: Sequence[Item], results: Sequence[str | Sequence[str]]) -> None:
        """A worker answered for the first of its items, and gives the others back.

        :param results: a string, or (type, message, traceback), for each that it did.
        """
        for item, result in zip(items, results, strict=False):
            if isinstance(result, str):
                item.result = result
                self._text += len(result) - len(item.text)
                item.text = ""
            else:
                self._fail(item, Failed(*result))
        for item in items[len(results) :]:
            if self._counts(item):
                heapq.heappush(self._again, item)

    def lost(self, items: Iterable[Item]) -> int:
        """A worker died that had these; the number of those that will be tried again."""
        count = 0
        for item in items:
            if not self._counts(item):
                continue
            item.deaths += 1
            if item.deaths >= MAX_DEATHS:
                self._fail(item, Failed("", f"given up: {item.deaths} gateways died of it"))
                continue
            count += 1
            heapq.heappush(
                self._suspects if item.deaths >= DEATHS_TILL_ALONE else self._again, item
            )
        return count

    def _counts(self, item: Item) -> bool:
        return self._last is None or item.number <= self._last

    def _fail(self, item: Item, failed: Failed) -> None:
        item.result = failed
        self._text += len(failed.message) + len(failed.traceback)

    # -- results out -----------------------------------------------------------------------------

    def results(self) -> Iterator[tuple[Item, str | Failed]]:
        """The items whose turn it is to come out. They leave the ledger as they are taken."""
        under_way = self._under_way
        while under_way and under_way[0].result is not None:
            item = under_way.popleft()
            self.done += 1
            result = item.result
            assert result is not None
            self._text -= len(item.text) + ITEM_COST
            if isinstance(result, str):
                self._text -= len(result)
            else:
                self._text -= len(result.message) + len(result.traceback)
            yield item, result
