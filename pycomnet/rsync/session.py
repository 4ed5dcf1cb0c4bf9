"""Sends a source to one target: announces entries, and serves what the target needs of them."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from typing import Any, Literal

from twisted.internet.defer import Deferred, FirstError, gatherResults

from pycomnet.deferred import Condition
from pycomnet.errors import ChannelClosed
from pycomnet.far.rsync.blocks import block_size
from pycomnet.far.rsync.compare import SHORT
from pycomnet.far.rsync.entries import (
    ABORT,
    COPY,
    DELTA,
    DIGEST,
    END,
    FILE,
    HOLE,
    LEADER,
    MADE,
    PIECE,
    UNLESS_EQUAL,
    numbers_from,
    numbers_of,
)
from pycomnet.far.rsync.files import digest_of
from pycomnet.far.rsync.scan import Batch
from pycomnet.far.rsync.tree import time_of
from pycomnet.gateways.gateway import Gateway
from pycomnet.rsync import matching
from pycomnet.rsync.lines import Lines
from pycomnet.rsync.longfile import UNIT, LongFile
from pycomnet.rsync.matching import Copy, Matcher, More, Sums
from pycomnet.rsync.modules import RECEIVE, offer
from pycomnet.rsync.options import SyncError, SyncOptions
from pycomnet.rsync.result import EventKind, TargetResult, shown_path
from pycomnet.rsync.source import TRIES, Source

#: The most entries that wait for their content; then no more are announced.
WAITING = 20000
#: The most lists that were not replied to.
LISTS = 16
#: Files and bytes of a message with short files.
GROUP_FILES, GROUP_BYTES = 128, 262144
#: What a step of matching returns at most: pieces, and bytes of content.
STEP_PIECES, STEP_BYTES = 64, 1048576

#: What is called with each event: kind, path, reason.
Tell = Callable[[EventKind, str, str], None]


class Session:
    """One target of a run.

    :param tell: called with what happens, or None.
    """

    def __init__(
        self,
        source: Source,
        gateway: Gateway,
        destination: bytes,
        options: SyncOptions,
        result: TargetResult,
        tell: Tell | None,
    ) -> None:
        self._source = source
        self._gateway = gateway
        self._destination = destination
        self._options = options
        self._result = result
        self.tell: Tell = tell or (lambda kind, path, reason: None)
        self._tells = tell is not None
        self._changed = Condition()
        #: place -> batch and the paths in it, for lists that were not replied to
        self._announced: dict[int, tuple[Batch, list[bytes]]] = {}
        #: number -> path of what is needed
        self._paths: dict[int, bytes] = {}
        self._shorts: deque[list[int]] = deque()
        self._longs: deque[tuple[int, bool]] = deque()
        self._digests: dict[int, bytes] = {}
        #: number -> the sums of its old content
        self._sums: dict[int, Sums] = {}
        #: files for which sums were requested
        self._asked: set[int] = set()
        #: those whose sums are not complete
        self._awaited: set[int] = set()
        #: long files whose content was sent, or is being sent
        self._sent: set[int] = set()
        self._attempts: dict[int, int] = {}
        self._done = False
        self._lines: Lines
        source.join(self)

    async def run(self) -> None:
        """Do it.

        :raises PycomnetError: the gateway or the code there failed.
        """
        gateway, options = self._gateway, self._options
        status = self._source.status
        offer(gateway)
        data = gateway.newchannel(raw=True)
        asked = {
            "root": self._destination,
            "mode": status.st_mode & 0o7777,
            "time": time_of(status),
            "rules": [list(rule) for rule in options.rules],
            "delete": options.delete,
            "dry_run": options.dry_run,
            "checksum": options.checksum,
            "owners": options.owners,
        }
        channel = gateway.remote_exec(RECEIVE, data=data, options=asked)
        reactor = gateway.link.reactor
        self._lines = Lines(
            channel, data, self._result, options.compress, reactor.seconds, self._source.in_thread
        )
        tasks = [
            Deferred.fromCoroutine(each()) for each in (self._announce, self._serve, self._receive)
        ]
        try:
            await gatherResults(tasks, consumeErrors=True)
            await channel.waitclose()
        except FirstError as first:
            error: Any = first.subFailure.value
            if isinstance(error, ChannelClosed):
                # The reason is that of the code's end.
                await channel.waitclose()
                error = SyncError(f"the other end stopped before it was finished: {error}")
            raise error from None
        finally:
            for task in tasks:
                task.addErrback(lambda _: None)
                task.cancel()
            data.close()
            channel.close()

    # -- what is there ---------------------------------------------------------------------------

    async def _announce(self) -> None:
        place = 0
        while True:
            while len(self._paths) > WAITING or len(self._announced) >= LISTS:
                await self._changed.wait()
            found = await self._source.batch(place)
            if found is None:
                break
            batch, message = found
            self._announced[place] = batch, batch.paths()
            self._tell_of(batch)
            await self._lines.send(message)
            place += 1
        clean = self._source.scan.clean
        self._result.deletes_skipped = self._options.delete and not clean
        await self._lines.send(["end", clean])

    def _tell_of(self, batch: Batch) -> None:
        """Tell what the scan has found that is not sent."""
        paths = self._announced[max(self._announced)][1]
        for number, reason in batch.skipped:
            self._note("skipped", paths[number - batch.first], reason)
        for number, reason in batch.noted:
            self._note("noted", paths[number - batch.first], reason)
        for path, reason in batch.failed:
            self._note("failed", path, reason)

    def _note(self, kind: EventKind, path: bytes, reason: str = "") -> None:
        shown = shown_path(path)
        self._result.note(kind, shown, reason)
        self.tell(kind, shown, reason)

    # -- what the target says --------------------------------------------------------------------

    async def _receive(self) -> None:
        while not self._done:
            message = await self._lines.receive()
            try:
                self._handle(message)
            except (LookupError, TypeError, ValueError, struct.error) as problem:
                raise SyncError(f"the other end sent {str(message)[:200]}: {problem}") from None
            self._changed.notify_all()

    def _handle(self, message: list[Any]) -> None:
        match message:
            case ["need", int(first), int(count), *rest]:
                self._need(first, count, *rest)
            case ["written", bytes(numbers)]:
                self._written("sent", numbers)
            case ["same", bytes(numbers)]:
                self._written("equal", numbers)
            case ["failed", [*failures]]:
                for which, reason in failures:
                    self._failed(which, reason)
            case ["deleted", [*paths]]:
                for path in paths:
                    self._note("deleted", path)
            case ["sums", int(number), int(size), int(block), bytes(marker), bytes(part), complete]:
                self._got_sums(number, size, block, marker, part, complete)
            case ["again", int(number), str(_)]:
                self._again(number)
            case ["stopped", str(reason)]:
                raise SyncError(reason)
            case ["done"] if not self._paths and not self._announced:
                self._done = True
            case _:
                raise ValueError("that is no message of this protocol, or not now")

    def _written(self, kind: Literal["sent", "equal"], numbers: bytes) -> None:
        paths = [shown_path(self._settle(number)) for number in numbers_from("Q", numbers)]
        self._result.note_all(kind, paths)
        if self._tells:
            for path in paths:
                self.tell(kind, path, "")

    def _settle(self, number: int) -> bytes:
        """The path of what was needed; it is settled now."""
        path = self._path(number)
        self._sums.pop(number, None)
        self._digests.pop(number, None)
        self._sent.discard(number)
        del self._paths[number]
        return path

    def _path(self, number: int) -> bytes:
        path = self._paths.get(number)
        if path is None:
            raise SyncError(f"the other end did not need entry {number}, or said that it is done")
        return path

    def _failed(self, which: int | bytes, reason: str) -> None:
        if isinstance(which, bytes):
            path = which
        elif which in self._paths:
            path = self._settle(which)
        else:
            path = self._announced_path(which)
        self._note("failed", path, reason)

    def _announced_path(self, number: int) -> bytes:
        for batch, paths in self._announced.values():
            if batch.first <= number < batch.end:
                return paths[number - batch.first]
        raise LookupError(number)

    def _need(
        self,
        first: int,
        count: int,
        numbers: bytes,
        kinds: bytes,
        digests: bytes,
        done: bytes,
        what: bytes,
    ) -> None:
        place = min(self._announced)
        batch, paths = self._announced.pop(place)
        if batch.first != first or len(batch) != count:
            raise ValueError("a reply to another list")
        self._result.entries += count
        for number, kind in zip(_numbers_of(batch, done), what, strict=True):
            self._note("made" if kind == MADE else "changed", paths[number - first])
        group: list[int] = []
        size = at = 0
        for number, kind in zip(_numbers_of(batch, numbers), kinds, strict=True):
            if batch.kinds[number - first] not in (FILE, LEADER):
                # What is skipped has a name in the list. Its content is not for the other end.
                raise ValueError(f"it needs entry {number}, which is no file that is sent")
            path = paths[number - first]
            if kind == UNLESS_EQUAL:
                self._digests[number] = digests[at : at + DIGEST]
                at += DIGEST
            if self._options.dry_run:
                self._note("sent", path)
                continue
            self._paths[number] = path
            length = batch.sizes[number - first]
            if length > SHORT:
                self._longs.append((number, kind == DELTA))
                continue
            group.append(number)
            size += length
            if len(group) >= GROUP_FILES or size >= GROUP_BYTES:
                self._shorts.append(group)
                group, size = [], 0
        if group:
            self._shorts.append(group)
        self._source.done_with(self, place)

    def _got_sums(
        self, number: int, size: int, block: int, marker: bytes, part: bytes, complete: bool
    ) -> None:
        if number not in self._awaited:
            raise ValueError("sums that were not asked for")
        if complete:
            self._awaited.discard(number)
        if number not in self._asked:
            return  # the file could not be read after all
        sums = self._sums.get(number)
        if sums is None:
            sums = self._sums[number] = Sums.announced(size, block, marker)
        sums.add(part)
        sums.complete = bool(complete)

    def _again(self, number: int) -> None:
        """What was sent was not one state of the file: send it again, whole."""
        if number not in self._sent:
            raise ValueError("that was not sent")
        self._sent.discard(number)
        self._sums.pop(number, None)
        self._asked.discard(number)
        self._longs.append((number, False))
        self._attempts[number] = self._attempts.get(number, 0) + 1

    # -- what the target needs -------------------------------------------------------------------

    async def _serve(self) -> None:
        while not self._done:
            if self._shorts:
                await self._send_shorts(self._shorts.popleft())
            elif self._longs:
                number, delta = self._longs.popleft()
                await self._ask_ahead(number, delta)
                await self._send_long(number, delta)
            else:
                await self._changed.wait()

    async def _unreadable(self, failed: list[tuple[int, str]]) -> None:
        for number, reason in failed:
            self._note("failed", self._settle(number), reason)
        self._changed.notify_all()
        await self._lines.send(["unreadable", numbers_of("Q", [number for number, _ in failed])])

    async def _send_shorts(self, group: list[int]) -> None:
        found = await self._source.shorts([(number, self._path(number)) for number in group])
        if found.failed:
            await self._unreadable(found.failed)
        equal = [
            number
            for number, data in zip(found.numbers, found.datas, strict=True)
            if number in self._digests and digest_of(data) == self._digests[number]
        ]
        if equal:
            self._result.matched += sum(
                len(data)
                for number, data in zip(found.numbers, found.datas, strict=True)
                if number in equal
            )
            await self._lines.send(["equal", numbers_of("Q", equal)])
            found = found.without(set(equal))
        if not found.numbers:
            return
        message = found.message()
        content = found.content
        self._result.literal += len(content)
        packed = await self._lines.packed(content)
        if packed is None:
            await self._lines.send([*message, content, 0])
        else:
            await self._lines.send([*message, packed, len(content)])

    async def _ask_ahead(self, number: int, delta: bool) -> None:
        """Ask for the sums of a file; and for those of the next, which come meanwhile."""
        wanted = [(number, delta), *list(self._longs)[:1]]
        for each, by_delta in wanted:
            if by_delta and each not in self._asked:
                self._asked.add(each)
                self._awaited.add(each)
                await self._lines.send(["sums", each])

    async def _send_long(self, number: int, delta: bool) -> None:
        if self._attempts.get(number, 0) >= TRIES:
            await self._unreadable([(number, "it changed each time while it was read")])
            return
        file = self._source.long(number, self._path(number))
        self._sent.add(number)
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
            except OSError:
                # The target says that it needs it again: then it is opened anew.
                file.changed = True
                await self._lines.raw(ABORT)
        finally:
            self._asked.discard(number)
            self._source.leave(file)

    async def _sums_of(self, number: int) -> Sums | None:
        """The sums of a file's old content, as soon as some are here; None if there are none."""
        while number not in self._sums:
            await self._changed.wait()
        sums = self._sums[number]
        return sums if sums.block else None

    async def _begin(self, number: int, file: LongFile, block: int) -> None:
        assert file.status is not None
        time, mode = time_of(file.status), file.status.st_mode & 0o7777
        await self._lines.send(["long", number, block, time, mode, file.is_sparse])

    async def _end(self, file: LongFile, digest: bytes, block: int) -> None:
        if await file.is_whole(digest, block):
            await self._lines.raw(END + digest)
        else:
            await self._lines.raw(ABORT)

    async def _send_whole(self, number: int, file: LongFile) -> None:
        block = block_size(file.size)
        await self._begin(number, file, block)
        lines = self._lines
        for begin, size, is_data in file.extents:
            if not is_data:
                await lines.raw(HOLE + struct.pack(">Q", size))
                continue
            for offset in range(begin, begin + size, UNIT):
                data = await file.unit(offset, min(UNIT, begin + size - offset))
                for at in range(0, len(data), PIECE):
                    await lines.literal(data[at : at + PIECE])
        await self._end(file, await file.digest(), block)

    async def _send_delta(self, number: int, file: LongFile, sums: Sums) -> None:
        await self._begin(number, file, sums.block)
        matcher = Matcher(file.pread, file.size, sums)
        steps = matcher.steps()

        def some() -> list[matching.Literal | Copy | More | None]:
            """Some steps; None is the last."""
            found: list[matching.Literal | Copy | More | None] = []
            size = 0
            for step in steps:
                found.append(step)
                if isinstance(step, More):
                    return found
                size += len(step.data) if isinstance(step, matching.Literal) else 0
                if len(found) >= STEP_PIECES or size >= STEP_BYTES:
                    return found
            return [*found, None]

        while True:
            for step in await self._source.in_thread(some):
                if step is None:
                    await self._end(file, matcher.digest, sums.block)
                    return
                if isinstance(step, matching.Literal):
                    await self._lines.literal(step.data)
                elif isinstance(step, Copy):
                    self._result.matched += step.size
                    await self._lines.raw(COPY + struct.pack(">QQ", step.offset, step.size))
                elif not sums.complete:
                    await self._changed.wait()


def _numbers_of(batch: Batch, packed: bytes) -> tuple[int, ...]:
    """Numbers of entries of a list, in order, each once.

    :raises ValueError: they are no such numbers.
    """
    numbers = numbers_from("Q", packed)
    last = batch.first - 1
    for number in numbers:
        if not last < number < batch.end:
            raise ValueError(f"entry {number} is not of this list, or came before")
        last = number
    return numbers
