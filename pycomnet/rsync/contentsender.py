"""Sends a target the content that it needs: short files many to a message, long ones in pieces."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterable

from pycomnet.deferred import Condition
from pycomnet.far.rsync.blocks import block_size
from pycomnet.far.rsync.entries import ABORT, COPY, END, HOLE, numbers_of
from pycomnet.far.rsync.files import digest_of
from pycomnet.far.rsync.send import CHANGED, TRIES
from pycomnet.far.rsync.tree import time_of
from pycomnet.rsync import matching
from pycomnet.rsync.longfile import UNIT, LongFile
from pycomnet.rsync.matching import Copy, Matcher, More, Sums
from pycomnet.rsync.result import TargetResult
from pycomnet.rsync.source import Source
from pycomnet.rsync.targetchannels import TargetChannels
from pycomnet.rsync.wanted import WantedFiles

#: The most that one step of matching returns: pieces, bytes of content, bytes to copy.
STEP_PIECES, STEP_BYTES, STEP_COPIED = 64, 1048576, 2 * matching.COPIED


class ContentSender:
    """Sends content, one message or one long file after the other.

    :param changed: notified when there is something new in ``wanted``.
    :param unreadable: called with numbers and reasons of what can't be read.
    """

    def __init__(
        self,
        source: Source,
        wanted: WantedFiles,
        channels: TargetChannels,
        result: TargetResult,
        changed: Condition,
        unreadable: Callable[[list[tuple[int, str]]], object],
    ) -> None:
        self._source = source
        self._wanted = wanted
        self._channels = channels
        self._result = result
        self._changed = changed
        self._tell_unreadable = unreadable
        #: why the last try to send a long file has failed, for those that could not be read
        self._reasons: dict[int, str] = {}

    async def serve_next(self) -> bool:
        """Send what is next; False if nothing is needed now."""
        wanted = self._wanted
        if wanted.shorts:
            await self._send_shorts(wanted.shorts.popleft())
        elif wanted.longs:
            number, delta = wanted.longs.popleft()
            await self._ask_ahead(number, delta)
            await self._send_long(number, delta)
        else:
            return False
        return True

    async def _unreadable(self, failed: list[tuple[int, str]]) -> None:
        self._tell_unreadable(failed)
        self._changed.notify_all()
        await self._channels.send(["unreadable", numbers_of("Q", [number for number, _ in failed])])

    async def _send_shorts(self, group: list[int]) -> None:
        found = await self._source.shorts([(number, self._wanted.path(number)) for number in group])
        if found.failed:
            await self._unreadable(found.failed)
        digests = self._wanted.digests
        equal = [
            number
            for number, data in zip(found.numbers, found.datas, strict=True)
            if number in digests and digest_of(data) == digests[number]
        ]
        if equal:
            size = sum(
                len(data)
                for number, data in zip(found.numbers, found.datas, strict=True)
                if number in equal
            )
            self._result.matched += size
            self._result.done += size
            await self._channels.send(["equal", numbers_of("Q", equal)])
            found = found.without(set(equal))
        if not found.numbers:
            return
        message = found.message()
        content = found.content
        self._result.literal += len(content)
        packed = await self._channels.packed(content)
        if packed is None:
            await self._channels.send([*message, content, 0])
        else:
            await self._channels.send([*message, packed, len(content)])
        self._result.done += len(content)

    async def _ask_ahead(self, number: int, delta: bool) -> None:
        """Ask for the sums of a file; and for those of the next, which come meanwhile."""
        wanted = [(number, delta), *list(self._wanted.longs)[:1]]
        for each, by_delta in wanted:
            if by_delta and each not in self._wanted.asked and each not in self._wanted.sums:
                self._wanted.asked.add(each)
                await self._channels.send(["sums", each])

    async def _send_long(self, number: int, delta: bool) -> None:
        reason = self._reasons.pop(number, CHANGED)
        if self._wanted.attempts(number) >= TRIES:
            await self._unreadable([(number, reason)])
            return
        file = self._source.long(number, self._wanted.path(number))
        self._wanted.sent.add(number)
        before = self._result.done
        try:
            try:
                await file.open()
            except OSError as problem:
                await self._unreadable([(number, problem.strerror or str(problem))])
                return
            sums = await self._sums_of(number) if delta else None
            try:
                if sums is None:
                    await self._send_whole(number, file)
                else:
                    await self._send_delta(number, file, sums)
            except OSError as problem:
                # The target says that it needs it again: then it is opened anew.
                file.changed = True
                self._reasons[number] = problem.strerror or str(problem)
                await self._channels.raw(ABORT)
            if file.changed:
                self._result.done = before  # it is sent again
        finally:
            self._source.leave(file)

    async def _sums_of(self, number: int) -> Sums | None:
        """The sums of a file's old content, as soon as some are here; None if there are none."""
        while number not in self._wanted.sums:
            await self._changed.wait()
        sums = self._wanted.sums[number]
        return sums if sums.block else None

    async def _begin(self, number: int, file: LongFile, block: int) -> None:
        assert file.status is not None
        time, mode = time_of(file.status), file.status.st_mode & 0o7777
        await self._channels.send(["long", number, block, time, mode, file.is_sparse])

    async def _end(
        self, file: LongFile, digest: bytes, block: int, pieces: Iterable[tuple[int, bool]]
    ) -> None:
        if await file.is_whole(digest, block, pieces):
            await self._channels.raw(END + digest)
        else:
            await self._channels.raw(ABORT)

    async def _literal(self, data: bytes) -> None:
        await self._channels.literal(data)
        self._result.done += len(data)

    async def _send_whole(self, number: int, file: LongFile) -> None:
        block = block_size(file.size)
        await self._begin(number, file, block)
        channels = self._channels
        for begin, size, is_data in file.extents:
            if not is_data:
                await channels.raw(HOLE + struct.pack(">Q", size))
                self._result.done += size
                continue
            await self._send_data(file, begin, begin + size)
        pieces = ((size, is_data) for _, size, is_data in file.extents)
        await self._end(file, await file.digest(), block, pieces)

    async def _send_data(self, file: LongFile, begin: int, end: int) -> None:
        """Send a part of a file; while one unit is sent, the next is read and hashed."""
        coming = file.unit(begin, min(UNIT, end - begin))
        try:
            for offset in range(begin, end, UNIT):
                data = await coming
                after = offset + UNIT
                if after < end:
                    coming = file.unit(after, min(UNIT, end - after))
                await self._literal(data)
        finally:
            coming.addErrback(lambda _: None)
            coming.cancel()

    async def _send_delta(self, number: int, file: LongFile, sums: Sums) -> None:
        await self._begin(number, file, sums.block)
        matcher = Matcher(file.pread, file.size, sums)
        steps = matcher.steps()
        #: the sizes of all pieces
        sizes = array("Q")

        def some() -> list[matching.Literal | Copy | More | None]:
            """Some steps; None is the last."""
            found: list[matching.Literal | Copy | More | None] = []
            size = copied = 0
            for step in steps:
                found.append(step)
                if isinstance(step, More):
                    return found
                if isinstance(step, Copy):
                    copied += step.size
                    sizes.append(step.size)
                else:
                    size += len(step.data)
                    sizes.append(len(step.data))
                if len(found) >= STEP_PIECES or size >= STEP_BYTES or copied >= STEP_COPIED:
                    return found
            return [*found, None]

        while True:
            for step in await self._source.in_thread(some):
                if step is None:
                    pieces = ((size, True) for size in sizes)
                    await self._end(file, matcher.digest, sums.block, pieces)
                    return
                if isinstance(step, matching.Literal):
                    await self._literal(step.data)
                elif isinstance(step, Copy):
                    self._result.matched += step.size
                    self._result.done += step.size
                    await self._channels.raw(COPY + struct.pack(">QQ", step.offset, step.size))
                elif not sums.complete:
                    await self._changed.wait()
