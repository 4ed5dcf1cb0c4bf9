"""rsync the other way: makes a directory here equal to one at a gateway.

The far side may be anybody's, so what it sends is checked: names that lead out of the destination,
links in the place of directories, content that is not what its digest says. The receiver is the
same as at a far side (:mod:`pycomnet.far.rsync.receive`); it runs in a thread.
"""

from __future__ import annotations

import os
import struct
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import blockingCallFromThread
from twisted.python.failure import Failure

from pycomnet.channels.channel import Channel
from pycomnet.deferred import reporting
from pycomnet.errors import ChannelClosed, PycomnetError
from pycomnet.far.rsync.blocks import check_block
from pycomnet.far.rsync.compose import Basis, TooMuch
from pycomnet.far.rsync.entries import (
    DELTA,
    MADE,
    BadBatch,
    ReceivedBatch,
    numbers_from,
    numbers_of,
)
from pycomnet.far.rsync.files import read_at
from pycomnet.far.rsync.receive import Receiver
from pycomnet.gateways.gateway import Gateway
from pycomnet.ranges import whole
from pycomnet.rsync.matching import Copy, Literal, Matcher, Sums
from pycomnet.rsync.modules import SEND, far_modules
from pycomnet.rsync.options import AnyPath, LinkPolicy, SyncError, SyncOptions, make_options
from pycomnet.rsync.result import EventKind, SyncEvent, TargetResult, shown_path

#: Bytes of messages that the far side has not read; then it is given up, as it replies to none.
UNREAD = 67108864
#: Blocks of a file of which the sums are kept.
MOST_BLOCKS = 4194304
#: The bits of modes that are taken over: not that a program runs with its owner's rights, as the
#: owner is another one here.
MASK = 0o1777


def fetch(
    gateway: Gateway,
    source: AnyPath,
    destination: AnyPath,
    *,
    exclude: Iterable[str | bytes] = (),
    include: Iterable[str | bytes] = (),
    delete: bool = False,
    links: LinkPolicy = "keep",
    outside: LinkPolicy | None = None,
    hard_links: bool = False,
    checksum: bool = False,
    owners: bool = False,
    compress: bool | None = None,
    dry_run: bool = False,
    max_bytes: int | None = None,
    max_entries: int | None = None,
    progress: Callable[[SyncEvent], object] | None = None,
) -> Deferred[TargetResult]:
    """Make a directory here equal to a directory at a gateway.

    As :class:`~pycomnet.RSync`, the other way. Whatever the far side sends, nothing is written
    outside of ``destination``. Set-user-id and set-group-id bits are not taken over, unless
    ``owners`` is true.

    :param source: the directory at the gateway, relative to its working directory; ``~`` stands
        for its user's home.
    :param destination: the directory here. It is made if it is not there.
    :param compress: whether content is compressed. By default where the line is slow.
    :param max_bytes: how many bytes the files may have that are written, where the far side is not
        trusted to stop. By default as many as there is room for.
    :param max_entries: how many entries the source may have.
    :param progress: called with each :class:`SyncEvent`. It may cancel what this returns. If it
        raises, the run ends, and fails with that.
    :returns: fires with a :class:`TargetResult`: ``sent`` has what came. Fails with
        :class:`SyncError` if the source is no directory, has more than may come, or the far side
        does not keep to the protocol; with :class:`ConnectionLost`. Cancelling it ends the run:
        each file here is whole then, old or new, and the next run goes on from there.
    :raises ValueError: an argument is not valid.
    """
    limits = _Limits(
        size=None if max_bytes is None else whole("max_bytes", max_bytes, 0),
        entries=None if max_entries is None else whole("max_entries", max_entries, 0),
    )
    options = make_options(
        exclude=exclude,
        include=include,
        links=links,
        outside=outside,
        delete=delete,
        hard_links=hard_links,
        checksum=checksum,
        owners=owners,
        dry_run=dry_run,
    )
    return _fetch(progress, gateway, source, destination, options, compress, limits)


