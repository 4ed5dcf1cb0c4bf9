"""The queue of ``pycomnet map``: lines go in, and their results come out in the same order.

No I/O and no clock. What is kept at a time is bounded by :attr:`LineQueue.full`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import attrs

from pycomnet.gateways.pool.workqueue import Failed, Item, WorkQueue

#: Items that may be under way at a time, from being read to being printed, and their characters
#: with those of their results.
MAX_ITEMS = 10_000
MAX_TEXT = 8 << 20
#: What one item costs beside its characters.
ITEM_COST = 200


@attrs.define(eq=False, order=False)
class Line(Item):
    """A line of input on its way.

    :ivar number: its line, from 1.
    :ivar text: what it says.
    :ivar result: what came of it.
    """

    text: str
    result: str | Failed | None = None


class LineQueue(WorkQueue[Line]):
    """All lines that are under way.

    :param when_failed: called with each line that fails, as soon as that is known.
    """

    def __init__(self, when_failed: Callable[[Line], object] = lambda line: None) -> None:
        super().__init__()
        self._when_failed = when_failed
        #: in order, from the oldest
        self._under_way: deque[Line] = deque()
        self._text = 0
        self._lines = 0
        #: the last line that counts, once that is known
        self._last: int | None = None
        #: lines that have come out
        self.done = 0

    # -- lines in --------------------------------------------------------------------------------

    def add(self, lines: Iterable[str]) -> None:
        """Lines were read."""
        for text in lines:
            self._lines += 1
            line = Line(self._lines, len(text), text)
            self._under_way.append(line)
            self._text += len(text) + ITEM_COST
            self.put(line)

    def stop_after(self, line: Line) -> None:
        """Let all before a line and itself come out, and forget what comes after it."""
        self.end()
        self._last = last = line.number
        self.keep_only([other for other in self.waiting_items() if other.number <= last])
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

    def holds_up(self, items: Iterable[Line]) -> bool:
        """Whether nothing can come out before one of these has a result, or before one that is
        with no worker has: then answers have to be received though it is crowded.
        """
        if not self._under_way:
            return False
        oldest = self._under_way[0]
        queues: Iterator[Sequence[Line]] = iter((self._fresh, self._again, self._suspects))
        return any(queue and queue[0] is oldest for queue in queues) or oldest in items

    # -- to and from workers ---------------------------------------------------------------------

    def message(self, items: Sequence[Line], known: set[int], place: Any) -> list[Any]:
        """The lines' texts."""
        return [[item.text for item in items]]

    def counts(self, item: Line) -> bool:
        """Whether it comes before the last line that counts."""
        return self._last is None or item.number <= self._last

    def succeeded(self, item: Line, value: str) -> None:
        """Keep the result till its turn comes."""
        item.result = value
        self._text += len(value) - len(item.text)
        item.text = ""

    def failed(self, item: Line, failed: Failed) -> None:
        """It comes out in its turn, as a failure."""
        item.result = failed
        self._text += len(failed.message) + len(failed.traceback)
        self._when_failed(item)

    # -- results out -----------------------------------------------------------------------------

    def results(self) -> Iterator[tuple[Line, str | Failed]]:
        """The lines whose turn it is to come out. They leave the queue as they are taken."""
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
