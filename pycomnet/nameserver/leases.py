"""When leases end, without work for those that are renewed."""

from __future__ import annotations

import heapq

from pycomnet.nameserver.records import Record

#: Seconds that leases which end at about the same time are looked at together. Nobody sees a lease
#: that is over, whether or not it was looked at yet: this is how late a watcher learns of it.
GRAIN = 0.25
#: Records that are gone may stay until their time comes, but for more than these, and more than
#: there are others.
MAX_GONE = 10_000
#: ``Record.ends`` of one that is gone.
GONE = -1.0


class Leases:
    """Records by the time at which their lease ends.

    A renewal only changes ``Record.ends``. The record is looked at when its lease would have ended
    as it was when it was looked at last, and is put off if it was renewed: each record once in a
    lease's length, however often it is renewed. Those of the same quarter of a second are in one
    list; the heap has only the lists' times.
    """

    def __init__(self) -> None:
        self._slots: dict[int, list[Record]] = {}
        self._times: list[int] = []
        self._count = 0
        self._gone = 0

    def add(self, record: Record) -> None:
        """Watch over a lease, which ends at ``record.ends``."""
        slot = int(record.ends / GRAIN) + 1
        records = self._slots.get(slot)
        if records is None:
            self._slots[slot] = [record]
            heapq.heappush(self._times, slot)
        else:
            records.append(record)
        self._count += 1

    def drop(self, record: Record) -> None:
        """Watch no longer; its lease is over."""
        record.ends = GONE
        self._gone += 1
        if self._gone > MAX_GONE and self._gone * 2 > self._count:
            self._sweep()

    def _sweep(self) -> None:
        for slot, records in list(self._slots.items()):
            left = [record for record in records if record.ends != GONE]
            self._count -= len(records) - len(left)
            if left:
                self._slots[slot] = left
            else:
                del self._slots[slot]
        self._times = list(self._slots)
        heapq.heapify(self._times)
        self._gone = 0

    def next_time(self) -> float | None:
        """When to look again, or None when there is nothing to watch over."""
        return self._times[0] * GRAIN if self._times else None

    def due(self, now: float, limit: int) -> list[Record]:
        """Take out records whose lease has ended.

        :param limit: how many to look at; there may be more that are due.
        """
        ended: list[Record] = []
        while self._times and self._times[0] * GRAIN <= now and limit > 0:
            records = self._slots[self._times[0]]
            while records and limit > 0:
                limit -= 1
                record = records.pop()
                self._count -= 1
                if record.ends == GONE:
                    self._gone -= 1
                elif record.ends > now:
                    self.add(record)
                else:
                    ended.append(record)
            if not records:
                del self._slots[heapq.heappop(self._times)]
        return ended
