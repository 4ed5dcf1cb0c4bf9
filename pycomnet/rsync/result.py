"""What a run has done: its results, and its events while it runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Literal

import attrs

from pycomnet.rsync.options import SyncError

EventKind = Literal[
    "sent", "made", "changed", "equal", "skipped", "noted", "deleted", "failed", "finished"
]


def shown_path(path: bytes) -> str:
    """A path on the wire as text: bytes that are not UTF-8 become surrogates."""
    return os.fsdecode(path)


@attrs.frozen
class SyncEvent:
    """Something that happened at a target.

    :ivar kind: ``sent`` (a file's content), ``made`` (a directory or link), ``changed`` (mode,
        owner or time), ``equal`` (its content was compared and is equal), ``skipped``, ``noted`` (a
        link that leads out of the tree), ``deleted``, ``failed``; at the end ``finished``.
    :ivar target: the target, as ``ID:PATH``.
    :ivar path: relative to the root.
    :ivar reason: why, for what was skipped or failed.
    """

    kind: EventKind
    target: str
    path: str = ""
    reason: str = ""


class SyncFailures(SyncError):
    """Something could not be done; the message says what, and the rest was done.

    :ivar result: the :class:`SyncResult`.
    """

    def __init__(self, message: str, result: SyncResult) -> None:
        super().__init__(message)
        self.result = result


@attrs.define
class TargetResult:
    """What was done at a target. Paths are relative to the root.

    :ivar target: the target, as ``ID:PATH``.
    :ivar sent: files whose content was sent; with ``dry_run`` those that would be.
    :ivar made: directories and links that were made.
    :ivar changed: entries whose mode, owner or time was changed.
    :ivar deleted: what was deleted; without ``delete``, temporary files that a killed run has left.
    :ivar skipped: paths and why each was not sent.
    :ivar noted: paths of links that lead out of the tree, and where to.
    :ivar failed: paths and why each could not be sent or deleted.
    :ivar error: what ended it before it was finished, or None.
    :ivar entries: the number of entries that were compared.
    :ivar bytes_sent: bytes that were sent to the target, and ``bytes_received`` from it, as the
        channels carried them.
    :ivar literal: bytes of content that were sent, before compression.
    :ivar matched: bytes of content that were there already, in files that changed.
    :ivar needed: bytes of the files that are needed, as far as lists were compared; and ``done``
        those that were sent or found there. A progress bar can show these two.
    :ivar deletes_skipped: whether nothing was deleted, as the source could not be read completely.
    """

    target: str
    sent: list[str] = attrs.field(factory=list)
    made: list[str] = attrs.field(factory=list)
    changed: list[str] = attrs.field(factory=list)
    deleted: list[str] = attrs.field(factory=list)
    skipped: list[tuple[str, str]] = attrs.field(factory=list)
    noted: list[tuple[str, str]] = attrs.field(factory=list)
    failed: list[tuple[str, str]] = attrs.field(factory=list)
    error: Exception | None = None
    entries: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    literal: int = 0
    matched: int = 0
    needed: int = 0
    done: int = 0
    deletes_skipped: bool = False

    @property
    def ok(self) -> bool:
        """Whether all was done."""
        return self.error is None and not self.failed

    def end(self) -> None:
        """It is finished."""
        if self.error is None:
            self.done = self.needed

    def raise_for_failures(self) -> None:
        """As :meth:`SyncResult.raise_for_failures`."""
        SyncResult([self]).raise_for_failures()

    def note(self, kind: EventKind, path: str, reason: str = "") -> None:
        """Record what has happened."""
        match kind:
            case "skipped":
                self.skipped.append((path, reason))
            case "noted":
                self.noted.append((path, reason))
            case "failed":
                self.failed.append((path, reason))
            case "sent":
                self.sent.append(path)
            case "made":
                self.made.append(path)
            case "changed":
                self.changed.append(path)
            case "deleted":
                self.deleted.append(path)

    def note_all(self, kind: Literal["sent", "equal"], paths: list[str]) -> None:
        """Record what has happened to files."""
        if kind == "sent":
            self.sent += paths

    def problems(self) -> Iterator[str]:
        """What could not be done, a line each."""
        if self.error is not None:
            done = len(self.sent) + len(self.made)
            yield f"{self.target}: {self.error} ({done} entries were done before)"
        for path, reason in self.failed:
            yield f"{self.target}: {path}: {reason}"


#: Lines of problems in an error's message.
SHOWN = 10


@attrs.define
class SyncResult:
    """What a run has done.

    :ivar targets: the result of each target, in the order in which they were added.
    """

    targets: list[TargetResult]

    @property
    def ok(self) -> bool:
        """Whether all was done at all targets."""
        return all(target.ok for target in self.targets)

    def raise_for_failures(self) -> None:
        """Raise if something could not be done.

        :raises SyncFailures: the message names the first of them.
        """
        lines = [line for target in self.targets for line in target.problems()]
        if lines:
            more = [f"... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
            raise SyncFailures("\n".join([*lines[:SHOWN], *more]), self)
