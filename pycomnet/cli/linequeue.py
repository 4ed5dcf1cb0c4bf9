"""The work queue of ``pycomnet map``: takes lines, and returns their results in the same order.

It has no I/O and no clock. :attr:`LineQueue.full` bounds how much it keeps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import attrs

from pycomnet.gateways.pool.workqueue import Failed, Item, WorkQueue

#: The most lines in the queue at a time, from reading a line to printing its result; and the most
#: characters of these lines and their results together.
MAX_ITEMS = 10_000
MAX_TEXT = 8 << 20
#: What one line counts in addition to its characters.
ITEM_COST = 200


@attrs.define(eq=False, order=False)
class Line(Item):
    """A line of input in the queue.

    :ivar number: the line's number, from 1.
    :ivar text: the line itself; empty once it has a result.
    :ivar result: what the function returned, or its failure; None until one of them is known.
    """

    text: str
    result: str | Failed | None = None


class LineQueue(WorkQueue[Line]):
    """All lines that were read and whose results have not been taken.

    :param when_failed: called with each line that fails, as soon as that is known.
    """

    def __init__(self, when_failed: Callable[[Line], object] = lambda line: None) -> None:
        super().__init__()
        self._when_failed = when_failed
        #: in input order, the oldest first
        self._under_way: deque[Line] = deque()
        self._text = 0
        self._lines = 0
        #: the number of the last line that counts; None while there is no limit
        self._last: int | None = None
        #: how many results have been taken
        self.done = 0

    # -- lines in --------------------------------------------------------------------------------

    def add(self, lines: Iterable[str]) -> None:
        """Add lines that were read."""
        for text in lines:
            self._lines += 1
            line = Line(self._lines, len(text), text)
            self._under_way.append(line)
            self._text += len(text) + ITEM_COST
            self.put(line)

    def stop_after(self, line: Line) -> None:
        """Keep the lines up to this one, and drop all that come after it."""
        self.end()
        self._last = last = line.number
        self.keep_only([other for other in self.waiting_items() if other.number <= last])
        while self._under_way and self._under_way[-1].number > last:
            self._under_way.pop()

    @property
    def full(self) -> bool:
        """Whether no more lines should be read."""
        return self.crowded or len(self._under_way) >= MAX_ITEMS

    @property
    def crowded(self) -> bool:
        """Whether the kept text has reached :data:`MAX_TEXT`: see :meth:`holds_up`."""
        return self._text >= MAX_TEXT

    @property
    def finished(self) -> bool:
        """Whether all results have been taken and no more lines come."""
        return self.ended and not self._under_way

    @property
    def lines(self) -> int:
        """How many lines have been added."""
        return self._lines

    def holds_up(self, items: Iterable[Line]) -> bool:
        """Whether the oldest line, whose result is the next to print, is one of these, or no worker
        has it yet. Then results must be received even while the queue is crowded.
        """
        if not self._under_way:
            return False
        oldest = self._under_way[0]
        queues: Iterator[Sequence[Line]] = iter((self._fresh, self._again, self._suspects))
        return any(queue and queue[0] is oldest for queue in queues) or oldest in items

    # -- to and from workers ---------------------------------------------------------------------

    def message(self, items: Sequence[Line], known: set[int], gateway: Any) -> list[Any]:
        """The texts of the lines, for a worker."""
        return [[item.text for item in items]]

    def is_wanted(self, item: Line) -> bool:
        """Whether the line is not after the last line that counts."""
        return self._last is None or item.number <= self._last

    def succeeded(self, item: Line, value: str) -> None:
        """Keep the result until it is next in order."""
        item.result = value
        self._text += len(value) - len(item.text)
        item.text = ""

    def failed(self, item: Line, failed: Failed) -> None:
        """Keep the failure until it is next in order, and report it at once."""
        item.result = failed
        self._text += len(failed.message) + len(failed.traceback)
        self._when_failed(item)

    # -- results out -----------------------------------------------------------------------------

    def results(self) -> Iterator[tuple[Line, str | Failed]]:
        """The results that are next in order. Each leaves the queue as it is taken."""
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
