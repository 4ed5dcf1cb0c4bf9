"""The source of a run: its list and its files' content, read once for all targets.

Reading is done in threads. What was read is kept as long as others may still want it, up to a fixed
number of bytes; a target that has fallen further behind reads again.
"""

from __future__ import annotations

import os
import stat
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorThreads, IReactorTime
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool

from pycomnet.deferred import Condition, OneShot, deferred
from pycomnet.far.rsync.entries import numbers_of
from pycomnet.far.rsync.nested import place_of
from pycomnet.far.rsync.scan import Batch, Scan
from pycomnet.far.rsync.send import CHANGED, MOST, TRIES
from pycomnet.far.rsync.tree import time_of
from pycomnet.rsync.changes import Changes
from pycomnet.rsync.longfile import LongFile
from pycomnet.rsync.options import SyncOptions

T = TypeVar("T")

#: Bytes of content that are kept in memory for targets that are a little behind.
KEPT = 16777216
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


@attrs.define
class Shorts:
    """The content of short files.

    :ivar numbers: their numbers; ``datas``, ``times`` and ``modes`` are in the same order.
    :ivar failed: number and reason of those that can't be read.
    """

    numbers: list[int] = attrs.field(factory=list)
    datas: list[bytes] = attrs.field(factory=list)
    times: list[int] = attrs.field(factory=list)
    modes: list[int] = attrs.field(factory=list)
    failed: list[tuple[int, str]] = attrs.field(factory=list)

    @property
    def size(self) -> int:
        """Bytes of content."""
        return sum(map(len, self.datas))

    @property
    def content(self) -> bytes:
        """The content of all, joined."""
        return b"".join(self.datas)

    def without(self, numbers: set[int]) -> Shorts:
        """Those of other numbers."""
        kept = [place for place, number in enumerate(self.numbers) if number not in numbers]
        return Shorts(
            [self.numbers[place] for place in kept],
            [self.datas[place] for place in kept],
            [self.times[place] for place in kept],
            [self.modes[place] for place in kept],
        )

    def message(self) -> list[object]:
        """Its form on the wire, without the content."""
        return [
            "short",
            numbers_of("Q", self.numbers),
            numbers_of("I", [len(data) for data in self.datas]),
            numbers_of("q", self.times),
            numbers_of("I", self.modes),
        ]


