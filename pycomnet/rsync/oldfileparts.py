"""The parts of a new file that an old file here has, found by the new file's sums."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable

#: The most parts of a file: what else there is comes over the line, and memory has a bound.
MOST_PARTS = 131072


class OldFileParts:
    """The parts of a new file that are here, in an old one: at most :data:`MOST_PARTS`.

    :param read: reads the old file.
    :ivar size: their size in all.
    """

    def __init__(self, read: Callable[[int, int], bytes]) -> None:
        self._old = read
        #: offset in the new file -> offset in the old one, and size
        self._found: dict[int, tuple[int, int]] = {}
        self._offsets: list[int] = []
        self.size = 0

    def add(self, offset: int, size: int, old: int) -> None:
        """A part of the new file is at this offset of the old one."""
        if len(self._found) < MOST_PARTS:
            self._found.setdefault(offset, (old, size))

    def ranges(self) -> list[int]:
        """Offset and size of each part, one after the other, in order and without overlaps."""
        ranges: list[int] = []
        end = 0
        kept: dict[int, tuple[int, int]] = {}
        for offset, (old, size) in sorted(self._found.items()):
            cut = max(0, end - offset)
            if size <= cut:
                continue
            offset, old, size = offset + cut, old + cut, size - cut
            kept[offset] = old, size
            if ranges and ranges[-2] + ranges[-1] == offset:
                ranges[-1] += size
            else:
                ranges += [offset, size]
            end = offset + size
            self.size += size
        self._found = kept
        self._offsets = list(kept)
        return ranges

    @property
    def is_in_place(self) -> bool:
        """Whether all of them are where they were."""
        return all(offset == old for offset, (old, _) in self._found.items())

    def read(self, offset: int, size: int) -> bytes:
        """Read bytes of the new file from the old one; fewer at a part's end."""
        place = bisect_right(self._offsets, offset) - 1
        if place < 0:
            return b""
        begin = self._offsets[place]
        old, length = self._found[begin]
        return self._old(old + offset - begin, max(0, min(size, begin + length - offset)))
