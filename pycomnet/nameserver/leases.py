"""Finds the leases that have ended (a timer wheel with lazy updates: a renewal costs nothing)."""

from __future__ import annotations

import heapq

from pycomnet.nameserver.records import Record

#: Seconds: leases that end within the same quarter of a second are processed together. Queries
#: ignore a lease from the moment it ends; a watcher learns of its end at most this much later.
GRAIN = 0.25
#: Removed records stay in their slot until its time comes. They are swept out when there are more
#: than this, and they are more than half of all.
MAX_GONE = 10_000
#: ``Record.ends`` of a removed record.
GONE = -1.0


class Leases:
    """Records by the time at which their lease ends.

    A renewal only changes ``Record.ends``. A record stays in its slot until the slot's time comes;
    if it was renewed meanwhile, it moves to a later slot. So each record is examined once in a
    lease's length, however often it is renewed. A slot is a list of the records whose leases end in
    the same quarter of a second. A heap has the slots' times.
    """

    def __init__(self) -> None:
        self._slots: dict[int, list[Record]] = {}
        self._times: list[int] = []
        self._count = 0
        self._gone = 0

    def add(self, record: Record) -> None:
        """Add a record whose lease ends at ``record.ends``, or that is kept for longer."""
        slot = int(max(record.ends, record.doubtful) / GRAIN) + 1
        records = self._slots.get(slot)
        if records is None:
            self._slots[slot] = [record]
            heapq.heappush(self._times, slot)
        else:
            records.append(record)
        self._count += 1

    def drop(self, record: Record) -> None:
        """Remove a record; its lease is over."""
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
        """When to call :meth:`due` next, or None if there are no leases."""
        return self._times[0] * GRAIN if self._times else None

    def due(self, now: float, limit: float) -> list[Record]:
        """Take out records whose lease has ended.

        :param limit: the most records to examine; more may be due.
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
                elif record.is_kept(now):
                    self.add(record)
                else:
                    ended.append(record)
            if not records:
                del self._slots[heapq.heappop(self._times)]
        return ended