@reporting
async def _fetch(
    report: Callable[[SyncEvent], object],
    gateway: Gateway,
    source: AnyPath,
    destination: AnyPath,
    options: SyncOptions,
    compress: bool | None,
    limits: _Limits,
) -> TargetResult:
    result = TargetResult(f"{gateway.id}:{os.fsdecode(source)}")
    gateway.offer_modules(far_modules()).addErrback(lambda _: None)
    data = gateway.newchannel(raw=True)
    asked = {
        "root": os.fsencode(source),
        "rules": [list(rule) for rule in options.rules],
        "links": options.links,
        "outside": options.outside,
        "hard_links": options.hard_links,
        "owners": options.owners,
        "compress": compress,
    }
    channel = gateway.remote_exec(SEND, data=data, options=asked)
    reactor = IReactorFromThreads(gateway.link.reactor)
    run = _Run(channel, data, options, result, report, limits, reactor)
    try:
        # All is here when this returns: whether the far code ends by itself does not matter.
        run.receiving = in_own_thread(reactor, run.receive, os.fsencode(destination))
        await run.receiving
    except ChannelClosed as closed:
        await channel.waitclose()
        raise SyncError(f"the other end stopped before it was finished: {closed}") from None
    finally:
        channel.close()
        data.close()
    report(SyncEvent("finished", result.target))
    return result


def in_own_thread(
    reactor: IReactorFromThreads, function: Callable[..., Any], *args: Any
) -> Deferred[Any]:
    """Run a function that takes long in a thread of its own: the pool's are for short ones.

    :returns: fires with its result. Cancelling it does not end the function.
    """
    outcome: Deferred[Any] = Deferred()

    def done(result: Any) -> None:
        if not outcome.called:
            outcome.callback(result)  # a Failure is its failure

    def run() -> None:
        try:
            result = function(*args)
        except BaseException:
            result = Failure()
        reactor.callFromThread(done, result)

    threading.Thread(target=run, name="pycomnet fetch", daemon=True).start()
    return outcome


@attrs.frozen
class _Limits:
    """How much the far side may send."""

    size: int | None
    entries: int | None


class _Run:
    """One run: the receiver's channels, in its thread, and what it says.

    :ivar receiving: fires when the receiver is done.
    """

    receiving: Deferred[Any]

    def __init__(
        self,
        channel: Channel,
        data: Channel,
        options: SyncOptions,
        result: TargetResult,
        report: Callable[[SyncEvent], object],
        limits: _Limits,
        reactor: IReactorFromThreads,
    ) -> None:
        self._channel = channel
        self._data = data
        self._options = options
        self._result = result
        self._report = report
        self._limits = limits
        self._reactor = reactor
        #: bytes that were sent and wait for credit
        self._unread = 0

    # -- in the receiver's thread ----------------------------------------------------------------

    def receive(self, destination: bytes) -> None:
        """Receive all.

        :raises SyncError: the far side does not keep to the protocol, or can't go on.
        """
        try:
            message = self.next_message()
            match message:
                case ["root", int(mode), int(time)]:
                    pass
                case ["stopped", str(reason)]:
                    raise SyncError(reason)
                case _:
                    raise BadBatch(f"it began with {str(message)[:100]}")
            options = self._options
            asked = {
                "root": os.path.abspath(destination),
                "mode": mode,
                "time": time,
                "rules": options.rules,
                "delete": options.delete,
                "dry_run": options.dry_run,
                "checksum": options.checksum,
                "owners": options.owners,
                "links": "keep" in (options.links, options.outside),
                "mask": 0o7777 if options.owners else MASK,
            }
            FetchReceiver(self, asked, self._limits).run()
        except PycomnetError:
            raise
        except OSError as problem:
            raise SyncError(problem.strerror or str(problem)) from problem
        except TooMuch as problem:
            raise SyncError(f"more came than may come: {problem}") from None
        except (LookupError, TypeError, ValueError, OverflowError, struct.error) as problem:
            raise SyncError(f"the other end broke the protocol: {problem}") from problem

    def next_message(self) -> Any:
        """The next message."""
        message = blockingCallFromThread(self._reactor, self._channel.receive)
        if not isinstance(message, list) or not message:
            raise BadBatch(f"{type(message).__name__} is no message")
        self._result.bytes_received += 20 + sum(
            len(each) for each in message if isinstance(each, bytes)
        )
        return message

    def next_data(self) -> bytes:
        """The next bytes of the raw channel."""
        data: Any = blockingCallFromThread(self._reactor, self._data.receive)
        self._result.bytes_received += len(data)
        return bytes(data)

    def put(self, message: list[Any]) -> None:
        """Send a message. It does not wait: the far side may wait for this end to receive."""
        size = 20 + sum(len(each) for each in message if isinstance(each, bytes))
        self._reactor.callFromThread(self._send, message, size)

    def compared(self, count: int) -> None:
        """So many entries were compared."""
        self._result.entries += count

    def matched(self, size: int) -> None:
        """So many bytes of a file that is needed are here."""
        self._result.matched += size

    def note(self, kind: EventKind, path: bytes, reason: str = "") -> None:
        """Something happened."""
        self._reactor.callFromThread(self.record, kind, path, reason)

    # -- in the reactor's thread -----------------------------------------------------------------

    def _send(self, message: list[Any], size: int) -> None:
        self._result.bytes_sent += size
        self._unread += size
        if self._unread > UNREAD:
            self._channel.close("what was sent to it was not read")

        def sent(_: object) -> None:
            self._unread -= size

        sending: Deferred[Any] = self._channel.send(message)
        sending.addCallback(sent).addErrback(lambda _: None)

    def record(self, kind: EventKind, path: bytes, reason: str) -> None:
        """Put it into the result, and tell the user."""
        if self.receiving.called:
            return  # it was ended
        self._result.note(kind, shown_path(path), reason)
        try:
            self._report(SyncEvent(kind, self._result.target, shown_path(path), reason))
        except Exception as problem:
            if not self.receiving.called:
                self.receiving.errback(problem)


