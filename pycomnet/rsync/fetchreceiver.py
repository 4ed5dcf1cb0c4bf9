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
from pycomnet.far.rsync.files import read_at
from pycomnet.far.rsync.receive import Receiver
from pycomnet.rsync.matching import Copy, Literal, Matcher, Sums
from pycomnet.rsync.options import SyncError
from pycomnet.rsync.parts import FileParts
from pycomnet.rsync.result import EventKind

#: Files for which sums are requested ahead.
AHEAD = 2


class _FetchRun(Protocol):
    """What the receiver wants of its run: all may be called in the receiver's thread."""

    def next_message(self) -> Any:
        """The next message."""

    def next_data(self) -> bytes:
        """The next bytes of the raw channel."""

    def put(self, message: list[Any]) -> None:
        """Send a message."""

    def compared(self, count: int) -> None:
        """So many entries were compared."""

    def matched(self, size: int) -> None:
        """So many bytes of a file that is needed are here."""

    def deletes_skipped(self) -> None:
        """Nothing is deleted, as the source could not be read completely."""

    def note(self, kind: EventKind, path: bytes, reason: str = "") -> None:
        """Record what has happened to an entry, and tell the user."""


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
        self._most_entries = most_entries
        self._compare = self.handlers["list"]
        self._forget = self.handlers["unreadable"]
        self._write_long = self.handlers["long"]
        self._end_list = self.handlers["end"]
        self.handlers.update(
            {
                "list": self._list,
                "told": self._told,
                "sums": self._got_sums,
                "unreadable": self._cannot_read,
                "long": self._got_long,
                "end": self._list_ended,
                "stopped": self._stopped,
            }
        )
        #: the list that is being compared: the number of its first entry, and their paths
        self._listed: tuple[int, list[bytes]] = (0, [])
        #: number -> path of what is needed
        self._paths: dict[int, bytes] = {}
        #: long files of which parts may be here, and for which no sums were requested
        self._deltas: deque[int] = deque()
        #: those for which sums were requested, and whose content has not come
        self._ahead: set[int] = set()
        #: number -> the sums that have come, of those for which sums were requested; None: nothing
        self._sums: dict[int, Sums | None] = {}

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

    def _list_ended(self, message: list[Any]) -> None:
        self._end_list(message)
        if self.deletes and not message[1]:
            self._run.deletes_skipped()

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
            self._run.note("failed", self._paths.pop(number), str(reason))
            self._ahead.discard(number)
            self._sums.pop(number, None)
        self._forget(message)
        self._ask()

    def _got_long(self, message: list[Any]) -> None:
        self._write_long(message)
        self._ahead.discard(message[1])
        self._ask()

    def _ask(self) -> None:
        """Ask for the sums of the next files: of few, as each keeps its old file open."""
        while self._deltas and len(self._ahead) < AHEAD:
            number = self._deltas.popleft()
            self._ahead.add(number)
            self._sums[number] = None
            self._run.put(["sums", number])

    def _stopped(self, message: list[Any]) -> None:
        raise SyncError(str(message[1]))

    def _got_sums(self, message: list[Any]) -> None:
        _, number, size, block, marker, part, complete = message
        if number not in self._sums:
            raise BadBatch(f"sums of {number}, for which nobody has asked")
        sums = self._sums[number]
        if sums is None:
            sums = self._sums[number] = Sums(size, block, marker)
        sums.add(part)
        if complete:
            sums.complete = True
            del self._sums[number]
            parts = b""
            try:
                if sums.block:
                    parts = self._match(number, sums)
            except OSError:
                self.close_basis(number)  # then all of it is needed
            self._run.put(["parts", number, parts])

    def _match(self, number: int, sums: Sums) -> bytes:
        """Find out which parts of a new file are here: offsets and sizes."""
        found = self.basis(self.pending[number])
        if found is None:
            return b""
        size, descriptor = found
        here = FileParts(read_at(descriptor))
        self.bases[number] = Basis(here.read, descriptor)
        at = 0
        for step in Matcher(read_at(descriptor), size, sums).steps():
            if isinstance(step, Copy):
                here.add(step.offset, step.size, at)
                at += step.size
            elif isinstance(step, Literal):
                at += len(step.data)
        ranges = here.ranges()
        self._run.matched(here.size)
        return numbers_of("Q", ranges)

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
            self._deltas.extend(number for number, kind in needed if kind == DELTA)
            self._ask()
