"""A long file of a source: it is opened once, and read once, for all targets that need it."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred

from pycomnet.deferred import OneShot
from pycomnet.far.rsync.blocks import TreeDigest, block_size
from pycomnet.far.rsync.entries import PIECE
from pycomnet.far.rsync.files import read_at

#: Bytes that are read at a time, and sent in one piece.
UNIT = PIECE


def fingerprint(status: os.stat_result) -> tuple[int, ...]:
    """What changes with a file."""
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)


class LongFile:
    """A long file that one or more targets need.

    :param flags: how it is opened.
    :param in_thread: runs a function in a thread.
    :param keep_unit: called with the file, an offset and a size, when something of it was read.
    :ivar status: as it was opened; None before.
    :ivar changed: whether it has changed since, so that a new one has to be opened.
    :ivar refused: whether a target has found that it got something else: likewise.
    :ivar users: the number of targets that read it.
    :ivar units: offset -> what was read there, or is being read.
    """

    def __init__(
        self,
        number: int,
        path: bytes,
        flags: int,
        in_thread: Callable[..., Deferred[Any]],
        keep_unit: Callable[[LongFile, int, int], None],
    ) -> None:
        self.number = number
        self.users = 0
        self.changed = False
        self.refused = False
        self.status: os.stat_result | None = None
        self._path = path
        self._flags = flags
        self._in_thread = in_thread
        self._keep_unit = keep_unit
        self._descriptor = -1
        self._lock = threading.Lock()
        self._reading = 0
        self._closing = False
        self._opening: OneShot[None] | None = None
        self.units: dict[int, OneShot[bytes]] = {}
        self._digest: TreeDigest | None = None
        self._digest_lock = threading.Lock()
        self._digested = 0
        self._digesting: OneShot[bytes] | None = None
        #: its parts: offset, size, whether it is data or a hole
        self.extents: list[tuple[int, int, bool]] = []
        self._holes: dict[int, int] = {}

    @property
    def size(self) -> int:
        """Its size when it was opened."""
        assert self.status is not None
        return self.status.st_size

    @property
    def is_sparse(self) -> bool:
        """Whether it has holes."""
        return bool(self._holes)

    async def open(self) -> None:
        """Open it.

        :raises OSError: it can't be opened, or is no regular file.
        """
        if self._opening is None:
            self._opening = OneShot()
            self._opening.follow(self._in_thread(self._open))
        await self._opening.when_fired()

    def _open(self) -> None:
        descriptor = os.open(self._path, self._flags)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise OSError(None, "not a regular file any more")
        with self._lock:
            self._descriptor = descriptor
            self._close_unused()
        if self._closing:
            return
        self.extents = extents(descriptor, status)
        self._holes = {at: size for at, size, is_data in self.extents if not is_data}
        self._digest = TreeDigest(block_size(status.st_size))
        self.status = status

    def pread(self, offset: int, size: int) -> bytes:
        """Read from it, in a thread; fewer bytes than ``size`` only at its end.

        :raises OSError: it was closed, as its run was ended.
        """
        data: bytes = self._using(lambda descriptor: read_at(descriptor)(offset, size))
        return data

    def _using(self, function: Callable[[int], Any]) -> Any:
        """Call a function with the descriptor, which stays open meanwhile."""
        with self._lock:
            if self._closing:
                raise OSError(None, "the run has ended")
            self._reading += 1
        try:
            return function(self._descriptor)
        finally:
            with self._lock:
                self._reading -= 1
                self._close_unused()

    def unit(self, offset: int, size: int) -> Deferred[bytes]:
        """Some bytes of data; all who read them ask for the same parts."""
        known = self.units.get(offset)
        if known is None:
            known = self.units[offset] = OneShot()
            reading = self._in_thread(self._read_unit, offset, size)
            reading.addCallback(self._keep, offset)
            known.follow(reading)
        return known.when_fired()

    def _keep(self, data: bytes, offset: int) -> bytes:
        if not self._closing:
            self._keep_unit(self, offset, len(data))
        return data

    def _read_unit(self, offset: int, size: int) -> bytes:
        data = self.pread(offset, size)
        if len(data) < size:
            raise OSError(None, "it became shorter while it was read")
        assert self._digest is not None
        with self._digest_lock:  # the target that is behind may read another unit just now
            self._pass_holes(self._digest)
            if offset == self._digested:
                self._digest.update(data)
                self._digest.cut()
                self._digested += size
        return data

    def _pass_holes(self, digest: TreeDigest) -> None:
        while self._digested in self._holes:
            size = self._holes[self._digested]
            digest.hole(size)
            self._digested += size

    async def digest(self) -> bytes:
        """The digest of its content, once all units were read."""
        if self._digesting is None:
            self._digesting = OneShot()
            self._digesting.follow(self._in_thread(self._end_digest))
        return await self._digesting.when_fired()

    def _end_digest(self) -> bytes:
        assert self._digest is not None
        with self._digest_lock:  # as in _read_unit
            self._pass_holes(self._digest)
            if self._digested < self.size:
                raise OSError(None, "parts of it were not read")
            return self._digest.digest()

    async def is_whole(self, digest: bytes, block: int, pieces: Iterable[tuple[int, bool]]) -> bool:
        """Whether what was read is one state of the file: it has not changed, or has only grown.

        :param digest: the digest of what was read, in blocks of this size.
        :param pieces: those that it was read in: the size of each, and whether it is no hole.
        """
        whole: bool = await self._in_thread(self._is_whole, digest, block, pieces)
        return whole

    def _is_whole(self, digest: bytes, block: int, pieces: Iterable[tuple[int, bool]]) -> bool:
        assert self.status is not None
        after = self._using(os.fstat)
        if fingerprint(after) == fingerprint(self.status):
            return True
        self.changed = True
        if after.st_size < self.size:
            return False
        # A log that only grows is whole up to where it ended. So it is read once more.
        again = TreeDigest(block)
        at = 0
        for size, is_data in pieces:
            if is_data:
                for offset in range(at, at + size, UNIT):
                    again.update(self.pread(offset, min(UNIT, at + size - offset)))
                again.cut()
            else:
                again.hole(size)
            at += size
        return again.digest() == digest

    def close(self) -> None:
        """Close it, once no thread reads it any more."""
        with self._lock:
            self._closing = True
            self._close_unused()

    def _close_unused(self) -> None:
        if self._closing and not self._reading and self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def extents(descriptor: int, status: os.stat_result) -> list[tuple[int, int, bool]]:
    """The parts of a file that are data, and those that are holes.

    :returns: offset, size, and whether it is data, in order; one part, for a file without holes.
    """
    size = status.st_size
    if status.st_blocks * 512 >= size or not hasattr(os, "SEEK_DATA"):
        return [(0, size, True)]
    found = []
    at = 0
    try:
        while at < size:
            try:
                data = os.lseek(descriptor, at, os.SEEK_DATA)
            except OSError:  # ENXIO: only a hole is left
                data = size
            if data > at:
                found.append((at, min(data, size) - at, False))
            if data >= size:
                break
            at = min(os.lseek(descriptor, data, os.SEEK_HOLE), size)
            found.append((data, at - data, True))
    except OSError:
        return [(0, size, True)]
    return found