class Source:
    """A tree that is sent to one or more targets.

    :param reactor: has the threads in which it is read.
    :param changes: the part of it that takes part; None: all.
    :ivar place: where it is, for targets on the same machine (far/rsync/nested.py).
    :raises OSError: there is no such directory.
    """

    def __init__(
        self,
        root: str | bytes | os.PathLike[str],
        options: SyncOptions,
        reactor: IReactorThreads,
        changes: Changes | None = None,
    ) -> None:
        self.scan = Scan(os.path.abspath(os.fsencode(root)), options, part=changes)
        self.status = os.stat(self.scan.root)
        if not stat.S_ISDIR(self.status.st_mode):
            raise NotADirectoryError(f"{os.fsdecode(self.scan.root)!r} is no directory")
        self.place = place_of(self.scan.root)
        # Links are followed when a file is opened where they are copied.
        follows = "copy" in (options.links, options.outside)
        self._flags = _FLAGS if follows else _FLAGS | os.O_NOFOLLOW
        self._reactor = reactor
        #: whether a thread lists a part of the tree, or reads short files; when it has ended
        self._is_busy = False
        self._ended_work = Condition()
        self._iterator: Iterator[Batch] = self.scan.batches()
        #: place -> a batch that a reader may still need, and its message
        self._batches: dict[int, tuple[Batch, list[object]]] = {}
        self._made = 0
        self._ended = False
        #: why there are no more batches, if the list could not be made
        self._problem: BaseException | None = None
        self._next: OneShot[None] | None = None
        #: what was read, with the numbers of a message as the key
        self._shorts: OrderedDict[bytes, OneShot[Shorts]] = OrderedDict()
        self._shorts_size = 0
        self._longs: dict[int, LongFile] = {}
        #: file and offset of what is kept of long files, the oldest first, and its size
        self._units: OrderedDict[tuple[LongFile, int], int] = OrderedDict()
        self._units_size = 0
        #: reader -> the place of the first batch that it may still need
        self._positions: dict[object, int] = {}

    def in_thread(self, function: Callable[..., T], *args: Any) -> Deferred[T]:
        """Run a function in a thread."""
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), function, *args)

    @deferred
    async def _alone(self, function: Callable[..., T], *args: Any, gives_way: bool = False) -> T:
        """Run a function of many short system calls in a thread, while no other one runs.

        Each of its calls releases the interpreter's lock. Two threads of such calls take several
        times as long as one after the other.

        :param gives_way: whether whatever is asked for in the same turn of the reactor goes first.
        """
        while self._is_busy:
            await self._ended_work.wait()
            if gives_way:
                await deferLater(IReactorTime(self._reactor), 0)
        self._is_busy = True
        try:
            return await self.in_thread(function, *args)
        finally:
            self._is_busy = False
            self._ended_work.notify_all()

    # -- the list --------------------------------------------------------------------------------

    @deferred
    async def batch(self, place: int) -> tuple[Batch, list[object]] | None:
        """The batch at a place, and its message; None behind the last.

        If the list can't be made any further, this fails for each that asks for more.
        """
        while place >= self._made and not self._ended:
            if self._problem is not None:
                raise self._problem
            if self._next is None:
                self._next = waited = OneShot[None]()
                self._read_next(waited)
            await self._next.when_fired()
        return self._batches[place] if place < self._made else None

    def _read_next(self, waited: OneShot[None]) -> None:
        def read() -> tuple[Batch, list[object]] | None:
            batch = next(self._iterator, None)
            return None if batch is None else (batch, batch.message())

        def done(found: tuple[Batch, list[object]] | None) -> None:
            if found is None:
                self._ended = True
            else:
                self._batches[self._made] = found
                self._made += 1
            self._next = None
            waited.fire(None)

        def failed(failure: Any) -> None:
            self._next = None
            self._problem = failure.value
            waited.fail(failure.value)

        self._alone(read, gives_way=True).addCallbacks(done, failed)

    def join(self, reader: object) -> None:
        """Add a reader of the list. All join before the first one reads."""
        self._positions[reader] = 0

    def done_with(self, reader: object, place: int) -> None:
        """A reader no longer needs a batch, and those before it."""
        self._positions[reader] = place + 1
        self._drop_batches()

    def leave_list(self, reader: object) -> None:
        """Remove a reader: it needs no more batches."""
        self._positions.pop(reader, None)
        self._drop_batches()

    def _drop_batches(self) -> None:
        lowest = min(self._positions.values(), default=self._made)
        while self._batches and min(self._batches) < lowest:
            del self._batches[min(self._batches)]

    # -- short files -----------------------------------------------------------------------------

    def shorts(self, paths: list[tuple[int, bytes]]) -> Deferred[Shorts]:
        """Read short files.

        :param paths: number and path of each.
        """
        key = struct.pack(f">{len(paths)}Q", *(number for number, _ in paths))
        known = self._shorts.get(key)
        if known is None:
            known = self._shorts[key] = OneShot[Shorts]()
            reading = self._alone(self._read_shorts, paths)
            if len(self._positions) > 1:
                reading.addCallback(self._keep, key)
            else:
                reading.addCallback(self._forget, key)
            known.follow(reading)
        return known.when_fired()

    def _keep(self, shorts: Shorts, key: bytes) -> Shorts:
        self._shorts_size += shorts.size
        while self._shorts_size > KEPT:
            for oldest, one in self._shorts.items():
                if one.result is not None:
                    self._shorts_size -= one.result.size
                    del self._shorts[oldest]
                    break
            else:
                break
        return shorts

    def _forget(self, shorts: Shorts, key: bytes) -> Shorts:
        self._shorts.pop(key, None)
        return shorts

    def _read_shorts(self, paths: list[tuple[int, bytes]]) -> Shorts:
        found = Shorts()
        root, flags = os.path.join(self.scan.root, b""), self._flags
        for number, path in paths:
            try:
                data, status = read_short(root + path, flags)
            except OSError as problem:
                found.failed.append((number, problem.strerror or str(problem)))
                continue
            found.numbers.append(number)
            found.datas.append(data)
            found.times.append(time_of(status))
            found.modes.append(status.st_mode & 0o7777)
        return found

    # -- long files ------------------------------------------------------------------------------

    def long(self, number: int, path: bytes) -> LongFile:
        """A long file, with one more user: the first one opens it; :meth:`leave` ends the use."""
        found = self._longs.get(number)
        is_old = found is not None and (found.changed or found.refused)
        if found is not None and is_old and not found.users:
            self._drop_file(found)
        if found is None or is_old:
            whole = os.path.join(self.scan.root, path)
            found = self._longs[number] = LongFile(
                number, whole, self._flags, self.in_thread, self.keep_unit
            )
        found.users += 1
        return found

    def refuse(self, number: int) -> None:
        """A target has refused the content of a long file, as it has another digest.

        The next session that needs the file opens and reads it anew: the kept content may be wrong.
        """
        if (file := self._longs.get(number)) is not None:
            file.refused = True

    def leave(self, file: LongFile) -> None:
        """A session no longer needs a long file."""
        file.users -= 1
        kept = file.units and not file.refused and len(self._positions) > 1
        if not file.users and not kept:
            self._drop_file(file)

    def keep_unit(self, file: LongFile, offset: int, size: int) -> None:
        """Keep what was read of a long file for the other readers, if there are any."""
        if len(self._positions) < 2:
            file.units.pop(offset, None)
            return
        self._units[file, offset] = size
        self._units_size += size
        while self._units_size > KEPT:
            (oldest, place), length = self._units.popitem(last=False)
            self._units_size -= length
            oldest.units.pop(place, None)
            if not oldest.users and not oldest.units:
                self._drop_file(oldest)

    def _drop_file(self, file: LongFile) -> None:
        for place in list(file.units):
            self._units_size -= self._units.pop((file, place), 0)
        file.units.clear()
        if self._longs.get(file.number) is file:
            del self._longs[file.number]
        file.close()

    def close(self) -> None:
        """The run is over: close all files."""
        for file in list(self._longs.values()):
            self._drop_file(file)


def read_short(path: bytes, flags: int) -> tuple[bytes, os.stat_result]:
    """Read a file in one piece: one whole state of it.

    :raises OSError: it can't be read, or changed each time meanwhile.
    """
    descriptor = os.open(path, flags)
    try:
        status = os.fstat(descriptor)
        for _ in range(TRIES):
            if not stat.S_ISREG(status.st_mode):
                raise OSError(None, "not a regular file any more")
            if status.st_size > MOST:
                raise OSError(None, "it grew meanwhile: try again")
            data = os.pread(descriptor, status.st_size + 1, 0)
            after = os.fstat(descriptor)
            if (
                after.st_mtime_ns == status.st_mtime_ns
                and after.st_ctime_ns == status.st_ctime_ns
                and after.st_size == status.st_size == len(data)
            ):
                return data, status
            status = after
    finally:
        os.close(descriptor)
    raise OSError(None, CHANGED)
