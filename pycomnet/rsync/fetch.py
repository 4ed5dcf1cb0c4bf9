"""rsync the other way: makes a directory here equal to one at a gateway.

The far side may be anybody's, so what it sends is checked: names that lead out of the destination,
links in the place of directories, content that is not what its digest says. The receiver is the
same as at a far side (:mod:`pycomnet.far.rsync.receive`); it runs in a thread.
"""

from __future__ import annotations

import os
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import blockingCallFromThread
from twisted.python.failure import Failure

from pycomnet.channels.channel import Channel
from pycomnet.deferred import deferred
from pycomnet.errors import ChannelClosed, PycomnetError
from pycomnet.far.rsync.compose import Basis
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
from pycomnet.far.rsync.send import LISTS
from pycomnet.gateways.gateway import Gateway
from pycomnet.rsync.matching import Copy, Literal, Matcher, Sums
from pycomnet.rsync.modules import SEND, offer
from pycomnet.rsync.options import AnyPath, LinkPolicy, SyncError, SyncOptions, make_options
from pycomnet.rsync.parts import Parts
from pycomnet.rsync.result import EventKind, SyncEvent, TargetResult, shown_path
from pycomnet.text.logs import Logger

log = Logger()


#: Bytes of messages that the far side has not read; then it is given up, as it replies to none.
UNREAD = 67108864
#: Long files whose sums or content come next: their old files are open.
AHEAD = 16
#: Files that the far side was asked for, and that wait for their content: it gets no reply to other
#: lists until some have come.
WAITING = 20000
#: The most entries of a list: one that a far side makes has a few thousand.
MOST_ENTRIES = 65536
#: The bits of modes that are taken over: not that a program runs with its owner's rights, as the
#: owner is another one here.
MASK = 0o1777


@deferred
async def fetch(
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
    progress: Callable[[SyncEvent], object] | None = None,
) -> TargetResult:
    """Make a directory here equal to a directory at a gateway.

    As :class:`~pycomnet.RSync`, the other way. Whatever the far side sends, nothing is written
    outside of ``destination``. Set-user-id and set-group-id bits are not taken over, unless
    ``owners`` is true.

    :param source: the directory at the gateway, relative to its working directory; ``~`` stands
        for its user's home.
    :param destination: the directory here. It is made if it is not there.
    :param compress: whether content is compressed. By default where the line is slow.
    :param progress: called with each :class:`SyncEvent`.
    :returns: fires with a :class:`TargetResult`: ``sent`` has what came. Fails with
        :class:`SyncError` if the source is no directory, or the far side does not keep to the
        protocol; with :class:`ConnectionLost`. Cancelling it ends the run: each file here is whole
        then, old or new, and the next run goes on from there.
    """
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
    result = TargetResult(f"{gateway.id}:{os.fsdecode(source)}")
    offer(gateway)
    data = gateway.newchannel(raw=True)
    asked = {
        "root": os.fsencode(source),
        "rules": [list(rule) for rule in options.rules],
        "links": options.links,
        "outside": options.outside,
        "hard_links": hard_links,
        "owners": owners,
        "compress": compress,
    }
    channel = gateway.remote_exec(SEND, data=data, options=asked)
    reactor = IReactorFromThreads(gateway.link.reactor)
    run = _Run(channel, data, options, result, progress or (lambda event: None), reactor)
    try:
        # All is here when this returns: whether the far code ends by itself does not matter.
        await in_own_thread(reactor, run.receive, os.fsencode(destination))
    except ChannelClosed as closed:
        await channel.waitclose()
        raise SyncError(f"the other end stopped before it was finished: {closed}") from None
    finally:
        channel.close()
        data.close()
    run.tell("finished")
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


