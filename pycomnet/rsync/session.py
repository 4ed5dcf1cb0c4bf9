"""Sends a source to one target: announces its entries, and handles the target's messages."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Literal

from twisted.internet.defer import Deferred, FirstError, gatherResults

from pycomnet.deferred import Condition
from pycomnet.errors import ChannelClosed
from pycomnet.far.rsync.entries import DIGEST, FILE, LEADER, MADE, UNLESS_EQUAL, numbers_from
from pycomnet.far.rsync.scan import Batch
from pycomnet.far.rsync.send import LISTS
from pycomnet.gateways.gateway import Gateway
from pycomnet.rsync.contentsender import ContentSender
from pycomnet.rsync.modules import RECEIVE, compression, offer, wait_for_reason
from pycomnet.rsync.options import SyncError, SyncOptions
from pycomnet.rsync.result import EventKind, TargetResult, shown_path
from pycomnet.rsync.source import Source
from pycomnet.rsync.targetchannels import TargetChannels
from pycomnet.rsync.wanted import WantedFiles

#: The most entries that wait for their content; then no more are announced.
WAITING = 20000

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
        self._wanted = WantedFiles()
        self._done = False
        self._channels: TargetChannels
        self._sender: ContentSender
        source.join(self)

    async def run(self) -> None:
        """Send all that the target needs, and return when it is done there.

        :raises PycomnetError: the gateway or the code there failed.
        """
        gateway, options = self._gateway, self._options
        status = self._source.status
        offer(gateway)
        data = gateway.newchannel(raw=True)
        asked = {
            "root": self._destination,
            "mode": status.st_mode & 0o7777,
            "time": status.st_mtime_ns,
            "place": self._source.place,
            "rules": [list(rule) for rule in options.rules],
            "delete": options.delete,
            "dry_run": options.dry_run,
            "checksum": options.checksum,
            "owners": options.owners,
        }
        channel = gateway.remote_exec(RECEIVE, data=data, options=asked)
        reactor = gateway.link.reactor
        compress = compression(gateway, options.compress)
        self._channels = TargetChannels(
            channel, data, self._result, compress, reactor.seconds, self._source.in_thread
        )
        self._sender = ContentSender(
            self._source,
            self._wanted,
            self._channels,
            self._result,
            self._changed,
            self._unreadable,
        )
        tasks = [
            Deferred.fromCoroutine(each()) for each in (self._announce, self._serve, self._receive)
        ]
        try:
            await gatherResults(tasks, consumeErrors=True)
            await wait_for_reason(channel, reactor)
        except FirstError as first:
            error: Any = first.subFailure.value
            if isinstance(error, ChannelClosed):
                # The reason is that of the code's end.
                await wait_for_reason(channel, reactor)
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
            while len(self._wanted) > WAITING or len(self._announced) >= LISTS:
                await self._changed.wait()
            found = await self._source.batch(place)
            if found is None:
                break
            batch, message = found
            self._announced[place] = batch, batch.paths()
            self._tell_of(batch)
            await self._channels.send(message)
            place += 1
        clean = self._source.scan.clean
        self._result.deletes_skipped = self._options.delete and not clean
        await self._channels.send(["end", clean])

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

    # -- messages from the target ----------------------------------------------------------------

    async def _receive(self) -> None:
        while not self._done:
            message = await self._channels.receive()
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
                self._wanted.got_sums(number, size, block, marker, part, complete)
            case ["again", int(number), str(_)]:
                self._wanted.again(number)
                self._source.refuse(number)
            case ["stopped", str(reason)]:
                raise SyncError(reason)
            case ["done"] if not self._wanted and not self._announced:
                self._done = True
            case _:
                raise ValueError("not a valid message of this protocol, or not expected now")

    def _written(self, kind: Literal["sent", "equal"], numbers: bytes) -> None:
        paths = [shown_path(self._wanted.settle(number)) for number in numbers_from("Q", numbers)]
        self._result.note_all(kind, paths)
        if self._tells:
            for path in paths:
                self.tell(kind, path, "")

    def _failed(self, which: int | bytes, reason: str) -> None:
        if isinstance(which, bytes):
            path = which
        elif which in self._wanted:
            path = self._wanted.settle(which)
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
        at = 0
        wanted = self._wanted
        for number, kind in zip(_numbers_of(batch, numbers), kinds, strict=True):
            if batch.kinds[number - first] not in (FILE, LEADER):
                # What is skipped has a name in the list. Its content is not for the other end.
                raise ValueError(f"it needs entry {number}, which is not a file that is sent")
            path = paths[number - first]
            digest = None
            if kind == UNLESS_EQUAL:
                digest = digests[at : at + DIGEST]
                at += DIGEST
            if self._options.dry_run:
                self._note("sent", path)
                continue
            length = batch.sizes[number - first]
            self._result.needed += length
            wanted.add(number, path, kind, length, digest)
        wanted.end_group()
        self._source.done_with(self, place)

    def _unreadable(self, failed: list[tuple[int, str]]) -> None:
        """These can't be read."""
        for number, reason in failed:
            self._note("failed", self._wanted.settle(number), reason)

    async def _serve(self) -> None:
        while not self._done:
            try:
                served = await self._sender.serve_next()
            except ValueError as problem:
                raise SyncError(f"the other end broke the protocol: {problem}") from problem
            if not served:
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
