"""What a target needs: the state that its session and what serves it share."""

from __future__ import annotations

from collections import deque

from pycomnet.far.rsync.compare import SHORT
from pycomnet.far.rsync.entries import DELTA
from pycomnet.far.rsync.send import GROUP_BYTES, GROUP_FILES
from pycomnet.rsync.matching import Sums
from pycomnet.rsync.options import SyncError


class WantedFiles:
    """The files that a target needs, by their numbers.

    :ivar shorts: groups of short ones, each for one message, in the order in which they are sent.
    :ivar longs: the long ones, and whether the target has an old one, of which it can send sums.
    :ivar digests: the beginning of the digest of a target's file; it is not sent if it is equal.
    :ivar sums: those of a target's old file.
    :ivar sent: the long files that were sent, or are being sent.
    :ivar asked: the files for which sums were requested, and not all have come.
    """

    def __init__(self) -> None:
        self.shorts: deque[list[int]] = deque()
        self.longs: deque[tuple[int, bool]] = deque()
        self.digests: dict[int, bytes] = {}
        self.sums: dict[int, Sums] = {}
        self.asked: set[int] = set()
        self.sent: set[int] = set()
        self._paths: dict[int, bytes] = {}
        self._attempts: dict[int, int] = {}
        #: short files for the next message, and their size
        self._group: list[int] = []
        self._group_size = 0

    def __len__(self) -> int:
        return len(self._paths)

    def __contains__(self, number: int) -> bool:
        return number in self._paths

    def path(self, number: int) -> bytes:
        """The path of what is needed.

        :raises SyncError: it is not.
        """
        path = self._paths.get(number)
        if path is None:
            raise SyncError(f"the other end did not need entry {number}, or said that it is done")
        return path

    def add(self, number: int, path: bytes, kind: int, size: int, digest: bytes | None) -> None:
        """The target needs a file.

        :param kind: of the protocol's needs.
        :param size: its size.
        :param digest: the digest of what the target has.
        :raises ValueError: it needs that already.
        """
        if number in self._paths:
            raise ValueError(f"{number} is needed twice")
        self._paths[number] = path
        if digest is not None:
            self.digests[number] = digest
        if size > SHORT:
            self.longs.append((number, kind == DELTA))
            return
        self._group.append(number)
        self._group_size += size
        if len(self._group) >= GROUP_FILES or self._group_size >= GROUP_BYTES:
            self.end_group()

    def end_group(self) -> None:
        """The next short file begins another message."""
        if self._group:
            self.shorts.append(self._group)
        self._group, self._group_size = [], 0

    def settle(self, number: int) -> bytes:
        """Something is done, or failed: it is needed no more.

        :returns: its path.
        :raises SyncError: it was not needed.
        """
        path = self.path(number)
        del self._paths[number]
        self.sent.discard(number)
        self.sums.pop(number, None)
        self.digests.pop(number, None)
        self._attempts.pop(number, None)
        return path

    def got_sums(
        self, number: int, size: int, block: int, marker: bytes, part: bytes, complete: bool
    ) -> None:
        """Some sums of the target's old file have come.

        :raises ValueError: nobody asked for them, or there are no such sums.
        """
        if number not in self.asked:
            raise ValueError(f"sums of {number} that were not asked for")
        if complete:
            self.asked.discard(number)
        if number not in self._paths:
            return  # it could not be read meanwhile
        sums = self.sums.get(number)
        if sums is None:
            sums = self.sums[number] = Sums.announced(size, block, marker)
        sums.add(part)
        sums.complete = bool(complete)

    def again(self, number: int) -> None:
        """What was sent was not one state of the file: it is to be sent again, whole.

        :raises ValueError: it was not sent.
        """
        if number not in self.sent:
            raise ValueError("that was not sent")
        self.sent.discard(number)
        self._attempts[number] = self._attempts.get(number, 0) + 1
        self.sums.pop(number, None)
        self.asked.discard(number)
        self.longs.append((number, False))

    def attempts(self, number: int) -> int:
        """How often what was sent was not one state of the file."""
        return self._attempts.get(number, 0)