class _Run:
    """One run: the receiver's channels, in its thread, and what it says."""

    def __init__(
        self,
        channel: Channel,
        data: Channel,
        options: SyncOptions,
        result: TargetResult,
        progress: Callable[[SyncEvent], object],
        reactor: IReactorFromThreads,
    ) -> None:
        self._channel = channel
        self._data = data
        self._options = options
        self._result = result
        self._progress = progress
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
            FetchReceiver(self, asked).run()
        except PycomnetError:
            raise
        except OSError as problem:
            raise SyncError(problem.strerror or str(problem)) from problem
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
        self._result.note(kind, shown_path(path), reason)
        self.tell(kind, shown_path(path), reason)

    def tell(self, kind: EventKind, path: str = "", reason: str = "") -> None:
        """Tell the user."""
        try:
            self._progress(SyncEvent(kind, self._result.target, path, reason))
        except Exception:
            log.failure("a callback for the progress of a run failed")


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

    def __init__(self, run: _Run, options: dict[str, Any]) -> None:
        messages = _Messages(run)
        super().__init__(messages, _Data(run), options)
        messages.say = self._say
        self._run = run
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
        #: replies to lists that wait, with the paths of what each needs
        self._held: deque[tuple[list[Any], dict[int, bytes]]] = deque()
        #: files of which the sums are to be asked for
        self._wanted: deque[int] = deque()
        #: files of which the sums were asked for, until their content is here
        self._asked: set[int] = set()
        #: those whose sums are not complete, and the file whose sums are coming
        self._awaited: set[int] = set()
        self._coming: tuple[int, Sums] | None = None

    # -- what the far side sends -----------------------------------------------------------------

    def _list(self, message: list[Any]) -> None:
        batch = ReceivedBatch(message)
        if len(batch.names) > MOST_ENTRIES:
            raise BadBatch(f"a list of {len(batch.names)} entries, at most {MOST_ENTRIES}")
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
                if not isinstance(path, bytes):
                    raise BadBatch(f"{type(path).__name__} is no path")
                self._run.note(kind, path, str(reason))

    def _cannot_read(self, message: list[Any]) -> None:
        _, numbers, reasons = message
        for number, reason in zip(numbers_from("Q", numbers), reasons, strict=True):
            self._run.note("failed", self._settle(number), str(reason))
        self._forget(message)
        self._reply()

    def _stopped(self, message: list[Any]) -> None:
        raise SyncError(str(message[1]))

    def _got_sums(self, message: list[Any]) -> None:
        match message:
            case [_, int(number), int(size), int(block), bytes(marker), bytes(part), complete]:
                pass
            case _:
                raise BadBatch("sums that can't be read")
        if number not in self._awaited:
            raise BadBatch(f"sums of file {number}, which were not asked for")
        if self._coming is None:
            self._coming = number, Sums.announced(size, block, marker)
        coming, sums = self._coming
        if coming != number:
            raise BadBatch("sums of two files at a time")
        sums.add(part)
        if complete:
            sums.complete = True
            self._coming = None
            self._awaited.discard(number)
            self._match(number, sums)

    def _match(self, number: int, sums: Sums) -> None:
        """Find out which parts of a new file are here, and ask for the others."""
        ranges: list[int] = []
        try:
            found = self.basis(self.pending[number]) if sums.block else None
            if found is not None:
                ranges = self._ranges(number, sums, *found)
        except OSError:  # what can't be read is no basis
            basis = self.bases.pop(number, None)
            if basis is not None:
                basis.close()
        self._run.put(["parts", number, numbers_of("Q", ranges)])

    def _ranges(self, number: int, sums: Sums, size: int, descriptor: int) -> list[int]:
        """Offset and size of what of a new file is here, in the old one, which stays open."""
        read = read_at(descriptor)
        here = Parts(read)
        self.bases[number] = Basis(here.read, descriptor)
        at = 0
        for step in Matcher(read, size, sums).steps():
            if isinstance(step, Copy):
                here.add(step.offset, step.size, at)
                at += step.size
            elif isinstance(step, Literal):
                at += len(step.data)
        ranges = here.ranges()
        self._run.matched(here.size)
        return ranges

    # -- what the receiver says ------------------------------------------------------------------

    def _say(self, message: list[Any]) -> None:
        run = self._run
        match message:
            case ["need", first, count, numbers, kinds, digests, done, what]:
                self._say_need(first, count, numbers, kinds, digests, done, what)
            case ["written" | "same" as kind, numbers]:
                for number in numbers_from("Q", numbers):
                    run.note("sent" if kind == "written" else "equal", self._settle(number))
                run.put(["settled", numbers])
                self._reply()
            case ["failed", failures]:
                for which, reason in failures:
                    run.note("failed", self._path(which), reason)
                self._reply()
            case ["deleted", paths]:
                for path in paths:
                    run.note("deleted", path)
            case ["again", number, _]:
                run.put(["again", number])
                self._asked.discard(number)
                self._reply()
            case ["done"]:
                run.put(["done"])

    def _path(self, which: int | bytes) -> bytes:
        if isinstance(which, bytes):
            return which
        if which in self._paths:
            return self._settle(which)
        return self._listed[1][which - self._listed[0]]

    def _settle(self, number: int) -> bytes:
        """The path of a file that was needed; nothing more comes for it."""
        self._asked.discard(number)
        self._awaited.discard(number)
        if self._coming is not None and self._coming[0] == number:
            self._coming = None
        return self._paths.pop(number)

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
            needed = []
        if len(self._held) >= LISTS:
            raise BadBatch(f"it sends lists, and not what it is asked for: {WAITING} files wait")
        reply = ["need", first, numbers, kinds, digests]
        self._held.append((reply, {number: paths[number - first] for number, _ in needed}))
        self._reply()

    def _reply(self) -> None:
        """Reply to lists, unless too much waits; and ask for the sums of the next long files."""
        while self._held and len(self._paths) <= WAITING:
            reply, paths = self._held.popleft()
            self._paths.update(paths)
            self._run.put(reply)
            kinds = zip(paths, reply[3], strict=True)
            self._wanted.extend(number for number, kind in kinds if kind == DELTA)
        while self._wanted and len(self._asked) < AHEAD:
            number = self._wanted.popleft()
            if number in self._paths:
                self._asked.add(number)
                self._awaited.add(number)
                self._run.put(["sums", number])
