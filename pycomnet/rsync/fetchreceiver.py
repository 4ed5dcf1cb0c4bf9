"""The receiver of a fetch: it is the far side's, with what a far side leaves to the near side."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from pycomnet.far.rsync.compose import Basis, TooMuch
from pycomnet.far.rsync.entries import (
    DELTA,
    MADE,
    BadBatch,
    ReceivedBatch,
    numbers_from,
    numbers_of,
)
from pycomnet.far.rsync.oldfiles import OldFiles
from pycomnet.far.rsync.receive import Receiver
from pycomnet.far.rsync.send import LISTS
from pycomnet.rsync.matching import Copy, Literal, Matcher, Sums
from pycomnet.rsync.oldfileparts import OldFileParts
from pycomnet.rsync.options import SyncError
from pycomnet.rsync.result import EventKind

#: Long files whose sums or content come next: their old files are open.
AHEAD = 16
#: Files that the far side was asked for, and that wait for their content: it gets no reply to other
#: lists until some have come.
WAITING = 20000
#: The most entries of a list: one that a far side makes has a few thousand.
MOST_ENTRIES = 65536


class _FetchRun(Protocol):
    """What the receiver wants of its run: all may be called in the receiver's thread."""

    def check(self) -> None:
        """Nothing, or an error if the run was ended."""

    def next_message(self) -> Any:
        """The next message."""

    def next_data(self) -> bytes:
        """The next bytes of the raw channel."""

    def put(self, message: list[Any]) -> None:
        """Send a message."""

    def compared(self, count: int) -> None:
        """``count`` more entries were compared."""

    def matched(self, size: int) -> None:
        """``size`` more bytes of a needed file have arrived."""

    def deletes_skipped(self) -> None:
        """Nothing is deleted, as the source could not be read completely."""

    def note(self, kind: EventKind, path: bytes, reason: str = "") -> None:
        """Record what has happened to an entry, and report it to the user."""


class _Data:
    """The raw channel, as the receiver wants it."""

    def __init__(self, run: _FetchRun) -> None:
        self.receive = run.next_data


class _Messages:
    """The channel of messages, as the receiver wants it.

    :ivar say: called with what the receiver sends.
    """

    def __init__(self, run: _FetchRun) -> None:
        self.receive = run.next_message
        self.say: Callable[[list[Any]], None]

    def send(self, message: list[Any]) -> None:
        """Send a message."""
        self.say(message)


class FetchReceiver(Receiver):
    """The receiver here. It finds blocks itself, as the far side finds none.

    :param most_bytes: how many bytes may be written; None: any number.
    :param most_entries: how many entries may be listed; None: any number.
    """

    def __init__(
        self,
        run: _FetchRun,
        options: dict[str, Any],
        most_bytes: int | None = None,
        most_entries: int | None = None,
    ) -> None:
        messages = _Messages(run)
        super().__init__(messages, _Data(run), options)
        messages.say = self._say
        self._run = run
        self.left = most_bytes
        self.check = run.check
        self._most_entries = most_entries
        #: the limit on reports about entries: that they were skipped, are odd, or failed
        self._most_told = None if most_entries is None else 3 * most_entries
        self._end_list = self.handlers["end"]
        self._compare = self.handlers["list"]
        self._forget = self.handlers["unreadable"]
        self.handlers.update(
            {
                "list": self._list,
                "told": self._told,
                "sums": self._got_sums,
                "unreadable": self._cannot_read,
                "stopped": self._stopped,
                "end": self._list_ended,
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

    def _list_ended(self, message: list[Any]) -> None:
        self._end_list(message)
        if self.deletes and not message[1]:
            self._run.deletes_skipped()

    def _told(self, message: list[Any]) -> None:
        _, skipped, noted, failed = message
        if self._most_told is not None:
            self._most_told -= len(skipped) + len(noted) + len(failed)
            if self._most_told < 0:
                raise TooMuch("there are more reports than max_entries entries can have")
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
                ranges = self._ranges(number, sums, found)
        except OSError:  # what can't be read is no basis
            basis = self.bases.pop(number, None)
            if basis is not None:
                basis.close()
        self._run.put(["parts", number, numbers_of("Q", ranges)])

    def _ranges(self, number: int, sums: Sums, old: OldFiles) -> list[int]:
        """Offset and size of what of a new file is here, in old ones, which stay open."""
        here = OldFileParts(old.read)
        self.bases[number] = Basis(here.read, old)
        at = 0
        for step in Matcher(old.read, old.size, sums).steps():
            self.check()
            if isinstance(step, Copy):
                here.add(step.offset, step.size, at)
                at += step.size
            elif isinstance(step, Literal):
                at += len(step.data)
        ranges = here.ranges()
        self.bases[number].is_in_place = here.is_in_place
        self._run.matched(here.size)
        return ranges

    # -- messages from the receiver --------------------------------------------------------------

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