class _Data:
    """The raw channel, as the receiver wants it."""

    def __init__(self, run: _Run) -> None:
        self.receive = run.next_data


class _Messages:
    """The channel of messages, as the receiver wants it.

    :ivar say: called with what the receiver sends.
    """

    def __init__(self, run: _Run) -> None:
        self.receive = run.next_message
        self.say: Callable[[list[Any]], None]

    def send(self, message: list[Any]) -> None:
        """Send a message."""
        self.say(message)


class FetchReceiver(Receiver):
    """The receiver here. It finds blocks itself, as the far side finds none."""

    def __init__(self, run: _Run, options: dict[str, Any], limits: _Limits) -> None:
        messages = _Messages(run)
        super().__init__(messages, _Data(run), options)
        messages.say = self._say
        self._run = run
        self.left = limits.size
        self._most_entries = limits.entries
        self._compare = self.handlers["list"]
        self._forget = self.handlers["unreadable"]
        self.handlers.update(
            {
                "list": self._list,
                "told": self._told,
                "sums": self._got_sums,
                "unreadable": self._cannot_read,
                "stopped": self._stopped,
            }
        )
        #: the list that is being compared: the number of its first entry, and their paths
        self._listed: tuple[int, list[bytes]] = (0, [])
        #: number -> path of what is needed
        self._paths: dict[int, bytes] = {}
        self._sums: dict[int, Sums] = {}

    # -- what the far side sends -----------------------------------------------------------------

    def _list(self, message: list[Any]) -> None:
        batch = ReceivedBatch(message)
        if self._most_entries is not None:
            self._most_entries -= len(batch.names)
            if self._most_entries < 0:
                raise TooMuch("there are more entries than max_entries")
        paths: list[bytes] = []
        for directory, count, _ in batch.directories:
            names = batch.names[len(paths) : len(paths) + count]
            paths += [directory + b"/" + name for name in names] if directory else names
        self._listed = batch.first, paths
        self._compare(message)

    def _told(self, message: list[Any]) -> None:
        _, skipped, noted, failed = message
        kinds: tuple[EventKind, ...] = ("skipped", "noted", "failed")
        for kind, found in zip(kinds, (skipped, noted, failed), strict=True):
            for path, reason in found:
                self._run.note(kind, bytes(path), str(reason))

    def _cannot_read(self, message: list[Any]) -> None:
        _, numbers, reasons = message
        for number, reason in zip(numbers_from("Q", numbers), reasons, strict=True):
            self._run.note("failed", self._paths.pop(number), str(reason))
        self._forget(message)

    def _stopped(self, message: list[Any]) -> None:
        raise SyncError(str(message[1]))

    def _got_sums(self, message: list[Any]) -> None:
        _, number, size, block, marker, part, complete = message
        if block:
            check_block(block)
        sums = self._sums.get(number)
        if sums is None:
            sums = self._sums[number] = Sums(size, block, marker)
        sums.add(part)
        if len(sums.strong) > MOST_BLOCKS:
            raise BadBatch(f"sums of more than {MOST_BLOCKS} blocks")
        if complete:
            sums.complete = True
            del self._sums[number]
            self._match(number, sums)

    def _match(self, number: int, sums: Sums) -> None:
        """Find out which parts of a new file are here, and ask for the others."""
        found = self.basis(self.pending[number]) if sums.block else None
        if found is None:
            self._run.put(["parts", number, b""])
            return
        size, descriptor = found
        read = read_at(descriptor)
        here = _Parts(read)
        at = 0
        for step in Matcher(read, size, sums).steps():
            if isinstance(step, Copy):
                here.add(step.offset, step.size, at)
                at += step.size
            elif isinstance(step, Literal):
                at += len(step.data)
        self.bases[number] = Basis(here.read, descriptor)
        ranges = here.ranges()
        self._run.matched(here.size)
        self._run.put(["parts", number, numbers_of("Q", ranges)])

    # -- what the receiver says ------------------------------------------------------------------

    def _say(self, message: list[Any]) -> None:
        run = self._run
        match message:
            case ["need", first, count, numbers, kinds, digests, done, what]:
                self._say_need(first, count, numbers, kinds, digests, done, what)
            case ["written" | "same" as kind, numbers]:
                for number in numbers_from("Q", numbers):
                    run.note("sent" if kind == "written" else "equal", self._paths.pop(number))
                run.put(["settled", numbers])
            case ["failed", failures]:
                for which, reason in failures:
                    run.note("failed", self._path(which), reason)
            case ["deleted", paths]:
                for path in paths:
                    run.note("deleted", path)
            case ["again", number, _]:
                run.put(["again", number])
            case ["done"]:
                run.put(["done"])

    def _path(self, which: int | bytes) -> bytes:
        if isinstance(which, bytes):
            return which
        path = self._paths.pop(which, None)
        return self._listed[1][which - self._listed[0]] if path is None else path

    def _say_need(
        self,
        first: int,
        count: int,
        numbers: bytes,
        kinds: bytes,
        digests: bytes,
        done: bytes,
        what: bytes,
    ) -> None:
        run, paths = self._run, self._listed[1]
        run.compared(count)
        for number, each in zip(numbers_from("Q", done), what, strict=True):
            run.note("made" if each == MADE else "changed", paths[number - first])
        needed = list(zip(numbers_from("Q", numbers), kinds, strict=True))
        if self.dry_run:
            for number, _ in needed:
                run.note("sent", paths[number - first])
            numbers = kinds = digests = b""
        else:
            self._paths.update((number, paths[number - first]) for number, _ in needed)
        run.put(["need", first, numbers, kinds, digests])
        if not self.dry_run:
            for number, kind in needed:
                if kind == DELTA:
                    run.put(["sums", number])


class _Parts:
    """The parts of a new file that are here, in an old one.

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

    def read(self, offset: int, size: int) -> bytes:
        """Read bytes of the new file from the old one; fewer at a part's end."""
        place = bisect_right(self._offsets, offset) - 1
        if place < 0:
            return b""
        begin = self._offsets[place]
        old, length = self._found[begin]
        return self._old(old + offset - begin, max(0, min(size, begin + length - offset)))
