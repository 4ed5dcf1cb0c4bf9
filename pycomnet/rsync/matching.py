"""Finds the blocks of an old file in a new one, wherever they have moved to.

The other end has sent the sums of the old file's blocks (:mod:`pycomnet.far.rsync.blocks`). The new
file is read once. While block follows block, each is found where it is expected, by one SHA-256. If
one isn't there, the next is looked for in its old place. Then the marker is looked for, at the
speed of C. The bytes behind it, a block's anchor, say which block it may be and where that begins.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import attrs

from pycomnet.far.rsync.blocks import FOLLOWING, NO_ANCHOR, SUM, TreeDigest, check_block
from pycomnet.far.rsync.entries import PIECE

#: Bytes of the new file that are read at a time.
READ = 4194304
#: Blocks of which the sums are kept, some 300 bytes each: what is behind them is not found.
MOST_BLOCKS = 2097152
#: Blocks in which anchors are looked for before the expected place is tried again, and at least so
#: many bytes.
AHEAD, AHEAD_BYTES = 4, 65536
#: Bytes of one :class:`Copy`, but for the last blocks that were found together: the other end
#: copies while the rest is compared.
COPIED = 8388608
#: Blocks with one anchor that are tried.
TRIED = 4
#: At most one marker in this many bytes is tried: where there are more, the content repeats.
OFTEN = 16


@attrs.frozen
class Literal:
    """Bytes that the other end does not have."""

    data: bytes


@attrs.frozen
class Copy:
    """Bytes of the old file."""

    offset: int
    size: int


class More:
    """The next step needs more sums than have come."""


MORE = More()


class Sums:
    """The sums of an old file, as they come.

    :param size: its size.
    :param block: the size of its blocks.
    :param marker: what anchors stand behind.
    :ivar complete: whether all have come.
    """

    def __init__(self, size: int, block: int, marker: bytes) -> None:
        self.size = size
        self.block = block
        self.marker = marker
        #: the number of blocks whose sums have not come
        self._left = -(-size // block) if block else 0
        self.complete = False
        self.strong: list[bytes] = []
        #: where the anchor is, in each block
        self.places: list[int] = []
        #: the bytes of an anchor -> the blocks that have it
        self.anchors: dict[bytes, list[int]] = {}

    @classmethod
    def announced(cls, size: int, block: int, marker: bytes) -> Sums:
        """Sums that another end sends.

        :raises ValueError: no file has blocks of this size.
        """
        if block:
            check_block(block)
        return cls(size, block, marker)

    def add(self, part: bytes) -> None:
        """The next sums, joined. Those behind :data:`MOST_BLOCKS` are not kept.

        :raises ValueError: the file has not as many blocks.
        """
        self._left -= len(part) // SUM.size
        if self._left < 0:
            raise ValueError(f"sums of more blocks than a file of {self.size} bytes has")
        if len(self.strong) >= MOST_BLOCKS:
            return
        anchors = self.anchors
        for index, (strong, place, following) in enumerate(SUM.iter_unpack(part), len(self.strong)):
            # The anchors are last: a thread may be looking for them just now.
            self.strong.append(strong)
            self.places.append(place)
            if place != NO_ANCHOR:
                found = anchors.setdefault(following, [])
                if len(found) < TRIED:
                    found.append(index)

    @property
    def whole(self) -> int:
        """The number of blocks that have the full size."""
        return min(self.size // self.block, len(self.strong)) if self.block else 0


class Matcher:
    """Compares a new file with the sums of an old one.

    :param read: reads the new file: offset, size -> bytes; fewer only at its end.
    :param size: the new file's size.
    :ivar digest: of the new file's content, when all was compared.
    """

    def __init__(self, read: Callable[[int, int], bytes], size: int, sums: Sums) -> None:
        self._read = read
        self._size = size
        self._sums = sums
        self.digest = b""
        self._tree = TreeDigest(sums.block)
        #: bytes behind a place that one step may look at
        self._ahead = max(AHEAD * sums.block, AHEAD_BYTES) + 2 * sums.block
        #: what was read, and the offset of its first byte
        self._data = b""
        self._view = memoryview(b"")
        self._base = 0

    def steps(self) -> Iterator[Literal | Copy | More]:
        """What the new file is made of, in order.

        :raises OSError: it can't be read, or has become shorter.
        """
        sums, block, size = self._sums, self._sums.block, self._size
        at = literal = expected = 0
        copied: Copy | None = None
        while at < size:
            self._fill(literal, at)
            while expected + 1 >= len(sums.strong) and not sums.complete:
                yield MORE
            digests, length = self._match_run(expected, at)
            if length:
                # There is no literal behind a pending copy.
                yield from self._literals(literal, at)
                self._tree.add(digests, length)
                offset = expected * block
                if (
                    copied is not None
                    and copied.offset + copied.size == offset
                    and copied.size < COPIED
                ):
                    copied = Copy(copied.offset, copied.size + length)
                else:
                    if copied is not None:
                        yield copied
                    copied = Copy(offset, length)
                at += length
                literal = at
                expected += -(-length // block)
                continue
            if copied is not None:
                yield copied
                copied = None
            found = self._search(at, expected)
            while found is None:  # it may be one whose sum has not come
                yield MORE
                found = self._search(at, expected)
            at, expected = found
            if at - literal >= PIECE:
                yield from self._literals(literal, at)
                literal = at
        if copied is not None:
            yield copied
        yield from self._literals(literal, size)
        self.digest = self._tree.digest()

    def _fill(self, keep: int, at: int) -> None:
        """Have the bytes from ``keep`` on, and enough of them behind ``at``."""
        end = self._base + len(self._data)
        if end >= min(self._size, at + self._ahead):
            return
        kept = self._data[keep - self._base :]
        wanted = min(READ, self._size - end)
        data = self._read(end, wanted)
        if len(data) < wanted:
            raise OSError(None, "it became shorter while it was read")
        self._data = kept + data
        self._view = memoryview(self._data)
        self._base = keep

    def _literals(self, begin: int, end: int) -> Iterator[Literal]:
        for at in range(begin, end, PIECE):
            data = self._data[at - self._base : min(end, at + PIECE) - self._base]
            self._tree.update(data)
            self._tree.cut()
            yield Literal(data)

    def _match_run(self, index: int, at: int) -> tuple[bytes, int]:
        """What follows of the old file and was read: digests of its blocks, and its length."""
        sums, block = self._sums, self._sums.block
        begin = at - self._base
        count = min(sums.whole - index, (len(self._data) - begin) // block)
        view, sha, strong = self._view, hashlib.sha256, sums.strong
        digests = []
        for each in range(index, index + count):
            digest = sha(view[begin : begin + block]).digest()
            if not digest.startswith(strong[each]):
                break
            digests.append(digest)
            begin += block
        if digests:
            return b"".join(digests), len(digests) * block
        # It may be the last, which is shorter.
        digest, length = self._block(index, at) if index >= sums.whole else (b"", 0)
        return digest, length

    def _block(self, index: int, at: int) -> tuple[bytes, int]:
        """An old block's digest and length if it is the new file's content at a place, else 0."""
        sums, block = self._sums, self._sums.block
        if index >= len(sums.strong):
            return b"", 0
        length = min(block, sums.size - index * block)
        if at + length > self._size:
            return b"", 0
        begin = at - self._base
        digest = hashlib.sha256(self._view[begin : begin + length]).digest()
        return (digest, length) if digest.startswith(sums.strong[index]) else (b"", 0)

    def _match(self, index: int, at: int) -> bool:
        """Whether an old block is the new file's content at a place."""
        return self._block(index, at)[1] > 0

    def _search(self, at: int, expected: int) -> tuple[int, int] | None:
        """A block was not where it was expected: find where the next one is, and which it is.

        :returns: its offset, and its number; None if that needs more sums.
        """
        block, size = self._sums.block, self._size
        if at + block < size and self._match(expected + 1, at + block):
            return at + block, expected + 1
        ahead = max(AHEAD * block, AHEAD_BYTES)
        end = min(size, at + ahead)
        found = self._anchored(at, end)
        if found is not None:
            return found
        if not self._sums.complete:
            return None
        if end == size:
            return size, expected
        return end, expected + ahead // block

    def _anchored(self, at: int, end: int) -> tuple[int, int] | None:
        """The first block that is found by an anchor in a part of the new file."""
        sums, block, base, data = self._sums, self._sums.block, self._base, self._data
        marker, mark = sums.marker, len(sums.marker)
        if not marker:
            return None
        place = at - base
        left = (end - at) // OFTEN + 64
        while left:
            left -= 1
            place = data.find(marker, place, end - base)
            if place < 0:
                return None
            place += mark
            for index in sums.anchors.get(data[place : place + FOLLOWING], ()):
                begin = place + base - sums.places[index]
                if begin < at or not self._match(index, begin):
                    continue
                while index and begin - block >= at and self._match(index - 1, begin - block):
                    index -= 1
                    begin -= block
                return begin, index
            place += 1 - mark
        return None
